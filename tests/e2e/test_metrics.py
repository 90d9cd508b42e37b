"""Metrics and probes of the operator over HTTP, with the operator as a process."""

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from booking_operator.devcluster.playground import OwnPlayground, Playground
from booking_operator.devcluster.process import ChildProcess
from booking_operator.observability.catalogue import CATALOGUE
from tests.e2e.conftest import Tenant, apiserver_killed, new_tenant, operator_process, soon, until
from tests.e2e.test_faults import logged

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SERVED = ("--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0")
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, body and content type of a response."""
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - to loopback
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers["Content-Type"]


def samples(port: int) -> Samples:
    """All values, by name and labels."""
    found: Samples = {}
    text = get(port, "/metrics", Accept=OPENMETRICS)[1]
    for family in parse_openmetrics(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of all series of a metric with these labels."""
    series = found.get(f"booking_operator_{name}", {})
    return sum(number for have, number in series.items() if labels.items() <= dict(have).items())


def is_unsynced(tenant: Tenant, name: str) -> bool:
    return tenant.condition("resource", name, "Synced")[0] == "False"


class Served:
    """A running operator, with the ports of its metrics and health servers."""

    def __init__(self, process: ChildProcess) -> None:
        self.process = process
        self.metrics = self._port("metrics_server_started")
        self.health = self._port("health_server_started")

    def _port(self, event: str) -> int:
        return int(str(logged(self.process.log, event)[0]["port"]))


async def started(process: ChildProcess) -> Served:
    await until(lambda: logged(process.log, "health_server_started"))
    return Served(process)


@pytest.fixture
def process(devcluster: Playground, tenant: Tenant, tmp_path: Path) -> Iterator[ChildProcess]:
    with operator_process(devcluster, tenant.namespace, tmp_path, *SERVED) as running:
        yield running


async def test_metrics_after_the_whole_life_of_a_booking(tenant: Tenant, process: ChildProcess) -> None:
    served = await started(process)
    await until(lambda: get(served.health, "/readyz")[0] == 200)
    tenant.resource()
    tenant.booking("secret-name", soon(10), soon(20), user="secret-user")
    await until(lambda: tenant.status("booking", "secret-name").get("status") == "FINISHED")
    await until(lambda: tenant.condition("resource", "res", "Ready") == ("True", "Stopped"))
    found = await asyncio.to_thread(samples, served.metrics)
    for lateness in ("start_lateness_seconds", "stop_lateness_seconds"):
        assert value(found, f"{lateness}_count", service="ec2") == 2
        assert value(found, f"{lateness}_bucket", service="ec2", le="5.0") == 2
    assert value(found, "aws_calls_total", action="StartInstances", result="ok") == 1
    assert value(found, "aws_calls_total", action="StopInstances", result="ok") == 1
    assert value(found, "aws_calls_total", action="DescribeInstances", result="ok") >= 2
    assert value(found, "aws_call_instances_sum", action="StartInstances") == 2
    assert 998 <= value(found, "aws_throttle_tokens", action="StartInstances", bucket="instances") <= 1000
    assert value(found, "instances", service="ec2", state="stopped") >= 2
    assert value(found, "bookings", status="FINISHED") == 1
    assert value(found, "bookings") == 1
    assert value(found, "resource_conditions", condition="Ready", status="True") == 1
    assert value(found, "cache_objects", kind="bookings") == 1
    assert value(found, "cache_synced", kind="resources") == 1
    assert value(found, "leader") == 1
    assert value(found, "leader_transitions_total") == 1
    assert value(found, "reconciles_total", controller="resource", result="success") >= 3
    assert value(found, "reconciles_total", result="error") == 0
    assert value(found, "workqueue_depth") == 0
    assert value(found, "workqueue_keys", controller="resource") <= 1
    assert value(found, "asyncio_tasks") > 10
    assert value(found, "kubernetes_requests_total", verb="PATCH", code="200") >= 2
    assert value(found, "kubernetes_requests_total", verb="WATCH", code="200") == 4
    assert value(found, "watch_last_heard_timestamp_seconds", kind="bookings") > soon(-60).timestamp()
    assert value(found, "event_loop_lag_seconds_count") > 10
    assert found["process_resident_memory_bytes"][()] > 0


