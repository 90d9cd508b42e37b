"""Accumulates the usage of a Resource: how long its instances existed, ran, and were booked.

All amounts are whole instance-seconds, and all instants are whole seconds of UTC since 1970. A change counts
from the second in which it was seen. The sums of a time range therefore do not depend on how the range is
divided, so restarts and hand-overs change nothing.

A `Meter` remembers what was observed since the last write, as spans of time. `UsageSums.add` adds a span to
the sums of a month. The sums remember the second up to which they count, so that a span is never counted
twice. Time without an observation counts as `unobserved`. It is never guessed.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.instance import InstanceState, Observation

MAX_GAP = timedelta(minutes=5)
"""The longest time between two observations for which the first one still counts. A group that is idle is
observed once a minute, and a few failures in a row are usual."""
MAX_CHARGED = 1000
"""How many pairs of a user and a size have their own sum, so that an object in the cluster stays small."""
OTHERS = "(others)"
"""The user to whom the time of further users is charged."""
_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_second(instant: datetime) -> int:
    """Return the second of an instant (aware UTC), rounded down."""
    return (instant - _EPOCH) // _SECOND


def to_instant(second: int) -> datetime:
    """Return the instant (aware UTC) at which a second begins."""
    return _EPOCH + second * _SECOND


def month_of(second: int) -> str:
    """Return the month in UTC, like `2026-11`."""
    return f"{to_instant(second):%Y-%m}"


def month_end(second: int) -> int:
    """Return the second at which the next month begins."""
    first = to_instant(second).replace(day=1, hour=0, minute=0, second=0)
    return to_second((first + timedelta(days=32)).replace(day=1))


def month_before(month: str) -> str:
    """Return the month before a month."""
    return months_until(month, 2)[0]


def month_after(month: str) -> str:
    """Return the month after a month."""
    return month_of(month_end(month_begin(month)))


def month_begin(month: str) -> int:
    """Return the second at which a month begins."""
    return to_second(datetime.fromisoformat(f"{month}-01T00:00:00+00:00"))


def months_until(month: str, number: int) -> list[str]:
    """Return the last `number` months until `month`, which is the last one."""
    year, last = (int(part) for part in month.split("-"))
    counts = range(12 * year + last - number, 12 * year + last)
    return [f"{count // 12:04}-{count % 12 + 1:02}" for count in counts]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The instances of a group: how many exist and how many run, by size. Some instances count twice or more.

    A machine of a scaled group exists only while it runs.

    Attributes:
        existing: the number of instances by size, such as `t3.large`.
        running: the number of running instances by size.
    """

    existing: Mapping[str, int]
    running: Mapping[str, int]

    @classmethod
    def of(cls, observation: Observation) -> "Fleet":
        """Return the fleet of an observation."""
        existing, running = Counter[str](), Counter[str]()
        for instance in observation.instances:
            existing.update(instance.sizes)
            if instance.state is InstanceState.RUNNING or instance.scale is not None:
                running.update(instance.sizes)
        return cls(dict(existing), dict(running))


@dataclass(frozen=True, slots=True)
class Booked:
    """The bookings that matter for a span of time.

    Attributes:
        bookings: the bookings, by precedence.
        warm_up: how long before `start_at` the instances start.
    """

    bookings: tuple[BookingInterval, ...] = ()
    warm_up: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class UsageSpan:
    """What was observed in the half-open interval `[begin, end)` of seconds.

    Attributes:
        begin: the first second.
        end: the second after the last one.
        fleet: the instances.
        booked: the bookings; None if nothing was observed.
    """

    begin: int
    end: int
    fleet: Fleet
    booked: Booked | None

    def clipped(self, begin: int, end: int) -> "UsageSpan | None":
        """Return the part of the span within `[begin, end)`; None if there is none."""
        first, last = max(self.begin, begin), min(self.end, end)
        return replace(self, begin=first, end=last) if first < last else None


AMOUNTS = ("capacity", "running", "booked", "unbooked", "missing", "unobserved")


