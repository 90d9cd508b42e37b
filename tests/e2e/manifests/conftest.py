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
from tests.support import kustomize
from tests.support.kustomize import MANIFESTS, SYSTEM, Objects, write_overlay


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
        paths = [MANIFESTS / "components" / name for name in components]
        return write_overlay(directory, resources=[MANIFESTS] if base else [], components=paths, **more)

    return write


def rendered(devcluster: Playground, directory: Path) -> Objects:
    """The objects that `kubectl kustomize` renders for a directory, by kind and name."""
    return kustomize.rendered(devcluster.kubectl, directory)


def read(devcluster: Playground, *arguments: str) -> dict[str, Any]:
    """The output of `kubectl get`."""
    found: dict[str, Any] = json.loads(devcluster.kubectl("get", *arguments, "-o", "json"))
    return found
