"""Documentation and queries name the values of labels that the code produces, and no others."""

import json
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from booking_operator.cloud.driver import Fault
from booking_operator.cloud.metrics import Part
from booking_operator.engine.metrics import Outcome
from booking_operator.engine.reflector import Restart
from booking_operator.web import catalogue
from booking_operator.web.catalogue import CATALOGUE, Family
from booking_operator.web.census import CONDITIONS
from booking_operator.web.metrics import Metrics
from tests.support.promql import MONITORING, parts, rules

ENUMS: tuple[type[Enum], ...] = (Outcome, Restart, Fault, Part)
NO_LISTS = {catalogue.WATCH_HEARD, catalogue.CLOCK_SKEW}
"""Their texts enumerate something else than the values of a label."""


def values(enum: type[Enum]) -> set[str]:
    return {str(member.value) for member in enum}


def notified() -> set[str]:
    metrics = Metrics()
    for sent in (True, False):
        metrics.notified("mail", sent)
    found = {metric.name: metric.samples for metric in metrics.registry.collect()}
    return {sample.labels["result"] for sample in found[catalogue.NOTIFICATIONS.name.removesuffix("_total")]}


PRODUCED: dict[tuple[Family, str], set[str]] = {
    (catalogue.RECONCILES, "result"): values(Outcome),
    (catalogue.WATCH_RESTARTS, "reason"): values(Restart),
    (catalogue.AWS_CALLS, "result"): {"ok"} | values(Fault),
    (catalogue.UNEXPECTED, "part"): values(Part),
    (catalogue.NOTIFICATIONS, "result"): notified(),
    (catalogue.RESOURCES, "condition"): set(CONDITIONS),
}


def listed(text: str) -> set[str]:
    """The single words of the list in a text: behind a colon, or in parentheses."""
    found = re.search(r"[:(] (.*)\.$|\((.*)\)", text)
    assert found is not None, text
    return {item for item in re.split(r", | or ", found[1] or found[2]) if " " not in item}


@pytest.mark.parametrize(("family", "label"), PRODUCED, ids=lambda part: getattr(part, "name", part))
def test_the_documented_values_of_a_label_are_those_that_the_code_produces(
    family: Family, label: str
) -> None:
    assert label in family.labels
    assert listed(family.text) == PRODUCED[family, label]


def test_each_text_that_lists_values_is_held_against_the_code() -> None:
    lists = {family for family in CATALOGUE if family.labels and re.search(r": |\(", family.text)}
    assert lists - NO_LISTS == {family for family, _ in PRODUCED}


@pytest.mark.parametrize("code", ["200", "error", "other"])
def test_a_request_to_the_api_server_has_a_status_or_one_of_two_documented_words(code: str) -> None:
    metrics, answer = Metrics(), {"other": "999"}.get(code, code)
    metrics.requested("GET", answer, 0.1)
    family = catalogue.KUBE_REQUESTS
    assert metrics.registry.get_sample_value(family.name, {"verb": "GET", "code": code}) == 1
    assert code.isdecimal() or f"or {code} where" in family.text


@pytest.mark.parametrize("enum", ENUMS)
def test_each_value_is_used_somewhere(enum: type[Enum]) -> None:
    code = "\n".join(path.read_text() for path in Path("booking_operator").rglob("*.py"))
    assert [member.name for member in enum if f"{enum.__name__}.{member.name}" not in code] == []


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    dashboard: dict[str, Any] = json.loads(Path(MONITORING, "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            plain = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "6h")
            yield plain.replace("$namespace", "ns").replace("$job", "job")


def test_the_queries_ask_for_values_that_the_code_produces() -> None:
    families = {sample: family for family in CATALOGUE for sample in family.samples}
    asked = {
        (families[part.name], matcher.name, value)
        for query in queries()
        for part in parts(promql_parser.parse(query))
        if isinstance(part, promql_parser.VectorSelector) and part.name in families
        for matcher in part.matchers.matchers
        for value in matcher.value.split("|")
    }
    known = [(family, label, value) for family, label, value in asked if (family, label) in PRODUCED]
    assert known
    assert [item for item in known if item[2] not in PRODUCED[item[:2]]] == []
