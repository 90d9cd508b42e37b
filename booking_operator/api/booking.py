"""The kind Booking: a user books a Resource for a time interval."""

from dataclasses import field
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import FailFast, Field, model_validator
from pydantic.dataclasses import dataclass

from booking_operator.api import fields
from booking_operator.api.meta import (
    EMPTY_IF_INVALID,
    WIRE_CONFIG,
    Condition,
    InvalidSpec,
    MetaWithoutFinalizers,
    or_invalid,
)
from booking_operator.domain.acceptance import (
    NO_RULES,
    AcceptanceRecord,
    BookingRequest,
    BookingRules,
    counted,
)
from booking_operator.domain.booking import BookingInterval, Phase, TimeSpan
from booking_operator.domain.parsing import parse_rfc3339


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class NotificationSpec:
    """A recipient of notifications about the booking."""

    type: Annotated[str, Field(min_length=1, max_length=63)]
    """The channel: `email`, `webhook` or `slack`."""
    recipient: Annotated[str, Field(min_length=1, max_length=320)]
    """For `email` an address, otherwise the name of a target in the configuration of the operator."""
    when: Annotated[
        tuple[Literal["Ending", "Ready", "NotReady", "Ended", "Conflict"], ...],
        Field(min_length=1, max_length=5),
    ] = ("Ending",)
    """What the recipient is notified of.
    `Ending`: shortly before the booking ends.
    `Ready`: when all instances run.
    `NotReady`: when instances do not run five minutes after the start.
    `Ended`: when the booking has ended.
    `Conflict`: when another booking of an exclusive Resource has the time."""


