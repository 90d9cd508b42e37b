"""The operator as a process of the simulation.

`Replica` assembles the operator over simulated links, as `booking_operator.operator.run` does over real ones.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import replace
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
from tests.sim.mailbox import Mailbox
from tests.sim.network import Link

REGION = "eu-west-1"
ACCOUNTS = Accounts(
    REGION, named={"acme": Account(role_arn="arn:aws:iam::210987654321:role/booking-operator")}
)
LEASE_NAMESPACE, LEASE = "booking-operator-system", "booking-operator"


class NoGcTuning:
    """A `GcTuning` without effect, because all replicas share one Python heap."""

    def freeze(self) -> None:
        """Do nothing."""

    def freeze_young(self) -> None:
        """Do nothing."""

    def collect_all(self) -> None:
        """Do nothing."""


class Observer(Protocol):
    """Receives the reconciles of all replicas."""

    def reconcile_started(self, replica: "Replica", controller: str, key: Hashable) -> None:
        """A controller starts to reconcile a key."""
        ...

    def reconcile_ended(self, replica: "Replica", controller: str, key: Hashable) -> None:
        """A reconcile has ended or was cancelled."""
        ...


class ObservedController:
    """A `metrics.ControllerMetrics` that forwards each call and reports each reconcile."""

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
        process: the process.
        kube, lease, aws: the links to the API server, to the API server for the Lease, and to AWS.
        started_at: when the process was started (true time).
        elector: the leader elector; None without leader election.
        operator: the operator; None before it is created.
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
        mailbox: Mailbox,
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
        self._stopping = asyncio.Event()
        self._observer = observer
        self._mailbox = mailbox
        process.start(self._run())

    @property
    def name(self) -> str:
        """The name of the process."""
        return self.process.name

    @property
    def is_leader(self) -> bool:
        """Whether the process runs and leads."""
        return self.process.alive and (self.elector is None or self.elector.is_leader)

    @property
    def links(self) -> tuple[Link, ...]:
        """All links of the process."""
        return (self.kube, self.lease, self.aws)

    def terminate(self) -> None:
        """Do what the operator does after SIGTERM."""
        self.process.call_soon(self._stopping.set)

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
        settings = Settings(
            region=REGION,
            leader_elect=self._timing is not None,
            deletion_grace=build.deletion_grace,
        )
        channels = {"email": build.channel(self._mailbox, self.process)}
        async with serving(sessions, clock, build.limits, metrics=metrics) as services:
            self.operator = Operator(
                Dependencies(settings, client, channels, clock, metrics, NoGcTuning()),
                services,
                election,
                self.sources,
                replace(build.parts, meter=build.meter),
            )
            await self.operator.run(self._stopping)
