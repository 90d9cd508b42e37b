"""The verdict of a soak: a flat run passes; leaks, drift, lost boundaries and stray calls are found."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bench.soak.gauges import EVERY_SECONDS, Sample
from bench.soak.lateness import Kept
from bench.soak.verdict import FEW, Finding, growth, judged, second_half, slope

HOUR = 3600.0
FLAT = Sample(
    seconds=0,
    rss_mib=120,
    uss_mib=100,
    cpu_seconds=0,
    tasks=42,
    fds=40,
    threads=2,
    objects=1200,
    keys=2300,
    depth=0,
    series=900,
    aws_calls=0,
    reconciles=0,
    terms=1,
)


def samples(change: Callable[[float], dict[str, Any]] = lambda _: {}) -> list[Sample]:
    """An hour of noisy samples. `change` maps the elapsed share of the hour to values to add to fields."""
    chance = random.Random(1)
    found = []
    for number in range(int(HOUR / EVERY_SECONDS) + 1):
        at = number * EVERY_SECONDS
        noisy = replace(
            FLAT,
            seconds=at,
            aws_calls=at,
            cpu_seconds=at / 20,
            rss_mib=FLAT.rss_mib + chance.gauss(0, 0.5),
            tasks=FLAT.tasks + chance.randint(-3, 10),
            fds=FLAT.fds + chance.randint(-5, 5),
            objects=FLAT.objects + chance.randint(-10, 10),
            keys=FLAT.keys + chance.randint(-20, 20),
        )
        more = change(at / HOUR)
        found.append(replace(noisy, **{name: getattr(noisy, name) + value for name, value in more.items()}))
    return found


def boundaries(late: Callable[[float], float | None] = lambda _: 0.0, **fields: Any) -> list[Kept]:
    """A thousand boundaries in an hour, some ms late. `late` adds a delay by the elapsed share."""
    chance = random.Random(2)
    found = []
    for number in range(1000):
        more, at = late(number / 1000), number / 1000 * HOUR
        usual = Kept(at, "StartInstances", chance.uniform(0.003, 0.012), foreseen=True, disturbed=False)
        found.append(replace(usual, late=None if more is None else (usual.late or 0) + more, **fields))
    return found


def missed(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings if not finding.met}


def test_a_flat_run_passes() -> None:
    assert missed(judged(samples(), boundaries())) == set()


@pytest.mark.parametrize(
    ("field", "name", "leak"),
    [
        ("rss_mib", "memory (RSS)", 2.0),
        ("tasks", "tasks", 3 * FEW),
        ("fds", "file descriptors", 3 * FEW),
        ("threads", "threads", 3 * FEW),
        ("keys", "keys of work queues", 60),
        ("objects", "objects in caches", 40),
        ("series", "series of metrics", 30),
    ],
)
def test_a_steady_leak_is_found(field: str, name: str, leak: float) -> None:
    leaking = samples(lambda share: {field: leak * share})
    assert missed(judged(leaking, boundaries())) == {f"{name}, growth in the second half"}


@pytest.mark.parametrize(("field", "name"), [("aws_calls", "AWS calls"), ("cpu_seconds", "CPU time")])
def test_growing_effort_is_found(field: str, name: str) -> None:
    dearer = samples(lambda share: {field: 3 * HOUR * share * share})
    assert missed(judged(dearer, boundaries())) == {f"{name}, last quarter by first"}


def test_a_leak_in_steps_is_found() -> None:
    arenas = samples(lambda share: {"rss_mib": 4 * int(share * 6)})
    assert missed(judged(arenas, boundaries())) == {"memory (RSS), growth in the second half"}


def test_a_leak_with_each_leadership_is_found() -> None:
    def terms(mib: float) -> list[Sample]:
        return samples(
            lambda share: {"terms": min(6, int(share * 12)), "rss_mib": mib * min(6, int(share * 12))}
        )

    assert missed(judged(terms(0.3), boundaries())) == set()
    assert missed(judged(terms(2.0), boundaries())) == {"memory (RSS), growth with each term"}


def test_growth_during_the_warm_up_passes() -> None:
    warming = samples(lambda share: {"rss_mib": 20 * min(1.0, 3 * share), "fds": 30 if share > 0.2 else 0})
    assert missed(judged(warming, boundaries())) == set()


def test_short_peaks_pass() -> None:
    peaks = samples(
        lambda share: {"rss_mib": 9 if share * 100 % 8 < 1 else 0, "tasks": 40 if 0.7 < share < 0.73 else 0}
    )
    assert missed(judged(peaks, boundaries())) == set()


def test_growing_lateness_is_found() -> None:
    assert missed(judged(samples(), boundaries(lambda share: 0.4 * share))) == {
        "lateness in the last quarter, median",
        "lateness in the last quarter, p99",
    }


def test_growth_of_the_p99_alone_is_found() -> None:
    spiky = boundaries(lambda share: 0.3 if share > 0.8 and share * 1000 % 40 < 1 else 0.0)
    assert missed(judged(samples(), spiky)) == {"lateness in the last quarter, p99"}


@pytest.mark.parametrize("fields", [{"disturbed": True}, {"foreseen": False}])
def test_lateness_because_of_faults_or_users_is_not_drift(fields: dict[str, Any]) -> None:
    hit = boundaries(lambda share: 5.0 * share, **fields)
    assert missed(judged(samples(), boundaries() + hit)) == set()


def test_lost_early_stray_and_very_late_calls_are_found() -> None:
    def hit(late: float | None) -> list[Kept]:
        return [Kept(HOUR / 2, "StopInstances", late, foreseen=True, disturbed=True)]

    for kept, name in (
        (hit(None), "boundaries that were not kept"),
        (hit(-0.01), "earliest call before its boundary"),
        (hit(61), "latest call after its boundary, faults included"),
    ):
        assert missed(judged(samples(), boundaries() + kept)) == {name}
    assert missed(judged(samples(), boundaries(), ["StopInstances for web"])) == {
        "starts outside of bookings, stops inside"
    }
    assert missed(judged(samples(), boundaries(), errors={"reconcile_failed": 1})) == {
        "errors in the operator's log"
    }


def test_outliers_hardly_change_the_slope() -> None:
    line = [(float(x), 3.0 * x + 1) for x in range(100)]
    wild = [(x, y if x % 5 else 1e6) for x, y in line]
    assert slope(line) == pytest.approx(3)
    assert slope(wild) == pytest.approx(3, rel=0.05)
    assert growth(line) == pytest.approx(3 * 49)
    assert second_half(line)[0] == (50, 151)
    with pytest.raises(ValueError, match="no slope"):
        slope([(1.0, 1.0), (1.0, 2.0)])
