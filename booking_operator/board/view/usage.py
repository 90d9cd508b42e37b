"""The view Usage: the report of a month as a table of texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from booking_operator.client.usage_report import COLUMNS, HOURS_NOTE, UsageReport, amount_text
from booking_operator.domain.local_time import format_month


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One row: its name, and the text of each cell."""

    name: str
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class UsageTable:
    """The whole view.

    Attributes:
        name: the caption.
        month: the month in words.
        columns: the headings.
        rows: the rows, the total last; none if nothing is recorded.
        note: what the reader must know of the amounts.
    """

    name: str
    month: str
    columns: Sequence[str]
    rows: Sequence[UsageRow]
    note: str


def usage_table(found: UsageReport, month: str) -> UsageTable:
    """Return the view of the report of a month like `2026-11`."""
    text = format_month(month)
    shown = (*found.rows, found.total) if found.rows else ()
    rows = [UsageRow(row.name, [amount_text(row, name) for name in COLUMNS]) for row in shown]
    columns = [name.capitalize() for name in (found.group_by.value, *COLUMNS)]
    return UsageTable(f"Usage in {text} (months are UTC)", text, columns, rows, HOURS_NOTE)
