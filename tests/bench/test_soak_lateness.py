"""Lateness of boundaries of groups that have many boundaries, and calls that should not have arrived."""

from datetime import UTC, datetime, timedelta

from bench.soak.faults import CUT, Fault
from bench.soak.fleet import Boundary
from bench.soak.lateness import Kept, kept, strays
from bench.windows import Arrival, Power

NINE = datetime(2026, 1, 1, 9, tzinfo=UTC)
GROUPS = {"web": ["i-1", "i-2"], "db": ["i-3"]}


def at(seconds: float) -> datetime:
    return NINE + timedelta(seconds=seconds)


def due(seconds: float, action: Power, tag: str = "web", *, foreseen: bool = True) -> Boundary:
    return Boundary(tag, action, at(seconds), foreseen)


def arrival(seconds: float, action: Power, *ids: str, status: int = 200) -> Arrival:
    return Arrival(action, at(seconds), status, ids)


DUE = [
    due(0, "StartInstances"),
    due(60, "StopInstances"),
    due(120, "StartInstances"),
    due(180, "StopInstances", foreseen=False),
]


def late(*arrivals: Arrival) -> list[float | None]:
    return [item.late for item in kept(DUE, GROUPS, arrivals, (), NINE)]


def test_each_boundary_has_its_own_call() -> None:
    found = late(
        arrival(0.25, "StartInstances", "i-1", "i-2"),
        arrival(60.5, "StopInstances", "i-1"),
        arrival(61, "StopInstances", "i-2"),
        arrival(121, "StartInstances", "i-3", "i-2"),
        arrival(182, "StopInstances", "i-1"),
    )
    assert found == [0.25, 0.5, 1, 2]


def test_a_call_after_the_next_boundary_does_not_count() -> None:
    refused = arrival(1, "StartInstances", "i-1", status=503)
    assert late(refused, arrival(130, "StartInstances", "i-1")) == [None, None, 10, None]


def test_lateness_of_an_early_call_is_negative() -> None:
    assert late(arrival(59, "StopInstances", "i-1"))[1] == -1


def test_faults_and_unforeseen_boundaries_are_recorded() -> None:
    fault = Fault(CUT, at(50), at(55))
    found = kept(DUE, GROUPS, (), [fault, Fault(CUT, at(118), at(123))], at(-10))
    assert found == [
        Kept(10, "StartInstances", None, foreseen=True, disturbed=False),
        Kept(70, "StopInstances", None, foreseen=True, disturbed=False),
        Kept(130, "StartInstances", None, foreseen=True, disturbed=True),
        Kept(190, "StopInstances", None, foreseen=False, disturbed=False),
    ]


def test_stops_inside_and_starts_outside_a_booking_are_strays_even_if_refused() -> None:
    found = strays(
        DUE,
        GROUPS,
        [
            arrival(-5, "StopInstances", "i-1"),
            arrival(1, "StartInstances", "i-1"),
            arrival(30, "StopInstances", "i-2", status=503),
            arrival(60.3, "StartInstances", "i-1"),
            arrival(90, "StartInstances", "i-1", "i-2"),
            arrival(100, "StopInstances", "i-3", "i-9"),
            arrival(300, "StartInstances", "i-1"),
        ],
        at(200),
    )
    assert [text.split(" at ")[0] for text in found] == ["StopInstances for web", "StartInstances for web"]
