"""The words of the board: instants, durations and states, as a screen reader reads them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from booking_operator.client.view import ResourceView, Viewer
from booking_operator.domain.local_time import format_day, format_time

KEPT_TEXTS = 20_000
"""How many texts of bookings are kept, because each change draws all bookings again."""
_UNITS = ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute"))


def day_and_time(instant: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Return an instant like `Tue 24 Nov 13:00`, with the year if it is not the present one."""
    return _day_and_time(instant.astimezone(zone), now.astimezone(zone).year)


def time_or_day(instant: datetime, viewer: Viewer) -> str:
    """Return an instant like `13:00`, with the day if it is not today."""
    local = instant.astimezone(viewer.zone)
    if local.date() == viewer.today:
        return format_time(local)
    return day_and_time(instant, viewer.now, viewer.zone)


def from_to(start: datetime, end: datetime, viewer: Viewer) -> str:
    """Return an interval like `Tue 24 Nov 13:00 to 17:00`. The end has a day if the days differ."""
    return _from_to(start, end, viewer.today.year, viewer.zone)


@lru_cache(maxsize=KEPT_TEXTS)
def _from_to(start: datetime, end: datetime, year: int, zone: ZoneInfo) -> str:
    first, last = start.astimezone(zone), end.astimezone(zone)
    if first.date() == last.date() and first.utcoffset() == last.utcoffset():
        return f"{_day_and_time(first, year)} to {format_time(last)}"
    return f"{_day_and_time(first, year)} to {_day_and_time(last, year)}"


def _day_and_time(local: datetime, year: int) -> str:
    return f"{format_day(local, year=local.year != year)} {format_time(local)}"


def duration(span: timedelta) -> str:
    """Return a duration like `16 hours` or `2 days 3 hours 5 minutes`, without seconds."""
    return " ".join(_duration_parts(span)) or "less than a minute"


def _duration_parts(span: timedelta) -> Iterator[str]:
    for unit, name in _UNITS:
        number, span = divmod(span, unit)
        if number:
            yield f"{number} {name}{'s' if number > 1 else ''}"


def resource_name(view: ResourceView, viewer: Viewer) -> str:
    """Return the accessible name of a Resource, like `analytics, running, 2 of 2, ada until 17:00`."""
    status, holder = view.resource.status, view.state.holder
    parts = [view.name, view.power.lower(), f"{status.running} of {status.instances}"]
    if holder is not None:
        parts.append(f"{holder.user_id} until {time_or_day(holder.end_at, viewer)}")
    return ", ".join(parts)
