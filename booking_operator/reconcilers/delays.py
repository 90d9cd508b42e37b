"""Forecasts which starts and stops will be late because of the request limits of AWS.

The controller computes the delays every `PERIOD`, and earlier after `update_soon`. The forecast covers the
orders without an answer, and the next boundary of each Resource within `HORIZON`. The reconcilers of
Resources and Bookings show the delays in conditions.

An unexpected exception while one Resource is read drops the delay of that Resource. Any other unexpected
exception ends one update. Both are counted and logged, and the next update tries again.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import Action, Demand, Order
from booking_operator.cloud.instrumentation import unexpected
from booking_operator.domain.delay import TOLERANCE, Delay, delay_of, with_required
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.metrics import NO_METRICS, CloudMetrics, FailedPart
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot, take_snapshot

HORIZON = timedelta(hours=1)
"""How far ahead the forecast looks for boundaries."""
PERIOD = timedelta(seconds=30)
"""How long the controller waits for `update_soon` before it updates anyway. `SPACING` comes on top."""
SPACING = timedelta(seconds=2)
"""Minimum time between two updates."""
_SLICE = 25  # Resources between two yields to the event loop: about 1 ms of work.


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A Resource with orders that have no answer yet."""

    key: Key
    snapshot: ResourceSnapshot
    orders: Sequence[Order]


@dataclass(frozen=True, slots=True)
class _Coming:
    """A Resource, and the demand of its next boundary."""

    key: Key
    snapshot: ResourceSnapshot
    demand: Demand


