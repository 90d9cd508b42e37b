"""Why a resource is wanted as it is, when to look at it again, and the runs that its bookings make."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import TimelineState

LEAD_TIME = timedelta(seconds=1.5)
"""How long before a boundary the instances are looked at: so the action can leave at the boundary itself."""


@dataclass(frozen=True, slots=True)
class DecisionTrigger:
    """Why power is wanted as it is: since when an observation may back a decision.

    Attributes:
        running_wanted: the power that is wanted.
        basis: what else the decision rests on, such as the policy; a change of it is a cause of its own.
        observed_since: a view of the instances taken before this instant proves nothing about it.
        planned: the change came at a boundary that was known ahead, not by an edit or a deletion.
        expected_change_at: the next boundary of power, as known now; arriving at it makes a change planned.
        brought_forward: an edit or a deletion has brought `expected_change_at` nearer while power was wanted,
        so what comes
            there is not planned.
    """

    running_wanted: bool
    basis: Hashable
    observed_since: datetime
    planned: bool
    expected_change_at: datetime | None
    brought_forward: bool = False


def next_trigger(
    previous: DecisionTrigger | None, state: TimelineState, now: datetime, basis: Hashable = None
) -> DecisionTrigger:
    """Follow the cause of the wanted power from one reconcile to the next.

    A change at a foreseen boundary counts from `LEAD` before it, because the view taken then is what makes
    the action leave at the boundary itself. Any other change counts from `now`, when it was seen. A boundary
    less than `LEAD` away asks for that view.
    """
    if previous is None or previous.basis != basis:
        since, planned = now, False
    elif previous.running_wanted == state.running_wanted:
        since, planned = previous.observed_since, previous.planned
    elif previous.expected_change_at is not None and previous.expected_change_at <= now:
        since, planned = previous.expected_change_at - LEAD_TIME, not previous.brought_forward
    else:
        since, planned = now, False
    coming, shortened = state.next_change_at, False
    if previous is not None and previous.running_wanted and state.running_wanted:
        sooner = (
            previous.expected_change_at is not None
            and coming is not None
            and coming < previous.expected_change_at
        )
        shortened = previous.brought_forward or sooner
    if coming is not None and coming - LEAD_TIME <= now:
        since = max(since, coming - LEAD_TIME)
    # One from the future dates from before the clock was set back; no view would ever be young enough.
    since = min(since, now)
    return DecisionTrigger(state.running_wanted, basis, since, planned, coming, shortened)


def next_wake_up(state: TimelineState, now: datetime) -> datetime | None:
    """When to look at the resource again: at its next boundary, and `LEAD` before the next one of power."""
    instants = [state.next_at]
    if state.next_change_at is not None:
        instants += [state.next_change_at - LEAD_TIME, state.next_change_at]
    return min((instant for instant in instants if instant is not None and instant > now), default=None)


@dataclass(frozen=True, slots=True)
class BusyPeriod:
    """An unbroken run of bookings: what begins before the last one ends joins it.

    Attributes:
        first: the booking that begins it.
        begins_at: when the instances are started, warm-up included (aware UTC).
        ends_at: when they are stopped.
    """

    first: BookingInterval
    begins_at: datetime
    ends_at: datetime


def busy_periods(
    bookings: Iterable[BookingInterval], warm_up: timedelta = timedelta(0)
) -> Iterator[BusyPeriod]:
    """All runs that `bookings` make, in the order of time."""
    run: BusyPeriod | None = None
    for booking in sorted(bookings, key=lambda booking: booking.precedence):
        begins_at = booking.power_on_at(warm_up)
        if run is not None and begins_at <= run.ends_at:
            run = replace(run, ends_at=max(run.ends_at, booking.end_at))
            continue
        if run is not None:
            yield run
        run = BusyPeriod(booking, begins_at, booking.end_at)
    if run is not None:
        yield run
