"""The dashboard can be imported into Grafana, its queries use existing metrics, and panels do not overlap."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.support.promql import MONITORING, problems

DASHBOARD: dict[str, Any] = json.loads(Path(MONITORING, "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in SHOWN for target in panel["targets"]]
WIDTH = 24
UNITS = {"s", "none", "percentunit", "reqps", "ops", "bytes"}


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_parses_and_uses_existing_metrics(query: str) -> None:
    plain = query.replace("$__rate_interval", "5m").replace("$__range", "6h")
    assert 'namespace=~"$namespace", job=~"$job"' in plain
    assert problems(plain.replace("$namespace", "ns").replace("$job", "job")) == []


def test_the_dashboard_is_independent_of_the_grafana_instance() -> None:
    assert DASHBOARD["uid"] == "booking-operator"
    assert DASHBOARD.get("id") is None
    assert DASHBOARD["schemaVersion"] >= 36
    variables = {item["name"]: item for item in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "job"]
    for panel in SHOWN:
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}


def test_each_panel_has_a_title_and_a_description() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in SHOWN:
        assert panel["type"] in {"timeseries", "stat"}
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == [chr(ord("A") + number) for number in range(len(letters))]


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: panel["title"])
def test_units_are_those_of_the_metrics(panel: dict[str, Any]) -> None:
    unit, queries = panel["fieldConfig"]["defaults"]["unit"], [target["expr"] for target in panel["targets"]]
    for query in queries:
        if "histogram_quantile" in query or "timestamp_seconds" in query or query.endswith("_skew_seconds"):
            assert unit == "s"
        elif "_total" in query and "cpu" not in query:
            assert unit in {"reqps", "ops"}
        elif "_bytes" in query:
            assert unit == "bytes"


def test_panels_do_not_overlap() -> None:
    for panel in PANELS:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= WIDTH
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
