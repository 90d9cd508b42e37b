"""The suggested warm-up after past starts, and when it takes effect."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.warm_up import MAX_STARTS, MAX_WARM_UP, add_start, effective, suggest
from tests.support.virtual import EPOCH, after

FALLBACK = timedelta(minutes=2)


def test_without_starts_the_suggestion_is_the_default() -> None:
    assert suggest((), FALLBACK) == FALLBACK


def test_the_suggestion_covers_all_but_one_start_in_twenty() -> None:
    assert suggest([40] * 19 + [300], FALLBACK) == timedelta(seconds=40)
    assert suggest([40] * 18 + [90, 300], FALLBACK) == timedelta(seconds=90)
    assert suggest([41], FALLBACK) == timedelta(seconds=45)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_the_suggestion_is_bounded_and_covers_enough_starts(seconds: list[int]) -> None:
    starts: tuple[int, ...] = ()
    for taken in seconds:
        starts = add_start(starts, timedelta(seconds=taken))
    assert len(starts) <= MAX_STARTS
    suggested = suggest(starts, FALLBACK)
    assert timedelta(0) <= suggested <= MAX_WARM_UP
    if starts:
        covered = sum(timedelta(seconds=taken) <= suggested for taken in starts)
        assert covered >= 0.95 * len(starts)


def test_too_long_and_negative_starts_do_not_count() -> None:
    assert add_start((1,), MAX_WARM_UP + timedelta(seconds=1)) == (1,)
    assert add_start((1,), timedelta(seconds=-1)) == (1,)
    assert add_start(tuple(range(MAX_STARTS)), timedelta(seconds=99.2)) == (*range(1, MAX_STARTS), 100)


def booking(start: float) -> BookingInterval:
    return BookingInterval("b", "ada", after(start), after(start + 1000), EPOCH)


def test_the_warm_up_does_not_shrink_during_a_warm_up() -> None:
    old, new = timedelta(seconds=120), timedelta(seconds=40)
    assert effective(old, new, [booking(200)], after(100)) == old
    assert effective(old, new, [booking(200)], after(200)) == new
    assert effective(old, new, [booking(200)], after(50)) == new


def test_the_warm_up_can_grow_at_any_time() -> None:
    old, new = timedelta(seconds=40), timedelta(seconds=120)
    assert effective(old, new, [booking(200)], after(170)) == new
