"""The usage of a Resource on a real API server, over a restart of the operator."""

from booking_operator.domain.parsing import parse_rfc3339
from tests.e2e.conftest import Operator, Tenant, soon, until


async def test_usage_is_recorded_over_a_restart(tenant: Tenant, operator: Operator) -> None:
    tenant.resource()
    tenant.booking("bk", soon(-60), soon(600))
    async with operator(orderly=True):
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
    [written] = tenant.objects("usages")
    first = written["status"]
    [size] = first["sizes"]
    assert (written["spec"]["resource_name"], size["size"]) == ("res", "m1.small")
    assert first["capacity"] == first["booked"] == first["running"] + first["missing"] > 0

    tenant.kubectl("delete", "booking", "bk")
    async with operator(orderly=True):
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("True", "Stopped"))
    [written] = tenant.objects("usages")
    second = written["status"]
    seconds = parse_rfc3339(second["observed_until"]) - parse_rfc3339(first["observed_until"])
    assert second["capacity"] - first["capacity"] == 2 * seconds.total_seconds()
    assert second["capacity"] == second["running"] + second["saved"] + second["unobserved"]
    assert second["charged"] == first["charged"] or first["charged"] == []
    head, row = tenant.kubectl("get", "usages").splitlines()
    assert head.split() == ["NAME", "RESOURCE", "MONTH", "CAPACITY", "RUNNING", "SAVED"]
    assert row.split()[1:4] == ["res", written["spec"]["month"], str(second["capacity"])]
