"""The policies of docs/security.md on a real API server."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import Operator, Tenant, at, manifest, until
from tests.e2e.manifests.conftest import in_force
from tests.support.code_blocks import blocks

PAGE = "docs/security.md"
[QUOTA] = [block for block in blocks(PAGE) if "kind: ResourceQuota" in block]
[GROUPS, BOUNDS] = [block for block in blocks(PAGE) if "ValidatingAdmissionPolicyBinding" in block]
SHORT = {"start_at": "2026-01-01T09:00:00Z", "end_at": "2026-01-15T09:00:00Z"}
LONG = {"start_at": "2026-01-01T09:00:00Z", "end_at": "2026-01-15T09:00:01Z"}


def said(tenant: Tenant, kind: str, name: str, **spec: object) -> str:
    """The error for an object; empty if it is accepted. An object with the name `probe` is not stored."""
    body = json.dumps(manifest(kind, name, spec))
    command = ["-n", tenant.namespace, "apply", "-f", "-"]
    command += ["--dry-run=server"] if name == "probe" else []
    return tenant.devcluster.kubectl.attempt(*command, stdin=body).stderr


def booking(tenant: Tenant, name: str, *recipients: str, **times: str) -> str:
    notifications = [{"type": "email", "recipient": recipient} for recipient in recipients]
    whole = {"resource_name": "res", "user_id": "ada", "notifications": notifications} | (times or SHORT)
    return said(tenant, "Booking", name, **whole)


@pytest.fixture
async def bounded(devcluster: Playground, tenant: Tenant) -> AsyncIterator[Tenant]:
    assert booking(tenant, "elder", **LONG) == ""

    def refused() -> bool:
        return "two weeks" in booking(tenant, "probe", **LONG)

    async with in_force(devcluster, "-f", "-", stdin=BOUNDS, refused=refused):
        yield tenant


async def test_the_policy_limits_the_length_of_bookings(bounded: Tenant) -> None:
    assert booking(bounded, "short", **SHORT) == ""
    assert "a booking may last two weeks at most" in booking(bounded, "short", **LONG)
    # A booking from before the policy may stay and be labelled.
    bounded.kubectl("label", "booking", "elder", "team=x")
    assert "two weeks" in booking(bounded, "elder", **(LONG | {"end_at": "2027-01-01T00:00:00Z"}))


async def test_mails_go_only_to_the_own_domain(bounded: Tenant) -> None:
    assert booking(bounded, "own", "ada@example.com") == ""
    assert "example.com only" in booking(bounded, "other", "ada@example.com", "eve@example.org")


@pytest.fixture
async def owned(devcluster: Playground, tenant: Tenant) -> AsyncIterator[Tenant]:
    def refused() -> bool:
        return "not among" in said(tenant, "Resource", "probe", tag="theirs")

    async with in_force(devcluster, "-f", "-", stdin=GROUPS, refused=refused):
        yield tenant


async def test_a_namespace_gets_the_groups_that_its_annotation_names(
    owned: Tenant, operator: Operator
) -> None:
    groups = f"manager.kotaico.de/groups=other,{owned.tag}"
    owned.devcluster.kubectl("annotate", "namespace", owned.namespace, groups)
    await until(lambda: said(owned, "Resource", "mine", tag=owned.tag) == "")
    assert "the group 'theirs' is not among" in said(owned, "Resource", "theirs", tag="theirs")
    owned.kubectl("label", "resource", "mine", "team=x")
    # The policy also covers the Resources that a monitor creates.
    found = f"{owned.tag}-found"
    ids = owned.devcluster.instances.create(found, 1)
    owned.devcluster.instances.mark(ids, {"resource-booking-managed": "true"})
    async with operator():
        assert said(owned, "ResourceMonitor", "all", interval="10s") == ""
        await until(lambda: owned.condition("resourcemonitor", "all", "Synced") == ("False", "Forbidden"))
    notifications = json.dumps(owned.status("resourcemonitor", "all"))
    assert "booking-operator-own-groups" in notifications
    assert "ServiceAccount" not in notifications  # no permission is missing
    assert found not in owned.kubectl("get", "resources", "-o", "name")


async def test_without_the_policy_the_first_user_gets_the_group(tenant: Tenant, operator: Operator) -> None:
    other = Tenant(tenant.devcluster, f"{tenant.namespace}-mallory")
    tenant.devcluster.kubectl("create", "namespace", other.namespace)
    other.tag = tenant.tag
    other.resource("first", suspend=True)
    await at(created(other, "first") + timedelta(seconds=1))  # ages have a resolution of one second
    tenant.resource()
    async with operator(namespace=""):
        await until(lambda: tenant.condition("resource", "res", "Valid") == ("False", "Duplicate"))
        assert "first" in json.dumps(tenant.status("resource", "res"))
    other.kubectl("delete", "resources", "--all", "--wait=false")
    tenant.devcluster.kubectl("delete", "namespace", other.namespace, "--wait=false")


def created(tenant: Tenant, name: str) -> datetime:
    return datetime.fromisoformat(tenant.get("resource", name)["metadata"]["creationTimestamp"])


def test_the_quota_is_accepted(tenant: Tenant) -> None:
    tenant.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=QUOTA)