async def test_no_label_takes_its_value_from_users(tenant: Tenant, process: ChildProcess) -> None:
    served = await started(process)
    tenant.resource("tattle-resource")
    tenant.resource("tattle-elsewhere", tag="tattle-tag", account="tattle-account")
    tenant.resource("tattle-nowhere", tag="tattle-tag", region="tattle-region-1")
    tenant.booking("tattle-booking", soon(-60), soon(600), "tattle-resource", user="tattle-user")
    tenant.apply(
        "Booking",
        "tattle-told",
        resource_name="tattle-resource",
        start_at=soon(-60).isoformat(),
        end_at=soon(60).isoformat(),
        user_id="tattle-user",
        notifications=[{"type": "tattle-type", "recipient": "tattle@example.com"}],
    )
    await until(lambda: tenant.condition("booking", "tattle-booking", "Ready") == ("True", "Running"))
    for elsewhere in ("tattle-elsewhere", "tattle-nowhere"):
        await until(partial(is_unsynced, tenant, elsewhere))
    await until(lambda: tenant.condition("booking", "tattle-told", "Notified")[0] == "False")
    found = await asyncio.to_thread(samples, served.metrics)
    assert value(found, "notifications_total", type="unknown", result="failed") >= 1
    for endpoint, port in (("/metrics", served.metrics), ("/healthz?verbose", served.health)):
        _, text, _ = await asyncio.to_thread(get, port, endpoint)
        assert "tattle" not in text
        assert tenant.namespace not in text.split('"')
        assert "i-" not in text.replace("aws-", "").replace("api-", "")


async def test_leader_and_standby_are_both_ready(
    devcluster: Playground, tenant: Tenant, tmp_path: Path
) -> None:
    election = ("--leader-elect", f"--leader-election-namespace={tenant.namespace}", "--lease-duration=15s")
    directories = [tmp_path / name for name in ("one", "other")]
    for directory in directories:
        directory.mkdir()
    one, other = (
        operator_process(devcluster, tenant.namespace, directory, *SERVED, *election)
        for directory in directories
    )
    with one:
        leader = await started(one)
        await until(lambda: value(samples(leader.metrics), "leader") == 1)
        with other:
            standby = await started(other)
            await until(lambda: get(standby.health, "/readyz")[0] == 200)
            tenant.resource()
            tenant.booking("bk", soon(-60), soon(600))
            await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
            await until(lambda: value(samples(standby.metrics), "bookings", status="IN PROGRESS") == 1)
            found = await asyncio.to_thread(samples, standby.metrics)
            assert value(found, "leader") == 0
            assert value(found, "leader_transitions_total") == 0
            assert value(found, "aws_calls_total", action="StartInstances") == 0
            assert found.get("booking_operator_workqueue_depth") is None
            await asyncio.to_thread(one.stop)
            await until(lambda: value(samples(standby.metrics), "leader") == 1)
            found = await asyncio.to_thread(samples, standby.metrics)
            assert value(found, "leader_transitions_total") == 1
            assert (await asyncio.to_thread(get, standby.health, "/healthz"))[0] == 200


async def test_all_served_metrics_are_in_the_catalogue(tenant: Tenant, process: ChildProcess) -> None:
    served = await started(process)
    tenant.resource()
    await until(lambda: get(served.health, "/readyz")[0] == 200)
    labels = {family.name: set(family.labels) for family in CATALOGUE}
    for accept, parse in ((OPENMETRICS, parse_openmetrics), ("text/plain", parse_text)):
        status, text, content_type = await asyncio.to_thread(get, served.metrics, "/metrics", Accept=accept)
        assert status == 200
        assert content_type.startswith(accept.partition(";")[0])
        for family in parse(text):
            if family.name.startswith("process_"):
                continue
            name = family.name + ("_total" if family.type == "counter" else "")
            assert name in labels or family.name in labels, name
            for sample in family.samples:
                assert sample.labels.keys() - {"le"} == labels.get(name, labels.get(family.name))


