"""The orders of Resources: what the cloud driver was asked to do, and the results.

Each order has one state machine:

    ordered ahead --deadline--> due --answer--> settled --reported--> forgotten
         |                       |
         +-- no longer wanted ---+--> cancelled

A reconcile places orders, cancels the orders that are no longer wanted, and collects the answers. Each time
that it collects answers, it waits at most `ANSWER_TIMEOUT` for them. An order may take longer because it
waits in its request queue; its answer enqueues the Resource.

Invariants:
- An instance has at most one order in flight for the same action and the same kind (ahead or due).
- The driver calls `Order.still_valid` right before a call. An order that newer bookings contradict is
  cancelled there.
- Each acceptance is reported once, as an Event on the Resource and on its Booking. Failures become
  conditions.

The module takes two measurements. Lateness is the service level indicator: for each instance, the time from a
boundary that was known ahead to the acceptance of the call. The start time is the time from the first
accepted call of a start until all of its instances run. `warm_up: auto` uses the start times.
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
from booking_operator.domain.instance import Observation
from booking_operator.domain.power import UnbookedPolicy
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.environment import Environment, RecordEvent
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot, take_snapshot

ANSWER_TIMEOUT = timedelta(seconds=2)
"""How long a reconcile waits for the answers to due orders. Most answers arrive within this time."""

Late = Callable[[Action, str, float, int], None]
"""Records a lateness: START or STOP, the service, the lateness in seconds, and the number of instances."""


def ignore_lateness(_: Action, __: str, ___: float, ____: int) -> None:
    """Record no lateness."""


_VERBS = {Action.START: "Started", Action.STOP: "Stopped"}


@dataclass(slots=True, eq=False)
class _Placed:
    """An order that was handed to the driver.

    Attributes:
        order: the order.
        action: START or STOP.
        booking: the booking that causes a start, or whose end causes a stop; None when there is none.
        unbooked: the policy by which the order was decided.
        placed_at: when the order was placed (aware UTC).
        valid_for: the input of the decision, or of the last successful validity check; None if there is none.
        reported: the instances whose outcome was reported.
        watched: the instances whose outcome enqueues the Resource.
    """

    order: Order
    action: Action
    booking: BookingInterval | None
    unbooked: UnbookedPolicy
    placed_at: datetime
    valid_for: "_ValidityInput | None" = None
    reported: set[str] = field(default_factory=set)
    watched: set[str] = field(default_factory=set)

    def cancelled(self, id_: str) -> bool:
        """Whether the order is cancelled for an instance."""
        return self.order.futures[id_].cancelled()

    def watch(self, wake: Callable[[Future[Any]], None]) -> None:
        """Call `wake` once for each instance that has no outcome yet."""
        for id_ in set(self.order.pending) - self.watched:
            self.watched.add(id_)
            self.order.futures[id_].add_done_callback(wake)

    def take_outcome(self) -> "_Outcome":
        """Return the outcomes that were not reported yet, and mark them as reported.

        Raises:
            Exception: an outcome is an error other than `CloudError`, which is a bug.
        """
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
class _ValidityInput:
    """The input of a validity check. While it holds, another check has the same result.

    Attributes:
        revision: the revision of the bookings and of the Resource, see `Informers.revision`.
        from_: the instant of the check (aware UTC).
        until: the next instant at which a booking begins or ends (aware UTC); None for never.
    """

    revision: tuple[int, int]
    from_: datetime
    until: datetime | None

    def holds(self, revision: tuple[int, int], now: datetime) -> bool:
        """Whether the input is the same at `now` (aware UTC)."""
        return self.revision == revision and self.from_ <= now and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """New outcomes of an order.

    Attributes:
        placed: the order.
        done: the instances for which the service accepted the call.
        errors: the error of each failed instance.
    """

    placed: _Placed
    done: list[str]
    errors: dict[str, CloudError]


@dataclass(frozen=True, slots=True)
class _RunningStart:
    """Instances of one start. The service accepted the first of them at `accepted_at` (aware UTC)."""

    ids: frozenset[str]
    accepted_at: datetime


@dataclass(slots=True)
class _State:
    """The state of one Resource.

    Attributes:
        placed: its orders.
        next_change_at: the next boundary, by the known bookings (aware UTC); None for never.
        missed_change_at: the last boundary, until the group is as booked (aware UTC); None otherwise.
        start: the start whose instances do not all run yet; None when there is none.
    """

    placed: list[_Placed] = field(default_factory=list)
    next_change_at: datetime | None = None
    missed_change_at: datetime | None = None
    start: _RunningStart | None = None


class ResourceOrders:
    """The orders of all Resources.

    Args:
        environment: what all reconcilers share.
        wake: called with the key of a Resource whose orders have news; it enqueues the Resource.
        late: called for each acceptance that counts for the service level indicator.
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
        """The keys of the entries, by collection."""
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
        """Place an order for an action, and cancel the orders of other instances for the same action.

        Instances that already have an order get no second one. Orders ahead and due orders are separate: a
        call compares and cancels only orders of its own kind.

        Args:
            snapshot: the snapshot of the Resource.
            action: START or STOP.
            ids: all instances for which the action is wanted.
            at: the deadline of the action: the driver does not send the call earlier (aware UTC).
            booking: the booking that causes a start, or whose end causes a stop.
            ahead: whether the order is for the next boundary.
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
        unbooked = snapshot.policy.unbooked
        placed = _Placed(order, action, booking, unbooked, now, _validity_input(snapshot, action, unbooked))
        self._states.setdefault(key, _State()).placed.append(placed)
        if action is Action.START:
            snapshot.driver.batcher.start(order)
        else:
            snapshot.driver.batcher.stop(order, hibernate=snapshot.policy.hibernate)

    def _missing(
        self, key: Key, action: Action, wanted: Collection[str], now: datetime, *, ahead: bool
    ) -> list[str]:
        """Cancel the instances that are no longer wanted. Returns the wanted instances without an order."""
        ordered: set[str] = set()
        for placed in self._placed(key):
            if placed.action is not action or (placed.order.deadline > now) is not ahead:
                continue
            # An instance with an unreported outcome gets no new order before the outcome is reported.
            ordered |= {
                id_ for id_ in placed.order.futures.keys() - placed.reported if not placed.cancelled(id_)
            }
            for id_ in placed.order.pending:
                if id_ not in wanted:
                    placed.order.futures[id_].cancel()
        return [id_ for id_ in wanted if id_ not in ordered]

    def release(self, key: Key) -> None:
        """Cancel all orders of a Resource, and remove its state."""
        state = self._states.pop(key, None)
        for placed in state.placed if state else ():
            placed.order.cancel()

    def _still_valid(self, key: Key, placed: _Placed) -> bool:
        """Whether bookings and policy still want the action now. A stop also needs synced caches.

        The check ignores the states of the instances: a start of a running instance has no effect.

        If the input of the last check is unchanged, the check only compares revisions. A thousand orders are
        checked at one boundary.
        """
        now, informers = self._clock.now(), self._environment.informers
        if placed.valid_for is None or not placed.valid_for.holds(informers.revision(key), now):
            resource = informers.resources.get(key)
            if resource is None or resource.metadata.deletion_timestamp is not None:
                return False
            snapshot = take_snapshot(self._environment, resource, now)
            valid_for = _validity_input(snapshot, placed.action, placed.unbooked) if snapshot else None
            if valid_for is None:
                return False
            placed.valid_for = valid_for
        return placed.action is Action.START or not self._environment.consistency.stale_reason()

    # Read orders

    def waiting(self, key: Key) -> list[Order]:
        """Return the orders of a Resource that are due and have no answer yet."""
        return [placed.order for placed in self._due(key, self._clock.now()) if placed.order.pending]

    def open_orders(self, key: Key) -> list[Order]:
        """Return the orders of a Resource that have no answer yet, including orders ahead."""
        return [placed.order for placed in self._placed(key) if placed.order.pending]

    def _placed(self, key: Key) -> list[_Placed]:
        state = self._states.get(key)
        return state.placed if state else []

    def _due(self, key: Key, now: datetime) -> list[_Placed]:
        return [placed for placed in self._placed(key) if placed.order.deadline <= now]

    # Collect answers

    async def collect_answers(self, snapshot: ResourceSnapshot) -> Failure | None:
        """Wait for the answers to the due orders of a Resource, and report the outcomes.

        The wait ends `ANSWER_TIMEOUT` after the orders were placed and due, or at the next boundary.

        Returns:
            Why an action failed, or why its call is delayed by an error; None when nothing failed.
        """
        key, now = key_of(snapshot.resource), self._clock.now()
        due = self._due(key, now)
        latest = [max(placed.placed_at, placed.order.deadline) + ANSWER_TIMEOUT for placed in due]
        limit = snapshot.state.next_change_at or now + ANSWER_TIMEOUT
        until = min(max(latest, default=now), now + ANSWER_TIMEOUT, limit)
        await self._wait(key, due, (until - now).total_seconds())
        outcomes = [placed.take_outcome() for placed in due]
        self._forget_settled(key)
        for outcome in outcomes:
            self._report(snapshot, outcome)
        failed = [_failure(outcome.errors) for outcome in outcomes if outcome.errors]
        now = self._clock.now()
        return first_failure(*failed, *(_pending_failure(outcome.placed.order, now) for outcome in outcomes))

    async def _wait(self, key: Key, due: Iterable[_Placed], seconds: float) -> None:
        """Wait at most `seconds` for answers. Later answers enqueue the Resource."""
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
        """Record an Event on the Booking of a booking interval. An ad-hoc booking has no object."""
        if booking is None or not booking.name:
            return
        key = Key(resource.metadata.namespace, booking.name)
        found = self._environment.informers.bookings.get(key)
        if found is not None:
            record(BOOKING, found, reason, reason, note)

    # Lateness

    def expect_change(self, key: Key, next_change_at: datetime | None, known_before: datetime | None) -> None:
        """Record the next boundary of a Resource.

        A boundary counts for the service level indicator if this process, or an earlier leader, knew it
        ahead. The following causes do not count: a booking that begins at its creation, an edit, a deletion,
        and an instance that a user started by hand. A boundary counts until the group is as booked for the
        first time after it.

        Args:
            key: the key of the Resource.
            next_change_at: the next boundary by its bookings (aware UTC); None for never.
            known_before: the next boundary in its status, for the first call in this process (aware UTC).
        """
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State(next_change_at=known_before)
        if state.next_change_at is not None and state.next_change_at <= self._clock.now():
            state.missed_change_at = state.next_change_at
        state.next_change_at = next_change_at

    def as_booked(self, key: Key) -> None:
        """Record that the group of a Resource is as booked, or that the operator may not act on it.

        Later orders no longer count as late for the last boundary.
        """
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
        """Return the instances of the last accepted start; empty once all of them run."""
        state = self._states.get(key)
        return state.start.ids if state and state.start else frozenset()

    def complete_start(self, key: Key, observation: Observation | None) -> timedelta | None:
        """End the last start if the observation shows that all of its instances are ready.

        Returns:
            The time from the first accepted call until all instances were seen as ready; None if the start is
            not complete, or if there is no start.
        """
        state = self._states.get(key)
        start = state.start if state else None
        if state is None or start is None or observation is None or observation.at < start.accepted_at:
            return None
        ready = {item.id: item.check for item in observation.instances if item.ready}
        if not start.ids <= ready.keys():
            return None
        state.start = None
        passed = (check.passed_at for id_ in start.ids if (check := ready[id_]) is not None)
        return max((at for at in passed if at), default=observation.at) - start.accepted_at

    def forget_start(self, key: Key) -> None:
        """Stop the measurement of the last start, because the Resource is no longer booked."""
        state = self._states.get(key)
        if state is not None:
            state.start = None


def _validity_input(
    snapshot: ResourceSnapshot, action: Action, unbooked: UnbookedPolicy
) -> _ValidityInput | None:
    """Return the input of a validity check; None when the action is not wanted.

    A stop that was decided by another `unbooked` policy is not wanted: `Leave` may keep its instances
    running.
    """
    start, policy = action is Action.START, snapshot.policy
    wanted = policy.may_act and snapshot.state.running_wanted is start
    if not wanted or not (start or policy.unbooked is unbooked):
        return None
    return _ValidityInput(snapshot.revision, snapshot.now, snapshot.state.next_at)


def first_retry(errors: Iterable[CloudError | Failure]) -> datetime | None:
    """Return the earliest `retry_at` (aware UTC); None if one of the errors has none."""
    instants = [error.retry_at for error in errors]
    known = [instant for instant in instants if instant is not None]
    return min(known) if known and len(known) == len(instants) else None


def first_failure(*failures: Failure | None) -> Failure | None:
    """Return the first failure, with the `retry_at` of those that need a reconcile; None if there is none."""
    known = [failure for failure in failures if failure is not None]
    if not known:
        return None
    to_reconcile = [failure for failure in known if not failure.in_request_queue]
    retry_at = first_retry(to_reconcile or known)
    return replace(known[0], retry_at=retry_at, in_request_queue=not to_reconcile)


def _failure(errors: dict[str, CloudError]) -> Failure:
    first = next(iter(errors.values()))
    return with_retry_time(first.reason, f"{summarize(list(errors))}: {first}", first_retry(errors.values()))


def _pending_failure(order: Order, now: datetime) -> Failure | None:
    """Return why a request queue repeats a call; None if it does not.

    While the entries of the order wait for tokens, the planned time of the next call may have passed.
    """
    error = order.pending_error
    if error is None:
        return None
    retry_at = error.retry_at if error.retry_at is not None and error.retry_at > now else None
    failure = with_retry_time(error.reason, f"{summarize(order.pending)}: {error}", retry_at)
    return replace(failure, in_request_queue=True)
