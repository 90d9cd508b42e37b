"""A control plane on which the operator is installed as users install it."""

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
def devcluster(own_devcluster: OwnPlayground) -> OwnPlayground:
    """The `devcluster` of these tests, and so of the fixtures of the folder above."""
    own_devcluster.kubectl("apply", "--validate=strict", "-k", str(MANIFESTS))
    return own_devcluster


@pytest.fixture
def tenant(tenant: Tenant) -> Iterator[Tenant]:
    """Deletes all objects at the end, because the operators of later tests serve all namespaces."""
    yield tenant
    tenant.kubectl("delete", "bookingschedulers,resourcemonitors,bookings", "--all")
    tenant.kubectl("delete", "resources", "--all", "--wait=false")
    for name in tenant.kubectl("get", "resources", "-o", "name").split():
        tenant.kubectl("patch", name, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


def service_account(namespace: str = SYSTEM) -> str:
    return f"system:serviceaccount:{namespace}:booking-operator"


def token_kubeconfig(
    devcluster: Playground, directory: Path, namespace: str = SYSTEM, account: str = "booking-operator"
) -> str:
    """A kubeconfig with a bound token of a ServiceAccount, as in its pod."""
    whole = yaml.safe_load(devcluster.kubeconfig.read_text())
    token = devcluster.kubectl("create", "token", account, "-n", namespace).strip()
    whole["users"][0]["user"] = {"token": token}
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(whole))
    return str(path)


@asynccontextmanager
async def in_force(
    devcluster: Playground, *source: str, refused: Callable[[], bool], stdin: str | None = None
) -> AsyncIterator[None]:
    """An admission policy that is in force during the block.

    The API server loads policies by a watch, so both ends of the block wait for it. `refused` returns whether
    the API server refuses an object that only this policy forbids.
    """
    devcluster.kubectl("apply", "--validate=strict", *source, stdin=stdin)
    try:
        await until(refused)
        yield
    finally:
        devcluster.kubectl("delete", *source, stdin=stdin)
        await until(lambda: not refused())


Overlay = Callable[..., Path]


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    """Writes a kustomization like that of a user, with the manifests and some of the components."""

    def write(*components: str, base: bool = True, **more: Any) -> Path:
        directory = tmp_path / "overlay"
        directory.mkdir()
        # kustomize accepts relative paths only.
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


def rendered(devcluster: Playground, directory: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects that `kubectl kustomize` renders for a directory, by kind and name."""
    found = yaml.safe_load_all(devcluster.kubectl("kustomize", str(directory)))
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


def read(devcluster: Playground, *arguments: str) -> dict[str, Any]:
    """The output of `kubectl get`."""
    found: dict[str, Any] = json.loads(devcluster.kubectl("get", *arguments, "-o", "json"))
    return found
