"""The command `report`: the usage of a month."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from booking_operator.api.kinds import USAGE
from booking_operator.api.usage import Usage, month_selector
from booking_operator.cli.kubectl.console import Console, Text
from booking_operator.cli.kubectl.options import Options
from booking_operator.cli.kubectl.output import Table, emit
from booking_operator.cli.kubectl.session import open_session
from booking_operator.client import usage_report
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.usage_report import (
    HOURS_NOTE,
    GroupBy,
    Prices,
    ReportRow,
    UsageReport,
    amount_text,
    cost,
)
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.usage import AMOUNTS

_MONEY_NOTE = "List prices of the running time, without disks, snapshots, commitments and taxes."


async def report(options: Options, console: Console, *, month: str, group_by: str, prices: str) -> int:
    """Print the usage of a month."""
    rates = _read_prices(Path(prices)) if prices else None
    async with open_session(options, console) as session:
        objects: list[Usage] = await session.cluster.list_objects(
            USAGE, session.namespace, month_selector(month)
        )
        found, viewer = usage_report.report(objects, GroupBy(group_by)), session.viewer_named("")
        title = found.title(month, viewer.zone)
        if options.output == "table" and found.until is None:
            place = f"namespace {session.namespace}" if session.namespace else "all namespaces"
            console.note(f"{title} in {place}.")
            return ExitCode.DONE
        if options.output == "table":
            console.out(title)
        emit(console, options.output, _table(found, rates, namespaced=options.all_namespaces))
        if options.output == "table":
            console.note(HOURS_NOTE if rates is None else _MONEY_NOTE)
        if rates is not None and (unpriced := sorted(found.total.sizes.keys() - rates.keys())):
            names = ", ".join(size or "(unknown size)" for size in unpriced)
            console.note(f"warning: no price for {names}; these count as zero")
    return ExitCode.DONE


def _read_prices(path: Path) -> Prices:
    """Read hourly rates by size from a YAML file.

    Raises:
        CommandError: the file cannot be read, or a rate is not a number.
    """
    hint = "write a YAML file like `t3.large: 0.0832`, one line for each size"
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"--prices {path}: {error}", hint=hint, code=ExitCode.USAGE) from error
    if not isinstance(found, dict):
        raise CommandError(f"--prices {path} has no rates", hint=hint, code=ExitCode.USAGE)
    return {
        str(size): _rate(f"--prices {path}: the rate of {size}", rate, hint) for size, rate in found.items()
    }


def _rate(name: str, value: Any, hint: str) -> Decimal:
    try:
        rate = Decimal(str(value))
    except InvalidOperation:
        raise CommandError(f'{name}, "{value}", is not a number', hint=hint, code=ExitCode.USAGE) from None
    if not rate.is_finite() or rate < 0:
        raise CommandError(f'{name}, "{value}", is not zero or more', hint=hint, code=ExitCode.USAGE)
    return rate


_Cell = Callable[[ReportRow], Text]


def _table(found: UsageReport, prices: Prices | None, *, namespaced: bool) -> Table:
    columns: dict[str, _Cell] = {}
    if namespaced and found.group_by is GroupBy.RESOURCE:
        columns["NAMESPACE"] = lambda row: row.namespace
    columns[found.group_by.value.upper()] = lambda row: row.name
    columns |= {name.upper(): partial(amount_text, name=name) for name in found.columns}
    if prices is not None:
        columns["LIST PRICE"] = lambda row: f"{cost(row, prices):.2f}"
    rows = [[cell(row) for cell in columns.values()] for row in (*found.rows, found.total)]
    records = [_record(row, found, prices) for row in found.rows]
    fields = list(_record(found.total, found, prices))
    return Table(USAGE, tuple(columns), rows, fields, records, namespaced=True)


def _record(row: ReportRow, found: UsageReport, prices: Prices | None) -> dict[str, Any]:
    """Return a row for programs: amounts in instance-seconds."""
    total = row.total
    names = ("running",) if found.group_by is GroupBy.WHO else (*AMOUNTS, "saved")
    record: dict[str, Any] = {"name": row.name, "namespace": row.namespace or None}
    record |= {f"{name}_seconds": getattr(total, name) for name in names}
    if prices is not None:
        record["list_price"] = float(round(cost(row, prices), 2))
    return record | {"until": format_utc(found.until) if found.until else None}
