"""The composition root: builds and wires everything, and nothing else does."""

import asyncio
import gc
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import structlog

from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, RESOURCE_MONITOR, Kind
from booking_operator.cloud.accounts import Accounts, own_role
from booking_operator.cloud.regions import known
from booking_operator.cloud.service import open_drivers
from booking_operator.cloud.session import default_region
from booking_operator.config import load
from booking_operator.engine.clock import Clock, SystemClock
from booking_operator.engine.controller import Controller
from booking_operator.engine.reflector import Reflector
from booking_operator.engine.store import Store
from booking_operator.kube.client import KubeClient
from booking_operator.kube.config import ClusterConfig
from booking_operator.kube.events import Recorder
from booking_operator.kube.objects import Objects
from booking_operator.kube.source import ListWatch
from booking_operator.kube.status import StatusWriter
from booking_operator.kube.trust import CacheTrust
from booking_operator.notify.channels import open_channels
from booking_operator.notify.email import smtp_config
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.caches import Caches
from booking_operator.reconcilers.delays import Delays
from booking_operator.reconcilers.dispatch import Dispatcher
from booking_operator.reconcilers.keeper import LockKeeper
from booking_operator.reconcilers.monitor import MonitorReconciler
from booking_operator.reconcilers.notifier import Notifier
from booking_operator.reconcilers.orders import Orders
from booking_operator.reconcilers.ports import Channels, Drivers
from booking_operator.reconcilers.resource import ResourceReconciler
from booking_operator.reconcilers.scheduler import SchedulerReconciler
from booking_operator.reconcilers.starts import StartTimes
from booking_operator.reconcilers.wakes import Wakes
from booking_operator.settings import Settings

YOUNG = 20_000
"""So many new objects are looked through for garbage at a time, which takes about a millisecond. With 700, as
Python has it, a first list of 50,000 bookings is walked over eight times, each time from its beginning."""


