"""The script of a run: a usual fleet in its busiest hour, at twenty times the density. Pure.

A usual fleet has 50 Resources of two instances. In its busiest hour, the first of the working day, each of
them starts: 50 boundaries. At twenty times that density, each Resource has a boundary every three minutes on
average: a booking of some minutes, and then a pause of some minutes. This gives 1,000 boundaries an hour.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from bench.windows import Power
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, RESOURCE_MONITOR, Kind
from booking_operator.cloud.aws.tags import APPLICATION_TAG, MANAGED_TAG

RESOURCES, SIZE = 50, 2
DENSITY = 20
PERIOD = timedelta(hours=1) * 2 / DENSITY
"""The time between the starts of two consecutive bookings of a Resource. It contains two boundaries."""
DATABASES = 3
CRONS = 5
"""The number of Resources with a BookingScheduler. Their bookings begin and end together, at full minutes."""
GUESTS = 4
"""The number of groups that keep changing their tag, each time to a new value."""
AHEAD = 1000
"""The number of bookings that begin in a week or later. A usual fleet has bookings for the next ten days, two
a day."""
TARGET = "team-hook"
LENGTH = timedelta(seconds=180)
_JITTER = 40.0
_LEAD = timedelta(minutes=8)
_STAYS = timedelta(minutes=2)
_WEEK = timedelta(days=7)
_GUEST_PERIOD = timedelta(seconds=90)
_OFFICE_PERIOD = timedelta(minutes=2)

Verb = Literal["create", "patch", "delete", "tag"]
Fate = Literal["kept", "extended", "shortened", "cancelled", "dropped"]
FATES: Mapping[Fate, int] = {"kept": 55, "extended": 20, "shortened": 10, "cancelled": 10, "dropped": 5}
"""The fates of bookings, in percent; a `dropped` booking is deleted while it is in progress."""


@dataclass(frozen=True, slots=True)
class Deed:
    """An action of a user at an instant (aware UTC), on an object or on the tags of a group of instances."""

    at: datetime
    verb: Verb
    kind: Kind[Any] | None
    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Boundary:
    """An instant (aware UTC) at which a group is due to start or to stop.

    Attributes:
        foreseen: whether it was known well ahead. A stop after the deletion of a booking was not.
    """

    tag: str
    action: Power
    due: datetime
    foreseen: bool = True


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that happens in a run.

    Attributes:
        standing: the actions that create the initial objects, before the run begins.
        deeds: the actions during the run, in order.
        boundaries: the resulting boundaries, in order.
    """

    standing: tuple[Deed, ...]
    deeds: tuple[Deed, ...]
    boundaries: tuple[Boundary, ...]


def tags(kind: str, n: int) -> list[str]:
    """Names of groups, which are also the names of their Resources."""
    return [f"{kind}-{number:02}" for number in range(n)]


def script(begin: datetime, end: datetime, seed: int) -> Script:
    """Generate the script of a run from `begin` to `end`. The same seed gives the same script."""
    chance = random.Random(seed)
    deeds: list[Deed] = []
    boundaries: list[Boundary] = []
    for kind, n in (("team", RESOURCES), ("db", DATABASES)):
        for tag in tags(kind, n):
            at = begin - 3 * PERIOD + timedelta(seconds=chance.uniform(0, PERIOD.total_seconds()))
            while at < end + _LEAD:
                did, due = _stay(chance, tag, at)
                deeds += did
                boundaries += due if kind == "team" else ()
                at += PERIOD
    for number, tag in enumerate(tags("guest", GUESTS)):
        at = begin + number * _GUEST_PERIOD / GUESTS
        for turn in range(1 + int((end - at) / _GUEST_PERIOD)):
            deeds += _guest(tag, turn, at + turn * _GUEST_PERIOD, monitored=number % 2 == 0)
    deeds += _office(begin, end)
    boundaries += _crons(begin, end)
    ordered = sorted(deeds, key=lambda deed: deed.at)
    ahead = [Deed(begin, "create", BOOKING, f"ahead-{n:04}", _ahead(n, begin)) for n in range(AHEAD)]
    return Script(
        (*_fixed(begin), *standing(ordered, begin), *ahead),
        tuple(deed for deed in ordered if begin <= deed.at < end),
        tuple(sorted((item for item in boundaries if begin <= item.due < end), key=lambda item: item.due)),
    )


def standing(deeds: Iterable[Deed], begin: datetime) -> list[Deed]:
    """Actions that create the objects which exist at `begin`, in the state that the earlier actions left."""
    there: dict[tuple[Kind[Any] | None, str], Deed] = {}
    for deed in (deed for deed in deeds if deed.at < begin):
        which = deed.kind, deed.name
        if deed.verb == "delete":
            del there[which]
        else:
            spec = {**(there[which].spec if which in there else {}), **deed.spec}
            there[which] = Deed(begin, "create", deed.kind, deed.name, spec)
    return list(there.values())


