"""A control plane of its own, on which the operator is installed as its users do it."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from booking_operator.devcluster.playground import OwnPlayground, Playground
from tests.e2e.conftest import Tenant, until

MANIFESTS = Path(__file__).parents[3] / "manifests"
SYSTEM = "booking-operator-system"


@pytest.fixture(scope="session")
def ground(own_ground: OwnPlayground) -> OwnPlayground:
    """The `ground` of these tests, and so of the fixtures of the folder above."""
    own_ground.kubectl("apply", "--validate=strict", "-k", str(MANIFESTS))
    return own_ground


@pytest.fixture
def tenant(tenant: Tenant) -> Iterator[Tenant]:
    """Leaves nothing to the operator of a later test, which serves all namespaces."""
    yield tenant
    tenant.kubectl("delete", "bookingschedulers,resourcemonitors,bookings", "--all")
    tenant.kubectl("delete", "resources", "--all", "--wait=false")
    for name in tenant.kubectl("get", "resources", "-o", "name").split():
        tenant.kubectl("patch", name, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


def service_account(namespace: str = SYSTEM) -> str:
    return f"system:serviceaccount:{namespace}:booking-operator"


def token_kubeconfig(ground: Playground, directory: Path, namespace: str = SYSTEM) -> str:
    """A kubeconfig with a bound token of the operator's ServiceAccount, as its pod has one."""
    whole = yaml.safe_load(ground.kubeconfig.read_text())
    token = ground.kubectl("create", "token", "booking-operator", "-n", namespace).strip()
    whole["users"][0]["user"] = {"token": token}
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(whole))
    return str(path)


@asynccontextmanager
async def in_force(
    ground: Playground, *source: str, refused: Callable[[], bool], stdin: str | None = None
) -> AsyncIterator[None]:
    """An admission policy, for as long as the block lasts.

    The API server learns by a watch of its own that one came or went, so both are waited for: `refused`
    says whether it refuses what only this policy forbids.
    """
    ground.kubectl("apply", "--validate=strict", *source, stdin=stdin)
    try:
        await until(refused)
        yield
    finally:
        ground.kubectl("delete", *source, stdin=stdin)
        await until(lambda: not refused())


Overlay = Callable[..., Path]


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    """Writes a kustomization like that of a user, over the manifests and some of their components."""

    def write(*components: str, base: bool = True, **more: Any) -> Path:
        directory = tmp_path / "overlay"
        directory.mkdir()
        # kustomize takes relative paths only.
        up = Path("../" * (len(directory.resolve().parts) - 1))
        at = {name: str(up / str(MANIFESTS / "components" / name)[1:]) for name in components}
        whole = {
            "resources": [str(up / str(MANIFESTS)[1:])] if base else [],
            "components": list(at.values()),
            **more,
        }
        (directory / "kustomization.yaml").write_text(yaml.safe_dump(whole))
        return directory

    return write


def rendered(ground: Playground, directory: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What `kubectl kustomize` makes of a directory, by kind and name."""
    found = yaml.safe_load_all(ground.kubectl("kustomize", str(directory)))
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


def read(ground: Playground, *arguments: str) -> dict[str, Any]:
    """What `kubectl get` finds."""
    found: dict[str, Any] = json.loads(ground.kubectl("get", *arguments, "-o", "json"))
    return found
