"""New, extended and released bookings: their names, their objects, and their effects in words."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.view import AD_HOC, ResourceView, Viewer
from booking_operator.domain.acceptance import Conflict
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline
from booking_operator.domain.formatting import format_duration, format_rfc3339
from booking_operator.domain.local_time import (
    format_clock_or_day,
    format_interval,
    format_relative,
    format_span,
    zone_abbreviation,
)
from booking_operator.domain.naming import sanitize_name
from booking_operator.domain.time_grammar import render

_MAX_OVERLAPS = 5


def booking_names(resource: str, start: datetime, user: str) -> Iterator[str]:
    """Yield the names for a booking, the preferred one first.

    The name follows from the Resource, the start in UTC, and the user, so that a repeated submit finds the
    first booking. The other names are for two users whose short hashes are equal, and for a second booking in
    the minute in which the first one was released.
    """
    digest, minute = hashlib.sha256(user.encode()).hexdigest(), f"{start:%Y%m%d%H%M}"
    yield sanitize_name(f"{resource}-{minute}-{digest[:4]}")
    yield sanitize_name(f"{resource}-{minute}-{digest[:8]}")
    yield sanitize_name(f"{resource}-{minute}{start:%S}-{digest[:8]}")


def booking_body(
    resource: str,
    interval: BookingInterval,
    viewer: Viewer,
    notifications: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Return the Booking for an interval. Its times have the offset of the viewer's time zone."""
    spec: dict[str, Any] = {
        "resource_name": resource,
        "user_id": interval.user_id,
        "start_at": local_rfc3339(interval.start_at, viewer),
        "end_at": local_rfc3339(interval.end_at, viewer),
    }
    if notifications:
        spec["notifications"] = list(notifications)
    return {
        "apiVersion": BOOKING.api_version,
        "kind": BOOKING.name,
        "metadata": {"name": interval.name},
        "spec": spec,
    }


def local_rfc3339(instant: datetime, viewer: Viewer) -> str:
    """Return an instant in RFC 3339 with the offset of the viewer's time zone."""
    return format_rfc3339(instant.astimezone(viewer.zone))


def whole_second(instant: datetime) -> datetime:
    """Return an instant without its fraction of a second."""
    return instant.replace(microsecond=0)


def preview(view: ResourceView, interval: BookingInterval, viewer: Viewer) -> list[str]:
    """Describe a booking that is about to be made: its times, its warm-up, and what it overlaps."""
    when = format_interval(interval.start_at, interval.end_at, viewer.now, viewer.zone)
    duration = format_span(interval.end_at - interval.start_at)
    line = f"{when} ({viewer.zone.key}), {duration}, {_begins(interval, viewer.now)}"
    warm_up = view.resource.warm_up
    if warm_up and interval.start_at > viewer.now:
        at = max(interval.power_on_at(warm_up), viewer.now)
        starts = format_clock_or_day(at, interval.start_at, viewer.zone)
        line += f"; instances start {starts} (warm_up {format_duration(warm_up)})"
    return [line, *_acceptance_lines(view, interval, viewer), *_notes(view, viewer)]


def _begins(interval: BookingInterval, now: datetime) -> str:
    ahead = interval.start_at - now
    return f"in {format_span(ahead)}" if ahead > timedelta(0) else "from now on"


def _acceptance_lines(view: ResourceView, interval: BookingInterval, viewer: Viewer) -> Iterator[str]:
    """Yield why the operator will not accept the booking, or what it overlaps."""
    if refused := refusal(view, interval, viewer):
        yield refused.text
    elif not view.rules.exclusive:
        yield from _overlap_lines(view, interval, viewer)


@dataclass(frozen=True, slots=True)
class BookingRefusal:
    """Why the operator will not accept a booking, or its extension.

    Attributes:
        text: the reason, as a sentence without its full stop.
        hint: what to do instead.
        instead: the command that books the next free time of the same length; empty if there is none.
        rival: the name of the booking that stands against it; empty if none does.
        for_ever: whether the booking can never be accepted as it is.
    """

    text: str
    hint: str
    instead: str = ""
    rival: str = ""
    for_ever: bool = False