@dataclass(slots=True)
class UsageAmounts:
    """The sums for the instances of one size, in instance-seconds.

    Attributes:
        capacity: the time for which instances existed.
        running: the time for which instances were observed running.
        booked: the time for which instances existed while a booking was in progress.
        unbooked: the time for which instances ran without an active booking.
        missing: the time for which instances did not run while a booking was in progress.
        unobserved: the time for which instances existed and were not observed.
    """

    capacity: int = 0
    running: int = 0
    booked: int = 0
    unbooked: int = 0
    missing: int = 0
    unobserved: int = 0

    @property
    def saved(self) -> int:
        """The time for which instances existed and were observed not to run."""
        return self.capacity - self.running - self.unobserved

    def __add__(self, other: "UsageAmounts") -> "UsageAmounts":
        """Return the sums of both."""
        return UsageAmounts(*(getattr(self, name) + getattr(other, name) for name in AMOUNTS))

    def __sub__(self, other: "UsageAmounts") -> "UsageAmounts":
        """Return the differences."""
        return UsageAmounts(*(getattr(self, name) - getattr(other, name) for name in AMOUNTS))


@dataclass(slots=True)
class UsageSums:
    """The sums of one Resource and one month.

    Attributes:
        until: the second up to which the sums count.
        sizes: the sums by size of the instances.
        charged: the running time of each user in instance-seconds, by user and size. After `MAX_CHARGED`
            entries, further users are `OTHERS`.
    """

    until: int
    sizes: dict[str, UsageAmounts] = field(default_factory=dict)
    charged: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def total(self) -> UsageAmounts:
        """The sums over all sizes."""
        return sum(self.sizes.values(), UsageAmounts())

    def skip_to(self, second: int, fleet: Fleet, *, exists_since: int = 0) -> None:
        """Count the time from `until` to `second` as unobserved.

        Args:
            second: the new `until`.
            fleet: the instances that were observed after that time.
            exists_since: the second in which the Resource was created. The time before it does not count.
        """
        if (begin := max(self.until, exists_since)) < second:
            self._add_unobserved(begin, second, fleet)
        self.until = max(self.until, second)

    def add(self, span: UsageSpan) -> None:
        """Add the part of a span after `until`. Time between `until` and the span counts as unobserved."""
        self.skip_to(span.begin, span.fleet)
        rest = span.clipped(self.until, span.end)
        if rest is None:
            return
        if rest.booked is None:
            self._add_unobserved(rest.begin, rest.end, rest.fleet)
        else:
            for begin, end in _pieces(rest.begin, rest.end, rest.booked):
                self._add_piece(begin, end, rest.fleet, rest.booked)
        self.until = rest.end

    def _size(self, size: str) -> UsageAmounts:
        return self.sizes.setdefault(size, UsageAmounts())

    def _add_unobserved(self, begin: int, end: int, fleet: Fleet) -> None:
        for size, number in fleet.existing.items():
            amount = self._size(size)
            amount.capacity += number * (end - begin)
            amount.unobserved += number * (end - begin)

    def _add_piece(self, begin: int, end: int, fleet: Fleet, booked: Booked) -> None:
        """Add a piece in which no booking begins or ends."""
        in_progress = [item for item in booked.bookings if _seconds(item.start_at, item.end_at, begin)]
        warming_up = [
            item
            for item in booked.bookings
            if _seconds(item.power_on_at(booked.warm_up), item.start_at, begin)
        ]
        seconds = end - begin
        for size, number in fleet.existing.items():
            running, amount = fleet.running.get(size, 0), self._size(size)
            amount.capacity += number * seconds
            amount.running += running * seconds
            if in_progress:
                amount.booked += number * seconds
                amount.missing += (number - running) * seconds
            elif not warming_up:
                amount.unbooked += running * seconds
            if running:
                self._charge(begin, end, size, running, in_progress or warming_up)

    def _charge(
        self, begin: int, end: int, size: str, running: int, bookings: Sequence[BookingInterval]
    ) -> None:
        """Split running time evenly among bookings: they take turns, one second each.

        The turn follows from the second itself, so that the result does not depend on the pieces.
        """
        turns = len(bookings)
        for number, booking in enumerate(bookings):
            seconds = _turns_before(end, number, turns) - _turns_before(begin, number, turns)
            known = (booking.user_id, size) in self.charged or len(self.charged) < MAX_CHARGED
            self.charged[booking.user_id if known else OTHERS, size] += running * seconds


