"""The operator as a process of the simulated world: wired as `app.run` wires it, over simulated links."""

from asyncio import Task
from collections.abc import Callable
from typing import Any

from booking_operator.app import Operator
from booking_operator.cloud.accounts import Account, Accounts
from booking_operator.cloud.service import serving
from booking_operator.engine.leader import Election, Elector, SoleReplica
from booking_operator.engine.lease import Timing
from booking_operator.kube.lease import KubeLeases
from booking_operator.settings import Settings
from booking_operator.web.metrics import Metrics
from booking_operator.web.observed import Observed
from tests.sim.aws import SimAws
from tests.sim.client import SimKubeClient
from tests.sim.kernel import Kernel, Process, SimClock
from tests.sim.kube import SimKube
from tests.sim.network import Link
from tests.sim.sessions import SimSessions

REGION = "eu-west-1"
ACCOUNTS = Accounts(
    REGION, named={"acme": Account(role_arn="arn:aws:iam::210987654321:role/booking-operator")}
)
LEASE_NAMESPACE, LEASE = "booking-operator-system", "booking-operator"


class UntendedHeap:
    """`heap.Heap` of a process that shares its heap with the whole world."""

    def settle(self) -> None:
        """Nothing."""

    def settle_young(self) -> None:
        """Nothing."""

    def tidy_up(self) -> None:
        """Nothing."""


Began = Callable[["Replica", str, Any, Task[Any]], None]
"""Is told that a controller begins with a key, in a task."""


class Replica:
    """One process of the operator, from its start to its end.

    Attributes:
        process: what it runs in.
        kube, lease, aws: its ways to the API server (the lease's renewals have one of their own) and to AWS.
        born_at: when it was started, in true time.
        elector: its candidate; None where there is no election.
        operator: the whole of it, once it runs.
    """

    def __init__(
        self,
        kernel: Kernel,
        seed: str,
        name: str,
        kube: SimKube,
        aws: SimAws,
        timing: Timing | None,
        began: Began,
    ) -> None:
        self.process = process = Process(kernel, name)  # type: ignore[abstract]
        self.kube = Link(kernel, process, f"{seed}/kube", (0.0005, 0.02))
        self.lease = Link(kernel, process, f"{seed}/lease", (0.0005, 0.01))
        self.aws = Link(kernel, process, f"{seed}/aws", (0.01, 0.15))
        self.clock = SimClock(process)
        self.born_at = kernel.now
        self.elector: Elector | None = None
        self.operator: Operator | None = None
        self.observed = Observed(ACCOUNTS)
        self._kernel = kernel
        self._kube = kube
        self._aws = aws
        self._timing = timing
        self._began = began
        process.started = self._task_started
        process.start(self._run())

    @property
    def name(self) -> str:
        """Name of the process."""
        return self.process.name

    @property
    def leads(self) -> bool:
        """Whether it works, or stands by."""
        return self.process.alive and (self.elector is None or self.elector.leads)

    @property
    def links(self) -> tuple[Link, ...]:
        """All ways that lead out of it."""
        return (self.kube, self.lease, self.aws)

    async def _run(self) -> None:
        clock, kernel, metrics = self.clock, self._kernel, Metrics()
        election: Election = SoleReplica()
        if self._timing is not None:
            client: Any = SimKubeClient(kernel, self._kube, self.lease)
            leases = KubeLeases(client, LEASE_NAMESPACE, LEASE, clock)
            election = self.elector = Elector(self.name, leases, clock, self._timing)
        live = election.live
        client = SimKubeClient(kernel, self._kube, self.kube, live)
        sessions: Any = SimSessions(kernel, self._aws, self.aws, clock, ACCOUNTS, live, metrics)
        settings = Settings(region=REGION, leader_elect=self._timing is not None)
        async with serving(sessions, clock, metrics=metrics) as services:
            self.operator = Operator(
                settings, client, services, {}, election, clock, metrics, self.observed, UntendedHeap()
            )
            await self.operator.run()

    def _task_started(self, task: Task[Any], coroutine: Any) -> None:
        """Tell when a controller begins with a key, which the task that does so shows."""
        if coroutine.__qualname__ == "Controller._process":
            inside = coroutine.cr_frame.f_locals
            self._began(self, inside["self"].name, inside["key"], task)
