"""The output formats: tables for people; json, yaml, csv and names for programs."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from booking_operator.api.kinds import Kind
from booking_operator.api.meta import GROUP
from booking_operator.cli.kubectl.console import Console, Text, escape


def full_name(kind: Kind[Any], name: str) -> str:
    """Return the name of an object as kubectl prints it, like `booking.manager.kotaico.de/my-afternoon`."""
    return f"{kind.name.lower()}.{GROUP}/{name}"


def print_document(console: Console, output: str, value: Any) -> None:
    """Print a value as yaml or as json."""
    if output == "yaml":
        console.raw(yaml.safe_dump(value, sort_keys=False))
    else:
        console.raw(json.dumps(value, indent=4))


def print_object(console: Console, output: str, kind: Kind[Any], object_: Mapping[str, Any]) -> None:
    """Print an object for programs: as json, as yaml, or only its name."""
    if output == "name":
        console.out(full_name(kind, object_["metadata"]["name"]))
    else:
        print_document(console, output, dict(object_))


@dataclass(frozen=True)
class Table:
    """Rows for people, and the same rows for programs.

    Attributes:
        kind: the kind of the objects.
        head: the headings of the columns.
        rows: the cells of each row.
        wide: the number of columns at the end that only `-o wide` shows.
        fields: the names of the fields of each row, for json, yaml and csv.
        records: the fields of each row.
        namespaced: whether the first column is the namespace.
        objects: the objects of the rows, if a caller needs them.
    """

    kind: Kind[Any]
    head: Sequence[str]
    rows: Sequence[Sequence[Text]]
    fields: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    wide: int = 0
    namespaced: bool = False
    objects: Sequence[Any] = ()

    def shown(self, output: str) -> slice:
        """Return which columns an output format for people shows."""
        hidden = self.wide if output == "table" else 0
        return slice(0 if self.namespaced else 1, len(self.head) - hidden)


def emit(console: Console, output: str, table: Table) -> list[int]:
    """Print a table in an output format. Returns the widths of its columns, for a table for people."""
    if output in {"json", "yaml"}:
        print_document(console, output, [dict(record) for record in table.records])
    elif output == "csv":
        console.raw(as_csv(table.fields, table.records))
    elif output == "name":
        for record in table.records:
            console.out(full_name(table.kind, record["name"]))
    else:
        shown = table.shown(output)
        return console.table(table.head[shown], [row[shown] for row in table.rows])
    return []


def as_csv(fields: Sequence[str], records: Sequence[Mapping[str, Any]]) -> str:
    """Return records as CSV, with control characters escaped.

    A cell that a spreadsheet would take for a formula gets a quote in front.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    for record in records:
        writer.writerow([_harmless(record[field]) for field in fields])
    return text.getvalue()


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return escape(f"'{value}" if value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value)
