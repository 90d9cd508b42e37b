"""The view Usage: the report of a month as a table of texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from booking_operator.client.usage_report import ReportRow, UsageReport, hours, share
from booking_operator.domain.local_time import format_month

NOTE = "Hours, not money. Disks, snapshots and commitments cost the same whether an instance runs or not."
AMOUNTS = ("capacity", "booked", "running", "unbooked", "missing", "unobserved")
"""The columns of a report, without the last one."""


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
    rows = [_row(row) for row in (*found.rows, found.total)] if found.rows else []
    columns = (found.group_by.value.capitalize(), *(name.capitalize() for name in AMOUNTS), "Saved")
    return UsageTable(f"Usage in {text} (months are UTC)", text, columns, rows, NOTE)


def _row(row: ReportRow) -> UsageRow:
    total = row.total
    saved = f"{hours(total.saved)} ({share(total.saved, total.capacity)})" if total.capacity else "0h"
    return UsageRow(row.name, [*(hours(getattr(total, name)) for name in AMOUNTS), saved])
