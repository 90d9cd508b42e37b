"""What people see of a Resource that accepts its bookings one by one."""

from typing import Any

import pytest
from ical.calendar_stream import IcsCalendarStream

from booking_operator.board.view.timeline import timeline
from booking_operator.board.view.window import TimeWindow, Zoom
from booking_operator.client.bookings import preview, refusal
from booking_operator.client.calendar import CalendarEntry, calendar
from booking_operator.client.view import ResourceView, booking_is_unreported, booking_problem, phase_of
from booking_operator.client.why import explain_booking
from booking_operator.domain.booking import BookingInterval
from booking_operator.engine.store import Key
from tests.client.test_why import lines
from tests.support.people import (
    BERLIN,
    NAMESPACE,
    NOW,
    accepted,
    at,
    booking_body,
    condition,
    resource_body,
    view_of,
    viewer,
)

ANALYTICS = resource_body("analytics", "RUNNING", 2, 2, spec={"sharing": "Exclusive"})
OFFICE = booking_body(
    "office", "analytics", "grace", "09:00", "18:00", **accepted("analytics", "09:00", "18:00")
)
MESSAGE = (
    "grace has analytics from 2026-11-24T08:00:00Z until 2026-11-24T17:00:00Z (office); the next free slot "
    "of 4h begins at 2026-11-24T17:00:00Z."
)
WAITING = booking_body(
    "mine",
    "analytics",
    "ada",
    "15:00",
    "19:00",
    [condition("Accepted", "False", "Conflict", MESSAGE), condition("Valid", "True", "Accepted", "")],
    status="CONFLICT",
)
SUMMARY = "conflict: grace has analytics 09:00–18:00 (office); 4h are next free today 18:00"


def analytics(*bodies: dict[str, Any]) -> ResourceView:
    found = view_of(*bodies).resource(Key(NAMESPACE, "analytics"))
    assert found is not None
    return found


def interval(start: str, end: str, name: str = "", user: str = "ada") -> BookingInterval:
    return BookingInterval(name, user, at(start), at(end), NOW)


def test_a_conflict_is_shown_before_the_booking_is_made() -> None:
    view = analytics(ANALYTICS, OFFICE)
    assert preview(view, interval("15:00", "19:00"), viewer())[1:] == [SUMMARY]
    refused = refusal(view, interval("15:00", "19:00"), viewer())
    assert refused is not None
    assert refused.instead == "kubectl booking book analytics --from 2026-11-24T18:00 --duration 4h"
    assert refused.hint == f"{refused.instead}, or add --queue to wait for your time"
    assert (refused.rival, refused.for_ever) == ("office", False)
    assert refusal(view, interval("18:00", "19:00"), viewer()) is None
    assert preview(view, interval("18:00", "19:00"), viewer())[1:] == []


def test_an_own_booking_stands_against_another_one() -> None:
    refused = refusal(analytics(ANALYTICS, OFFICE), interval("15:00", "19:00"), viewer("grace"))
    assert refused is not None
    assert refused.text.startswith("conflict: you have analytics 09:00–18:00 (office)")


def test_an_extension_counts_without_the_booking_itself() -> None:
    view = analytics(ANALYTICS, OFFICE)
    assert refusal(view, interval("09:00", "20:00", "office", "grace"), viewer("grace")) is None


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"max_duration": "3h"}, "a booking of analytics takes at most 3h"),
        (
            {"max_ahead": "30m"},
            "analytics can be booked 30m ahead; this booking becomes valid today 14:30",
        ),
    ],
)
def test_limits_are_shown_before_the_booking_is_made(spec: dict[str, Any], text: str) -> None:
    view = analytics(resource_body("analytics", spec=spec))
    assert preview(view, interval("15:00", "19:00"), viewer())[1:] == [text]


