"""A term: all that decides and writes, for as long as this replica leads.

Each term begins anew over caches that are warm, and knows nothing of the one before: a plan is made from
scratch anyway, so another replica, or this one once more, goes on where the last left off.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, RESOURCE_MONITOR
from booking_operator.engine.clock import Clock
from booking_operator.engine.controller import Controller
from booking_operator.engine.fence import MayWrite
from booking_operator.engine.introspection import Contents, Introspectable, joined
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import WorkQueue
from booking_operator.gc_tuning import GcTuning
from booking_operator.kube.client import KubeClient
from booking_operator.kube.events import EventRecorder
from booking_operator.kube.objects import ObjectWriter
from booking_operator.kube.status import StatusWriter
from booking_operator.observability.prometheus import Metrics
from booking_operator.parts import REAL, Parts
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.delays import DelayController
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.monitor import MonitorReconciler
from booking_operator.reconcilers.notifications import NotificationReconciler
from booking_operator.reconcilers.ports import CacheConsistency, Channels, Drivers
from booking_operator.reconcilers.resource.dispatch import Dispatcher
from booking_operator.reconcilers.resource.orders import Orders
from booking_operator.reconcilers.resource.start_times import StartTimes
from booking_operator.reconcilers.scheduler import SchedulerReconciler
from booking_operator.settings import Settings

FLUSH_TIMEOUT_SECONDS = 0.3


class Manager:
    """Reconcilers and writers of all kinds, wired to one another."""

    def __init__(
        self,
        settings: Settings,
        informers: Informers,
        consistency: CacheConsistency,
        client: KubeClient,
        drivers: Drivers,
        channels: Channels,
        clock: Clock,
        may_write: MayWrite,
        metrics: Metrics,
        gc_tuning: GcTuning,
        parts: Parts = REAL,
    ) -> None:
        self._log = structlog.get_logger()
        self._gc_tuning = gc_tuning
        self._may_write = may_write
        self._drivers = drivers = {name: parts.driver(driver) for name, driver in drivers.items()}
        self._handlers = handlers = EventHandlers(informers, clock, parts.queue)
        self._recorder = events = EventRecorder(client, clock, dropped=metrics.event_dropped)
        measured = partial(Controller, metrics=metrics.controller)
        deciders = {
            BOOKING: handlers.bookings,
            RESOURCE: handlers.resources,
            BOOKING_SCHEDULER: handlers.schedulers,
            RESOURCE_MONITOR: handlers.monitors,
        }
        status = {
            kind: StatusWriter(
                client,
                kind,
                store,
                events,
                clock,
                metrics=metrics.controller,
                requeue=deciders[kind].add,
                queue=parts.queue,
            )
            for kind, store in informers.stores.items()
        }
        self._writers = tuple(status.values())
        self._status_controllers = tuple(writer.controller for writer in self._writers)
        objects, dry_run = ObjectWriter(client), settings.dry_run
        lock_tags = parts.locks(
            informers,
            drivers,
            status[RESOURCE],
            events,
            objects,
            consistency,
            clock,
            handlers.lock_tags,
            dry_run=dry_run,
            failed=handlers.resources.add,
        )
        orders, starts = Orders(handlers.resources.add), StartTimes()
        dispatcher = Dispatcher(
            informers,
            drivers,
            status[RESOURCE],
            events,
            consistency,
            orders,
            starts,
            clock,
            dry_run=dry_run,
            late=metrics.late,
        )
        self._delays = delays = DelayController(
            informers, drivers, dispatcher.open_orders, clock, handlers.delay_changed, metrics=metrics
        )
        resources = parts.resources(
            informers,
            drivers,
            status[RESOURCE],
            events,
            consistency,
            lock_tags,
            dispatcher,
            clock,
            dry_run=dry_run,
            delays=delays,
            starts=starts,
            took_over_at=clock.now(),
        )
        notifier = NotificationReconciler(
            informers,
            channels,
            status[BOOKING],
            events,
            clock,
            before=settings.notify_before,
            changed=handlers.bookings.add,
            delivered=metrics.notified,
        )
        bookings = BookingReconciler(
            informers, status[BOOKING], events, clock, untold=notifier.failures.get, delay=delays.get
        )
        schedulers = SchedulerReconciler(informers, status[BOOKING_SCHEDULER], events, objects, clock)
        monitors = MonitorReconciler(
            informers, drivers, status[RESOURCE_MONITOR], events, objects, consistency, clock
        )
        notify = measured("notifications", handlers.notifications, notifier.reconcile)
        self._controllers = (
            *(() if dry_run else (notify,)),
            measured(RESOURCE.name, handlers.resources, resources.reconcile),
            measured("lock tags", handlers.lock_tags, lock_tags.reconcile),
            measured(BOOKING.name, handlers.bookings, bookings.reconcile),
            measured(BOOKING_SCHEDULER.name, handlers.schedulers, schedulers.reconcile),
            measured(RESOURCE_MONITOR.name, handlers.monitors, monitors.reconcile),
        )

        kept: Mapping[str, Introspectable] = {
            "orders": orders,
            "start times": starts,
            "punctuality": dispatcher.punctuality,
            "delays": delays,
            "resources": resources,
            "monitors": monitors,
            "failed locks": lock_tags.failures,
            "notifications": notifier,
            "failed notifications": notifier.failures,
        }
        self._kept = {
            **kept,
            **{f"status of {kind.plural}": writer for kind, writer in status.items()},
            **{f"controller {controller.name}": controller for controller in self.controllers},
        }

    def introspect(self) -> Contents:
        """The keys of all that the parts of this term keep, by `owner.collection`."""
        return joined(self._kept)

    @property
    def controllers(self) -> Sequence[Controller[Any]]:
        """All that work, those that write statuses included."""
        return (*self._controllers, *self._status_controllers)

    async def run(self) -> None:
        """Work until cancelled. The caches must be synced."""
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

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for service, driver in self._drivers.items():
                driver.inventory.set_listener(self._handlers.inventory_listener(service))
            for controller in self._controllers:
                tasks.create_task(controller.run(), name=f"controller: {controller.name}")
            tasks.create_task(self._delays.run(), name="delays")
            await self._handlers.resources.wait_until_idle()
            self._gc_tuning.freeze_young()  # what is older was looked through when the caches were synced
            self._log.info("first_plans_made")
            await _wait_until_idle(controller.queue for controller in self.controllers)
            self._log.info("all_reconciled")

    async def _flush(self) -> None:
        """Wait a moment for what is to be told of what was done: nobody else will tell it."""
        if not self._may_write():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT_SECONDS):
                await _wait_until_idle(controller.queue for controller in self._status_controllers)
                await self._recorder.wait_until_idle()

    def on_listed(self) -> None:
        """A kind was listed anew, which may have ended a doubt."""
        self._handlers.enqueue_all()

    def on_recovered(self) -> None:
        """The API server is back: what waits to be written is tried at once."""
        for writer in self._writers:
            writer.retry()


async def _wait_until_idle(queues: Iterable[WorkQueue[Key]]) -> None:
    """Wait until nothing is left to be reconciled or written."""
    every = tuple(queues)
    while busy := [queue for queue in every if queue.busy]:
        await busy[0].wait_until_idle()
