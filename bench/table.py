"""The rows of the table, and their formatting. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Unit = Literal["s", "calls", "calls/h", "MiB"]
_HEADINGS = ("", "target", "Go operator", "baseline", "this operator", "ratio", "met")
_LONG_SECONDS = 10
_MANY = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. Smaller is better.

    Attributes:
        ours: the value of this operator; infinite if it was not reached before the timeout.
        target: the largest value that meets the target; None for a figure without a target.
        go: the value of the Go operator, measured on another occasion.
        baseline: the value of the poller in this run.
    """

    name: str
    unit: Unit
    ours: float
    target: float | None = None
    go: float | None = None
    baseline: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the value meets the target; None without a target."""
        return None if self.target is None else self.ours <= self.target

    @property
    def ratio(self) -> float | None:
        """The baseline divided by the value of this operator; None if there is no finite result."""
        known = self.baseline is not None and math.isfinite(self.baseline) and math.isfinite(self.ours)
        return self.baseline / self.ours if known and self.baseline is not None and self.ours > 0 else None


def shown(rows: Sequence[Row]) -> str:
    """The table as text for a terminal."""
    cells = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as JSON types. null stands for a value that was not reached before the timeout."""
    return [
        {name: _finite(value) for name, value in asdict(row).items()} | {"met": row.met, "ratio": row.ratio}
        for row in rows
    ]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        "" if row.target is None else f"<= {amount(row.target, row.unit)}",
        "" if row.go is None else amount(row.go, row.unit),
        "" if row.baseline is None else amount(row.baseline, row.unit),
        amount(row.ours, row.unit),
        "" if row.ratio is None else f"{row.ratio:,.3g}" if row.ratio < 100 else f"{row.ratio:,.0f}",
        _verdict(row),
    )


def _verdict(row: Row) -> str:
    if row.target is None:
        return ""
    if row.met:
        return "yes"
    if math.isinf(row.ours):
        return "no"
    over = row.ours / row.target
    return f"no, by {over - 1:.0%}" if over < _MANY else f"no, {over:,.1f} times the target"


def amount(value: float, unit: Unit) -> str:
    """A value with its unit, rounded for reading."""
    if math.isinf(value):
        return "not in time"
    if unit == "s":
        return f"{value:.1f} s" if abs(value) >= _LONG_SECONDS else f"{value * 1000:,.1f} ms"
    return f"{value:,.0f} {unit}"


def _finite(value: object) -> object:
    return None if isinstance(value, float) and math.isinf(value) else value
