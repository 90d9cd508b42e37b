"""The composition root: builds and wires everything, and nothing else does."""

import asyncio
import gc
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import Driver, Group, Scope
from booking_operator.cloud.service import open_drivers
from booking_operator.cloud.session import default_region
from booking_operator.engine.clock import Clock, SystemClock
from booking_operator.engine.controller import Controller
from booking_operator.engine.queue import Priority, WorkQueue
from booking_operator.engine.reflector import Reflector
from booking_operator.engine.store import Change, Key, Origin, key_of
from booking_operator.kube.client import KubeClient
from booking_operator.kube.config import ClusterConfig
from booking_operator.kube.events import Recorder
from booking_operator.kube.source import ListWatch
from booking_operator.kube.status import StatusWriter
from booking_operator.kube.trust import CacheTrust
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.caches import Caches
from booking_operator.reconcilers.resource import ResourceReconciler
from booking_operator.settings import Settings


class Operator:
    """Reflectors, reconcilers and writers of both kinds, wired to one another."""

    def __init__(
        self, settings: Settings, client: KubeClient, drivers: Mapping[str, Driver], clock: Clock
    ) -> None:
        self._log = structlog.get_logger()
        self._drivers = drivers
        self._caches = Caches(settings.region)
        self._recorder = Recorder(client, clock)
        self._reflectors: tuple[Reflector[Any], ...] = (
            Reflector(
                BOOKING.plural, ListWatch(client, BOOKING, settings.namespace), self._caches.bookings, clock
            ),
            Reflector(
                RESOURCE.plural,
                ListWatch(client, RESOURCE, settings.namespace),
                self._caches.resources,
                clock,
            ),
        )
        bookings = StatusWriter(client, BOOKING, self._caches.bookings, self._recorder, clock)
        resources = StatusWriter(client, RESOURCE, self._caches.resources, self._recorder, clock)
        self._writers: tuple[StatusWriter[Any], ...] = (bookings, resources)
        self._bookings = Controller(
            BOOKING.name,
            WorkQueue[Key](clock),
            BookingReconciler(self._caches, bookings, self._recorder, clock).reconcile,
        )
        self._resources = Controller(
            RESOURCE.name,
            WorkQueue[Key](clock),
            ResourceReconciler(
                self._caches,
                drivers,
                resources,
                self._recorder,
                CacheTrust(client, self._reflectors),
                clock,
                dry_run=settings.dry_run,
            ).reconcile,
        )
        self._synced = asyncio.Event()
        self._wire()

    async def run(self) -> None:
        """Run until cancelled. Nothing is reconciled before every kind has been listed once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run())
            for writer in self._writers:
                tasks.create_task(writer.controller.run())
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            await self._synced.wait()
            self._log.info(
                "caches_synced", bookings=len(self._caches.bookings), resources=len(self._caches.resources)
            )
            for service, driver in self._drivers.items():
                driver.track(_Audience(service, self._caches, self._wake_group))
            tasks.create_task(self._resources.run())
            tasks.create_task(self._bookings.run())
            await self._resources.queue.drained()
            # What is there now, modules and caches, mostly stays. Otherwise a full collection walks over all
            # of it for some 80 ms, and a boundary that falls into one would be that late.
            gc.collect()
            gc.freeze()
            self._log.info("first_plans_made")

    def _wire(self) -> None:
        self._caches.bookings.subscribe(self._on_booking)
        self._caches.resources.subscribe(self._on_resource)
        for reflector in self._reflectors:
            reflector.when_synced(self._on_list)
            for writer in self._writers:
                reflector.when_recovered(writer.retry)

    def _on_list(self) -> None:
        """A complete list: once all kinds have one, work begins; later ones may have ended a doubt."""
        if all(reflector.synced for reflector in self._reflectors):
            if self._synced.is_set():
                for resource in self._caches.resources.all():
                    self._resources.queue.add(key_of(resource))
            self._synced.set()

    def _on_booking(self, change: Change[Booking]) -> None:
        if change.origin is Origin.OWN:
            return
        priority = _priority(change)
        self._bookings.queue.add(change.key, priority)
        for booking in (change.old, change.new):
            if booking is not None and booking.resource_name:
                self._resources.queue.add(Key(change.key.namespace, booking.resource_name), priority)
        # Who holds the lock is told on every booking of the resource, not only on the one that changed.
        for booking in self._peers(change):
            self._bookings.queue.add(key_of(booking), priority)

    def _peers(self, change: Change[Booking]) -> list[Booking]:
        if change.origin is Origin.INITIAL:
            return []
        names = {booking.resource_name for booking in (change.old, change.new) if booking is not None}
        peers = [
            booking for name in names for booking in self._caches.bookings_of(Key(change.key.namespace, name))
        ]
        return [booking for booking in peers if not booking.finished]

    def _on_resource(self, change: Change[Resource]) -> None:
        priority = _priority(change)
        if change.origin is not Origin.OWN:
            self._resources.queue.add(change.key, priority)
        if change.origin is Origin.INITIAL:
            return
        if change.old is None or change.new is None:
            for peer in self._caches.peers(change.either):
                self._resources.queue.add(key_of(peer), priority)
        for booking in self._caches.bookings_of(change.key):
            if not booking.finished:
                self._bookings.queue.add(key_of(booking), priority)

    def _wake_group(self, group: Group) -> None:
        for resource in self._caches.resources.by("group", group):
            self._resources.queue.add(key_of(resource))


class _Audience:
    """What the Resources of one type want watched, and whom to wake."""

    def __init__(self, service: str, caches: Caches, changed: Callable[[Group], None]) -> None:
        self._service = service
        self._caches = caches
        self.changed = changed

    def groups(self) -> list[Group]:
        return [group for group in self._caches.groups() if group.service == self._service]

    def periods(self) -> dict[Scope, timedelta]:
        return {}

    def listed(self, scope: Scope) -> None:
        pass


def _priority(change: Change[Any]) -> Priority:
    return Priority.INITIAL if change.origin is Origin.INITIAL else Priority.CHANGE


class NoRegionError(Exception):
    """Neither flags nor environment name a region.

    Attributes:
        fatal: for the command line: the message says it all, a traceback says no more.
    """

    fatal = True


async def run(settings: Settings) -> None:
    """Run the operator until cancelled.

    Raises:
        ConfigError: there is no usable cluster configuration.
        NoRegionError: there is no region for Resources that name none.
    """
    settings = replace(settings, region=settings.region or default_region())
    if not settings.region:
        raise NoRegionError("there is no AWS region; give --region or set AWS_REGION")
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            KubeClient(ClusterConfig(settings.kubeconfig, settings.context), clock)
        )
        drivers = await stack.enter_async_context(open_drivers(clock))
        await Operator(settings, client, drivers, clock).run()
