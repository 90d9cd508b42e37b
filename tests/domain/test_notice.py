"""The notification before the end, its time, and that nothing in a field can break out of its line."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

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


def test_it_says_what_ends_and_when_in_the_users_own_offset() -> None:
    assert notification().subject == "Booking night of analytics ends at 2026-01-31 21:00:00 +01:00"


def test_it_shows_the_line_that_extends() -> None:
    line = notification().text.splitlines()[-1]
    assert line == (
        "kubectl patch booking night --namespace team --type merge "
        '--patch \'{"spec": {"end_at": "2026-01-31T22:00:00+01:00"}}\''
    )


def test_the_end_of_a_booking_shorter_than_the_time_before_is_notified_when_it_begins() -> None:
    assert notify_at(booking(60), BEFORE) == END - BEFORE
    assert notify_at(booking(5), BEFORE) == END - timedelta(minutes=5)


def test_an_id_is_of_one_end_of_one_booking_to_one_recipient() -> None:
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
def test_nothing_in_a_field_breaks_out_of_its_line(resource: str, user: str) -> None:
    told = notification(resource=resource, user=user)
    assert "\n" not in told.subject
    assert "\r" not in told.subject
    assert len(told.text.splitlines()) == 6
    assert single_line(resource).isprintable()
