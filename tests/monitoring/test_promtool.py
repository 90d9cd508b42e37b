"""The alert rules in Prometheus: each alert fires when it should, and only then."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from booking_operator.engine.clock import SystemClock
from booking_operator.observability.collector import StateCollector
from booking_operator.observability.prometheus import Metrics
from booking_operator.observability.sources import Sources
from tests.support.promql import alerts, spec

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool, of the package prometheus, is not on PATH"
)

HERE = 'namespace="ns", job="op", instance="a"'
THERE = 'namespace="ns", job="op", instance="b"'
MINUTES = 90
"""The length of each series in minutes, with one value for each minute."""

Series = dict[str, str]
"""The values of series in the notation of promtool, by name and labels."""


def metric(name: str, values: str, labels: str = "", where: str = HERE) -> Series:
    comma = ", " if labels else ""
    return {f"booking_operator_{name}{{{where}{comma}{labels}}}": f"{values}x{MINUTES}"}


def lateness(action: str, share: str, total: str) -> Series:
    """The instances per minute within a second, and in total."""
    return {
        **metric(f"{action}_lateness_seconds_bucket", f"0+{share}", 'service="ec2", le="1.0"'),
        **metric(f"{action}_lateness_seconds_count", f"0+{total}", 'service="ec2"'),
    }


def lags(fast: str, total: str) -> Series:
    within = metric("event_loop_lag_seconds_bucket", f"0+{fast}", 'le="0.25"')
    slower = metric("event_loop_lag_seconds_bucket", f"0+{total}", 'le="1.0"')
    return within | slower | metric("event_loop_lag_seconds_bucket", f"0+{total}", 'le="+Inf"')


def calls(ok: str, result: str, failed: str) -> Series:
    call = f'{PLACE}, action="StartInstances"'
    good = metric("aws_calls_total", f"0+{ok}", f'{call}, result="ok"')
    return good | metric("aws_calls_total", f"0+{failed}", f'{call}, result="{result}"')


def replicas(one: str, other: str) -> Series:
    return metric("leader", one) | metric("leader", other, where=THERE)


def requests(verb: str, code: str, values: str) -> Series:
    return metric("kubernetes_requests_total", values, f'verb="{verb}", code="{code}"')


def queue(depth: str, done: str, running: str = "0+0") -> Series:
    of = 'controller="resource"'
    return {
        **metric("workqueue_depth", depth, of),
        **metric("reconciles_total", done, f'{of}, result="success"'),
        **metric("workqueue_longest_running_processor_seconds", running, of),
    }


def unready(reason: str, since: int) -> Series:
    return metric("resource_unready_since_timestamp_seconds", f"{since}+0", f'reason="{reason}"')


LEASE = requests("PUT", "200", "0+6")
WELL = replicas("1+0", "0+0") | LEASE
KIND = 'kind="bookings"'
PLACE = 'service="ec2", account="", region="eu-west-1"'
LANE = 'account="", region="eu-west-1", action="StartInstances"'
# By alert: series for which it fires, and similar series for which it does not.
CASES: dict[str, tuple[Series, Series]] = {
    "BookingOperatorLate": (WELL | lateness("start", "8", "10"), WELL | lateness("start", "9", "10")),
    "BookingOperatorLateAgainAndAgain": (
        WELL | lateness("stop", "9", "10"),
        WELL | lateness("stop", "95", "100"),
    ),
    "BookingOperatorNotAsBooked": (
        WELL | unready("Starting", since=300),
        WELL | unready("Suspended", since=300) | unready("Stopping", since=4500),
    ),
    "BookingOperatorAbsent": ({}, WELL),
    "BookingOperatorNoLeader": (replicas("0+0", "0+0"), WELL),
    "BookingOperatorManyLeaders": (replicas("1+0", "1+0"), WELL),
    "BookingOperatorNoStandby": (metric("leader", "1+0") | LEASE, metric("leader", "1+0")),
    "BookingOperatorNotSynced": (
        WELL | metric("cache_synced", "0+0", KIND),
        WELL | metric("cache_synced", "0+0", 'kind="resourcemonitors"'),
    ),
    "BookingOperatorWatchStale": (
        WELL | metric("watch_last_heard_timestamp_seconds", "0+0", KIND),
        WELL | metric("watch_last_heard_timestamp_seconds", "0+60", KIND),
    ),
    "BookingOperatorWritesFail": (
        WELL | requests("PATCH", "403", "0+5"),
        WELL | requests("PATCH", "409", "0+5") | requests("GET", "500", "0+5"),
    ),
    "BookingOperatorQueueStuck": (WELL | queue("7+0", "100+0"), WELL | queue("7+0", "0+100", "90+0")),
    "BookingOperatorReconcileErrors": (
        WELL | metric("reconciles_total", "0+1", 'controller="resource", result="error"'),
        WELL | metric("reconciles_total", "0+9", 'controller="resource", result="requeue"'),
    ),
    "BookingOperatorCredentialsFail": (WELL | calls("0", "account", "2"), WELL | calls("1", "denied", "2")),
    "BookingOperatorCallsFail": (WELL | calls("5", "denied", "5"), WELL | calls("5", "throttled", "5")),
    "BookingOperatorInstancesNotSeen": (
        WELL | metric("aws_view_failures", "5+0", PLACE),
        WELL | metric("aws_view_failures", "2+0", PLACE),
    ),
    "BookingOperatorInstancesWait": (
        WELL | metric("aws_throttle_waiting_instances", "300+0", LANE),
        WELL | metric("aws_throttle_waiting_instances", "0+0", LANE),
    ),
    "BookingOperatorClockSkewed": (
        WELL | metric("clock_skew_seconds", "-3+0", 'server="aws"'),
        WELL | metric("clock_skew_seconds", "0.5+0", 'server="aws"'),
    ),
    "BookingOperatorLoopLags": (WELL | lags("900", "1000"), WELL | lags("1000", "1000")),
    "BookingOperatorNotificationsFail": (
        WELL | metric("notifications_total", "0+1", 'type="email", result="failed"'),
        WELL | metric("notifications_total", "0+1", 'type="email", result="sent"'),
    ),
}


def promtool(*arguments: str, stdin: bytes | None = None) -> str:
    """Run promtool; return its output, and fail if it fails."""
    done = subprocess.run(
        [str(PROMTOOL), *arguments], input=stdin, capture_output=True, check=False, timeout=60
    )
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    return said


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(spec()))
    return path


def test_the_rules_are_valid(rule_file: Path) -> None:
    promtool("check", "rules", str(rule_file))


def test_the_metrics_follow_the_conventions() -> None:
    metrics = Metrics()
    metrics.controller("Resource").added()
    metrics.called("ec2", "StartInstances", "", "eu-west-1", "ok", 0.1)
    metrics.requested("GET", "200", 0.1)
    metrics.registry.register(StateCollector(Sources(), SystemClock()))
    text = generate_latest(metrics.registry)
    said = promtool("check", "metrics", stdin=text)
    assert "booking_operator" not in said, said


@pytest.mark.parametrize("alert", [alert["alert"] for alert in alerts()])
def test_each_alert_fires_when_it_should_and_only_then(alert: str, rule_file: Path, tmp_path: Path) -> None:
    fires, silent = CASES[alert]
    cases: dict[str, Any] = {
        "rule_files": [str(rule_file)],
        "tests": [_case(alert, fires, fires=True), _case(alert, silent, fires=False)],
    }
    path = tmp_path / "cases.yaml"
    path.write_text(yaml.safe_dump(cases))
    promtool("test", "rules", str(path))


def _case(alert: str, series: Series, *, fires: bool) -> dict[str, Any]:
    firing = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) > bool 0'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": f"{MINUTES - 10}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }
