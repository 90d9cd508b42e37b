"""The documentation on a real API server: its objects are accepted, and its runnable commands work."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from booking_operator.api.meta import GROUP
from tests.e2e.conftest import Operator, Tenant
from tests.support.code_blocks import ROOT, CodeBlock, code_blocks, pages
from tests.support.plugin import SCRIPT

BLOCKS = [block for page in pages() for block in code_blocks(page)]
OBJECTS = [block for block in BLOCKS if block.language == "yaml" and f"apiVersion: {GROUP}" in block.text]
RUNNABLE = sorted({block.page for block in BLOCKS if block.runnable})


@pytest.mark.parametrize("block", OBJECTS, ids=lambda block: f"{block.page}:{block.line}")
def test_the_api_server_accepts_the_object(tenant: Tenant, block: CodeBlock) -> None:
    items = list(yaml.safe_load_all(block.text))
    for item in items:
        item["metadata"].pop("namespace", None)
    create = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
    tenant.kubectl(*create, stdin=yaml.safe_dump_all(items))


@pytest.mark.plugin
@pytest.mark.parametrize("page", RUNNABLE)
async def test_the_runnable_commands_of_a_page_work(
    tenant: Tenant, operator: Operator, tmp_path: Path, page: str
) -> None:
    """In order, in one shell, with the namespace of the tenant as the default."""
    tenant.devcluster.instances.create("analytics", 2)
    config = yaml.safe_load(tenant.devcluster.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = tenant.namespace
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    programs = (str(SCRIPT.parent), str(tenant.devcluster.kubectl.program.parent), os.environ["PATH"])
    environ = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "PATH": os.pathsep.join(programs)}
    script = "".join(block.text for block in code_blocks(page) if block.runnable)
    async with operator():
        done = await asyncio.to_thread(run, script, environ)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def run(script: str, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_there_are_runnable_pages_and_objects() -> None:
    assert {"README.md", "docs/first-booking.md", "docs/teams.md"} <= set(RUNNABLE)
    assert len(OBJECTS) > 5
