"""Resources that require others, by kubectl: the order of starts and stops, conflicts and cycles."""

from tests.e2e.conftest import Operator, Tenant, soon, until

RUNNING, STOPPED = ["running", "running"], ["stopped", "stopped"]


def message(tenant: Tenant, kind: str, name: str, type_: str) -> str:
    found = tenant.get(kind, name)["status"]["conditions"]
    return str(next(item["message"] for item in found if item["type"] == type_))


async def test_a_resource_starts_when_what_it_requires_is_ready(tenant: Tenant, operator: Operator) -> None:
    instances, db_tag = tenant.devcluster.instances, f"{tenant.tag}-db"
    instances.create(db_tag, 1)
    async with operator():
        tenant.resource("db", tag=db_tag, suspend=True)
        tenant.resource("web", requires=["db"], requires_timeout="5m")
        tenant.booking("bk", soon(-5), soon(600), "web")
        await until(lambda: tenant.condition("resource", "web", "Ready") == ("False", "RequiredUnavailable"))
        text = message(tenant, "resource", "web", "Ready")
        assert "waits for db, of which 0 of 1 instances are ready and which is suspended." in text
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("False", "RequiredUnavailable"))
        assert tenant.states() == STOPPED
        tenant.resource("db", tag=db_tag, suspend=False)
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        assert instances.states(db_tag) == ["running"]
        assert tenant.status("resource", "db")["locked_by"] == "ada"
        assert tenant.states() == RUNNING
        tenant.kubectl("delete", "booking", "bk")
        await until(lambda: tenant.states() == STOPPED)
        await until(lambda: instances.states(db_tag) == ["stopped"])
        await until(lambda: tenant.condition("resource", "db", "Ready") == ("True", "Stopped"))
        assert "RequiredUnavailable" in tenant.events("Resource", "web")
    explained = tenant.kubectl("explain", "resource.spec.requires")
    assert "A booking of this Resource also books each of them." in " ".join(explained.split())


async def test_a_missing_resource_is_named_and_waited_for_until_the_timeout(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource("web", requires=["db"], requires_timeout="15s")
        tenant.booking("bk", soon(-5), soon(600), "web")
        await until(lambda: tenant.condition("resource", "web", "Ready") == ("False", "RequiredUnavailable"))
        assert "waits for db, which does not exist" in message(tenant, "resource", "web", "Ready")
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))


async def test_a_required_exclusive_resource_has_one_booking_at_a_time(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource("db", tag=f"{tenant.tag}-db", sharing="Exclusive")
        tenant.resource("web", requires=["db"])
        tenant.resource("app", tag=f"{tenant.tag}-app", requires=["db"])
        tenant.booking("first", soon(1000), soon(2000), "web")
        await until(lambda: tenant.condition("booking", "first", "Accepted") == ("True", "Accepted"))
        tenant.booking("second", soon(1500), soon(2500), "app", user="grace")
        await until(lambda: tenant.condition("booking", "second", "Accepted") == ("False", "Conflict"))
        assert "ada has db, which app requires, from" in message(tenant, "booking", "second", "Accepted")
        row = tenant.kubectl("get", "booking", "second", "--no-headers").split()
        assert row[-1] == "CONFLICT"
        tenant.kubectl("delete", "booking", "first")
        await until(lambda: tenant.condition("booking", "second", "Accepted") == ("True", "Accepted"))


async def test_a_cycle_is_not_valid_until_it_is_broken(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource("db", tag=f"{tenant.tag}-db", requires=["web"])
        tenant.resource("web", requires=["db"])
        for name in ("db", "web"):
            await until(
                lambda name=name: tenant.condition("resource", name, "Stalled") == ("True", "RequiresCycle")  # type: ignore[misc]
            )
        way = "spec.requires is a cycle: web requires db, which requires web"
        text = f"{way}; remove one name from one spec.requires."
        assert message(tenant, "resource", "web", "Valid") == text
        tenant.resource("db", tag=f"{tenant.tag}-db")
        for name in ("db", "web"):
            await until(
                lambda name=name: tenant.condition("resource", name, "Valid") == ("True", "Accepted")  # type: ignore[misc]
            )