def _turns_before(second: int, number: int, turns: int) -> int:
    """Count the seconds before `second` whose remainder by `turns` is `number`."""
    return (second - number + turns - 1) // turns


def _seconds(begin: datetime, end: datetime, second: int) -> bool:
    return to_second(begin) <= second < to_second(end)


def _pieces(begin: int, end: int, booked: Booked) -> Iterator[tuple[int, int]]:
    """Divide `[begin, end)` where a booking begins or ends, warm-up included."""
    instants = {
        to_second(instant)
        for item in booked.bookings
        for instant in (item.power_on_at(booked.warm_up), item.start_at, item.end_at)
    }
    edges = sorted({begin, end} | {second for second in instants if begin < second < end})
    yield from itertools.pairwise(edges)


class Meter:
    """What was observed of one Resource, as spans of time.

    An observation counts from its second until the second of the next one. If that comes later than
    `MAX_GAP`, the time between them was not observed.
    """

    def __init__(self) -> None:
        self._spans: list[UsageSpan] = []
        self._fleet: Fleet | None = None
        self._observed_at = 0
        self._counted_until = 0
        self._booked: list[tuple[int, Booked]] = []  # the changes of the bookings since `_counted_until`

    @property
    def spans(self) -> Sequence[UsageSpan]:
        """The spans, in the order of time."""
        return self._spans

    @property
    def fleet(self) -> Fleet | None:
        """The instances of the last observation; None before the first one."""
        return self._fleet

    def observe(self, at: datetime, fleet: Fleet, booked: Booked) -> None:
        """Record an observation at `at` (aware UTC), and the bookings of this instant."""
        second = to_second(at)
        if self._fleet is not None:
            self._count(second, self._fleet)
        # After the clock was set back, the time that was already counted is not counted again.
        self._fleet, self._observed_at = fleet, second
        self._counted_until = max(self._counted_until, second)
        self._booked = [(self._counted_until, booked)]

    def rebook(self, at: datetime, booked: Booked) -> None:
        """Record that the bookings have changed at `at` (aware UTC)."""
        if self._booked:
            self._booked.append((max(to_second(at), self._booked[-1][0]), booked))

    def _count(self, second: int, fleet: Fleet) -> None:
        begin = self._counted_until
        if second <= begin:
            return
        if not timedelta(0) <= (second - self._observed_at) * _SECOND <= MAX_GAP:
            self._append(UsageSpan(begin, second, fleet, None))
            return
        changes = [*self._booked, (second, Booked())]
        for (first, booked), (last, _) in itertools.pairwise(changes):
            if first < min(last, second):
                self._append(UsageSpan(first, min(last, second), fleet, booked))

    def _append(self, span: UsageSpan) -> None:
        last = self._spans[-1] if self._spans else None
        if (
            last is not None
            and last.end == span.begin
            and (last.fleet, last.booked) == (span.fleet, span.booked)
        ):
            self._spans[-1] = replace(last, end=span.end)
        else:
            self._spans.append(span)

    def forget_before(self, second: int) -> None:
        """Forget the time before a second."""
        self._spans = [kept for span in self._spans if (kept := span.clipped(second, span.end)) is not None]


def by_month(spans: Iterable[UsageSpan]) -> Iterator[tuple[str, UsageSpan]]:
    """Yield spans with their months. A span over the end of a month is divided."""
    for span in spans:
        begin = span.begin
        while begin < span.end:
            part = span.clipped(begin, month_end(begin))
            if part is None:
                return
            yield month_of(begin), part
            begin = part.end
