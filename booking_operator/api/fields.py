"""Field types that the kinds share, each with a CEL rule for the CRD and the same check in the model.

The CEL rule makes the API server refuse new objects with a clear message. The check in the model finds
objects that were stored before the CRD had the rule.
"""

import sys
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from booking_operator.domain.cron import parse_schedule
from booking_operator.domain.parsing import (
    DURATION,
    RFC3339,
    RFC3339_EXAMPLE,
    parse_duration,
    parse_rfc3339,
)
from booking_operator.domain.services import ServiceName


def cel(rule: str, message: str, **more: Any) -> dict[str, Any]:
    """Return one entry of `x-kubernetes-validations`."""
    return {"rule": rule, "message": message, **more}


def validations(*entries: dict[str, Any]) -> dict[str, Any]:
    """Return CEL rules for a field or a model, in the form that Pydantic copies into the schema."""
    return {"x-kubernetes-validations": list(entries)}


IMMUTABLE = cel("self == oldSelf", "field is immutable; to change it, delete the object and create it again")


def checked(check: Callable[[str], object]) -> AfterValidator:
    """Return a validator that leaves a text unchanged if `check` does not raise ValueError for it."""

    def unchanged(text: str) -> str:
        check(text)
        return text

    return AfterValidator(unchanged)


NO_DEFAULT = "noDefault"
"""A key in the schema of a field for which the API server stores no default."""

INTERNED = AfterValidator(sys.intern)
"""Interns a string that many objects share. Without this such strings would use most of the memory."""


def _check_rfc3339_or_empty(text: str) -> None:
    if text:
        parse_rfc3339(text)


_RAW = "r'" + RFC3339 + "'"
_DATE_MESSAGE = f"must be an RFC 3339 date with an offset, like {RFC3339_EXAMPLE}"

Date = Annotated[
    str,
    checked(parse_rfc3339),
    Field(max_length=40, json_schema_extra=validations(cel(f"self.matches({_RAW})", _DATE_MESSAGE))),
    INTERNED,
]
OptionalDate = Annotated[
    str,
    checked(_check_rfc3339_or_empty),
    Field(
        max_length=40,
        json_schema_extra=validations(
            cel(f"self == '' || self.matches({_RAW})", f"{_DATE_MESSAGE}, or empty")
        ),
    ),
]


def _duration_between(shortest: str, longest: str, *, word: str | None = None) -> tuple[AfterValidator, Any]:
    """Return annotations for a string field: a duration between two bounds in Go's notation, or `word`."""
    low, high = parse_duration(shortest), parse_duration(longest)

    def in_range(text: str) -> str:
        if text == word:
            return text
        if not low <= parse_duration(text) <= high:
            raise ValueError(f"{text!r} must be between {shortest} and {longest}")
        return text

    rule = (
        f"self.matches(r'{DURATION}') && duration(self) >= duration('{shortest}') "
        f"&& duration(self) <= duration('{longest}')"
    )
    message = f"must be a duration between {shortest} and {longest}, like 90s, 10m or 1h30m"
    if word is not None:
        rule, message = f"self == '{word}' || ({rule})", f"{message}, or {word or 'empty'}"
    return AfterValidator(in_range), Field(max_length=32, json_schema_extra=validations(cel(rule, message)))


_CRON_FIELD = r"[0-9A-Za-z*?/,#+-]+"
_CRON = rf"^\s*((CRON_)?TZ=\S+\s+)?(@[a-z]+|@every \S+|{_CRON_FIELD}(\s+{_CRON_FIELD}){{4}})\s*$"
CRON_RULE = cel(
    f"self.matches(r'{_CRON}')",
    "must have five fields, minute hour day-of-month month day-of-week, like 0 9 * * MON-FRI, "
    "or be like @daily or @every 2h",
)
Cron = Annotated[
    str, checked(parse_schedule), Field(max_length=200, json_schema_extra=validations(CRON_RULE))
]
"""A time that recurs, in the dialect of `domain.cron`."""

AUTO = "auto"
"""The value of `warm_up` that derives the warm-up from past starts."""
STATUS_CHECKS = "StatusChecks"
"""The value of `ready_when` with which an instance is ready when its status checks pass."""
_WARM_UP = _duration_between("0s", "24h", word=AUTO)
_LAUNCH_GRACE = _duration_between("0s", "24h")
_BOOKING_LIMIT = _duration_between("1m", "87600h", word="")
_INTERVAL, _HORIZON = _duration_between("10s", "24h"), _duration_between("0s", "8784h")

WarmUp = Annotated[str, _WARM_UP[0], _WARM_UP[1]]
LaunchGrace = Annotated[str, _LAUNCH_GRACE[0], _LAUNCH_GRACE[1]]
Timeout = LaunchGrace
BookingLimit = Annotated[str, _BOOKING_LIMIT[0], _BOOKING_LIMIT[1]]
"""A limit for bookings; empty for none."""
Interval = Annotated[str, _INTERVAL[0], _INTERVAL[1]]
Horizon = Annotated[str, _HORIZON[0], _HORIZON[1]]
ResourceName = Annotated[str, Field(min_length=1, max_length=253), INTERNED]
UserId = Annotated[str, Field(min_length=1, max_length=256), INTERNED]
UnusedDate = Annotated[str, Field(max_length=64, json_schema_extra={NO_DEFAULT: True})]
ServiceType = Annotated[ServiceName, Field(json_schema_extra=validations(IMMUTABLE))]
RegionOrAccount = Annotated[str, Field(max_length=63, json_schema_extra=validations(IMMUTABLE))]
"""The name of a region or of an account."""


def date_order(start: str, end: str) -> dict[str, Any]:
    """Return a CEL rule for a spec: the date in `start` is before the date in `end`.

    The rule passes if a field is missing or is not a date, because other rules report that.
    """
    guards = " || ".join(f"!has(self.{field}) || !self.{field}.matches({_RAW})" for field in (start, end))
    return cel(
        f"{guards} || timestamp(self.{start}) < timestamp(self.{end})",
        f"{end} must be later than {start}",
        fieldPath=f".{end}",
    )
