"""Resources that require others, as the commands and the board show them."""

from dataclasses import replace
from typing import Any

import pytest

from booking_operator.client.bookings import preview, refusal
from booking_operator.client.progress import progress_of
from booking_operator.client.why import explain_booking
from booking_operator.domain.booking import BookingInterval
from booking_operator.engine.store import Key
from tests.client.test_why import lines, why_resource
from tests.support.people import NAMESPACE, at, booking_body, condition, resource_body, view_of, viewer

WAITS = (
    "The start of i-1 waits for db, of which 0 of 1 instances are ready. "
    "It is sent at 2026-11-24T13:10:00Z at the latest."
)
WEB = resource_body(
    "web",
    "STOPPED",
    0,
    1,
    [condition("Ready", "False", "WaitingForRequired", WAITS, "13:00:00")],
    spec={"requires": ["db"], "warm_up": "2m"},
)
DB = resource_body("db", "PENDING", 0, 1, [condition("Ready", "False", "Starting", "0 of 1 …")])
BOOKING = booking_body("talk", "web", "ada", "13:00", "17:00")


def test_a_start_that_waits_says_for_what_and_how_to_look_at_it() -> None:
    assert why_resource("web", WEB, DB, BOOKING) == [
        "web: STOPPED 0 of 1, starting",
        "because your talk 13:00–17:00 holds the lock",
        f'but Ready=False/WaitingForRequired since 13:00:00: "{WAITS}"',
        "next 17:00 stops",
        "do kubectl booking why db",
        "do nothing: this passes by itself",
    ]


def test_a_required_resource_with_a_problem_is_an_obstacle() -> None:
    text = "The start of i-1 waits for db, which does not exist. It is sent at 2026-11-24T13:10:00Z."
    web = resource_body(
        "web",
        "STOPPED",
        0,
        1,
        [condition("Ready", "False", "RequiredUnavailable", text, "13:00:00")],
        spec={"requires": ["db"]},
    )
    found = why_resource("web", web, DB, BOOKING)
    assert found[0] == "web: STOPPED 0 of 1, NOT as booked"
    assert found[-2:] == ["do kubectl booking why db", "do solve the problem of the required Resource first"]
    found = why_resource("web", web, BOOKING)
    assert found[-2:] == [
        "do create the Resource db, or remove it from spec.requires of web",
        "do solve the problem of the required Resource first",
    ]


def test_a_required_resource_names_the_booking_and_the_booked_resource() -> None:
    found = why_resource("db", WEB, DB, BOOKING)
    assert found[1] == "because your talk of web 12:58–17:00 holds the lock"
    view = view_of(WEB, DB, BOOKING).resource(Key(NAMESPACE, "db"))
    assert view is not None
    assert view.next_change == (at("17:00"), False)


def test_a_booking_explains_what_it_waits_for() -> None:
    view = view_of(WEB, DB, BOOKING)
    booking, web = view.booking(Key(NAMESPACE, "talk")), view.resource(Key(NAMESPACE, "web"))
    assert booking is not None
    found = lines(explain_booking(booking, web, viewer("ada")))
    assert f'but Ready=False/WaitingForRequired since 13:00:00: "{WAITS}"' in found


def test_a_preview_says_that_other_resources_are_booked_too() -> None:
    web = view_of(WEB, DB, BOOKING).resource(Key(NAMESPACE, "web"))
    assert web is not None
    interval = next(iter(web.timeline))
    assert "note: web requires db, so this books it too" in preview(web, interval, viewer("ada"))


def test_a_preview_says_what_is_wrong_with_the_required_resources() -> None:
    def notes(*required: dict[str, Any]) -> list[str]:
        web = view_of(WEB, *required, BOOKING).resource(Key(NAMESPACE, "web"))
        assert web is not None
        return [line for line in preview(web, next(iter(web.timeline)), viewer("ada")) if "note: db" in line]

    assert notes(DB) == []
    assert notes() == ["note: db, which web requires, does not exist"]
    suspended = resource_body("db", "STOPPED", 0, 1, spec={"suspend": True})
    assert notes(suspended) == ["note: db is suspended, so nothing starts while spec.suspend is true"]
    found = condition("Found", "False", "NoInstances", "No instance has the tag.")
    assert notes(resource_body("db", "STOPPED", 0, 0, [found])) == [
        "note: db has a problem now: NoInstances; see kubectl booking why db"
    ]


@pytest.mark.parametrize(
    ("limits", "length", "text"),
    [
        ({"max_duration": "1h"}, "18:00", "a booking of db, which web requires, takes at most 1h"),
        ({"max_ahead": "30m"}, "15:30", "db, which web requires, can be booked 30m ahead; "),
    ],
)
def test_a_limit_of_a_required_resource_names_both(limits: dict[str, Any], length: str, text: str) -> None:
    db = resource_body("db", "STOPPED", 0, 1, spec=limits)
    web = view_of(WEB, db).resource(Key(NAMESPACE, "web"))
    assert web is not None
    made = BookingInterval("n", "ada", at("15:00"), at(length), at("14:03"))
    found = refusal(web, made, viewer("ada"))
    assert found is not None
    assert found.text.startswith(text)


def test_the_progress_of_a_start_names_what_it_waits_for() -> None:
    web = view_of(WEB, DB, BOOKING).resource(Key(NAMESPACE, "web"))
    assert web is not None
    assert progress_of(web, viewer("ada"), at("17:00")).text.endswith("; waits for db")
    cyclic = condition("Valid", "False", "RequiresCycle", "spec.requires is a cycle: web requires web; …")
    body = resource_body("web", "STOPPED", 0, 1, [cyclic], spec={"requires": ["web"]})
    web = view_of(body, BOOKING).resource(Key(NAMESPACE, "web"))
    assert web is not None
    assert progress_of(web, viewer("ada"), at("17:00")).impossible.startswith("RequiresCycle: ")


def test_a_conflict_about_a_required_resource_is_shown_before_it_is_made() -> None:
    db = resource_body("db", "STOPPED", 0, 1, spec={"sharing": "Exclusive"})
    app = resource_body("app", "STOPPED", 0, 1, spec={"requires": ["db"]})
    accepted = {"accepted_resource": "web", "accepted_from": BOOKING["spec"]["start_at"]}
    accepted |= {"accepted_until": BOOKING["spec"]["end_at"], "status": "IN PROGRESS"}
    accepted |= {"accepted_exclusive": ["db"]}
    view = view_of(WEB, db, app, BOOKING | {"status": accepted}).resource(Key(NAMESPACE, "app"))
    assert view is not None
    (interval,) = view_of(WEB, BOOKING).resource(Key(NAMESPACE, "web")).timeline  # type: ignore[union-attr]
    refused = preview(view, replace(interval, name="mine"), viewer("grace"))[1]
    assert refused.startswith("conflict: ada has db, which app requires, 13:00–17:00 (talk);")
