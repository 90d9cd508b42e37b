"""The table of docs/reliability.md, which `tox -e chaos -- --table` writes."""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.faults import FAULTS, Fault

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
_MARKED = re.compile(f"{_BEGIN}\n(.*){_END}", re.DOTALL)
_HEAD = ("fault", "times", "boundaries", "kept", "latest start", "latest stop", "latest edit", "lost")


def written(page: str, results: Mapping[str, Mapping[str, Any]], seed: int) -> str:
    """The page with a table of these results, by name of the fault, in place of the old table."""
    lines = [_line(fault, results[fault.name]) for fault in FAULTS]
    scores = [results[fault.name]["score"] for fault in FAULTS]
    whole = [
        "all",
        sum(results[fault.name]["times"] for fault in FAULTS),
        sum(score["boundaries"] for score in scores),
        sum(score["kept"] for score in scores),
        *(_seconds(max(score[kind] for score in scores)) for kind in ("start", "stop", "edit")),
        sum(len(score["lost"]) for score in scores),
    ]
    violations = sum(len(score["violations"]) for score in scores)
    summary = (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores with Python "
        f"{platform.python_version()}, `CHAOS_SEED={seed}`. "
        f"Stops inside a booking, and starts outside of any: {violations}."
    )
    table = [_cells(_HEAD), _cells(["---"] * len(_HEAD)), *lines, _cells(whole)]
    return _MARKED.sub(lambda _: "\n".join([_BEGIN, summary, "", *table, _END]), page)


def rows(page: str) -> Sequence[str]:
    """The first cells of the table in a page."""
    marked = _MARKED.search(page)
    assert marked is not None
    cells = [
        line.split(" | ")[0].removeprefix("| ") for line in marked[1].splitlines() if line.startswith("| ")
    ]
    return cells[2:-1]


def name(fault: Fault) -> str:
    """The first cell of a row."""
    return f"**{fault.name}**: {fault.description}"


def _line(fault: Fault, result: Mapping[str, Any]) -> str:
    score = result["score"]
    lateness = [_seconds(score[kind]) for kind in ("start", "stop", "edit")]
    return _cells(
        [name(fault), result["times"], score["boundaries"], score["kept"], *lateness, len(score["lost"])]
    )


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _cells(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"
