"""All bookings of one resource, seen at one instant: who holds it, is it wanted, what comes next."""

from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter

from booking_operator.domain.booking import Booking

LEAD = timedelta(seconds=1.5)
"""How long before a boundary the instances are looked at: so the action can leave at the boundary itself."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the bookings of a resource say at one instant.

    Attributes:
        holder: the active booking that holds the lock, or None when nobody does.
        released: the booking that ended last, at or before this instant.
        next_at: the next instant at which anything here may change; later than the instant, or None.
        next_change_at: the next instant at which power is to change; later than the instant, or None.
    """

    holder: Booking | None
    released: Booking | None
    next_at: datetime | None
    next_change_at: datetime | None

    @property
    def wanted(self) -> bool:
        """Whether the instances are wanted running."""
        return self.holder is not None


_START, _END, _PRECEDENCE = attrgetter("start_at"), attrgetter("end_at"), attrgetter("precedence")


def moment(bookings: Collection[Booking], now: datetime, warm_up: timedelta = timedelta(0)) -> Moment:
    """What `bookings` say at `now` (aware UTC). Pure and total; the order of `bookings` is irrelevant."""
    # Of thousands of bookings most are over: of those, no more than the end is looked at.
    over = [booking for booking in bookings if booking.end_at <= now]
    rest = [booking for booking in bookings if booking.end_at > now]
    latest = max(map(_END, over), default=None)
    by = now + warm_up  # what starts until then is active
    active = [booking for booking in rest if booking.start_at <= by]
    coming = min((booking.start_at for booking in rest if booking.start_at > by), default=None)
    start = coming - warm_up if coming is not None else None
    first = _first(active)
    return Moment(
        holder=first,
        released=max(
            (booking for booking in over if booking.end_at == latest), key=_PRECEDENCE, default=None
        ),
        next_at=min((*map(_END, active), *([start] if start is not None else ())), default=None),
        next_change_at=_end_of_run(rest, active, warm_up) if first else start,
    )


def _first(active: Iterable[Booking]) -> Booking | None:
    return min(active, key=_PRECEDENCE, default=None)


def _end_of_run(bookings: Iterable[Booking], active: Iterable[Booking], warm_up: timedelta) -> datetime:
    """The end of the unbroken run of bookings that the active ones begin: back-to-back ones join it."""
    end = max(booking.end_at for booking in active)
    for booking in sorted(bookings, key=_START):
        if booking.wanted_from(warm_up) > end:
            break
        end = max(end, booking.end_at)
    return end


@dataclass(frozen=True, slots=True)
class Cause:
    """Why power is wanted as it is: since when an observation may back a decision.

    Attributes:
        wanted: the power that is wanted.
        basis: what else the decision rests on, such as the policy; a change of it is a cause of its own.
        since: a view of the instances taken before this instant proves nothing about it.
        planned: the change came at a boundary that was known ahead, not by an edit or a deletion.
        foreseen: the next boundary of power, as known now; arriving at it makes a change planned.
    """

    wanted: bool
    basis: Hashable
    since: datetime
    planned: bool
    foreseen: datetime | None


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
        since, planned = previous.foreseen - LEAD, True
    else:
        since, planned = now, False
    coming = seen.next_change_at
    if coming is not None and coming - LEAD <= now:
        since = max(since, coming - LEAD)
    # One from the future dates from before the clock was set back; no view would ever be young enough.
    since = min(since, now)
    return Cause(wanted=seen.wanted, basis=basis, since=since, planned=planned, foreseen=coming)


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
