"""The kind Resource: a group of cloud instances that carry the same tag."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field
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
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.group import Group
from booking_operator.domain.power import PowerPolicy, UnbookedPolicy
from booking_operator.domain.warm_up import MAX_WARM_UP

DEFAULT_WARM_UPS: Mapping[str, timedelta] = {"ec2": timedelta(minutes=2), "rds": timedelta(minutes=10)}
"""The warm-up of `auto` before any start was seen; databases take several minutes."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceSpec:
    """Which instances the Resource stands for, and how they are treated."""

    tag: Annotated[
        str, Field(min_length=1, max_length=256, json_schema_extra=fields.validations(fields.IMMUTABLE))
    ]
    """The group: all instances whose tag `resource-booking-application` has this value. Immutable."""
    type: fields.ServiceType = "ec2"
    """The cloud service: `ec2` or `rds`. Immutable."""
    booked_by: Annotated[str, Field(max_length=256)] = ""
    """The user who has it, without a Booking object. Counts together with booked_until only."""
    booked_until: fields.OptionalDate = ""
    """Until when booked_by has it: an RFC 3339 date, like 2026-01-31T20:00:00Z."""
    region: fields.RegionOrAccount = ""
    """Region of the instances; the operator's own when empty. Immutable."""
    account: fields.RegionOrAccount = ""
    """Name of an account in the operator's configuration; the operator's own when empty. Immutable."""
    unbooked: Literal["Stop", "Leave"] = "Stop"
    """What becomes of running instances that nobody has booked. `Stop`: they are stopped, no matter who
    started them. `Leave`: only those that a booking started are stopped."""
    warm_up: fields.WarmUp = "0s"
    """Start the instances this long before a booking's start_at, to be ready on time: `90s`, `10m`. With
    `auto` as long as the starts seen so far took."""
    hibernate: bool = False
    """Stop by hibernation where the instance supports it."""
    suspend: bool = False
    """While true, instances are neither started nor stopped; everything is still observed and reported."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class LockTags:
    """What the operator has written into the lock tags of instances."""

    locked_by: str = ""
    """Value of the tag `resource-booking-locked-by`."""
    locked_until: str = ""
    """Value of the tag `resource-booking-locked-until`."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceStatus:
    """What is known of the instances, and who has them."""

    instances: int = 0
    """How many instances exist."""
    running: int = 0
    """How many of them run."""
    status: Annotated[str, Field(json_schema_extra={"enum": ["", "STOPPED", "PENDING", "RUNNING"]})] = ""
    """STOPPED, PENDING or RUNNING."""
    locked_by: str = ""
    """The user whose booking holds it now; empty when nobody does."""
    locked_until: str = ""
    """When that booking ends, in UTC."""
    next_change_at: str = ""
    """When its instances will next be started or stopped, in UTC."""
    started: tuple[str, ...] = ()
    """Ids of the instances that a booking has started, until they stop: what `unbooked: Leave` may stop."""
    locks: tuple[LockTags, ...] = ()
    """Lock tags that the operator wrote last, and that may still be on instances: any others are foreign."""
    warm_up: str = ""
    """How long before start_at the instances are started; for `warm_up: auto` only."""
    start_seconds: tuple[int, ...] = ()
    """How long the last starts took until all instances ran; kept for `warm_up: auto` only."""
    conditions: tuple[Condition, ...] = ()
    """Valid, Found, Synced, Ready; Delayed while a start or stop is late, or going to be; Stalled when it
    cannot be acted on."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""

    @property
    def next_change(self) -> datetime | None:
        """When its power will next change, aware UTC; None where that is unknown."""
        try:
            return fields.parse_rfc3339(self.next_change_at)
        except ValueError:  # there is none, or somebody else wrote it
            return None


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class Resource:
    """A group of cloud instances with the same tag, started and stopped together by Bookings."""

    metadata: ObjectMeta
    spec: Annotated[ResourceSpec | InvalidSpec, or_invalid(ResourceSpec)] = InvalidSpec("spec: it is missing")
    status: Annotated[ResourceStatus, EMPTY_IF_INVALID] = ResourceStatus()

    def group(self, default_region: str) -> Group | None:
        """The instances it stands for, or None while its spec is garbled."""
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
        """How long before a booking its instances start."""
        if not isinstance(self.spec, ResourceSpec):
            return timedelta(0)
        return warm_up(self.spec, self.status)

    @property
    def creation_order(self) -> tuple[object, ...]:
        """Sort key among several Resources of one group: the oldest acts."""
        meta = self.metadata
        return (meta.creation_timestamp, meta.namespace, meta.name)


def warm_up(spec: ResourceSpec, status: ResourceStatus) -> timedelta:
    """How long before a booking the instances start."""
    if spec.warm_up != fields.AUTO:
        return fields.parse_duration(spec.warm_up)
    try:
        return min(fields.parse_duration(status.warm_up), MAX_WARM_UP)
    except ValueError:  # there is none yet, or somebody else wrote it
        return DEFAULT_WARM_UPS[spec.type]


def power_policy(spec: ResourceSpec, status: ResourceStatus, *, dry_run: bool) -> PowerPolicy:
    """How the Resource wants its instances treated."""
    return PowerPolicy(
        unbooked=UnbookedPolicy(spec.unbooked),
        warm_up=warm_up(spec, status),
        hibernate=spec.hibernate,
        suspend=spec.suspend,
        dry_run=dry_run,
    )


def ad_hoc_interval(resource: Resource, spec: ResourceSpec) -> BookingInterval | None:
    """The booking in the spec itself, which began when the Resource did; None unless both fields are set."""
    if not (spec.booked_by and spec.booked_until):
        return None
    began, until = resource.metadata.creation_timestamp, fields.parse_rfc3339(spec.booked_until)
    if until <= began:
        return None
    return BookingInterval(name="", user_id=spec.booked_by, start_at=began, end_at=until, created_at=began)


SPEC_RULES = ()
