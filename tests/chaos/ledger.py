"""Which bookings the API server has stored when, and so what the instances are to do when. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

NEVER = datetime.max.replace(tzinfo=UTC)
BLINK = timedelta(seconds=1)
"""An instance without a booking for less than this between two bookings need not be stopped."""

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
        """Whether instances are to run because of it."""
        return self.start <= at < self.end and self.since <= at < self.until


@dataclass(frozen=True, slots=True)
class Boundary:
    """An instant at which all instances of a group are to be started, or stopped.

    Attributes:
        edited: it comes of an edit at that very instant, so nobody could know it before.
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
        """The API server has a booking, or has it again, from `at` on."""
        self.gone(name, at)
        self.versions.append(Version(tag, name, start, end, at))

    def gone(self, name: str, at: datetime) -> None:
        """It has it no more."""
        self.versions = [
            replace(version, until=at) if version.name == name and version.until == NEVER else version
            for version in self.versions
        ]

    def present(self) -> list[Version]:
        """What it has now."""
        return [version for version in self.versions if version.until == NEVER]

    def rolled_back(self, to: datetime, at: datetime) -> None:
        """From `at` on it has again what it had at `to`."""
        had = [version for version in self.versions if version.since <= to < version.until]
        for version in self.present():
            if version not in had:
                self.gone(version.name, at)
        self.versions += [
            replace(version, since=at, until=NEVER) for version in had if version.until != NEVER
        ]

    def doubted(self, since: datetime, until: datetime) -> None:
        """All bookings have vanished, and nobody knows what that means before `until`.

        What runs, runs on to its end; nothing is started.
        """
        for version in self.present():
            ends = until if version.holds(since) else since
            self.versions[self.versions.index(version)] = replace(version, until=ends)

    def wanted(self, tag: str, at: datetime) -> bool:
        """Whether the group is to run at an instant."""
        return any(version.tag == tag and version.holds(at) for version in self.versions)

    def boundaries(self, tag: str) -> list[Boundary]:
        """When its power is to change, in order; not where it would change back within a blink."""
        found: list[Boundary] = []
        for boundary in self._changes(tag):
            if found and boundary.at - found[-1].at < BLINK:
                found.pop()
            else:
                found.append(boundary)
        return found

    def _changes(self, tag: str) -> Iterator[Boundary]:
        mine = [version for version in self.versions if version.tag == tag]
        planned = {instant for version in mine for instant in (version.start, version.end)}
        edits = {instant for version in mine for instant in (version.since, version.until)} - {NEVER}
        was = False
        for at in sorted(planned | edits):
            if (wanted := self.wanted(tag, at)) != was:
                action: Action = "StartInstances" if wanted else "StopInstances"
                yield Boundary(at, tag, action, edited=at not in planned)
                was = wanted
