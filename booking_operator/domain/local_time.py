"""Formats instants and durations for people, in their time zone.

Conditions and Events use `domain.formatting` instead, because many people in many zones read them.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH_NAMES = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def format_day(local: datetime, *, year: bool = False) -> str:
    """Return the day of a local time, like `Wed 25 Nov`, or `Wed 25 Nov 2026` with `year`."""
    text = f"{_WEEKDAYS[local.weekday()]} {local.day} {_MONTH_NAMES[local.month - 1][:3]}"
    return f"{text} {local.year}" if year else text


def local_times(begin: datetime, end: datetime, zone: ZoneInfo, step: timedelta) -> Iterator[datetime]:
    """Yield the instants in `[begin, end)` at which the clocks show a multiple of `step` since midnight.

    The instants are aware UTC. A local time that the clocks skip or repeat occurs once.
    """
    local = begin.astimezone(zone).replace(tzinfo=None)
    wall, last = local.replace(hour=0, minute=0, second=0, microsecond=0), None
    while True:
        instant = wall.replace(tzinfo=zone).astimezone(UTC)
        if instant >= end:
            return
        if instant >= begin and (last is None or instant > last):
            yield instant
            last = instant
        wall += step


def format_month(month: str) -> str:
    """Return a month like `2026-11` as `November 2026`."""
    year, _, number = month.partition("-")
    return f"{_MONTH_NAMES[int(number) - 1]} {year}"


def format_time(local: datetime) -> str:
    """Return the time of day like `09:00`, with the name of the time if the clocks show it twice that day."""
    text = f"{local:%H:%M}"
    repeated = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return f"{text} {zone_abbreviation(local)}" if repeated else text


def format_relative(instant: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Return an instant with the shortest clear day: `today 17:00`, `tomorrow 08:55`, `Fri 27 Nov 18:00`."""
    local, today = instant.astimezone(zone), now.astimezone(zone).date()
    return f"{_relative_day(local, today)} {format_time(local)}"


def _relative_day(local: datetime, today: date) -> str:
    days = (local.date() - today).days
    if days in (0, 1):
        return ("today", "tomorrow")[days]
    return format_day(local, year=local.year != today.year)


def format_clock_or_day(instant: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Return the time of day alone for today, otherwise as `format_relative` does."""
    local = instant.astimezone(zone)
    if local.date() == now.astimezone(zone).date():
        return format_time(local)
    return format_relative(instant, now, zone)


def format_interval(start: datetime, end: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Return an interval, like `Wed 25 Nov 09:00–13:00 CET`.

    Both ends have a day if the days differ, the year if it is not the present one for both, and the name of
    the time if the UTC offsets differ.
    """
    first, last = start.astimezone(zone), end.astimezone(zone)
    year = {first.year, last.year} != {now.astimezone(zone).year}
    begin = f"{format_day(first, year=year)} {first:%H:%M}"
    finish = f"{last:%H:%M}"
    if first.date() != last.date():
        begin, finish = f"{begin} ", f" {format_day(last, year=year)} {finish}"
    if first.utcoffset() != last.utcoffset():
        begin = f"{begin.rstrip()} {zone_abbreviation(first)}{' ' if begin.endswith(' ') else ''}"
    return f"{begin}–{finish} {zone_abbreviation(last)}"


def zone_abbreviation(local: datetime) -> str:
    """Return the name of the time, like `CET`, or the UTC offset in a zone without names: `+03:00`."""
    name = local.tzname() or ""
    return name if name.isalpha() else utc_offset(local)


def utc_offset(local: datetime) -> str:
    """Return the UTC offset, like `+01:00`."""
    text = f"{local:%z}"
    return f"{text[:3]}:{text[3:5]}"


def format_span(span: timedelta) -> str:
    """Return an exact duration, like `3d3h57m` or `41s`. Seconds are left out from an hour on."""
    seconds = int(span.total_seconds())
    if seconds >= _HOUR.total_seconds():
        seconds -= seconds % 60
    parts = (
        ("d", seconds // 86400),
        ("h", seconds // 3600 % 24),
        ("m", seconds // 60 % 60),
        ("s", seconds % 60),
    )
    return "".join(f"{number}{unit}" for unit, number in parts if number) or "0s"


_AGE_LIMITS = (
    (2 * _MINUTE, ("s",)),
    (10 * _MINUTE, ("m", "s")),
    (3 * _HOUR, ("m",)),
    (8 * _HOUR, ("h", "m")),
    (2 * _DAY, ("h",)),
    (8 * _DAY, ("d", "h")),
)
_UNITS = {"d": _DAY, "h": _HOUR, "m": _MINUTE, "s": timedelta(seconds=1)}


def format_age(age: timedelta) -> str:
    """Return a duration in at most two units, as kubectl shows ages: `63m`, `4h5m`, `12d`."""
    units = next((units for limit, units in _AGE_LIMITS if age < limit), ("d",))
    text = ""
    for unit in units:
        number, age = divmod(age, _UNITS[unit])
        text += f"{number}{unit}" if number or not text else ""
    return text
