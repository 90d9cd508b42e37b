"""All bookings of one resource, kept in order, so that what they say at an instant is found without a walk.

A team may make tens of thousands of bookings of one resource, and each change of one of them asks again. Two
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

from booking_operator.domain.booking import BookingInterval

_START, _END, _PRECEDENCE = attrgetter("start_at"), attrgetter("end_at"), attrgetter("precedence")
_NEVER = datetime.min.replace(tzinfo=UTC)
_RESORT_RATIO = 8
"""Where more than one in so many has ended, all are sorted again."""


def _end_order(booking: BookingInterval) -> tuple[Any, ...]:
    return (booking.end_at, *booking.precedence)


@dataclass(frozen=True, slots=True)
class TimelineState:
    """What the bookings of a resource say at one instant.

    Attributes:
        holder: the active booking that holds the lock, or None when nobody does.
        last_ended: the booking that ended last, at or before this instant.
        next_at: the next instant at which anything here may change; later than the instant, or None.
        next_change_at: the next instant at which power is to change; later than the instant, or None.
    """

    holder: BookingInterval | None
    last_ended: BookingInterval | None
    next_at: datetime | None
    next_change_at: datetime | None

    @property
    def running_wanted(self) -> bool:
        """Whether the instances are wanted running."""
        return self.holder is not None


@dataclass(slots=True)
class _CurrentPeriod:
    """The unbroken run of bookings that is going on, as it was found at `at` for one warm-up."""

    warm_up: timedelta
    at: datetime
    end: datetime


class BookingTimeline:
    """The bookings of one resource. To ask, and to add or remove one, takes no walk over all of them."""

    def __init__(self, bookings: Iterable[BookingInterval] = ()) -> None:
        self._all: list[BookingInterval] = []
        self._open: list[BookingInterval] = []  # those that end after the mark
        self._position = _NEVER
        self._unsorted = list(bookings)
        self._busy_period: _CurrentPeriod | None = None

    def __len__(self) -> int:
        """How many bookings there are."""
        return len(self._all) + len(self._unsorted)

    def __iter__(self) -> Iterator[BookingInterval]:
        """All bookings, in no order."""
        return chain(self._all, self._unsorted)

    def __contains__(self, booking: object) -> bool:
        """Whether it is one of them."""
        return any(booking == known for known in self)

    def add(self, booking: BookingInterval) -> None:
        """Add a booking."""
        self._unsorted.append(booking)

    def discard(self, booking: BookingInterval) -> None:
        """Remove a booking, if it is there."""
        self._sort_added()
        if not _remove(self._all, booking, _end_order):
            return
        _remove(self._open, booking, _PRECEDENCE)
        run = self._busy_period
        # One that is over matters as well, to a clock that is set back.
        if run is not None and run.at < booking.end_at and booking.power_on_at(run.warm_up) <= run.end:
            self._busy_period = None

    def _sort_added(self) -> None:
        """Put what was added into order: many at once, as the first list brings them, or each by itself."""
        coming, self._unsorted = self._unsorted, []
        if len(coming) > len(self._all) // _RESORT_RATIO:
            self._all = sorted([*self._all, *coming], key=_end_order)
            self._open = sorted(
                self._all[bisect_right(self._all, self._position, key=_END) :], key=_PRECEDENCE
            )
            self._busy_period = None
            return
        for booking in coming:
            insort(self._all, booking, key=_end_order)
            if booking.end_at > self._position:
                insort(self._open, booking, key=_PRECEDENCE)
            self._extend_busy_period(booking)

    def _extend_busy_period(self, booking: BookingInterval) -> None:
        run = self._busy_period
        if run is None or not booking.power_on_at(run.warm_up) <= run.end < booking.end_at:
            return
        if booking.end_at <= self._position:
            self._busy_period = None  # of what is over nobody knows what else joins it
        else:
            beyond = bisect_right(self._open, run.end + run.warm_up, key=_START)
            run.end = self._extended_end(booking.end_at, run.warm_up, beyond)

    def state_at(self, now: datetime, warm_up: timedelta = timedelta(0)) -> TimelineState:
        """What the bookings say at `now` (aware UTC)."""
        self._sort_added()
        over = self._move_to(now)
        active = bisect_right(self._open, now + warm_up, key=_START)
        start = self._open[active].power_on_at(warm_up) if active < len(self._open) else None
        # The first to end is active, or ends after the next one starts.
        instants = [start, self._all[over].end_at if active else None]
        return TimelineState(
            holder=self._open[0] if active else None,
            last_ended=self._all[over - 1] if over else None,
            next_at=min((instant for instant in instants if instant is not None), default=None),
            next_change_at=self._busy_until(now, warm_up, active) if active else start,
        )

    def has_unfinished(self, now: datetime) -> bool:
        """Whether any booking ends after `now`."""
        self._sort_added()
        return bool(self._all) and now < self._all[-1].end_at

    def active(self, now: datetime, warm_up: timedelta = timedelta(0)) -> list[BookingInterval]:
        """The bookings that want the instances running at `now` (aware UTC), in order of precedence."""
        return self.unfinished_by(now, now + warm_up)

    def unfinished_by(self, now: datetime, start: datetime | None = None) -> list[BookingInterval]:
        """The bookings that end after `now`, by precedence; with `start` those that start by then."""
        self._sort_added()
        self._move_to(now)
        return self._open[: None if start is None else bisect_right(self._open, start, key=_START)]

    def ending_at(self, instant: datetime) -> list[BookingInterval]:
        """The bookings that end at `instant` (aware UTC), in order of precedence."""
        self._sort_added()
        begin, end = (bisect(self._all, instant, key=_END) for bisect in (bisect_left, bisect_right))
        return self._all[begin:end]

    def _move_to(self, now: datetime) -> int:
        """Have the open ones be those that end after `now`; return how many are over."""
        over, before = (bisect_right(self._all, instant, key=_END) for instant in (now, self._position))
        self._position = now
        if abs(over - before) > len(self._open) // _RESORT_RATIO:
            self._open = sorted(self._all[over:], key=_PRECEDENCE)
            return over
        for booking in self._all[before:over]:
            _remove(self._open, booking, _PRECEDENCE)
        for booking in self._all[over:before]:
            insort(self._open, booking, key=_PRECEDENCE)
        return over

    def _busy_until(self, now: datetime, warm_up: timedelta, active: int) -> datetime:
        """The end of the unbroken run of bookings that the active ones begin: back-to-back ones join it."""
        run = self._busy_period
        if run is None or run.warm_up != warm_up or not run.at <= now < run.end:
            end = max(map(_END, self._open[:active]))
            run = self._busy_period = _CurrentPeriod(warm_up, now, self._extended_end(end, warm_up, active))
        return run.end

    def _extended_end(self, end: datetime, warm_up: timedelta, number: int) -> datetime:
        """The end of a run by those of the open bookings that join it, from the one of that number on."""
        for booking in islice(self._open, number, None):
            if booking.power_on_at(warm_up) > end:
                break
            end = max(end, booking.end_at)
        return end


def _remove(
    ordered: list[BookingInterval], booking: BookingInterval, key: Callable[[BookingInterval], Any]
) -> bool:
    """Remove one from a list that is in order; whether it was there."""
    place = bisect_left(ordered, key(booking), key=key)
    while place < len(ordered) and key(ordered[place]) == key(booking):
        if ordered[place] == booking:
            del ordered[place]
            return True
        place += 1
    return False
