"""The time range that the board shows: a day, a week or a month of the viewer's time zone."""

import calendar
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from zoneinfo import ZoneInfo

from booking_operator.domain.local_time import format_day, local_times

_LABELED_HOURS = 3
"""Each third hour of a day has a label."""
_MAX_YEAR, _MIN_YEAR = 2998, 1971
"""The API accepts the years 1970 to 2999. One year less leaves room for a month and the UTC offset."""


class Zoom(StrEnum):
    """How much time the board shows. The values are those of `span` in the URL."""

    DAY = "1d"
    WEEK = "1w"
    MONTH = "1m"


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid.

    Attributes:
        at: the position in the window, from 0 to 1.
        label: the text at the line; empty for a line without a text.
        day: whether a day begins here.
    """

    at: float
    label: str
    day: bool


@dataclass(frozen=True)
class TimeWindow:
    """A time range in whole local days.

    Attributes:
        first: the first local day.
        zoom: how much time it has.
        zone: the time zone of the viewer.
    """

    first: date
    zoom: Zoom
    zone: ZoneInfo

    def __post_init__(self) -> None:
        """Check the day.

        Raises:
            ValueError: the API accepts no bookings in this year, or the zone has left out this day.
        """
        if not _MIN_YEAR <= self.first.year <= _MAX_YEAR:
            raise ValueError(f"from {self.first} must be in the years {_MIN_YEAR} to {_MAX_YEAR}")
        if self.begin >= self.end:
            raise ValueError(f"{self.zone.key} has no {self.first}")

    @cached_property
    def end_day(self) -> date:
        """The local day after the last one."""
        return _later(self.first, self.zoom, 1)

    @cached_property
    def begin(self) -> datetime:
        """The instant at which the first day begins (aware UTC)."""
        return start_of_day(self.first, self.zone)

    @cached_property
    def end(self) -> datetime:
        """The instant at which the last day ends (aware UTC)."""
        return start_of_day(self.end_day, self.zone)

    @property
    def previous(self) -> date:
        """The first day of the time range before this one."""
        return _later(self.first, self.zoom, -1)

    @property
    def title(self) -> str:
        """The name of the range, like `Tue 24 Nov 2026` or `Mon 23 Nov to Sun 29 Nov 2026`."""
        last = self.end_day - timedelta(days=1)
        begin = _day_text(self.first, year=self.first == last or self.first.year != last.year)
        return begin if self.first == last else f"{begin} to {_day_text(last, year=True)}"

    def share(self, instant: datetime) -> float:
        """Return the position of an instant: 0 for the begin, 1 for the end; limited to these."""
        return min(max((instant - self.begin) / (self.end - self.begin), 0.0), 1.0)

    def contains(self, instant: datetime) -> bool:
        """Whether the window has this instant."""
        return self.begin <= instant < self.end

    def ticks(self) -> Sequence[Tick]:
        """Return the lines of the grid: hours of a day, days of a week or of a month."""
        return list(self._hours() if self.zoom is Zoom.DAY else self._days())

    def _hours(self) -> Iterator[Tick]:
        for instant in local_times(self.begin, self.end, self.zone, timedelta(hours=1)):
            local = instant.astimezone(self.zone)
            label = f"{local:%H:%M}" if local.hour % _LABELED_HOURS == 0 else ""
            yield Tick(self.share(instant), label, day=instant == self.begin)

    def _days(self) -> Iterator[Tick]:
        day = self.first
        while day < self.end_day:
            text = str(day.day) if self.zoom is Zoom.MONTH else _day_text(day)
            begin, day = start_of_day(day, self.zone), day + timedelta(days=1)
            if begin < start_of_day(day, self.zone):  # a zone that moves over the date line leaves out a day
                yield Tick(self.share(begin), text, day=True)


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a local day (aware UTC), also if the clocks skip or repeat its midnight."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _later(day: date, zoom: Zoom, times: int) -> date:
    if zoom is not Zoom.MONTH:
        return day + times * timedelta(days=1 if zoom is Zoom.DAY else 7)
    months = 12 * day.year + day.month - 1 + times
    year, month = divmod(months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _day_text(day: date, *, year: bool = False) -> str:
    return format_day(datetime(day.year, day.month, day.day), year=year)  # noqa: DTZ001 - only its date is used
