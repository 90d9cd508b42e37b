"""The kind BookingScheduler: makes bookings that recur."""

import hashlib
import json
from datetime import date, timedelta
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, FailFast, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from booking_operator.api import fields
from booking_operator.api.booking import NotificationSpecs
from booking_operator.api.meta import (
    EMPTY_IF_INVALID,
    WIRE_CONFIG,
    Condition,
    InvalidSpec,
    MetaWithoutFinalizers,
    or_invalid,
)
from booking_operator.domain.recurrence import Recurrence, parse_zone

_CRON = r"^\s*[0-9A-Za-z*/,#-]+(\s+[0-9A-Za-z*/,#-]+){4}\s*$"
_CRON_RULE = fields.cel(
    f"self.matches(r'{_CRON}')",
    "it must have five fields, minute hour day-of-month month day-of-week, like 0 9 * * MON-FRI",
)
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_DATE_RULE = fields.cel(f"self.matches(r'{_DATE}')", "it must be a date like 2026-12-24")


def _is_zone(text: str) -> str:
    parse_zone(text)
    return text


def _is_date(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no date; write it like 2026-12-24") from None
    return text


_ExceptDate = Annotated[
    str, AfterValidator(_is_date), Field(max_length=10, json_schema_extra=fields.validations(_DATE_RULE))
]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingTemplate:
    """What is the same for all bookings of the scheduler."""

    resource_name: fields.ResourceName
    """Name of the Resource in the same namespace."""
    user_id: fields.UserId
    """The user who books; shown as LOCKED BY on the Resource."""
    notifications: NotificationSpecs = ()
    """The recipients who are notified shortly before each booking ends."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingSchedulerSpec:
    """When the bookings recur, and what they are like."""

    schedule: Annotated[str, Field(max_length=200, json_schema_extra=fields.validations(_CRON_RULE))]
    """When a booking starts: five cron fields, minute hour day-of-month month day-of-week, in time_zone. A
    time that the clocks skip in spring counts when they have moved on; one that they repeat in autumn counts
    once."""
    duration: Annotated[int, Field(ge=1, le=525600)]
    """How long a booking lasts, in minutes."""
    booking_template: Annotated[BookingTemplate, Field(alias="bookingTemplate")]
    """What is the same for all bookings: a Booking's spec without its times."""
    time_zone: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_is_zone)] = "UTC"
    """Name of the time zone of schedule and except_dates, like Europe/Berlin."""
    suspend: bool = False
    """While true, no booking is made, and those that have not begun are deleted."""
    except_dates: Annotated[tuple[_ExceptDate, ...], Field(max_length=400), FailFast()] = ()
    """Days, in time_zone, on which no booking starts: 2026-12-24."""
    horizon: fields.Horizon = "24h"
    """Bookings are made this long ahead. The next one is there in any case, and never more than 100 are."""
    keep_finished: Annotated[int, Field(ge=0, le=1000)] = 3
    """How many finished bookings to keep; older ones are deleted."""

    @model_validator(mode="after")
    def _schedule_is_valid(self) -> Self:
        try:
            self.recurrence()
        except ValueError as error:
            raise ValueError(f"schedule {error}") from None
        return self

    def recurrence(self) -> Recurrence:
        """When its bookings start."""
        skipped = frozenset(map(date.fromisoformat, self.except_dates))
        return Recurrence(self.schedule, self.zone, skipped)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of its schedule."""
        return parse_zone(self.time_zone)

    @property
    def booking_duration(self) -> timedelta:
        """How long each of its bookings lasts."""
        return timedelta(minutes=self.duration)

    def booking_spec(self) -> dict[str, Any]:
        """The spec of each booking, without its times."""
        dumped: dict[str, Any] = _TEMPLATE.dump_python(self.booking_template, mode="json")
        return dumped

    def template_hash(self) -> str:
        """Distinguishes bookings made from this template and duration from those made before an edit."""
        basis = json.dumps([self.duration, self.booking_spec()], sort_keys=True)
        return hashlib.sha256(basis.encode()).hexdigest()[:16]


_TEMPLATE = TypeAdapter(BookingTemplate)


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingSchedulerStatus:
    """Where the scheduler stands."""

    next: str = ""
    """When the next booking starts, in UTC; empty while suspended."""
    scheduled_until: str = ""
    """Start of the last booking that was made, in UTC: an earlier one that is missing was deleted."""
    conditions: tuple[Condition, ...] = ()
    """Valid, Synced (every booking is there), Ready; Stalled when there can never be one."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingScheduler:
    """Makes a Booking each time its schedule says so."""

    metadata: MetaWithoutFinalizers
    spec: Annotated[BookingSchedulerSpec | InvalidSpec, or_invalid(BookingSchedulerSpec)] = InvalidSpec(
        "spec: it is missing"
    )
    status: Annotated[BookingSchedulerStatus, EMPTY_IF_INVALID] = BookingSchedulerStatus()


SPEC_RULES = ()
