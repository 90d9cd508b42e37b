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
from booking_operator.engine.fence import Live
from booking_operator.engine.introspection import Contents, Introspectable, joined
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import WorkQueue
from booking_operator.gc_tuning import Heap
from booking_operator.kube.client import KubeClient
from booking_operator.kube.events import Recorder
from booking_operator.kube.objects import Objects
from booking_operator.kube.status import StatusWriter
from booking_operator.observability.prometheus import Metrics
from booking_operator.parts import REAL, Parts
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.delays import Delays
from booking_operator.reconcilers.event_handlers import Wakes
from booking_operator.reconcilers.informers import Caches
from booking_operator.reconcilers.monitor import MonitorReconciler
from booking_operator.reconcilers.notifications import Notifier
from booking_operator.reconcilers.ports import Channels, Drivers, Trust
from booking_operator.reconcilers.resource.dispatch import Dispatcher
from booking_operator.reconcilers.resource.orders import Orders
from booking_operator.reconcilers.resource.start_times import StartTimes
from booking_operator.reconcilers.scheduler import SchedulerReconciler
from booking_operator.settings import Settings

LAST_WORDS_SECONDS = 0.3


class Term:
    """Reconcilers and writers of all kinds, wired to one another."""

    def __init__(
        self,
        settings: Settings,
        caches: Caches,
        trust: Trust,
        client: KubeClient,
        drivers: Drivers,
        channels: Channels,
        clock: Clock,
        live: Live,
        metrics: Metrics,
        heap: Heap,
        parts: Parts = REAL,
    ) -> None:
        self._log = structlog.get_logger()
        self._heap = heap
        self._live = live
        self._drivers = drivers = {name: parts.driver(driver) for name, driver in drivers.items()}
        self._wakes = wakes = Wakes(caches, clock, parts.queue)
        self._recorder = events = Recorder(client, clock, dropped=metrics.event_dropped)
        measured = partial(Controller, metrics=metrics.controller)
        deciders = {
            BOOKING: wakes.bookings,
            RESOURCE: wakes.resources,
            BOOKING_SCHEDULER: wakes.schedulers,
            RESOURCE_MONITOR: wakes.monitors,
        }
        status = {
            kind: StatusWriter(
                client,
                kind,
                store,
                events,
                clock,
                metrics=metrics.controller,
                decide_again=deciders[kind].add,
                queue=parts.queue,
            )
            for kind, store in caches.stores.items()
        }
        self._writers = tuple(status.values())
        self._status_controllers = tuple(writer.controller for writer in self._writers)
        objects, dry_run = Objects(client), settings.dry_run
        keeper = parts.locks(
            caches,
            drivers,
            status[RESOURCE],
            events,
            objects,
            trust,
            clock,
            wakes.locks,
            dry_run=dry_run,
            failed=wakes.resources.add,
        )
        orders, starts = Orders(wakes.resources.add), StartTimes()
        dispatcher = Dispatcher(
            caches,
            drivers,
            status[RESOURCE],
            events,
            trust,
            orders,
            starts,
            clock,
            dry_run=dry_run,
            late=metrics.late,
        )
        self._delays = delays = Delays(
            caches, drivers, dispatcher.open_orders, clock, wakes.delay_changed, metrics=metrics
        )
        resources = parts.resources(
            caches,
            drivers,
            status[RESOURCE],
            events,
            trust,
            keeper,
            dispatcher,
            clock,
            dry_run=dry_run,
            delays=delays,
            starts=starts,
            took_over_at=clock.now(),
        )
        notifier = Notifier(
            caches,
            channels,
            status[BOOKING],
            events,
            clock,
            before=settings.notify_before,
            changed=wakes.bookings.add,
            delivered=metrics.notified,
        )
        bookings = BookingReconciler(
            caches, status[BOOKING], events, clock, untold=notifier.failures.get, delay=delays.get
        )
        schedulers = SchedulerReconciler(caches, status[BOOKING_SCHEDULER], events, objects, clock)
        monitors = MonitorReconciler(caches, drivers, status[RESOURCE_MONITOR], events, objects, trust, clock)
        notify = measured("notifications", wakes.notices, notifier.reconcile)
        self._controllers = (
            *(() if dry_run else (notify,)),
            measured(RESOURCE.name, wakes.resources, resources.reconcile),
            measured("lock tags", wakes.locks, keeper.reconcile),
            measured(BOOKING.name, wakes.bookings, bookings.reconcile),
            measured(BOOKING_SCHEDULER.name, wakes.schedulers, schedulers.reconcile),
            measured(RESOURCE_MONITOR.name, wakes.monitors, monitors.reconcile),
        )

        kept: Mapping[str, Introspectable] = {
            "orders": orders,
            "start times": starts,
            "punctuality": dispatcher.punctuality,
            "delays": delays,
            "resources": resources,
            "monitors": monitors,
            "failed locks": keeper.failures,
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
        self._wakes.subscribe()
        try:
            async with asyncio.TaskGroup() as writers:
                writers.create_task(self._recorder.run(), name="event recorder")
                for controller in self._status_controllers:
                    writers.create_task(controller.run(), name=f"controller: {controller.name}")
                try:
                    await self._work()
                finally:
                    await self._last_words()
        finally:
            self._wakes.unsubscribe()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for service, driver in self._drivers.items():
                driver.track(self._wakes.audience(service))
            for controller in self._controllers:
                tasks.create_task(controller.run(), name=f"controller: {controller.name}")
            tasks.create_task(self._delays.run(), name="delays")
            await self._wakes.resources.drained()
            self._heap.settle_young()  # what is older was looked through when the caches were synced
            self._log.info("first_plans_made")
            await _settled(controller.queue for controller in self.controllers)
            self._log.info("all_reconciled")

    async def _last_words(self) -> None:
        """Wait a moment for what is to be told of what was done: nobody else will tell it."""
        if not self._live():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await _settled(controller.queue for controller in self._status_controllers)
                await self._recorder.drained()

    def listed(self) -> None:
        """A kind was listed anew, which may have ended a doubt."""
        self._wakes.listed()

    def recovered(self) -> None:
        """The API server is back: what waits to be written is tried at once."""
        for writer in self._writers:
            writer.retry()


async def _settled(queues: Iterable[WorkQueue[Key]]) -> None:
    """Wait until nothing is left to be reconciled or written."""
    every = tuple(queues)
    while busy := [queue for queue in every if queue.busy]:
        await busy[0].drained()
