"""The operator with a bound token of its ServiceAccount: the shipped Roles grant enough, and not more."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.usage import MONTH_LABEL
from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import IN_HALF_A_DAY, Operator, Tenant, soon, until
from tests.e2e.manifests.conftest import Overlay, read, service_account, token_kubeconfig
from tests.support.audit import AuditLog, Permission, expanded
from tests.support.kustomize import MANIFESTS, SYSTEM

CRDS = {
    Permission("get", "apiextensions.k8s.io", "customresourcedefinitions", kind.crd_name)
    for kind in (BOOKING, RESOURCE)
}
LEASE = "booking-operator"
ELECTION = "booking-operator-leader-election"


def rules(devcluster: Playground, kind: str, name: str, namespace: str = SYSTEM) -> set[Permission]:
    return expanded(read(devcluster, kind, name, "-n", namespace)["rules"])


def electing(namespace: str) -> dict[str, Any]:
    """The settings that --leader-elect implies in a pod of that namespace."""
    return {"leader_elect": True, "leader_election_namespace": namespace}


def gone(tenant: Tenant, kind: str, name: str) -> bool:
    return not tenant.kubectl("get", kind, name, "--ignore-not-found", "-o", "name")


def finalizers(tenant: Tenant, booking: str, *names: str) -> None:
    patch = json.dumps({"metadata": {"finalizers": names}})
    tenant.kubectl("patch", "booking", booking, "--type=merge", "-p", patch)


async def everything(tenant: Tenant) -> None:
    """Let the operator use every permission."""
    tenant.apply("Usage", "old-2020-01", resource_name="old", month="2020-01")
    tenant.kubectl("label", "usage", "old-2020-01", f"{MONTH_LABEL}=2020-01")
    tenant.resource()
    tenant.booking("bk", soon(-60), soon(600))
    await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
    await until(lambda: tenant.get("resource", "res")["metadata"].get("finalizers"))
    await until(lambda: "Started" in " ".join(tenant.events("Resource", "res")))
    tenant.kubectl("delete", "booking", "bk")  # a stop without a boundary
    await until(lambda: set(tenant.states()) == {"stopped"})
    await tenant.delete("resource", "res")
    await schedulers(tenant)
    await monitors(tenant)
    await until(lambda: gone(tenant, "usage", "old-2020-01"))
    await until(lambda: "capacity" in tenant.kubectl("get", "usages", "-o", "jsonpath={..status}"))


async def schedulers(tenant: Tenant) -> None:
    spec: dict[str, Any] = {
        "schedule": f"0 {IN_HALF_A_DAY.hour} * * *",
        "bookingTemplate": {"resource_name": "res", "user_id": "ada"},
    }
    tenant.apply("BookingScheduler", "daily", duration=20, **spec)
    [made] = await until(lambda: tenant.kubectl("get", "bookings", "-o", "name").split())
    tenant.apply("BookingScheduler", "daily", duration=40, **spec)
    name = made.partition("/")[2]
    before = tenant.get("booking", name)["spec"]["end_at"]
    await until(lambda: tenant.get("booking", name)["spec"]["end_at"] != before)
    tenant.apply("BookingScheduler", "daily", duration=40, suspend=True, **spec)
    await until(lambda: gone(tenant, "booking", name))
    await until(lambda: tenant.condition("bookingscheduler", "daily", "Ready")[0] == "True")


async def monitors(tenant: Tenant) -> None:
    tenant.apply("ResourceMonitor", "ec2", type="ec2", prune=True, interval="10s")
    await until(lambda: not gone(tenant, "resource", tenant.tag))
    await until(lambda: tenant.condition("resourcemonitor", "ec2", "Ready")[0] == "True")
    tenant.devcluster.instances.terminate(tenant.tag)
    await until(lambda: gone(tenant, "resource", tenant.tag))


async def test_granted_permissions_are_exactly_those_used(
    devcluster: Playground, tenant: Tenant, operator: Operator, audit: AuditLog, tmp_path: Path
) -> None:
    kubeconfig = await asyncio.to_thread(token_kubeconfig, devcluster, tmp_path)
    async with operator(kubeconfig=kubeconfig, namespace="", **electing(SYSTEM)):
        await everything(tenant)
    granted = rules(devcluster, "clusterrole", "booking-operator") | rules(devcluster, "role", ELECTION)
    assert audit.refused(service_account()) == []
    assert audit.used(service_account(), granted) == granted


@pytest.fixture
async def confined(devcluster: Playground, tenant: Tenant, overlay: Overlay, tmp_path: Path) -> str:
    """Installs the operator for the tenant's namespace only; returns its kubeconfig."""
    directory = overlay("single-namespace", namespace=tenant.namespace)
    devcluster.kubectl("apply", "--validate=strict", "-k", str(directory))
    return await asyncio.to_thread(token_kubeconfig, devcluster, tmp_path, tenant.namespace)