def test_a_waiting_booking_is_in_conflict_and_takes_no_time() -> None:
    view = analytics(ANALYTICS, OFFICE, WAITING)
    assert [item.name for item in view.waiting] == ["mine"]
    assert [item.name for item in view.active] == ["office"]
    booking = view.requests[1] if view.requests[1].metadata.name == "mine" else view.requests[0]
    assert (phase_of(booking, NOW), booking_problem(booking, NOW)) == ("CONFLICT", "Conflict")
    assert not booking_is_unreported(booking, at("15:30"))
    assert booking_is_unreported(booking, at("19:02"))  # it should have ended


def test_why_names_the_booking_that_stands_against_it() -> None:
    view = view_of(ANALYTICS, OFFICE, WAITING)
    booking = view.booking(Key(NAMESPACE, "mine"))
    assert booking is not None
    found = explain_booking(booking, view.resource(Key(NAMESPACE, "analytics")), viewer())
    assert lines(found) == [
        "booking mine: waits until its time is free, nothing runs for it",
        f'because Accepted=False/Conflict since 13:00:00: "{MESSAGE}"',
        "next it is accepted by itself when the time is free",
        "do kubectl booking book analytics --from 2026-11-24T18:00 --duration 4h",
    ]


def test_why_says_that_an_extension_is_not_accepted() -> None:
    message = f"{MESSAGE} The booking stays accepted until 2026-11-24T16:00:00Z."
    refused = condition("Accepted", "False", "Conflict", message)
    extended = booking_body(
        "mine", "analytics", "ada", "13:00", "19:00", [refused], **accepted("analytics", "13:00", "17:00")
    )
    view = view_of(ANALYTICS, extended)
    booking = view.booking(Key(NAMESPACE, "mine"))
    assert booking is not None
    found = lines(explain_booking(booking, view.resource(Key(NAMESPACE, "analytics")), viewer()))
    assert found[0] == "booking mine: active since 13:00, 2 of 2 run for it"
    assert found[2] == f'but Accepted=False/Conflict since 13:00:00: "{message}"'
    assert found[3] == "next 17:00 ends, and the instances stop"


def test_why_says_that_a_booking_is_too_long() -> None:
    message = "The booking takes 4h; spec.max_duration of the Resource analytics is 3h."
    refused = [condition("Valid", "False", "TooLong", message)]
    long = booking_body("long", "analytics", "ada", "13:00", "17:00", refused, status="")
    view = view_of(resource_body("analytics", spec={"max_duration": "3h"}), long)
    booking = view.booking(Key(NAMESPACE, "long"))
    assert booking is not None
    assert (phase_of(booking, NOW), booking_problem(booking, NOW)) == ("INVALID", "TooLong")
    assert lines(explain_booking(booking, view.resource(Key(NAMESPACE, "analytics")), viewer())) == [
        "booking long: invalid, so it books nothing",
        f'because Valid=False/TooLong since 13:00:00: "{message}"',
        "do kubectl edit booking long",
    ]


def test_the_board_shows_the_conflict_in_a_lane_of_its_own() -> None:
    window = TimeWindow(at("00:00").astimezone(BERLIN).date(), Zoom.DAY, BERLIN)
    found = timeline(view_of(ANALYTICS, OFFICE, WAITING), window, viewer())
    [row] = found.rows
    assert [[bar.name for bar in lane] for lane in row.lanes] == [
        ["office, grace, Tue 24 Nov 09:00 to 18:00, in progress, holds the lock"],
        ["mine, ada, Tue 24 Nov 15:00 to 19:00, conflict"],
    ]
    assert row.lanes[1][0].badge == "conflict"
    assert [span.start for span in row.free] == ["2026-11-24T18:00"]


@pytest.mark.parametrize("busy_only", [False, True])
def test_a_waiting_booking_is_tentative_in_calendars(busy_only: bool) -> None:
    entries = [CalendarEntry.of(body) for body in (OFFICE, WAITING)]
    text = calendar("analytics", entries, NOW, busy_only=busy_only).decode()
    events = IcsCalendarStream.calendar_from_ics(text).events
    found = sorted((event.dtstart, event.status) for event in events)
    wanted = [(at("09:00"), None), (at("15:00"), "TENTATIVE")]
    assert found == wanted[: 1 if busy_only else 2]
