"""The bookings that the API server stored over time, and the power state that they require. No I/O."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from booking_operator.config import Settings

NEVER = datetime.max.replace(tzinfo=UTC)
BLINK = timedelta(seconds=1)
"""A gap between two bookings that is shorter than this needs no stop."""

GRACE = Settings().deletion_grace
"""A stop that an edit causes waits this long. It is not due if the group is wanted again by then."""

Action = Literal["StartInstances", "StopInstances"]


@dataclass(frozen=True, slots=True)
class Version:
    """One booking as it was stored from `since` until before `until`. All instants are aware UTC."""

    tag: str
    name: str
    start: datetime
    end: datetime
    since: datetime
    until: datetime = NEVER

    def holds(self, at: datetime) -> bool:
        """Whether this version requires running instances at an instant."""
        return self.start <= at < self.end and self.since <= at < self.until


@dataclass(frozen=True, slots=True)
class Boundary:
    """An instant at which all instances of a group are due to start or to stop.

    Attributes:
        edited: whether it is the result of an edit at that very instant, so that it was not known ahead.
    """

    at: datetime
    tag: str
    action: Action
    edited: bool


class Ledger:
    """All versions of all bookings."""

    def __init__(self) -> None:
        self.versions: list[Version] = []

    def made(self, tag: str, name: str, start: datetime, end: datetime, at: datetime) -> None:
        """Record that the API server has a booking, or has it again, from `at` on."""
        self.gone(name, at)
        self.versions.append(Version(tag, name, start, end, at))

    def gone(self, name: str, at: datetime) -> None:
        """Record that the API server no longer has a booking."""
        self.versions = [
            replace(version, until=at) if version.name == name and version.until == NEVER else version
            for version in self.versions
        ]

    def present(self) -> list[Version]:
        """The current versions of all bookings."""
        return [version for version in self.versions if version.until == NEVER]

    def rolled_back(self, to: datetime, at: datetime) -> None:
        """Record that from `at` on, the API server has the bookings that it had at `to`."""
        had = [version for version in self.versions if version.since <= to < version.until]
        for version in self.present():
            if version not in had:
                self.gone(version.name, at)
        self.versions += [
            replace(version, since=at, until=NEVER) for version in had if version.until != NEVER
        ]

    def doubted(self, since: datetime, until: datetime) -> None:
        """Record that all bookings vanished at `since`, and that the data is stale until `until`.

        Running instances keep running until `until`. Nothing starts.
        """
        for version in self.present():
            ends = until if version.holds(since) else since
            self.versions[self.versions.index(version)] = replace(version, until=ends)

    def wanted(self, tag: str, at: datetime) -> bool:
        """Whether the group must run at an instant."""
        return any(version.tag == tag and version.holds(at) for version in self.versions)

    def constant(self, tag: str, since: datetime, until: datetime, *, wanted: bool) -> bool:
        """Whether the group must run, or with `wanted` False must not, at all instants of a time span."""
        changes = {at for at in self._instants(tag) if since < at <= until}
        return all(self.wanted(tag, at) is wanted for at in {since, *changes})

    def boundaries(self, tag: str) -> list[Boundary]:
        """The power changes of a group, in order.

        Changes that are reverted within `BLINK`, or by edits within `GRACE`, are left out.
        """
        kept = _without_reverted(self._changes(tag), _within_grace)
        return _without_reverted(kept, lambda first, second: second.at - first.at < BLINK)

    def _changes(self, tag: str) -> Iterator[Boundary]:
        planned = {at for version in self._of(tag) for at in (version.start, version.end)}
        was = False
        for at in sorted(self._instants(tag)):
            if (wanted := self.wanted(tag, at)) != was:
                action: Action = "StartInstances" if wanted else "StopInstances"
                yield Boundary(at, tag, action, edited=at not in planned)
                was = wanted

    def _of(self, tag: str) -> list[Version]:
        return [version for version in self.versions if version.tag == tag]

    def _instants(self, tag: str) -> set[datetime]:
        """The instants at which a version of a booking begins or ends, as planned or by an edit."""
        spans = [(version.start, version.end, version.since, version.until) for version in self._of(tag)]
        return {at for span in spans for at in span} - {NEVER}


def _within_grace(stop: Boundary, start: Boundary) -> bool:
    """Whether an edit reverts the stop of an earlier edit within the grace of a deletion."""
    edits = stop.action == "StopInstances" and stop.edited and start.edited
    return edits and start.at - stop.at < GRACE


def _without_reverted(
    boundaries: Iterable[Boundary], reverted: Callable[[Boundary, Boundary], bool]
) -> list[Boundary]:
    """Leave out a boundary and the next one if the next one reverts it."""
    found: list[Boundary] = []
    for boundary in boundaries:
        if found and reverted(found[-1], boundary):
            found.pop()
        else:
            found.append(boundary)
    return found