async def test_single_namespace_mode_needs_no_cluster_permissions(
    devcluster: Playground, tenant: Tenant, operator: Operator, audit: AuditLog, confined: str
) -> None:
    async with operator(kubeconfig=confined, **electing(tenant.namespace)):
        await everything(tenant)
    user, where = service_account(tenant.namespace), tenant.namespace
    granted = rules(devcluster, "role", "booking-operator", where) | rules(
        devcluster, "role", ELECTION, where
    )
    # It requests the CRDs, gets 403, and uses discovery instead.
    assert set(audit.refused(user)) == {f"get /apis/{crd.group}/v1/{crd.resource}/{crd.name}" for crd in CRDS}
    assert audit.used(user, granted) == granted | CRDS
    everybody = listed(devcluster, f"system:serviceaccount:{where}:other", where)
    assert listed(devcluster, user, where) - everybody == granted
    assert listed(devcluster, user, "default") == listed(
        devcluster, f"system:serviceaccount:{where}:other", "default"
    )


async def test_a_deleted_crd_that_it_may_not_read_stops_no_instance(
    devcluster: Playground, tenant: Tenant, operator: Operator, confined: str
) -> None:
    tenant.resource()
    tenant.booking("bk", soon(-60), soon(600))
    # The finalizer keeps this booking. While it exists, the API server serves the kind, so that a list
    # succeeds.
    tenant.booking("stuck", soon(-600), soon(-60))
    finalizers(tenant, "stuck", "example.com/held")
    async with operator(kubeconfig=confined):
        await until(lambda: set(tenant.states()) == {"running"})
        try:
            devcluster.kubectl("delete", "crd", BOOKING.crd_name, "--wait=false")
            await until(lambda: gone(tenant, "booking", "bk"))
            await until(lambda: tenant.condition("resource", "res", "Ready") == ("False", "StopWithheld"))
            assert set(tenant.states()) == {"running"}
        finally:
            finalizers(tenant, "stuck")
            devcluster.kubectl("wait", "--for=delete", "crd", BOOKING.crd_name)
            devcluster.kubectl("apply", "-k", str(MANIFESTS))


def listed(devcluster: Playground, user: str, namespace: str) -> set[Permission]:
    """The permissions for resources in the output of `kubectl auth can-i --list`."""
    table = devcluster.kubectl("auth", "can-i", "--list", "--no-headers", "--as", user, "-n", namespace)
    found = set()
    for line in table.splitlines():
        match = re.fullmatch(r"(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]", line.strip())
        if match is None or match[2]:
            continue
        whole, names, verbs = match[1], match[3].split(), match[4].split()
        resource, _, sub = whole.partition("/")
        plural, _, group = resource.partition(".")
        kind = "/".join(filter(None, (plural, sub)))
        found |= {Permission(verb, group, kind, name) for verb in verbs for name in names or [""]}
    return found


def test_kubectl_can_i_shows_no_other_permissions(devcluster: Playground) -> None:
    cluster = rules(devcluster, "clusterrole", "booking-operator")
    lease = rules(devcluster, "role", ELECTION)
    everybody = listed(devcluster, f"system:serviceaccount:{SYSTEM}:other", SYSTEM)
    assert listed(devcluster, service_account(), "default") - everybody == cluster
    assert listed(devcluster, service_account(), SYSTEM) - everybody == cluster | lease
    assert {permission.name for permission in lease if permission.verb != "create"} == {LEASE}


@pytest.mark.parametrize("verb", ["get", "delete", "deletecollection", "patch"])
def test_the_operator_cannot_access_other_leases(devcluster: Playground, verb: str) -> None:
    answer = devcluster.kubectl.attempt(
        "auth", "can-i", verb, "leases/somebody", "--as", service_account(), "-n", SYSTEM
    )
    assert answer.stdout.strip() == "no"
