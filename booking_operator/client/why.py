"""Explains why a Resource or a Booking is in its state, and what to do about it.

`explain_resource` and `explain_booking` are pure functions of the objects, the viewer and the time. They
compute nothing that the operator computes differently: the bookings come from the booking timeline, and
everything else from the conditions, whose messages are quoted unchanged.

An explanation is a chain: the state, because of which bookings, but with which obstacles, what happens next,
and what to do. The obstacles come from a list of checks in a fixed order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from booking_operator.api.booking import Booking, BookingSpec
from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.meta import Condition, InvalidSpec, find_condition
from booking_operator.client.advice import Fixer, advice_for
from booking_operator.client.bookings import book_command, describe_suspension, refusal
from booking_operator.client.cluster import PODS, Permission
from booking_operator.client.progress import past_starts
from booking_operator.client.view import (
    ResourceView,
    Viewer,
    booking_is_unreported,
    named,
    phase_of,
)
from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.conditions import (
    IN_SEQUENCE,
    ON_THEIR_WAY,
    next_attempt_in,
    suggested_warm_up_in,
)
from booking_operator.domain.formatting import format_duration
from booking_operator.domain.local_time import (
    format_age,
    format_clock_or_day,
    format_day,
    format_relative,
)
from booking_operator.domain.parsing import parse_rfc3339

_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a person can do.

    Attributes:
        text: a command, or a sentence without a full stop.
        permission: what the command needs; None for a sentence, and for a command that needs none.
    """

    text: str
    permission: Permission | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The chain of reasons for the state of one object.

    Attributes:
        subject: the object, like `analytics` or `booking my-afternoon`.
        state: its state, as the rest of the sentence that begins with the subject.
        as_booked: whether everything is as booked.
        because: which bookings lead to the state.
        but: what keeps the state from being as booked.
        next: what happens next, by itself.
        do: what the viewer can do.
    """

    subject: str
    state: str
    as_booked: bool
    because: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    next: str = ""
    do: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """A condition that keeps the state from being as booked, and what can be done about it.

    Attributes:
        text: the condition, with its message.
        remedies: what can be done.
        harmless: whether everything is as booked nevertheless.
        retry_at: when the operator tries again (aware UTC); None if it is not known.
    """

    text: str
    remedies: tuple[Remedy, ...] = ()
    harmless: bool = False
    retry_at: datetime | None = None


# Resource


def explain_resource(view: ResourceView, viewer: Viewer) -> Explanation:
    """Explain the state of a Resource.

    Args:
        view: the Resource and its bookings.
        viewer: the person who asks, and when.
    """
    counts = f"{view.power} {_run(view)}"
    if view.silent_since is not None:
        return _silent_resource(view, view.silent_since, counts, viewer)
    obstacles = _obstacles(view, viewer)
    blocked = any(not obstacle.harmless for obstacle in obstacles)
    remedies = dict.fromkeys(remedy for obstacle in obstacles for remedy in obstacle.remedies)
    return Explanation(
        subject=view.name,
        state=f"{counts}, {_verdict(view, blocked=blocked)}",
        as_booked=view.as_booked and not blocked,
        because=(_because(view, viewer, blocked=blocked),),
        but=tuple(obstacle.text for obstacle in obstacles),
        next="; ".join(_next_of_resource(view, viewer, obstacles)),
        do=tuple(remedies) or _book_it(view, viewer),
    )


def _run(view: ResourceView) -> str:
    return f"{view.resource.status.running} of {view.resource.status.instances}"


def _verdict(view: ResourceView, *, blocked: bool) -> str:
    if blocked:
        return "NOT as booked"
    if view.as_booked:
        return "as booked"
    if view.state.running_wanted:
        return f"starting{past_starts(view.resource.status.start_seconds)}"
    return "stopping"


def _silent_resource(view: ResourceView, since: datetime, counts: str, viewer: Viewer) -> Explanation:
    ago = format_age(viewer.now - since)
    if view.resource.status.observed_generation:
        at = _second(since, viewer)
        why = f"status.next_change_at was {at}, {ago} ago, and nothing was reported since"
    else:
        why = f"it was created {ago} ago, and the operator has never reported on it"
    return Explanation(
        subject=view.name,
        state=f"last reported {counts}; the operator is silent",
        as_booked=False,
        because=(why,),
        do=(_look_at_operator(viewer),),
    )


def _because(view: ResourceView, viewer: Viewer, *, blocked: bool) -> str:
    """Return which bookings want the instances to run, or that none does."""
    if not view.active:
        last = view.state.last_ended
        left = ", and spec.unbooked is Leave" if view.spec and view.spec.unbooked == "Leave" else ""
        if last is None:
            return f"nobody has booked it{left}"
        who = "yours" if last.user_id == viewer.user else last.user_id
        ended = format_clock_or_day(last.end_at, viewer.now, viewer.zone)
        return f"nobody has booked it{left}; the last booking ({who}) ended {ended}"
    holder, *others = view.active
    if blocked:
        who = viewer.address(holder.user_id)
        since = format_clock_or_day(holder.start_at, viewer.now, viewer.zone)
        verb = "is active since" if holder.start_at <= viewer.now else "starts its instances for"
        first = f"{named(holder)} ({who}) {verb} {since}"
    else:
        first = f"{_label(holder, viewer)} holds the lock"
    more = [f"{_label(item, viewer)} runs too" for item in others[:_MAX_NAMED]]
    if len(others) > _MAX_NAMED:
        more.append(f"{len(others) - _MAX_NAMED} more run too")
    return "; ".join([first, *more])


def _label(item: BookingInterval, viewer: Viewer) -> str:
    """Return a booking with its user and its times: `office (grace) 09:00–18:00`, `your talk 9:00–10:00`."""
    name, times = named(item), viewer.times(item, viewer.today)
    return f"your {name} {times}" if item.user_id == viewer.user else f"{name} ({item.user_id}) {times}"


def _next_of_resource(view: ResourceView, viewer: Viewer, obstacles: Sequence[_Obstacle]) -> Iterator[str]:
    """Yield what happens next by itself."""
    if view.suspended:
        yield f"nothing starts or stops {describe_suspension(view, viewer)}"
        return
    retries = [obstacle.retry_at for obstacle in obstacles if obstacle.retry_at is not None]
    if retries:
        yield f"{_second(min(retries), viewer)} next try"
    change = view.state.next_change_at
    if view.state.running_wanted and change is not None:
        at = format_clock_or_day(change, viewer.now, viewer.zone)
        blocked = any(not obstacle.harmless for obstacle in obstacles)
        yield f"ends {at}" if blocked and not view.resource.status.running else f"{at} stops"
        mine = [item for item in view.active if item.user_id == viewer.user and item.end_at < change]
        for end in sorted({item.end_at for item in mine})[:_MAX_NAMED]:
            yield f"{format_clock_or_day(end, viewer.now, viewer.zone)} changes nothing"
        return
    if view.off_at is not None:
        yield f"{format_clock_or_day(view.off_at, viewer.now, viewer.zone)} stops what runs unbooked"
    coming = view.next_booking
    if coming is None and view.off_at is not None:
        return
    if coming is None:
        yield "nothing; no booking is coming"
        return
    warm_up = view.resource.warm_up
    begins = coming.power_on_at(warm_up)
    at, who = format_relative(begins, viewer.now, viewer.zone), viewer.address(coming.user_id)
    more = ""
    if warm_up:
        start = format_clock_or_day(coming.start_at, begins, viewer.zone)
        more = f", {start}, warm_up {format_duration(warm_up)}"
    yield f"{at} starts for {named(coming)} ({who}{more})"


def _book_it(view: ResourceView, viewer: Viewer) -> tuple[Remedy, ...]:
    if view.active:
        return ()
    command = book_command(view.name, "2h", view.namespace, viewer)
    return (Remedy(command, Permission("create", BOOKING, view.namespace)),)


def _second(instant: datetime, viewer: Viewer) -> str:
    """Return the time of day to the second, after the day if that is not today."""
    local = instant.astimezone(viewer.zone)
    text = f"{local:%H:%M:%S}"
    if local.date() == viewer.today:
        return text
    return f"{format_day(local, year=local.year != viewer.today.year)} {text}"


# Obstacles


def _obstacles(view: ResourceView, viewer: Viewer) -> list[_Obstacle]:
    found = [check(view.resource.status.conditions) for check in _CHECKS]
    shown: dict[str, Condition] = {}
    for condition in found:
        if condition is not None:
            shown.setdefault(condition.reason, condition)
    return [_obstacle(view, item, viewer) for item in shown.values()]


def _false(type_: str) -> Callable[[Sequence[Condition]], Condition | None]:
    """Return a check for a condition that is not true."""

    def check(conditions: Sequence[Condition]) -> Condition | None:
        condition = find_condition(conditions, type_)
        return condition if condition is not None and condition.status != "True" else None

    return check


def _delayed(conditions: Sequence[Condition]) -> Condition | None:
    return find_condition(conditions, "Delayed")


def _warning(conditions: Sequence[Condition]) -> Condition | None:
    """Return a condition that is true, but has a warning."""
    synced = find_condition(conditions, "Synced")
    return synced if synced is not None and synced.status == "True" and synced.reason != "Synced" else None


def _not_ready(conditions: Sequence[Condition]) -> Condition | None:
    """Return why instances are not as booked, unless they are on their way."""
    ready = _false("Ready")(conditions)
    return ready if ready is not None and ready.reason not in ON_THEIR_WAY else None


def _in_sequence(conditions: Sequence[Condition]) -> Condition | None:
    """Return which other Resources a start or a stop waits for."""
    ready = _false("Ready")(conditions)
    return ready if ready is not None and ready.reason in IN_SEQUENCE else None


_CHECKS = (_false("Valid"), _false("Found"), _false("Synced"), _delayed, _not_ready, _in_sequence, _warning)
"""The order in which obstacles are shown. `Ready` has the reasons Suspended, DryRun and Blocked."""


def _obstacle(view: ResourceView, condition: Condition, viewer: Viewer) -> _Obstacle:
    return _Obstacle(
        text=_quoted(condition, viewer),
        remedies=tuple(_remedies(view, condition, viewer)),
        harmless=condition.type == "Delayed" or condition.status == "True" or condition.reason in IN_SEQUENCE,
        retry_at=next_attempt_in(condition.message),
    )


def _quoted(condition: Condition, viewer: Viewer) -> str:
    """Return a condition with its message, unchanged."""
    since = ""
    if condition.last_transition_time:
        since = f" since {_second(parse_rfc3339(condition.last_transition_time), viewer)}"
    return f'{condition.type}={condition.status}/{condition.reason}{since}: "{condition.message}"'


def _remedies(view: ResourceView, condition: Condition, viewer: Viewer) -> Iterator[Remedy]:
    advice, name, namespace = advice_for(condition.reason), view.name, view.namespace
    patch, edit = advice.patch, advice.edit
    if warm_up := suggested_warm_up_in(condition.message):
        patch, edit = f'{{"spec":{{"warm_up":"{warm_up}"}}}}', False
    if condition.reason == "Suspended" and view.suspended_until is not None:
        patch = '{"spec":{"suspend_until":""}}'
    may_patch = Permission("patch", RESOURCE, namespace)
    if patch:
        yield Remedy(_patch_command("resource", name, patch, namespace, viewer), may_patch)
    if advice.delete:
        command = viewer.command("delete", "resource", name, namespace=namespace)
        yield Remedy(command, Permission("delete", RESOURCE, namespace))
    if edit:
        yield Remedy(viewer.command("edit", "resource", name, namespace=namespace), may_patch)
    if condition.reason in _OF_REQUIRED:
        yield from _remedies_of_required(view, viewer)
    if advice.text:
        yield Remedy(_ADDRESSED[advice.fixer].format(advice.text))


def _remedies_of_required(view: ResourceView, viewer: Viewer) -> Iterator[Remedy]:
    for required in view.resource.requires:
        if required in view.missing:
            yield Remedy(f"create the Resource {required}, or remove it from spec.requires of {view.name}")
        else:
            yield Remedy(viewer.command("booking", "why", required, namespace=view.namespace))


_OF_REQUIRED = {"WaitingForRequired", "RequiredUnavailable", "RequiredDelayed"}
_ADDRESSED = {
    Fixer.NOBODY: "nothing: {}",
    Fixer.USER: "{}",
    Fixer.OPERATOR_ADMIN: "ask an administrator of the operator: {}",
    Fixer.CLOUD_OWNER: "{}",
}
_OPERATOR_NAMESPACE = "booking-operator-system"


def _look_at_operator(viewer: Viewer) -> Remedy:
    command = viewer.command("-n", _OPERATOR_NAMESPACE, "get", "lease,pods", namespace=viewer.namespace)
    return Remedy(command, Permission("list", PODS, _OPERATOR_NAMESPACE))


def _patch_command(plain: str, name: str, patch: str, namespace: str, viewer: Viewer) -> str:
    return viewer.command("patch", plain, name, "--type", "merge", "-p", patch, namespace=namespace)


# Booking


def explain_booking(
    booking: Booking, view: ResourceView | None, viewer: Viewer, resources: Sequence[str] = ()
) -> Explanation:
    """Explain the state of a Booking.

    Args:
        booking: the Booking.
        view: its Resource; None if it does not exist.
        viewer: the person who asks, and when.
        resources: the names of the Resources in the namespace.
    """
    meta, interval = booking.metadata, booking.interval()
    subject = f"booking {meta.name}"
    if interval is None or not isinstance(booking.spec, BookingSpec):
        return _invalid_booking(booking, subject, viewer)
    if booking_is_unreported(booking, viewer.now):
        reported = booking.status.status or "nothing"
        why = (
            f"the status does not say {interval.phase_at(viewer.now)}, as it should since a minute or longer"
        )
        state = f"last reported {reported}; the operator is silent"
        return Explanation(subject, state, as_booked=False, because=(why,), do=(_look_at_operator(viewer),))
    if interval.phase_at(viewer.now) is Phase.FINISHED:
        ended = format_clock_or_day(interval.end_at, viewer.now, viewer.zone)
        again = book_command(booking.resource_name, "1h", meta.namespace, viewer)
        return Explanation(
            subject,
            f"ended {ended}",
            as_booked=True,
            because=(f"it booked {booking.resource_name} {viewer.times(interval, viewer.today)}",),
            do=(Remedy(again, Permission("create", BOOKING, meta.namespace)),),
        )
    if view is None:
        return _without_resource(booking, interval, viewer, resources)
    if (condition := _not_accepted(booking, viewer)) is not None:
        return _unaccepted_booking(booking, interval, view, condition, viewer)
    return _unfinished_booking(booking, interval, view, viewer, subject)


def _invalid_booking(booking: Booking, subject: str, viewer: Viewer) -> Explanation:
    meta = booking.metadata
    message = booking.spec.message if isinstance(booking.spec, InvalidSpec) else ""
    command = viewer.command("edit", "booking", meta.name, namespace=meta.namespace)
    edit = Remedy(command, Permission("patch", BOOKING, meta.namespace))
    return Explanation(
        subject, "invalid, so it books nothing", as_booked=False, because=(f'"{message}"',), do=(edit,)
    )


def _begun(interval: BookingInterval, viewer: Viewer) -> str:
    at = interval.start_at
    if at <= viewer.now:
        return f"active since {format_clock_or_day(at, viewer.now, viewer.zone)}"
    return f"begins {format_relative(at, viewer.now, viewer.zone)}"


def _without_resource(
    booking: Booking, interval: BookingInterval, viewer: Viewer, resources: Sequence[str]
) -> Explanation:
    meta, wanted = booking.metadata, booking.resource_name
    condition = find_condition(booking.status.conditions, "ResourceFound")
    message = condition.message if condition is not None else f"there is no Resource {wanted}"
    close = get_close_matches(wanted, resources, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    command = viewer.command("edit", "booking", meta.name, namespace=meta.namespace)
    if close:
        patch = f'{{"spec":{{"resource_name":"{close[0]}"}}}}'
        command = _patch_command("booking", meta.name, patch, meta.namespace, viewer)
    may = Permission("patch", BOOKING, meta.namespace)
    return Explanation(
        f"booking {meta.name}",
        f"{_begun(interval, viewer)}, nothing runs for it",
        as_booked=False,
        because=(f'"{message}"{hint}',),
        do=(Remedy(command, may),),
    )


def _not_accepted(booking: Booking, viewer: Viewer) -> Condition | None:
    """Return the condition that says why nothing of a booking is accepted; None if some of it is."""
    if phase_of(booking, viewer.now) not in {Phase.CONFLICT, "INVALID"}:
        return None
    checks = (_false(type_)(booking.status.conditions) for type_ in ("Valid", "Accepted"))
    return next((found for found in checks if found is not None), None)


def _unaccepted_booking(
    booking: Booking, interval: BookingInterval, view: ResourceView, condition: Condition, viewer: Viewer
) -> Explanation:
    meta, refused = booking.metadata, refusal(view, interval, viewer)
    waits = condition.reason == "Conflict"
    edit = viewer.command("edit", "booking", meta.name, namespace=meta.namespace)
    remedies = [Remedy(edit, Permission("patch", BOOKING, meta.namespace))]
    if refused is not None and refused.instead:
        remedies = [Remedy(refused.instead, Permission("create", BOOKING, meta.namespace))]
    return Explanation(
        f"booking {meta.name}",
        "waits until its time is free, nothing runs for it" if waits else "invalid, so it books nothing",
        as_booked=False,
        because=(_quoted(condition, viewer),),
        next="it is accepted by itself when the time is free" if waits else "",
        do=tuple(remedies),
    )


def _unfinished_booking(
    booking: Booking, interval: BookingInterval, view: ResourceView, viewer: Viewer, subject: str
) -> Explanation:
    of_resource = explain_resource(view, viewer)
    interval = booking.counted(view.rules) or interval
    own = [_false(type_)(booking.status.conditions) for type_ in ("Valid", "Accepted")]
    but = [_quoted(condition, viewer) for condition in own if condition is not None]
    active = interval in view.active
    state = _begun(interval, viewer)
    if active:
        running = view.resource.status.running
        runs = "nothing runs" if not running else f"{_run(view)} run"
        state = f"{state}, {runs} for it"
    return Explanation(
        subject,
        state,
        as_booked=of_resource.as_booked or not active,
        because=of_resource.because
        if active
        else (f"it books {view.name} {viewer.times(interval, viewer.today)}",),
        but=(*but, *of_resource.but),
        next="; ".join(_next_of_booking(interval, view, viewer)),
        do=of_resource.do if of_resource.but else (),
    )


def _next_of_booking(interval: BookingInterval, view: ResourceView, viewer: Viewer) -> Iterator[str]:
    power_on = interval.power_on_at(view.resource.warm_up)
    if power_on > viewer.now:
        yield f"{format_relative(power_on, viewer.now, viewer.zone)} instances start"
    if interval.start_at > viewer.now and interval.start_at != power_on:
        yield f"{format_clock_or_day(interval.start_at, viewer.now, viewer.zone)} begins"
    ends = format_clock_or_day(interval.end_at, viewer.now, viewer.zone)
    then = view.timeline.state_at(interval.end_at, view.resource.warm_up)
    if then.holder is None:
        yield f"{ends} ends, and the instances stop"
    else:
        other = f"{named(then.holder)} ({viewer.address(then.holder.user_id)})"
        yield f"{ends} ends, and the instances run on for {other}"
