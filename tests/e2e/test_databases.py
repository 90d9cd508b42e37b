"""Databases that RDS does not stop, or starts by itself, and what kubectl shows of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from booking_operator.cloud.aws.tags import APPLICATION_TAG
from tests.e2e.conftest import Operator, Tenant, soon, until
from tests.support.aws import AwsProxy

ARN = "arn:aws:rds:eu-west-1:123456789012"


def tagged(tag: str) -> dict[str, Any]:
    return {"TagList": [{"Key": APPLICATION_TAG, "Value": tag}]}


def show(aws: AwsProxy, tag: str, status: str, **more: Any) -> None:
    """Answer with one DB instance."""
    row = {
        "DBInstanceIdentifier": "orders",
        "DBInstanceArn": f"{ARN}:db:orders",
        "DBInstanceStatus": status,
        "Engine": "postgres",
        **tagged(tag),
        **more,
    }
    aws.answer("rds", "DescribeDBClusters", {"DBClusters": []})
    aws.answer("rds", "DescribeDBInstances", {"DBInstances": [row]})
    aws.answer("rds", "StopDBInstance", {"DBInstance": row})


def described(tenant: Tenant) -> str:
    return " ".join(tenant.kubectl("describe", "resource", "res").split())


async def test_kubectl_shows_why_rds_does_not_stop_a_database(
    tenant: Tenant, operator: Operator, aws: AwsProxy
) -> None:
    cluster = {
        "DBClusterIdentifier": "orders",
        "DBClusterArn": f"{ARN}:cluster:orders",
        "Status": "available",
        "Engine": "postgres",
        **tagged(tenant.tag),
    }
    aws.answer("rds", "DescribeDBClusters", {"DBClusters": [cluster]})
    aws.answer("rds", "DescribeDBInstances", {"DBInstances": []})
    async with operator():
        tenant.resource(type="rds")
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("False", "Blocked"))
        assert "cluster:orders cannot be stopped: it is a Multi-AZ DB cluster." in described(tenant)
    assert not aws.calls_of("StopDBCluster")


async def test_kubectl_names_the_cluster_of_a_member_with_another_tag(
    tenant: Tenant, operator: Operator, aws: AwsProxy
) -> None:
    region = tenant.devcluster.environ["AWS_REGION"]
    await aws.moto.create_database("orders", "orders", kind="cluster", region=region)
    member = {"DBClusterIdentifier": "orders", "Engine": "aurora-postgresql"}
    await aws.moto.create_database("orders-1", tenant.tag, region=region, **member)
    async with operator():
        tenant.resource(type="rds")
        await until(lambda: tenant.condition("resource", "res", "Found") == ("False", "NoInstances"))
        member_of = "db:orders-1 is a member of cluster:orders, which has the tag 'orders'"
        alone = f"The operator leaves some instances alone: {member_of} and starts and stops as a whole."
        assert alone in described(tenant)


async def test_a_database_that_aws_starts_after_seven_days_is_stopped_again_under_leave(
    tenant: Tenant, operator: Operator, aws: AwsProxy
) -> None:
    restart = datetime.now(UTC) + timedelta(seconds=2)
    show(aws, tenant.tag, "stopped", AutomaticRestartTime=restart.isoformat())
    async with operator():
        tenant.resource(type="rds", unbooked="Leave")
        await until(lambda: tenant.status("resource", "res").get("automatic_restarts"))
        text = described(tenant)
    assert f"automatic_restarts: At: {restart:%Y-%m-%dT%H:%M:%S}" in text
    assert "Id: db:orders" in text
    show(aws, tenant.tag, "available")
    async with operator():
        await until(lambda: aws.calls_of("StopDBInstance"))


async def test_a_database_runs_until_the_end_of_its_maintenance_window(
    tenant: Tenant, operator: Operator, aws: AwsProxy
) -> None:
    begin, end = soon(-3600), soon(3600)
    window = f"{begin:%a:%H:%M}-{end:%a:%H:%M}".lower()
    show(aws, tenant.tag, "available", PreferredMaintenanceWindow=window)
    action = {"Action": "system-update", "CurrentApplyDate": begin.isoformat()}
    pending = {"ResourceIdentifier": f"{ARN}:db:orders", "PendingMaintenanceActionDetails": [action]}
    aws.answer("rds", "DescribePendingMaintenanceActions", {"PendingMaintenanceActions": [pending]})
    async with operator():
        tenant.resource(type="rds", maintenance="Allow")
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("False", "MaintenanceWindow"))
        text = described(tenant)
        assert "db:orders will not be stopped before " in text
        assert "because AWS has maintenance to apply, and spec.maintenance is Allow." in text
        assert not aws.calls_of("StopDBInstance")
        tenant.resource(type="rds", maintenance="Ignore")
        await until(lambda: aws.calls_of("StopDBInstance"))
