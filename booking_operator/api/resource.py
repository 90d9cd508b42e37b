"""The kind Resource: a group of cloud instances that carry the same tag."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import FailFast, Field, model_validator
from pydantic.dataclasses import dataclass

from booking_operator.api import fields
from booking_operator.api.meta import (
    EMPTY_IF_INVALID,
    WIRE_CONFIG,
    Condition,
    InvalidSpec,
    ObjectMeta,
    or_invalid,
)
from booking_operator.domain.acceptance import NO_RULES, BookingRules
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.group import Group
from booking_operator.domain.off_times import NO_OFF_TIMES, OffTimes
from booking_operator.domain.parsing import parse_duration, parse_rfc3339
from booking_operator.domain.power import PowerPolicy, UnbookedPolicy
from booking_operator.domain.recurrence import Recurrence, parse_zone
from booking_operator.domain.services import SERVICES
from booking_operator.domain.warm_up import MAX_WARM_UP

_NEEDS_EC2 = "StatusChecks needs type: ec2; a database is ready when it is available"
_NEEDS_LEAVE = "needs unbooked: Leave; with Stop, instances without a booking are stopped at once"


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceSpec:
    """Which instances belong to the Resource, and how the operator starts and stops them."""

    tag: Annotated[
        str, Field(min_length=1, max_length=256, json_schema_extra=fields.validations(fields.IMMUTABLE))
    ]
    """The group: all instances whose tag `resource-booking-application` has this value. Immutable."""
    type: fields.ServiceType = "ec2"
    """The cloud service: `ec2`, `rds`, `asg` for EC2 Auto Scaling groups, or `ecs` for ECS services.
    Immutable."""
    booked_by: Annotated[str, Field(max_length=256)] = ""
    """The user of an ad-hoc booking, which needs no Booking object. It needs booked_until as well."""
    booked_until: fields.OptionalDate = ""
    """The end of the ad-hoc booking of booked_by: an RFC 3339 date, like 2026-01-31T20:00:00Z."""
    region: fields.RegionOrAccount = ""
    """The region of the instances. If empty, the region of the operator. Immutable."""
    account: fields.RegionOrAccount = ""
    """The name of an account in the configuration of the operator. If empty, its own account. Immutable."""
    unbooked: Literal["Stop", "Leave"] = "Stop"
    """What to do with running instances that are not booked.
    `Stop`: stop all of them, no matter how they were started.
    `Leave`: stop only the instances that a booking has started, and databases that AWS has restarted."""
    stop_at: Annotated[tuple[fields.Cron, ...], Field(max_length=16), FailFast()] = ()
    """When instances that run without a booking are stopped, no matter how they were started.
    Each has five cron fields, as the schedule of a BookingScheduler: `0 20 * * *`. Needs unbooked: Leave."""
    time_zone: Annotated[str, Field(min_length=1, max_length=64), fields.checked(parse_zone)] = "UTC"
    """The IANA time zone of stop_at, like Europe/Berlin."""
    unbooked_for: fields.BookingLimit = ""
    """How long an instance may run without a booking, such as `4h`. Then it is stopped, no matter how it was
    started. If empty, there is no limit. It needs unbooked: Leave."""
    warm_up: fields.WarmUp = "0s"
    """How long before start_at of a booking the instances start, such as `90s` or `10m`.
    `auto`: as long as past starts of the group took."""
    ready_when: Literal["Running", "StatusChecks"] = "Running"
    """When an instance is ready.
    `Running`: when it runs.
    `StatusChecks`: when both status checks of EC2 have passed since it runs. Only for type: ec2."""
    launch_grace: fields.LaunchGrace = "0s"
    """How long after its launch an instance is not stopped, such as `10m`, so that it can finish its setup.
    The launch is the time at which its root volume was attached, not the last start."""
    hibernate: bool = False
    """Whether to hibernate the instances that support it, instead of stopping them."""
    maintenance: Literal["Ignore", "Allow"] = "Ignore"
    """What to do with a database that is not booked in its maintenance window.
    `Ignore`: stop it.
    `Allow`: do not stop it before the end of the window if AWS applies pending maintenance to it."""
    deletion_policy: Literal["Leave", "Stop"] = "Leave"
    """What the deletion of the Resource, or of its namespace, does to running instances.
    `Leave`: they keep running.
    `Stop`: the operator stops them, even if they are booked."""
    suspend: bool = False
    """While true, the operator starts and stops no instance. It still observes and reports."""
    suspend_until: fields.OptionalDate = ""
    """Until this time, the operator starts and stops no instance, as with suspend: an RFC 3339 date.
    The suspension then ends by itself."""
    sharing: Literal["Shared", "Exclusive"] = "Shared"
    """Whether bookings may overlap.
    `Shared`: they may, and the instances run for all of them.
    `Exclusive`: a booking that overlaps an accepted one has the status CONFLICT until the time is free."""
    max_duration: fields.BookingLimit = ""
    """The longest booking, such as `12h`. A longer one is not valid. If empty, there is no limit."""
    max_ahead: fields.BookingLimit = ""
    """How far ahead a booking may start, such as `336h`. One that starts later is not valid until then.
    If empty, there is no limit."""
    requires: Annotated[
        tuple[fields.ResourceName, ...],
        Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"}),
        FailFast(),
    ] = ()
    """The Resources of this namespace that this one needs, such as its database.
    A booking of this Resource also books each of them. They start first, and stop last."""
    requires_timeout: fields.Timeout = "10m"
    """How long a start waits at most until the required Resources are ready.
    They stop when this one has stopped, or after this time."""

    @model_validator(mode="after")
    def _requires_each_once(self) -> Self:
        if len(set(self.requires)) < len(self.requires):
            raise ValueError(f"requires {list(self.requires)} must have each name once")
        return self

    @model_validator(mode="after")
    def _off_times_need_leave(self) -> Self:
        if self.unbooked != "Leave":
            for field in ("stop_at", "unbooked_for"):
                if getattr(self, field):
                    raise ValueError(f"{field} {_NEEDS_LEAVE}")
        return self

    @model_validator(mode="after")
    def _status_checks_need_ec2(self) -> Self:
        if self.ready_when == fields.STATUS_CHECKS and self.type != "ec2":
            raise ValueError(f"ready_when {_NEEDS_EC2}")
        return self

    @model_validator(mode="after")
    def _exclusive_has_no_ad_hoc_booking(self) -> Self:
        if self.sharing == "Exclusive" and self.booked_by:
            text = "booked_by needs sharing: Shared; for an exclusive Resource, create a Booking"
            raise ValueError(text)
        return self


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class LockTags:
    """Lock tags that the operator has written to instances."""

    locked_by: str = ""
    """The value of the tag `resource-booking-locked-by`."""
    locked_until: str = ""
    """The value of the tag `resource-booking-locked-until`."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class AutomaticRestart:
    """The time at which AWS starts a stopped database by itself."""

    id: str = ""
    """The id of the database."""
    at: str = ""
    """The time, in UTC."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class UnbookedInstance:
    """An instance that runs without a booking."""

    id: str = ""
    """The id of the instance."""
    since: str = ""
    """Since when, in UTC."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceStatus:
    """The state of the instances, and the user who holds the Resource."""

    instances: int = 0
    """The number of instances."""
    running: int = 0
    """The number of running instances."""
    status: Annotated[str, Field(json_schema_extra={"enum": ["", "STOPPED", "PENDING", "RUNNING"]})] = ""
    """RUNNING if all instances are ready, STOPPED if all are stopped, otherwise PENDING.
    Empty before the first observation."""
    locked_by: str = ""
    """The user of the booking that holds the Resource now. Empty if there is none."""
    locked_until: str = ""
    """When that booking ends, in UTC. Empty if there is none."""
    next_change_at: str = ""
    """When the bookings next start or stop the instances, in UTC. Empty if they never do."""
    due_since: str = ""
    """Since when the present starts or stops are due, in UTC. Waits for other Resources count from it.
    Only for a Resource that requires others or is required."""
    started: tuple[str, ...] = ()
    """The ids of the instances that a booking has started, and of the databases that AWS has restarted.
    `unbooked: Leave` may stop only these."""
    automatic_restarts: tuple[AutomaticRestart, ...] = ()
    """When AWS starts stopped databases by itself, after seven days. Only for `unbooked: Leave`."""
    unbooked: tuple[UnbookedInstance, ...] = ()
    """The instances that run without a booking. Only for `stop_at` and `unbooked_for`."""
    locks: tuple[LockTags, ...] = ()
    """The lock tags that the operator wrote and that instances may still have."""
    warm_up: str = ""
    """The present warm-up of `warm_up: auto`."""
    start_seconds: tuple[int, ...] = ()
    """The last start times in seconds, for `warm_up: auto`. A start ends when all instances run."""
    conditions: tuple[Condition, ...] = ()
    """Always: Valid, Ready. If the spec is valid: Found, Synced.
    Delayed while a start or stop is late or expected to be late.
    Stalled if the spec is invalid, or if an older Resource has the same instances."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""

    @property
    def next_change(self) -> datetime | None:
        """`next_change_at` as aware UTC; None when it is empty or malformed."""
        return _instant(self.next_change_at)

    @property
    def booked_until(self) -> datetime | None:
        """`locked_until` as aware UTC; None when it is empty or malformed."""
        return _instant(self.locked_until)

    @property
    def due(self) -> datetime | None:
        """`due_since` as an instant (aware UTC); None if it is empty or malformed."""
        return _instant(self.due_since)

    @property
    def unbooked_since(self) -> dict[str, datetime]:
        """`unbooked` by id, as aware UTC, without those that are malformed."""
        instants = {item.id: _instant(item.since) for item in self.unbooked}
        return {id_: instant for id_, instant in instants.items() if instant is not None}

    @property
    def restarts(self) -> dict[str, datetime]:
        """`automatic_restarts` by id, as aware UTC, without those that are malformed."""
        instants = {restart.id: _instant(restart.at) for restart in self.automatic_restarts}
        return {id_: instant for id_, instant in instants.items() if instant is not None}


_ZERO = timedelta(0)


def _instant(text: str) -> datetime | None:
    try:
        return parse_rfc3339(text)
    except ValueError:  # the field is empty, or another client wrote it
        return None


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class Resource:
    """A group of cloud instances with the same tag. Bookings start and stop them together."""

    metadata: ObjectMeta
    spec: Annotated[ResourceSpec | InvalidSpec, or_invalid(ResourceSpec)] = InvalidSpec(
        "spec: Field required"
    )
    status: Annotated[ResourceStatus, EMPTY_IF_INVALID] = ResourceStatus()

    def group(self, default_region: str) -> Group | None:
        """Return the group of instances of the Resource; None when its spec is invalid."""
        if not isinstance(self.spec, ResourceSpec):
            return None
        return Group(
            service=self.spec.type,
            account=self.spec.account,
            region=self.spec.region or default_region,
            tag=self.spec.tag,
        )

    @property
    def warm_up(self) -> timedelta:
        """How long before `start_at` the instances start; zero if an invalid spec does not say it."""
        return warm_up(self.spec, self.status)

    @property
    def requires(self) -> tuple[str, ...]:
        """The names of the Resources that this one requires directly."""
        return self.spec.requires

    @property
    def requires_timeout(self) -> timedelta:
        """How long a start waits for required Resources at most; zero when the spec is invalid."""
        return parse_duration(self.spec.requires_timeout) if isinstance(self.spec, ResourceSpec) else _ZERO

    @property
    def creation_order(self) -> tuple[object, ...]:
        """The sort key among the Resources of one group. Only the first one acts."""
        meta = self.metadata
        return (meta.creation_timestamp, meta.namespace, meta.name)


def warm_up(spec: ResourceSpec | InvalidSpec, status: ResourceStatus) -> timedelta:
    """Return how long before `start_at` of a booking the instances start."""
    if isinstance(spec, ResourceSpec) and spec.warm_up != fields.AUTO:
        return parse_duration(spec.warm_up)
    try:
        text = status.warm_up if spec.warm_up == fields.AUTO else spec.warm_up
        return min(parse_duration(text), MAX_WARM_UP)
    except ValueError:  # the status is still empty, or another client wrote it
        return SERVICES[spec.type].default_warm_up if isinstance(spec, ResourceSpec) else _ZERO


def suspended_until(spec: ResourceSpec, now: datetime) -> datetime | None:
    """Return when the present suspension of a Resource ends by itself (aware UTC); None if it does not."""
    until = parse_rfc3339(spec.suspend_until) if spec.suspend_until and not spec.suspend else None
    return until if until is not None and now < until else None


def power_policy(spec: ResourceSpec, status: ResourceStatus, now: datetime, *, dry_run: bool) -> PowerPolicy:
    """Return the rules of a Resource for starts and stops at `now` (aware UTC)."""
    until = suspended_until(spec, now)
    return PowerPolicy(
        unbooked=UnbookedPolicy(spec.unbooked),
        warm_up=warm_up(spec, status),
        launch_grace=parse_duration(spec.launch_grace),
        allow_maintenance=spec.maintenance == "Allow",
        hibernate=spec.hibernate,
        stop_when_deleted=spec.deletion_policy == "Stop",
        ready_when_checked=spec.ready_when == fields.STATUS_CHECKS,
        suspend=spec.suspend or until is not None,
        suspended_until=until,
        dry_run=dry_run,
    )


def ad_hoc_interval(resource: Resource, spec: ResourceSpec) -> BookingInterval | None:
    """Return the ad-hoc booking in the spec of a Resource, which begins when the Resource is created.

    It is None unless `booked_by` and `booked_until` are set, and `booked_until` is after the creation.
    """
    if not (spec.booked_by and spec.booked_until):
        return None
    began, until = resource.metadata.creation_timestamp, parse_rfc3339(spec.booked_until)
    if until <= began:
        return None
    return BookingInterval(name="", user_id=spec.booked_by, start_at=began, end_at=until, created_at=began)


def off_times(spec: ResourceSpec) -> OffTimes:
    """Return the off times of a Resource."""
    if not (spec.stop_at or spec.unbooked_for):
        return NO_OFF_TIMES
    zone = parse_zone(spec.time_zone)
    schedules = tuple(Recurrence(text, zone) for text in spec.stop_at)
    return OffTimes(schedules, parse_duration(spec.unbooked_for) if spec.unbooked_for else None)


def _needs_leave(field: str, empty: str) -> dict[str, Any]:
    rule = f"!has(self.{field}) || {empty} || (has(self.unbooked) && self.unbooked == 'Leave')"
    return fields.cel(rule, f"{field} {_NEEDS_LEAVE}", fieldPath=f".{field}")


def booking_rules(resource: Resource) -> BookingRules:
    """Return the own rules of a Resource for its bookings; no rules if its spec is invalid."""
    spec, name = resource.spec, resource.metadata.name
    if isinstance(spec, InvalidSpec) or not (
        spec.sharing == "Exclusive" or spec.max_duration or spec.max_ahead
    ):
        return NO_RULES
    longest, ahead = (parse_duration(text) if text else None for text in (spec.max_duration, spec.max_ahead))
    exclusive = frozenset({name}) if spec.sharing == "Exclusive" else frozenset[str]()
    return BookingRules(exclusive, longest, ahead, name if longest else "", name if ahead else "")


SPEC_RULES = (
    _needs_leave("stop_at", "size(self.stop_at) == 0"),
    _needs_leave("unbooked_for", "self.unbooked_for == ''"),
    fields.cel(
        "!has(self.sharing) || self.sharing == 'Shared' || !has(self.booked_by) || self.booked_by == ''",
        "booked_by needs sharing: Shared; for an exclusive Resource, create a Booking",
        fieldPath=".booked_by",
    ),
    fields.cel(
        "!has(self.ready_when) || self.ready_when == 'Running' || !has(self.type) || self.type == 'ec2'",
        f"ready_when {_NEEDS_EC2}",
        fieldPath=".ready_when",
    ),
)
