"""AWS without capacity for all instances of a group, and what kubectl shows of it."""

from tests.e2e.conftest import Operator, Tenant, soon, until
from tests.support.aws import AwsProxy


async def test_what_fits_starts_and_kubectl_shows_how_many_run(
    tenant: Tenant, operator: Operator, aws: AwsProxy
) -> None:
    region = tenant.devcluster.environ["AWS_REGION"]
    await aws.create_instances(tenant.tag, 5, region=region)
    aws.exhaust("m5.large", f"{region}a", room=3)
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.status("resource", "res").get("running") == 3)
        await until(
            lambda: tenant.condition("resource", "res", "Synced") == ("False", "InsufficientInstanceCapacity")
        )
        described = " ".join(tenant.kubectl("describe", "resource", "res").split())
        assert "3 of 5 instances are running; all are booked. The next attempt is at " in described
        assert f"sufficient m5.large capacity in the Availability Zone you requested ({region}a)" in described
        columns = tenant.kubectl("get", "resource", "res").splitlines()[1].split()
        assert columns[-3:] == ["5", "3", "PENDING"]
    assert sum(call.status == 200 for call in aws.calls_of("StartInstances")) >= 1
    assert len(aws.calls_of("StartInstances")) < 10
