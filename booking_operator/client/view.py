"""The Resources and Bookings of a namespace at one instant, as the commands and the explanations read them.

The operator computes from the same booking timelines and conditions (`reconcilers.informers`).
"""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from booking_operator.api.booking import Booking
from booking_operator.api.meta import InvalidSpec, find_condition, first_failure
from booking_operator.api.resource import (
    Resource,
    ResourceSpec,
    off_times,
    suspended_until,
)
from booking_operator.domain.acceptance import NO_RULES, BookingRequest, BookingRules, Decision, decide
from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.booking_timeline import BookingTimeline, TimelineState
from booking_operator.domain.conditions import ON_THEIR_WAY, Failure
from booking_operator.domain.local_time import format_interval, format_time
from booking_operator.domain.power import GraceReason
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.informers import Informers

SILENCE = timedelta(minutes=1)
"""How late a report of the operator is before the operator counts as silent. It reports within seconds."""
AD_HOC = "(ad hoc)"
"""The name that stands for the ad-hoc booking in the spec of a Resource."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """The person for whom texts are made.

    Attributes:
        user: the name of the person, as in `user_id`.
        now: the present instant (aware UTC).
        zone: the time zone of the person.
        namespace: the namespace of the kubeconfig context. Commands in hints name any other one.
        access: the flags by which the person reaches the cluster, such as `--context`. Commands in hints have
            them, too.
    """

    user: str
    now: datetime
    zone: ZoneInfo
    namespace: str = ""
    access: tuple[str, ...] = ()

    def address(self, user: str) -> str:
        """Return `you` for the viewer, otherwise the name of the user."""
        return "you" if user == self.user else user

    def times(self, item: BookingInterval, day: date) -> str:
        """Return the times of a booking; without a day if both are on `day`, in the zone of the viewer."""
        begin, end = (at.astimezone(self.zone) for at in (item.start_at, item.end_at))
        if begin.date() == end.date() == day:
            return f"{format_time(begin)}–{format_time(end)}"
        return format_interval(item.start_at, item.end_at, self.now, self.zone)

    @property
    def today(self) -> date:
        """The present day in the zone of the viewer."""
        return self.now.astimezone(self.zone).date()

    def command(self, *words: str, namespace: str) -> str:
        """Return a command of kubectl for objects in a namespace, quoted for a shell."""
        flags = () if namespace == self.namespace else ("-n", namespace)
        return shlex.join(("kubectl", *words, *flags, *self.access))


@dataclass(frozen=True)
class ResourceView:
    """One Resource and its bookings at `now` (aware UTC).

    Attributes:
        resource: the Resource.
        timeline: the bookings for which its instances run.
        now: the instant.
        requests: the bookings that are decided together with those of a Resource with rules; empty otherwise.
        rules: the rules for bookings of the Resource and of those that it requires.
        rules_of: returns the rules for bookings of a Resource, by its name.
        other: returns another Resource of the namespace, by its name; None if it does not exist.
    """

    resource: Resource
    timeline: BookingTimeline
    now: datetime
    requests: Sequence[Booking] = ()
    rules: BookingRules = NO_RULES
    rules_of: Callable[[str], BookingRules] = lambda _: NO_RULES
    other: Callable[[str], "ResourceView | None"] = lambda _: None

    @property
    def name(self) -> str:
        """The name of the Resource."""
        return self.resource.metadata.name

    @property
    def namespace(self) -> str:
        """The namespace of the Resource."""
        return self.resource.metadata.namespace

    @property
    def spec(self) -> ResourceSpec | None:
        """The spec; None when it is invalid."""
        return None if isinstance(self.resource.spec, InvalidSpec) else self.resource.spec

    @property
    def waits_for_required(self) -> bool:
        """Whether a start waits until the required Resources are ready."""
        ready = find_condition(self.resource.status.conditions, "Ready")
        return ready is not None and ready.reason == GraceReason.REQUIRED

    @property
    def missing(self) -> list[str]:
        """The names of the Resources that it requires directly and that do not exist."""
        return [name for name in self.resource.requires if self.other(name) is None]

    @cached_property
    def state(self) -> TimelineState:
        """The state of the bookings at `now`."""
        return self.timeline.state_at(self.now, self.resource.warm_up)

    @cached_property
    def active(self) -> Sequence[BookingInterval]:
        """The active bookings, warm-up included; the holder first."""
        return self.timeline.active(self.now, self.resource.warm_up)

    @cached_property
    def waiting(self) -> Sequence[BookingInterval]:
        """The bookings that have not ended and of which nothing is accepted, by precedence."""
        rules, name = self.rules, self.name
        wanted = [
            interval
            for booking in self.requests
            if booking.resource_name == name and booking.counted(rules) is None
            if (interval := booking.interval()) is not None and interval.end_at > self.now
        ]
        return sorted(wanted, key=lambda item: item.precedence)

    def bookings_within(self, begin: datetime, end: datetime) -> list[BookingInterval]:
        """Return the bookings that end after `begin` and start at `end` or before (aware UTC), by precedence.

        Those that are not accepted are included.
        """
        found = self.timeline.unfinished_by(begin, end)
        waiting = [item for item in self.waiting if item.end_at > begin and item.start_at <= end]
        return sorted([*found, *waiting], key=lambda item: item.precedence) if waiting else found

    def decision(self, interval: BookingInterval) -> Decision:
        """Return what the operator would accept of a booking that is made or changed now.

        Args:
            interval: the booking. If its name is that of an existing one, it takes the place of that one.
        """
        wanted = interval.span
        made = BookingRequest(interval.name, interval.user_id, interval.created_at, wanted, rules=self.rules)
        requests = []
        for booking in self.requests:
            for name in filter(None, {booking.resource_name, booking.status.accepted_resource}):
                request = booking.request(name, self.rules_of(name))
                if (booking.metadata.name, name) == (interval.name, self.name):
                    made = replace(request, wanted=wanted)
                elif request.name != interval.name:
                    requests.append(request)
        return decide([*requests, made], self.now).get(interval.name, Decision(wanted))

    @property
    def next_booking(self) -> BookingInterval | None:
        """The next booking that begins after `now`; None when there is none."""
        coming = (item for item in self.timeline.unfinished_by(self.now) if item.start_at > self.now)
        return min(coming, key=lambda item: item.start_at, default=None)

    @property
    def counts(self) -> str:
        """How many of how many instances run, like `2/2`."""
        return f"{self.resource.status.running}/{self.resource.status.instances}"

    @property
    def power(self) -> str:
        """The reported power status; UNKNOWN before the first observation."""
        return self.resource.status.status or "UNKNOWN"

    @property
    def as_booked(self) -> bool:
        """Whether the operator reports that all instances are as booked."""
        return any(item.type == "Ready" and item.status == "True" for item in self.resource.status.conditions)

    @property
    def suspended(self) -> bool:
        """Whether the Resource is suspended, so that the operator starts and stops no instance."""
        return self.spec is not None and (self.spec.suspend or self.suspended_until is not None)

    @property
    def suspended_until(self) -> datetime | None:
        """When the suspension ends by itself (aware UTC); None if it does not, or if there is none."""
        return suspended_until(self.spec, self.now) if self.spec is not None else None

    @property
    def off_at(self) -> datetime | None:
        """When instances that run unbooked are stopped by `stop_at` or `unbooked_for` (aware UTC).

        It is None if nothing runs unbooked, or if a booking begins before.
        """
        since = self.resource.status.unbooked_since
        if self.spec is None or not since or self.state.running_wanted or self.suspended:
            return None
        coming = [due for due in off_times(self.spec).due(since).values() if due > self.now]
        off, begins = min(coming, default=None), self.state.next_change_at
        return off if off is not None and (begins is None or off < begins) else None

    @property
    def next_change(self) -> tuple[datetime, bool] | None:
        """When the instances next start or stop (aware UTC), and whether they start; None for never."""
        off, at = self.off_at, self.state.next_change_at
        if off is not None:
            return off, False
        return (at, not self.state.running_wanted) if at is not None else None

    @property
    def failure(self) -> Failure | None:
        """The first condition that keeps the Resource from being as booked; None when there is none."""
        conditions = self.resource.status.conditions
        failure = first_failure(conditions, "Valid", "Found", "Synced")
        if failure is not None:
            return failure
        ready = first_failure(conditions, "Ready")
        return None if ready is None or ready.reason in ON_THEIR_WAY else ready

    def holds(self, item: BookingInterval) -> bool:
        """Whether a booking holds the lock when it begins."""
        return self.timeline.state_at(item.start_at).holder == item

    @property
    def note(self) -> str:
        """The most important problem in one or two words; empty for none."""
        if self.silent_since is not None:
            return "operator silent"
        failure = self.failure
        if failure is not None:
            return failure.reason
        if self.suspended:
            return "Suspended"
        return "Delayed" if find_condition(self.resource.status.conditions, "Delayed") is not None else ""

    @property
    def silent_since(self) -> datetime | None:
        """The instant of a boundary that the operator has not reported (aware UTC); None if there is none.

        That is the creation of the Resource if the operator has never reported.
        """
        meta, status = self.resource.metadata, self.resource.status
        due = status.next_change if status.observed_generation else meta.creation_timestamp
        return due if due is not None and self.now - due > SILENCE else None


@dataclass(frozen=True, slots=True)
class View:
    """The Resources and Bookings of informers at `now` (aware UTC)."""

    informers: Informers
    now: datetime

    @classmethod
    def of(
        cls, resources: Iterable[Resource], bookings: Iterable[Booking], now: datetime, region: str = ""
    ) -> "View":
        """Return a view of some objects. `region` is the region of Resources that name none."""
        informers = Informers(region)
        informers.resources.replace(resources)
        informers.bookings.replace(bookings)
        return cls(informers, now)

    def resources(self) -> list[ResourceView]:
        """Return all Resources, by namespace and name."""
        found = sorted(
            self.informers.resources.objects(),
            key=lambda item: (item.metadata.namespace, item.metadata.name),
        )
        return [self._view(resource) for resource in found]

    def resource(self, key: Key) -> ResourceView | None:
        """Return one Resource; None if it does not exist."""
        found = self.informers.resources.get(key)
        return None if found is None else self._view(found)

    def bookings(self) -> list[Booking]:
        """Return all Bookings, by start and name. Those with an invalid spec come last."""
        return sorted(self.informers.bookings.objects(), key=_booking_order)

    def booking(self, key: Key) -> Booking | None:
        """Return one Booking; None if it does not exist."""
        return self.informers.bookings.get(key)

    def _view(self, resource: Resource) -> ResourceView:
        timeline, key = self.informers.timeline(resource), key_of(resource)
        return ResourceView(
            resource,
            timeline,
            self.now,
            self.informers.rivals(key, self.now),
            self.informers.rules(key),
            lambda name: self.informers.rules(Key(key.namespace, name)),
            lambda name: self.resource(Key(key.namespace, name)),
        )


def named(item: BookingInterval) -> str:
    """Return the name of a booking, with the Resource that is booked if that one requires the present one."""
    name = item.name or AD_HOC
    return f"{name} of {item.booked_resource}" if item.booked_resource else name


def _booking_order(booking: Booking) -> tuple[object, ...]:
    interval, meta = booking.interval(), booking.metadata
    start = interval.start_at if interval else datetime.max.replace(tzinfo=meta.creation_timestamp.tzinfo)
    return (start, meta.namespace, meta.name)


def booking_is_unreported(booking: Booking, now: datetime) -> bool:
    """Whether the operator should have reported the present phase of a Booking a minute ago."""
    interval, meta = booking.interval(), booking.metadata
    earlier = now - SILENCE
    if interval is None or meta.creation_timestamp > earlier:
        return False
    if not booking.status.observed_generation:
        return True
    reported = booking.status.status
    if reported == Phase.CONFLICT or booking_problem(booking, now) == "TooLong":
        return interval.end_at <= earlier
    return reported != interval.phase_at(now) and reported != interval.phase_at(earlier)


def phase_of(booking: Booking, now: datetime) -> str:
    """Return the phase of a Booking; INVALID if its spec is invalid or if it is longer than allowed."""
    interval, status = booking.interval(), booking.status
    if interval is None:
        return "INVALID"
    phase = interval.phase_at(now)
    if phase is Phase.FINISHED:
        return phase
    valid = find_condition(status.conditions, "Valid")
    if valid is not None and valid.reason == "TooLong" and not status.accepted_resource:
        return "INVALID"
    return Phase.CONFLICT if status.status == Phase.CONFLICT else phase


def booking_problem(booking: Booking, now: datetime) -> str:
    """Return the reason of the most important problem of a Booking that has not ended; empty for none."""
    if is_finished(booking, now):
        return ""
    conditions = booking.status.conditions
    failure = first_failure(conditions, "Valid", "ResourceFound", "Accepted", "Ready")
    if failure is not None and failure.reason not in ON_THEIR_WAY:
        return failure.reason
    return "Delayed" if find_condition(conditions, "Delayed") is not None else ""


def is_finished(booking: Booking, now: datetime) -> bool:
    """Whether a Booking has ended."""
    return phase_of(booking, now) == Phase.FINISHED
