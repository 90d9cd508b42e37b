"""The notification before the end: its time and its text. Values of fields stay in their lines."""

import json
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.api.meta import API_VERSION
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.formatting import single_line
from booking_operator.domain.notification import Notification, notification_id, notify_at

END = datetime.fromisoformat("2026-01-31T21:00:00+01:00")
BEFORE = timedelta(minutes=20)


def notification(**fields: str) -> Notification:
    facts = {"namespace": "team", "booking": "night", "resource": "analytics", "user": "ada"} | fields
    return Notification(id="id", end_at=END, **facts)


def booking(minutes: int) -> BookingInterval:
    start = END - timedelta(minutes=minutes)
    return BookingInterval("night", "ada", start, END, start)


def test_the_subject_has_the_end_in_the_offset_of_the_user() -> None:
    assert notification().subject == "Booking night of analytics ends at 2026-01-31 21:00:00 +01:00"


def test_the_text_has_the_commands_that_extend_the_booking() -> None:
    lines = notification().text.splitlines()
    assert lines[5] == "kubectl booking extend night 1h --namespace team"
    assert lines[9] == (
        "kubectl patch booking night --namespace team --type merge "
        '--patch \'{"spec": {"end_at": "2026-01-31T22:00:00+01:00"}}\''
    )


def test_the_text_has_the_command_that_creates_a_second_booking() -> None:
    command, object_, end = notification().text.splitlines()[-3:]
    assert (command, end) == ("kubectl create --namespace team --filename - <<'EOF'", "EOF")
    assert json.loads(object_) == {
        "apiVersion": API_VERSION,
        "kind": "Booking",
        "metadata": {"generateName": "night-"},
        "spec": {
            "resource_name": "analytics",
            "user_id": "ada",
            "start_at": "2026-01-31T21:00:00+01:00",
            "end_at": "2026-01-31T22:00:00+01:00",
        },
    }


def test_a_short_booking_is_notified_at_its_start() -> None:
    assert notify_at(booking(60), BEFORE) == END - BEFORE
    assert notify_at(booking(5), BEFORE) == END - timedelta(minutes=5)


def test_an_id_depends_on_booking_end_and_recipient() -> None:
    one = notification_id("uid", END, "email", "ada@example.com")
    assert one == notification_id("uid", END, "email", "ada@example.com")
    assert (
        len(
            {
                one,
                notification_id("uid", END + BEFORE, "email", "ada@example.com"),
                notification_id("u", END, "", ""),
            }
        )
        == 3
    )


@given(st.text(max_size=600), st.text(max_size=600))
def test_values_of_fields_cannot_add_lines(resource: str, user: str) -> None:
    found = notification(resource=resource, user=user)
    assert "\n" not in found.subject
    assert "\r" not in found.subject
    assert len(found.text.splitlines()) == 16
    spec = json.loads(found.text.splitlines()[-2])["spec"]
    assert (spec["resource_name"], spec["user_id"]) == (resource, user)
    assert single_line(resource).isprintable()
