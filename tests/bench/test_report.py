"""The rows of the table, and the reasons why a run is void."""

import math
from datetime import UTC, datetime, timedelta

from bench.report import Board, Plugin, Results, Scale, faults, rows
from bench.table import Row, as_json, shown
from bench.trials import Idling, Trial
from bench.windows import Arrival, at_once

NINE = datetime(2026, 1, 1, 9, tzinfo=UTC)
GROUPS = {f"g{number}": [f"i-{number}"] for number in range(4)}


def trial(start: float, stop: float = 0.0, groups: int = 4) -> Trial:
    """A trial of `groups` groups, with starts and stops that are late by the given seconds."""
    ids = tuple(f"i-{number}" for number in range(groups))
    arrivals = [
        Arrival("StartInstances", NINE + timedelta(seconds=start), 200, ids),
        Arrival("StopInstances", NINE + timedelta(seconds=40 + stop), 200, ids),
    ]
    return Trial("eu-west-1", GROUPS, at_once(list(GROUPS), NINE, 40), arrivals)


def named(results: Results) -> dict[str, Row]:
    return {row.name: row for row in rows(results)}


def test_the_ratio_is_the_baseline_divided_by_the_operator() -> None:
    results = Results({("random", "operator"): trial(0.01), ("random", "poller"): trial(30)})
    row = named(results)["start, 4 boundaries at random: p99"]
    assert (row.ours, row.baseline, row.target, row.met) == (0.01, 30, 0.025, True)
    assert row.ratio == 3000
    assert faults(results) == []


def test_a_missed_target_shows_by_how_much() -> None:
    results = Results({("instant", "operator"): trial(0.12), ("instant-stop", "poller"): trial(0, 50)})
    table = shown(rows(results))
    assert "no, by 50%" in table
    assert "no, 10.0 times the target" in shown([Row("late", "s", ours=0.8, target=0.08)])
    assert named(results)["stop, 4 at one instant: p99"].baseline == 50
    assert named(results)["start, 4 at one instant: calls"].ours == 1
    assert faults(results) == []


def test_a_missing_call_makes_the_run_void() -> None:
    results = Results({("instant", "operator"): trial(0.01, groups=3), ("instant", "poller"): trial(5, 5, 1)})
    row = named(results)["start, 4 at one instant: max"]
    assert (row.ours, row.baseline, row.ratio) == (math.inf, math.inf, None)
    assert "not in time" in shown([row])
    assert as_json([row])[0]["ours"] is None
    assert faults(results) == [
        "instant: StartInstances was not sent for 1 of 4 groups before the timeout",
        "instant: StopInstances was not sent for 1 of 4 groups before the timeout",
    ]


def test_an_early_call_makes_the_run_void() -> None:
    results = Results({("killed", "operator"): trial(-0.002)})
    assert faults(results) == ["killed: StartInstances was sent 2.0 ms before the boundary"]


def test_rows_of_the_idle_trial_and_of_2000_starts() -> None:
    groups = {"web": [f"i-{number}" for number in range(2000)]}
    arrivals = [
        Arrival("StartInstances", NINE + timedelta(seconds=at), 200, tuple(ids))
        for at, ids in ((0.02, groups["web"][:1000]), (505, groups["web"][1000:]))
    ]
    bulk = Trial("eu-west-1", groups, at_once(["web"], NINE), arrivals)
    idling = Idling(calls=60, describes=60, rss_mib=140)
    found = named(Results({("bulk", "operator"): bulk}, {"operator": idling}))
    row = found["2,000 starts at one instant, all accepted (limits allow 500 s)"]
    assert (row.ours, row.target, row.met) == (505, 510, True)
    assert found["memory, idle"].met is False
    assert found["Describe calls, idle, 50 resources"].met is True


def test_rows_of_many_bookings() -> None:
    scale = Scale(rss_mib=270, reconciled_seconds=12)
    found = named(Results(scale=scale))
    assert found["memory, 50,000 bookings"].met is True
    assert found["cold start, 10,000 bookings, to all reconciled"].met is False


def test_rows_of_the_plugin() -> None:
    found = named(Results(plugin=Plugin(0.07, 0.2, 0.08, 0.2, 1.0)))
    assert found["kubectl booking --help"].met is True
    assert found["kubectl booking, a usage error"].met is False
    assert found["kubectl booking, completion of a name"].met is False


def test_rows_of_the_board() -> None:
    found = named(Results(board=Board(view_seconds=0.9, update_seconds=0.4)))
    assert found["board, first view, 5,000 bookings"].met is True
    assert found["board, update after a watch event"].met is False


def test_one_missing_start_among_many_makes_the_run_void() -> None:
    groups = {"web": ["i-1", "i-2"]}
    only = [Arrival("StartInstances", NINE, 200, ("i-1",))]
    results = Results({("bulk", "operator"): Trial("eu-west-1", groups, at_once(["web"], NINE), only)})
    assert rows(results)[0].ours == math.inf
    assert faults(results) == ["bulk: some instances were not started before the timeout"]
