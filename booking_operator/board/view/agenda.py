"""The view Agenda: the bookings of each day as a table. It is also the view of phones and of print."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.board.view.timeline import Bar, bar_of, is_selected
from booking_operator.board.view.window import TimeWindow, start_of_day
from booking_operator.client.view import ResourceView, View, Viewer
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.local_time import format_day, format_time


@dataclass(frozen=True, slots=True)
class AgendaEntry:
    """A booking on one day.

    Attributes:
        namespace, resource: the Resource.
        times: the times on this day, like `09:00–13:00`, `until 13:00`, `from 09:00` or `all day`.
        bar: the booking.
    """

    namespace: str
    resource: str
    times: str
    bar: Bar


@dataclass(frozen=True, slots=True)
class Day:
    """One local day with its bookings, by their begin and Resource.

    Attributes:
        name: the day, like `Tue 24 Nov 2026`.
        today: whether the present instant is on this day.
        entries: the bookings.
    """

    name: str
    today: bool
    entries: Sequence[AgendaEntry]


@dataclass(frozen=True, slots=True)
class Agenda:
    """The whole view.

    Attributes:
        name: the accessible name.
        days: the days of the time range.
    """

    name: str
    days: Sequence[Day]


def agenda(view: View, window: TimeWindow, viewer: Viewer, *, namespace: str = "", words: str = "") -> Agenda:
    """Return the view of a time range. The arguments are those of `timeline`."""
    shown = [item for item in view.resources() if is_selected(item, namespace, words)]
    return Agenda(f"Agenda, {window.title}, {window.zone.key}", list(_days(view, shown, window, viewer)))


def _days(objects: View, views: Sequence[ResourceView], window: TimeWindow, viewer: Viewer) -> Iterator[Day]:
    day = window.first
    while day < window.end_day:
        following = day + timedelta(days=1)
        begin, end = start_of_day(day, window.zone), start_of_day(following, window.zone)
        found = [
            (item.start_at, view.namespace, view.name, view, item)
            for view in views
            for item in view.bookings_within(begin, end)
            if item.start_at < end
        ]
        local = begin.astimezone(window.zone)
        yield Day(
            name=format_day(local, year=True),
            today=begin <= viewer.now < end,
            entries=[
                AgendaEntry(
                    view.namespace,
                    view.name,
                    _times(item, begin, end, viewer),
                    bar_of(view, item, objects, window, viewer),
                )
                for _, _, _, view, item in sorted(found, key=lambda row: row[:3])
            ],
        )
        day = following


def _times(item: BookingInterval, begin: datetime, end: datetime, viewer: Viewer) -> str:
    first, last = (format_time(at.astimezone(viewer.zone)) for at in (item.start_at, item.end_at))
    if item.start_at >= begin and item.end_at <= end:
        return f"{first}–{last}"
    if item.start_at >= begin:
        return f"from {first}"
    return f"until {last}" if item.end_at <= end else "all day"
