"""Notifications: their times, ids and texts. Values of fields stay in their lines."""

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.api.meta import API_VERSION
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.formatting import single_line
from booking_operator.domain.notification import (
    ENDED_FOR,
    NOT_READY_AFTER,
    BookingFacts,
    Notification,
    NotificationTrigger,
    due_within,
    notification_id,
    notify_at,
)

END = datetime.fromisoformat("2026-01-31T21:00:00+01:00")
BEFORE = timedelta(minutes=20)


def notification(resource: str = "analytics", user: str = "ada") -> Notification:
    return Notification("id", "team", "night", resource, user, END)


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
    def id_of(uid: str, minutes: float, channel: str, recipient: str) -> str:
        interval = booking(60)
        facts = BookingFacts(replace(interval, end_at=END + timedelta(minutes=minutes)), None)
        return notification_id(uid, facts, channel, recipient, NotificationTrigger.ENDING)

    one = id_of("uid", 0, "email", "ada@example.com")
    assert one == id_of("uid", 0, "email", "ada@example.com")
    # It is the id of versions that had no other notification.
    parts = json.dumps(["uid", END.timestamp(), "email", "ada@example.com"])
    assert one == hashlib.sha256(parts.encode()).hexdigest()[:32]
    others = [id_of("uid", 20, "email", "ada@example.com"), id_of("u", 0, "", "")]
    assert len({one, *others}) == 3


def test_each_trigger_has_an_id_that_depends_on_what_it_is_about() -> None:
    def ids(facts: BookingFacts) -> dict[NotificationTrigger, str]:
        return {it: notification_id("uid", facts, "email", "ada", it) for it in NotificationTrigger}

    interval = booking(60)
    first = ids(BookingFacts(interval, interval))
    assert len(set(first.values())) == len(NotificationTrigger)
    longer = replace(interval, end_at=END + BEFORE)
    changed = {it for it, id_ in ids(BookingFacts(longer, longer)).items() if id_ != first[it]}
    assert changed == {NotificationTrigger.ENDING, NotificationTrigger.ENDED, NotificationTrigger.CONFLICT}


HOUR = booking(60)
START = HOUR.start_at


@pytest.mark.parametrize(
    ("trigger", "facts", "window"),
    [
        (NotificationTrigger.ENDING, BookingFacts(HOUR, HOUR), (END - BEFORE, END)),
        (NotificationTrigger.ENDING, BookingFacts(HOUR, None), None),
        (NotificationTrigger.ENDED, BookingFacts(HOUR, HOUR), (END, END + ENDED_FOR)),
        (NotificationTrigger.ENDED, BookingFacts(HOUR, None), None),
        (NotificationTrigger.READY, BookingFacts(HOUR, HOUR), None),
        (NotificationTrigger.READY, BookingFacts(HOUR, HOUR, False, START), None),
        (NotificationTrigger.READY, BookingFacts(HOUR, HOUR, True, START), (None, END)),
        (NotificationTrigger.NOT_READY, BookingFacts(HOUR, HOUR), None),
        (NotificationTrigger.NOT_READY, BookingFacts(HOUR, HOUR, True, START), None),
        (
            NotificationTrigger.NOT_READY,
            BookingFacts(HOUR, HOUR, False, START - BEFORE),  # the warm-up does not count
            (START + NOT_READY_AFTER, END),
        ),
        (
            NotificationTrigger.NOT_READY,
            BookingFacts(HOUR, HOUR, False, START + BEFORE),
            (START + BEFORE + NOT_READY_AFTER, END),
        ),
        (NotificationTrigger.CONFLICT, BookingFacts(HOUR, HOUR), None),
        (NotificationTrigger.CONFLICT, BookingFacts(HOUR, None, conflict=True), (None, END)),
    ],
)
def test_when_each_notification_is_due(
    trigger: NotificationTrigger, facts: BookingFacts, window: tuple[datetime | None, datetime] | None
) -> None:
    found = due_within(trigger, facts, BEFORE)
    if window is None:
        assert found is None
        return
    assert found is not None
    assert found[1] == window[1]
    assert found[0] == window[0] or (window[0] is None and found[0] < START)


@pytest.mark.parametrize(
    ("trigger", "subject", "command"),
    [
        (
            NotificationTrigger.READY,
            "is ready: all instances run, until 2026-01-31 21:00:00 +01:00",
            "release night",
        ),
        (NotificationTrigger.NOT_READY, "is not ready", "why night"),
        (
            NotificationTrigger.ENDED,
            "ended at 2026-01-31 21:00:00 +01:00",
            "book analytics --duration 1h",
        ),
        (
            NotificationTrigger.CONFLICT,
            "does not have all of its time, because another booking has it",
            "why night",
        ),
    ],
)
def test_each_text_has_the_reason_and_a_command(
    trigger: NotificationTrigger, subject: str, command: str
) -> None:
    found = replace(notification(), trigger=trigger, reason="0 of 2 instances are running.")
    assert found.subject == f"Booking night of analytics {subject}"
    lines = found.text.splitlines()
    assert lines[0] == f"The booking night of analytics for ada, in the namespace team, {subject}."
    assert lines[1] == "0 of 2 instances are running."
    assert lines[-1] == f"kubectl booking {command} --namespace team"


@given(st.text(max_size=600), st.text(max_size=600))
def test_values_of_fields_cannot_add_lines(resource: str, user: str) -> None:
    found = notification(resource=resource, user=user)
    assert "\n" not in found.subject
    assert "\r" not in found.subject
    assert len(found.text.splitlines()) == 16
    spec = json.loads(found.text.splitlines()[-2])["spec"]
    assert (spec["resource_name"], spec["user_id"]) == (resource, user)
    assert single_line(resource).isprintable()
