"""All bookings of one resource, kept in order, so that what they say at an instant is found without a walk.

A team may make tens of thousands of bookings of one resource, and each change of one of them asks anew. Two
lists in order answer: all bookings by their ends, and by precedence those that are not over. The second moves
along with the clock, and back with it.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from booking_operator.domain.booking import Booking

_START, _END, _PRECEDENCE = attrgetter("start_at"), attrgetter("end_at"), attrgetter("precedence")
_NEVER = datetime.min.replace(tzinfo=UTC)
_MANY = 8
"""Where more than one in so many has ended, all are sorted anew."""


def _ending(booking: Booking) -> tuple[Any, ...]:
    return (booking.end_at, *booking.precedence)


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


@dataclass(slots=True)
class _Run:
    """The unbroken run of bookings that is going on, as it was found at `at` for one warm-up."""

    warm_up: timedelta
    at: datetime
    end: datetime


class Agenda:
    """The bookings of one resource. To ask, and to add or remove one, takes no walk over all of them."""

    def __init__(self, bookings: Iterable[Booking] = ()) -> None:
        self._all: list[Booking] = []
        self._open: list[Booking] = []  # those that end after the mark
        self._mark = _NEVER
        self._coming = list(bookings)
        self._run: _Run | None = None

    def __len__(self) -> int:
        """How many bookings there are."""
        return len(self._all) + len(self._coming)

    def __iter__(self) -> Iterator[Booking]:
        """All bookings, in no order."""
        return chain(self._all, self._coming)

    def __contains__(self, booking: object) -> bool:
        """Whether it is one of them."""
        return any(booking == known for known in self)

    def add(self, booking: Booking) -> None:
        """Add a booking."""
        self._coming.append(booking)

    def discard(self, booking: Booking) -> None:
        """Remove a booking, if it is there."""
        self._settle()
        if not _remove(self._all, booking, _ending):
            return
        _remove(self._open, booking, _PRECEDENCE)
        run = self._run
        # One that is over matters as well, to a clock that is set back.
        if run is not None and run.at < booking.end_at and booking.wanted_from(run.warm_up) <= run.end:
            self._run = None

    def _settle(self) -> None:
        """Put what was added into order: many at once, as the first list brings them, or each by itself."""
        coming, self._coming = self._coming, []
        if len(coming) > len(self._all) // _MANY:
            self._all = sorted([*self._all, *coming], key=_ending)
            self._open = sorted(self._all[bisect_right(self._all, self._mark, key=_END) :], key=_PRECEDENCE)
            self._run = None
            return
        for booking in coming:
            insort(self._all, booking, key=_ending)
            if booking.end_at > self._mark:
                insort(self._open, booking, key=_PRECEDENCE)
            self._join(booking)

    def _join(self, booking: Booking) -> None:
        run = self._run
        if run is None or not booking.wanted_from(run.warm_up) <= run.end < booking.end_at:
            return
        if booking.end_at <= self._mark:
            self._run = None  # of what is over nobody knows what else joins it
        else:
            beyond = bisect_right(self._open, run.end + run.warm_up, key=_START)
            run.end = self._stretched(booking.end_at, run.warm_up, beyond)

    def moment(self, now: datetime, warm_up: timedelta = timedelta(0)) -> Moment:
        """What the bookings say at `now` (aware UTC)."""
        self._settle()
        over = self._move(now)
        active = bisect_right(self._open, now + warm_up, key=_START)
        start = self._open[active].wanted_from(warm_up) if active < len(self._open) else None
        # The first to end is active, or ends after the next one starts.
        instants = [start, self._all[over].end_at if active else None]
        return Moment(
            holder=self._open[0] if active else None,
            released=self._all[over - 1] if over else None,
            next_at=min((instant for instant in instants if instant is not None), default=None),
            next_change_at=self._end_of_run(now, warm_up, active) if active else start,
        )

    def unfinished(self, now: datetime) -> bool:
        """Whether any booking ends after `now`."""
        self._settle()
        return bool(self._all) and now < self._all[-1].end_at

    def active(self, now: datetime, warm_up: timedelta = timedelta(0)) -> list[Booking]:
        """The bookings that want the instances running at `now` (aware UTC), in order of precedence."""
        return self.unfinished_by(now, now + warm_up)

    def unfinished_by(self, now: datetime, start: datetime | None = None) -> list[Booking]:
        """The bookings that end after `now`, by precedence; with `start` those that start by then."""
        self._settle()
        self._move(now)
        return self._open[: None if start is None else bisect_right(self._open, start, key=_START)]

    def ending_at(self, instant: datetime) -> list[Booking]:
        """The bookings that end at `instant` (aware UTC), in order of precedence."""
        self._settle()
        begin, end = (bisect(self._all, instant, key=_END) for bisect in (bisect_left, bisect_right))
        return self._all[begin:end]

    def _move(self, now: datetime) -> int:
        """Have the open ones be those that end after `now`; tell how many are over."""
        over, before = (bisect_right(self._all, instant, key=_END) for instant in (now, self._mark))
        self._mark = now
        if abs(over - before) > len(self._open) // _MANY:
            self._open = sorted(self._all[over:], key=_PRECEDENCE)
            return over
        for booking in self._all[before:over]:
            _remove(self._open, booking, _PRECEDENCE)
        for booking in self._all[over:before]:
            insort(self._open, booking, key=_PRECEDENCE)
        return over

    def _end_of_run(self, now: datetime, warm_up: timedelta, active: int) -> datetime:
        """The end of the unbroken run of bookings that the active ones begin: back-to-back ones join it."""
        run = self._run
        if run is None or run.warm_up != warm_up or not run.at <= now < run.end:
            end = max(map(_END, self._open[:active]))
            run = self._run = _Run(warm_up, now, self._stretched(end, warm_up, active))
        return run.end

    def _stretched(self, end: datetime, warm_up: timedelta, number: int) -> datetime:
        """The end of a run by those of the open bookings that join it, from the one of that number on."""
        for booking in islice(self._open, number, None):
            if booking.wanted_from(warm_up) > end:
                break
            end = max(end, booking.end_at)
        return end


def _remove(ordered: list[Booking], booking: Booking, key: Callable[[Booking], Any]) -> bool:
    """Remove one from a list that is in order; whether it was there."""
    place = bisect_left(ordered, key(booking), key=key)
    while place < len(ordered) and key(ordered[place]) == key(booking):
        if ordered[place] == booking:
            del ordered[place]
            return True
        place += 1
    return False
