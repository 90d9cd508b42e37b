"""The lateness of each boundary as AWS saw it, and calls that should not have arrived. Pure."""

import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bench.soak.faults import Fault
from bench.soak.fleet import Boundary
from bench.windows import Arrival, taken_at

ON_ITS_WAY = timedelta(seconds=0.5)
"""A call that is sent right before a change of the bookings may arrive this long after it."""
_EARLY = timedelta(seconds=10)
_POWER = ("StartInstances", "StopInstances")


@dataclass(frozen=True, slots=True)
class Kept:
    """A boundary in the past.

    Attributes:
        seconds: from the beginning of the run to the boundary.
        late: seconds until the first accepted call for the group; None without one before the next boundary.
        foreseen: whether the boundary was known well ahead.
        disturbed: whether a fault may have made the call late.
    """

    seconds: float
    action: str
    late: float | None
    foreseen: bool
    disturbed: bool


def kept(
    boundaries: Iterable[Boundary],
    groups: Mapping[str, Sequence[str]],
    arrivals: Sequence[Arrival],
    faults: Sequence[Fault],
    begin: datetime,
) -> list[Kept]:
    """Match boundaries, in order, with calls in order of arrival."""
    at = [arrival.at for arrival in arrivals]
    of_group: defaultdict[str, list[Boundary]] = defaultdict(list)
    for boundary in boundaries:
        of_group[boundary.tag].append(boundary)
    found = []
    for tag, due in of_group.items():
        ends = [boundary.due for boundary in due[1:]] + [datetime.max.replace(tzinfo=begin.tzinfo)]
        for boundary, end in zip(due, ends, strict=True):
            span = slice(bisect.bisect_left(at, boundary.due - _EARLY), bisect.bisect_left(at, end))
            taken = taken_at(arrivals[span], boundary.action)
            first = min((taken[id_] for id_ in groups[tag] if id_ in taken), default=None)
            found.append(
                Kept(
                    seconds=(boundary.due - begin).total_seconds(),
                    action=boundary.action,
                    late=None if first is None else (first - boundary.due).total_seconds(),
                    foreseen=boundary.foreseen,
                    disturbed=any(fault.hits(boundary.due) for fault in faults),
                )
            )
    return sorted(found, key=lambda item: item.seconds)


def strays(
    boundaries: Iterable[Boundary],
    groups: Mapping[str, Sequence[str]],
    arrivals: Iterable[Arrival],
    end: datetime,
) -> list[str]:
    """Starts outside of a booking and stops inside one, accepted or refused, until `end` (aware UTC)."""
    due: defaultdict[str, list[Boundary]] = defaultdict(list)
    for boundary in boundaries:
        due[boundary.tag].append(boundary)
    tag_of = {id_: tag for tag, ids in groups.items() for id_ in ids}
    found = []
    for arrival in arrivals:
        if arrival.action not in _POWER or arrival.at >= end:
            continue
        for tag in {tag_of[id_] for id_ in arrival.instance_ids if tag_of.get(id_) in due}:
            wanted = {_wanted(due[tag], arrival.at), _wanted(due[tag], arrival.at - ON_ITS_WAY)}
            if not wanted & {arrival.action, None}:
                found.append(f"{arrival.action} for {tag} at {arrival.at.isoformat()}")
    return found


def _wanted(due: Sequence[Boundary], at: datetime) -> str | None:
    """The action of the last boundary until `at`; None before the first boundary, where it is unknown."""
    before = bisect.bisect_right(due, at, key=lambda item: item.due)
    return due[before - 1].action if before else None
