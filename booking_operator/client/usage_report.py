"""The usage report: sums of Usage objects by Resource, user or namespace, in hours, and in money with prices.

A pure function of the objects. Money exists only with prices: hourly list prices by size. Disks, snapshots
and commitments cost the same whether an instance runs or not, so they are no part of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

from booking_operator.api.meta import InvalidSpec
from booking_operator.api.usage import Usage, to_sums
from booking_operator.domain.local_time import format_day, format_month, format_time, zone_abbreviation
from booking_operator.domain.usage import UsageAmounts, UsageSums, to_instant

Prices = Mapping[str, Decimal]
"""The hourly list price of each size."""
COLUMNS = ("capacity", "booked", "running", "unbooked", "missing", "unobserved", "saved")
"""The amounts of a row, in the order in which people read them."""
HOURS_NOTE = (
    "Hours, not money. Disks, snapshots and commitments cost the same whether an instance runs or not."
)
"""What the reader of a report without prices must know."""
_MINUTE, _HOUR = 60, 3600
_FEW_HOURS = 10


class GroupBy(StrEnum):
    """By what the rows of a report are grouped."""

    RESOURCE = "resource"
    WHO = "who"
    NAMESPACE = "namespace"


@dataclass(slots=True)
class ReportRow:
    """One row of a report.

    Attributes:
        name: the Resource, the user or the namespace.
        namespace: the namespace; empty in a report by user over several namespaces.
        sizes: the sums by size, in instance-seconds. A report by user has only `running`.
    """

    name: str
    namespace: str
    sizes: dict[str, UsageAmounts] = field(default_factory=dict)

    @property
    def total(self) -> UsageAmounts:
        """The sums over all sizes."""
        return sum(self.sizes.values(), UsageAmounts())

    def add(self, size: str, amounts: UsageAmounts) -> None:
        """Add the sums of one size."""
        self.sizes[size] = self.sizes.get(size, UsageAmounts()) + amounts


@dataclass(frozen=True, slots=True)
class UsageReport:
    """A report.

    Attributes:
        group_by: by what the rows are grouped.
        rows: the rows by name.
        until: up to when all sums count (aware UTC); None if there are none.
    """

    group_by: GroupBy
    rows: Sequence[ReportRow]
    until: datetime | None

    @property
    def columns(self) -> Sequence[str]:
        """The amounts that the rows have, in the order in which people read them."""
        return ("running",) if self.group_by is GroupBy.WHO else COLUMNS

    def title(self, month: str, zone: ZoneInfo) -> str:
        """Return what the report counts, for a month like `2026-11` and a reader in a time zone."""
        if self.until is None:
            return f"No usage is recorded for {format_month(month)}"
        local = self.until.astimezone(zone)
        day = format_day(local).partition(" ")[2]
        until = f"{day} {format_time(local)} {zone_abbreviation(local)}"
        return f"{format_month(month)} until {until} (months are UTC). Baseline: always on."

    @property
    def total(self) -> ReportRow:
        """The sum of all rows."""
        total = ReportRow("TOTAL", "")
        for row in self.rows:
            for size, amounts in row.sizes.items():
                total.add(size, amounts)
        return total


UNBOOKED = "(unbooked)"
"""The row of a report by user that has the running time without a booking."""


def report(objects: Iterable[Usage], group_by: GroupBy) -> UsageReport:
    """Return the report of some Usage objects."""
    rows: dict[tuple[str, str], ReportRow] = {}
    untils = []
    for object_ in objects:
        sums, spec = to_sums(object_.status), object_.spec
        if sums is None or isinstance(spec, InvalidSpec):
            continue
        untils.append(sums.until)
        namespace = object_.metadata.namespace
        for name, size, amounts in _CONTRIBUTIONS[group_by](namespace, spec.resource_name, sums):
            key = ("" if group_by is GroupBy.WHO else namespace, name)
            rows.setdefault(key, ReportRow(name, key[0])).add(size, amounts)
    ordered = [rows[key] for key in sorted(rows)]
    return UsageReport(group_by, ordered, to_instant(max(untils)) if untils else None)


Contribution = tuple[str, str, UsageAmounts]
"""The name of a row, a size, and sums to add."""


def _by_resource(_: str, resource: str, sums: UsageSums) -> Iterator[Contribution]:
    for size, amounts in sums.sizes.items():
        yield resource, size, amounts


def _by_namespace(namespace: str, _: str, sums: UsageSums) -> Iterator[Contribution]:
    for size, amounts in sums.sizes.items():
        yield namespace, size, amounts


def _by_user(_: str, __: str, sums: UsageSums) -> Iterator[Contribution]:
    for (user, size), seconds in sums.charged.items():
        yield user, size, UsageAmounts(running=seconds)
    for size, amounts in sums.sizes.items():
        if amounts.unbooked:
            yield UNBOOKED, size, UsageAmounts(running=amounts.unbooked)


_CONTRIBUTIONS: dict[GroupBy, Callable[[str, str, UsageSums], Iterator[Contribution]]] = {
    GroupBy.RESOURCE: _by_resource,
    GroupBy.NAMESPACE: _by_namespace,
    GroupBy.WHO: _by_user,
}


def cost(row: ReportRow, prices: Prices) -> Decimal:
    """Return the list price of the running time of a row. Sizes without a price cost nothing."""
    zero = Decimal(0)
    return sum(
        (prices.get(size, zero) * amounts.running / _HOUR for size, amounts in row.sizes.items()), zero
    )


def amount_text(row: ReportRow, name: str) -> str:
    """Return one amount of `COLUMNS` as text: in hours, and the saved one also as a share of the capacity."""
    total = row.total
    seconds = getattr(total, name)
    if name == "saved" and total.capacity:
        return f"{hours(seconds)} ({share(seconds, total.capacity)})"
    return hours(seconds)


def hours(seconds: int) -> str:
    """Return instance-seconds in few digits: `1130h`, `2.5h`, `12m`, `48s`, `0h`."""
    exact = Decimal(seconds) / _HOUR
    if exact >= _FEW_HOURS:
        return f"{exact:.0f}h"
    if exact >= 1 or not seconds:
        return f"{exact:.1f}".removesuffix(".0") + "h"
    return f"{seconds // 60}m" if seconds >= _MINUTE else f"{seconds}s"


def share(part: int, whole: int) -> str:
    """Return a share in whole percent; empty if there is no whole."""
    return f"{Decimal(100 * part) / whole:.0f}%" if whole else ""
