"""Integrates a trace of observations second by second, by the definitions in docs/kinds/usage.md.

It shares no arithmetic with `domain.usage`, whose sums tests compare with it.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from typing_extensions import override

from booking_operator.domain.usage import AMOUNTS, Booked, Fleet, Meter, UsageSums, to_instant, to_second

MAX_GAP_SECONDS = 300


@dataclass(frozen=True)
class Observed:
    """An observation at a second since 1970."""

    second: int
    fleet: Fleet
    booked: Booked


@dataclass(frozen=True)
class Rebooked:
    """A change of the bookings at a second since 1970."""

    second: int
    booked: Booked


Trace = Sequence[Observed | Rebooked]


class TracedMeter(Meter):
    """A meter that remembers all observations and changes."""

    def __init__(self) -> None:
        super().__init__()
        self.trace: list[Observed | Rebooked] = []

    @override
    def observe(self, at: datetime, fleet: Fleet, booked: Booked) -> None:
        self.trace.append(Observed(to_second(at), fleet, booked))
        super().observe(at, fleet, booked)

    @override
    def rebook(self, at: datetime, booked: Booked) -> None:
        self.trace.append(Rebooked(to_second(at), booked))
        super().rebook(at, booked)


@dataclass
class Integral:
    """The integral of a trace.

    Attributes:
        sizes: the amounts by size and name, in instance-seconds. Zeros are left out.
        charged: the running time by user and size.
    """

    sizes: Counter[tuple[str, str]] = field(default_factory=Counter)
    charged: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, sums: UsageSums) -> "Integral":
        """Return sums in this form."""
        found = cls(charged=+sums.charged)
        for size, amounts in sums.sizes.items():
            for name in AMOUNTS:
                found.sizes[size, name] = getattr(amounts, name)
        found.sizes = +found.sizes
        return found

    def __sub__(self, other: "Integral") -> "Integral":
        """Return the differences, which are not negative."""
        return Integral(self.sizes - other.sizes, self.charged - other.charged)


def integrate(trace: Trace, begin: int, end: int, exists_since: int = 0) -> Integral:
    """Integrate the seconds `[begin, end)`.

    The time before the first observation counts as unobserved, from `exists_since` on.
    """
    found = Integral()
    for second, fleet, booked in _seconds(trace, begin):
        for unobserved in range(max(begin, exists_since), min(second, end)):
            _add(found, unobserved, fleet, None)
        if second >= end:
            break
        _add(found, second, fleet, booked)
        begin = second + 1
    found.sizes, found.charged = +found.sizes, +found.charged
    return found


def _seconds(trace: Trace, begin: int) -> Iterator[tuple[int, Fleet, Booked | None]]:
    """Yield each second from `begin` on that is between two observations, with what was known of it."""
    counted, earlier = -1, None
    changes: list[Observed | Rebooked] = []
    for event in trace:
        if isinstance(event, Observed):
            if earlier is not None:
                known = event.second - earlier.second <= MAX_GAP_SECONDS
                for second in range(max(counted, begin), event.second):
                    booked = _booked_at(second, counted, changes) if known else None
                    yield second, earlier.fleet, booked
            counted, earlier, changes = max(counted, event.second), event, []
        changes.append(event)


def _booked_at(second: int, counted: int, changes: Sequence[Observed | Rebooked]) -> Booked:
    """Return the bookings at a second. Changes count in their order, also after the clock was set back."""
    times = itertools.accumulate((max(counted, event.second) for event in changes), max)
    return [event.booked for time, event in zip(times, changes, strict=True) if time <= second][-1]


def _add(found: Integral, second: int, fleet: Fleet, booked: Booked | None) -> None:
    now = to_instant(second)
    bookings, warm_up = (booked.bookings, booked.warm_up) if booked else ((), timedelta(0))
    in_progress = [item for item in bookings if item.start_at <= now < item.end_at]
    paying = in_progress or [item for item in bookings if item.start_at - warm_up <= now < item.start_at]
    for size, existing in fleet.existing.items():
        running = fleet.running.get(size, 0)
        found.sizes[size, "capacity"] += existing
        if booked is None:
            found.sizes[size, "unobserved"] += existing
            continue
        found.sizes[size, "running"] += running
        if in_progress:
            found.sizes[size, "booked"] += existing
            found.sizes[size, "missing"] += existing - running
        if paying:
            found.charged[paying[second % len(paying)].user_id, size] += running
        else:
            found.sizes[size, "unbooked"] += running
