"""Sample manifests, which users of the Go operator have too, apply unchanged and work."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Operator, Tenant, until

SAMPLES = sorted((Path(__file__).parents[2] / "manifests" / "samples").glob("*.yaml"))


def read(sample: Path) -> dict[str, Any]:
    """Read a manifest without a conversion of dates, as Kubernetes reads YAML."""
    loaded: dict[str, Any] = yaml.load(sample.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - makes strings only
    return loaded


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
async def test_each_sample_applies_unchanged_and_is_valid(
    tenant: Tenant, operator: Operator, sample: Path
) -> None:
    manifest = await asyncio.to_thread(read, sample)
    kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
    async with operator():
        tenant.kubectl("apply", "-f", str(sample))
        await until(lambda: tenant.condition(kind, name, "Valid") == ("True", "Accepted"))
    stored = tenant.get(kind, name)["spec"]
    for field, value in manifest["spec"].items():
        assert stored[field] == value or str(stored[field]) == value
