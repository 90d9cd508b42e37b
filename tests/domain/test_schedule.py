"""The bookings that a scheduler creates, updates and deletes."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.recurrence import Recurrence
from booking_operator.domain.schedule import (
    MAX_BOOKINGS_AHEAD,
    MAX_BOOKINGS_BEGUN,
    CreatedBooking,
    ScheduleRule,
    booking_name,
    plan_bookings,
)

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")


def rule(schedule: str = "0 * * * *", **more: Any) -> ScheduleRule:
    facts: dict[str, Any] = {"duration": 20 * MINUTE, "template_hash": "d"} | more
    return ScheduleRule("night", Recurrence(schedule, UTC_ZONE), **facts)


def made(start: datetime, digest: str = "d", length: timedelta = 20 * MINUTE) -> CreatedBooking:
    return CreatedBooking(booking_name("night", start), start, start + length, digest)


def test_the_next_booking_is_created_even_without_a_horizon() -> None:
    plan = plan_bookings(rule(), [], NOW, NOW)
    assert plan.create == {"night-202601051000": NOW + 30 * MINUTE}
    assert plan.next_start == plan.complete_until == NOW + 30 * MINUTE
    assert plan.next_at == NOW + 30 * MINUTE


def test_all_bookings_within_the_horizon_are_created() -> None:
    plan = plan_bookings(rule(horizon=3 * HOUR), [], NOW, NOW)
    assert list(plan.create.values()) == [NOW + 30 * MINUTE + n * HOUR for n in range(3)]


def test_the_next_reconcile_is_when_a_booking_enters_the_horizon() -> None:
    known = [made(NOW + 30 * MINUTE + n * HOUR) for n in range(3)]
    plan = plan_bookings(rule(horizon=3 * HOUR + 10 * MINUTE), known, NOW, NOW)
    assert plan.next_at == NOW + 20 * MINUTE


def test_a_second_creation_has_the_same_names() -> None:
    first = plan_bookings(rule(horizon=5 * HOUR), [], NOW, NOW)
    again = plan_bookings(rule(horizon=5 * HOUR), [made(start) for start in first.create.values()], NOW, NOW)
    assert (again.create, again.update, again.delete) == ({}, {}, ())


def test_a_missed_booking_is_created_if_its_end_is_in_the_future() -> None:
    long = rule(duration=90 * MINUTE)
    plan = plan_bookings(long, [], NOW, NOW - 5 * HOUR)
    assert sorted(plan.create.values()) == [NOW - 30 * MINUTE, NOW + 30 * MINUTE]
    assert plan_bookings(rule(), [], NOW, NOW - 5 * HOUR).create.keys() == {"night-202601051000"}


def test_a_booking_deleted_in_progress_is_not_created_again() -> None:
    plan = plan_bookings(rule(duration=90 * MINUTE), [], NOW, NOW - 30 * MINUTE)
    assert list(plan.create.values()) == [NOW + 30 * MINUTE]


def test_an_edit_changes_future_bookings_and_keeps_those_in_progress() -> None:
    running, coming = made(NOW - 10 * MINUTE, "old"), made(NOW + 30 * MINUTE, "old")
    gone = made(NOW + 45 * MINUTE, "old")
    plan = plan_bookings(rule(), [running, coming, gone], NOW, NOW)
    assert plan.update == {coming.name: coming.start_at}
    assert plan.delete == (gone.name,)
    assert not plan.create


def test_suspend_deletes_future_bookings() -> None:
    running, coming = made(NOW - 10 * MINUTE), made(NOW + 30 * MINUTE)
    plan = plan_bookings(rule(suspend=True), [running, coming], NOW, NOW)
    assert plan.delete == (coming.name,)
    assert (plan.create, plan.next_start) == ({}, None)
    assert plan.next_at == running.end_at


def test_the_oldest_finished_bookings_are_deleted() -> None:
    past = [made(NOW - n * HOUR - 30 * MINUTE) for n in (1, 2, 3, 4, 5)]
    plan = plan_bookings(rule(keep_finished=3), past, NOW, NOW)
    assert set(plan.delete) == {past[3].name, past[4].name}
    assert len(plan_bookings(rule(keep_finished=0), past, NOW, NOW).delete) == 5


def test_a_booking_that_a_user_extended_is_kept() -> None:
    extended = made(NOW - HOUR, length=3 * HOUR)
    plan = plan_bookings(rule(keep_finished=0), [extended], NOW, NOW)
    assert plan.delete == ()


def test_every_minute_with_a_long_horizon_is_bounded() -> None:
    plan = plan_bookings(rule("* * * * *", horizon=1000 * HOUR), [], NOW, NOW)
    assert len(plan.create) == MAX_BOOKINGS_AHEAD
    assert plan.next_at == NOW + MINUTE


def test_a_new_scheduler_with_a_booking_a_minute_for_a_year_is_bounded() -> None:
    """A year of minutes has 525,600 occurrences in progress. The latest ones end last."""
    year = timedelta(days=365)
    plan = plan_bookings(rule("* * * * *", duration=year, horizon=year), [], NOW, NOW - year)
    begun = sorted(start for start in plan.create.values() if start <= NOW)
    assert begun == [NOW - n * MINUTE for n in range(MAX_BOOKINGS_BEGUN - 1, -1, -1)]
    assert len(plan.create) == MAX_BOOKINGS_BEGUN + MAX_BOOKINGS_AHEAD


@given(
    st.sampled_from(["*/7 * * * *", "0 * * * *", "0 9 * * *", "30 2 1 * *", "0 0 29 2 *"]),
    st.integers(1, 40_000),
    st.integers(0, 900),
)
def test_all_occurrences_in_progress_get_a_booking_up_to_the_bound(
    schedule: str, minutes: int, since_hours: int
) -> None:
    since = NOW - since_hours * HOUR
    made_by = rule(schedule, duration=minutes * MINUTE)
    plan = plan_bookings(made_by, [], NOW, since)
    earliest = max(since, NOW - minutes * MINUTE)
    every = list(takewhile(lambda start: start <= NOW, made_by.recurrence.after(earliest)))
    assert [start for start in plan.create.values() if start <= NOW] == every[-MAX_BOOKINGS_BEGUN:]


def test_long_names_of_schedulers_give_valid_booking_names() -> None:
    name = booking_name("n" * 253, NOW)
    assert len(name) == 253
    assert name != booking_name("n" * 253, NOW + MINUTE)


@given(
    st.sampled_from(["0 * * * *", "*/7 * * * *", "30 2 * * *", "0 9 * * 1-5"]),
    st.integers(1, 300),
    st.integers(0, 100),
    st.lists(st.integers(1, 2000), min_size=1, max_size=12),
)
def test_each_occurrence_has_exactly_one_booking_for_any_reconcile_times(
    schedule: str, length: int, horizon: int, pauses: list[int]
) -> None:
    spec = rule(schedule, duration=length * MINUTE, horizon=horizon * HOUR, keep_finished=1000)
    now = since = start = NOW
    bookings: dict[str, CreatedBooking] = {}
    for pause in pauses:
        plan = plan_bookings(spec, list(bookings.values()), now, since)
        assert not plan.update
        assert not plan.delete
        for name, begin in plan.create.items():
            assert name not in bookings
            bookings[name] = CreatedBooking(name, begin, spec.end_of(begin), "d")
        since = plan.complete_until
        assert plan.next_at is not None
        assert plan.next_at > now
        now = min(plan.next_at, now + pause * MINUTE)
    expected = spec.recurrence.after(start)
    starts = sorted(booking.start_at for booking in bookings.values())
    assert starts == [next(expected) for _ in starts]


def test_a_booking_that_a_user_postponed_is_kept() -> None:
    postponed = CreatedBooking(booking_name("night", NOW), NOW + 10 * MINUTE, NOW + 30 * MINUTE, "d")
    assert plan_bookings(rule("30 * * * *"), [postponed], NOW, NOW).delete == ()
    assert plan_bookings(rule("30 * * * *", suspend=True), [postponed], NOW, NOW).delete == (postponed.name,)


def test_a_booking_that_a_user_postponed_by_seconds_is_kept() -> None:
    begun = NOW + timedelta(seconds=2)
    postponed = CreatedBooking(booking_name("night", NOW), NOW + timedelta(seconds=5), NOW + 20 * MINUTE, "d")
    assert plan_bookings(rule("30 * * * *"), [postponed], begun, NOW).delete == ()


BERLIN = ZoneInfo("Europe/Berlin")


def nightly(schedule: str = "0 22 * * *", end: str = "0 6 * * *") -> ScheduleRule:
    return ScheduleRule(
        "night", Recurrence(schedule, BERLIN), None, "d", ends=Recurrence(end, BERLIN), horizon=24 * HOUR
    )


@pytest.mark.parametrize(("day", "hours"), [(28, 7), (27, 8)])
def test_an_end_by_a_schedule_is_a_time_of_day_through_a_clock_change(day: int, hours: int) -> None:
    """The night of the 28th of March 2026 has one hour less in Berlin."""
    start = datetime(2026, 3, day, 22, tzinfo=BERLIN).astimezone(UTC)
    end = nightly().end_of(start)
    assert end.astimezone(BERLIN).hour == 6
    assert end - start == hours * HOUR


@pytest.mark.parametrize(
    ("schedule", "end", "now", "begun"),
    [
        ("0 22 * * *", "0 6 * * *", datetime(2026, 1, 5, 3, tzinfo=BERLIN), ["01-04T22:00"]),
        ("0 22 * * *", "0 6 * * *", datetime(2026, 1, 5, 9, tzinfo=BERLIN), []),
        ("0 22 * * *", "0 6 * * *", datetime(2026, 1, 5, 6, tzinfo=BERLIN), []),
        ("0 6,22 * * *", "0 6 * * *", datetime(2026, 1, 5, 6, tzinfo=BERLIN), ["01-05T06:00"]),
        ("0 8 * * MON", "0 18 * * FRI", datetime(2026, 1, 8, 12, tzinfo=BERLIN), ["01-05T08:00"]),
        (
            "0 8-9 * * *",
            "0 18 * * *",
            datetime(2026, 1, 8, 12, tzinfo=BERLIN),
            ["01-08T08:00", "01-08T09:00"],
        ),
        ("0 0 1 1 *", "0 0 1 12 *", datetime(2026, 6, 1, tzinfo=BERLIN), ["01-01T00:00"]),
    ],
)
def test_the_occurrences_in_progress_of_an_end_schedule(
    schedule: str, end: str, now: datetime, begun: list[str]
) -> None:
    instant = now.astimezone(UTC)
    plan = plan_bookings(nightly(schedule, end), [], instant, instant - timedelta(days=366))
    found = [start.astimezone(BERLIN) for start in plan.create.values() if start <= instant]
    assert [f"{start:%m-%dT%H:%M}" for start in found] == begun


@given(
    st.sampled_from(["0 22 * * *", "30 * * * *", "0 8 * * MON-FRI", "15 2 1 * *"]),
    st.sampled_from(["0 6 * * *", "0 * * * *", "0 18 * * FRI", "45 1 2 * *"]),
    st.integers(0, 60 * 24 * 60),
)
def test_exactly_the_bookings_in_progress_are_created(schedule: str, end: str, minutes: int) -> None:
    now = NOW + minutes * MINUTE
    made_by = nightly(schedule, end)
    since = now - timedelta(days=40)
    plan = plan_bookings(made_by, [], now, since)
    every = takewhile(lambda start: start <= now, made_by.recurrence.after(since))
    expected = [start for start in every if made_by.end_of(start) > now]
    assert [start for start in plan.create.values() if start <= now] == expected[-MAX_BOOKINGS_BEGUN:]
