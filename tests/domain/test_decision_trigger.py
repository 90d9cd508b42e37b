"""The booking timeline and the decision trigger, compared with a brute-force oracle at many instants."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.booking_timeline import BookingTimeline, TimelineState
from booking_operator.domain.decision_trigger import (
    LEAD_TIME,
    NOTHING_REPORTED,
    DecisionTrigger,
    Reported,
    next_trigger,
    next_wake_up,
    reported,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
HORIZON = 30


def state_at(
    intervals: list[BookingInterval], now: datetime, warm_up: timedelta = timedelta(0)
) -> TimelineState:
    return BookingTimeline(intervals).state_at(now, warm_up)


def at(minute: float) -> datetime:
    return EPOCH + timedelta(minutes=minute)


def booking(name: str, start: int, end: int, created: int = 0) -> BookingInterval:
    return BookingInterval(name, f"user-{name}", at(start), at(end), at(created))


@st.composite
def bookings(draw: st.DrawFn) -> list[BookingInterval]:
    spans = draw(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.integers(0, 3)), max_size=7))
    return [
        booking(f"b{number}", start, start + length, created)
        for number, (start, length, created) in enumerate(spans)
    ]


warm_ups = st.sampled_from([timedelta(0), timedelta(minutes=1), timedelta(minutes=3)])
instants = st.integers(-5, HORIZON).map(at)


def wanted_by_oracle(intervals: list[BookingInterval], now: datetime, warm_up: timedelta) -> bool:
    return any(interval.start_at - warm_up <= now < interval.end_at for interval in intervals)


def state_of_oracle(
    intervals: list[BookingInterval], now: datetime, warm_up: timedelta
) -> tuple[str | None, bool]:
    active = [interval for interval in intervals if interval.start_at - warm_up <= now < interval.end_at]
    active.sort(key=lambda interval: interval.name)
    active.sort(key=lambda interval: interval.created_at)
    active.sort(key=lambda interval: interval.start_at)
    return (active[0].name if active else None), bool(active)


@given(bookings(), instants, warm_ups)
def test_holder_and_power_agree_with_the_oracle(
    intervals: list[BookingInterval], now: datetime, warm_up: timedelta
) -> None:
    seen = state_at(intervals, now, warm_up)
    assert (seen.holder.name if seen.holder else None, seen.running_wanted) == state_of_oracle(
        intervals, now, warm_up
    )


@given(bookings(), instants, warm_ups)
def test_nothing_changes_before_next_at(
    intervals: list[BookingInterval], now: datetime, warm_up: timedelta
) -> None:
    seen = state_at(intervals, now, warm_up)
    later = [at(minute) for minute in range(-5, HORIZON + 10) if at(minute) > now]
    changes = [
        instant
        for instant in later
        if state_of_oracle(intervals, instant, warm_up) != state_of_oracle(intervals, now, warm_up)
    ]
    if changes:
        assert seen.next_at is not None
        assert now < seen.next_at <= changes[0]


@given(bookings(), instants, warm_ups)
def test_next_change_is_the_first_instant_at_which_power_differs(
    intervals: list[BookingInterval], now: datetime, warm_up: timedelta
) -> None:
    seen = state_at(intervals, now, warm_up)
    later = [at(minute) for minute in range(-5, HORIZON + 10) if at(minute) > now]
    expected = next(
        (
            instant
            for instant in later
            if wanted_by_oracle(intervals, instant, warm_up) != seen.running_wanted
        ),
        None,
    )
    assert seen.next_change_at == expected


@given(bookings(), instants, warm_ups)
def test_the_order_of_bookings_is_irrelevant(
    intervals: list[BookingInterval], now: datetime, warm_up: timedelta
) -> None:
    assert state_at(intervals, now, warm_up) == state_at(intervals[::-1], now, warm_up)


@given(bookings(), st.integers(-5, HORIZON), warm_ups)
def test_the_wake_ups_cover_every_change_of_power(
    intervals: list[BookingInterval], minute: int, warm_up: timedelta
) -> None:
    now, flips = at(minute), []
    wanted = state_at(intervals, now, warm_up).running_wanted
    for _ in range(100):
        wake = next_wake_up(state_at(intervals, now, warm_up), now)
        if wake is None:
            break
        assert wake > now
        now = wake
        if state_at(intervals, now, warm_up).running_wanted != wanted:
            wanted = not wanted
            flips.append(now)
    expected = [
        at(m)
        for m in range(minute + 1, HORIZON + 10)
        if wanted_by_oracle(intervals, at(m), warm_up) != wanted_by_oracle(intervals, at(m - 1), warm_up)
    ]
    assert flips == expected


def test_back_to_back_bookings_never_cause_a_stop() -> None:
    intervals = [booking("a", 0, 5), booking("b", 5, 10)]
    seen = state_at(intervals, at(4))
    assert seen.next_change_at == at(10)
    assert seen.next_at == at(5)
    handed_over = state_at(intervals, at(5)).holder
    assert handed_over is not None
    assert handed_over.name == "b"


def test_the_end_of_a_nested_booking_keeps_the_outer_holder() -> None:
    intervals = [booking("outer", 0, 10), booking("inner", 2, 4)]
    for minute in (1, 3, 5):
        holder = state_at(intervals, at(minute)).holder
        assert holder is not None
        assert holder.name == "outer"


def test_a_booking_in_its_warm_up_is_the_holder_but_scheduled() -> None:
    interval = booking("a", 10, 20)
    seen = state_at([interval], at(8), timedelta(minutes=3))
    assert seen.holder == interval
    assert interval.phase_at(at(8)) is Phase.SCHEDULED
    assert interval.phase_at(at(10)) is Phase.IN_PROGRESS
    assert interval.phase_at(at(20)) is Phase.FINISHED


def test_without_bookings_there_is_no_next_change() -> None:
    assert state_at([], at(0)) == TimelineState(at(0), None, None, None, None)


def test_a_planned_boundary_accepts_a_view_from_shortly_before_it() -> None:
    intervals = [booking("a", 10, 20)]
    before = next_trigger(NOTHING_REPORTED, state_at(intervals, at(5)))
    arrived = next_trigger(before, state_at(intervals, at(10)))
    assert arrived.planned
    assert arrived.observed_since == at(10) - LEAD_TIME


def test_the_end_of_a_remaining_booking_is_unplanned_after_another_vanished() -> None:
    """When a CRD is deleted, its bookings vanish one by one, and the last of them may end in the meantime."""
    short, long = booking("a", 10, 20), booking("b", 10, 30)
    both = next_trigger(NOTHING_REPORTED, state_at([short, long], at(15)))
    left = next_trigger(both, state_at([short], at(16)))
    assert left.brought_forward
    still = next_trigger(left, state_at([short], at(18)))
    ended = next_trigger(still, state_at([short], at(20)))
    assert not ended.planned
    assert not ended.brought_forward
    assert ended.observed_since == at(20) - LEAD_TIME


def test_the_end_of_an_extended_booking_is_planned() -> None:
    before = next_trigger(NOTHING_REPORTED, state_at([booking("a", 10, 20)], at(15)))
    longer = next_trigger(before, state_at([booking("a", 10, 30)], at(16)))
    assert not longer.brought_forward
    assert next_trigger(longer, state_at([booking("a", 10, 30)], at(30))).planned


def test_a_vanished_booking_requires_a_view_from_after_it() -> None:
    intervals = [booking("a", 10, 20)]
    before = next_trigger(NOTHING_REPORTED, state_at(intervals, at(12)))
    after = next_trigger(before, state_at([], at(13)))
    assert not after.planned
    assert after.observed_since == at(13)


def test_a_changed_policy_is_a_new_trigger() -> None:
    seen = state_at([], at(0))
    before = next_trigger(NOTHING_REPORTED, seen, policy="Leave")
    later = replace(seen, at=at(9))
    assert next_trigger(before, later, policy="Stop").observed_since == at(9)
    assert next_trigger(before, later, policy="Leave") == before


def test_a_boundary_that_changes_no_booking_needs_a_view_from_shortly_before_it() -> None:
    """Such as an off time, or the end of a suspension. No reconcile may have been right before it."""
    state = replace(state_at([], at(0)), next_change_at=at(20))
    first = next_trigger(NOTHING_REPORTED, state)
    missed = next_trigger(first, state_at([], at(21)))
    assert missed.observed_since == at(20) - LEAD_TIME
    assert first.observed_since == at(0)


def test_shortly_before_a_boundary_a_new_view_is_required() -> None:
    intervals = [booking("a", 10, 20)]
    before = next_trigger(NOTHING_REPORTED, state_at(intervals, at(5)))
    soon = at(10) - LEAD_TIME
    assert next_trigger(before, state_at(intervals, soon)).observed_since == soon


GRACE = timedelta(minutes=2)


def triggers(*steps: tuple[float, list[BookingInterval], int]) -> list[DecisionTrigger]:
    """The triggers of reconciles, each at a minute, with its bookings and the number of deletions so far."""
    found: list[DecisionTrigger] = []
    for minute, intervals, deletions in steps:
        previous = found[-1] if found else NOTHING_REPORTED
        now = EPOCH + timedelta(minutes=minute)
        seen = state_at(intervals, now)
        found.append(next_trigger(previous, seen, deletions=deletions, deletion_grace=GRACE))
    return found


def test_a_stop_waits_after_the_deletion_that_causes_it() -> None:
    one = [booking("a", 10, 20)]
    _, deleted, later = triggers((12, one, 0), (13, [], 1), (14, [], 1))
    assert deleted.stop_from == later.stop_from == at(15)


def test_a_stop_after_an_edit_or_an_end_does_not_wait() -> None:
    shortened = triggers((12, [booking("a", 10, 20)], 0), (13, [booking("a", 10, 13)], 0))
    ended = triggers((12, [booking("a", 10, 20)], 0), (20, [booking("a", 10, 20)], 0))
    ended_and_deleted = triggers((12, [booking("a", 10, 20)], 0), (20, [], 1))
    for steps in (shortened, ended, ended_and_deleted):
        assert steps[-1].stop_from is None


def test_a_deletion_that_changes_nothing_delays_no_stop() -> None:
    long, short = booking("a", 10, 20), booking("b", 10, 15)
    *_, left = triggers((12, [long, short], 0), (13, [long], 1))
    assert left.stop_from is None


def test_a_deletion_that_brings_the_end_forward_delays_the_stop_at_this_end() -> None:
    short, long = booking("a", 10, 14), booking("b", 10, 30)
    *_, left, ended = triggers((12, [short, long], 0), (13, [short], 1), (14, [short], 1))
    assert left.stop_from == ended.stop_from == at(15)


def test_a_booking_in_the_place_of_the_deleted_one_ends_the_wait() -> None:
    old, new = booking("a", 10, 20), booking("a2", 10, 14)
    *_, again, ended = triggers((12, [old], 0), (13, [], 1), (13.5, [new], 1), (14, [new], 1))
    assert again.stop_from is None
    assert ended.stop_from is None


def test_a_clock_that_is_set_back_does_not_prolong_the_wait() -> None:
    one = [booking("a", 10, 20)]
    *_, later = triggers((12, one, 0), (13, [], 1), (5, [], 1))
    assert later.stop_from == at(5) + GRACE


@pytest.mark.parametrize(
    ("booked_until", "intervals", "stop_from"),
    [
        (at(20), [], at(15)),
        (at(12), [], None),
        (None, [], None),
        (at(20), [booking("a", 10, 20)], None),
    ],
)
def test_a_stop_waits_if_the_last_holder_was_deleted_while_no_operator_ran(
    booked_until: datetime | None, intervals: list[BookingInterval], stop_from: datetime | None
) -> None:
    seen = state_at(intervals, at(13))
    first = next_trigger(Reported(booked_until), seen, deletion_grace=GRACE)
    assert first.stop_from == stop_from
    later = next_trigger(first, state_at(intervals, at(14)), deletion_grace=GRACE)
    assert later.stop_from == stop_from


@pytest.mark.parametrize(
    ("reported", "due_since"),
    [(Reported(), at(13)), (Reported(due_since=at(10)), at(10)), (Reported(due_since=at(14)), at(13))],
)
def test_waits_count_from_what_was_reported_before_a_restart(reported: Reported, due_since: datetime) -> None:
    """An instant in the future is from before the clock was set back."""
    assert next_trigger(reported, state_at([booking("a", 10, 20)], at(13))).due_since == due_since


@pytest.mark.parametrize(
    ("booked_until", "holder", "counts"),
    [
        (None, None, True),
        (at(20), None, False),
        (None, booking("a", 10, 40), False),
        (at(20), booking("a", 10, 40), True),
        (at(20), booking("a", 24, 40), True),
        (at(20), booking("a", 26, 40), False),
        (at(20), booking("a", 24, 40, created=22), False),
    ],
)
def test_a_reported_wait_counts_unless_nothing_was_booked_meanwhile(
    booked_until: datetime | None, holder: BookingInterval | None, counts: bool
) -> None:
    """The warm-up is five minutes. Nobody can start instances for a booking that does not exist yet."""
    seen = reported(booked_until, at(3), holder, timedelta(minutes=5))
    assert seen == Reported(booked_until, at(3) if counts else None)


def test_only_another_requirement_begins_a_new_wait() -> None:
    intervals, found = [booking("a", 10, 20)], []
    trigger: DecisionTrigger | Reported = NOTHING_REPORTED
    for minute, requires in ((12, ("db",)), (13, ("cache", "db")), (14, ("cache",)), (15, ("cache",))):
        trigger = next_trigger(trigger, state_at(intervals, at(minute)), requires=requires)
        found.append(trigger.due_since)
    assert found == [at(12), at(13), at(13), at(13)]
