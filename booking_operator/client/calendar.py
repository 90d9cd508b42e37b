"""Bookings as an iCalendar file (RFC 5545).

A calendar program recognizes an event by its UID, and a newer version of it by SEQUENCE and LAST-MODIFIED.
All three come from the Booking and never from the present time. Otherwise each import would make new events,
or changes would be ignored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from icalendar import Calendar, Event, vDuration, vUri

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING
from booking_operator.api.meta import GROUP
from booking_operator.client.view import phase_of
from booking_operator.domain.booking import Phase
from booking_operator.domain.formatting import single_line
from booking_operator.domain.parsing import parse_rfc3339

PAST, FUTURE = timedelta(days=30), timedelta(days=400)
"""The time range of a calendar, before and after the present time."""
REFRESH = timedelta(hours=1)
"""How often a program should fetch the calendar again."""


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """A Booking, and when its spec was last changed (aware UTC)."""

    booking: Booking
    changed_at: datetime

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "CalendarEntry":
        """Return the entry of a Booking as parsed JSON."""
        booking: Booking = BOOKING.adapter.validate_python(raw)
        created = booking.metadata.creation_timestamp
        writes = [
            parse_rfc3339(str(field["time"]))
            for field in raw.get("metadata", {}).get("managedFields", ())
            if field.get("subresource") != "status" and "time" in field
        ]
        return cls(booking, max([created, *writes]))

    def overlaps(self, begin: datetime, end: datetime) -> bool:
        """Whether the Booking is valid and within a time range (aware UTC)."""
        interval = self.booking.interval()
        return interval is not None and interval.end_at > begin and interval.start_at < end

    def waits(self, now: datetime) -> bool:
        """Whether the Booking is not accepted, so that another one has its time."""
        return phase_of(self.booking, now) in {Phase.CONFLICT, "INVALID"}


def calendar(
    name: str,
    entries: Iterable[CalendarEntry],
    now: datetime,
    *,
    source: str = "",
    busy_only: bool = False,
) -> bytes:
    """Return the calendar of some Bookings.

    Args:
        name: the name of the calendar.
        entries: the Bookings. Those outside of the time range are left out.
        now: the present instant (aware UTC), from which the time range counts.
        source: the address at which a newer version of the calendar is found; empty if there is none.
        busy_only: whether to leave out who has booked what.
    """
    file = Calendar()
    file.add("prodid", "-//booking-operator//kubectl-booking//EN")
    file.add("version", "2.0")
    file.add("calscale", "GREGORIAN")
    file.add("name", name)
    file.add("x-wr-calname", name)
    file.add("refresh-interval", vDuration(REFRESH), parameters={"value": "DURATION"})
    file.add("x-published-ttl", "PT1H")
    if source:
        file.add("source", vUri(source), parameters={"value": "URI"})
    shown = [
        entry
        for entry in entries
        if entry.overlaps(now - PAST, now + FUTURE) and not (busy_only and entry.waits(now))
    ]
    for entry in sorted(
        shown, key=lambda entry: (entry.booking.metadata.namespace, entry.booking.metadata.name)
    ):
        file.add_component(_event(entry, now, busy_only=busy_only))
    return bytes(file.to_ical())


def _event(entry: CalendarEntry, now: datetime, *, busy_only: bool) -> Event:
    booking, interval = entry.booking, entry.booking.interval()
    if interval is None:
        raise ValueError("an invalid Booking has no event")
    meta, event = booking.metadata, Event()
    event.add("uid", f"{meta.uid}@{GROUP}")
    event.add("sequence", max(meta.generation - 1, 0))
    event.add("dtstamp", entry.changed_at)
    event.add("created", meta.creation_timestamp.astimezone(UTC))
    event.add("last-modified", entry.changed_at)
    event.add("dtstart", interval.start_at)
    event.add("dtend", interval.end_at)
    if busy_only:
        event.add("summary", "Booked")
    else:
        event.add("summary", single_line(f"{booking.resource_name}: {interval.user_id}"))
        event.add("description", f"Booking {meta.namespace}/{meta.name}")
    if entry.waits(now):
        event.add("status", "TENTATIVE")
    event.add("transp", "TRANSPARENT")
    return event
