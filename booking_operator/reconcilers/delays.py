"""Knows which starts and stops will come late, before they do: from the model of the cloud's limits.

It looks ahead from time to time, and soon when an order waits for its turn or a booking is made, at what
waits and at what the bookings of the next hour will ask for. An exception that no rule covers costs the delay
of one Resource, or one look, and is tried again at the next.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import Action, Demand, Order
from booking_operator.cloud.metrics import UNMEASURED, CloudMetrics, Part, unexpected
from booking_operator.domain.delay import TOLERANCE, Delay, delay
from booking_operator.domain.instance import State
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.informers import Caches
from booking_operator.reconcilers.ports import Drivers
from booking_operator.reconcilers.resource.snapshot import Scene, look

HORIZON = timedelta(hours=1)
"""How far ahead it looks."""
PERIOD = timedelta(seconds=30)
"""How often, when nothing calls for it."""
SPACING = timedelta(seconds=2)
"""At most how often."""
_SLICE = 25  # Resources between two looks at what else there is to do; about a millisecond


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A Resource with orders that have not been answered."""

    key: Key
    scene: Scene
    orders: Sequence[Order]


@dataclass(frozen=True, slots=True)
class _Coming:
    """A Resource, and what its next boundary will ask for."""

    key: Key
    scene: Scene
    demand: Demand


class Delays:
    """The delays of all Resources. `changed` is called with the key of one whose delay is another now."""

    def __init__(
        self,
        caches: Caches,
        drivers: Drivers,
        open_orders: Callable[[Key], list[Order]],
        clock: Clock,
        changed: Callable[[Key], None],
        *,
        metrics: CloudMetrics = UNMEASURED,
    ) -> None:
        self._caches = caches
        self._drivers = drivers
        self._open_orders = open_orders
        self._clock = clock
        self._changed = changed
        self._metrics = metrics
        self._delays: dict[Key, Delay] = {}
        self._wake = asyncio.Event()

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {"delays": self._delays.keys()}

    def get(self, key: Key) -> Delay | None:
        """How late the present or next start or stop of a Resource is; None where it is on time."""
        return self._delays.get(key)

    def look_soon(self) -> None:
        """Something waits for its turn, or the next boundary of a Resource is another."""
        self._wake.set()

    async def run(self) -> None:
        """Look ahead again and again, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.look_ahead()
            except Exception as error:  # noqa: BLE001 - a forecast must end no term
                unexpected(self._metrics, Part.DELAYS, "forecast", error)
            await self._clock.sleep(SPACING.total_seconds())
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD.total_seconds()):
                    await self._wake.wait()

    async def look_ahead(self) -> None:
        """Work out all delays anew, and tell which have changed."""
        waiting: list[_Waiting] = []
        coming: list[_Coming] = []
        for number, resource in enumerate(list(self._caches.resources.all())):
            if number % _SLICE == 0:
                await self._clock.sleep(0)
            try:
                self._consider(resource, waiting, coming)
            except Exception as error:  # noqa: BLE001 - the other Resources need theirs
                unexpected(self._metrics, Part.DELAYS, "forecast", error, resource=str(key_of(resource)))
        found = await self._of_waiting(waiting) | await self._of_coming(coming)
        before, self._delays = self._delays, found
        for key in before | found:
            if before.get(key) != found.get(key):
                self._changed(key)

    def _consider(self, resource: Resource, waiting: list[_Waiting], coming: list[_Coming]) -> None:
        """One Resource: what waits, or else what the next boundary will ask for."""
        now, key = self._clock.now(), key_of(resource)
        scene = look(self._caches, self._drivers, resource, resource.status, now, dry_run=False)
        if scene is None or not scene.policy.acts:
            return
        if orders := self._open_orders(key):
            waiting.append(_Waiting(key, scene, orders))
            return
        boundary = scene.seen.next_change_at
        if boundary is not None and boundary - now <= HORIZON and (count := _count(scene)):
            action = Action.STOP if scene.seen.wanted else Action.START
            coming.append(_Coming(key, scene, Demand(scene.group, action, count, boundary, key.namespace)))

    async def _of_waiting(self, waiting: Sequence[_Waiting]) -> dict[Key, Delay]:
        found: dict[Key, Delay] = {}
        for service in dict.fromkeys(item.scene.group.service for item in waiting):
            mine = [item for item in waiting if item.scene.group.service == service]
            orders = [order for item in mine for order in item.orders]
            leaves = await self._drivers[service].expected(orders)
            for item in mine:
                leaves_at = max((leaves[order] for order in item.orders if order in leaves), default=None)
                at, scene = min(order.deadline for order in item.orders), item.scene
                starting = scene.at(max(at, scene.now)).seen.wanted
                if leaves_at is None or leaves_at - scene.now <= TOLERANCE:
                    continue  # it is no limit that makes late what leaves as soon as it was asked for
                if late := _delay(scene, at, leaves_at, starting=starting):
                    found[item.key] = late
        return found

    async def _of_coming(self, coming: Sequence[_Coming]) -> dict[Key, Delay]:
        found: dict[Key, Delay] = {}
        for service in dict.fromkeys(item.scene.group.service for item in coming):
            mine = [item for item in coming if item.scene.group.service == service]
            leaves = await self._drivers[service].forecast([item.demand for item in mine])
            for item, leaves_at in zip(mine, leaves, strict=True):
                starting = item.demand.action is Action.START
                if late := _delay(item.scene, item.demand.at, leaves_at, starting=starting):
                    found[item.key] = late
        return found


def _delay(scene: Scene, at: datetime, leaves_at: datetime, *, starting: bool) -> Delay | None:
    return delay(at, leaves_at, starting=starting, warm_up=scene.policy.warm_up)


def _count(scene: Scene) -> int:
    """How many instances the next boundary will concern, as they are now."""
    observation = scene.observation
    if observation is None:
        return 0
    if scene.seen.wanted:
        return observation.count(State.RUNNING) + observation.count(State.PENDING)
    return observation.count(State.STOPPED) + observation.count(State.STOPPING)
