"""The commands that change something: `book`, `extend`, `release` and `skip`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import yaml

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, Kind
from booking_operator.api.meta import InvalidSpec
from booking_operator.api.scheduler import BookingScheduler, BookingSchedulerSpec
from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import BookRequest, Options, parsed
from booking_operator.cli.kubectl.session import Session, open_session, together
from booking_operator.cli.kubectl.wait import wait_until_running
from booking_operator.client import bookings
from booking_operator.client.bookings import BookingTarget
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.view import Viewer
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.local_time import format_day, format_interval, format_relative
from booking_operator.domain.time_grammar import parse_day, parse_span, parse_when
from booking_operator.engine.store import Key

_SECOND = timedelta(seconds=1)
_TYPES: dict[str, Kind[Any]] = {
    name: kind for kind in (RESOURCE, BOOKING) for name in (kind.plural, kind.name.lower(), kind.short_name)
}


async def book(options: Options, console: Console, *, request: BookRequest) -> int:
    """Create a Booking, and describe it."""
    recipients = [_recipient(item) for item in request.notify]
    waiting = request.wait and not request.dry_run
    async with open_session(options, console) as session:
        user, (_, view) = await together(_named(session, request.who), session.view_of(request.resource))
        viewer = session.viewer(await session.user() if not request.who else user)
        begin, end = bookings.whole_second(request.begin), bookings.whole_second(request.end)
        if waiting and (begin - viewer.now).total_seconds() > request.limit:
            text = "the booking begins after the end of --timeout"
            raise CommandError(text, hint="use a longer --timeout, or leave out --wait", code=ExitCode.USAGE)
        wanted = BookingInterval("", user, begin, end, viewer.now)
        interval, made = await _create(session, request, wanted, recipients)
        if options.output == "table":
            suffix = " (server dry run)" if request.dry_run else ""
            console.out(f"booking.manager.kotaico.de/{interval.name} created{suffix}")
            for line in bookings.preview(view, interval, viewer):
                console.note(f"  {line}")
        else:
            print_object(console, options.output, BOOKING, made)
        if waiting:
            return await wait_until_running(session, request.resource, request.limit)
    return ExitCode.DONE


async def _create(
    session: Session, request: BookRequest, wanted: BookingInterval, recipients: Sequence[dict[str, str]]
) -> tuple[BookingInterval, dict[str, Any]]:
    """Create the Booking for an interval, under the first name that no other user has taken."""
    viewer = session.viewer(wanted.user_id)
    for name in bookings.booking_names(request.resource, wanted.start_at, wanted.user_id):
        interval = replace(wanted, name=name)
        body = bookings.booking_body(request.resource, interval, viewer, recipients)
        made = await session.cluster.create(BOOKING, session.namespace, body, dry_run=request.dry_run)
        if made is not None:
            booking: Booking = BOOKING.adapter.validate_python(made)
            return booking.interval() or interval, made
        await _refuse_repetition(session, name, interval, viewer)
    text = "other users have both names for this booking"
    raise CommandError(text, hint="let it begin a minute later")


async def _named(session: Session, who: str) -> str:
    return who or await session.user()


async def _refuse_repetition(session: Session, name: str, interval: BookingInterval, viewer: Viewer) -> None:
    """Raise an error if the existing Booking is of the same user; otherwise another name will do."""
    existing = await session.cluster.get(BOOKING, session.namespace, name)
    known = existing.interval() if existing is not None else None
    if known is None or known.user_id != interval.user_id:
        return
    times = format_interval(known.start_at, known.end_at, viewer.zone)
    hint = f"kubectl booking why {name}"
    if known.end_at != interval.end_at:
        hint = f"kubectl booking extend {name} --until …" if known.end_at < interval.end_at else hint
        hint = hint.replace("…", f'"{interval.end_at.astimezone(viewer.zone):%Y-%m-%d %H:%M}"')
    raise CommandError(f"already booked: {name} {times} for {known.user_id}", hint=hint)


def _recipient(text: str) -> dict[str, str]:
    """Return a recipient of notifications: a mail address, or `TYPE:RECIPIENT`."""
    type_, separator, recipient = text.partition(":")
    if separator and "@" not in type_:
        return {"type": type_, "recipient": recipient}
    if "@" not in text:
        text = f'--notify "{text}" is neither a mail address nor TYPE:RECIPIENT'
        raise CommandError(text, hint="write ada@example.com or slack:team-a", code=ExitCode.USAGE)
    return {"type": "email", "recipient": text}


def print_object(console: Console, output: str, kind: Kind[Any], object_: Mapping[str, Any]) -> None:
    """Print an object for programs: as json, as yaml, or only its name."""
    if output == "name":
        console.out(f"{kind.name.lower()}.manager.kotaico.de/{object_['metadata']['name']}")
    elif output == "yaml":
        console.raw(yaml.safe_dump(dict(object_), sort_keys=False, allow_unicode=True))
    else:
        console.raw(json.dumps(object_, indent=4, ensure_ascii=False))


# Extend and release


async def find_target(session: Session, target: str, who: str, verb: str) -> tuple[BookingTarget, Viewer]:
    """Return the booking that `target` names: a Booking, or a Resource that the user has booked."""
    type_, _, name = target.rpartition("/")
    kind = _TYPES.get(type_.lower()) if type_ else None
    if type_ and kind is None:
        text = f'"{type_}" is not a type that can be {verb}d'.replace("extendd", "extended")
        raise CommandError(text, hint=f"write resource/{name} or booking/{name}", code=ExitCode.USAGE)
    booking = await session.cluster.get(BOOKING, session.namespace, name) if kind is not RESOURCE else None
    if booking is None and kind is BOOKING:
        raise await session.unknown(BOOKING, name)
    user = who or await session.user()
    resource = booking.resource_name if booking is not None else name
    if booking is None:
        view, shown = await session.view_of(resource)
        booking = bookings.own_booking(shown, view.bookings(), session.viewer(user), verb)
    else:
        view = await session.view()
    found = view.resource(Key(session.namespace, resource))
    return _target(booking, found, session.viewer(user)), session.viewer(user)


def _target(booking: Booking, view: Any, viewer: Viewer) -> BookingTarget:
    interval, name = booking.interval(), booking.metadata.name
    if interval is None:
        text = f"booking {name} is invalid"
        raise CommandError(text, hint=f"kubectl booking why {name}", code=ExitCode.IMPOSSIBLE)
    if interval.end_at <= viewer.now:
        ended = format_relative(interval.end_at, viewer.now, viewer.zone)
        hint = f"kubectl booking book {booking.resource_name} --duration 1h"
        raise CommandError(f"booking {name} ended {ended}", hint=hint, code=ExitCode.IMPOSSIBLE)
    return BookingTarget(booking, interval, view)


async def extend(
    options: Options, console: Console, *, target: str, duration: str, until: str, who: str, dry_run: bool
) -> int:
    """Set a later end of a Booking."""
    async with open_session(options, console) as session:
        found, viewer = await find_target(session, target, who, "extend")
        end = bookings.whole_second(_new_end(found, duration, until, viewer))
        if end <= found.interval.end_at:
            ends = format_relative(found.interval.end_at, viewer.now, viewer.zone)
            text = f"the new end is not after the present end of {found.name}, which is {ends}"
            raise CommandError(
                text, hint=f"kubectl booking release {found.name} ends it now", code=ExitCode.USAGE
            )
        await _set_end(session, found, end, viewer, dry_run=dry_run)
        suffix = " (server dry run)" if dry_run else ""
        console.out(f"{bookings.describe_extension(found, end, viewer)}{suffix}")
        await _warn_about_gitops(session, found, end, viewer)
    return ExitCode.DONE


def _new_end(found: BookingTarget, duration: str, until: str, viewer: Viewer) -> datetime:
    present = found.interval.end_at
    end: datetime
    if duration:
        end = parsed("DURATION", lambda: parse_span(duration).after(present, viewer.zone))
    else:
        end = parsed("--until", lambda: parse_when(until, viewer.now, viewer.zone, after=present))
    return end


async def _set_end(
    session: Session, found: BookingTarget, end: datetime, viewer: Viewer, *, dry_run: bool
) -> None:
    """Set the end of a Booking, unless somebody else has changed it meanwhile."""
    spec: Any = found.booking.spec
    operations = [
        {"op": "test", "path": "/spec/end_at", "value": spec.end_at},
        {"op": "replace", "path": "/spec/end_at", "value": bookings.local_rfc3339(end, viewer)},
    ]
    meta = found.booking.metadata
    await session.cluster.patch(BOOKING, meta.namespace, meta.name, operations, dry_run=dry_run)


_GITOPS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}


async def _warn_about_gitops(session: Session, found: BookingTarget, end: datetime, viewer: Viewer) -> None:
    """Offer a second Booking if a GitOps tool applies this one, because it may revert the change."""
    meta = found.booking.metadata
    raw = await session.cluster.get_raw(BOOKING, meta.namespace, meta.name)
    metadata = (raw or {}).get("metadata", {})
    marks = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
    tool = next((name for mark, name in _GITOPS.items() if mark in marks), "")
    if tool:
        zone = viewer.zone
        begin, finish = (f'"{at.astimezone(zone):%Y-%m-%d %H:%M}"' for at in (found.interval.end_at, end))
        session.console.note(
            f"warning: {tool} applies this booking and may revert the change; a second booking stays: "
            f"kubectl booking book {found.booking.resource_name} --from {begin} --to {finish}"
        )


async def release(options: Options, console: Console, *, target: str, who: str, dry_run: bool) -> int:
    """End a Booking now; delete it if it has not begun."""
    async with open_session(options, console) as session:
        found, viewer = await find_target(session, target, who, "release")
        suffix = " (server dry run)" if dry_run else ""
        if found.interval.start_at > viewer.now:
            await session.cluster.delete(BOOKING, found.booking, dry_run=dry_run)
            console.out(f"{bookings.describe_deletion(found, viewer)}{suffix}")
            await _hint_at_skip(session, found)
            return ExitCode.DONE
        # The end is a whole second that is after the start.
        end = max(bookings.whole_second(viewer.now), bookings.whole_second(found.interval.start_at) + _SECOND)
        await _set_end(session, found, end, viewer, dry_run=dry_run)
        console.out(f"{bookings.describe_release(found, end, viewer)}{suffix}")
    return ExitCode.DONE


async def _hint_at_skip(session: Session, found: BookingTarget) -> None:
    """Name `skip` if a scheduler made the deleted booking."""
    owner = found.booking.metadata.controller_uid
    if not owner:
        return
    schedulers: list[BookingScheduler] = await session.cluster.list_objects(
        BOOKING_SCHEDULER, session.namespace
    )
    for scheduler in schedulers:
        if scheduler.metadata.uid == owner and isinstance(scheduler.spec, BookingSchedulerSpec):
            day = found.interval.start_at.astimezone(scheduler.spec.zone).date()
            session.console.note(
                f"hint: the scheduler {scheduler.metadata.name} made it; to leave out a day for good: "
                f"kubectl booking skip {scheduler.metadata.name} {day}"
            )


# Skip


async def skip(options: Options, console: Console, *, scheduler: str, day: str, dry_run: bool) -> int:
    """Add a day to the `except_dates` of a BookingScheduler."""
    async with open_session(options, console) as session:
        raw = await session.cluster.get_raw(BOOKING_SCHEDULER, session.namespace, scheduler)
        if raw is None:
            raise await session.unknown(BOOKING_SCHEDULER, scheduler)
        found: BookingScheduler = BOOKING_SCHEDULER.adapter.validate_python(raw)
        spec = found.spec
        if isinstance(spec, InvalidSpec):
            raise CommandError(f"scheduler {scheduler} is invalid: {spec.message}", code=ExitCode.IMPOSSIBLE)
        now, zone = session.clock.now(), spec.zone
        date = parse_day(day, now, zone)
        midnight = datetime(date.year, date.month, date.day, tzinfo=zone)
        shown = format_day(midnight, year=date.year != now.astimezone(zone).year)
        if date.isoformat() in spec.except_dates:
            console.out(f"{scheduler} already skips {shown}")
            return ExitCode.DONE
        coming = spec.recurrence(found.metadata.creation_timestamp).after(midnight - _SECOND)
        start = next(coming, None)
        if start is None or start.astimezone(zone).date() != date:
            text = f"{scheduler} makes no booking on {shown} in {zone.key}"
            hint = ""
            if start is not None:
                hint = f"the next one after that day begins {format_relative(start, now, zone)}"
            raise CommandError(text, hint=hint, code=ExitCode.IMPOSSIBLE)
        await session.cluster.patch(
            BOOKING_SCHEDULER, session.namespace, scheduler, _addition(raw, date.isoformat()), dry_run=dry_run
        )
        suffix = " (server dry run)" if dry_run else ""
        console.out(f"{scheduler} skips {shown}: no booking begins on that day in {zone.key}{suffix}")
        if start <= now:
            console.note(
                "hint: the booking of that day has begun; end it with kubectl booking release "
                f"{scheduler}-{start:%Y%m%d%H%M}"
            )
    return ExitCode.DONE


def _addition(raw: Mapping[str, Any], date: str) -> list[dict[str, Any]]:
    """Return the JSON Patch that adds a date, unless somebody else has changed the dates meanwhile."""
    path, dates = "/spec/except_dates", raw["spec"].get("except_dates")
    return [
        {"op": "test", "path": path, "value": dates},
        {"op": "add", "path": path, "value": [*(dates or []), date]},
    ]
