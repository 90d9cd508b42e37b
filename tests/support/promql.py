"""The shipped alert rules, and the metrics and labels in their queries."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from booking_operator.observability.catalogue import CATALOGUE, MetricFamily

MONITORING = Path("manifests/monitoring")
TARGET = frozenset({"namespace", "job", "instance", "pod", "container", "service", "endpoint"})
"""The labels that the Prometheus operator adds to each series of a target."""
PROCESS = frozenset({"process_cpu_seconds_total", "process_resident_memory_bytes"})
"""The metrics of the Prometheus client library that the rules use."""


def spec() -> dict[str, Any]:
    """The rule file in the format of Prometheus, without the wrapper of the Prometheus operator."""
    found: dict[str, Any] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in spec()["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def series() -> dict[str, frozenset[str]]:
    """The labels of all known series, by name, including those of recording rules."""
    found = dict.fromkeys(PROCESS, frozenset[str]())
    for family in CATALOGUE:
        found |= dict.fromkeys(family.samples, _labels(family))
    return found | {rule["record"]: frozenset(rule["labels"]) for rule in rules() if "record" in rule}


def _labels(family: MetricFamily) -> frozenset[str]:
    return frozenset(family.labels) | ({"le"} if family.kind == "histogram" else frozenset())


def parts(query: Any) -> Iterator[Any]:
    """All subexpressions of a parsed query, and the query."""
    yield query
    match query:
        case promql_parser.MatrixSelector():
            yield query.vector_selector
        case promql_parser.BinaryExpr():
            yield from (*parts(query.lhs), *parts(query.rhs))
        case promql_parser.Call():
            for argument in query.args:
                yield from parts(argument)
        case promql_parser.AggregateExpr():
            yield from parts(query.expr)
            if query.param is not None:
                yield from parts(query.param)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from parts(query.expr)


def problems(query: str) -> list[str]:
    """Metrics and labels in a query that do not exist.

    Raises:
        ValueError: the query has a syntax error.
    """
    known, found = series(), []
    for part in parts(promql_parser.parse(query)):
        match part:
            case promql_parser.VectorSelector():
                if part.name not in known:
                    found.append(f"there is no {part.name}")
                    continue
                matched = {matcher.name for matcher in part.matchers.matchers}
                if unknown := matched - known[part.name] - TARGET:
                    found.append(f"{part.name} has no {', '.join(sorted(unknown))}")
            case promql_parser.AggregateExpr() if part.modifier is not None:
                found += _unknown(part.expr, part.modifier.labels, known)
            case promql_parser.BinaryExpr() if part.modifier is not None:
                matching = part.modifier.matching
                found += _unknown(part, matching.labels if matching is not None else [], known)
                found += _unknown(part, part.modifier.group_labels or [], known)
    return found


def _unknown(query: Any, labels: list[str], known: dict[str, frozenset[str]]) -> list[str]:
    """A problem for each of `labels` that no series in a part of a query has."""
    names = [part.name for part in parts(query) if isinstance(part, promql_parser.VectorSelector)]
    have = TARGET.union(*(known.get(name or "", frozenset()) for name in names))
    return [f"nothing in {names} has {label}" for label in labels if label not in have]