def refusal(view: ResourceView, interval: BookingInterval, viewer: Viewer) -> BookingRefusal | None:
    """Return why the operator will not accept a booking, or its extension; None if it will."""
    decision, rules = view.decision(interval), view.rules
    if decision.too_long and rules.max_duration is not None:
        limit = format_span(rules.max_duration)
        text = f"a booking of {_required(view, rules.max_duration_of)} takes at most {limit}"
        return BookingRefusal(text, f"use --duration {limit} or less", for_ever=True)
    if decision.allowed_from is not None and rules.max_ahead is not None:
        when = format_relative(decision.allowed_from, viewer.now, viewer.zone)
        limit = format_span(rules.max_ahead)
        what = _required(view, rules.max_ahead_of)
        text = f"{what} can be booked {limit} ahead; this booking becomes valid {when}"
        return BookingRefusal(text, "choose an earlier start, or add --queue to make it now")
    return _conflict(view, interval, decision.conflict, viewer) if decision.conflict else None


def _required(view: ResourceView, name: str) -> str:
    """Return the name of a Resource, and why it matters if it is not the booked one."""
    return name if name == view.name else f"{name}, which {view.name} requires,"


def _conflict(
    view: ResourceView, interval: BookingInterval, rival: Conflict, viewer: Viewer
) -> BookingRefusal:
    other = BookingInterval(rival.name, rival.user_id, rival.span.start, rival.span.end, viewer.now)
    free = format_relative(rival.free_at, viewer.now, viewer.zone)
    length = format_span(interval.end_at - interval.start_at)
    who, times = viewer.address(rival.user_id) or "another booking", viewer.times(other, viewer.today)
    verb = "have" if who == "you" else "has"
    what = _required(view, rival.resource)
    text = f"conflict: {who} {verb} {what} {times} ({rival.name}); {length} are next free {free}"
    command = book_command(view.name, length, view.namespace, viewer, start=rival.free_at)
    return BookingRefusal(text, f"{command}, or add --queue to wait for your time", command, rival.name)


def _overlap_lines(view: ResourceView, interval: BookingInterval, viewer: Viewer) -> Iterator[str]:
    overlapping = [
        item
        for item in view.timeline.unfinished_by(interval.start_at)
        if item.start_at < interval.end_at and item.name != interval.name
    ]
    days = {at.astimezone(viewer.zone).date() for at in (interval.start_at, interval.end_at)}
    for item in overlapping[:_MAX_OVERLAPS]:
        holder = viewer.address(min(interval, item, key=lambda one: one.precedence).user_id)
        verb = "keep" if holder == "you" else "keeps"
        # A booking of more than one day has no day that the reader knows.
        times = viewer.times(item, min(days) if len(days) == 1 else date.min)
        name = item.name or AD_HOC
        yield (
            f"overlaps {name} ({item.user_id}, {times}): {holder} {verb} the lock, the instances run for both"
        )
    more = len(overlapping) - _MAX_OVERLAPS
    if more > 0:
        yield f"overlaps {more} more bookings"


def _notes(view: ResourceView, viewer: Viewer) -> Iterator[str]:
    """Yield what else the booking books, and what will keep it from starting its instances."""
    if requires := view.resource.requires:
        those = "it" if len(requires) == 1 else "them"
        yield f"note: {view.name} requires {', '.join(requires)}, so this books {those} too"
    for name in view.missing:
        yield f"note: {name}, which {view.name} requires, does not exist"
    required = map(view.other, view.resource.requires)
    for item in (view, *filter(None, required)):
        if item.suspended:
            yield f"note: {item.name} is suspended, so nothing starts {describe_suspension(item, viewer)}"
        failure = item.failure
        if failure is not None and failure.reason != "Suspended":
            command = viewer.command("booking", "why", item.name, namespace=item.namespace)
            yield f"note: {item.name} has a problem now: {failure.reason}; see {command}"


def describe_suspension(view: ResourceView, viewer: Viewer) -> str:
    """Return how long a suspended Resource stays suspended, as the end of a sentence."""
    until = view.suspended_until
    if until is None:
        return "while spec.suspend is true"
    return f"until {format_clock_or_day(until, viewer.now, viewer.zone)} (spec.suspend_until)"


# Extend and release


@dataclass(frozen=True, slots=True)
class BookingTarget:
    """The booking that a command is about, and its Resource.

    Attributes:
        booking: the booking.
        interval: the booking as the rules use it.
        view: its Resource; None if the Resource does not exist.
    """

    booking: Booking
    interval: BookingInterval
    view: ResourceView | None

    @property
    def name(self) -> str:
        """The name of the booking."""
        return self.booking.metadata.name


