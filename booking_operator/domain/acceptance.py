"""Decides which bookings of a Resource are accepted, by its rules for bookings.

A Resource may limit how long bookings are and how far ahead they are made. An exclusive Resource has at most
one booking at a time. Its bookings are then accepted one by one, and the status of each Booking records the
interval that is accepted. A booking of a Resource that requires exclusive ones is accepted for all of them
together.

Invariants of exclusive Resources, as long as only the operator writes the records:
- The recorded intervals of different bookings never overlap.
- An accepted interval becomes shorter only if its own Booking is changed. So an extension that conflicts with
  another booking leaves the present interval accepted.
- A booking is refused only while the record of another booking stands against it.
- The result depends on the bookings and their records, and not on the order in which events arrive.
- A record names the exclusive Resources whose time it takes. So it keeps others out also while the booked
  Resource does not exist, is invalid, or does not require them any more.

`decide` is a pure function of the bookings of one Resource. A decision counts when it is stored: `counted`
reads the stored record only. Until then, the stored record and the one that is about to be stored both keep
others out, so that a lost write takes nothing away.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from operator import attrgetter, itemgetter

from booking_operator.domain.booking import BookingInterval, Phase, TimeSpan

ACCEPT_AHEAD = timedelta(seconds=10)
"""How long before the end of the booking that stands against it another booking is accepted. The acceptance
must be stored at the end, so that the instances are not stopped between the two bookings."""
MAX_WAIT = timedelta(minutes=5)
"""How long a booking that waits is not decided again, at most. A change of another one usually wakes it."""
KEPT = timedelta(days=1)
"""How long the record of a finished booking still keeps others from an interval in the past."""


@dataclass(frozen=True, slots=True)
class BookingRules:
    """The rules of a Resource for its bookings.

    A booking of a Resource also books those that it requires, so their rules count as well.

    Attributes:
        exclusive: the names of the Resources that accept one booking at a time.
        max_duration: the longest booking; None without a limit.
        max_ahead: how far ahead of the present a booking may start; None without a limit.
        max_duration_of, max_ahead_of: the Resources that have these limits.
    """

    exclusive: frozenset[str] = frozenset()
    max_duration: timedelta | None = None
    max_ahead: timedelta | None = None
    max_duration_of: str = ""
    max_ahead_of: str = ""

    def joined(self, other: "BookingRules") -> "BookingRules":
        """Return the rules for a booking to which these and other rules apply: the shorter limits."""
        longest, ahead = self, self
        if other.max_duration is not None and (
            self.max_duration is None or other.max_duration < self.max_duration
        ):
            longest = other
        if other.max_ahead is not None and (self.max_ahead is None or other.max_ahead < self.max_ahead):
            ahead = other
        return BookingRules(
            self.exclusive | other.exclusive,
            longest.max_duration,
            ahead.max_ahead,
            longest.max_duration_of,
            ahead.max_ahead_of,
        )

    @property
    def recorded(self) -> bool:
        """Whether Bookings record what is accepted of them."""
        return bool(self.exclusive) or self.max_duration is not None

    def too_long(self, span: TimeSpan) -> bool:
        """Whether a booking is longer than allowed."""
        return self.max_duration is not None and span.length > self.max_duration

    def allowed_from(self, span: TimeSpan) -> datetime | None:
        """Return from when on a booking may be made (aware UTC); None for always."""
        return None if self.max_ahead is None else span.start - self.max_ahead


NO_RULES = BookingRules()


@dataclass(frozen=True, slots=True)
class AcceptanceRecord:
    """What was accepted of a booking.

    Attributes:
        span: the accepted interval.
        exclusive: the names of the exclusive Resources whose time it takes.
    """

    span: TimeSpan
    exclusive: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BookingRequest:
    """A Booking, as far as it concerns one Resource.

    Attributes:
        name: the name of the Booking.
        user_id: its user; empty if its spec is invalid.
        created_at: when it was created (aware UTC).
        wanted: its interval; None if the spec is invalid, or names another Resource.
        records: its records for this Resource, at most two: as stored, and as about to be stored. The last
            one is the newest.
        begun: whether the booking was in progress already under other rules. It is then not too long.
        rules: the rules for the booking.
    """

    name: str
    user_id: str
    created_at: datetime
    wanted: TimeSpan | None
    records: tuple[AcceptanceRecord, ...] = ()
    begun: bool = False
    rules: BookingRules = NO_RULES

    @property
    def kept(self) -> TimeSpan | None:
        """The part of the newest record that the Booking still wants; None if there is none."""
        return self.wanted.within(self.records[-1].span) if self.wanted and self.records else None

    @property
    def covered(self) -> bool:
        """Whether the newest record is for all exclusive Resources of the present rules."""
        return bool(self.records) and self.records[-1].exclusive >= self.rules.exclusive


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a booking, or its extension, is not accepted.

    Attributes:
        name: the name of the Booking that stands against it.
        user_id: the user of that booking; empty if its spec has become invalid.
        span: the interval of that booking.
        free_at: when the next free slot of the same length begins (aware UTC).
        resource: the exclusive Resource that both want.
    """

    name: str
    user_id: str
    span: TimeSpan
    free_at: datetime
    resource: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What is accepted of a booking.

    Attributes:
        accepted: the accepted interval; None if nothing is accepted.
        conflict: why not all that the booking wants is accepted; None if no booking stands against it.
        too_long: whether the booking, or its extension, is longer than allowed.
        allowed_from: when the booking may be made, because that is still to come (aware UTC); None otherwise.
        retry_at: when to decide again, if nothing changes before (aware UTC); None for never.
        held_back: whether more could be accepted, but the caches may be missing bookings.
    """

    accepted: TimeSpan | None
    conflict: Conflict | None = None
    too_long: bool = False
    allowed_from: datetime | None = None
    retry_at: datetime | None = None
    held_back: bool = False


def counted(
    interval: BookingInterval, record: TimeSpan | None, rules: BookingRules = NO_RULES
) -> BookingInterval | None:
    """Return the part of a booking for which instances run; None if they do not run for it.

    Args:
        interval: the booking, as its spec wants it.
        record: its stored record for this Resource; None if there is none.
        rules: the rules of the Resource.
    """
    wanted = interval.span
    if not rules.recorded or not (rules.exclusive or rules.too_long(wanted)):
        return interval
    kept = wanted.within(record) if record else None
    if kept is None or kept == wanted:
        return interval if kept else None
    return BookingInterval(interval.name, interval.user_id, kept.start, kept.end, interval.created_at)


def decide(requests: Collection[BookingRequest], now: datetime) -> Mapping[str, Decision]:
    """Decide about all bookings that have not ended.

    Args:
        requests: the bookings that have not ended, and those that ended in the last `KEPT`: all that share an
            exclusive Resource, directly or through other bookings. A booking may occur twice, with different
            Resources for what it wants and for its records.
        now: the instant (aware UTC).

    Returns:
        The decisions, by the name of the Booking.
    """
    open_ = [(item, item.wanted) for item in requests if item.wanted is not None and now < item.wanted.end]
    calendar = _Calendar(requests)
    kept = _without_overlaps([item for item, _ in open_], calendar)
    found = {}
    for item, wanted in sorted(open_, key=lambda pair: (pair[0].created_at, pair[0].name)):
        decision = _decide(item, wanted, kept.get(item.name), calendar, now)
        if decision.accepted is not None and item.rules.exclusive:
            calendar.add(item, decision.accepted)
        found[item.name] = decision
    return found


def _without_overlaps(requests: Iterable[BookingRequest], calendar: "_Calendar") -> dict[str, TimeSpan]:
    """Return what bookings keep of their records, by name.

    A record that lacks a present exclusive Resource is from before other rules. It is kept if no other
    booking has this Resource meanwhile, and is then added to the calendar. Other overlaps exist only if
    another client wrote a status, and then the earlier record is kept.
    """
    found: dict[str, TimeSpan] = {}
    ends: dict[str, datetime] = {}
    kept = [(item.kept, item.name, item) for item in requests if item.kept is not None]
    for span, name, item in sorted(kept, key=itemgetter(0, 1)):
        exclusive = item.rules.exclusive
        if not item.covered:
            if not calendar.others(item, span):
                found[name] = span
                calendar.add(item, span)
        elif all(ends.get(resource, span.start) <= span.start for resource in exclusive):
            found[name] = span
            ends |= dict.fromkeys(exclusive, span.end)
    return found


def _decide(
    item: BookingRequest,
    wanted: TimeSpan,
    kept: TimeSpan | None,
    calendar: "_Calendar",
    now: datetime,
) -> Decision:
    rules = item.rules
    if kept is not None and kept.end == wanted.end and kept.start <= max(wanted.start, now):
        return Decision(kept)
    if rules.too_long(wanted) and (kept is not None or not item.begun):
        return Decision(kept, too_long=True)
    allowed_from = rules.allowed_from(wanted)
    if allowed_from is not None and now < allowed_from:
        return Decision(kept, allowed_from=allowed_from, retry_at=allowed_from)
    against = calendar.others(item, wanted)
    standing = [other for other in against if other.record.span.end > now + ACCEPT_AHEAD]
    begin = max((other.record.span.end for other in against), default=wanted.start)
    if not standing and begin < wanted.end:
        return Decision(TimeSpan(max(wanted.start, begin), wanted.end))
    rival = (standing or against)[0]
    free_at = calendar.free_at(item, wanted)
    shared = min(rules.exclusive & rival.record.exclusive)
    conflict = Conflict(rival.item.name, rival.item.user_id, rival.record.span, free_at, shared)
    ends = [other.record.span.end - ACCEPT_AHEAD for other in standing]
    return Decision(kept, conflict, retry_at=min([*ends, now + MAX_WAIT]) if standing else None)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A record, and the booking that has it."""

    record: AcceptanceRecord
    item: BookingRequest


