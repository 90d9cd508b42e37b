"""How lateness is measured."""

from datetime import UTC, datetime, timedelta

import pytest

from bench.windows import Arrival, Power, Window, at_once, at_random, lateness, quantile, taken_at, until

NINE = datetime(2026, 1, 1, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)
GROUPS = {"web": ["i-1", "i-2"], "db": ["i-3"]}


def arrival(seconds: float, *ids: str, action: str = "StartInstances", status: int = 200) -> Arrival:
    return Arrival(action, NINE + timedelta(seconds=seconds), status, ids)


def late(*arrivals: Arrival, action: Power = "StartInstances") -> dict[str, float]:
    return lateness(at_once(["web", "db"], NINE), GROUPS, arrivals, action)


def test_the_first_call_for_a_group_counts() -> None:
    assert late(arrival(1, "i-2"), arrival(2, "i-1", "i-3")) == {"web": 1, "db": 2}


@pytest.mark.parametrize("status", [0, 400, 503])
def test_a_call_that_was_refused_or_lost_does_not_count(status: int) -> None:
    assert late(arrival(1, "i-1", status=status), arrival(5, "i-1")) == {"web": 5}


def test_lateness_of_an_early_call_is_negative() -> None:
    assert late(arrival(-0.5, "i-3")) == {"db": -0.5}


def test_stops_are_due_at_the_end_of_a_window() -> None:
    assert late(arrival(3601, "i-1", action="StopInstances"), action="StopInstances") == {"web": 1}


def test_other_calls_and_instances_do_not_count() -> None:
    assert late(arrival(1, "i-1", action="StopInstances"), arrival(2, "i-9")) == {}


def test_the_first_accepted_call_counts_for_each_instance() -> None:
    taken = taken_at([arrival(1, "i-1"), arrival(2, "i-1", "i-2")], "StartInstances")
    assert taken == {"i-1": NINE + timedelta(seconds=1), "i-2": NINE + timedelta(seconds=2)}


def test_random_windows_are_reproducible() -> None:
    tags = [str(number) for number in range(50)]
    windows = at_random(tags, NINE, 60)
    assert windows == at_random(tags, NINE, 60)
    assert all(NINE <= window.start_at <= NINE + timedelta(seconds=60) for window in windows)
    assert {window.end_at - window.start_at for window in windows} == {timedelta(seconds=90)}


def test_windows_that_end_at_one_instant_began_an_hour_earlier() -> None:
    assert until(["web"], TEN) == [Window("web", NINE, TEN)]


@pytest.mark.parametrize(("q", "value"), [(0.5, 51), (0.99, 100), (1.0, 100)])
def test_quantiles(q: float, value: float) -> None:
    assert quantile(range(100, 0, -1), q) == value
