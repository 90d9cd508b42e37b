"""The composition root: builds all parts of a replica and runs them from start to exit.

The informers and the inventory run in every replica. A leader also runs a `Manager`.
"""

import asyncio
import gc
import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.cloud.aws.accounts import Accounts, own_role
from booking_operator.cloud.aws.clients import default_region
from booking_operator.cloud.aws.regions import check_region
from booking_operator.cloud.service import Driver, Service, open_services
from booking_operator.config import Settings, load_config
from booking_operator.dependencies import Dependencies
from booking_operator.engine.clock import Clock, SystemClock
from booking_operator.engine.introspection import Contents, Introspectable, joined
from booking_operator.engine.leader_election import Election, LeaderElector, LeaseTiming, SingleReplica
from booking_operator.engine.reflector import Reflector
from booking_operator.engine.store import Store
from booking_operator.errors import UserError
from booking_operator.gc_tuning import GC_THRESHOLD
from booking_operator.kube.cache_consistency import CacheConsistency
from booking_operator.kube.client import KubeClient
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.kube.lease import KubeLeaseLock
from booking_operator.kube.list_watch import ListWatch
from booking_operator.manager import Manager
from booking_operator.notify.channels import open_channels
from booking_operator.notify.email import smtp_config
from booking_operator.observability.object_counts import ObjectCounts
from booking_operator.observability.prometheus import Metrics
from booking_operator.observability.server import open_servers
from booking_operator.observability.sources import Sources
from booking_operator.parts import REAL, Parts
from booking_operator.reconcilers.standby_listener import StandbyListener
from booking_operator.reconcilers.usage_recorder import UsageRecorder

DRAIN_TIMEOUT_SECONDS = 2.0
"""How long an orderly end may take to write the usage. The grace period of a pod is 30 s."""
GC_DELAY_SECONDS = 10.0
"""Delay before the full collection after a leadership, so that a short loss of the Lease ends before it."""
BOUNDARY_MARGIN = timedelta(seconds=2)
"""A full collection does not begin if a boundary is less than this ahead."""


class Operator:
    """One replica: its informers, its inventory and its leader election. A leader also has a `Manager`.

    A standby replica keeps its informers and its inventory current, so that it can act at once after a
    take-over.

    Args:
        dependencies: the collaborators that exist for the whole process.
        services: the cloud services, by `spec.type`.
        election: the leader election.
        sources: receives the values that metrics and health probes read.
        parts: the constructors of parts that a simulation may replace.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        services: Mapping[str, Service],
        election: Election,
        sources: Sources,
        parts: Parts = REAL,
    ) -> None:
        self._log = structlog.get_logger()
        self._dependencies = dependencies
        self._clock = clock = dependencies.clock
        client, namespace = dependencies.client, dependencies.settings.namespace
        self._sources = sources
        self._services = services
        self._election = election
        self._informers = informers = parts.informers(dependencies.settings.region)
        reflectors = {
            kind: Reflector(kind.plural, ListWatch(client, kind, namespace), store, clock)
            for kind, store in informers.stores.items()
        }
        self._reflectors = tuple(reflectors.values())
        # Decisions about power depend on these kinds only. For the other two kinds, the CRD or the permission
        # may be missing.
        self._required_reflectors = (reflectors[BOOKING], reflectors[RESOURCE])
        self._synced = asyncio.Event()
        for reflector in self._required_reflectors:
            reflector.on_synced(self._on_list)
        for reflector in self._reflectors:
            reflector.on_recovered(self._on_recovery)
        self._consistency = consistency = CacheConsistency(client, self._required_reflectors, clock)
        self._new_manager = partial(
            Manager, dependencies, informers, consistency, may_write=election.may_write, parts=parts
        )
        inventories = {name: service.inventory for name, service in services.items()}
        self._usage = UsageRecorder(informers, inventories, clock, parts.meter)
        self._drivers: Mapping[str, Driver] = {}
        self._manager: Manager | None = None
        self._ended = asyncio.Event()
        sources.services, sources.is_leader = services, lambda: election.is_leader
        sources.reflectors, sources.required_reflectors = (
            self._reflectors,
            self._required_reflectors,
        )
        sources.objects = lambda: {kind.plural: len(store) for kind, store in informers.stores.items()}
        sources.object_counts = self._object_counts = ObjectCounts(informers)

    @property
    def stores(self) -> Mapping[Kind[Any], Store[Any]]:
        """The cached objects of each kind. Callers must not change them."""
        return self._informers.stores

    @property
    def usage(self) -> UsageRecorder:
        """The meters of this replica."""
        return self._usage

    def introspect(self) -> Contents:
        """The keys that each long-lived collection holds, by `owner.collection`.

        Tests use it; see `engine.introspection`. A standby replica lacks the collections of a leader, such as
        work queues, orders and request queues.
        """
        parts: dict[str, Introspectable] = {
            "informers": self._informers,
            "object counts": self._object_counts,
            "usage": self._usage,
            **{f"store of {kind.plural}": store for kind, store in self.stores.items()},
            **{f"service {name}": service for name, service in self._services.items()},
            **{f"driver {name}": driver for name, driver in self._drivers.items()},
        }
        return {**joined(parts), **(self._manager.introspect() if self._manager else {})}

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set, or until cancelled. Only the former ends without a loss of usage.

        Reconciles begin when the caches of Bookings and Resources are synced.
        """
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._work(), name="operator")
            await stopping.wait()
            await self._drain()
            work.cancel()

    async def _drain(self) -> None:
        """Write what only this process knows. Starts and stops go on meanwhile."""
        if self._manager is None or not self._election.may_write():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_SECONDS):
                await self._manager.drain()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._collect_garbage(), name="tidy up")
            tasks.create_task(self._usage.run(), name="usage")
            await self._consistency.record_crds()
            for reflector in self._reflectors:
                tasks.create_task(reflector.run(), name=f"reflector: {reflector.kind}")
            await self._synced.wait()
            self._dependencies.gc_tuning.freeze()
            self._log.info(
                "caches_synced",
                bookings=len(self._informers.bookings),
                resources=len(self._informers.resources),
            )
            self._stand_by()
            await self._election.run(self._lead)

    async def _collect_garbage(self) -> None:
        """Run a full garbage collection `GC_DELAY_SECONDS` after each leadership.

        It frees the objects of the leadership, which `freeze` has exempted from normal collections.
        """
        while True:
            await self._ended.wait()
            self._ended.clear()
            await self._clock.sleep(GC_DELAY_SECONDS)
            while self._boundary_is_near():  # a full collection would make the boundary late
                await self._clock.sleep(1)
            self._dependencies.gc_tuning.collect_all()

    def _boundary_is_near(self) -> bool:
        now = self._clock.now()
        changes = (resource.status.next_change for resource in self._informers.resources.objects())
        return any(at is not None and now < at < now + BOUNDARY_MARGIN for at in changes)

    def _stand_by(self) -> None:
        for name, service in self._services.items():
            service.set_listener(StandbyListener(name, self._informers))

    async def _lead(self) -> None:
        """Run a manager until the leadership ends."""
        try:
            async with asyncio.TaskGroup() as tasks:
                drivers = {name: service.driver(tasks) for name, service in self._services.items()}
                self._drivers = drivers
                self._manager = manager = self._new_manager(drivers=drivers, usage=self._usage)
                self._dependencies.metrics.began_to_lead()
                if self._election.has_rivals:
                    self._relist()
                with self._sources.leadership(manager.controllers, tuple(drivers.values())):
                    await manager.run()
        finally:
            self._manager, self._drivers = None, {}
            self._stand_by()
            self._ended.set()

    def _relist(self) -> None:
        """List Bookings and Resources again after a take-over.

        The watch of this replica may be dead without notice, so the previous leader may have known more
        bookings. Stops wait for the lists. Starts do not wait.
        """
        for reflector in self._required_reflectors:
            reflector.relist(
                f"the {reflector.kind} have not been listed since this replica became the leader"
            )

    def _on_list(self) -> None:
        """Handle a complete list of a required kind.

        Work begins when both kinds are listed. After a later list, data may no longer be stale.
        """
        if not all(reflector.has_synced for reflector in self._required_reflectors):
            return
        if self._manager is not None:
            self._manager.on_listed()
        self._synced.set()

    def _on_recovery(self) -> None:
        if self._manager is not None:
            self._manager.on_recovered()


