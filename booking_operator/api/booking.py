"""The kind Booking: a user books a Resource for a time interval."""

from dataclasses import field
from typing import Annotated, Self

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
from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.parsing import parse_rfc3339


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class NotificationSpec:
    """A recipient of the notification before the booking ends."""

    type: Annotated[str, Field(min_length=1, max_length=63)]
    """The channel: `email`, `webhook` or `slack`."""
    recipient: Annotated[str, Field(min_length=1, max_length=320)]
    """For `email` an address, otherwise the name of a target in the configuration of the operator."""


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
    """The recipients to notify shortly before the booking ends."""

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if parse_rfc3339(self.start_at) >= parse_rfc3339(self.end_at):
            raise ValueError(f"end_at {self.end_at} must be later than start_at {self.start_at}")
        return self


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingStatus:
    """The state of the booking."""

    status: Annotated[str, Field(json_schema_extra={"enum": ["", *Phase]}), fields.INTERNED] = ""
    """SCHEDULED, IN PROGRESS or FINISHED."""
    notification_sent: bool = False
    """Whether all recipients were notified of the end."""
    notified: tuple[str, ...] = ()
    """The ids of the delivered messages. After a change of end_at, all messages are new."""
    conditions: tuple[Condition, ...] = ()
    """Always: Valid. If the spec is valid: ResourceFound, HoldsLock.
    Ready while the booking is active, or if the spec is invalid. Delayed while its start is late.
    Notified if the spec has notifications. Stalled if the spec is invalid."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""


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

    def interval(self) -> BookingInterval | None:
        """Return the booking as the rules use it; None when the spec is invalid."""
        return self._interval


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