_BY_TIME = attrgetter("record.span", "item.name")


def _stands_against(entry: _Taken, item: BookingRequest) -> bool:
    """Whether an entry is the record of another booking for an exclusive Resource of this one."""
    return entry.item.name != item.name and not entry.record.exclusive.isdisjoint(item.rules.exclusive)


class _Calendar:
    """The intervals of exclusive Resources that are not free."""

    def __init__(self, requests: Iterable[BookingRequest]) -> None:
        entries = (
            _Taken(record, item)
            for item in requests
            for record in dict.fromkeys(item.records)
            if record.exclusive
        )
        self._entries = sorted(entries, key=_BY_TIME)
        self._reach = self._reaches()

    def _reaches(self) -> list[datetime]:
        """Return for each entry the latest end of the entries up to it."""
        return list(accumulate((entry.record.span.end for entry in self._entries), max))

    def add(self, item: BookingRequest, span: TimeSpan) -> None:
        """Add an interval that was accepted just now, unless a record has it already."""
        record = AcceptanceRecord(span, item.rules.exclusive)
        if record not in item.records:
            insort(self._entries, _Taken(record, item), key=_BY_TIME)
            self._reach = self._reaches()

    def others(self, item: BookingRequest, wanted: TimeSpan) -> list[_Taken]:
        """Return the entries of other bookings that overlap an interval and share a Resource, by start."""
        end = bisect_left(self._entries, wanted.end, key=lambda entry: entry.record.span.start)
        begin = bisect_right(self._reach, wanted.start, hi=end)
        return [
            entry
            for entry in self._entries[begin:end]
            if entry.record.span.end > wanted.start and _stands_against(entry, item)
        ]

    def free_at(self, item: BookingRequest, wanted: TimeSpan) -> datetime:
        """Return the start of the first free interval of the same length, `wanted` or later (aware UTC)."""
        start = wanted.start
        for entry in self._entries[bisect_right(self._reach, start) :]:
            if entry.record.span.start >= start + wanted.length:
                break
            if _stands_against(entry, item):
                start = max(start, entry.record.span.end)
        return start


