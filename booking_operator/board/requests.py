"""What the page asks for: the parameters of its requests, parsed and checked.

A `RequestError` names the field, the value and the fix.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from booking_operator.board.view.window import TimeWindow, Zoom
from booking_operator.client.usage_report import GroupBy
from booking_operator.domain.time_grammar import TimeError, parse_month, parse_span, parse_when

T = TypeVar("T")
_NAMESPACE = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""The names of namespaces, by RFC 1123."""
MAX_USER = 256
"""The longest name of a user, as in the schema of Booking."""


class RequestError(ValueError):
    """A parameter of a request is wrong.

    Attributes:
        field: the name of the parameter.
        hint: what to write instead; empty if the message says it.
    """

    def __init__(self, field: str, message: str, hint: str = "") -> None:
        """Create it from its attributes."""
        super().__init__(message)
        self.field = field
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when the viewer looks.

    Attributes:
        namespace: the namespace.
        zone: the time zone of the viewer.
        words: the text of the search box.
    """

    namespace: str
    zone: ZoneInfo
    words: str

    @classmethod
    def of(cls, query: Mapping[str, str], namespace: str, zone: ZoneInfo) -> "Place":
        """Return the place of a query. The namespace and the zone are those of a query without them.

        Raises:
            RequestError: there is no such time zone, or no namespace can have this name.
        """
        wanted = query.get("ns", "") or namespace
        if wanted and not _NAMESPACE.fullmatch(wanted):
            raise RequestError("ns", f'"{wanted}" is not the name of a namespace', "use a name like team-a")
        return cls(wanted, _zone(query.get("tz", ""), zone), query.get("q", ""))


def _zone(name: str, default: ZoneInfo) -> ZoneInfo:
    if not name:
        return default
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise RequestError("tz", f'"{name}" is not a time zone', "use an IANA name: Europe/Berlin") from None


def window_of(query: Mapping[str, str], zone: ZoneInfo, now: datetime) -> TimeWindow:
    """Return the time range of a query; without `from`, that of the present day, week or month.

    Raises:
        RequestError: `from` or `span` is wrong.
    """
    span, first = query.get("span", "") or Zoom.DAY, query.get("from", "")
    zoom = _checked("span", lambda: Zoom(span), f'"{span}" is not a span', "use 1d, 1w or 1m")
    if not first:
        return TimeWindow(present_day(now.astimezone(zone).date(), zoom), zoom, zone)
    day = _checked("from", lambda: date.fromisoformat(first), f'"{first}" is not a day', "use 2026-11-24")
    try:
        return TimeWindow(day, zoom, zone)
    except ValueError as error:
        raise RequestError("from", str(error)) from None


def month_of(query: Mapping[str, str], now: datetime) -> str:
    """Return the month (UTC) of a query, like `2026-11`; the present one of a query without it.

    Raises:
        RequestError: `month` is not a month, or it has not begun.
    """
    try:
        return parse_month(query.get("month", ""), now)
    except TimeError as error:
        raise RequestError("month", f"month {error}", error.hint) from None


def group_of(query: Mapping[str, str]) -> GroupBy:
    """Return what a row of a usage report is: a Resource or a user.

    Raises:
        RequestError: `by` is something else.
    """
    text = query.get("by", "") or GroupBy.RESOURCE
    if text not in (GroupBy.RESOURCE, GroupBy.WHO):
        raise RequestError("by", f'"{text}" is not what a row can be', "use resource or who")
    return GroupBy(text)


def present_day(today: date, zoom: Zoom) -> date:
    """Return the first day of the present day, week or month. A week begins on Monday, as in ISO 8601."""
    if zoom is Zoom.WEEK:
        return date.fromordinal(today.toordinal() - today.weekday())
    return today.replace(day=1) if zoom is Zoom.MONTH else today


def _checked(field: str, parse: Callable[[], T], message: str, hint: str) -> T:
    try:
        return parse()
    except ValueError:
        raise RequestError(field, message, hint) from None


@dataclass(frozen=True, slots=True)
class WantedBooking:
    """What the dialog Book asks for. The instants are aware UTC."""

    namespace: str
    resource: str
    start: datetime
    end: datetime
    user: str

    @classmethod
    def of(cls, values: Mapping[str, Any], zone: ZoneInfo, now: datetime) -> "WantedBooking":
        """Return what the fields of the dialog mean.

        Raises:
            RequestError: a field is empty or wrong.
        """
        start = _time("from", text_of(values, "from") or "now", now, zone)
        end = _time("to", text_of(values, "to"), now, zone, after=start)
        if end <= start:
            raise RequestError("to", "To is not after From", "write +2h")
        if end <= now:
            raise RequestError("to", "the booking would end in the past", "write now in From")
        user = text_of(values, "user")
        if len(user) > MAX_USER:
            raise RequestError("user", f"a user has at most {MAX_USER} characters")
        return cls(needed(values, "namespace"), needed(values, "resource"), start, end, user)


def _time(field: str, text: str, now: datetime, zone: ZoneInfo, after: datetime | None = None) -> datetime:
    if not text.strip():
        raise RequestError(field, "a time is missing", 'write 17:00, "fri 17:00" or +2h')
    try:
        return parse_when(text, now, zone, after=after)
    except TimeError as error:
        raise RequestError(field, str(error), error.hint) from None


def new_end(values: Mapping[str, Any], present: datetime, zone: ZoneInfo, now: datetime) -> datetime:
    """Return the new end that an extension asks for (aware UTC): `by` a duration, or `until` a time.

    Raises:
        RequestError: a field is wrong.
    """
    duration = text_of(values, "by")
    if not duration:
        return _time("until", text_of(values, "until"), now, zone, after=present)
    try:
        return parse_span(duration).after(present, zone)
    except TimeError as error:
        raise RequestError("by", str(error), error.hint) from None


def text_of(values: Mapping[str, Any], field: str) -> str:
    """Return a field as text; empty if it is absent.

    Raises:
        RequestError: the field is not a text.
    """
    value = values.get(field, "")
    if not isinstance(value, str):
        raise RequestError(field, f"{field} must be a text")
    return value


def needed(values: Mapping[str, Any], field: str) -> str:
    """Return a field that must not be empty.

    Raises:
        RequestError: the field is absent, empty, or not a text.
    """
    text = text_of(values, field)
    if not text:
        raise RequestError(field, f"{field} is missing")
    return text
