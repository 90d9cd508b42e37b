"""The harm that a user with the role `edit` in one namespace can do to others; see docs/security.md."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from booking_operator.devcluster.playground import Playground
from booking_operator.kube import client as transport
from tests.e2e.conftest import BOOKINGS, Operator, Tenant, limit_bookings, manifest, soon, until
from tests.e2e.manifests.conftest import Overlay, token_kubeconfig
from tests.support.kustomize import MANIFESTS

MALLORY = ("--as=mallory", "--as-group=system:authenticated")
LONG_NAME = "a" * 219 + "-" + "b" * 33


class Attacker:
    """Mallory, who has the role `edit` in a namespace of her own."""

    def __init__(self, devcluster: Playground, namespace: str) -> None:
        self.devcluster = devcluster
        self.namespace = namespace

    def attempt(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return self.devcluster.kubectl.attempt(*MALLORY, *arguments, stdin=stdin)

    def post(self, body: str, plural: str = "bookings", namespace: str = "") -> str:
        """Send an object without validation by kubectl; return the error."""
        path = f"/apis/manager.kotaico.de/v1/namespaces/{namespace or self.namespace}/{plural}"
        return self.attempt("create", "--raw", path, "-f", "-", stdin=body).stderr

    def booking(self, name: str, *, start: float = -60, resource: str = "res", **meta: Any) -> str:
        made = manifest(
            "Booking",
            name,
            {
                "resource_name": resource,
                "user_id": "mallory\x1b[2J\u202e\U0001f4a5",
                "start_at": soon(start).isoformat(),
                "end_at": soon(3600).isoformat(),
            },
        )
        made["metadata"] |= meta
        return json.dumps(made)

    def deep(self, name: str, levels: int = 9000) -> str:
        """A booking with the deepest managedFields that the API server accepts. No schema prunes them."""
        fields = {"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": "here"}
        fields |= {"apiVersion": "manager.kotaico.de/v1", "time": "2026-01-01T00:00:00Z"}
        nested = '{"f:spec":' + '{"f:a":' * levels + "{}" + "}" * (levels + 1)
        return self.booking(name, managedFields=[fields]).replace('"here"', nested)

    def fat(self, name: str, owners: int = 4600) -> str:
        """A booking of 1.3 MB."""
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "x" * 200}
        return self.booking(name, ownerReferences=[owner | {"uid": f"u{number}"} for number in range(owners)])

    def fatten(self, name: str) -> None:
        """Fill a booking up so that a status does not fit into the size limit of etcd."""
        low, high = 1000, 250_000
        while high - low > 200:
            middle = (low + high) // 2
            patch = json.dumps({"metadata": {"annotations": {"pad": "x" * middle}}})
            command = (
                "-n",
                self.namespace,
                "patch",
                "booking",
                name,
                "--type=merge",
                "--patch-file=/dev/stdin",
            )
            said = self.attempt(*command, stdin=patch)
            low, high = (middle, high) if said.returncode == 0 else (low, middle)


@pytest.fixture
async def attacker(devcluster: Playground, tenant: Tenant, overlay: Overlay) -> AsyncIterator[Attacker]:
    namespace = f"{tenant.namespace}-mallory"
    devcluster.kubectl("apply", "--validate=strict", "-k", str(overlay("tenant-roles", base=False)))
    devcluster.kubectl("create", "namespace", namespace)
    # The controller manager aggregates the roles into `edit`, and does not run here.
    for role in ("edit", "view"):
        name = f"booking-operator-{role}"
        devcluster.kubectl(
            "-n", namespace, "create", "rolebinding", role, f"--clusterrole={name}", "--user=mallory"
        )
    made = Attacker(devcluster, namespace)
    await until(lambda: not made.post(made.booking("first")))
    yield made
    devcluster.kubectl("-n", namespace, "delete", "bookings,bookingschedulers", "--all")
    devcluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def everywhere(operator: Operator, devcluster: Playground, tmp_path: Path) -> Callable[[], Any]:
    """Runs the operator for all namespaces, as its ServiceAccount."""
    return lambda: operator(namespace="", kubeconfig=token_kubeconfig(devcluster, tmp_path))


async def is_kept(tenant: Tenant, name: str) -> None:
    """Check that a booking of the tenant starts instances, and that its deletion stops them."""
    await asyncio.to_thread(tenant.booking, name, soon(-1), soon(600))
    await until(lambda: set(tenant.states()) == {"running"})
    await asyncio.to_thread(tenant.kubectl, "delete", "booking", name)
    await until(lambda: set(tenant.states()) == {"stopped"})


async def test_malformed_and_huge_bookings_delay_no_other_tenant(
    tenant: Tenant,
    attacker: Attacker,
    everywhere: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fats = [f"fat-{number}" for number in range(4)]
    monkeypatch.setattr(transport, "MAX_RESPONSE_BYTES", 2**22)  # smaller than all of them together
    bodies = [attacker.deep("deep"), *map(attacker.fat, fats), attacker.fat("fattest", 5200)]
    assert [attacker.post(body) for body in bodies] == [""] * len(bodies)
    await asyncio.to_thread(attacker.fatten, "fattest")
    mine = Tenant(attacker.devcluster, attacker.namespace)
    tenant.resource()
    async with everywhere():
        await is_kept(tenant, "after-the-list")
        for body in (attacker.deep("deeper"), attacker.fat("fatter")):
            assert await asyncio.to_thread(attacker.post, body) == ""
        await is_kept(tenant, "after-the-watch")
        for name in ("deep", "deeper", *fats, "fatter"):
            await until(partial(accepted, mine, name))
        # A status does not fit into this object.
        await until(lambda: "StatusRefused" in mine.events("Booking", "fattest"))


def accepted(tenant: Tenant, name: str) -> bool:
    return tenant.condition("booking", name, "Valid")[0] == "True"


def reported(tenant: Tenant, name: str) -> bool:
    return "ResourceNotFound" in tenant.events("Booking", name)


def unfound(tenant: Tenant, name: str) -> bool:
    return tenant.condition("booking", name, "ResourceFound") == ("False", "ResourceNotFound")


async def test_a_booking_reaches_no_other_namespace(
    tenant: Tenant, attacker: Attacker, everywhere: Callable[[], Any]
) -> None:
    tenant.resource()
    names = (
        "res",
        f"{tenant.namespace}/res",
        f"../{tenant.namespace}/res",
        f"../../{tenant.namespace}/resources/res",
    )
    for number, name in enumerate(names):
        assert attacker.post(attacker.booking(f"reach-{number}", resource=name)) == ""
    assert attacker.post(attacker.booking(LONG_NAME, resource="\U0001f4a5" * 253)) == ""
    async with everywhere():
        mine = Tenant(attacker.devcluster, attacker.namespace)
        for number in range(len(names)):
            await until(partial(unfound, mine, f"reach-{number}"))
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("True", "Stopped"))
        # Each gets an Event, whatever the length of its name and text. No output contains an escape sequence.
        for name in (*(f"reach-{number}" for number in range(len(names))), LONG_NAME):
            await until(partial(reported, mine, name))
        for command in (("get", "bookings", "-o", "wide"), ("describe", "bookings"), ("get", "events")):
            assert "\x1b" not in mine.kubectl(*command)
        assert set(tenant.states()) == {"stopped"}
        assert tenant.status("resource", "res")["locked_by"] == ""


def test_the_role_edit_allows_only_bookings_of_the_own_namespace(tenant: Tenant, attacker: Attacker) -> None:
    own, other = attacker.namespace, tenant.namespace
    resource = json.dumps(manifest("Resource", "theirs", {"tag": other}))
    monitor = json.dumps(manifest("ResourceMonitor", "all", {}))
    assert "forbidden" in attacker.post(attacker.booking("bk"), namespace=other)
    assert "forbidden" in attacker.post(resource, "resources")
    assert "forbidden" in attacker.post(monitor, "resourcemonitors")
    for command in (
        ("-n", own, "patch", "booking", "first", "--subresource=status", "--type=merge", "-p", "{}"),
        ("-n", other, "get", "bookings"),
        ("-n", "booking-operator-system", "get", "secrets,configmaps,leases"),
        ("-n", own, "create", "token", "booking-operator"),
        ("-n", "booking-operator-system", "create", "token", "booking-operator"),
    ):
        assert "orbidden" in attacker.attempt(*command).stderr, command


async def test_a_quota_limits_the_number_of_bookings(attacker: Attacker) -> None:
    limit_bookings(attacker.devcluster, attacker.namespace, hard=3, used=1)
    said = [await asyncio.to_thread(attacker.post, attacker.booking(f"bk-{number}")) for number in range(5)]
    assert [bool(text) for text in said] == [False, False, True, True, True]
    spent = f"requested: {BOOKINGS}=1, used: {BOOKINGS}=3, limited: {BOOKINGS}=3"
    assert f"exceeded quota: bookings, {spent}" in said[-1]


def test_there_are_no_other_tenant_roles() -> None:
    assert sorted(file.stem for file in (MANIFESTS / "components" / "tenant-roles").glob("*.yaml")) == [
        "admin",
        "edit",
        "kustomization",
        "view",
    ]
