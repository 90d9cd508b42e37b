"""Alerts, runbook, and metrics documentation are complete and consistent with the code."""

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
def test_each_query_parses_and_uses_existing_metrics(rule: dict[str, Any]) -> None:
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
def test_unknown_metrics_and_labels_are_found(query: str, problem: str) -> None:
    assert any(problem in found for found in problems(query)) if problem else problems(query) == []


def test_an_invalid_query_is_refused() -> None:
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        problems("sum by (x")


@pytest.mark.parametrize("alert", alerts(), ids=name)
def test_each_alert_has_severity_texts_and_runbook_url(alert: dict[str, Any]) -> None:
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
            # The query's aggregation must keep every label that a template uses.
            assert label is None or _keeps(alert["expr"], label), template


def _keeps(query: str, label: str) -> bool:
    grouped = re.findall(r"\bby \(([\w, ]*)\)", query)
    if query.startswith("booking_operator:"):
        return label == "action"
    return any(label in re.split(r", ?", labels) for labels in grouped) if grouped else True


def test_the_runbook_has_one_section_for_each_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == [alert["alert"] for alert in alerts()]
    for section in re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]:
        bold = re.findall(r"^\*\*([\w ]+)\.\*\*", section, re.MULTILINE)
        assert bold == ["Means", "Users feel", "Look", "Do"], section.partition("\n")[0]


def test_only_the_lease_is_written_with_put() -> None:
    """The alert rules treat PUT requests as leader election."""
    roles = [yaml.safe_load(path.read_text()) for path in Path("manifests/rbac").glob("*role.yaml")]
    updated = {
        resource
        for role in roles
        for rule in role["rules"]
        if "update" in rule["verbs"]
        for resource in rule["resources"]
    }
    assert updated == {"leases"}


def test_metric_labels_are_not_replaced_by_target_labels() -> None:
    clash = {label for family in CATALOGUE for label in family.labels} & TARGET
    assert clash == {"service"}
    monitor = yaml.safe_load(Path("manifests/components/servicemonitor/service_monitor.yaml").read_text())
    assert all(endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"])


def test_links_within_the_runbook_have_targets() -> None:
    anchors = {section.lower() for section in re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors


def test_log_events_in_the_runbook_exist() -> None:
    logged = set(re.findall(r"`([a-z]+_[a-z_]+)`", RUNBOOK))
    logged -= {family.name for family in CATALOGUE} | {"warm_up", "runbook_url"}
    code = "\n".join(path.read_text() for path in Path("booking_operator").rglob("*.py"))
    for event in logged:
        pattern = re.sub(r"_(start|stop)_", "_{[a-z_.]+}_", event)
        assert re.search(f'"{event}"|f"{pattern}"', code), event


@pytest.mark.parametrize("family", CATALOGUE, ids=lambda family: family.name)
def test_metric_names_follow_the_conventions_of_prometheus(family: MetricFamily) -> None:
    """See `promtool check metrics` and https://prometheus.io/docs/practices/naming/."""
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
