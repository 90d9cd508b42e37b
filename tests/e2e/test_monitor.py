"""Monitors on a real API server: groups of the fake AWS become Resources, and edits of users stay."""

import asyncio
from typing import Any

from tests.e2e.conftest import Operator, Tenant, soon, until


def names(tenant: Tenant, kind: str = "resources") -> set[str]:
    """The names of the tenant's objects. Groups of other tests are in the same region."""
    found = tenant.kubectl("get", kind, "-o", "name").split()
    return {name.partition("/")[2] for name in found}


def own(tenant: Tenant, *tags: str) -> set[str]:
    return {name for name in names(tenant) if any(tag in name for tag in (tenant.tag, *tags))}


def monitor(tenant: Tenant, name: str = "ec2", **spec: Any) -> None:
    tenant.apply("ResourceMonitor", name, **{"type": "ec2", **spec})


async def test_groups_become_resources_and_edits_of_users_stay(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        monitor(tenant)
        await until(lambda: tenant.tag in names(tenant))
        found = tenant.get("resource", tenant.tag)
        assert found["spec"] | {"type": "ec2", "tag": tenant.tag} == found["spec"]
        assert found["metadata"]["annotations"]["manager.kotaico.de/monitor"] == "ec2"
        await until(lambda: tenant.status("resource", tenant.tag).get("instances") == 2)
        status = await until(lambda: tenant.status("resourcemonitor", "ec2"))
        assert status["discovered"] >= 1
        assert status["last_sync_at"].endswith("Z")
        await until(lambda: tenant.condition("resourcemonitor", "ec2", "Ready") == ("True", "Synced"))
        patch = '{"spec": {"unbooked": "Leave"}}'
        tenant.kubectl("patch", "resource", tenant.tag, "--type=merge", "-p", patch)
        await tenant.delete("resource", tenant.tag)
        await until(lambda: tenant.tag in names(tenant))  # the monitor creates it again
        assert tenant.get("resource", tenant.tag)["spec"]["unbooked"] == "Stop"
        tenant.kubectl("patch", "resource", tenant.tag, "--type=merge", "-p", patch)
        tenant.kubectl("annotate", "resourcemonitor", "ec2", "nudge=1")
        await asyncio.sleep(0.5)
        assert tenant.get("resource", tenant.tag)["spec"]["unbooked"] == "Leave"


async def test_a_group_with_a_resource_gets_no_second_one(tenant: Tenant, operator: Operator) -> None:
    tenant.resource("mine")
    async with operator():
        monitor(tenant)
        await until(lambda: tenant.condition("resourcemonitor", "ec2", "Ready") == ("True", "Synced"))
        assert tenant.tag not in names(tenant)


async def test_names_for_taken_names_and_invalid_tags(tenant: Tenant, operator: Operator) -> None:
    tenant.resource(tenant.tag, tag="something-else")
    tenant.devcluster.instances.create(f"{tenant.tag} Straße", 1)
    async with operator():
        monitor(tenant)
        await until(lambda: f"ec2.{tenant.tag}" in names(tenant))
        (odd,) = await until(lambda: [name for name in names(tenant) if f"{tenant.tag}-stra" in name])
        assert tenant.get("resource", odd)["spec"]["tag"] == f"{tenant.tag} Straße"


async def test_monitors_of_both_types_and_of_other_regions_and_accounts(
    tenant: Tenant, operator: Operator
) -> None:
    tenant.devcluster.databases.create(tenant.tag, f"{tenant.tag}-db")
    async with operator():
        monitor(tenant)
        monitor(tenant, "rds", type="rds", name_template="{type}.{tag}")
        monitor(tenant, "elsewhere", region="ap-southeast-2")
        monitor(tenant, "unknown", account="acme")
        await until(lambda: names(tenant) >= {tenant.tag, f"rds.{tenant.tag}"})
        assert tenant.get("resource", f"rds.{tenant.tag}")["spec"]["type"] == "rds"
        await until(lambda: tenant.condition("resourcemonitor", "elsewhere", "Ready") == ("True", "Synced"))
        assert tenant.status("resourcemonitor", "elsewhere")["discovered"] == 0
        await until(
            lambda: tenant.condition("resourcemonitor", "unknown", "Synced") == ("False", "UnknownAccount")
        )


async def test_prune_deletes_resources_without_instances_unless_booked(
    tenant: Tenant, operator: Operator
) -> None:
    other = f"{tenant.tag}-booked"
    tenant.devcluster.instances.create(other, 1)
    async with operator():
        monitor(tenant, prune=True, interval="10s")
        await until(lambda: names(tenant) >= {tenant.tag, other})
        tenant.booking("bk", soon(3600), soon(7200), resource=other)
        tenant.resource("kept", tag=f"{tenant.tag}-never")
        tenant.devcluster.instances.terminate(tenant.tag)
        tenant.devcluster.instances.terminate(other)
        await until(lambda: tenant.tag not in names(tenant))
        assert names(tenant) >= {other, "kept"}
        tenant.kubectl("delete", "booking", "bk")
        await until(lambda: other not in names(tenant))
        assert "kept" in names(tenant)
