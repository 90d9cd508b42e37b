"""The report of a soak: samples from metrics, the table for terminal and page, and the record."""

import os
from pathlib import Path

import pytest

from bench.soak.faults import CUT, LOST, STORM
from bench.soak.fleet import CRONS, DATABASES, FATES, LENGTH, PERIOD, RESOURCES, SIZE
from bench.soak.gauges import EVERY_SECONDS, read
from bench.soak.run import Record
from bench.soak.table import folded, shown
from bench.soak.verdict import FEW, GROWN_MIB, LATEST_SECONDS, NOISE_SECONDS, SHARE, TERM_MIB, judged
from tests.bench.test_soak_verdict import boundaries, samples

ROOT = Path(__file__).parents[2]
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
    return Record("two cores", 3600, faults, samples(), boundaries(), notifications=7)


def test_a_sample_reads_the_process_and_its_metrics() -> None:
    found = read(5.0, METRICS, os.getpid())
    assert (found.seconds, found.cpu_seconds, found.tasks, found.terms) == (5, 3.5, 42, 2)
    assert (found.objects, found.keys, found.depth, found.series) == (15, 7, 0, 7)
    assert found.rss_mib > found.uss_mib > 5
    assert found.threads >= 1
    assert found.fds > 2


def test_terminal_and_page_report_the_same() -> None:
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


def test_a_page_without_marks_raises() -> None:
    whole = record()
    with pytest.raises(ValueError, match="soak: begin"):
        folded("# Soak\n", whole, judged(whole.samples, whole.boundaries))


def test_a_record_survives_write_and_read(tmp_path: Path) -> None:
    whole = record()
    whole.write(tmp_path / "soak.json")
    assert shown(Record.read(tmp_path / "soak.json"), []) == shown(whole, [])


def test_the_page_has_the_values_of_the_code() -> None:
    page = " ".join((ROOT / "docs" / "soak.md").read_text().split())
    assert (SIZE, CRONS, DATABASES, GROWN_MIB) == (2, 5, 3, 0.5)  # the page has these as words
    assert PERIOD == 2 * LENGTH
    _, *fates = FATES.values()
    for text in (
        f"has {RESOURCES} Resources of two instances",
        "five BookingSchedulers",
        "databases, three of them",
        "a booking of three minutes and then a pause of three",
        "{}, {}, {} and {} in a hundred".format(*fates),
        f"every {EVERY_SECONDS:.0f} seconds",
        f"for {STORM.lasts.seconds} s, the API server is cut off for {CUT.lasts.seconds} s",
        f"cut off for {LOST.lasts.seconds} s each time, so that the Lease is lost",
        f"half a MiB at most in the second half, which is 1 MiB an hour; and by {TERM_MIB:.0f} MiB with each",
        f"grow by {FEW:.0f} at most in the second half, or by {100 * SHARE:.0f} %",
        f"or {NOISE_SECONDS['median'] * 1000:.0f} and {NOISE_SECONDS['p99'] * 1000:.0f} ms",
        f"at most {LATEST_SECONDS:.0f} s late",
    ):
        assert text in page
    assert folded((ROOT / "docs" / "soak.md").read_text(), record(), [])
