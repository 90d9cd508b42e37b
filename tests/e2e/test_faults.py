"""Faults that must do no harm: a killed operator, an unavailable API server, a deleted CRD."""

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest
import yaml

from booking_operator.api import crd
from booking_operator.api.kinds import BOOKING
from booking_operator.devcluster.playground import OwnPlayground, Playground
from booking_operator.devcluster.process import ChildProcess
from tests.e2e.conftest import (
    Operator,
    Tenant,
    apiserver_killed,
    at,
    new_tenant,
    operator_process,
    soon,
    until,
)
from tests.support.json_lines import json_lines

STOPPED, RUNNING = ["stopped", "stopped"], ["running", "running"]


def logged(log: Path, event: str) -> list[dict[str, object]]:
    return [entry for entry in json_lines(log) if entry["event"] == event]


async def synced(process: ChildProcess) -> None:
    """Wait until the operator has read all objects. The time of a booking is counted from here."""
    await until(lambda: logged(process.log, "caches_synced"))


@pytest.mark.slow
async def test_kill_and_restart_across_both_boundaries(
    devcluster: Playground, tenant: Tenant, tmp_path: Path
) -> None:
    tenant.resource()
    process = operator_process(devcluster, tenant.namespace, tmp_path)
    try:
        process.start()
        await synced(process)
        start = soon(20)
        tenant.booking("bk", start, soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Valid")[0] == "True")
        process.stop(kill=True)
        await at(start + timedelta(seconds=0.5))
        assert tenant.states() == STOPPED
        process.start()
        await until(lambda: tenant.states() == RUNNING)
        process.stop(kill=True)
        end = soon(2)
        tenant.booking("bk", start, end)
        await at(end + timedelta(seconds=0.5))
        assert tenant.states() == RUNNING
        process.start()
        await until(lambda: tenant.states() == STOPPED)
        await until(lambda: tenant.status("booking", "bk")["status"] == "FINISHED")
    finally:
        process.stop()


@pytest.mark.slow
async def test_random_kills_around_both_boundaries(
    devcluster: Playground, tenant: Tenant, tmp_path: Path
) -> None:
    """The operator is killed during its imports, its first list, the refresh before a boundary, and so on."""
    chance = random.Random()
    tenant.resource()
    process = operator_process(devcluster, tenant.namespace, tmp_path)

    async def killed_around(boundary: datetime, states: list[str]) -> None:
        while datetime.now(UTC) < boundary + timedelta(seconds=1):
            process.start()
            await asyncio.sleep(chance.uniform(0.3, 2.5))
            process.stop(kill=True)
        process.start()
        await until(lambda: tenant.states() == states)
        process.stop(kill=True)

    try:
        start = soon(6)
        tenant.booking("bk", start, soon(600))
        await killed_around(start, RUNNING)
        end = soon(6)
        tenant.booking("bk", start, end)
        await killed_around(end, STOPPED)
        process.start()
        await until(lambda: tenant.status("booking", "bk")["status"] == "FINISHED")
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("True", "Stopped"))
    finally:
        process.stop()


async def test_sigterm_stops_the_operator_cleanly(
    devcluster: Playground, tenant: Tenant, tmp_path: Path
) -> None:
    process = operator_process(devcluster, tenant.namespace, tmp_path)
    with process:
        await synced(process)
        began = monotonic()
        await asyncio.to_thread(process.stop)
        assert monotonic() - began < 5
    assert logged(process.log, "stopped")
    assert "Traceback" not in process.log.read_text()


@pytest.mark.dedicated
@pytest.mark.timeout(120)
async def test_boundaries_are_kept_while_the_api_server_is_down(
    own_devcluster: OwnPlayground, tmp_path: Path
) -> None:
    tenant = new_tenant(own_devcluster, "down")
    tenant.resource()
    with operator_process(own_devcluster, tenant.namespace, tmp_path) as process:
        await synced(process)
        start, end = soon(6), soon(25)
        tenant.booking("bk", start, end)
        await until(lambda: tenant.condition("booking", "bk", "Valid")[0] == "True")
        with apiserver_killed(own_devcluster):
            await until(lambda: tenant.states() == RUNNING)
            await until(lambda: tenant.states() == STOPPED)
        await until(lambda: tenant.status("booking", "bk").get("status") == "FINISHED")
        await until(lambda: tenant.status("resource", "res").get("status") == "STOPPED")
    for event, boundary in (("instances_start_accepted", start), ("instances_stop_accepted", end)):
        [entry] = logged(process.log, event)
        assert datetime.fromisoformat(str(entry["timestamp"])) >= boundary


