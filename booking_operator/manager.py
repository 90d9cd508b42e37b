"""Builds and runs the reconcilers of one leadership.

The informers, the inventory and the API client exist for the whole process. A `Manager` exists for one
leadership: each leadership begins with a new one. A replica that takes over therefore continues from the
state in the cluster and in AWS alone.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, RESOURCE_MONITOR, USAGE
from booking_operator.cloud.service import Driver
from booking_operator.dependencies import Dependencies
from booking_operator.engine.controller import Controller
from booking_operator.engine.fence import MayWrite
from booking_operator.engine.introspection import Contents, Introspectable, joined
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import Priority, WorkQueue
from booking_operator.kube.cache_consistency import CacheConsistency
from booking_operator.kube.events import EventRecorder
from booking_operator.kube.objects import ObjectWriter
from booking_operator.kube.status import StatusWriter
from booking_operator.parts import REAL, Parts
from booking_operator.reconcilers.delays import DelayController
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.monitor import MonitorReconciler
from booking_operator.reconcilers.notifications import NotificationReconciler
from booking_operator.reconcilers.resource.orders import ResourceOrders
from booking_operator.reconcilers.scheduler import SchedulerReconciler
from booking_operator.reconcilers.usage import WRITE_DELAY, UsageReconciler
from booking_operator.reconcilers.usage_recorder import UsageRecorder

FLUSH_TIMEOUT_SECONDS = 0.3
MAX_USAGE_WRITES = 4
"""Maximum number of Usage objects that are written at the same time."""


class Manager:
    """The reconcilers of all kinds, their controllers and their collaborators, for one leadership.

    Args:
        dependencies: the collaborators that exist for the whole process.
        informers: the caches.
        consistency: decides whether the caches may be missing bookings.
        drivers: the cloud services, by `spec.type`.
        usage: the meters of all Resources.
        may_write: whether this replica may write now.
        parts: the constructors of parts that a simulation may replace.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        informers: Informers,
        consistency: CacheConsistency,
        drivers: Mapping[str, Driver],
        usage: UsageRecorder,
        *,
        may_write: MayWrite,
        parts: Parts = REAL,
    ) -> None:
        self._log = structlog.get_logger()
        self._gc_tuning = dependencies.gc_tuning
        settings, client, clock, metrics = (
            dependencies.settings,
            dependencies.client,
            dependencies.clock,
            dependencies.metrics,
        )
        self._may_write = may_write
        self._drivers = {name: parts.driver(driver) for name, driver in drivers.items()}
        self._handlers = handlers = EventHandlers(informers, clock, parts.queue)
        self._recorder = EventRecorder(client, clock, dropped=metrics.event_dropped)
        queues = {
            BOOKING: handlers.bookings,
            RESOURCE: handlers.resources,
            BOOKING_SCHEDULER: handlers.schedulers,
            RESOURCE_MONITOR: handlers.monitors,
        }
        statuses = {
            kind: StatusWriter(
                client,
                kind,
                store,
                self._recorder,
                parts.queue(clock),
                metrics=metrics.controller,
                requeue=queues[kind].add,
            )
            for kind, store in informers.stores.items()
        }
        self._writers = tuple(statuses.values())
        self._status_controllers = tuple(writer.controller for writer in self._writers)
        environment = Environment(
            informers,
            self._drivers,
            statuses,
            self._recorder,
            ObjectWriter(client),
            consistency,
            clock,
            dry_run=settings.dry_run,
            lock_tags=settings.lock_tags,
            deletion_grace=settings.deletion_grace,
        )
        orders = ResourceOrders(environment, handlers.resources.add, metrics.late)
        self._delays = delays = DelayController(
            environment, orders.open_orders, handlers.delay_changed, metrics=metrics
        )
        lock_tags = parts.locks(environment, handlers.lock_tags, handlers.resources.add)
        resources = parts.resources(environment, orders, lock_tags, delays, took_over_at=clock.now())
        notifier = NotificationReconciler(
            environment,
            dependencies.channels,
            before=settings.notify_before,
            changed=handlers.bookings.add,
            delivered=metrics.notified,
        )
        bookings = parts.bookings(environment, undelivered=notifier.failures.get, delay=delays.get)
        schedulers = SchedulerReconciler(environment)
        monitors = MonitorReconciler(environment)
        self._usage_queue: WorkQueue[Key] = parts.queue(clock, timer_priority=Priority.CHANGE)
        self._usage = usage
        usages = UsageReconciler(client, usage, informers, clock, settings.namespace, metrics.used)
        measured = partial(Controller, metrics=metrics.controller)
        notify = measured("notifications", handlers.notifications, notifier.reconcile)
        self._controllers = (
            *(() if settings.dry_run else (notify,)),
            measured(RESOURCE.name, handlers.resources, resources.reconcile),
            measured("lock tags", handlers.lock_tags, lock_tags.reconcile),
            measured(BOOKING.name, handlers.bookings, bookings.reconcile),
            measured(BOOKING_SCHEDULER.name, handlers.schedulers, schedulers.reconcile),
            measured(RESOURCE_MONITOR.name, handlers.monitors, monitors.reconcile),
            measured(USAGE.name, self._usage_queue, usages.reconcile, workers=MAX_USAGE_WRITES),
        )
        self._introspectables: Mapping[str, Introspectable] = {
            "orders": orders,
            "delays": delays,
            "resources": resources,
            "bookings": bookings,
            "monitors": monitors,
            "failed locks": lock_tags.failures,
            "notifications": notifier,
            "failed notifications": notifier.failures,
            "usages": usages,
            **{f"status of {kind.plural}": writer for kind, writer in statuses.items()},
            **{f"controller {controller.name}": controller for controller in self.controllers},
        }

    def introspect(self) -> Contents:
        """The keys of all entries that this leadership keeps, by `owner.collection`."""
        return joined(self._introspectables)

    @property
    def controllers(self) -> Sequence[Controller[Any]]:
        """All controllers, including the controllers that write statuses."""
        return (*self._controllers, *self._status_controllers)

    async def run(self) -> None:
        """Run all controllers until cancelled. The caches must be synced."""
        self._handlers.subscribe()
        try:
            async with asyncio.TaskGroup() as writers:
                writers.create_task(self._recorder.run(), name="event recorder")
                for controller in self._status_controllers:
                    writers.create_task(controller.run(), name=f"controller: {controller.name}")
                try:
                    await self._work()
                finally:
                    await self._flush()
        finally:
            self._handlers.unsubscribe()

    async def drain(self) -> None:
        """Write what only this process knows: the usage that was metered since the last write."""
        for key in self._usage.metered():
            self._usage_queue.add(key)
        await self._usage_queue.wait_until_idle()

    def _write_usage_soon(self, key: Key) -> None:
        self._usage_queue.add_at(key, self._usage_queue.clock.now() + WRITE_DELAY)

    async def _work(self) -> None:
        self._usage.on_changed(self._write_usage_soon)
        for key in self._usage.metered():
            self._write_usage_soon(key)
        try:
            await self._control()
        finally:
            self._usage.on_changed(None)

    async def _control(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for service, driver in self._drivers.items():
                driver.set_listener(self._handlers.inventory_listener(service))
            for controller in self._controllers:
                tasks.create_task(controller.run(), name=f"controller: {controller.name}")
            tasks.create_task(self._delays.run(), name="delays")
            await self._handlers.resources.wait_until_idle()
            # Older objects were collected and frozen when the caches were synced.
            self._gc_tuning.freeze_young()
            self._log.info("resources_reconciled")
            await _wait_until_idle(controller.queue for controller in self.controllers)
            self._log.info("all_reconciled")

    async def _flush(self) -> None:
        """Wait at most `FLUSH_TIMEOUT_SECONDS` until statuses and Events are written.

        The next leader does not know them, so it will not write them.
        """
        if not self._may_write():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT_SECONDS):
                await _wait_until_idle(controller.queue for controller in self._status_controllers)
                await self._recorder.wait_until_idle()

    def on_listed(self) -> None:
        """Enqueue all Resources and monitors after a relist, because data may no longer be stale."""
        self._handlers.enqueue_all()

    def on_recovered(self) -> None:
        """Write the waiting statuses at once, because the API server is available again."""
        for writer in self._writers:
            writer.retry()


async def _wait_until_idle(queues: Iterable[WorkQueue[Key]]) -> None:
    """Wait until all queues are idle at the same time."""
    every = tuple(queues)
    while busy := [queue for queue in every if queue.busy]:
        await busy[0].wait_until_idle()
