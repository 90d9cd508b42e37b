"""The kind Booking: who needs which resource from when to when."""

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


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class NotificationSpec:
    """One recipient who is notified before the booking ends."""

    type: Annotated[str, Field(min_length=1, max_length=63)]
    """The channel: `email`, `webhook` or `slack`."""
    recipient: Annotated[str, Field(min_length=1, max_length=320)]
    """The recipient: for `email` an address, else the name of a target in the operator's configuration."""


NotificationSpecs = Annotated[tuple[NotificationSpec, ...], Field(max_length=16), FailFast()]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingSpec:
    """A user who needs a resource from one instant to another.

    It stays editable: a later end_at extends the booking, an earlier one releases the resource.
    """

    resource_name: fields.ResourceName
    """Name of the Resource in the same namespace."""
    start_at: fields.Date
    """When the instances are to be started: an RFC 3339 date with any offset, like 2026-01-31T20:00:00Z."""
    end_at: fields.Date
    """When they may be stopped again, unless somebody else has booked them: an RFC 3339 date."""
    user_id: fields.UserId
    """The user who books; shown as LOCKED BY on the Resource."""
    notifications: NotificationSpecs = ()
    """The recipients who are notified shortly before the booking ends."""

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if fields.parse_rfc3339(self.start_at) >= fields.parse_rfc3339(self.end_at):
            raise ValueError(f"end_at {self.end_at} must be later than start_at {self.start_at}")
        return self


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingStatus:
    """Where the booking stands."""

    status: Annotated[str, Field(json_schema_extra={"enum": ["", *Phase]}), fields.INTERNED] = ""
    """SCHEDULED, IN PROGRESS or FINISHED."""
    notification_sent: bool = False
    """Whether all recipients were notified of the end."""
    notified: tuple[str, ...] = ()
    """Ids of the messages that were delivered; another end_at makes others."""
    conditions: tuple[Condition, ...] = ()
    """Valid, ResourceFound, HoldsLock; Ready while the booking is active; Notified where somebody is to be
    notified of its end; Stalled when it can never be."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class Booking:
    """A claim on a Resource for a span of time: its instances run from start_at to end_at."""

    metadata: MetaWithoutFinalizers
    spec: Annotated[BookingSpec | InvalidSpec, or_invalid(BookingSpec)] = InvalidSpec("spec: it is missing")
    status: Annotated[BookingStatus, EMPTY_IF_INVALID] = BookingStatus()
    _interval: BookingInterval | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the claim once: a Resource asks for those of all its bookings each time it is reconciled."""
        object.__setattr__(self, "_interval", _interval_of(self.metadata, self.spec))

    @property
    def resource_name(self) -> str:
        """Name of the Resource it is for; empty when the spec is garbled."""
        return self.spec.resource_name if isinstance(self.spec, BookingSpec) else ""

    def interval(self) -> BookingInterval | None:
        """The booking as the rules see it, or None while its spec is garbled."""
        return self._interval


def _interval_of(meta: MetaWithoutFinalizers, spec: BookingSpec | InvalidSpec) -> BookingInterval | None:
    if not isinstance(spec, BookingSpec):
        return None
    return BookingInterval(
        name=meta.name,
        user_id=spec.user_id,
        start_at=fields.parse_rfc3339(spec.start_at),
        end_at=fields.parse_rfc3339(spec.end_at),
        created_at=meta.creation_timestamp,
    )


SPEC_RULES = (fields.date_order("start_at", "end_at"),)
