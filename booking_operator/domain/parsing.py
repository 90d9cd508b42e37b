"""Parses instants and durations in the notations of the API: RFC 3339, and Go's durations."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

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
RFC3339_EXAMPLE = "2026-01-31T20:00:00Z or 2026-01-31T21:00:00+01:00"

_RFC3339, _DURATION = re.compile(RFC3339), re.compile(DURATION)
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds"}


# The cache helps because decoding an object parses each date three times, and because many bookings begin and
# end at the same round hours.
@lru_cache(maxsize=4096)
def parse_rfc3339(text: str) -> datetime:
    """Parse an RFC 3339 date with any offset into aware UTC.

    Raises:
        ValueError: `text` is not an RFC 3339 date. The message shows an example.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 date; use a value like {RFC3339_EXAMPLE}")
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
