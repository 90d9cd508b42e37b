"""The view Usage: the report of a month as a table of texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from booking_operator.client.usage_report import HOURS_NOTE, GroupBy, UsageReport, amount_text
from booking_operator.client.view import Viewer
from booking_operator.domain.local_time import format_month
from booking_operator.domain.usage import month_after, month_before, month_of, to_second

_HEADINGS = {GroupBy.RESOURCE: "Resource", GroupBy.WHO: "User", GroupBy.NAMESPACE: "Namespace"}


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One row: its name, and the text of each cell."""

    name: str
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class UsageTable:
    """The whole view.

    Attributes:
        name: the caption: what the report counts, or that there is nothing to count.
        range: the month in words.
        previous: the month before, like `2026-10`.
        next: the month after; empty if it has not begun.
        columns: the headings.
        rows: the rows, the total last; none if nothing is recorded.
        note: what the reader must know of the amounts.
    """

    name: str
    range: str
    previous: str
    next: str
    columns: Sequence[str]
    rows: Sequence[UsageRow]
    note: str


def usage_table(found: UsageReport, month: str, viewer: Viewer) -> UsageTable:
    """Return the view of the report of a month like `2026-11`."""
    shown = (*found.rows, found.total) if found.rows else ()
    rows = [UsageRow(row.name, [amount_text(row, name) for name in found.columns]) for row in shown]
    columns = [_HEADINGS[found.group_by], *(name.capitalize() for name in found.columns)]
    following = "" if month == month_of(to_second(viewer.now)) else month_after(month)
    title = found.title(month, viewer.zone)
    return UsageTable(title, format_month(month), month_before(month), following, columns, rows, HOURS_NOTE)