def booking(tag: str, start: datetime, end: datetime, *recipients: str) -> dict[str, Any]:
    """The spec of a Booking."""
    times = {"start_at": start.isoformat(), "end_at": end.isoformat()}
    notifications = [{"type": "webhook", "recipient": recipient} for recipient in recipients]
    return {"resource_name": tag, "user_id": "ada", **times, "notifications": notifications}


def _stay(chance: random.Random, tag: str, at: datetime) -> tuple[list[Deed], list[Boundary]]:
    """The life of a booking from its creation to its deletion, `_STAYS` after its end."""
    start = at + timedelta(seconds=chance.uniform(0, _JITTER))
    end = start + LENGTH + timedelta(seconds=chance.uniform(0, _JITTER))
    fate = chance.choices(list(FATES), list(FATES.values()))[0]
    name = f"{tag}-{at:%d%H%M%S}"
    deeds = [Deed(start - _LEAD, "create", BOOKING, name, booking(tag, start, end, TARGET))]
    foreseen, gone = True, None
    if fate in {"extended", "shortened"}:
        end += timedelta(seconds=20 if fate == "extended" else -30)
        edit_at = start + LENGTH / 2
        deeds.append(Deed(edit_at, "patch", BOOKING, name, {"end_at": end.isoformat()}))
    if fate == "cancelled":
        deeds.append(Deed(start - timedelta(seconds=30), "delete", BOOKING, name))
        return deeds, []
    if fate == "dropped":
        foreseen, gone = False, start + LENGTH / 2
    deeds.append(Deed(gone or end + _STAYS, "delete", BOOKING, name))
    return deeds, [
        Boundary(tag, "StartInstances", start),
        Boundary(tag, "StopInstances", gone or end, foreseen),
    ]


def _guest(group: str, turn: int, at: datetime, *, monitored: bool) -> Iterator[Deed]:
    """A Resource that is created, booked for half a minute, and deleted, by a monitor or by a user."""
    tag = f"{group}-{turn:04}"
    start, end = at + timedelta(seconds=40), at + timedelta(seconds=70)
    away = at + timedelta(seconds=83)
    managed = "true" if monitored else "false"
    yield Deed(at, "tag", None, group, {APPLICATION_TAG: tag, MANAGED_TAG: managed})
    if not monitored:
        yield Deed(at, "create", RESOURCE, tag, {"tag": tag})
        yield Deed(away, "delete", RESOURCE, tag)
    yield Deed(at + timedelta(seconds=5), "create", BOOKING, tag, booking(tag, start, end))
    yield Deed(at + timedelta(seconds=80), "delete", BOOKING, tag)
    yield Deed(away, "tag", None, group, {APPLICATION_TAG: group, MANAGED_TAG: "false"})


def _office(begin: datetime, end: datetime) -> Iterator[Deed]:
    """One scheduler after the other. Each is suspended before it is deleted."""
    for turn in range(1 + int((end - begin) / _OFFICE_PERIOD)):
        at, name = begin + turn * _OFFICE_PERIOD, f"office-{turn:03}"
        yield Deed(at, "create", BOOKING_SCHEDULER, name, scheduler("office-00", "* * * * *", "5m", 1))
        yield Deed(at + _OFFICE_PERIOD / 2, "patch", BOOKING_SCHEDULER, name, {"suspend": True})
        yield Deed(at + _OFFICE_PERIOD * 0.9, "delete", BOOKING_SCHEDULER, name)


def scheduler(tag: str, cron: str, horizon: str, keep: int) -> dict[str, Any]:
    """The spec of a BookingScheduler for bookings of one minute."""
    template = {"resource_name": tag, "user_id": "cron"}
    return {
        "schedule": cron,
        "duration": 1,
        "horizon": horizon,
        "keep_finished": keep,
        "bookingTemplate": template,
    }


def _crons(begin: datetime, end: datetime) -> Iterator[Boundary]:
    """Boundaries of the schedulers: starts at even minutes, stops at odd minutes."""
    minute = begin.replace(second=0, microsecond=0) + timedelta(minutes=2)
    while minute < end:
        action: Power = "StopInstances" if minute.minute % 2 else "StartInstances"
        yield from (Boundary(tag, action, minute) for tag in tags("cron", CRONS))
        minute += timedelta(minutes=1)


def _fixed(begin: datetime) -> Iterator[Deed]:
    """The objects that exist during the whole run."""
    for kind, n in (("team", RESOURCES), ("cron", CRONS), ("office", 1), ("db", DATABASES)):
        for tag in tags(kind, n):
            yield Deed(begin, "create", RESOURCE, tag, {"tag": tag, "type": "rds" if kind == "db" else "ec2"})
    for tag in tags("cron", CRONS):
        yield Deed(begin, "create", BOOKING_SCHEDULER, tag, scheduler(tag, "*/2 * * * *", "10m", 3))
    yield Deed(begin, "create", RESOURCE_MONITOR, "ec2", {"type": "ec2", "interval": "10s", "prune": True})


def _ahead(number: int, begin: datetime) -> dict[str, Any]:
    start = begin + _WEEK + timedelta(hours=12 * (number // RESOURCES))
    return booking(tags("team", RESOURCES)[number % RESOURCES], start, start + timedelta(hours=4), TARGET)
