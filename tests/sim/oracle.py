"""Which instances a replica may start or stop, given what it can know.

The rules here are written independently of the operator's rules, and use the true state of the world. A
replica need not know recent writes. Each object is therefore checked in every state that the replica may
still believe in: from the newest state that it must know to the newest state. A stop is forbidden if all of
these states forbid it. A start is allowed if any of them allows it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.sim.aws import Machine
from tests.sim.kernel import EPOCH
from tests.sim.kube import SimKube
from tests.sim.storage import Object
from tests.sim.world import Slot

WATCH_DELAY_SECONDS = 2.0
"""Seconds within which a healthy watch delivers an event."""
CLOCK_STEP_SECONDS = 15.0
"""Seconds after a step of its clock in which a replica may still act on the earlier reading."""
MAX_AUTO_WARM_UP_SECONDS = 3600.0
"""The longest warm-up that `warm_up: auto` may result in."""
MAX_CLOCK_SKEW_SECONDS = 120.0
"""How far the clock of a replica may be behind."""
HOUR = 3600.0
_DEFAULT_WARM_UPS = {
    "ec2": timedelta(minutes=2),
    "ecs": timedelta(minutes=2),
    "asg": timedelta(minutes=5),
    "rds": timedelta(minutes=10),
}
"""The warm-up of `warm_up: auto` before the first measured start, by `spec.type`."""
LATEST = float("inf")
"""An instant after all writes."""
TOLERANCE = timedelta(milliseconds=1)

State = Object | None


def known_until(slot: Slot, now: float) -> float:
    """Return the instant up to which a replica knows all writes, despite the outages of its watches."""
    known = now - WATCH_DELAY_SECONDS
    changed = True
    while changed:
        changed = False
        for begin, end in slot.watch_outages:
            if begin - WATCH_DELAY_SECONDS < known < end:
                known, changed = begin - WATCH_DELAY_SECONDS, True
    return known


def clock_readings(slot: Slot, now: float) -> list[datetime]:
    """Return the possible readings of a replica's clock at `now`."""
    recent = [ahead for at, ahead in slot.clock_offsets if at > now - CLOCK_STEP_SECONDS]
    settled = [ahead for at, ahead in slot.clock_offsets if at <= now - CLOCK_STEP_SECONDS][-1:]
    return [EPOCH + timedelta(seconds=now + ahead) for ahead in {*recent, *settled}]


