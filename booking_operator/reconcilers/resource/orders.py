"""The orders of Resources: what was asked of the cloud driver, and what became of it.

One state machine for each Resource:

    ordered ahead --deadline--> due --answer--> settled --reported--> forgotten
         |                       |
         +-- no longer wanted ---+--> cancelled

A reconcile places orders, cancels those that are no longer wanted, and collects the answers. It waits only
`SETTLE_WAIT` for them: an order that takes longer, because it waits for its turn, wakes the Resource when it
is answered.

Invariants:
- An instance is never ordered twice for the same action.
- An order carries the question whether it is still valid. The driver asks it right before a call, so a
  decision is never carried out against newer bookings.
- Each outcome is reported once, as an Event on the Resource and on its booking.

Two measurements belong to the orders. Lateness is the service level: the time from a boundary that was known
before it came to the acceptance of the call, for each instance. The start time is how long a group takes from
the accepted call until all of its instances run; `warm_up: auto` learns from it.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import Action, CloudError, Order, ignore_accepted
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.conditions import Failure, with_retry_time
from booking_operator.domain.formatting import summarize
from booking_operator.domain.instance import InstanceState, Observation
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.environment import Environment, RecordEvent
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot, take_snapshot

SETTLE_WAIT = timedelta(seconds=2)
"""How long a reconcile waits for the answers to new orders. Most of them arrive by then."""

Late = Callable[[Action, str, float, int], None]
"""Records a lateness: START or STOP, the service, how late in seconds, and for how many instances."""


def ignore_lateness(_: Action, __: str, ___: float, ____: int) -> None:
    """Record no lateness."""


_VERBS = {Action.START: "Started", Action.STOP: "Stopped"}


@dataclass(slots=True, eq=False)
class _Placed:
    """An order that the driver has.

    Attributes:
        order: the order.
        action: START or STOP.
        booking: the booking that it is for, or that has ended; None where there is none.
        placed_at: when it was placed (aware UTC).
        basis: what its validity was last proven for; None where it was not.
        reported: the instances whose outcome was reported.
        watched: the instances whose outcome wakes the Resource.
    """

    order: Order
    action: Action
    booking: BookingInterval | None
    placed_at: datetime
    basis: "_Basis | None" = None
    reported: set[str] = field(default_factory=set)
    watched: set[str] = field(default_factory=set)

    def cancelled(self, id_: str) -> bool:
        """Whether the order no longer concerns the instance."""
        return self.order.futures[id_].cancelled()

    def watch(self, wake: Callable[[Future[Any]], None]) -> None:
        """Call `wake` once for each instance that has no outcome yet."""
        for id_ in set(self.order.pending) - self.watched:
            self.watched.add(id_)
            self.order.futures[id_].add_done_callback(wake)

    def take_outcome(self) -> "_Outcome":
        """What became of the instances whose outcome was not reported yet. They count as reported now."""
        done: list[str] = []
        errors: dict[str, CloudError] = {}
        for id_, future in self.order.futures.items():
            if id_ in self.reported or not future.done():
                continue
            self.reported.add(id_)
            error = None if future.cancelled() else future.exception()
            if isinstance(error, CloudError):
                errors[id_] = error
            elif error is not None:
                raise error
            elif not future.cancelled():
                done.append(id_)
        return _Outcome(self, done, errors)


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a validity check depends on: unless one of these changes, it has the same result.

    Attributes:
        revision: of the bookings and the Resource.
        from_: the instant of the check (aware UTC).
        until: when the bookings change by themselves; None for never.
    """

    revision: tuple[int, int]
    from_: datetime
    until: datetime | None

    def holds(self, revision: tuple[int, int], now: datetime) -> bool:
        """Whether nothing relevant has changed."""
        return self.revision == revision and self.from_ <= now and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The accepted and the failed instances of an order."""

    placed: _Placed
    done: list[str]
    errors: dict[str, CloudError]


@dataclass(frozen=True, slots=True)
class _RunningStart:
    """Instances whose start was accepted, the first of them at `accepted_at` (aware UTC)."""

    ids: frozenset[str]
    accepted_at: datetime


@dataclass(slots=True)
class _State:
    """The state of one Resource.

    Attributes:
        placed: its orders.
        next_change_at: when its power changes next, as far as its bookings are known (aware UTC).
        missed_change_at: when its power should have changed, while that is not done (aware UTC).
        start: its start that is not complete yet.
    """

    placed: list[_Placed] = field(default_factory=list)
    next_change_at: datetime | None = None
    missed_change_at: datetime | None = None
    start: _RunningStart | None = None


class ResourceOrders:
    """The orders of all Resources.

    Args:
        environment: what all reconcilers share.
        wake: called with the key of a Resource that has to look at its orders.
        late: called for each acceptance that counts for the service level.
    """

    def __init__(
        self, environment: Environment, wake: Callable[[Key], None], late: Late = ignore_lateness
    ) -> None:
        self._environment = environment
        self._clock = environment.clock
        self._wake = wake
        self._late = late
        self._states: dict[Key, _State] = {}

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        placed = [key for key, state in self._states.items() if state.placed]
        return {"states": self._states.keys(), "placed": placed}

    # Place and cancel

    def place(
        self,
        snapshot: ResourceSnapshot,
        action: Action,
        ids: Collection[str],
        at: datetime,
        booking: BookingInterval | None,
        *,
        ahead: bool = False,
    ) -> None:
        """Order what is due, and cancel every other due order of that action.

        Args:
            snapshot: the Resource.
            action: START or STOP.
            ids: the instances.
            at: when the action was due (aware UTC).
            booking: the booking that it is for, or that has ended.
            ahead: order what will be due at `at`, and cancel every other order ahead of that action.
        """
        key, now = key_of(snapshot.resource), self._clock.now()
        missing = self._missing(key, action, ids, now, ahead=ahead)
        if not missing:
            return
        placed: _Placed
        order = Order.of(
            snapshot.group,
            missing,
            at,
            tenant=key.namespace,
            still_valid=lambda: self._still_valid(key, placed),
            on_pending_error=partial(self._wake, key),
            on_accepted=self._lateness_callback(key, action, snapshot.group.service, at),
        )
        placed = _Placed(order, action, booking, now, _basis(snapshot, action))
        self._states.setdefault(key, _State()).placed.append(placed)
        if action is Action.START:
            snapshot.driver.batcher.start(order)
        else:
            snapshot.driver.batcher.stop(order, hibernate=snapshot.policy.hibernate)

    def _missing(
        self, key: Key, action: Action, wanted: Collection[str], now: datetime, *, ahead: bool
    ) -> list[str]:
        """Cancel what is no longer wanted. Returns the wanted instances for which there is no order yet."""
        ordered: set[str] = set()
        for placed in self._placed(key):
            if placed.action is not action or (placed.order.deadline > now) is not ahead:
                continue
            # An outcome that was not reported yet is reported before the instance is ordered again.
            ordered |= {
                id_ for id_ in placed.order.futures.keys() - placed.reported if not placed.cancelled(id_)
            }
            for id_ in placed.order.pending:
                if id_ not in wanted:
                    placed.order.futures[id_].cancel()
        return [id_ for id_ in wanted if id_ not in ordered]

    def release(self, key: Key) -> None:
        """Cancel all orders of a Resource and forget it."""
        state = self._states.pop(key, None)
        for placed in state.placed if state else ():
            placed.order.cancel()

    def _still_valid(self, key: Key, placed: _Placed) -> bool:
        """Whether the action is still wanted now. If nothing changed, this only compares revisions."""
        now = self._clock.now()
        if placed.basis is not None and placed.basis.holds(self._environment.informers.revision(key), now):
            return placed.action is Action.START or not self._environment.consistency.stale_reason()
        resource = self._environment.informers.resources.get(key)
        if resource is None or resource.metadata.deletion_timestamp is not None:
            return False
        snapshot = take_snapshot(self._environment, resource, now)
        basis = _basis(snapshot, placed.action) if snapshot else None
        if basis is None:
            return False
        placed.basis = basis
        return placed.action is Action.START or not self._environment.consistency.stale_reason()

    # Look at orders

    def waiting(self, key: Key) -> list[Order]:
        """The orders of a Resource that are due and have no answer yet."""
        return [placed.order for placed in self._due(key, self._clock.now()) if placed.order.pending]

    def open_orders(self, key: Key) -> list[Order]:
        """The orders of a Resource that have no answer yet, including those ahead."""
        return [placed.order for placed in self._placed(key) if placed.order.pending]

    def _placed(self, key: Key) -> list[_Placed]:
        state = self._states.get(key)
        return state.placed if state else []

    def _due(self, key: Key, now: datetime) -> list[_Placed]:
        return [placed for placed in self._placed(key) if placed.order.deadline <= now]

    # Collect answers

    async def settle(self, snapshot: ResourceSnapshot) -> Failure | None:
        """Wait a moment for the answers to what is due, but not into the next boundary, and report them.

        Returns:
            Why something was not done, or is not done yet; None where nothing failed.
        """
        key, now = key_of(snapshot.resource), self._clock.now()
        due = self._due(key, now)
        latest = [max(placed.placed_at, placed.order.deadline) + SETTLE_WAIT for placed in due]
        limit = snapshot.state.next_change_at or now + SETTLE_WAIT
        until = min(max(latest, default=now), now + SETTLE_WAIT, limit)
        await self._wait(key, due, (until - now).total_seconds())
        outcomes = [placed.take_outcome() for placed in due]
        self._forget_settled(key)
        for outcome in outcomes:
            self._report(snapshot, outcome)
        failed = [_failure(outcome.errors) for outcome in outcomes if outcome.errors]
        return first_failure(*failed, *(_pending_failure(outcome.placed.order) for outcome in outcomes))

    async def _wait(self, key: Key, due: Iterable[_Placed], seconds: float) -> None:
        """Wait at most so long for answers. Later ones wake the Resource."""
        futures = [future for placed in due for future in placed.order.futures.values() if not future.done()]
        if futures:
            await asyncio.wait(futures, timeout=max(0.0, seconds))
            for placed in due:
                placed.watch(lambda _: self._wake(key))

    def _forget_settled(self, key: Key) -> None:
        state = self._states.get(key)
        if state is not None:
            state.placed = [placed for placed in state.placed if placed.order.pending]

    def _report(self, snapshot: ResourceSnapshot, outcome: _Outcome) -> None:
        if not outcome.done:
            return
        verb, booking, user = _VERBS[outcome.placed.action], outcome.placed.booking, ""
        if outcome.placed.action is Action.START:
            self._start_accepted(key_of(snapshot.resource), outcome.done)
            user = f" for {booking.user_id}" if booking else ""
        note = f"{verb} {summarize(outcome.done)}{user}."
        events = self._environment.events
        events.normal(RESOURCE, snapshot.resource, verb, verb, note)
        self.report_on_booking(snapshot.resource, booking, events.normal, verb, note)

    def report_on_booking(
        self, resource: Resource, booking: BookingInterval | None, record: RecordEvent, reason: str, note: str
    ) -> None:
        """Record an Event on a booking, if it has an object. An ad-hoc booking has none."""
        if booking is None or not booking.name:
            return
        key = Key(resource.metadata.namespace, booking.name)
        found = self._environment.informers.bookings.get(key)
        if found is not None:
            record(BOOKING, found, reason, reason, note)

    # Lateness

    def expect_change(self, key: Key, next_change_at: datetime | None, known_before: datetime | None) -> None:
        """Record when the power of a Resource changes next.

        A boundary counts for the service level if it was known before it came, to this process or to the one
        before. What nobody could foresee does not count: a booking for now, an edit, a deletion,
        or an instance that somebody started by hand. A boundary counts until the group is as booked for the
        first time after it.

        Args:
            key: the Resource.
            next_change_at: by its bookings (aware UTC); None for never.
            known_before: what its status said before this process knew the Resource (aware UTC).
        """
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(next_change_at=known_before)
        if state.next_change_at is not None and state.next_change_at <= self._clock.now():
            state.missed_change_at = state.next_change_at
        state.next_change_at = next_change_at

    def as_booked(self, key: Key) -> None:
        """The group of a Resource is as booked, or no longer has to be. Later orders have another reason."""
        state = self._states.get(key)
        if state is not None:
            state.missed_change_at = None

    def _lateness_callback(
        self, key: Key, action: Action, service: str, deadline: datetime
    ) -> Callable[[int], None]:
        state = self._states.get(key)
        if state is None or deadline not in {state.next_change_at, state.missed_change_at}:
            return ignore_accepted

        def accepted(instances: int) -> None:
            seconds = (self._clock.now() - deadline).total_seconds()
            self._late(action, service, max(0.0, seconds), instances)

        return accepted

    # Start times

    def _start_accepted(self, key: Key, ids: Collection[str]) -> None:
        state = self._states.setdefault(key, _State())
        if state.start is None:
            state.start = _RunningStart(frozenset(ids), self._clock.now())
        else:
            state.start = replace(state.start, ids=state.start.ids | frozenset(ids))

    def starting(self, key: Key) -> frozenset[str]:
        """The instances of a Resource whose start was accepted, until all of them run."""
        state = self._states.get(key)
        return state.start.ids if state and state.start else frozenset()

    def complete_start(self, key: Key, observation: Observation | None) -> timedelta | None:
        """How long the last start took, once all of it runs; None before that, and without a start."""
        state = self._states.get(key)
        start = state.start if state else None
        if state is None or start is None or observation is None or observation.at < start.accepted_at:
            return None
        if not start.ids <= set(observation.ids(InstanceState.RUNNING)):
            return None
        state.start = None
        return observation.at - start.accepted_at

    def forget_start(self, key: Key) -> None:
        """The last start no longer matters, because the Resource is not booked any more."""
        state = self._states.get(key)
        if state is not None:
            state.start = None


def _basis(snapshot: ResourceSnapshot, action: Action) -> _Basis | None:
    """What the validity of an order depends on; None where the snapshot does not want the action."""
    wanted = snapshot.policy.may_act and snapshot.state.running_wanted is (action is Action.START)
    return _Basis(snapshot.revision, snapshot.now, snapshot.state.next_at) if wanted else None


def first_retry(errors: Iterable[CloudError | Failure]) -> datetime | None:
    """The earliest instant of a next attempt; None where one of them is not known."""
    instants = [error.retry_at for error in errors]
    known = [instant for instant in instants if instant is not None]
    return min(known) if known and len(known) == len(instants) else None


def first_failure(*failures: Failure | None) -> Failure | None:
    """The first of several failures, with the earliest next attempt of all; None where there is none."""
    known = [failure for failure in failures if failure is not None]
    return replace(known[0], retry_at=first_retry(known)) if known else None


def _failure(errors: dict[str, CloudError]) -> Failure:
    first = next(iter(errors.values()))
    return with_retry_time(first.reason, f"{summarize(list(errors))}: {first}", first_retry(errors.values()))


def _pending_failure(order: Order) -> Failure | None:
    error, pending = order.pending_error, order.pending
    if error is None or not pending:
        return None
    return with_retry_time(error.reason, f"{summarize(pending)}: {error}", error.retry_at)