@dataclass(frozen=True, slots=True)
class RequestedBooking:
    """A booking, and what its Resource accepts of it.

    Attributes:
        interval: the booking, as its spec wants it.
        resource: the name of the Resource.
        rules: the rules for the booking.
        decision: what is accepted; None without rules, and for a booking that has ended.
    """

    interval: BookingInterval
    resource: str
    rules: BookingRules = NO_RULES
    decision: Decision | None = None

    @property
    def counted(self) -> BookingInterval | None:
        """The part of the booking for which instances run; None if they do not run for it."""
        if self.decision is None:
            return self.interval
        return counted(self.interval, self.decision.accepted, self.rules)

    @property
    def conflict(self) -> Conflict | None:
        """Why not all of the booking is accepted; None if no booking stands against it."""
        return self.decision.conflict if self.decision else None

    @property
    def too_long(self) -> bool:
        """Whether the booking, or its extension, is longer than the Resource allows."""
        return self.decision is not None and self.decision.too_long

    @property
    def allowed_from(self) -> datetime | None:
        """When the booking becomes valid, because it is too far ahead (aware UTC); None if it is not."""
        return self.decision.allowed_from if self.decision else None

    def phase_at(self, now: datetime) -> Phase | None:
        """Return the phase at `now` (aware UTC); None if the booking is too long to ever begin."""
        part = self.counted
        if part is not None and now < part.end_at:
            return part.phase_at(now)
        if now < self.interval.end_at and self.conflict is not None:
            return Phase.CONFLICT
        return None if part is None and self.too_long else self.interval.phase_at(now)
