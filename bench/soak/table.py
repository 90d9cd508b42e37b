"""The verdict of a run as a table, for a terminal and for a page. Pure."""

import re
from collections.abc import Sequence

from bench.soak.run import Record
from bench.soak.verdict import Finding
from bench.windows import quantile

_BEGIN, _END = "<!-- soak: begin -->", "<!-- soak: end -->"
_HEADINGS = ("", "found", "allowed", "met")
_MIB, _SECOND = "MiB", "s"


def shown(record: Record, findings: Sequence[Finding]) -> str:
    """The table as text for a terminal."""
    cells = [_HEADINGS, *(_cells(finding) for finding in findings)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
    ]
    return "\n".join([*summary(record), "", *lines])


def folded(page: str, record: Record, findings: Sequence[Finding]) -> str:
    """A Markdown page with a new summary and table between its two marks.

    Raises:
        ValueError: the page does not have both marks exactly once.
    """
    rows = [_HEADINGS, ("---", "---", "---", "---"), *(_cells(finding) for finding in findings)]
    table = [f"| {' | '.join(row)} |" for row in rows]
    body = "\n".join([_BEGIN, *summary(record), "", *table, _END])
    found, n = re.subn(f"{_BEGIN}.*{_END}", lambda _: body, page, flags=re.DOTALL)
    if n != 1:
        raise ValueError(f"the page must have {_BEGIN} and {_END}, once")
    return found


def summary(record: Record) -> list[str]:
    """A summary of the run in three lines."""
    first, last = record.samples[0], record.samples[-1]
    calm = [
        item.late
        for item in record.boundaries
        if item.foreseen and not item.disturbed and item.late is not None
    ]
    span, most = last.seconds - first.seconds, max(sample.rss_mib for sample in record.samples)
    cpu = (last.cpu_seconds - first.cpu_seconds) / span
    did = (
        f"{len(record.boundaries):,} boundaries",
        f"{last.reconciles - first.reconciles:,.0f} reconciles",
        f"{last.aws_calls - first.aws_calls:,.0f} AWS calls",
        f"{record.notifications:,} notifications",
        f"{len(record.faults)} faults",
        f"{last.terms:.0f} terms of leadership",
    )
    rss = f"{first.rss_mib:.1f} MiB at first, {last.rss_mib:.1f} at last, {most:.1f} at most"
    late = f"median {1000 * quantile(calm, 0.5):.1f} ms, p99 {1000 * quantile(calm, 0.99):.1f} ms"
    return [
        f"{record.seconds / 60:.0f} minutes, {record.machine}, {last.objects:,.0f} objects all the time:",
        f"{', '.join(did)}.",
        f"Memory {rss}; {cpu:.0%} of a core. Lateness without faults: {late}.",
    ]


def _cells(finding: Finding) -> tuple[str, ...]:
    return (
        finding.name,
        _amount(finding.found, finding.unit),
        f"<= {_amount(finding.allowed, finding.unit)}",
        "yes" if finding.met else "no",
    )


def _amount(value: float, unit: str) -> str:
    if unit == _SECOND:
        return f"{value * 1000:,.1f} ms" if abs(value) < 1 else f"{value:.1f} s"
    return f"{value:.2f} MiB" if unit == _MIB else f"{value:.1f}"
