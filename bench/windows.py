"""The bookings of a trial, and the lateness of starts and stops. Pure."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self

Power = Literal["StartInstances", "StopInstances"]
RANDOM_SECONDS = 90
"""The length of windows at random. A poller may need almost as long to notice a window; it would never start
a shorter one."""
_OK = 200


@dataclass(frozen=True, slots=True)
class Window:
    """The time for which one group is booked; aware UTC."""

    tag: str
    start_at: datetime
    end_at: datetime

    def due_at(self, action: Power) -> datetime:
        """The boundary at which the action is due."""
        return self.start_at if action == "StartInstances" else self.end_at


@dataclass(frozen=True, slots=True)
class Arrival:
    """One AWS call that arrived at the proxy. `at` is aware UTC.

    Attributes:
        status: the HTTP status of the reply, even if the reply was lost on the way; 0 without a reply.
    """

    action: str
    at: datetime
    status: int
    instance_ids: tuple[str, ...]

    @property
    def taken(self) -> bool:
        """Whether AWS accepted the call."""
        return self.status == _OK

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        """Convert a call as recorded by the proxy."""
        return cls(
            action=recorded["action"],
            at=datetime.fromisoformat(recorded["at"]),
            status=recorded["status"],
            instance_ids=tuple(recorded["instance_ids"]),
        )


def at_random(tags: Sequence[str], first: datetime, spread: float) -> list[Window]:
    """Windows that begin at random within `spread` seconds from `first`. The seed is fixed."""
    chance, length = random.Random(0), timedelta(seconds=RANDOM_SECONDS)
    starts = [first + timedelta(seconds=chance.uniform(0, spread)) for _ in tags]
    return [Window(tag, start, start + length) for tag, start in zip(tags, starts, strict=True)]


def at_once(tags: Sequence[str], start_at: datetime, length: float = 3600) -> list[Window]:
    """Windows that all begin and end at one instant; `length` is in seconds."""
    return [Window(tag, start_at, start_at + timedelta(seconds=length)) for tag in tags]


def until(tags: Sequence[str], end_at: datetime) -> list[Window]:
    """Windows that began an hour earlier and all end at one instant."""
    return [Window(tag, end_at - timedelta(hours=1), end_at) for tag in tags]


def lateness(
    windows: Sequence[Window],
    groups: Mapping[str, Sequence[str]],
    arrivals: Sequence[Arrival],
    action: Power,
) -> dict[str, float]:
    """Seconds from the boundary of each group to the arrival of its first accepted call.

    Args:
        windows: the bookings.
        groups: the ids of the instances of each group.
        arrivals: the calls, in order of arrival.
        action: the action that is due at the boundary.

    Returns:
        One value for each group that has an accepted call.
    """
    at = taken_at(arrivals, action)
    first = {tag: min((at[id_] for id_ in ids if id_ in at), default=None) for tag, ids in groups.items()}
    return {
        window.tag: (arrived - window.due_at(action)).total_seconds()
        for window in windows
        if (arrived := first[window.tag]) is not None
    }


def taken_at(arrivals: Iterable[Arrival], action: Power) -> dict[str, datetime]:
    """The arrival of the first accepted call for each instance. `arrivals` are in order of arrival."""
    at: dict[str, datetime] = {}
    for arrival in arrivals:
        if arrival.action == action and arrival.taken:
            for id_ in arrival.instance_ids:
                at.setdefault(id_, arrival.at)
    return at


def quantile(values: Iterable[float], q: float) -> float:
    """The value at the share `q` of the sorted values; for 0.99 of up to 100 values, the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
