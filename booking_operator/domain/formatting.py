"""Formats instants, durations and lists for conditions, Events and messages."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_MAX_LISTED = 5


def format_utc(instant: datetime | None) -> str:
    """Return RFC 3339 in UTC with `Z`, as Kubernetes prints times; empty for None."""
    return "" if instant is None else format_rfc3339(instant.astimezone(UTC))


def format_rfc3339(instant: datetime) -> str:
    """Return RFC 3339 with the UTC offset of the instant; `Z` for UTC."""
    return instant.isoformat().replace("+00:00", "Z")


def format_second(instant: datetime) -> str:
    """Return RFC 3339 in UTC, truncated to whole seconds."""
    return format_utc(instant.replace(microsecond=0))


def format_duration(span: timedelta) -> str:
    """Return a duration in Go's notation, as in fields of the API, rounded to whole seconds: `8m20s`."""
    seconds = round(span.total_seconds())
    parts = (("h", seconds // 3600), ("m", seconds // 60 % 60), ("s", seconds % 60))
    return "".join(f"{number}{unit}" for unit, number in parts if number) or "0s"


def round_up(span: timedelta, step: timedelta) -> timedelta:
    """Return `span` rounded up to a multiple of `step`."""
    return -(-span // step) * step


def summarize(items: Sequence[str], separator: str = ", ") -> str:
    """Return the first five items, and the number of the others."""
    more = len(items) - _MAX_LISTED
    return separator.join(items[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def single_line(text: str, longest: int = 300) -> str:
    """Return `text` without line breaks and control characters, cut to `longest` characters."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
