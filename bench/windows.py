"""Bookings to measure by, and how late their instances were started and stopped. Pure."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self

Power = Literal["StartInstances", "StopInstances"]
RANDOM_SECONDS = 90
"""How long windows at random are: longer than a poller may need to notice one, or it would never start."""
_OK = 200


@dataclass(frozen=True, slots=True)
class Window:
    """When one group is to run; aware UTC."""

    tag: str
    start_at: datetime
    end_at: datetime

    def due_at(self, action: Power) -> datetime:
        """When the action is due."""
        return self.start_at if action == "StartInstances" else self.end_at


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call to AWS as it arrived at the proxy; `at` is aware UTC.

    Attributes:
        status: the HTTP status of its reply, also of a lost one; 0 if there was none.
    """

    action: str
    at: datetime
    status: int
    instance_ids: tuple[str, ...]

    @property
    def taken(self) -> bool:
        """Whether AWS accepted it."""
        return self.status == _OK

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        """Read what the proxy has recorded of a call."""
        return cls(
            action=recorded["action"],
            at=datetime.fromisoformat(recorded["at"]),
            status=recorded["status"],
            instance_ids=tuple(recorded["instance_ids"]),
        )


def at_random(tags: Sequence[str], first: datetime, spread: float) -> list[Window]:
    """Windows that begin at random in `spread` seconds from `first`; the same each time."""
    chance, length = random.Random(0), timedelta(seconds=RANDOM_SECONDS)
    starts = [first + timedelta(seconds=chance.uniform(0, spread)) for _ in tags]
    return [Window(tag, start, start + length) for tag, start in zip(tags, starts, strict=True)]


def at_once(tags: Sequence[str], start_at: datetime, length: float = 3600) -> list[Window]:
    """Windows that all begin and end at one instant; `length` in seconds."""
    return [Window(tag, start_at, start_at + timedelta(seconds=length)) for tag in tags]


def until(tags: Sequence[str], end_at: datetime) -> list[Window]:
    """Windows that began long ago and all end at one instant."""
    return [Window(tag, end_at - timedelta(hours=1), end_at) for tag in tags]


def lateness(
    windows: Sequence[Window],
    groups: Mapping[str, Sequence[str]],
    arrivals: Sequence[Arrival],
    action: Power,
) -> dict[str, float]:
    """Seconds from each group's boundary to the arrival of the first call for it that was accepted.

    Args:
        windows: what was booked.
        groups: the ids of each group's instances.
        arrivals: in order of arrival.
        action: what is due at the boundary.

    Returns:
        One figure for each group that there was a call for.
    """
    at = taken_at(arrivals, action)
    first = {tag: min((at[id_] for id_ in ids if id_ in at), default=None) for tag, ids in groups.items()}
    return {
        window.tag: (arrived - window.due_at(action)).total_seconds()
        for window in windows
        if (arrived := first[window.tag]) is not None
    }


def taken_at(arrivals: Iterable[Arrival], action: Power) -> dict[str, datetime]:
    """When the first call for each instance arrived that was accepted; of calls in order of arrival."""
    at: dict[str, datetime] = {}
    for arrival in arrivals:
        if arrival.action == action and arrival.taken:
            for id_ in arrival.instance_ids:
                at.setdefault(id_, arrival.at)
    return at


def quantile(values: Iterable[float], q: float) -> float:
    """The value that a share `q` of all does not exceed; for 0.99 of up to 100 values it is the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
