"""The agenda against a walk over all bookings, however they come and go, and whatever the clock does."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline, TimelineState

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
WARM_UPS = st.sampled_from([timedelta(0), timedelta(minutes=1), timedelta(minutes=3)])
MINUTES = st.integers(0, 30)
SPANS = st.tuples(MINUTES, st.integers(1, 9), st.integers(0, 2))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), SPANS),
        st.tuples(st.just("add"), SPANS),
        st.tuples(st.just("discard"), st.integers(0, 9)),
        st.tuples(st.just("ask"), st.tuples(MINUTES, WARM_UPS)),
    ),
    max_size=40,
)


def at(minute: float) -> datetime:
    return EPOCH + timedelta(minutes=minute)


def booking(number: int, span: tuple[int, int, int]) -> BookingInterval:
    start, length, created = span
    return BookingInterval(f"b{number}", "ada", at(start), at(start + length), at(created))


def walked(bookings: list[BookingInterval], now: datetime, warm_up: timedelta) -> TimelineState:
    over = [item for item in bookings if item.end_at <= now]
    active = [item for item in bookings if item.is_active(now, warm_up)]
    starts = [item.power_on_at(warm_up) for item in bookings if item.power_on_at(warm_up) > now]
    end = max((item.end_at for item in active), default=None)
    while end is not None:
        joined = [item.end_at for item in bookings if item.power_on_at(warm_up) <= end < item.end_at]
        if not joined:
            break
        end = max(joined)
    return TimelineState(
        holder=min(active, key=lambda item: item.precedence, default=None),
        last_ended=max(over, key=lambda item: (item.end_at, item.precedence), default=None),
        next_at=min([*starts, *(item.end_at for item in active)], default=None),
        next_change_at=end if active else min(starts, default=None),
    )


@given(st.lists(SPANS, max_size=12), STEPS)
def test_it_says_what_a_walk_over_all_bookings_says(
    first: list[tuple[int, int, int]], steps: list[tuple[str, object]]
) -> None:
    numbers = count()
    known = [booking(next(numbers), span) for span in first]
    agenda = BookingTimeline(known)
    for verb, what in steps:
        match verb, what:
            case "add", (int(start), int(length), int(created)):
                known.append(booking(next(numbers), (start, length, created)))
                agenda.add(known[-1])
            case "discard", int(number) if number < len(known):
                agenda.discard(known.pop(number))
            case "ask", (int(minute), timedelta() as warm_up):
                assert agenda.state_at(at(minute), warm_up) == walked(known, at(minute), warm_up)
                assert agenda.has_unfinished(at(minute)) == any(item.end_at > at(minute) for item in known)
                ordered = sorted(known, key=lambda item: item.precedence)
                active = [item for item in ordered if item.is_active(at(minute), warm_up)]
                assert agenda.active(at(minute), warm_up) == active
                coming = [item for item in ordered if item.end_at > at(minute)]
                assert agenda.unfinished_by(at(minute)) == coming
                soon = [item for item in coming if item.start_at <= at(minute + 3)]
                assert agenda.unfinished_by(at(minute), at(minute + 3)) == soon
                assert agenda.ending_at(at(minute)) == [item for item in ordered if item.end_at == at(minute)]
        assert len(agenda) == len(known)
        assert all(item in agenda for item in known)
        assert sorted(agenda, key=lambda item: item.name) == sorted(known, key=lambda item: item.name)


@pytest.mark.parametrize("much", [1, 20])
def test_what_is_added_or_removed_when_it_is_over_counts_for_a_clock_that_is_set_back(much: int) -> None:
    known = [booking(number, (0, 1, 0)) for number in range(much)]
    agenda, late = BookingTimeline(known), booking(99, (0, 2, 0))
    both = [*known, late]
    for change, before, after in ((agenda.add, known, both), (agenda.discard, both, known)):
        assert agenda.state_at(at(0)) == walked(before, at(0), timedelta(0))
        agenda.state_at(at(2))
        change(late)
        assert agenda.state_at(at(0)) == walked(after, at(0), timedelta(0))


def test_what_is_not_there_is_not_missed() -> None:
    agenda = BookingTimeline([booking(1, (0, 5, 0))])
    agenda.discard(booking(2, (0, 5, 0)))
    assert len(agenda) == 1


@pytest.mark.parametrize("much", [2_000, 20_000])
def test_to_ask_again_takes_no_walk(much: int) -> None:
    """Counted, not timed: how many bookings are looked at."""
    looked = 0

    class Counted(BookingInterval):
        __slots__ = ()

        @property
        def precedence(self) -> tuple[datetime, datetime, str]:
            nonlocal looked
            looked += 1
            return super().precedence

    def made(number: int, start: float, end: float) -> BookingInterval:
        return Counted(f"b{number}", "ada", at(start), at(end), EPOCH)

    agenda = BookingTimeline(made(number, number, number + 2) for number in range(much))
    agenda.state_at(at(much / 2))
    looked = 0
    for step in range(10):
        agenda.add(made(much + step, much / 2 - step, much / 2 + step + 1))
        agenda.state_at(at(much / 2 + step / 10))
    assert looked < 1_500
