"""Draws bookings as a Gantt chart in text: Resources by time, in the width of a terminal.

`draw` is a pure function. It returns lines of spans, each with a role, and the caller chooses the colours.
The chart has the same meaning without colour, and has a form without characters beyond ASCII.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import groupby
from zoneinfo import ZoneInfo

from booking_operator.client.lanes import MAX_LANES, lanes_of
from booking_operator.client.view import ResourceView
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.local_time import format_day, local_times

MIN_CHART = 20
_MAX_LABEL, _MIN_LABEL = 24, 8
_MIN_TICK = 8
_STEPS = tuple(
    timedelta(minutes=minutes) for minutes in (5, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 40320)
)
_DAY = timedelta(days=1)


class Role(Enum):
    """What a span of a line shows."""

    TEXT = "text"
    HEAD = "head"
    HOLDER = "holder"
    """A booking that holds the Resource, when it is the only one or the first one."""
    OTHER = "other"
    WARM_UP = "warm-up"
    NOW = "now"


Span = tuple[str, Role]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a chart."""

    holder: str
    other: str
    begin: str
    end: str
    warm_up: str
    now: str
    more: str


UNICODE = Glyphs("━", "─", "┣", "┫", "░", "│", "…")
ASCII = Glyphs("=", "-", "[", "]", ":", "|", "~")


@dataclass(frozen=True, slots=True)
class Scale:
    """The time range of a chart, and its width in columns. The instants are aware UTC."""

    begin: datetime
    end: datetime
    columns: int

    def column(self, instant: datetime) -> int:
        """Return the column of an instant: 0 for the begin, `columns` for the end; limited to these."""
        share = (instant - self.begin) / (self.end - self.begin)
        return min(max(int(share * self.columns), 0), self.columns)


def draw(
    views: Sequence[ResourceView],
    scale_of: tuple[datetime, datetime],
    zone: ZoneInfo,
    width: int,
    glyphs: Glyphs,
) -> list[list[Span]]:
    """Draw the bookings of some Resources.

    Args:
        views: the Resources; `now` of the first one is the present instant.
        scale_of: begin and end of the chart (aware UTC).
        zone: the time zone of the ticks.
        width: the width of the terminal in columns.
        glyphs: the characters.

    Returns:
        The lines.
    """
    longest = max((len(view.name) for view in views), default=0)
    label = max(min(longest, _MAX_LABEL, width - MIN_CHART - 1), min(_MIN_LABEL, longest))
    scale = Scale(*scale_of, max(width - label - 1, MIN_CHART))
    now = scale.column(views[0].now) if views and scale.begin <= views[0].now < scale.end else None
    lines = [[(" " * (label + 1) + text, Role.HEAD)] for text in _heads(scale, zone)]
    for view in views:
        lanes = lanes_of(view, scale.begin, scale.end)
        shown = lanes[:MAX_LANES] or [[]]
        for number, lane in enumerate(shown):
            name = _fit(view.name, label, glyphs) if number == 0 else ""
            lines.append([(f"{name:<{label}} ", Role.TEXT), *_lane(view, lane, scale, now, glyphs)])
        hidden = sum(map(len, lanes[MAX_LANES:]))
        if hidden:
            lines.append([(f"{'':<{label}} +{hidden} more", Role.TEXT)])
    return lines


def _fit(text: str, width: int, glyphs: Glyphs) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}{glyphs.more}"


def _lane(
    view: ResourceView, lane: Sequence[BookingInterval], scale: Scale, now: int | None, glyphs: Glyphs
) -> Iterator[Span]:
    cells: list[Span] = [(" ", Role.TEXT)] * scale.columns
    if now is not None and now < scale.columns:
        cells[now] = (glyphs.now, Role.NOW)
    for item in lane:
        begin = scale.column(item.start_at)
        end = max(scale.column(item.end_at), begin + 1)
        for column in range(scale.column(item.power_on_at(view.resource.warm_up)), begin):
            cells[column] = (glyphs.warm_up, Role.WARM_UP)
        holds = view.holds(item)
        role = Role.HOLDER if holds else Role.OTHER
        for column, char in enumerate(_bar(item, scale, end - begin, glyphs, holds=holds), begin):
            if column < scale.columns and not (column == now and char in {glyphs.holder, glyphs.other}):
                cells[column] = (char, role)
    for role, group in groupby(cells, key=lambda cell: cell[1]):
        yield ("".join(char for char, _ in group), role)


def _bar(item: BookingInterval, scale: Scale, width: int, glyphs: Glyphs, *, holds: bool) -> str:
    """Return the bar of a booking. It is open where the booking is longer than the chart."""
    line = glyphs.holder if holds else glyphs.other
    begin = glyphs.begin if item.start_at >= scale.begin else line
    end = glyphs.end if item.end_at <= scale.end else line
    if width == 1:
        return glyphs.begin
    user = "".join(char if char.isprintable() else "?" for char in item.user_id)
    inside = width - 2
    text = user if len(user) <= inside else f"{user[: inside - 1]}{glyphs.more}" if inside > 1 else ""
    return f"{begin}{text}{line * (inside - len(text))}{end}"


def _heads(scale: Scale, zone: ZoneInfo) -> Iterator[str]:
    """Yield the line of days, and the line of times of day if the ticks are closer than a day."""
    span = scale.end - scale.begin
    step = next((step for step in _STEPS if scale.columns * (step / span) >= _MIN_TICK), _STEPS[-1])
    ticks = list(local_times(scale.begin, scale.end, zone, step))
    days = [(at, format_day(at.astimezone(zone))) for at in ticks]
    if step >= _DAY:
        yield _placed(days, scale)
        return
    first = format_day(scale.begin.astimezone(zone))
    changes = [(at, text) for at, text in days if at.astimezone(zone).time() == datetime.min.time()]
    if not changes or scale.column(changes[0][0]) > len(first):
        changes.insert(0, (scale.begin, first))
    yield _placed(changes, scale)
    yield _placed([(at, f"{at.astimezone(zone):%H:%M}") for at in ticks], scale)


def _placed(labels: Sequence[tuple[datetime, str]], scale: Scale) -> str:
    """Return a line with each label at its column. A label that does not fit is left out."""
    line = ""
    for instant, text in labels:
        column = scale.column(instant)
        if (not line or column > len(line)) and column + len(text) <= scale.columns:
            line = f"{line:<{column}}{text}"
    return line
