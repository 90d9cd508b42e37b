"""The booking timeline gives the same answers as a scan of all bookings, in any order and with any clock."""

from dataclasses import replace
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
        st.tuples(st.just("exchange"), st.integers(0, 9)),
        st.tuples(st.just("ask"), st.tuples(MINUTES, WARM_UPS)),
    ),
    max_size=40,
)


def at(minute: float) -> datetime:
    return EPOCH + timedelta(minutes=minute)


def booking(number: int, span: tuple[int, int, int], *, led: bool = False) -> BookingInterval:
    """A booking. If it is `led`, another Resource is booked, which leads by up to three minutes."""
    start, length, created = span
    made = BookingInterval(f"b{number}", "ada", at(start), at(start + length), at(created))
    return made.of_required("web", timedelta(minutes=number % 4)) if led else made


def scanned(bookings: list[BookingInterval], now: datetime, warm_up: timedelta) -> TimelineState:
    """The expected state, computed by a scan of all bookings."""
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
        at=now,
        holder=min(active, key=lambda item: item.precedence, default=None),
        last_ended=max(over, key=lambda item: (item.end_at, item.precedence), default=None),
        next_at=min([*starts, *(item.end_at for item in active)], default=None),
        next_change_at=end if active else min(starts, default=None),
    )


@given(st.lists(SPANS, max_size=12), STEPS, st.booleans())
def test_the_timeline_equals_a_scan_of_all_bookings(
    first: list[tuple[int, int, int]], steps: list[tuple[str, object]], led: bool
) -> None:
    numbers = count()
    known = [booking(next(numbers), span, led=led) for span in first]
    timeline = BookingTimeline(known)
    for verb, what in steps:
        match verb, what:
            case "add", (int(start), int(length), int(created)):
                known.append(booking(next(numbers), (start, length, created), led=led))
                timeline.add(known[-1])
            case "exchange", int(number):
                gone, known = known[:number], known[number:]
                come = [replace(item, lead=timedelta(minutes=2 * led)) for item in gone[1:]]
                timeline.exchange(gone, come)
                known += come
            case "discard", int(number) if number < len(known):
                timeline.discard(known.pop(number))
            case "ask", (int(minute), timedelta() as warm_up):
                assert timeline.state_at(at(minute), warm_up) == scanned(known, at(minute), warm_up)
                assert timeline.has_unfinished(at(minute)) == any(item.end_at > at(minute) for item in known)
                ordered = sorted(known, key=lambda item: item.precedence)
                active = [item for item in ordered if item.is_active(at(minute), warm_up)]
                assert timeline.active(at(minute), warm_up) == active
                coming = [item for item in ordered if item.end_at > at(minute)]
                assert timeline.unfinished_by(at(minute)) == coming
                soon = [item for item in coming if item.start_at <= at(minute + 3)]
                assert timeline.unfinished_by(at(minute), at(minute + 3)) == soon
                assert timeline.ending_at(at(minute)) == [
                    item for item in ordered if item.end_at == at(minute)
                ]
        assert len(timeline) == len(known)
        assert all(item in timeline for item in known)
        assert sorted(timeline, key=lambda item: item.name) == sorted(known, key=lambda item: item.name)


@pytest.mark.parametrize("much", [1, 20])
def test_changes_of_finished_bookings_count_after_the_clock_is_set_back(much: int) -> None:
    known = [booking(number, (0, 1, 0)) for number in range(much)]
    timeline, late = BookingTimeline(known), booking(99, (0, 2, 0))
    both = [*known, late]
    for change, before, after in ((timeline.add, known, both), (timeline.discard, both, known)):
        assert timeline.state_at(at(0)) == scanned(before, at(0), timedelta(0))
        timeline.state_at(at(2))
        change(late)
        assert timeline.state_at(at(0)) == scanned(after, at(0), timedelta(0))


def test_discarding_an_unknown_booking_is_a_no_op() -> None:
    timeline = BookingTimeline([booking(1, (0, 5, 0))])
    timeline.discard(booking(2, (0, 5, 0)))
    assert len(timeline) == 1


@pytest.mark.parametrize("much", [2_000, 20_000])
def test_a_repeated_query_does_not_scan_all_bookings(much: int) -> None:
    """Count the bookings that are read. A measurement of time would be unreliable."""
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

    timeline = BookingTimeline(made(number, number, number + 2) for number in range(much))
    timeline.state_at(at(much / 2))
    looked = 0
    for step in range(10):
        timeline.add(made(much + step, much / 2 - step, much / 2 + step + 1))
        timeline.state_at(at(much / 2 + step / 10))
    assert looked < 1_500
