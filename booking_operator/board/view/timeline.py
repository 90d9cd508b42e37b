"""The view Timeline: Resources by time, with the bookings in lanes and the free spans between them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from booking_operator.api.booking import Booking
from booking_operator.api.meta import find_condition
from booking_operator.board.view.window import Tick, TimeWindow
from booking_operator.board.view.words import (
    KEPT_TEXTS,
    day_and_time,
    duration,
    from_to,
    resource_name,
    time_or_day,
)
from booking_operator.client.lanes import MAX_LANES, lanes_of
from booking_operator.client.view import ResourceView, View, Viewer, booking_problem, named, phase_of
from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.local_time import format_time
from booking_operator.domain.power import GraceReason
from booking_operator.domain.time_grammar import render
from booking_operator.engine.store import Key

_FINISHED = Phase.FINISHED.lower()


class Badge(StrEnum):
    """A problem of a booking, as the word beside its icon."""

    LATE = "late"
    FAILED = "failed"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Bar:
    """A booking in the window.

    Attributes:
        booking: the name of the Booking; empty for the ad-hoc booking in the spec of a Resource.
        name: the accessible name.
        user: the user, as the text on the bar.
        times: the times, as the text on the bar; with days if it is longer than a day.
        left, right: the positions of its begin and end in the window, from 0 to 1.
        warm_up: the position at which its warm-up begins; equal to `left` without a warm-up.
        opens, closes: whether it begins and ends within the window.
        holds: whether it holds the lock when it begins.
        mine: whether it is a booking of the viewer.
        state: its phase, such as `scheduled`, `in progress`, `finished` or `conflict`.
        situation: the phase, whether it holds the lock, and its problem, in words.
        through: the Resource that is booked and that requires this one; empty if this one is booked.
        badge: its problem; None for none.
    """

    booking: str
    name: str
    user: str
    times: str
    left: float
    right: float
    warm_up: float
    opens: bool
    closes: bool
    holds: bool
    mine: bool
    state: str
    situation: str
    through: str
    badge: Badge | None


@dataclass(frozen=True, slots=True)
class FreeSpan:
    """A time without a booking, which has not ended.

    Attributes:
        name: the accessible name.
        start: the begin in the time grammar, for the field From: `now` or an RFC 3339 time.
        end: the end in the time grammar, for the field To; empty if no booking is coming.
        left, right: the positions in the window, from 0 to 1.
    """

    name: str
    start: str
    end: str
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Row:
    """One Resource.

    Attributes:
        namespace, resource: its namespace and name.
        name: the accessible name of the row header.
        power: its power status, like `running`.
        counts: how many of how many instances run, like `2 of 2`.
        note: its most important problem, in a few words; empty for none.
        signs: what else is coming or holds, like `off at 20:00`, `requires db` or `waits for db`.
        lanes: the bars, in lanes of bars that do not overlap.
        hidden: the number of bookings without a lane.
        free: the free spans.
    """

    namespace: str
    resource: str
    name: str
    power: str
    counts: str
    note: str
    signs: Sequence[str]
    lanes: Sequence[Sequence[Bar]]
    hidden: int
    free: Sequence[FreeSpan]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The whole view.

    Attributes:
        name: the accessible name of the grid.
        ticks: the lines of the grid.
        now: the position of the present instant; None if the window does not have it.
        rows: the Resources, by namespace and name.
    """

    name: str
    ticks: Sequence[Tick]
    now: float | None
    rows: Sequence[Row]


def timeline(
    view: View, window: TimeWindow, viewer: Viewer, *, namespace: str = "", words: str = ""
) -> Timeline:
    """Return the view of a time range.

    Args:
        view: the objects.
        window: the time range. Its zone is that of the viewer.
        viewer: the person who looks.
        namespace: only Resources of this namespace; empty for all.
        words: only Resources whose name, user or tag has this text, in any case.
    """
    shown = [item for item in view.resources() if is_selected(item, namespace, words)]
    return Timeline(
        name=f"Timeline, {window.title}, {window.zone.key}",
        ticks=window.ticks(),
        now=window.share(viewer.now) if window.contains(viewer.now) else None,
        rows=[_row(item, view, window, viewer) for item in shown],
    )


def is_selected(view: ResourceView, namespace: str, words: str) -> bool:
    """Whether a Resource is in a namespace and has a text.

    The text is in its name, its tag or the users of its unfinished bookings. An empty namespace or text
    selects all.
    """
    if namespace and view.namespace != namespace:
        return False
    wanted = words.strip().casefold()
    if not wanted:
        return True
    users = (item.user_id for item in (*view.timeline.unfinished_by(view.now), *view.waiting))
    texts = (view.name, view.spec.tag if view.spec else "", *users)
    return any(wanted in text.casefold() for text in texts)


