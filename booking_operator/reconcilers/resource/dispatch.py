"""Turns the plan for a Resource into orders, keeps them in step with it, and tells what became of them.

An order carries the question whether it still stands, which the driver asks right before a call leaves: so
what was decided a moment ago, or waits for its turn, is never done against bookings as they are by then.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import Action, Order
from booking_operator.domain import conditions
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.conditions import Failure
from booking_operator.domain.formatting import summarize
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.ports import CacheConsistency, Drivers, Events, Status, Tell
from booking_operator.reconcilers.resource.lateness import Late, Punctuality, untold
from booking_operator.reconcilers.resource.orders import Orders, Outcome, Placed, first_retry, joined
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot, take_snapshot
from booking_operator.reconcilers.resource.start_times import StartTimes

PATIENCE = timedelta(seconds=2)
"""How long a new order is waited for: most are answered by then, so that one report tells it all."""

_VERBS = {Action.START: "Started", Action.STOP: "Stopped"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done to some instances of a Resource.

    Attributes:
        action: START or STOP.
        ids: of the instances.
        at: when; not before (aware UTC).
        claim: the booking that it is for, or that ends.
    """

    action: Action
    ids: Collection[str]
    at: datetime
    interval: BookingInterval | None


class Dispatcher:
    """Places, withdraws and settles the orders of all Resources.

    Attributes:
        punctuality: measures how late they are.
    """

    def __init__(
        self,
        informers: Informers,
        drivers: Drivers,
        status: Status[Resource],
        events: Events,
        consistency: CacheConsistency,
        orders: Orders,
        starts: StartTimes,
        clock: Clock,
        *,
        dry_run: bool,
        late: Late = untold,
    ) -> None:
        self._informers = informers
        self._drivers = drivers
        self._status = status
        self._events = events
        self._consistency = consistency
        self._orders = orders
        self._starts = starts
        self._clock = clock
        self._dry_run = dry_run
        self.punctuality = Punctuality(clock, late)

    def withdraw(self, key: Key) -> None:
        """Withdraw all that was ordered for a Resource."""
        self._orders.withdraw(key)

    def waiting(self, key: Key) -> list[Order]:
        """The orders of a Resource that are due and have not been answered."""
        return [placed.order for placed in self._orders.due(key, self._clock.now()) if placed.order.pending]

    def open_orders(self, key: Key) -> list[Order]:
        """The orders of a Resource that have not been answered, those ahead included."""
        return [placed.order for placed in self._orders.open(key)]

    def due(self, snapshot: ResourceSnapshot, wish: Wish) -> None:
        """Have in order what is due, and nothing else of that action."""
        self._order(snapshot, wish, ahead=False)

    def announce(self, snapshot: ResourceSnapshot, wish: Wish) -> None:
        """Have in order what will be due at `wish.at`, and nothing else ahead of that action."""
        self._order(snapshot, wish, ahead=True)

    def _order(self, snapshot: ResourceSnapshot, wish: Wish, *, ahead: bool) -> None:
        key, now = key_of(snapshot.resource), self._clock.now()
        missing = self._orders.missing(key, wish.action, wish.ids, now, ahead=ahead)
        if not missing:
            return
        wanted = wish.action is Action.START

        def stands() -> bool:
            return self._stands(key, wanted=wanted)

        news = partial(self._orders.wake, key)
        order = Order.of(
            snapshot.group,
            missing,
            wish.at,
            tenant=key.namespace,
            still_valid=stands,
            on_pending_error=news,
            on_accepted=self.punctuality.measure(key, wish.action, snapshot.group.service, wish.at),
        )
        if wanted:
            snapshot.driver.batcher.start(order)
        else:
            snapshot.driver.batcher.stop(order, hibernate=snapshot.policy.hibernate)
        self._orders.place(key, Placed(order, wish.action, wish.interval, now))

    def _stands(self, key: Key, *, wanted: bool) -> bool:
        """Whether a start (`wanted`) or stop is still to be done at this instant."""
        resource = self._informers.resources.get(key)
        if resource is None or resource.metadata.deletion_timestamp is not None:
            return False
        now, status = self._clock.now(), self._status.current(resource)
        snapshot = take_snapshot(self._informers, self._drivers, resource, status, now, dry_run=self._dry_run)
        if snapshot is None or not snapshot.policy.may_act or snapshot.state.running_wanted is not wanted:
            return False
        return wanted or not self._consistency.stale_reason()

    async def settled(self, snapshot: ResourceSnapshot) -> Failure | None:
        """Wait a moment for what is due, but not into the next boundary; tell what was done.

        Returns:
            Why something was not done, or is not yet; None where all is well, or merely waits for its turn.
        """
        key, now = key_of(snapshot.resource), self._clock.now()
        fresh = [max(placed.at, placed.order.deadline) + PATIENCE for placed in self._orders.due(key, now)]
        until = min(max(fresh, default=now), now + PATIENCE, snapshot.state.next_change_at or now + PATIENCE)
        outcomes = await self._orders.settled(key, (until - now).total_seconds(), now)
        for outcome in outcomes:
            self._tell(snapshot, outcome)
        failures = [_refused(outcome) for outcome in outcomes if outcome.errors]
        failures += [_troubled(outcome.placed.order) for outcome in outcomes if outcome.placed.order.pending]
        return joined(*failures)

    def _tell(self, snapshot: ResourceSnapshot, outcome: Outcome) -> None:
        if not outcome.done:
            return
        verb, interval, whom = _VERBS[outcome.placed.action], outcome.placed.interval, ""
        if outcome.placed.action is Action.START:
            self._starts.began(key_of(snapshot.resource), outcome.done, self._clock.now())
            whom = f" for {interval.user_id}" if interval else ""
        note = f"{verb} {summarize(outcome.done)}{whom}."
        self._events.normal(RESOURCE, snapshot.resource, verb, verb, note)
        self.tell_booking(snapshot, interval, self._events.normal, verb, note)

    def tell_booking(
        self, snapshot: ResourceSnapshot, interval: BookingInterval | None, tell: Tell, reason: str, note: str
    ) -> None:
        """Record an Event on the booking `claim` too, where there is such an object."""
        if interval is None or not interval.name:
            return
        booking = self._informers.bookings.get(Key(snapshot.resource.metadata.namespace, interval.name))
        if booking is not None:
            tell(BOOKING, booking, reason, reason, note)


def _refused(outcome: Outcome) -> Failure | None:
    first = next(iter(outcome.errors.values()))
    return conditions.with_retry_time(
        first.reason,
        f"{summarize(list(outcome.errors))}: {first}",
        first_retry(outcome.errors.values()),
    )


def _troubled(order: Order) -> Failure | None:
    if order.pending_error is None:
        return None
    text = f"{summarize(order.pending)}: {order.pending_error}"
    return conditions.with_retry_time(order.pending_error.reason, text, order.pending_error.retry_at)