class DelayController:
    """Computes and keeps the delays of all Resources.

    Args:
        environment: what all reconcilers share.
        open_orders: returns the orders of a Resource that have no answer yet.
        changed: called with the key of a Resource when its delay has changed.
        metrics: counts unexpected exceptions.
    """

    def __init__(
        self,
        environment: Environment,
        open_orders: Callable[[Key], list[Order]],
        changed: Callable[[Key], None],
        *,
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        self._environment = environment
        self._informers = environment.informers
        self._drivers = environment.drivers
        self._open_orders = open_orders
        self._clock = environment.clock
        self._changed = changed
        self._metrics = metrics
        self._delays: dict[Key, Delay] = {}
        self._wake = asyncio.Event()

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"delays": self._delays.keys()}

    def get(self, key: Key) -> Delay | None:
        """Return the delay of the current or next start or stop of a Resource; None when it is on time."""
        return self._delays.get(key)

    def update_soon(self) -> None:
        """Update the delays soon, because an order waits or the next boundary of a Resource has changed."""
        self._wake.set()

    async def run(self) -> None:
        """Update the delays periodically until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.update()
            except Exception as error:  # noqa: BLE001 - a forecast must not end the leadership
                unexpected(self._metrics, FailedPart.DELAYS, "forecast", error)
            await self._clock.sleep(SPACING.total_seconds())
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD.total_seconds()):
                    await self._wake.wait()

    async def update(self) -> None:
        """Compute all delays, and call `changed` for each delay that differs from the last update."""
        waiting: list[_Waiting] = []
        coming: list[_Coming] = []
        for number, resource in enumerate(list(self._informers.resources.objects())):
            if number % _SLICE == 0:
                await self._clock.sleep(0)
            try:
                self._consider(resource, waiting, coming)
            except Exception as error:  # noqa: BLE001 - one Resource must not end the forecast for all
                unexpected(
                    self._metrics, FailedPart.DELAYS, "forecast", error, resource=str(key_of(resource))
                )
        found = await self._of_waiting(waiting) | await self._of_coming(coming)
        self._add_required(found)
        before, self._delays = self._delays, found
        for key in before | found:
            if before.get(key) != found.get(key):
                self._changed(key)

    def _consider(self, resource: Resource, waiting: list[_Waiting], coming: list[_Coming]) -> None:
        """Add a Resource to `waiting` if it has open orders, otherwise to `coming` if a boundary is near."""
        now, key = self._clock.now(), key_of(resource)
        snapshot = take_snapshot(self._environment, resource, now)
        if snapshot is None:
            return
        if orders := self._open_orders(key):
            waiting.append(_Waiting(key, snapshot, orders))
            return
        boundary = snapshot.state.next_change_at
        if boundary is None or boundary - now > HORIZON:
            return
        then = snapshot.at(boundary)
        action = Action.START if then.state.running_wanted else Action.STOP
        if not then.policy.suspend and (count := _count(snapshot, action)):
            coming.append(
                _Coming(key, snapshot, Demand(snapshot.group, action, count, boundary, key.namespace))
            )

    def _add_required(self, found: dict[Key, Delay]) -> None:
        """Add the delays of starts that wait for a required Resource whose start is late."""
        late, now = {key: delay for key, delay in found.items() if delay.is_start}, self._clock.now()
        dependents = {item for key in late for item in self._informers.requirements.all_dependents(key)}
        for key in sorted(dependents):
            resource = self._informers.resources.get(key)
            snapshot = take_snapshot(self._environment, resource, now) if resource else None
            due_at = _next_start(snapshot) if snapshot is not None else None
            if snapshot is None or due_at is None or due_at - now > HORIZON:
                continue
            required = {item.name: late[item] for item in self._informers.required(key) if item in late}
            delay = with_required(late.get(key), due_at, snapshot.policy.warm_up, required)
            if delay is not None:
                found[key] = delay

    async def _of_waiting(self, waiting: Sequence[_Waiting]) -> dict[Key, Delay]:
        found: dict[Key, Delay] = {}
        for service in dict.fromkeys(item.snapshot.group.service for item in waiting):
            mine = [item for item in waiting if item.snapshot.group.service == service]
            orders = [order for item in mine for order in item.orders]
            leaves = await self._drivers[service].batcher.expected(orders)
            for item in mine:
                leaves_at = max((leaves[order] for order in item.orders if order in leaves), default=None)
                at, snapshot = min(order.deadline for order in item.orders), item.snapshot
                starting = snapshot.at(max(at, snapshot.now)).state.running_wanted
                if leaves_at is None or leaves_at - snapshot.now <= TOLERANCE:
                    continue  # the order leaves at once, so the request limits are not what makes it late
                if late := _delay(snapshot, at, leaves_at, starting=starting):
                    found[item.key] = late
        return found

    async def _of_coming(self, coming: Sequence[_Coming]) -> dict[Key, Delay]:
        found: dict[Key, Delay] = {}
        for service in dict.fromkeys(item.snapshot.group.service for item in coming):
            mine = [item for item in coming if item.snapshot.group.service == service]
            leaves = await self._drivers[service].batcher.forecast([item.demand for item in mine])
            for item, leaves_at in zip(mine, leaves, strict=True):
                starting = item.demand.action is Action.START
                if late := _delay(item.snapshot, item.demand.at, leaves_at, starting=starting):
                    found[item.key] = late
        return found


def _next_start(snapshot: ResourceSnapshot) -> datetime | None:
    """Return when instances that are not ready are due to start (aware UTC); None if they are not."""
    if not snapshot.policy.may_act:
        return None
    observation, holder = snapshot.observation, snapshot.state.holder
    if observation is None or observation.all_ready:
        return None
    warm_up = snapshot.policy.warm_up
    if holder is not None:
        return holder.power_on_at(warm_up)
    return snapshot.timeline.state_at(snapshot.now, warm_up).next_change_at


def _delay(snapshot: ResourceSnapshot, at: datetime, leaves_at: datetime, *, starting: bool) -> Delay | None:
    return delay_of(at, leaves_at, is_start=starting, warm_up=snapshot.policy.warm_up)


def _count(snapshot: ResourceSnapshot, action: Action) -> int:
    """Count the instances that the next boundary will start or stop, by their present states."""
    observation = snapshot.observation
    if observation is None:
        return 0
    if action is Action.STOP:
        return observation.count(InstanceState.RUNNING) + observation.count(InstanceState.PENDING)
    return observation.count(InstanceState.STOPPED) + observation.count(InstanceState.STOPPING)