class RegionError(UserError):
    """Flags and environment name no AWS region, or the region does not exist."""


def _region(flag: str) -> str:
    """Return the AWS region of the operator, from the flag or the environment.

    Raises:
        RegionError: there is no region, or it does not exist.
    """
    region = flag or default_region()
    if not region:
        raise RegionError("no AWS region configured; use --region or set AWS_REGION")
    try:
        return check_region(region)
    except ValueError as error:
        raise RegionError(f"--region or AWS_REGION: {error}") from None


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Run the operator until `stopping` is set, or until cancelled.

    Raises:
        ConfigError: there is no usable cluster configuration.
        RegionError: flags and environment name no AWS region, or the region does not exist.
        SmtpConfigError: the variables SMTP_* are invalid.
        OwnRoleError: AWS_ASSUME_ROLE_ARN is invalid.
        ConfigFileError: the configuration file is invalid.
        BindError: the address for metrics or for probes cannot be used.
    """
    gc.set_threshold(GC_THRESHOLD)
    settings = replace(settings, region=_region(settings.region))
    smtp, config = smtp_config(os.environ), load_config(settings.config)
    accounts = Accounts(settings.region, own_role(os.environ), config.accounts)
    clock, cluster = SystemClock(), ClusterConfig(settings.kubeconfig, settings.context)
    metrics, sources = Metrics(), Sources(accounts)
    async with AsyncExitStack() as stack:
        addresses = settings.metrics_bind_address, settings.health_probe_bind_address
        await stack.enter_async_context(open_servers(*addresses, metrics, sources, clock))
        election: Election = SingleReplica()
        if settings.leader_elect:
            election = await stack.enter_async_context(open_election(settings, cluster, clock, metrics))
        may_write = election.may_write
        client = await stack.enter_async_context(KubeClient(cluster, clock, may_write, metrics=metrics))
        services = await stack.enter_async_context(
            open_services(clock, accounts, config.limits_of(), may_write, metrics=metrics)
        )
        channels = await stack.enter_async_context(open_channels(smtp, config.targets, clock, may_write))
        dependencies = Dependencies(settings, client, channels, clock, metrics)
        await Operator(dependencies, services, election, sources).run(stopping)


@asynccontextmanager
async def open_election(
    settings: Settings, cluster: ClusterConfig, clock: Clock, metrics: Metrics
) -> AsyncIterator[LeaderElector]:
    """Create a leader elector with its own API client, so that renewals wait for no other request."""
    namespace = settings.leader_election_namespace or cluster.namespace()
    identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4()}"
    async with KubeClient(cluster, clock, metrics=metrics) as client:
        leases = KubeLeaseLock(client, namespace, settings.leader_election_id, clock)
        yield LeaderElector(identity, leases, clock, LeaseTiming(settings.lease_duration))
