"""The script of a soak: its density, its determinism, and a constant number of objects."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from bench.soak.faults import CUT, EVERY, LOST, STORM, TOKEN_LIVES, calendar
from bench.soak.fleet import CRONS, DENSITY, RESOURCES, Boundary, Deed, Script, script, standing
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE

NINE = datetime(2026, 1, 1, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)


@pytest.fixture(scope="module")
def hour() -> Script:
    return script(NINE, TEN, seed=8)


def of_teams(plan: Script) -> list[Boundary]:
    return [boundary for boundary in plan.boundaries if boundary.tag.startswith("team")]


def test_the_density_is_twenty_times_that_of_a_usual_busy_hour(hour: Script) -> None:
    cancelled = 0.1
    assert len(of_teams(hour)) == pytest.approx(RESOURCES * DENSITY * (1 - cancelled), rel=0.05)
    crons = len(hour.boundaries) - len(of_teams(hour))
    assert crons == pytest.approx(60 * CRONS, abs=2 * CRONS)
    assert len(hour.boundaries) > RESOURCES * DENSITY


def test_the_same_seed_gives_the_same_script(hour: Script) -> None:
    assert script(NINE, TEN, seed=8) == hour
    assert script(NINE, TEN, seed=9) != hour


def test_starts_and_stops_of_a_group_alternate_and_are_a_minute_apart(hour: Script) -> None:
    for tag in {boundary.tag for boundary in hour.boundaries}:
        due = [boundary for boundary in hour.boundaries if boundary.tag == tag]
        for one, next_ in pairwise(due):
            assert one.action != next_.action
            assert next_.due - one.due >= timedelta(seconds=60)


def test_the_number_of_bookings_is_constant(hour: Script) -> None:
    there = sum(deed.kind is BOOKING for deed in hour.standing)
    counts = []
    for deed in hour.deeds:
        if deed.kind is BOOKING:
            there += {"create": 1, "delete": -1}.get(deed.verb, 0)
            counts.append(there)
    half = len(counts) // 2
    assert max(counts) - min(counts) < 0.05 * min(counts)
    assert sum(counts[half:]) / (len(counts) - half) == pytest.approx(sum(counts[:half]) / half, rel=0.01)


def test_created_objects_are_deleted_and_names_are_unique(hour: Script) -> None:
    made = Counter((deed.kind, deed.name) for deed in (*hour.standing, *hour.deeds) if deed.verb == "create")
    gone = {(deed.kind, deed.name) for deed in hour.deeds if deed.verb == "delete"}
    changed = {(deed.kind, deed.name) for deed in hour.deeds if deed.verb == "patch"}
    assert set(made.values()) == {1}
    assert gone <= set(made)
    assert changed <= set(made)
    for kind, least in ((RESOURCE, 70), (BOOKING_SCHEDULER, 25), (BOOKING, 500)):
        assert sum(found is kind for found, _ in gone) > least


def test_edits_come_half_a_minute_before_the_boundary_that_they_change(hour: Script) -> None:
    stops = {boundary.tag: boundary for boundary in hour.boundaries if not boundary.foreseen}
    assert stops
    edits = [deed for deed in hour.deeds if deed.verb == "patch" and deed.kind is BOOKING]
    assert len(edits) > 100
    for deed in edits:
        assert datetime.fromisoformat(deed.spec["end_at"]) - deed.at >= timedelta(seconds=30)


def test_initial_objects_are_those_created_and_not_deleted_before() -> None:
    def deed(seconds: float, verb: str, name: str, **spec: str) -> Deed:
        return Deed(NINE + timedelta(seconds=seconds), verb, BOOKING, name, spec)  # type: ignore[arg-type]

    found = standing(
        [
            deed(-9, "create", "a", start="1", end="2"),
            deed(-8, "create", "b"),
            deed(-7, "patch", "a", end="3"),
            deed(-6, "delete", "b"),
            deed(5, "create", "c"),
        ],
        NINE,
    )
    assert found == [Deed(NINE, "create", BOOKING, "a", {"start": "1", "end": "3"})]


def test_faults_repeat_every_five_minutes_and_end_before_the_run() -> None:
    found = list(calendar(NINE, TEN))
    assert Counter(fault.kind for fault in found) == {STORM: 12, CUT: 12, LOST: 6}
    assert max(fault.end for fault in found if fault.kind is LOST) < NINE + timedelta(minutes=30)
    for one, next_ in pairwise(found):
        assert next_.begin > one.end + one.kind.after + timedelta(seconds=20)
    assert found[-1].end + found[-1].kind.after < TEN
    quarter = calendar(NINE, NINE + timedelta(minutes=15))
    assert [fault.kind for fault in quarter] == [STORM, CUT, LOST, STORM, CUT, STORM, CUT]
    assert TOKEN_LIVES == 2 * EVERY


def test_a_fault_affects_boundaries_during_it_and_for_some_time_after() -> None:
    *_, lost = (fault for fault in calendar(NINE, TEN) if fault.kind is LOST)
    seconds = timedelta(seconds=1)
    for at, hit in (
        (lost.begin - 3 * seconds, False),
        (lost.begin - seconds, True),
        (lost.end + LOST.after - seconds, True),
        (lost.end + LOST.after + seconds, False),
    ):
        assert lost.hits(at) is hit
