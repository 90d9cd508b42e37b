"""Alerts, runbook and the documentation of metrics say what exists, and all of it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from booking_operator.observability.catalogue import CATALOGUE, MetricFamily
from tests.support.promql import TARGET, alerts, problems, rules

RUNBOOK = Path("docs/runbook.md").read_text()
# https://prometheus.io/docs/prometheus/latest/configuration/template_reference/
TEMPLATE = re.compile(
    r"\{\{ (?:\$labels\.(?P<label>\w+)|\$value)(?: \| humanize(?:Percentage|Duration)?)? \}\}"
)
ANY_TEMPLATE = re.compile(r"\{\{.*?\}\}")


def name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


@pytest.mark.parametrize("rule", rules(), ids=name)
def test_each_query_parses_and_speaks_of_what_exists(rule: dict[str, Any]) -> None:
    assert problems(rule["expr"]) == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("booking_operator_leaders", "there is no booking_operator_leaders"),
        ('booking_operator_leader{kind="x"}', "booking_operator_leader has no kind"),
        ("rate(booking_operator_start_lateness_seconds[5m])", "there is no booking_operator_start_lat"),
        ("sum by (le) (rate(booking_operator_start_lateness_seconds_bucket[5m]))", ""),
        ("sum by (kind) (booking_operator_leader)", "nothing in ['booking_operator_leader'] has kind"),
        ("booking_operator_leader / on (kind) booking_operator_leader", "has kind"),
        ("(-sum(max_over_time(nothing[5m:1m])))", "there is no nothing"),
    ],
)
def test_a_query_that_speaks_of_what_does_not_exist_is_found(query: str, problem: str) -> None:
    assert any(problem in found for found in problems(query)) if problem else problems(query) == []


def test_a_query_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        problems("sum by (x")


@pytest.mark.parametrize("alert", alerts(), ids=name)
def test_each_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["alert"].startswith("BookingOperator")
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert re.fullmatch(r"\d+m", alert["for"])
    notes = alert["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
    for text in (notes["summary"], notes["description"]):
        assert text.endswith(".")
        for template in ANY_TEMPLATE.findall(text):
            found = TEMPLATE.fullmatch(template)
            assert found, template
            label = found["label"]
            # A label that is asked for must be left by the query's aggregation.
            assert label is None or _keeps(alert["expr"], label), template


def _keeps(query: str, label: str) -> bool:
    grouped = re.findall(r"\bby \(([\w, ]*)\)", query)
    if query.startswith("booking_operator:"):
        return label == "action"
    return any(label in re.split(r", ?", labels) for labels in grouped) if grouped else True


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == [alert["alert"] for alert in alerts()]
    for section in re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]:
        bold = re.findall(r"^\*\*([\w ]+)\.\*\*", section, re.MULTILINE)
        assert bold == ["Means", "Users feel", "Look", "Do"], section.partition("\n")[0]


def test_the_lease_alone_is_written_by_put() -> None:
    """So that a rule may take PUT for leader election."""
    roles = [yaml.safe_load(path.read_text()) for path in Path("manifests/rbac").glob("*role.yaml")]
    updated = {
        resource
        for role in roles
        for rule in role["rules"]
        if "update" in rule["verbs"]
        for resource in rule["resources"]
    }
    assert updated == {"leases"}


def test_labels_of_ours_are_not_taken_for_those_of_the_target() -> None:
    clash = {label for family in CATALOGUE for label in family.labels} & TARGET
    assert clash == {"service"}
    monitor = yaml.safe_load(Path("manifests/components/servicemonitor/service_monitor.yaml").read_text())
    assert all(endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"])


def test_links_within_the_runbook_lead_somewhere() -> None:
    anchors = {section.lower() for section in re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors


def test_what_the_runbook_calls_a_log_event_is_one() -> None:
    logged = set(re.findall(r"`([a-z]+_[a-z_]+)`", RUNBOOK))
    logged -= {family.name for family in CATALOGUE} | {"warm_up", "runbook_url"}
    code = "\n".join(path.read_text() for path in Path("booking_operator").rglob("*.py"))
    for event in logged:
        pattern = re.sub(r"_(start|stop)_", "_{[a-z_.]+}_", event)
        assert re.search(f'"{event}"|f"{pattern}"', code), event


@pytest.mark.parametrize("family", CATALOGUE, ids=lambda family: family.name)
def test_names_are_prometheus_own(family: MetricFamily) -> None:
    """As `promtool check metrics` has it, and https://prometheus.io/docs/practices/naming/."""
    assert re.fullmatch(r"booking_operator_[a-z]+(_[a-z]+)*", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert not re.search(
        r"_(milliseconds|ms|minutes|hours|kilobytes|percent|count|sum|bucket)(_|$)", family.name
    )
    assert family.text.endswith(".")
    assert not {"namespace", "name", "tag", "user", "id", "instance", "pod", "job"} & set(family.labels)
    if "duration" in family.name or "latency" in family.name or "lateness" in family.name:
        assert "_seconds" in family.name
    assert list(family.buckets) == sorted(set(family.buckets))
    assert bool(family.buckets) == (family.kind == "histogram")


def test_the_documentation_lists_the_metrics_as_they_are() -> None:
    rows = re.findall(
        r"^\| `(booking_operator_\w+)` \| (\w+) \| (.*?) \| (.*) \|$",
        Path("docs/metrics.md").read_text(),
        re.MULTILINE,
    )
    documented = {row[0]: row[1:] for row in rows}
    assert documented == {
        family.name: (family.kind, ", ".join(f"`{label}`" for label in family.labels), family.text)
        for family in CATALOGUE
    }
