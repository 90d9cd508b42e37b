"""The commands that change something: `book`, `extend`, `release` and `skip`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, Kind
from booking_operator.api.meta import InvalidSpec
from booking_operator.api.scheduler import BookingScheduler
from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import BookRequest, Options, parsed
from booking_operator.cli.kubectl.output import full_name, print_object
from booking_operator.cli.kubectl.session import Session, open_session
from booking_operator.cli.kubectl.wait import wait_until_running
from booking_operator.client import bookings, changes
from booking_operator.client.bookings import BookingTarget
from booking_operator.client.changes import BookingChange
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.live import together
from booking_operator.client.object_names import NamedObject, parse_object_name
from booking_operator.client.view import Viewer
from booking_operator.domain import time_grammar
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.local_time import format_day, format_relative
from booking_operator.engine.store import Key

_SECOND = timedelta(seconds=1)


async def book(options: Options, console: Console, *, request: BookRequest) -> int:
    """Create a Booking, and describe it."""
    when = {"when": list(request.notify_on)} if request.notify_on else {}
    recipients = [_recipient(item) | when for item in request.notify]
    resource = parse_object_name(request.resource, RESOURCE).name
    waiting = request.wait and not request.dry_run
    async with open_session(options, console) as session:
        viewer, (_, view) = await together(session.viewer(), session.view_of(resource))
        begin, end = bookings.whole_second(request.begin), bookings.whole_second(request.end)
        if waiting and (begin - viewer.now).total_seconds() > request.limit:
            text = "the booking begins after the end of --timeout"
            raise CommandError(text, hint="use a longer --timeout, or leave out --wait", code=ExitCode.USAGE)
        wanted = BookingInterval("", request.who or viewer.user, begin, end, viewer.now)
        interval, made = await changes.make_booking(
            session.cluster,
            view,
            wanted,
            viewer,
            recipients,
            dry_run=request.dry_run,
            queue=request.queue,
        )
        if options.output == "table":
            console.out(f"{full_name(BOOKING, interval.name)} created{_suffix(request.dry_run)}")
            for line in bookings.preview(view, interval, viewer):
                console.note(f"  {line}")
        else:
            print_object(console, options.output, BOOKING, made)
        if waiting:
            return await wait_until_running(session, view.name, request.limit)
    return ExitCode.DONE


def _suffix(dry_run: bool) -> str:
    return " (server dry run)" if dry_run else ""


def _recipient(text: str) -> dict[str, Any]:
    """Return a recipient of notifications: a mail address, or `TYPE:RECIPIENT`."""
    type_, separator, recipient = text.partition(":")
    if separator and "@" not in type_:
        return {"type": type_, "recipient": recipient}
    if "@" not in text:
        text = f'--notify "{text}" is neither a mail address nor TYPE:RECIPIENT'
        raise CommandError(text, hint="write ada@example.com or slack:team-a", code=ExitCode.USAGE)
    return {"type": "email", "recipient": text}


def _report(
    console: Console, options: Options, kind: Kind[Any], object_: Mapping[str, Any], text: str
) -> None:
    """Print what a command has done: as text, or the object for programs."""
    if options.output == "table":
        console.out(text)
    else:
        print_object(console, options.output, kind, object_)


def _report_change(console: Console, options: Options, change: BookingChange, *, dry_run: bool) -> None:
    _report(console, options, BOOKING, change.object, f"{change.text}{_suffix(dry_run)}")
    if change.warning:
        console.note(f"warning: {change.warning}")


# Extend and release


async def find_booking(session: Session, target: NamedObject, who: str, verb: str) -> BookingTarget:
    """Return the booking that a target names: a Booking, or a Resource that the user has booked.

    Raises:
        CommandError: there is none, the target names both a Booking and a Resource, or the booking has ended.
    """
    viewer, view = await together(session.viewer(), session.view())
    resource, booking = session.resolve(view, target)
    if resource is not None:
        of_it = [item for item in view.bookings() if item.resource_name == resource.name]
        booking = bookings.own_booking(resource, of_it, who or viewer.user, viewer, verb)
    if booking is None:
        raise await session.unknown(BOOKING, target.name)
    found = view.resource(Key(session.namespace, booking.resource_name))
    return changes.target_of(booking, found, viewer)


async def extend(
    options: Options, console: Console, *, target: str, duration: str, until: str, who: str, dry_run: bool
) -> int:
    """Set a later end of a Booking."""
    named = parse_object_name(target, RESOURCE, BOOKING)
    async with open_session(options, console) as session:
        found, viewer = await find_booking(session, named, who, "extend"), await session.viewer()
        end = _new_end(found, duration, until, viewer)
        change = await changes.extend_booking(session.cluster, found, end, viewer, dry_run=dry_run)
        _report_change(console, options, change, dry_run=dry_run)
    return ExitCode.DONE


def _new_end(found: BookingTarget, duration: str, until: str, viewer: Viewer) -> datetime:
    present = found.interval.end_at
    end: datetime
    if duration:
        end = parsed("DURATION", lambda: time_grammar.parse_span(duration).after(present, viewer.zone))
    else:
        end = parsed(
            "--until", lambda: time_grammar.parse_when(until, viewer.now, viewer.zone, after=present)
        )
    return end


async def release(options: Options, console: Console, *, target: str, who: str, dry_run: bool) -> int:
    """End a Booking now; delete it if it has not begun."""
    named = parse_object_name(target, RESOURCE, BOOKING)
    async with open_session(options, console) as session:
        found, viewer = await find_booking(session, named, who, "release"), await session.viewer()
        change = await changes.release_booking(session.cluster, found, viewer, dry_run=dry_run)
        _report_change(console, options, change, dry_run=dry_run)
    return ExitCode.DONE


# Skip


async def skip(options: Options, console: Console, *, scheduler: str, day: str, dry_run: bool) -> int:
    """Add a day to the `except_dates` of a BookingScheduler."""
    name = parse_object_name(scheduler, BOOKING_SCHEDULER).name
    async with open_session(options, console) as session:
        raw = await session.cluster.get_raw(BOOKING_SCHEDULER, session.namespace, name)
        if raw is None:
            raise await session.unknown(BOOKING_SCHEDULER, name)
        found: BookingScheduler = BOOKING_SCHEDULER.adapter.validate_python(raw)
        spec, viewer = found.spec, session.viewer_named("")
        if isinstance(spec, InvalidSpec):
            raise CommandError(f"scheduler {name} is invalid: {spec.message}", code=ExitCode.IMPOSSIBLE)
        now, zone = viewer.now, spec.zone
        date = parsed("DAY", lambda: time_grammar.parse_day(day, now, zone))
        midnight = datetime(date.year, date.month, date.day, tzinfo=zone)
        shown = format_day(midnight, year=date.year != now.astimezone(zone).year)
        if date < now.astimezone(zone).date():
            raise CommandError(f"{shown} is over in {zone.key}", hint="name a later day", code=ExitCode.USAGE)
        if date.isoformat() in spec.except_dates:
            _report(console, options, BOOKING_SCHEDULER, raw, f"{name} already skips {shown}")
            return ExitCode.DONE
        start = next(spec.recurrence(found.metadata.creation_timestamp).after(midnight - _SECOND), None)
        if start is None or start.astimezone(zone).date() != date:
            text = f"{name} makes no booking on {shown} in {zone.key}"
            hint = ""
            if start is not None:
                hint = f"the next one after that day begins {format_relative(start, now, zone)}"
            raise CommandError(text, hint=hint, code=ExitCode.IMPOSSIBLE)
        patched = await session.cluster.patch(
            BOOKING_SCHEDULER, session.namespace, name, _addition(raw, date.isoformat()), dry_run=dry_run
        )
        text = f"{name} skips {shown}: no booking begins on that day in {zone.key}{_suffix(dry_run)}"
        _report(console, options, BOOKING_SCHEDULER, patched, text)
        if start <= now:
            begun = f"{name}-{start:%Y%m%d%H%M}"
            command = viewer.command("booking", "release", begun, namespace=session.namespace)
            console.note(f"hint: the booking of that day has begun; to end it: {command}")
    return ExitCode.DONE


def _addition(raw: Mapping[str, Any], date: str) -> list[dict[str, Any]]:
    """Return the JSON Patch that adds a date, unless somebody else has changed the dates meanwhile."""
    path, dates = "/spec/except_dates", raw["spec"].get("except_dates")
    return [
        {"op": "test", "path": path, "value": dates},
        {"op": "add", "path": path, "value": [*(dates or []), date]},
    ]
