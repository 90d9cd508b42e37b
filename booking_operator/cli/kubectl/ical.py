"""The command `ical`: bookings as calendar files."""

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from pathlib import Path

from booking_operator.api.kinds import BOOKING
from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import Options
from booking_operator.cli.kubectl.session import Session, open_session
from booking_operator.cli.kubectl.show import resource_name
from booking_operator.client.calendar import CalendarEntry, calendar
from booking_operator.client.errors import CommandError, ExitCode


async def ical(
    options: Options, console: Console, *, resource: str, mine: bool, directory: Path | None
) -> int:
    """Print a calendar, or write one file for each Resource into a directory."""
    name = resource_name(resource)
    async with open_session(options, console) as session:
        entries = await _entries(session, name, mine=mine)
        if name and not entries:
            await session.resources(name)  # an unknown name is reported with the closest names
        now = session.clock.now()
        if directory is None:
            place = session.namespace or "all namespaces"
            title = f"{name} in {place}" if name else f"Bookings in {place}"
            console.raw(calendar(title, entries, now).decode())
            return ExitCode.DONE
        for path in _write(entries, now, directory):
            console.out(str(path))
    return ExitCode.DONE


def _write(entries: Iterable[CalendarEntry], now: datetime, directory: Path) -> list[Path]:
    """Write one calendar for each Resource, and return the paths."""
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for (namespace, booked), group in groupby(entries, key=_calendar_of):
            # A namespace has no underscore, so two calendars never have the same file.
            path = directory / f"{namespace}_{_file_name(booked)}.ics"
            path.write_bytes(calendar(f"{booked} in {namespace}", group, now))
            paths.append(path)
    except OSError as error:
        text = f"cannot write to {directory}: {error.strerror}"
        raise CommandError(text, hint="name another directory with --output-dir") from error
    return paths


async def _entries(session: Session, resource: str, *, mine: bool) -> list[CalendarEntry]:
    """Return the Bookings that the arguments select, by namespace and Resource."""
    user = await session.user() if mine else ""
    found = [CalendarEntry.of(raw) for raw in await session.cluster.list_raw(BOOKING, session.namespace)]
    selected = [
        entry
        for entry in found
        if (interval := entry.booking.interval()) is not None
        and (not resource or entry.booking.resource_name == resource)
        and (not user or interval.user_id == user)
    ]
    return sorted(selected, key=_calendar_of)


def _calendar_of(entry: CalendarEntry) -> tuple[str, str]:
    return entry.booking.metadata.namespace, entry.booking.resource_name


def _file_name(text: str) -> str:
    """Return a text without the characters that a file name must not have."""
    return re.sub(r"[^\w.-]", "_", text) or "_"