def parse_time(text: Any) -> datetime | None:
    """Return the instant of a field of a spec; None if it is invalid."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def duration(text: str) -> timedelta:
    """Parse a duration such as `30s` or `5m`; `auto` gives the longest possible one."""
    if text == "auto":
        return timedelta(seconds=MAX_AUTO_WARM_UP_SECONDS)
    return timedelta(seconds=float(text[:-1])) * {"s": 1, "m": 60}[text[-1]]


@dataclass(frozen=True)
class Oracle:
    """The rules, applied to the true state."""

    kube: SimKube

    def resource_states(self, name: str, since: float, until: float) -> Sequence[State]:
        """Return all states of a Resource between two instants; a Resource that never existed is None."""
        for (_, found), versions in self.kube.storage.versions["resources"].items():
            if found == name:
                return _within(versions, since, until)
        return [None]

    def names(self) -> list[str]:
        """Return the names of all Resources that ever existed."""
        return [name for _, name in self.kube.storage.versions["resources"]]

    def required(self, name: str, since: float, until: float, *, surely: bool) -> dict[str, timedelta]:
        """Return which Resources one requires between two instants, with the longest lead.

        With `surely`, each step is required in all states, otherwise in any state. A Resource is not its own.
        """
        leads: dict[str, timedelta] = {}
        self._follow(name, timedelta(0), (name,), leads, (since, until), surely=surely)
        return leads

    def _follow(
        self,
        name: str,
        lead: timedelta,
        path: tuple[str, ...],
        leads: dict[str, timedelta],
        window: tuple[float, float],
        *,
        surely: bool,
    ) -> None:
        states = self.resource_states(name, *window)
        warm_ups = [_warm_up(state) for state in states if state is not None]
        sets = [set(state["spec"].get("requires", ())) if state is not None else set() for state in states]
        direct = set.intersection(*sets) if surely else set.union(*sets)
        lead += max(warm_ups, default=timedelta(0))
        for other in sorted(direct - set(path)):
            leads[other] = max(lead, leads.get(other, lead))
            self._follow(other, lead, (*path, other), leads, window, surely=surely)

    def is_cyclic(self, name: str, since: float, until: float) -> bool:
        """Whether a Resource may have required itself, directly or not, between two instants."""
        direct = self.required(name, since, until, surely=False)
        back = (
            name in state["spec"].get("requires", ())
            for other in (name, *direct)
            for state in self.resource_states(other, since, until)
            if state is not None
        )
        return any(back)

    def closure_states(self, name: str, since: float, until: float) -> list[Object]:
        """Return all states of a Resource, and of those that it may require."""
        names = (name, *self.required(name, since, until, surely=False))
        found = (state for one in names for state in self.resource_states(one, since, until))
        return [state for state in found if state is not None]

    def exclusives(self, name: str, since: float, until: float, *, surely: bool) -> set[str]:
        """Return the exclusive Resources that a booking of a Resource takes, in all states or in any."""
        found = (name, *self.required(name, since, until, surely=surely))
        every = all if surely else any
        return {one for one in found if every(map(is_exclusive, self.resource_states(one, since, until)))}

    def sharing(self, name: str) -> list[str]:
        """Return the Resources whose bookings take an exclusive Resource that those of `name` take too."""
        own = self.exclusives(name, LATEST, LATEST, surely=True)
        return [one for one in self.names() if own & self.exclusives(one, LATEST, LATEST, surely=True)]

    def sources(self, name: str, since: float, until: float) -> list[str]:
        """Return the Resources whose bookings surely are bookings of a Resource, itself first."""
        others = (one for one in self.names() if one != name)
        return [
            name,
            *(one for one in others if name in self.required(one, since, until, surely=True)),
        ]

    def states(self, plural: str, since: float, until: float) -> Iterator[Sequence[State]]:
        """Yield for each object of a kind all states that it had between two instants."""
        for versions in self.kube.storage.versions[plural].values():
            yield _within(versions, since, until)

    def reason_not_to_stop(self, machine: Machine, since: float, now: float, at: Sequence[datetime]) -> str:
        """Return why a replica must not stop an instance; empty if it may.

        Args:
            machine: the instance.
            since: the replica knows all writes up to this instant.
            now: the instant of the call.
            at: the possible readings of the replica's clock.
        """
        for states in self.states("resources", since, now):
            if not all(self._is_oldest(state, machine, since, now) for state in states):
                continue
            if all(state and is_suspended(state, instant) for state in states for instant in at):
                return "its Resource is suspended"
            if all(state and _ad_hoc(state, instant) for state in states for instant in at):
                return "it is booked ad hoc"
            name = next(state["metadata"]["name"] for state in states if state is not None)
            for source in self.sources(name, since, now):
                booked_states = states if source == name else self.resource_states(source, since, now)
                limits = self.closure_states(source, since, now)
                for bookings in self.states("bookings", since, now):
                    if all(
                        booked(booking, state, instant, limits=limits)
                        for booking in bookings
                        for state in booked_states
                        for instant in at
                    ):
                        return f"it is booked by {bookings[0]['metadata']['name'] if bookings[0] else ''}"
        if not any(
            any(_matches(state, machine) for state in states)
            for states in self.states("resources", since, now)
        ):
            return "it has no Resource"
        return ""

    def may_start(self, machine: Machine, since: float, now: float, at: Sequence[datetime]) -> bool:
        """Whether a replica may start an instance. The arguments are those of `reason_not_to_stop`."""
        for states in self.states("resources", since, now):
            for state in states:
                if state is None or not _matches(state, machine):
                    continue
                acting = [instant for instant in at if not is_suspended(state, instant)]
                if any(_ad_hoc(state, instant) for instant in acting):
                    return True
                warm_up = duration(state["spec"].get("warm_up", "0s")) + TOLERANCE
                for bookings in self.states("bookings", since, now):
                    if any(
                        booked(booking, state, instant, warm_up) for booking in bookings for instant in acting
                    ):
                        return True
                if self._may_be_required(state["metadata"]["name"], warm_up, since, now, acting):
                    return True
        return False

    def _may_be_required(
        self, name: str, warm_up: timedelta, since: float, now: float, at: Sequence[datetime]
    ) -> bool:
        """Whether a Resource may be booked because another one requires it."""
        for source in self.names():
            lead = self.required(source, since, now, surely=False).get(name)
            if source == name or lead is None:
                continue
            for state in self.resource_states(source, since, now):
                if state is not None and any(_ad_hoc(state, instant) for instant in at):
                    return True
                for bookings in self.states("bookings", since, now):
                    if any(
                        booked(booking, state, instant, warm_up + lead)
                        for booking in bookings
                        for instant in at
                    ):
                        return True
        return False

    def _is_oldest(self, state: State, machine: Machine, since: float, now: float) -> bool:
        """Whether a Resource matches an instance, and no older Resource does."""
        if not _matches(state, machine) or state is None:
            return False
        own = _age_order(state)
        return not any(
            other is not None and _matches(other, machine) and _age_order(other) < own
            for states in self.states("resources", since, now)
            for other in states
        )

    # The current state.

    def wanted(self, resource: Object, now: float) -> bool:
        """Whether a Resource is wanted running at an instant, according to the Bookings of this instant.

        Resources count as they are now.
        """
        bookings = [state for states in self.states("bookings", now, now) for state in states]
        instant = EPOCH + timedelta(seconds=now)
        warm_up = duration(resource["spec"].get("warm_up", "0s"))
        if resource["spec"].get("warm_up") == "auto":
            warm_up = _reported_warm_up(resource)
        if _ad_hoc(resource, instant):
            return True
        name = resource["metadata"]["name"]
        for source in self.sources(name, LATEST, LATEST):
            state = resource if source == name else self.resource_states(source, LATEST, LATEST)[-1]
            lead = self.required(source, LATEST, LATEST, surely=True).get(name, timedelta(0))
            limits = self.closure_states(source, LATEST, LATEST)
            if any(booked(booking, state, instant, warm_up + lead, limits) for booking in bookings):
                return True
        return False

    def changed_within(self, resource: Object, since: float, now: float, step: float = 1.0) -> bool:
        """Whether `wanted` had another value at any time since `since`.

        The step is as short as the shortest booking.
        """
        wanted, at = self.wanted(resource, now), now
        while at > since:
            at -= step
            if self.wanted(resource, at) != wanted:
                return True
        return False

    def wanted_for(self, resource: Object, now: float, limit: float, step: float = 5.0) -> float:
        """Return since how many seconds `wanted` has its present value, up to `limit`.

        Another value for less than a second does not count. A creation time is given in whole seconds, so a
        replica does not see that a booking was created just after the end of the one before.
        """
        wanted, lasts = self.wanted(resource, now), 0.0
        while lasts < limit:
            at = now - lasts - step
            if wanted not in {self.wanted(resource, at), self.wanted(resource, at - 1.0)}:
                break
            lasts += step
        return lasts

    def oldest_resources(self) -> list[Object]:
        """Return the oldest Resource of each group. The others have no effect."""
        oldest: dict[tuple[str, str, str], Object] = {}
        for resource in sorted(self.kube.all("resources"), key=_age_order):
            spec = resource["spec"]
            oldest.setdefault((spec.get("type", "ec2"), spec.get("account", ""), spec["tag"]), resource)
        return list(oldest.values())


def occurrences(scheduler: Object, now: float) -> list[float]:
    """Return the starts of the occurrences that must have bookings.

    These are the occurrences in progress, the next one, and all others up to the horizon.
    """
    spec, created_at = scheduler["spec"], parse_time(scheduler["metadata"]["creationTimestamp"])
    assert created_at is not None
    ahead = max(0.0, duration(spec["horizon"]).total_seconds() - MAX_CLOCK_SKEW_SECONDS)
    since = max((created_at - EPOCH).total_seconds(), now - 60.0 * spec["duration"])
    first = spec["schedule"].split()[0]
    minutes = range(0, 60, int(first[2:])) if first.startswith("*/") else (int(first),)
    hours = range(int(since // HOUR), int((now + ahead) // HOUR) + 2)
    starts = [HOUR * hour + 60.0 * minute for hour in hours for minute in minutes]
    started = [start for start in starts if since < start <= now]
    upcoming = [start for start in starts if start > now]
    return started + [start for start in upcoming if start <= max(upcoming[0], now + ahead)]


def _within(versions: Sequence[Any], since: float, until: float) -> Sequence[State]:
    states: list[State] = [None]
    for version in versions:
        if version.since <= since:
            states = [version.object]
        elif version.since <= until:
            states.append(version.object)
    return states


def _matches(state: State, machine: Machine) -> bool:
    """Whether a state of a Resource exists, is not terminating, and selects the instance."""
    if state is None or state["metadata"].get("deletionTimestamp"):
        return False
    spec = state["spec"]
    group = (machine.service, machine.scope.account, machine.tags["resource-booking-application"])
    return (spec.get("type", "ec2"), spec.get("account", ""), spec.get("tag")) == group


def instance_filter(resource: Object) -> Callable[[Machine], bool]:
    """Return a function that says whether an instance is in the group of a Resource."""
    return lambda machine: _matches(resource, machine)


def _age_order(state: Object) -> tuple[str, str]:
    return state["metadata"]["creationTimestamp"], state["metadata"]["name"]


def _ad_hoc(state: Object, instant: datetime) -> bool:
    spec = state["spec"]
    until = parse_time(spec.get("booked_until"))
    return bool(spec.get("booked_by")) and until is not None and instant < until


Interval = tuple[datetime, datetime]


def wanted_interval(booking: Object) -> Interval | None:
    """Return the interval in the spec of a booking; None if it is invalid."""
    start, end = parse_time(booking["spec"]["start_at"]), parse_time(booking["spec"]["end_at"])
    return (start, end) if start is not None and end is not None and start < end else None


def recorded_interval(booking: Object, resource: str) -> Interval | None:
    """Return the interval that a Resource has accepted, as the status of the booking says; None for none."""
    status = booking.get("status", {})
    start, end = parse_time(status.get("accepted_from")), parse_time(status.get("accepted_until"))
    if status.get("accepted_resource") != resource or start is None or end is None:
        return None
    return start, end


def common(one: Interval | None, other: Interval | None) -> Interval | None:
    """Return the part that two intervals have in common; None for none."""
    if one is None or other is None:
        return None
    start, end = max(one[0], other[0]), min(one[1], other[1])
    return (start, end) if start < end else None


def is_suspended(resource: Object, instant: datetime) -> bool:
    """Whether a Resource is suspended at an instant."""
    until = parse_time(resource["spec"].get("suspend_until"))
    return bool(resource["spec"].get("suspend")) or (until is not None and instant < until)


def is_exclusive(resource: State) -> bool:
    """Whether a Resource exists, and accepts one booking at a time."""
    return resource is not None and resource["spec"].get("sharing") == "Exclusive"


def booked(
    booking: State,
    resource: State,
    instant: datetime,
    warm_up: timedelta = timedelta(0),
    limits: Sequence[Object] = (),
) -> bool:
    """Whether the instances of a Resource run for a booking at an instant.

    `limits` has all states of the Resource, and of those that it requires, whose rules may apply.
    """
    if booking is None or resource is None:
        return False
    name, wanted = resource["metadata"]["name"], wanted_interval(booking)
    if booking["spec"]["resource_name"] != name or wanted is None:
        return False
    length = wanted[1] - wanted[0]
    if any(is_exclusive(state) or is_too_long(length, state) for state in (resource, *limits)):
        wanted = common(wanted, recorded_interval(booking, name))
    return wanted is not None and wanted[0] - warm_up <= instant < wanted[1]


def is_too_long(length: timedelta, resource: Object) -> bool:
    """Whether a booking of this length breaks the limit of a Resource."""
    longest = resource["spec"].get("max_duration")
    return bool(longest) and length > duration(longest)


def _warm_up(resource: Object) -> timedelta:
    """Return the warm-up of a Resource: that in its status for `auto`, or the default of its service."""
    text = resource["spec"].get("warm_up", "0s")
    if text != "auto":
        return duration(text)
    if not resource.get("status", {}).get("warm_up"):
        return _DEFAULT_WARM_UPS[resource["spec"].get("type", "ec2")]
    return _reported_warm_up(resource)


def _reported_warm_up(resource: Object) -> timedelta:
    """Return the warm-up in the status of a Resource."""
    text = resource.get("status", {}).get("warm_up") or "0s"
    seconds = 0.0
    number = ""
    for letter in text:
        if letter.isdigit():
            number += letter
        else:
            seconds += float(number or 0) * {"h": 3600, "m": 60, "s": 1}[letter]
            number = ""
    return timedelta(seconds=seconds)
