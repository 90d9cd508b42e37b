"""The agenda of the board: the bookings of each day."""

from datetime import date
from typing import Any

from booking_operator.board.view.agenda import Agenda, agenda
from booking_operator.board.view.window import TimeWindow, Zoom
from tests.support.people import BERLIN, booking_body, resource_body, view_of, viewer

WEEK = TimeWindow(date(2026, 11, 23), Zoom.WEEK, BERLIN)
ANALYTICS, WEB = resource_body("analytics", "RUNNING", 2, 2), resource_body("web", "STOPPED", 0, 1)


def shown(*bodies: dict[str, Any], window: TimeWindow = WEEK, words: str = "") -> Agenda:
    return agenda(view_of(*bodies), window, viewer(), words=words)


def entries(found: Agenda) -> dict[str, list[tuple[str, str, str]]]:
    return {
        day.name: [(entry.times, entry.resource, entry.bar.user) for entry in day.entries]
        for day in found.days
        if day.entries
    }


def test_each_day_has_its_bookings_in_the_order_of_time() -> None:
    found = shown(
        WEB,
        ANALYTICS,
        booking_body("b", "web", "bob", "13:00", "17:00"),
        booking_body("a", "analytics", "ada", "13:00", "14:00"),
        booking_body("early", "web", "cyd", "08:00", "09:30"),
    )
    assert found.name == "Agenda, Mon 23 Nov to Sun 29 Nov 2026, Europe/Berlin"
    assert len(found.days) == 7
    assert [day.name for day in found.days if day.today] == ["Tue 24 Nov 2026"]
    assert entries(found) == {
        "Tue 24 Nov 2026": [
            ("08:00–09:30", "web", "cyd"),
            ("13:00–14:00", "analytics", "ada"),
            ("13:00–17:00", "web", "bob"),
        ]
    }


def test_a_long_booking_is_on_each_of_its_days() -> None:
    long = booking_body("long", "analytics", "ada", "24 09:00", "26 18:00")
    assert entries(shown(ANALYTICS, long)) == {
        "Tue 24 Nov 2026": [("from 09:00", "analytics", "ada")],
        "Wed 25 Nov 2026": [("all day", "analytics", "ada")],
        "Thu 26 Nov 2026": [("until 18:00", "analytics", "ada")],
    }


def test_a_booking_until_midnight_is_not_on_the_next_day() -> None:
    late = booking_body("late", "analytics", "ada", "24 22:00", "25 00:00")
    assert entries(shown(ANALYTICS, late)) == {"Tue 24 Nov 2026": [("22:00–00:00", "analytics", "ada")]}


def test_the_filter_is_that_of_the_timeline() -> None:
    bodies = (ANALYTICS, WEB, booking_body("b", "web", "bob", "13:00", "17:00"))
    assert entries(shown(*bodies, words="bob"))
    assert entries(shown(*bodies, words="analytics")) == {}
