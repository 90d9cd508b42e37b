"""The booking timeline: all bookings of one Resource, sorted, and their state at an instant.

One Resource may have tens of thousands of bookings, and each change of one of them causes a query. The
timeline therefore keeps two sorted lists: all bookings by their end, and the bookings that end after the
position, by their start. Without leads, the latter is the order of precedence. The position is the instant of
the last query. The second list is updated when a query has another instant, which may also be an earlier one.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from operator import attrgetter
from typing import Any

from booking_operator.domain.booking import BookingInterval

_START, _END, _PRECEDENCE = attrgetter("start_at"), attrgetter("end_at"), attrgetter("precedence")
_START_ORDER = attrgetter("start_at", "created_at", "name")
_NEVER = datetime.min.replace(tzinfo=UTC)
_RESORT_RATIO = 8
"""If more than one in eight bookings is added or passes its end at once, the list is sorted as a whole."""


def _end_order(booking: BookingInterval) -> tuple[Any, ...]:
    return (booking.end_at, *booking.precedence)


@dataclass(frozen=True, slots=True)
class TimelineState:
    """The state of the bookings of a Resource at one instant.

    Attributes:
        at: the instant (aware UTC).
        holder: the active booking that comes first by precedence; None when no booking is active.
        last_ended: the booking that ended last, at or before the instant; None when none has ended.
        next_at: the next instant at which a booking begins or ends, warm-up included; None for never.
        next_change_at: the next boundary, at which the power of the group changes; None for never.
    """

    at: datetime
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
    """The busy period that includes `at`, computed for one warm-up. It ends at `end`."""

    warm_up: timedelta
    at: datetime
    end: datetime


class BookingTimeline:
    """The bookings of one Resource. Queries, additions and removals do not iterate over all bookings."""

    def __init__(self, bookings: Iterable[BookingInterval] = ()) -> None:
        self._all: list[BookingInterval] = []
        self._open: list[BookingInterval] = []  # the bookings that end after `_position`
        self._position = _NEVER
        self._unsorted = list(bookings)
        self._busy_period: _CurrentPeriod | None = None
        self._has_leads = any(booking.lead for booking in self._unsorted)

    def __len__(self) -> int:
        """The number of bookings."""
        return len(self._all) + len(self._unsorted)

    def __iter__(self) -> Iterator[BookingInterval]:
        """Iterate over all bookings, in no particular order."""
        return chain(self._all, self._unsorted)

    def __contains__(self, booking: object) -> bool:
        """Whether the timeline has the booking. This iterates over all bookings."""
        return any(booking == known for known in self)

    def add(self, booking: BookingInterval) -> None:
        """Add a booking."""
        self._unsorted.append(booking)
        self._has_leads = self._has_leads or bool(booking.lead)

    def discard(self, booking: BookingInterval) -> None:
        """Remove a booking. If the timeline does not have it, this is a no-op."""
        self._sort_added()
        if not _remove(self._all, booking, _end_order):
            return
        _remove(self._open, booking, _START_ORDER)
        run = self._busy_period
        # A finished booking counts as well, because the clock may be set back.
        if run is not None and run.at < booking.end_at and booking.power_on_at(run.warm_up) <= run.end:
            self._busy_period = None

    def exchange(self, gone: Sequence[BookingInterval], come: Sequence[BookingInterval]) -> None:
        """Replace bookings by others: one by one, or by a full sort if they are many."""
        self._has_leads = self._has_leads or any(booking.lead for booking in come)
        if len(gone) > len(self) // _RESORT_RATIO:
            leaving = set(gone)
            kept = [booking for booking in self if booking not in leaving]
            self._all, self._open, self._position, self._busy_period = [], [], _NEVER, None
            self._unsorted = [*kept, *come]
            return
        for booking in gone:
            self.discard(booking)
        self._unsorted += come

    def _sort_added(self) -> None:
        """Insert the added bookings: one by one, or by a full sort if they are many."""
        coming, self._unsorted = self._unsorted, []
        if len(coming) > len(self._all) // _RESORT_RATIO:
            self._all = sorted([*self._all, *coming], key=_end_order)
            self._open = sorted(
                self._all[bisect_right(self._all, self._position, key=_END) :], key=_START_ORDER
            )
            self._busy_period = None
            return
        for booking in coming:
            insort(self._all, booking, key=_end_order)
            if booking.end_at > self._position:
                insort(self._open, booking, key=_START_ORDER)
            self._extend_busy_period(booking)

    def _extend_busy_period(self, booking: BookingInterval) -> None:
        run = self._busy_period
        if run is None or not booking.power_on_at(run.warm_up) <= run.end < booking.end_at:
            return
        if booking.end_at <= self._position:
            # `_open` does not have the bookings before `_position`, so the end must be computed again.
            self._busy_period = None
        else:
            beyond = bisect_right(self._open, run.end + run.warm_up, key=_START)
            run.end = self._extended_end(booking.end_at, run.warm_up, beyond)

    def state_at(self, now: datetime, warm_up: timedelta = timedelta(0)) -> TimelineState:
        """Return the state of the bookings at `now` (aware UTC)."""
        self._sort_added()
        over = self._move_to(now)
        active = bisect_right(self._open, now + warm_up, key=_START)
        start = self._open[active].power_on_at(warm_up) if active < len(self._open) else None
        # The booking that ends first is active, or it ends after the next one starts.
        instants = [start, self._all[over].end_at if active else None]
        return TimelineState(
            at=now,
            holder=self._first(active),
            last_ended=self._all[over - 1] if over else None,
            next_at=min((instant for instant in instants if instant is not None), default=None),
            next_change_at=self._busy_until(now, warm_up, active) if active else start,
        )

    def has_unfinished(self, now: datetime) -> bool:
        """Whether any booking ends after `now`."""
        self._sort_added()
        return bool(self._all) and now < self._all[-1].end_at

    def active(self, now: datetime, warm_up: timedelta = timedelta(0)) -> list[BookingInterval]:
        """Return the bookings that are active at `now` (aware UTC), by precedence."""
        return self.unfinished_by(now, now + warm_up)

    def unfinished_by(self, now: datetime, start: datetime | None = None) -> list[BookingInterval]:
        """Return the bookings that end after `now` (aware UTC), by precedence.

        With `start`, return only those that start at `start` or before.
        """
        self._sort_added()
        self._move_to(now)
        found = self._open[: None if start is None else bisect_right(self._open, start, key=_START)]
        return sorted(found, key=_PRECEDENCE) if self._has_leads else found

    def _first(self, number: int) -> BookingInterval | None:
        """Return the first by precedence of the `number` open bookings that start first; None for none."""
        if not self._has_leads:
            return self._open[0] if number else None
        return min(islice(self._open, number), key=_PRECEDENCE, default=None)

    def ending_at(self, instant: datetime) -> list[BookingInterval]:
        """Return the bookings that end at `instant` (aware UTC), by precedence."""
        self._sort_added()
        begin, end = (bisect(self._all, instant, key=_END) for bisect in (bisect_left, bisect_right))
        return self._all[begin:end]

    def _move_to(self, now: datetime) -> int:
        """Update `_open` to the bookings that end after `now`. Returns the number of the others."""
        over, before = (bisect_right(self._all, instant, key=_END) for instant in (now, self._position))
        self._position = now
        if abs(over - before) > len(self._open) // _RESORT_RATIO:
            self._open = sorted(self._all[over:], key=_START_ORDER)
            return over
        for booking in self._all[before:over]:
            _remove(self._open, booking, _START_ORDER)
        for booking in self._all[over:before]:
            insort(self._open, booking, key=_START_ORDER)
        return over

    def _busy_until(self, now: datetime, warm_up: timedelta, active: int) -> datetime:
        """Return the end of the busy period at `now`. Back-to-back bookings are one busy period."""
        run = self._busy_period
        if run is None or run.warm_up != warm_up or not run.at <= now < run.end:
            end = max(map(_END, self._open[:active]))
            run = self._busy_period = _CurrentPeriod(warm_up, now, self._extended_end(end, warm_up, active))
        return run.end

    def _extended_end(self, end: datetime, warm_up: timedelta, number: int) -> datetime:
        """Return the end of a busy period, extended by the open bookings from index `number` that join it."""
        for booking in islice(self._open, number, None):
            if booking.power_on_at(warm_up) > end:
                break
            end = max(end, booking.end_at)
        return end


def _remove(
    ordered: list[BookingInterval], booking: BookingInterval, key: Callable[[BookingInterval], Any]
) -> bool:
    """Remove a booking from a sorted list. Returns whether the list had it."""
    place = bisect_left(ordered, key(booking), key=key)
    while place < len(ordered) and key(ordered[place]) == key(booking):
        if ordered[place] == booking:
            del ordered[place]
            return True
        place += 1
    return False


@dataclass(frozen=True, slots=True)
class BusyPeriod:
    """An unbroken run of bookings: each booking begins before, or when, the earlier ones end.

    Attributes:
        first: the booking with which the period begins.
        begins_at: when the instances are started, warm-up included (aware UTC).
        ends_at: when the instances are stopped (aware UTC).
    """

    first: BookingInterval
    begins_at: datetime
    ends_at: datetime


def busy_periods(
    bookings: Iterable[BookingInterval], warm_up: timedelta = timedelta(0)
) -> Iterator[BusyPeriod]:
    """Yield all busy periods of `bookings` in the order of time."""
    run: BusyPeriod | None = None
    for booking in sorted(bookings, key=_START_ORDER):
        begins_at = booking.power_on_at(warm_up)
        if run is not None and begins_at <= run.ends_at:
            run = replace(run, ends_at=max(run.ends_at, booking.end_at))
            continue
        if run is not None:
            yield run
        run = BusyPeriod(booking, begins_at, booking.end_at)
    if run is not None:
        yield run
