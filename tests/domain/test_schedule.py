"""What a scheduler makes, replaces and deletes, at any instant."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.recurrence import Recurrence
from booking_operator.domain.schedule import (
    MAX_BOOKINGS_AHEAD,
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


def test_the_next_one_is_there_even_without_a_horizon() -> None:
    plan = plan_bookings(rule(), [], NOW, NOW)
    assert plan.create == {"night-202601051000": NOW + 30 * MINUTE}
    assert plan.next_start == plan.complete_until == NOW + 30 * MINUTE
    assert plan.next_at == NOW + 30 * MINUTE


def test_all_within_the_horizon_are_there() -> None:
    plan = plan_bookings(rule(horizon=3 * HOUR), [], NOW, NOW)
    assert list(plan.create.values()) == [NOW + 30 * MINUTE + n * HOUR for n in range(3)]


def test_when_the_next_enters_the_horizon_it_is_looked_at_again() -> None:
    known = [made(NOW + 30 * MINUTE + n * HOUR) for n in range(3)]
    plan = plan_bookings(rule(horizon=3 * HOUR + 10 * MINUTE), known, NOW, NOW)
    assert plan.next_at == NOW + 20 * MINUTE


def test_a_second_creation_has_the_same_names() -> None:
    first = plan_bookings(rule(horizon=5 * HOUR), [], NOW, NOW)
    again = plan_bookings(rule(horizon=5 * HOUR), [made(start) for start in first.create.values()], NOW, NOW)
    assert (again.create, again.update, again.delete) == ({}, {}, ())


def test_one_missed_while_down_is_made_if_its_end_is_still_ahead() -> None:
    long = rule(duration=90 * MINUTE)
    plan = plan_bookings(long, [], NOW, NOW - 5 * HOUR)
    assert sorted(plan.create.values()) == [NOW - 30 * MINUTE, NOW + 30 * MINUTE]
    assert plan_bookings(rule(), [], NOW, NOW - 5 * HOUR).create.keys() == {"night-202601051000"}


def test_one_in_progress_that_somebody_deleted_does_not_come_back() -> None:
    plan = plan_bookings(rule(duration=90 * MINUTE), [], NOW, NOW - 30 * MINUTE)
    assert list(plan.create.values()) == [NOW + 30 * MINUTE]


def test_an_edit_replaces_those_not_begun_and_leaves_those_running() -> None:
    running, coming = made(NOW - 10 * MINUTE, "old"), made(NOW + 30 * MINUTE, "old")
    gone = made(NOW + 45 * MINUTE, "old")
    plan = plan_bookings(rule(), [running, coming, gone], NOW, NOW)
    assert plan.update == {coming.name: coming.start_at}
    assert plan.delete == (gone.name,)
    assert not plan.create


def test_suspend_takes_back_what_has_not_begun() -> None:
    running, coming = made(NOW - 10 * MINUTE), made(NOW + 30 * MINUTE)
    plan = plan_bookings(rule(suspend=True), [running, coming], NOW, NOW)
    assert plan.delete == (coming.name,)
    assert (plan.create, plan.next_start) == ({}, None)
    assert plan.next_at == running.end_at


def test_the_oldest_finished_ones_go() -> None:
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


def test_long_names_of_schedulers_still_make_names() -> None:
    name = booking_name("n" * 253, NOW)
    assert len(name) == 253
    assert name != booking_name("n" * 253, NOW + MINUTE)


@given(
    st.sampled_from(["0 * * * *", "*/7 * * * *", "30 2 * * *", "0 9 * * 1-5"]),
    st.integers(1, 300),
    st.integers(0, 100),
    st.lists(st.integers(1, 2000), min_size=1, max_size=12),
)
def test_however_often_it_is_looked_at_each_occurrence_has_exactly_one_booking(
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
            bookings[name] = CreatedBooking(name, begin, begin + spec.duration, "d")
        since = plan.complete_until
        assert plan.next_at is not None
        assert plan.next_at > now
        now = min(plan.next_at, now + pause * MINUTE)
    expected = spec.recurrence.after(start)
    starts = sorted(booking.start_at for booking in bookings.values())
    assert starts == [next(expected) for _ in starts]


def test_one_that_a_user_put_off_beyond_its_occurrence_stays() -> None:
    put_off = CreatedBooking(booking_name("night", NOW), NOW + 10 * MINUTE, NOW + 30 * MINUTE, "d")
    assert plan_bookings(rule("30 * * * *"), [put_off], NOW, NOW).delete == ()
    assert plan_bookings(rule("30 * * * *", suspend=True), [put_off], NOW, NOW).delete == (put_off.name,)


def test_one_that_a_user_put_off_by_seconds_stays_too() -> None:
    begun = NOW + timedelta(seconds=2)
    put_off = CreatedBooking(booking_name("night", NOW), NOW + timedelta(seconds=5), NOW + 20 * MINUTE, "d")
    assert plan_bookings(rule("30 * * * *"), [put_off], begun, NOW).delete == ()
