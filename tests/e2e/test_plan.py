"""`booking-operator plan` against a real API server."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import Operator, Tenant, soon, until


def run_plan(devcluster: Playground, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "booking_operator", "plan", *arguments]
    whole = {**os.environ, **devcluster.environ, **environ}
    return subprocess.run(command, env=whole, capture_output=True, text=True, timeout=60, check=False)


async def test_plan_reports_calls_and_late_bookings(
    devcluster: Playground, tenant: Tenant, operator: Operator, tmp_path: Path
) -> None:
    tenant.resource()
    tenant.booking("morning", soon(3600), soon(7200))
    async with operator():
        await until(lambda: tenant.status("resource", "res").get("instances") == 2)
    config = tmp_path / "config.yaml"
    config.write_text("limits: {StartInstances: {instances: {size: 1, rate: 0.01}}}")
    plain = await asyncio.to_thread(run_plan, devcluster, "-n", tenant.namespace)
    assert plain.returncode == 0, plain.stderr
    assert "StartInstances" in plain.stdout
    assert "All bookings start on time." in plain.stdout
    tight = await asyncio.to_thread(run_plan, devcluster, "-n", tenant.namespace, f"--config={config}")
    assert "1 booking starts late," in tight.stdout
    assert "warm_up: 2m" in tight.stdout
    options = ("-n", tenant.namespace, f"--config={config}", "-o", "json", "--to", "2h")
    found = json.loads((await asyncio.to_thread(run_plan, devcluster, *options)).stdout)
    assert [item["instances"] for item in found["calls"]] == [2, 2]
    assert found["late"][0]["booking"] == "morning"
    assert found["late"][0]["remedy"] == 120.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kubeconfig=/nowhere",), "/nowhere"),
        (("--config=/nowhere",), "/nowhere: No such file"),
        (("--from=2h", "--to=1h"), "must be later than --from"),
    ],
)
def test_an_error_is_one_line(devcluster: Playground, arguments: tuple[str, ...], words: str) -> None:
    done = run_plan(devcluster, *arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
