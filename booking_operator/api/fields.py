"""Field types that the kinds share, each with a CEL rule for the CRD and the same check in the model.

The CEL rule makes the API server refuse new objects with a clear message. The check in the model finds
objects that were stored before the CRD had the rule.
"""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from booking_operator.domain.services import ServiceName

# RFC 3339 with years that both Go and Python support, and only with days that exist. CEL's timestamp() then
# never fails on a text that matches. A runtime error in a rule would refuse every later update of an object
# that was stored before the rule existed.
_YEAR = r"(19[7-9][0-9]|2[0-9]{3})"
_LEAP_YEAR = r"(19(7[26]|8[048]|9[26])|2[0-9](0[48]|[2468][048]|[13579][26])|2[048]00)"
_DATE = (
    rf"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    rf"|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
_OFFSET = r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
RFC3339 = rf"^{_DATE}T{_TIME}{_OFFSET}$"
DURATION = r"^([0-9]{1,6}(\.[0-9]{1,3})?(h|m|s))+$"

_RFC3339, _DURATION = re.compile(RFC3339), re.compile(DURATION)
_EXAMPLE = "2026-01-31T20:00:00Z or 2026-01-31T21:00:00+01:00"
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds"}


def cel(rule: str, message: str, **more: Any) -> dict[str, Any]:
    """Return one entry of `x-kubernetes-validations`."""
    return {"rule": rule, "message": message, **more}


def validations(*entries: dict[str, Any]) -> dict[str, Any]:
    """Return CEL rules for a field or a model, in the form that Pydantic copies into the schema."""
    return {"x-kubernetes-validations": list(entries)}


IMMUTABLE = cel("self == oldSelf", "field is immutable; to change it, delete the object and create it again")


# The cache helps because decoding an object parses each date three times, and because many bookings begin and
# end at the same round hours.
@lru_cache(maxsize=4096)
def parse_rfc3339(text: str) -> datetime:
    """Parse an RFC 3339 date with any offset into aware UTC.

    Raises:
        ValueError: `text` is not an RFC 3339 date. The message shows an example.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 date; use a value like {_EXAMPLE}")
    return datetime.fromisoformat(text).astimezone(UTC)


@lru_cache(maxsize=256)
def parse_duration(text: str) -> timedelta:
    """Parse a duration in Go's notation, hours, minutes and seconds: `90s`, `1h30m`.

    Raises:
        ValueError: `text` is not a duration, or is too long for `timedelta`. The message shows an example.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; use a value like 90s, 10m or 1h30m")
    parts = re.findall(r"([0-9.]+)([hms])", text)
    try:
        return sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta(0))
    except OverflowError:
        raise ValueError("the duration is too long; use a value like 90s, 10m or 1h30m") from None


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
_DATE_MESSAGE = f"must be an RFC 3339 date with an offset, like {_EXAMPLE}"

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


def _duration_between(shortest: str, longest: str, *, word: str = "") -> tuple[AfterValidator, Any]:
    """Return annotations for a string field: a duration between two bounds in Go's notation, or `word`."""
    low, high = parse_duration(shortest), parse_duration(longest)

    def in_range(text: str) -> str:
        if word and text == word:
            return text
        if not low <= parse_duration(text) <= high:
            raise ValueError(f"{text!r} must be between {shortest} and {longest}")
        return text

    rule = (
        f"self.matches(r'{DURATION}') && duration(self) >= duration('{shortest}') "
        f"&& duration(self) <= duration('{longest}')"
    )
    message = f"must be a duration between {shortest} and {longest}, like 90s, 10m or 1h30m"
    if word:
        rule, message = f"self == '{word}' || ({rule})", f"{message}, or {word}"
    return AfterValidator(in_range), Field(max_length=32, json_schema_extra=validations(cel(rule, message)))


AUTO = "auto"
"""The value of `warm_up` that derives the warm-up from past starts."""
_WARM_UP = _duration_between("0s", "24h", word=AUTO)
_LAUNCH_GRACE = _duration_between("0s", "24h")
_INTERVAL, _HORIZON = _duration_between("10s", "24h"), _duration_between("0s", "8784h")

WarmUp = Annotated[str, _WARM_UP[0], _WARM_UP[1]]
LaunchGrace = Annotated[str, _LAUNCH_GRACE[0], _LAUNCH_GRACE[1]]
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
