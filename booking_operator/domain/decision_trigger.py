"""Why a resource is wanted as it is, when to look at it again, and the runs that its bookings make."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from booking_operator.domain.booking import Booking
from booking_operator.domain.booking_timeline import Moment

LEAD = timedelta(seconds=1.5)
"""How long before a boundary the instances are looked at: so the action can leave at the boundary itself."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why power is wanted as it is: since when an observation may back a decision.

    Attributes:
        wanted: the power that is wanted.
        basis: what else the decision rests on, such as the policy; a change of it is a cause of its own.
        since: a view of the instances taken before this instant proves nothing about it.
        planned: the change came at a boundary that was known ahead, not by an edit or a deletion.
        foreseen: the next boundary of power, as known now; arriving at it makes a change planned.
        shortened: an edit or a deletion has brought `foreseen` nearer while power was wanted, so what comes
            there is not planned.
    """

    wanted: bool
    basis: Hashable
    since: datetime
    planned: bool
    foreseen: datetime | None
    shortened: bool = False


def cause(previous: Cause | None, seen: Moment, now: datetime, basis: Hashable = None) -> Cause:
    """Follow the cause of the wanted power from one reconcile to the next.

    A change at a foreseen boundary counts from `LEAD` before it, because the view taken then is what makes
    the action leave at the boundary itself. Any other change counts from `now`, when it was seen. A boundary
    less than `LEAD` away asks for that view.
    """
    if previous is None or previous.basis != basis:
        since, planned = now, False
    elif previous.wanted == seen.wanted:
        since, planned = previous.since, previous.planned
    elif previous.foreseen is not None and previous.foreseen <= now:
        since, planned = previous.foreseen - LEAD, not previous.shortened
    else:
        since, planned = now, False
    coming, shortened = seen.next_change_at, False
    if previous is not None and previous.wanted and seen.wanted:
        sooner = previous.foreseen is not None and coming is not None and coming < previous.foreseen
        shortened = previous.shortened or sooner
    if coming is not None and coming - LEAD <= now:
        since = max(since, coming - LEAD)
    # One from the future dates from before the clock was set back; no view would ever be young enough.
    since = min(since, now)
    return Cause(seen.wanted, basis, since, planned, coming, shortened)


def wake_at(seen: Moment, now: datetime) -> datetime | None:
    """When to look at the resource again: at its next boundary, and `LEAD` before the next one of power."""
    instants = [seen.next_at]
    if seen.next_change_at is not None:
        instants += [seen.next_change_at - LEAD, seen.next_change_at]
    return min((instant for instant in instants if instant is not None and instant > now), default=None)


@dataclass(frozen=True, slots=True)
class Run:
    """An unbroken run of bookings: what begins before the last one ends joins it.

    Attributes:
        first: the booking that begins it.
        begins_at: when the instances are started, warm-up included (aware UTC).
        ends_at: when they are stopped.
    """

    first: Booking
    begins_at: datetime
    ends_at: datetime


def runs(bookings: Iterable[Booking], warm_up: timedelta = timedelta(0)) -> Iterator[Run]:
    """All runs that `bookings` make, in the order of time."""
    run: Run | None = None
    for booking in sorted(bookings, key=lambda booking: booking.precedence):
        begins_at = booking.wanted_from(warm_up)
        if run is not None and begins_at <= run.ends_at:
            run = replace(run, ends_at=max(run.ends_at, booking.end_at))
            continue
        if run is not None:
            yield run
        run = Run(booking, begins_at, booking.end_at)
    if run is not None:
        yield run
