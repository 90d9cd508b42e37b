"""The score of the chaos tests detects lost boundaries and violations."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.chaos.faults import FAULTS
from tests.chaos.layout import TAGS, layout
from tests.chaos.ledger import GRACE, Boundary, Ledger
from tests.chaos.score import Bound, Score, score
from tests.chaos.table import PAGE, name, rows, written

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
IDS = {"web": ["i-1", "i-2"]}
BOUND = Bound(booked=1, edited=10)


def t(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


@dataclass(frozen=True)
class FakeCall:
    action: str
    at: datetime
    instance_ids: tuple[str, ...] = ("i-1", "i-2")
    status: int = 200


def start(at: float, *ids: str) -> FakeCall:
    return FakeCall("StartInstances", t(at), ids or ("i-1", "i-2"))


def stop(at: float) -> FakeCall:
    return FakeCall("StopInstances", t(at))


def booked(*spans: tuple[float, float], at: float = 0) -> Ledger:
    ledger = Ledger()
    for number, (begin, end) in enumerate(spans):
        ledger.made("web", f"b{number}", t(begin), t(end), t(at))
    return ledger


def judged(ledger: Ledger, *calls: FakeCall) -> Score:
    return score(ledger, IDS, calls, BOUND)


def test_boundaries_are_those_of_the_union_of_all_bookings() -> None:
    ledger = booked((10, 20), (20, 30), (12, 14), (50, 60))
    assert [(item.at, item.action[:4]) for item in ledger.boundaries("web")] == [
        (t(10), "Star"),
        (t(30), "Stop"),
        (t(50), "Star"),
        (t(60), "Stop"),
    ]


def test_an_edit_in_a_booking_is_an_edited_boundary() -> None:
    ledger = booked((10, 60))
    ledger.gone("b0", t(30))
    assert ledger.boundaries("web")[-1] == Boundary(t(30), "web", "StopInstances", edited=True)


def test_an_extended_booking_ends_at_its_new_end() -> None:
    ledger = booked((10, 20))
    ledger.made("web", "b0", t(10), t(30), t(15))
    assert [item.at for item in ledger.boundaries("web")] == [t(10), t(30)]


def test_a_restore_brings_earlier_bookings_back() -> None:
    ledger = booked((10, 100))
    ledger.gone("b0", t(20))
    ledger.made("web", "later", t(150), t(160), t(21))
    ledger.rolled_back(t(5), t(40))
    assert [item.at for item in ledger.boundaries("web")] == [t(10), t(20), t(40), t(100)]
    assert [item.name for item in ledger.present()] == ["b0"]


def test_a_deletion_that_a_restore_reverts_within_the_deletion_grace_is_no_boundary() -> None:
    for seconds, due in ((GRACE.total_seconds() - 1, [t(10), t(60)]), (9, [t(10), t(20), t(29), t(60)])):
        ledger = booked((10, 60))
        ledger.gone("b0", t(20))
        ledger.rolled_back(t(5), t(20 + seconds))
        assert [item.at for item in ledger.boundaries("web")] == due
    ledger = booked((10, 60))
    ledger.gone("b0", t(10.5))
    ledger.rolled_back(t(5), t(12))
    assert [item.at for item in ledger.boundaries("web")] == [t(10), t(60)]


def test_stale_data_keeps_instances_running_and_starts_none() -> None:
    ledger = booked((10, 100), (200, 300))
    ledger.doubted(t(50), t(70))
    assert [item.at for item in ledger.boundaries("web")] == [t(10), t(70)]
    assert ledger.present() == []


def test_only_actions_within_their_bound_are_kept() -> None:
    found = judged(booked((10, 20)), start(10.1), stop(22))
    assert (found.boundaries, found.kept, found.lost, found.violations) == (2, 1, [], [])
    assert (found.start, found.stop) == (0.1, 2.0)


def test_a_boundary_without_a_call_for_each_instance_is_lost() -> None:
    found = judged(booked((10, 20)), start(10, "i-1"))
    assert len(found.lost) == 2


def test_a_refused_call_does_not_count() -> None:
    refused = FakeCall("StartInstances", t(10), status=503)
    assert len(judged(booked((10, 20)), refused, stop(20)).lost) == 1


def test_a_stop_inside_and_a_start_outside_are_violations() -> None:
    found = judged(booked((10, 20)), start(5), start(10), stop(15), stop(20), start(30))
    assert [text.split()[0] for text in found.violations] == [
        "StartInstances",
        "StopInstances",
        "StartInstances",
    ]


def test_a_call_in_flight_at_a_boundary_is_no_violation() -> None:
    assert judged(booked((10, 20), (21, 30)), stop(21.2)).violations == []
    assert judged(booked((10, 20)), start(20.2)).violations == []


def test_a_call_for_bookings_that_were_gone_for_a_moment_is_no_violation() -> None:
    ledger = booked((10, 60))
    ledger.doubted(t(20), t(21))
    ledger.made("web", "b0", t(10), t(60), t(21.3))
    assert judged(ledger, stop(21.4)).violations == []
    assert judged(ledger, stop(21.7)).violations == []
    assert len(judged(ledger, stop(22)).violations) == 1


def test_a_round_has_boundaries_during_and_after_the_fault_and_by_edits() -> None:
    for dead in (False, True):
        plan = layout(random.Random(1), "0", EPOCH, 5, 8, dead=dead)
        ends = [instant for span in plan.spans for instant in (span.start, span.end)]
        assert sum(EPOCH <= instant < t(5) for instant in ends) >= 6
        assert sum(t(5) <= instant < t(6) for instant in ends) >= 3
        assert {span.tag for span in plan.spans} | {edit.span.tag for edit in plan.edits} == set(TAGS)
        assert max(ends) < plan.over
        assert all(span.start < span.end for span in plan.spans)


def test_the_table_has_a_row_for_each_fault() -> None:
    assert rows(PAGE.read_text()) == [name(fault) for fault in FAULTS]


def test_the_table_is_written_between_its_marks() -> None:
    one = {"times": 2, "score": {"boundaries": 9, "kept": 8, "start": 0.0123, "stop": 2, "edit": 0}}
    one["score"] |= {"lost": [], "violations": []}  # type: ignore[operator]
    before = PAGE.read_text()
    after = written(before, {fault.name: one for fault in FAULTS}, 7)
    assert rows(after) == [name(fault) for fault in FAULTS]
    assert "| 2 | 9 | 8 | 12 ms | 2.0 s | 0 ms | 0 |" in after
    assert f"| {len(FAULTS) * 9} | {len(FAULTS) * 8} |" in after
    assert after.startswith(before.split("<!-- chaos")[0])
