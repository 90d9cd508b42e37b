"""The kind BookingScheduler: creates recurring Bookings."""

import hashlib
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import FailFast, Field, TypeAdapter, model_validator
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
from booking_operator.domain.public_holidays import REGION_PATTERN, ExceptDays, check_region
from booking_operator.domain.recurrence import EPOCH, Recurrence, parse_zone

_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(/[0-9]{4}-[0-9]{2}-[0-9]{2})?$"
_DATE_RULE = fields.cel(
    f"self.matches(r'{_DATE}')", "must be a date like 2026-12-24, or a range like 2026-12-24/2027-01-02"
)
_MAX_RANGE_DAYS = 366


def _days(text: str) -> Iterator[date]:
    """Yield the days of a date, or of a range with its first and its last day.

    Raises:
        ValueError: `text` is neither, or the range is longer than a year.
    """
    first, _, last = text.partition("/")
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        example = "use a value like 2026-12-24 or 2026-12-24/2027-01-02"
        raise ValueError(f"{text!r} is not a date or a range of dates; {example}") from None
    if not 0 <= (end - begin).days < _MAX_RANGE_DAYS:
        raise ValueError(
            f"{text!r} must end on its first day or later, and have at most {_MAX_RANGE_DAYS} days"
        )
    return (begin + timedelta(days=number) for number in range((end - begin).days + 1))


_ExceptDate = Annotated[
    str, fields.checked(_days), Field(max_length=21, json_schema_extra=fields.validations(_DATE_RULE))
]


