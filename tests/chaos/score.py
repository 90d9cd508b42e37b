"""Scores a trial: compares the calls that reached AWS with the bookings. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from tests.chaos.ledger import NEVER, Boundary, Ledger
from tests.support.aws_call import ON_ITS_WAY

_POWER = {"StartInstances", "StopInstances"}


class Sent(Protocol):
    """The attributes of a call that the score reads."""

    @property
    def action(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def status(self) -> int: ...
    @property
    def instance_ids(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Bound:
    """The lateness in seconds up to which an action counts as kept: at a booked boundary, after an edit."""

    booked: float
    edited: float


@dataclass(slots=True)
class Score:
    """The score of one fault. Times are in seconds.

    Attributes:
        boundaries: the number of boundaries, including those of edits.
        kept: the number of boundaries whose actions were within their bound.
        start, stop: the largest lateness at booked boundaries.
        edit: the largest lateness after edits.
        lost: boundaries without an action.
        violations: stops inside a booking, and starts outside of all bookings.
    """

    boundaries: int = 0
    kept: int = 0
    start: float = 0.0
    stop: float = 0.0
    edit: float = 0.0
    lost: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def score(ledger: Ledger, groups: Mapping[str, Sequence[str]], calls: Sequence[Sent], bound: Bound) -> Score:
    """Compare all calls with all bookings of the groups, whose instances are given by id."""
    power = [call for call in calls if call.action in _POWER]
    found = Score()
    for tag, ids in groups.items():
        due = ledger.boundaries(tag)
        for number, boundary in enumerate(due):
            before = due[number + 1].at if number + 1 < len(due) else NEVER
            _note(found, boundary, _lateness(boundary, before, ids, power), bound)
        found.violations += _violations(ledger, tag, ids, power)
    return found


def _note(found: Score, due: Boundary, late: timedelta | None, bound: Bound) -> None:
    found.boundaries += 1
    if late is None:
        found.lost.append(f"{due.action} for {due.tag} at {due.at.isoformat()}")
        return
    seconds = late.total_seconds()
    found.kept += seconds <= (bound.edited if due.edited else bound.booked)
    if due.edited:
        found.edit = max(found.edit, seconds)
    elif due.action == "StartInstances":
        found.start = max(found.start, seconds)
    else:
        found.stop = max(found.stop, seconds)


def _lateness(due: Boundary, before: datetime, ids: Sequence[str], calls: Sequence[Sent]) -> timedelta | None:
    """The time from a boundary to the action on its last instance; None if the next boundary came first."""
    latest = timedelta(0)
    for id_ in ids:
        delays = [
            call.at - due.at
            for call in calls
            if call.action == due.action and call.status == 200 and id_ in call.instance_ids
            if due.at <= call.at < before
        ]
        if not delays:
            return None
        latest = max(latest, min(delays))
    return latest


def _violations(ledger: Ledger, tag: str, ids: Sequence[str], calls: Sequence[Sent]) -> list[str]:
    return [
        f"{call.action} for {tag} at {call.at.isoformat()}"
        for call in calls
        if set(ids) & set(call.instance_ids)
        for against in (call.action == "StopInstances",)
        if ledger.constant(tag, call.at - ON_ITS_WAY, call.at, wanted=against)
    ]
