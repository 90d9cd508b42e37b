"""The verdict: whether the values of a run were flat. Pure.

Values that must be flat are judged over the second half of the run, by a robust slope (Theil-Sen). Outliers
hardly move it. The growth that the slope gives for that half is compared with an allowed value.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from bench.soak.gauges import Sample
from bench.soak.lateness import Kept
from bench.windows import quantile

GROWN_MIB = 0.5
"""The allowed growth of RSS in the second half. In a full run of an hour, this is 1 MiB an hour."""
TERM_MIB = 1.0
"""The allowed growth of RSS with each leadership. Only the first half has more than one leadership."""
FEW, SHARE = 10.0, 0.01
"""The allowed growth of counters in the second half: `FEW`, or the share `SHARE` if that is more. Objects are
created and deleted all the time. Of a thousand, the number varies by about a dozen by chance."""
WORSE = 2.0
"""The allowed factor between lateness in the last and in the first quarter, above `NOISE_SECONDS`."""
NOISE_SECONDS = {"median": 0.02, "p99": 0.25}
"""The delay that other work of the machine adds: to most calls (median), and to a few calls (p99)."""
LATEST_SECONDS = 60.0
"""The allowed lateness of boundaries near faults: the longest fault, and the back-off after refusals."""
MORE = 1.5
"""The allowed factor between AWS calls and CPU time of the last and of the first quarter. AWS refuses calls
at random."""
_MOST_POINTS = 400
_FIRST_TERM = 1

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged value. It is `met` if the found value is at most the allowed value."""

    name: str
    unit: str
    found: float
    allowed: float

    @property
    def met(self) -> bool:
        return self.found <= self.allowed


def slope(points: Sequence[Point]) -> float:
    """The Theil-Sen estimator: the median of the slopes between all pairs of points.

    It uses every n-th point if there are more than `_MOST_POINTS`. See
    https://en.wikipedia.org/wiki/Theil%E2%80%93Sen_estimator.

    Raises:
        ValueError: there are no two points with different x.
    """
    every = max(1, len(points) // _MOST_POINTS)
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points[::every], 2) if x1 != x2]
    if not slopes:
        raise ValueError("no slope: fewer than two points have different x")
    return median(slopes)


def growth(points: Sequence[Point]) -> float:
    """The growth over the second half, according to its slope."""
    later = second_half(points)
    return slope(later) * (later[-1][0] - later[0][0])


def second_half(points: Sequence[Point]) -> Sequence[Point]:
    """The points in the second half of the time span."""
    middle = (points[0][0] + points[-1][0]) / 2
    return [point for point in points if point[0] >= middle]


def judged(
    samples: Sequence[Sample],
    boundaries: Sequence[Kept],
    strays: Sequence[str] = (),
    errors: Mapping[str, int] | None = None,
) -> list[Finding]:
    """All findings of a run.

    Args:
        samples: the samples, in order.
        boundaries: the boundaries, in order.
        strays: calls that should not have arrived.
        errors: the number of errors in the operator's log, by event.
    """
    bugs = Finding("errors in the operator's log", "", sum((errors or {}).values()), 0)
    grown = (*_memory(samples), *_counts(samples), *_effort(samples))
    return [*grown, *_lateness(boundaries), *_lost(boundaries, strays), bugs]


def _memory(samples: Sequence[Sample]) -> Iterable[Finding]:
    points = [(sample.seconds, sample.rss_mib) for sample in samples]
    yield Finding("memory (RSS), growth in the second half", "MiB", growth(points), GROWN_MIB)
    # A new leadership starts with the memory of the one before, apart from its leaks.
    of_term: defaultdict[float, list[float]] = defaultdict(list)
    for sample in samples:
        of_term[sample.terms].append(sample.rss_mib)
    warm = [(term, median(held)) for term, held in of_term.items() if term > _FIRST_TERM]
    if len(warm) > 1:
        yield Finding("memory (RSS), growth with each term", "MiB", slope(warm), TERM_MIB)


_COUNTED: dict[str, Callable[[Sample], float]] = {
    "tasks": lambda sample: sample.tasks,
    "file descriptors": lambda sample: sample.fds,
    "threads": lambda sample: sample.threads,
    "keys of work queues": lambda sample: sample.keys,
    "objects in caches": lambda sample: sample.objects,
    "series of metrics": lambda sample: sample.series,
}


def _counts(samples: Sequence[Sample]) -> Iterable[Finding]:
    for name, of in _COUNTED.items():
        points = [(sample.seconds, of(sample)) for sample in samples]
        allowed = max(FEW, SHARE * median(value for _, value in points))
        yield Finding(f"{name}, growth in the second half", "", growth(points), allowed)


def _effort(samples: Sequence[Sample]) -> Iterable[Finding]:
    quarter = len(samples) // 4
    totals: dict[str, Callable[[Sample], float]] = {
        "AWS calls": lambda sample: sample.aws_calls,
        "CPU time": lambda sample: sample.cpu_seconds,
    }
    for name, of in totals.items():
        first = of(samples[quarter]) - of(samples[0])
        last = of(samples[-1]) - of(samples[-1 - quarter])
        yield Finding(f"{name}, last quarter by first", "", last / first, MORE)


def _lateness(boundaries: Sequence[Kept]) -> Iterable[Finding]:
    calm = [item for item in boundaries if item.foreseen and not item.disturbed and item.late is not None]
    begin, end = calm[0].seconds, calm[-1].seconds
    quarter = (end - begin) / 4
    first = [item.late or 0.0 for item in calm if item.seconds <= begin + quarter]
    last = [item.late or 0.0 for item in calm if item.seconds >= end - quarter]
    for name, q in (("median", 0.5), ("p99", 0.99)):
        allowed = max(NOISE_SECONDS[name], WORSE * quantile(first, q))
        yield Finding(f"lateness in the last quarter, {name}", "s", quantile(last, q), allowed)


def _lost(boundaries: Sequence[Kept], strays: Sequence[str]) -> Iterable[Finding]:
    late = [item.late for item in boundaries if item.late is not None]
    yield Finding("boundaries that were not kept", "", len(boundaries) - len(late), 0)
    yield Finding("earliest call before its boundary", "s", max(0.0, -min(late)), 0)
    yield Finding("starts outside of bookings, stops inside", "", len(strays), 0)
    yield Finding("latest call after its boundary, faults included", "s", max(late), LATEST_SECONDS)