class Operator:
    """Reflectors, reconcilers and writers of all kinds, wired to one another."""

    def __init__(
        self, settings: Settings, client: KubeClient, drivers: Drivers, channels: Channels, clock: Clock
    ) -> None:
        self._log = structlog.get_logger()
        self._drivers = drivers
        self._caches = caches = Caches(settings.region)
        self._wakes = wakes = Wakes(caches, clock)
        self._recorder = events = Recorder(client, clock)
        stores: dict[Kind[Any], Store[Any]] = {
            BOOKING: caches.bookings,
            RESOURCE: caches.resources,
            BOOKING_SCHEDULER: caches.schedulers,
            RESOURCE_MONITOR: caches.monitors,
        }
        reflectors = {
            kind: Reflector(kind.plural, ListWatch(client, kind, settings.namespace), store, clock)
            for kind, store in stores.items()
        }
        self._reflectors = tuple(reflectors.values())
        # All that power depends on. The other two kinds may be missing, or not permitted.
        self._vital = (reflectors[BOOKING], reflectors[RESOURCE])
        status = {kind: StatusWriter(client, kind, store, events, clock) for kind, store in stores.items()}
        self._writers = tuple(status.values())
        trust, objects = CacheTrust(client, self._vital, clock), Objects(client)
        keeper = LockKeeper(
            caches,
            drivers,
            status[RESOURCE],
            events,
            objects,
            clock,
            wakes.locks,
            dry_run=settings.dry_run,
            failed=wakes.resources.add,
        )
        orders = Orders(wakes.resources.add)
        starts = StartTimes()
        dispatcher = Dispatcher(
            caches,
            drivers,
            status[RESOURCE],
            events,
            trust,
            orders,
            starts,
            clock,
            dry_run=settings.dry_run,
        )
        self._delays = delays = Delays(caches, drivers, dispatcher.open_orders, clock, wakes.delay_changed)
        resources = ResourceReconciler(
            caches,
            drivers,
            status[RESOURCE],
            events,
            trust,
            keeper,
            dispatcher,
            clock,
            dry_run=settings.dry_run,
            delays=delays,
            starts=starts,
        )
        notifier = Notifier(
            caches,
            channels,
            status[BOOKING],
            events,
            clock,
            before=settings.notify_before,
            changed=wakes.bookings.add,
        )
        bookings = BookingReconciler(
            caches, status[BOOKING], events, clock, untold=notifier.failures.get, delay=delays.get
        )
        schedulers = SchedulerReconciler(caches, status[BOOKING_SCHEDULER], events, objects, clock)
        monitors = MonitorReconciler(caches, drivers, status[RESOURCE_MONITOR], events, objects, trust, clock)
        notify = Controller("notifications", wakes.notices, notifier.reconcile)
        self._controllers = (
            *(() if settings.dry_run else (notify,)),
            Controller(RESOURCE.name, wakes.resources, resources.reconcile),
            Controller("lock tags", wakes.locks, keeper.reconcile),
            Controller(BOOKING.name, wakes.bookings, bookings.reconcile),
            Controller(BOOKING_SCHEDULER.name, wakes.schedulers, schedulers.reconcile),
            Controller(RESOURCE_MONITOR.name, wakes.monitors, monitors.reconcile),
        )
        self._synced = asyncio.Event()
        wakes.subscribe()
        for reflector in self._vital:
            reflector.when_synced(self._on_list)
        for reflector in self._reflectors:
            for writer in self._writers:
                reflector.when_recovered(writer.retry)

    async def run(self) -> None:
        """Run until cancelled. Nothing is reconciled before bookings and resources have been listed."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run())
            for writer in self._writers:
                tasks.create_task(writer.controller.run())
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            await self._synced.wait()
            _freeze()
            self._log.info(
                "caches_synced", bookings=len(self._caches.bookings), resources=len(self._caches.resources)
            )
            for service, driver in self._drivers.items():
                driver.track(self._wakes.audience(service))
            for controller in self._controllers:
                tasks.create_task(controller.run())
            tasks.create_task(self._delays.run())
            await self._wakes.resources.drained()
            _freeze()
            self._log.info("first_plans_made")
            await self._settled()
            self._log.info("all_reconciled")

    async def _settled(self) -> None:
        """Wait until nothing is left to be reconciled or written."""
        queues = [controller.queue for controller in self._controllers]
        queues += [writer.controller.queue for writer in self._writers]
        while busy := [queue for queue in queues if queue.busy]:
            await busy[0].drained()

    def _on_list(self) -> None:
        """A complete list: once both kinds have one, work begins; later ones may have ended a doubt."""
        if all(reflector.synced for reflector in self._vital):
            if self._synced.is_set():
                self._wakes.listed()
            self._synced.set()


def _freeze() -> None:
    """Exempt what is there now, modules and caches, from garbage collection: most of it stays.

    Otherwise a full collection walks over all of it, for 80 ms with few objects and 300 with 50,000 bookings,
    and a boundary that falls into one would be that late.
    """
    gc.collect()
    gc.freeze()


class RegionError(Exception):
    """Neither flags nor environment name a region, or there is none of that name.

    Attributes:
        fatal: for the command line: the message says it all, a traceback says no more.
    """

    fatal = True


def _region(flag: str) -> str:
    """The operator's own region."""
    region = flag or default_region()
    if not region:
        raise RegionError("there is no AWS region; give --region or set AWS_REGION")
    try:
        return known(region)
    except ValueError as error:
        raise RegionError(f"--region or AWS_REGION: {error}") from None


async def run(settings: Settings) -> None:
    """Run the operator until cancelled.

    Raises:
        ConfigError: there is no usable cluster configuration.
        RegionError: there is no region for Resources that name none, or it is not known.
        SmtpConfigError: the variables SMTP_* make no sense.
        OwnRoleError: nor does AWS_ASSUME_ROLE_ARN.
        ConfigFileError: nor does the configuration file.
    """
    gc.set_threshold(YOUNG)
    settings = replace(settings, region=_region(settings.region))
    smtp, config = smtp_config(os.environ), load(settings.config)
    accounts = Accounts(settings.region, own_role(os.environ), config.accounts)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            KubeClient(ClusterConfig(settings.kubeconfig, settings.context), clock)
        )
        drivers = await stack.enter_async_context(open_drivers(clock, accounts, config.limits_of()))
        channels = await stack.enter_async_context(open_channels(smtp, config.targets, clock))
        await Operator(settings, client, drivers, channels, clock).run()
