"""A staging environment under one tag: one group of each type, found by monitors, booked and released."""

from functools import partial
from typing import Any

from tests.e2e.conftest import Operator, Tenant, soon, until

TYPES = ("ec2", "rds", "asg", "ecs")


def resources(tenant: Tenant) -> list[dict[str, Any]]:
    """The Resources of the environment. The monitors find the groups of other tests as well."""
    return [item for item in tenant.objects("resources") if item["spec"]["tag"] == tenant.tag]


def found(tenant: Tenant) -> dict[str, str]:
    """The name of the Resource of each type."""
    return {item["spec"]["type"]: item["metadata"]["name"] for item in resources(tenant)}


def statuses(tenant: Tenant) -> dict[str, str]:
    return {item["spec"]["type"]: item.get("status", {}).get("status", "") for item in resources(tenant)}


def all_are(tenant: Tenant, status: str) -> bool:
    return statuses(tenant) == dict.fromkeys(TYPES, status)


async def test_a_staging_environment_is_found_booked_and_released(tenant: Tenant, operator: Operator) -> None:
    cloud = tenant.devcluster
    database, group, service = f"{tenant.tag}-orders", f"{tenant.tag}-web", f"main/{tenant.tag}-api"
    cloud.databases.create(tenant.tag, database)
    cloud.scaled_groups.create(tenant.tag, group, "1/4/2")
    cloud.services.create(tenant.tag, service, 3, scale=(2, 6))
    async with operator():
        for type_ in TYPES:
            tenant.apply("ResourceMonitor", type_, type=type_, interval="1m")
        await until(lambda: set(found(tenant)) == set(TYPES))
        await until(partial(all_are, tenant, "STOPPED"))
        assert cloud.scaled_groups.capacity(group) == "0/0/0"
        assert (cloud.services.desired(service), cloud.services.suspended(service)) == (0, {True})
        start = soon(-60)
        for type_, name in found(tenant).items():
            tenant.booking(type_, start, soon(600), resource=name)
        await until(partial(all_are, tenant, "RUNNING"))
        assert set(tenant.states()) == {"running"}
        assert cloud.databases.state(database) == "available"
        assert cloud.scaled_groups.capacity(group) == "1/4/2"
        assert cloud.services.desired(service) == 3
        await until(lambda: cloud.services.suspended(service) == {False})
        for type_, name in found(tenant).items():
            tenant.booking(type_, start, soon(0), resource=name)
        await until(partial(all_are, tenant, "STOPPED"))
        assert set(tenant.states()) == {"stopped"}
        assert cloud.databases.state(database) == "stopped"
        assert cloud.scaled_groups.capacity(group) == "0/0/0"
        assert (cloud.services.desired(service), cloud.services.suspended(service)) == (0, {True})
