"""The operator as a process of the simulated world: wired as `app.run` wires it, over simulated links."""

from collections.abc import Callable, Hashable
from typing import Any, Protocol

from typing_extensions import override

from booking_operator.cloud.aws.accounts import Account, Accounts
from booking_operator.cloud.service import serving
from booking_operator.config import Settings
from booking_operator.dependencies import Dependencies
from booking_operator.engine.leader_election import Election, LeaderElector, LeaseTiming, SingleReplica
from booking_operator.kube.lease import KubeLeaseLock
from booking_operator.metrics import ControllerMetrics, ReconcileOutcome
from booking_operator.observability.prometheus import Metrics
from booking_operator.observability.sources import Sources
from booking_operator.operator import Operator
from tests.sim.aws import SimAws
from tests.sim.build import Build
from tests.sim.client import SimKubeClient
from tests.sim.kernel import Kernel, Process, SimClock
from tests.sim.kube import SimKube
from tests.sim.network import Link

REGION = "eu-west-1"
ACCOUNTS = Accounts(
    REGION, named={"acme": Account(role_arn="arn:aws:iam::210987654321:role/booking-operator")}
)
LEASE_NAMESPACE, LEASE = "booking-operator-system", "booking-operator"


class NoGcTuning:
    """`GcTuning` of a process that shares its heap with the whole world."""

    def freeze(self) -> None:
        """Nothing."""

    def freeze_young(self) -> None:
        """Nothing."""

    def collect_all(self) -> None:
        """Nothing."""


class Observer(Protocol):
    """Watches the reconciles of all replicas."""

    def reconcile_started(self, replica: "Replica", controller: str, key: Hashable) -> None:
        """A controller begins to reconcile a key."""
        ...

    def reconcile_ended(self, replica: "Replica", controller: str, key: Hashable) -> None:
        """A controller has reconciled a key, or was cancelled while it did."""
        ...


class ObservedController:
    """`metrics.ControllerMetrics` that passes everything on, and reports each reconcile."""

    def __init__(
        self,
        metrics: ControllerMetrics,
        started: Callable[[Hashable], None],
        ended: Callable[[Hashable], None],
    ) -> None:
        self._metrics = metrics
        self._started = started
        self._ended = ended

    def added(self) -> None:
        self._metrics.added()

    def waited(self, seconds: float) -> None:
        self._metrics.waited(seconds)

    def retried(self) -> None:
        self._metrics.retried()

    def reconcile_started(self, key: Hashable, /) -> None:
        self._metrics.reconcile_started(key)
        self._started(key)

    def reconcile_ended(self, key: Hashable, /) -> None:
        self._metrics.reconcile_ended(key)
        self._ended(key)

    def reconciled(self, outcome: ReconcileOutcome, seconds: float) -> None:
        self._metrics.reconciled(outcome, seconds)


class ObservedMetrics(Metrics):
    """The operator's metrics, which also report each reconcile of a replica."""

    def __init__(self, replica: "Replica", observer: Observer) -> None:
        super().__init__()
        self._replica = replica
        self._observer = observer

    @override
    def controller(self, name: str) -> ControllerMetrics:
        replica, observer = self._replica, self._observer
        return ObservedController(
            super().controller(name),
            lambda key: observer.reconcile_started(replica, name, key),
            lambda key: observer.reconcile_ended(replica, name, key),
        )


class Replica:
    """One process of the operator, from its start to its end.

    Attributes:
        process: what it runs in.
        kube, lease, aws: its ways to the API server (the lease's renewals have one of their own) and to AWS.
        started_at: when it was started, in true time.
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
        timing: LeaseTiming | None,
        build: Build,
        observer: Observer,
    ) -> None:
        self.process = process = Process(kernel, name)  # type: ignore[abstract]
        self.kube = Link(kernel, process, f"{seed}/kube", (0.0005, 0.02))
        self.lease = Link(kernel, process, f"{seed}/lease", (0.0005, 0.01))
        self.aws = Link(kernel, process, f"{seed}/aws", (0.01, 0.15))
        self.clock = SimClock(process)
        self.started_at = kernel.now
        self.elector: LeaderElector | None = None
        self.operator: Operator | None = None
        self.sources = Sources(ACCOUNTS)
        self._kernel = kernel
        self._kube = kube
        self._aws = aws
        self._timing = timing
        self._build = build
        self._observer = observer
        process.start(self._run())

    @property
    def name(self) -> str:
        """Name of the process."""
        return self.process.name

    @property
    def is_leader(self) -> bool:
        """Whether it works, or stands by."""
        return self.process.alive and (self.elector is None or self.elector.is_leader)

    @property
    def links(self) -> tuple[Link, ...]:
        """All ways that lead out of it."""
        return (self.kube, self.lease, self.aws)

    async def _run(self) -> None:
        clock, kernel, build = self.clock, self._kernel, self._build
        metrics = ObservedMetrics(self, self._observer)
        election: Election = SingleReplica()
        if self._timing is not None:
            client: Any = SimKubeClient(kernel, self._kube, self.lease)
            leases = KubeLeaseLock(client, LEASE_NAMESPACE, LEASE, clock)
            election = self.elector = LeaderElector(self.name, leases, clock, self._timing)
        live = election.may_write
        client = build.client(kernel, self._kube, self.kube, live)
        sessions: Any = build.sessions(kernel, self._aws, self.aws, clock, ACCOUNTS, live, metrics)
        settings = Settings(region=REGION, leader_elect=self._timing is not None)
        async with serving(sessions, clock, build.limits, metrics=metrics) as services:
            self.operator = Operator(
                Dependencies(settings, client, {}, clock, metrics, NoGcTuning()),
                services,
                election,
                self.sources,
                build.parts,
            )
            await self.operator.run()