def _row(view: ResourceView, objects: View, window: TimeWindow, viewer: Viewer) -> Row:
    lanes = lanes_of(view, window.begin, window.end)
    status, note, signs = view.resource.status, _note(view, viewer), list(_signs(view, viewer))
    return Row(
        namespace=view.namespace,
        resource=view.name,
        name=", ".join(filter(None, (resource_name(view, viewer), note, *signs))),
        power=view.power.lower(),
        counts=f"{status.running} of {status.instances}",
        note=note,
        signs=signs,
        lanes=[[bar_of(view, item, objects, window, viewer) for item in lane] for lane in lanes[:MAX_LANES]],
        hidden=sum(map(len, lanes[MAX_LANES:])),
        free=list(_free(view, window, viewer)),
    )


def _note(view: ResourceView, viewer: Viewer) -> str:
    """Return the most important problem; for a suspension with its end."""
    if view.note == "Suspended" and view.suspended_until is not None:
        return f"Suspended until {time_or_day(view.suspended_until, viewer)}"
    return view.note


def _signs(view: ResourceView, viewer: Viewer) -> Iterator[str]:
    """Yield the end of a suspension that the note does not have, the next off time, and the order."""
    if view.suspended_until is not None and view.note != "Suspended":
        yield f"suspended until {time_or_day(view.suspended_until, viewer)}"
    if view.off_at is not None:
        yield f"off at {time_or_day(view.off_at, viewer)}"
    if view.resource.requires:
        verb = "waits for" if view.waits_for_required else "requires"
        yield f"{verb} {', '.join(view.resource.requires)}"
    ready = find_condition(view.resource.status.conditions, "Ready")
    if ready is not None and ready.reason == GraceReason.DEPENDENTS:
        yield "stops after those that require it"


def bar_of(
    view: ResourceView, item: BookingInterval, objects: View, window: TimeWindow, viewer: Viewer
) -> Bar:
    """Return the bar of a booking in a time range."""
    booking = objects.booking(Key(view.namespace, item.name)) if item.name else None
    phase = phase_of(booking, viewer.now) if booking else item.phase_at(viewer.now)
    state, badge = phase.lower(), _badge(booking, viewer.now)
    holds = view.holds(item)
    times = from_to(item.start_at, item.end_at, viewer)
    held = "holds the lock" if holds and state != _FINISHED else ""
    through = f"for {item.booked_resource}, which requires it" if item.booked_resource else ""
    situation = ", ".join(filter(None, dict.fromkeys((state, through, held, badge))))
    return Bar(
        booking=item.name,
        name=", ".join((named(item), item.user_id, times, situation)),
        user=item.user_id,
        times=_times(item.start_at, item.end_at, viewer.zone) or times,
        left=window.share(item.start_at),
        right=window.share(item.end_at),
        warm_up=window.share(item.power_on_at(view.resource.warm_up)),
        opens=item.start_at >= window.begin,
        closes=item.end_at <= window.end,
        holds=holds,
        mine=item.user_id == viewer.user,
        state=state,
        situation=situation,
        through=item.booked_resource,
        badge=badge,
    )


@lru_cache(maxsize=KEPT_TEXTS)
def _times(start: datetime, end: datetime, zone: ZoneInfo) -> str:
    """Return the times of a booking on one day; empty if it is longer."""
    begin, finish = start.astimezone(zone), end.astimezone(zone)
    return f"{format_time(begin)}–{format_time(finish)}" if begin.date() == finish.date() else ""


_BADGES = {"": None, "Delayed": Badge.LATE, "Conflict": Badge.CONFLICT}


def _badge(booking: Booking | None, now: datetime) -> Badge | None:
    """Return the problem that the operator reports of a booking that has not ended."""
    return _BADGES.get(booking_problem(booking, now), Badge.FAILED) if booking else None


def _free(view: ResourceView, window: TimeWindow, viewer: Viewer) -> Iterator[FreeSpan]:
    """Yield the times without a booking that end after the present instant and meet the window.

    A free span is described as a whole, so it may begin before the window and end after it.
    """
    bookings = view.timeline.unfinished_by(viewer.now)
    for start, end in _gaps(bookings, viewer.now):
        if start >= window.end:
            return
        if end is not None and end <= window.begin:
            continue
        yield FreeSpan(
            name=_free_name(start, end, viewer),
            start="now" if start == viewer.now else render(start, viewer.zone),
            end=render(end, viewer.zone) if end else "",
            left=window.share(start),
            right=window.share(end) if end else 1.0,
        )


def _gaps(bookings: Iterable[BookingInterval], now: datetime) -> Iterator[tuple[datetime, datetime | None]]:
    """Yield the times from `now` on in which no booking is, given bookings by their start."""
    free_from = now
    for item in bookings:
        if item.start_at > free_from:
            yield free_from, item.start_at
        free_from = max(free_from, item.end_at)
    yield free_from, None


def _free_name(start: datetime, end: datetime | None, viewer: Viewer) -> str:
    begins_now = start == viewer.now
    if end is None:
        first = "now" if begins_now else day_and_time(start, viewer.now, viewer.zone)
        return f"Free, from {first} on, no booking is coming"
    if begins_now:
        return f"Free, now to {day_and_time(end, viewer.now, viewer.zone)}, {duration(end - start)}"
    return f"Free, {from_to(start, end, viewer)}, {duration(end - start)}"