def own_booking(
    view: ResourceView, bookings: Sequence[Booking], user: str, viewer: Viewer, verb: str
) -> Booking:
    """Return the booking of a user that a command means by the name of a Resource.

    That is the one in progress; if there is none, the next one.

    Raises:
        CommandError: the user has no such booking, or several bookings qualify.
    """
    mine = {
        item.metadata.name: item
        for item in bookings
        if (interval := item.interval()) and interval.user_id == user and interval.end_at > viewer.now
    }
    candidates = [item for item in view.active if item.name in mine]
    if not candidates:
        unfinished = (*view.timeline.unfinished_by(viewer.now), *view.waiting)
        coming = [item for item in unfinished if item.name in mine]
        candidates = coming[:1]
    if not candidates:
        others = [item for item in view.active if item.name]
        hint = book_command(view.name, "1h", view.namespace, viewer)
        if others:
            command = viewer.command("booking", verb, others[0].name, namespace=view.namespace)
            hint = f"name the booking of {others[0].user_id}: {command}"
        text = f"{user} has no booking of {view.name} that has not ended"
        raise CommandError(text, hint=hint, code=ExitCode.NOT_FOUND)
    if len(candidates) > 1:
        names = ", ".join(item.name for item in candidates)
        text = f"{user} has {len(candidates)} bookings of {view.name} in progress: {names}"
        command = viewer.command("booking", verb, candidates[0].name, namespace=view.namespace)
        raise CommandError(text, hint=f"name one: {command}", code=ExitCode.USAGE)
    return mine[candidates[0].name]


def book_command(
    resource: str, duration: str, namespace: str, viewer: Viewer, start: datetime | None = None
) -> str:
    """Return the command that books a Resource from `start` (aware UTC), or from now on if it is None."""
    begin = () if start is None else ("--from", render(start, viewer.zone))
    words = ("booking", "book", resource, *begin, "--duration", duration)
    return viewer.command(*words, namespace=namespace)


def second_booking_command(target: "BookingTarget", end: datetime, viewer: Viewer) -> str:
    """Return the command that books the time from the present end of a booking to a new end."""
    interval, meta = target.interval, target.booking.metadata
    times = ("--from", render(interval.end_at, viewer.zone), "--to", render(end, viewer.zone))
    who = () if interval.user_id == viewer.user else ("--who", interval.user_id)
    words = ("booking", "book", target.booking.resource_name, *times, *who)
    return viewer.command(*words, namespace=meta.namespace)


def describe_extension(target: BookingTarget, end: datetime, viewer: Viewer) -> str:
    """Describe a new end of a booking."""
    new, old = _new_and_old(end, target.interval.end_at, viewer)
    return f"{target.name} extended: ends {new} instead of {old} (in {format_span(end - viewer.now)})"


def _new_and_old(new: datetime, old: datetime, viewer: Viewer) -> tuple[str, str]:
    """Return a new and an old end. They have a day unless both are today."""
    local = old.astimezone(viewer.zone)
    return (
        format_clock_or_day(new, viewer.now, viewer.zone),
        f"{format_clock_or_day(old, viewer.now, viewer.zone)} {zone_abbreviation(local)}",
    )


def describe_release(target: BookingTarget, end: datetime, viewer: Viewer) -> str:
    """Describe the early end of a booking, and what it does to the instances."""
    new, old = _new_and_old(end, target.interval.end_at, viewer)
    return f"{target.name} released at {new} instead of {old}; {_effect(target, end, viewer)}"


def describe_deletion(target: BookingTarget, viewer: Viewer) -> str:
    """Describe the deletion of a booking that has not begun."""
    start = format_relative(target.interval.start_at, viewer.now, viewer.zone)
    text = f"{target.name} deleted: it would have begun {start}"
    if target.view is not None and target.interval in target.view.active:
        return f"{text}; {_effect(target, None, viewer)}"
    return text


def _effect(target: BookingTarget, end: datetime | None, viewer: Viewer) -> str:
    """Describe what happens to the instances when the booking ends at `end`, or is deleted if it is None."""
    view = target.view
    if view is None:
        return "its Resource does not exist"
    others = [item for item in view.timeline if item != target.interval]
    if end is not None:
        others.append(replace(target.interval, end_at=end))
    state = BookingTimeline(others).state_at(max(end or viewer.now, viewer.now), view.resource.warm_up)
    if state.holder is not None and state.next_change_at is not None:
        until = format_clock_or_day(state.next_change_at, viewer.now, viewer.zone)
        return f"the instances run for {state.holder.user_id} until {until}"
    running, spec = view.resource.status.running, view.spec
    if view.suspended:
        return "the Resource is suspended, so nothing stops"
    if not running:
        return "no instance runs"
    if spec is not None and spec.unbooked == "Leave":
        return "the instances that a booking has started stop now"
    return f"{running} instance{'s stop' if running > 1 else ' stops'} now"