@pytest.mark.dedicated
@pytest.mark.timeout(120)
async def test_the_deletion_of_a_crd_stops_no_instance(own_devcluster: OwnPlayground, tmp_path: Path) -> None:
    tenant = new_tenant(own_devcluster, "crd")
    tenant.resource()
    tenant.booking("bk", soon(-60), soon(600))
    with operator_process(own_devcluster, tenant.namespace, tmp_path) as process:
        await until(lambda: tenant.states() == RUNNING)
        own_devcluster.kubectl("delete", "crd", BOOKING.crd_name)
        try:
            await until(lambda: logged(process.log, "list_failed"))
            await until(lambda: tenant.condition("resource", "res", "Ready") == ("False", "StopWithheld"))
            assert tenant.states() == RUNNING
            [fix] = {str(entry["error"]) for entry in logged(process.log, "list_failed")}
            assert "kubectl apply -k manifests/crds" in fix
        finally:
            own_devcluster.kubectl("apply", "-f", "-", stdin=crd.render(BOOKING))
        await until(lambda: tenant.states() == STOPPED)  # the new CRD has no bookings


async def test_a_missing_permission_is_reported_and_works_once_granted(
    devcluster: Playground, tenant: Tenant, tmp_path: Path
) -> None:
    tenant.kubectl("create", "serviceaccount", "operator")
    kubeconfig = tmp_path / "kubeconfig"
    whole = yaml.safe_load(devcluster.kubeconfig.read_text())
    whole["users"][0]["user"]["token"] = tenant.kubectl("create", "token", "operator").strip()
    kubeconfig.write_text(yaml.safe_dump(whole))
    with operator_process(devcluster, tenant.namespace, tmp_path, f"--kubeconfig={kubeconfig}") as process:
        [*_, entry] = await until(lambda: logged(process.log, "list_failed"))
        assert "grant list and watch" in str(entry["error"])
        assert f"in namespace {tenant.namespace}" in str(entry["error"])
        tenant.kubectl(
            "create", "role", "operator", "--verb=*", "--resource=bookings,resources,resources/status"
        )
        tenant.kubectl(
            "create",
            "rolebinding",
            "operator",
            "--role=operator",
            f"--serviceaccount={tenant.namespace}:operator",
        )
        await until(lambda: logged(process.log, "caches_synced"))
        # Without permission to read the CRD and to write Events, the operator logs warnings and works.
        tenant.resource()
        await until(lambda: tenant.status("resource", "res").get("status") == "STOPPED")


async def test_missing_credentials_are_reported_and_loaded_later(
    tenant: Tenant, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with operator():
        tenant.resource()
        await until(lambda: tenant.condition("resource", "res", "Synced") == ("False", "NoCredentials"))
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        await until(lambda: tenant.condition("resource", "res", "Synced") == ("True", "Synced"))


async def test_a_tampered_status_is_fixed(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource()
        await until(lambda: tenant.status("resource", "res").get("instances") == 2)
        tampered = json.dumps({"status": {"instances": 99, "locked_by": "mallory"}})
        tenant.kubectl("patch", "resource", "res", "--subresource=status", "--type=merge", "-p", tampered)
        await until(lambda: tenant.status("resource", "res")["instances"] == 2)
        assert tenant.status("resource", "res")["locked_by"] == ""


async def test_no_writes_while_nothing_changes(tenant: Tenant, operator: Operator) -> None:
    """The check compares resourceVersions. The API server changes them only for writes."""
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(120), soon(600))
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("True", "Stopped"))
        await until(lambda: tenant.condition("booking", "bk", "HoldsLock") == ("False", "Scheduled"))
        await asyncio.sleep(1)
        before = [tenant.get(kind, name)["metadata"] for kind, name in OBJECTS]
        await asyncio.sleep(1.5)
        after = [tenant.get(kind, name)["metadata"] for kind, name in OBJECTS]
        assert before == after


OBJECTS = (("resource", "res"), ("booking", "bk"))