async def test_other_paths_and_methods_are_refused(process: ChildProcess) -> None:
    served = await started(process)
    for port, path in ((served.metrics, "/metrics"), (served.health, "/healthz"), (served.health, "/readyz")):
        assert (await asyncio.to_thread(get, port, path, "POST"))[0] == 405
        assert (await asyncio.to_thread(get, port, path, "HEAD"))[1] == ""
    for port in (served.metrics, served.health):
        for path in ("/", "/debug", "/metrics/../etc/passwd"):
            assert (await asyncio.to_thread(get, port, path))[0] == 404
    assert (await asyncio.to_thread(get, served.health, "/metrics"))[0] == 404
    assert (await asyncio.to_thread(get, served.metrics, "/healthz"))[0] == 404


async def test_a_port_in_use_is_reported_in_one_line(
    devcluster: Playground, tenant: Tenant, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = operator_process(
            devcluster, tenant.namespace, tmp_path, f"--health-probe-bind-address={address}"
        )
        process.start()
        try:
            [entry] = await until(lambda: logged(process.log, "startup_failed"))
        finally:
            process.stop()
    assert f"--health-probe-bind-address: cannot listen on {address}: Address already in use" in str(
        entry["error"]
    )
    assert "Traceback" not in process.log.read_text()


@pytest.mark.dedicated
@pytest.mark.timeout(120)
async def test_the_loss_of_the_api_server_is_no_reason_for_a_restart(
    own_devcluster: OwnPlayground, tmp_path: Path
) -> None:
    tenant = new_tenant(own_devcluster, "probed")
    with operator_process(own_devcluster, tenant.namespace, tmp_path, *SERVED) as process:
        served = await started(process)
        await until(lambda: get(served.health, "/readyz")[0] == 200)
        with apiserver_killed(own_devcluster):
            failed = {"kind": "bookings", "reason": "failed"}
            await until(lambda: value(samples(served.metrics), "watch_restarts_total", **failed) > 0)
            for path, check in (("/healthz", "watch/bookings"), ("/readyz", "cache-sync/bookings")):
                status, text, _ = await asyncio.to_thread(get, served.health, f"{path}?verbose")
                assert status == 200, text
                assert f"[+]{check} ok" in text
            await until(lambda: value(samples(served.metrics), "kubernetes_requests_total", code="error") > 0)


async def test_a_replica_that_cannot_list_is_live_but_not_ready(
    devcluster: Playground, tenant: Tenant, tmp_path: Path
) -> None:
    with without_permissions(devcluster, tenant, tmp_path) as process:
        served = await started(process)
        await until(lambda: logged(process.log, "list_failed"))
        status, text, _ = await asyncio.to_thread(get, served.health, "/readyz")
        assert status == 500
        assert "[-]cache-sync/bookings failed: not listed yet\n" in text
        assert text.endswith("readyz check failed\n")
        assert (await asyncio.to_thread(get, served.health, "/healthz"))[:2] == (200, "ok")


def without_permissions(devcluster: Playground, tenant: Tenant, directory: Path) -> ChildProcess:
    """An operator without any permission."""
    tenant.kubectl("create", "serviceaccount", "nobody")
    whole = yaml.safe_load(devcluster.kubeconfig.read_text())
    whole["users"][0]["user"]["token"] = tenant.kubectl("create", "token", "nobody").strip()
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(whole))
    return operator_process(devcluster, tenant.namespace, directory, f"--kubeconfig={kubeconfig}", *SERVED)
