"""Delays because of request limits, and the remedy."""

from datetime import timedelta

import pytest

from booking_operator.domain.conditions import delayed_conditions
from booking_operator.domain.delay import TOLERANCE, Delay, delay_of
from booking_operator.domain.formatting import format_duration, round_up
from tests.support.virtual import EPOCH


def test_a_delay_within_the_tolerance_is_ignored() -> None:
    assert delay_of(EPOCH, EPOCH + TOLERANCE, is_start=True) is None
    assert delay_of(EPOCH, EPOCH - timedelta(hours=1), is_start=True) is None


def test_the_end_is_rounded_up_so_that_small_shifts_do_not_change_it() -> None:
    ends = {
        delay_of(EPOCH, EPOCH + timedelta(seconds=seconds), is_start=True) for seconds in (491, 496.7, 500)
    }
    assert ends == {Delay(is_start=True, due_at=EPOCH, complete_at=EPOCH + timedelta(seconds=500))}


def test_the_remedy_is_the_warm_up_plus_whole_minutes() -> None:
    late = delay_of(EPOCH, EPOCH + timedelta(seconds=491), is_start=True, warm_up=timedelta(seconds=90))
    assert late is not None
    assert late.suggested_warm_up == timedelta(minutes=9, seconds=90)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (500, "8m20s"), (3600, "1h"), (5400, "1h30m"), (86399, "23h59m59s")]
)
def test_durations_have_the_format_of_fields(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


def test_rounding_up_leaves_multiples_as_they_are() -> None:
    assert round_up(timedelta(seconds=60), timedelta(minutes=1)) == timedelta(minutes=1)
    assert round_up(timedelta(seconds=61), timedelta(minutes=1)) == timedelta(minutes=2)


def test_the_condition_has_the_time_and_the_remedy() -> None:
    (condition,) = delayed_conditions(delay_of(EPOCH, EPOCH + timedelta(seconds=500), is_start=True))
    assert (condition.type, condition.status, condition.reason) == ("Delayed", True, "RequestLimits")
    assert condition.message == (
        "Because of the request limits of the cloud, the last instance is started at 2026-01-01T09:08:20Z, "
        "8m20s after 2026-01-01T09:00:00Z. "
        "To start all instances on time, set spec.warm_up: 9m on the Resource."
    )
    (stop,) = delayed_conditions(delay_of(EPOCH, EPOCH + timedelta(seconds=500), is_start=False))
    assert "stopped" in stop.message
    assert "warm_up" not in stop.message
    assert delayed_conditions(None) == ()