_NEVER = datetime.min.replace(tzinfo=UTC)
NotificationSpecs = Annotated[tuple[NotificationSpec, ...], Field(max_length=16), FailFast()]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingSpec:
    """A booking of a Resource by a user.

    The spec is editable: a later end_at extends the booking, and an earlier end_at ends it sooner.
    """

    resource_name: fields.ResourceName
    """The name of the Resource in the same namespace."""
    start_at: fields.Date
    """When the booking begins: an RFC 3339 date with any UTC offset, like 2026-01-31T20:00:00Z.
    The instances start at this time, or earlier by the warm_up of the Resource."""
    end_at: fields.Date
    """When the booking ends: an RFC 3339 date with any UTC offset.
    The instances then stop, unless another booking of the Resource is active."""
    user_id: fields.UserId
    """The user of the booking. The Resource shows the user as LOCKED BY."""
    notifications: NotificationSpecs = ()
    """The recipients to notify, by default shortly before the booking ends."""

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if parse_rfc3339(self.start_at) >= parse_rfc3339(self.end_at):
            raise ValueError(f"end_at {self.end_at} must be later than start_at {self.start_at}")
        return self


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingStatus:
    """The state of the booking."""

    status: Annotated[str, Field(json_schema_extra={"enum": ["", *Phase]}), fields.INTERNED] = ""
    """SCHEDULED, IN PROGRESS or FINISHED.
    CONFLICT while another booking of an exclusive Resource stands against this one."""
    accepted_resource: Annotated[str, fields.INTERNED] = ""
    """The Resource that has accepted the booking. Only those with sharing: Exclusive or max_duration do."""
    accepted_from: str = ""
    """Since when the accepted interval counts, in UTC."""
    accepted_until: str = ""
    """The end of the accepted interval, in UTC. It is earlier than end_at while an extension conflicts."""
    accepted_exclusive: tuple[str, ...] = ()
    """The exclusive Resources that no other booking may have in the accepted interval."""
    notification_sent: bool = False
    """Whether all recipients were notified that the booking ends."""
    notified: tuple[str, ...] = ()
    """The ids of the delivered messages. After a change of end_at, all messages about the end are new.
    If an earlier end_at returns, they are not repeated, as long as they are among the last hundred."""
    conditions: tuple[Condition, ...] = ()
    """Always: Valid. If the spec is valid: ResourceFound, HoldsLock.
    Accepted if the Resource is exclusive.
    Ready while the booking is active, or if the spec is invalid. Delayed while its start is late.
    Notified if the spec has notifications. Stalled if the spec is invalid."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""

    def record_for(self, resource: str) -> AcceptanceRecord | None:
        """Return what a Resource has accepted; None if it has not, or if it is malformed."""
        span = self.accepted_for(resource)
        return None if span is None else AcceptanceRecord(span, frozenset(self.accepted_exclusive))

    def accepted_for(self, resource: str) -> TimeSpan | None:
        """Return the interval that a Resource has accepted; None if it has not, or if it is malformed."""
        if not resource or self.accepted_resource != resource:
            return None
        try:
            start, end = (parse_rfc3339(text) for text in (self.accepted_from, self.accepted_until))
        except ValueError:  # another client wrote it
            return None
        return TimeSpan(start, end) if start < end else None

    @property
    def acceptance(self) -> tuple[object, ...]:
        """The fields of the acceptance, to compare them."""
        return self.accepted_resource, self.accepted_from, self.accepted_until, self.accepted_exclusive


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class Booking:
    """A booking of a Resource: its instances run from start_at to end_at."""

    metadata: MetaWithoutFinalizers
    spec: Annotated[BookingSpec | InvalidSpec, or_invalid(BookingSpec)] = InvalidSpec("spec: Field required")
    status: Annotated[BookingStatus, EMPTY_IF_INVALID] = BookingStatus()
    _interval: BookingInterval | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the booking interval once, because reconcilers read the intervals of all bookings often."""
        object.__setattr__(self, "_interval", _interval_of(self.metadata, self.spec))

    @property
    def resource_name(self) -> str:
        """The name of the booked Resource; empty when the spec is invalid."""
        return self.spec.resource_name if isinstance(self.spec, BookingSpec) else ""

    @property
    def accepted_exclusive(self) -> frozenset[str]:
        """The names of the exclusive Resources that have accepted the Booking."""
        recorded = self.status.accepted_resource == self.resource_name
        return frozenset(self.status.accepted_exclusive) if recorded else frozenset()

    @property
    def ends_at(self) -> datetime:
        """The end of what the Booking wants or what was accepted of it, whichever is later (aware UTC)."""
        record = self.status.accepted_for(self.status.accepted_resource)
        ends = [record.end] if record else []
        if self._interval is not None:
            ends.append(self._interval.end_at)
        return max(ends, default=_NEVER)

    def interval(self) -> BookingInterval | None:
        """Return the booking as its spec wants it; None when the spec is invalid."""
        return self._interval

    def request(
        self, resource: str, rules: BookingRules, current: BookingStatus | None = None
    ) -> BookingRequest:
        """Return the Booking as far as it concerns one Resource.

        Args:
            resource: the name of the Resource.
            rules: the rules for bookings of the Resource.
            current: the status that is about to be stored; None if it is the stored one.
        """
        interval = self._interval if self.resource_name == resource else None
        statuses = (self.status, current or self.status)
        records = (status.record_for(resource) for status in statuses)
        return BookingRequest(
            name=self.metadata.name,
            user_id=interval.user_id if interval else "",
            created_at=self.metadata.creation_timestamp,
            wanted=interval.span if interval else None,
            records=tuple(dict.fromkeys(record for record in records if record is not None)),
            begun=self.status.status == Phase.IN_PROGRESS,
            rules=rules,
        )

    def is_decided(self, rules: BookingRules) -> bool:
        """Whether the stored status says what its Resource accepts of the Booking, as it is now.

        Args:
            rules: the rules for bookings of the Resource.
        """
        record = self.status.record_for(self.resource_name)
        if record is not None and record.exclusive >= rules.exclusive:
            return True
        conditions = {item.type: item for item in self.status.conditions}
        accepted, valid = conditions.get("Accepted"), conditions.get("Valid")
        conflict = accepted is not None and accepted.status == "False" and accepted.reason != "Pending"
        too_long = valid is not None and valid.reason == "TooLong"
        return (conflict or too_long) and self.status.observed_generation == self.metadata.generation

    def counted(self, rules: BookingRules = NO_RULES) -> BookingInterval | None:
        """Return the part of the booking for which instances run, by the rules of its Resource.

        It is None if no instances run for it.
        """
        if self._interval is None or not rules.recorded:
            return self._interval
        return counted(self._interval, self.status.accepted_for(self.resource_name), rules)


def _interval_of(meta: MetaWithoutFinalizers, spec: BookingSpec | InvalidSpec) -> BookingInterval | None:
    if not isinstance(spec, BookingSpec):
        return None
    return BookingInterval(
        name=meta.name,
        user_id=spec.user_id,
        start_at=parse_rfc3339(spec.start_at),
        end_at=parse_rfc3339(spec.end_at),
        created_at=meta.creation_timestamp,
    )


SPEC_RULES = (fields.date_order("start_at", "end_at"),)
