"""How a soak is told: samples from metrics, a table for terminal and page, and the record."""

import os
from pathlib import Path

import pytest

from bench.soak.gauges import read
from bench.soak.run import Record
from bench.soak.table import folded, shown
from bench.soak.verdict import judged
from tests.bench.test_soak_verdict import boundaries, samples

PAGE = "# Soak\n\n<!-- soak: begin -->\nold\n<!-- soak: end -->\n\nmore\n"
METRICS = """
process_cpu_seconds_total 3.5
booking_operator_asyncio_tasks 42.0
# HELP booking_operator_cache_objects Objects of the kind that are known.
booking_operator_cache_objects{kind="bookings"} 10.0
booking_operator_cache_objects{kind="resources"} 5.0
booking_operator_workqueue_keys{controller="booking"} 7.0
booking_operator_leader_transitions_total 2.0
"""


def record() -> Record:
    faults = [("API server cut off", 130.0, 135.0)]
    return Record("two cores", 3600, faults, samples(), boundaries(), told=7)


def test_a_sample_is_of_the_process_and_of_its_metrics() -> None:
    found = read(5.0, METRICS, os.getpid())
    assert (found.seconds, found.cpu_seconds, found.tasks, found.terms) == (5, 3.5, 42, 2)
    assert (found.objects, found.keys, found.depth, found.series) == (15, 7, 0, 7)
    assert found.rss_mib > found.uss_mib > 5
    assert found.threads >= 1
    assert found.fds > 2


def test_terminal_and_page_tell_the_same() -> None:
    whole = record()
    findings = judged(whole.samples, whole.boundaries, ["StopInstances for web"])
    text, page = shown(whole, findings), folded(PAGE, whole, findings)
    assert page.startswith("# Soak\n\n<!-- soak: begin -->\n60 minutes, two cores")
    assert page.endswith("<!-- soak: end -->\n\nmore\n")
    for finding in findings:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {finding.name} |"))
        (line,) = (line for line in text.splitlines() if line.startswith(f"{finding.name} "))
        assert row.endswith(" yes |") == line.endswith(" yes") == finding.met
        cells = row.strip("| ").split(" | ")
        assert " ".join(line.split()) == " ".join(cells)
    assert folded(page, whole, findings) == page


def test_a_page_without_marks_is_left_alone() -> None:
    whole = record()
    with pytest.raises(ValueError, match="soak: begin"):
        folded("# Soak\n", whole, judged(whole.samples, whole.boundaries))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = record()
    whole.write(tmp_path / "soak.json")
    assert shown(Record.read(tmp_path / "soak.json"), []) == shown(whole, [])