_REGION_RULE = fields.cel(
    f"self.matches(r'{REGION_PATTERN}')", "must be a country or a subdivision of ISO 3166, like DE or DE-BE"
)
_Region = Annotated[
    str, fields.checked(check_region), Field(max_length=6, json_schema_extra=fields.validations(_REGION_RULE))
]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingTemplate:
    """The spec of each booking. Its start and end come from the schedule."""

    resource_name: fields.ResourceName
    """The name of the Resource in the same namespace."""
    user_id: fields.UserId
    """The user of the bookings. The Resource shows the user as LOCKED BY."""
    notifications: NotificationSpecs = ()
    """The recipients to notify, by default shortly before each booking ends."""
    start_at: fields.UnusedDate = ""
    """Ignored: schedule says when bookings start. The CRD of the Go operator requires this field."""
    end_at: fields.UnusedDate = ""
    """Ignored: duration says when bookings end. The CRD of the Go operator requires this field."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingSchedulerSpec:
    """When bookings recur, and their template."""

    schedule: Annotated[str, Field(max_length=200, json_schema_extra=fields.validations(fields.CRON_RULE))]
    """When bookings start: five cron fields, minute hour day-of-month month day-of-week, in time_zone.
    Also @hourly, @daily, @weekly, @monthly, @yearly, and @every 2h, which counts from the creation.
    A prefix like CRON_TZ=Europe/Berlin overrides time_zone.
    A fixed time of day that the clocks skip in spring occurs at the end of the skipped time.
    A fixed time of day that the clocks repeat in autumn occurs once."""
    booking_template: Annotated[BookingTemplate, Field(alias="bookingTemplate")]
    """The spec of each booking. Its start and end come from the fields beside it."""
    duration: Annotated[int, Field(ge=1, le=525600, json_schema_extra={fields.NO_DEFAULT: True})] = 0
    """The duration of each booking in minutes of elapsed time. Set either duration or end_schedule."""
    end_schedule: Annotated[
        str,
        Field(
            max_length=200,
            json_schema_extra={fields.NO_DEFAULT: True, **fields.validations(fields.CRON_RULE)},
        ),
    ] = ""
    """When bookings end: a schedule like that of the start. A booking ends at the first time after its start.
    The end is a time of day, also when the clocks change during the booking."""
    time_zone: Annotated[str, Field(min_length=1, max_length=64), fields.checked(parse_zone)] = "UTC"
    """The IANA time zone of schedule and except_dates, like Europe/Berlin."""
    suspend: bool = False
    """While true, no bookings are created, and bookings that have not begun are deleted."""
    except_dates: Annotated[tuple[_ExceptDate, ...], Field(max_length=400), FailFast()] = ()
    """The days in time_zone on which no booking starts, like 2026-12-24, or 2026-12-24/2027-01-02."""
    except_holidays: Annotated[tuple[_Region, ...], Field(max_length=20), FailFast()] = ()
    """The countries and subdivisions on whose public holidays no booking starts, like DE or DE-BE."""
    horizon: fields.Horizon = "24h"
    """How far ahead bookings are created, at most 100 of them. The next booking is always created."""
    keep_finished: Annotated[int, Field(ge=0, le=1000)] = 3
    """The number of finished bookings to keep. Older ones are deleted."""

    @model_validator(mode="after")
    def _schedule_is_valid(self) -> Self:
        for field, check in (("schedule", self.recurrence), ("end_schedule", self.ends)):
            try:
                check()
            except ValueError as error:
                raise ValueError(f"{field} {error}") from None
        if bool(self.duration) == bool(self.end_schedule):
            raise ValueError("set either duration or end_schedule, and not both")
        return self

    def recurrence(self, created_at: datetime = EPOCH) -> Recurrence:
        """Return the times at which bookings start.

        Args:
            created_at: when the scheduler was created, from which `@every` counts (aware UTC).
        """
        dates = frozenset(day for text in self.except_dates for day in _days(text))
        return Recurrence(self.schedule, self.zone, ExceptDays(dates, self.except_holidays), created_at)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the schedule."""
        return parse_zone(self.time_zone)

    @property
    def booking_duration(self) -> timedelta | None:
        """The duration of each booking; None if `end_schedule` says when it ends."""
        return timedelta(minutes=self.duration) if self.duration else None

    def ends(self, created_at: datetime = EPOCH) -> Recurrence | None:
        """Return the times at which bookings end; None if `duration` says when."""
        return Recurrence(self.end_schedule, self.zone, anchor=created_at) if self.end_schedule else None

    def booking_spec(self) -> dict[str, Any]:
        """Return the spec of each booking, without its times."""
        unused = {"start_at", "end_at"}
        dumped: dict[str, Any] = _TEMPLATE.dump_python(self.booking_template, mode="json", exclude=unused)
        for item in dumped["notifications"]:
            if item["when"] == ["Ending"]:
                del item["when"]  # the default: templates from before this field keep their hash
        return dumped

    def template_hash(self) -> str:
        """Return a hash of the template and the duration. Bookings from before an edit have another hash."""
        length = self.duration or self.end_schedule
        basis = json.dumps([length, self.booking_spec()], sort_keys=True)
        return hashlib.sha256(basis.encode()).hexdigest()[:16]


_TEMPLATE = TypeAdapter(BookingTemplate)


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingSchedulerStatus:
    """The state of the scheduler."""

    next: str = ""
    """When the next booking starts, in UTC. Empty if there is none, for example while suspended."""
    scheduled_until: str = ""
    """The time up to which every occurrence got a booking, in UTC. Deleted bookings up to it stay deleted."""
    conditions: tuple[Condition, ...] = ()
    """Always: Valid, Ready. If the spec is valid: Synced (every booking within the horizon exists).
    Stalled if the spec is invalid."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class BookingScheduler:
    """Creates Bookings by a schedule."""

    metadata: MetaWithoutFinalizers
    spec: Annotated[BookingSchedulerSpec | InvalidSpec, or_invalid(BookingSchedulerSpec)] = InvalidSpec(
        "spec: Field required"
    )
    status: Annotated[BookingSchedulerStatus, EMPTY_IF_INVALID] = BookingSchedulerStatus()


SPEC_RULES = (
    fields.cel(
        "has(self.duration) != has(self.end_schedule)", "set either duration or end_schedule, and not both"
    ),
)
