"""RDS with moto: found databases, starts and stops, and databases that cannot be stopped."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from booking_operator.cloud.aws import rds
from booking_operator.cloud.aws.rds_parser import (
    cluster_blocked_reason,
    database_blocked_reason,
    state_of_status,
    window_end,
)
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from tests.support.aws import AwsProxy
from tests.support.driver_calls import CLOCK, failure_of, observe, open_driver, start, stop
from tests.support.moto_server import REGION

SHOP = Group("rds", "", REGION, "shop")


async def test_instances_and_clusters_are_found_by_their_tag(aws: AwsProxy) -> None:
    await aws.moto.create_database("orders", "shop")
    await aws.moto.create_database("orders", "shop", kind="cluster")
    await aws.moto.create_database("other", "else")
    await aws.moto.create_database("untagged", "")
    async with open_driver(CLOCK, "rds") as driver:
        found = (await observe(driver, SHOP)).instances
    assert [(instance.id, instance.state, instance.blocked_reason) for instance in found] == [
        ("cluster:orders", InstanceState.RUNNING, ""),
        ("db:orders", InstanceState.RUNNING, ""),
    ]
    assert {instance.launched_at.tzinfo for instance in found if instance.launched_at} == {UTC}
    assert all(call.params["MaxRecords"] == "100" for call in aws.calls)


async def test_all_pages_are_read(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rds, "PAGE", 2)
    for number in range(5):
        await aws.moto.create_database(f"db{number}", "shop")
    async with open_driver(CLOCK, "rds") as driver:
        assert len((await observe(driver, SHOP)).instances) == 5
    assert len(aws.calls_of("DescribeDBInstances")) == 3


async def test_start_and_stop_reach_instances_and_clusters(aws: AwsProxy) -> None:
    ids = [await aws.moto.create_database("orders", "shop", kind=kind) for kind in ("db", "cluster")]
    async with open_driver(CLOCK, "rds") as driver:
        await observe(driver, SHOP)
        stopped = await stop(driver, ids, SHOP, hibernate=True)
        assert stopped == dict.fromkeys(ids, InstanceState.STOPPING)
        assert (await observe(driver, SHOP)).ids(InstanceState.STOPPED) == tuple(sorted(ids))
        started = await start(driver, ids, SHOP)
        assert started == dict.fromkeys(ids, InstanceState.PENDING)
        assert (await observe(driver, SHOP)).ids(InstanceState.RUNNING) == tuple(sorted(ids))


async def test_members_are_part_of_their_cluster(aws: AwsProxy) -> None:
    await aws.moto.create_database("orders", "shop", kind="cluster")
    member = {"DBClusterIdentifier": "orders", "Engine": "aurora-postgresql"}
    await aws.moto.create_database("member", "shop", **member)
    async with open_driver(CLOCK, "rds") as driver:
        assert [found.id for found in (await observe(driver, SHOP)).instances] == ["cluster:orders"]


async def test_a_tagged_member_of_an_untagged_cluster_is_reported_by_name(aws: AwsProxy) -> None:
    await aws.moto.create_database("orders", "", kind="cluster")
    member = {"DBClusterIdentifier": "orders", "Engine": "aurora-postgresql"}
    await aws.moto.create_database("member", "shop", **member)
    async with open_driver(CLOCK, "rds") as driver:
        (found,) = (await observe(driver, SHOP)).instances
    assert (found.id, found.blocked_reason) == (
        "db:member",
        "is a member of cluster:orders; tag the cluster instead",
    )


async def test_an_ignored_database_is_left_alone(aws: AwsProxy) -> None:
    await aws.moto.create_database("orders", "shop")
    more = {"Tags__Tag__2__Key": "resource-booking-ignore", "Tags__Tag__2__Value": "true"}
    await aws.moto.create_database("kept", "shop", kind="cluster", **more)
    async with open_driver(CLOCK, "rds") as driver:
        found = await observe(driver, SHOP)
    assert [instance.id for instance in found.instances] == ["db:orders"]
    assert [(instance.id, instance.blocked_reason) for instance in found.left_out] == [
        ("cluster:kept", "has the tag resource-booking-ignore=true")
    ]


async def test_a_refused_database_does_not_block_the_others(aws: AwsProxy) -> None:
    good = await aws.moto.create_database("orders", "shop")
    async with open_driver(CLOCK, "rds") as driver:
        await observe(driver, SHOP)
        result = await stop(driver, [good, "db:gone"], SHOP)
    assert result == {good: InstanceState.STOPPING, "db:gone": "DBInstanceNotFound"}


@pytest.mark.parametrize("action", ["DescribeDBInstances", "DescribeDBClusters"])
async def test_a_missing_permission_is_named(aws: AwsProxy, action: str) -> None:
    aws.fail(action, code="AccessDenied", message="User is not authorized", status=403)
    async with open_driver(CLOCK, "rds") as driver:
        error = await failure_of(driver, SHOP)
    assert error.reason == "UnauthorizedOperation"
    assert f"rds:{action}" in str(error)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("available", InstanceState.RUNNING),
        ("backing-up", InstanceState.RUNNING),
        ("configuring-enhanced-monitoring", InstanceState.RUNNING),
        ("configuring-something-new", InstanceState.RUNNING),
        ("creating", InstanceState.PENDING),
        ("deleting", None),
        ("failed", InstanceState.UNAVAILABLE),
        ("incompatible-network", InstanceState.UNAVAILABLE),
        ("maintenance", InstanceState.RUNNING),
        ("not-yet-invented", InstanceState.UNAVAILABLE),
        ("starting", InstanceState.PENDING),
        ("stopped", InstanceState.STOPPED),
        ("stopping", InstanceState.STOPPING),
        ("storage-full", InstanceState.UNAVAILABLE),
        ("storage-optimization", InstanceState.RUNNING),
        ("", InstanceState.UNAVAILABLE),
    ],
)
def test_the_state_of_each_status(status: str, state: InstanceState | None) -> None:
    assert state_of_status(status)[0] is state


def test_only_available_and_stopped_databases_can_be_changed() -> None:
    assert state_of_status("available")[1] == ""
    assert state_of_status("stopped")[1] == ""
    assert state_of_status("backing-up")[1] == "cannot be stopped while it is backing-up"
    assert (
        state_of_status("storage-full")[1] == "has the status storage-full, which needs manual intervention"
    )


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"ReadReplicaSourceDBInstanceIdentifier": "a"}, "read replica"),
        ({"ReadReplicaDBInstanceIdentifiers": ["b"]}, "has a read replica"),
        ({"MultiAZ": True, "Engine": "sqlserver-se"}, "SQL Server"),
        ({"MultiAZ": True, "Engine": "custom-sqlserver-ee"}, "SQL Server"),
        ({"SecondaryAvailabilityZone": "eu-west-1b", "Engine": "sqlserver-ee"}, "SQL Server"),
        ({"MultiAZ": True, "Engine": "postgres", "ReadReplicaDBInstanceIdentifiers": []}, ""),
    ],
)
def test_databases_that_rds_never_stops(row: Mapping[str, Any], why: str) -> None:
    blocked_reason: Any = database_blocked_reason
    assert why in blocked_reason(row)
    assert bool(blocked_reason(row)) == bool(why)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"EngineMode": "serverless"}, "engine mode is serverless"),
        ({"ReplicationSourceIdentifier": "arn:aws:rds:…"}, "replica of another"),
        ({"ReadReplicaIdentifiers": ["arn:aws:rds:…"]}, "has a read replica"),
        ({"EngineMode": "provisioned", "Engine": "mysql"}, "Multi-AZ DB cluster"),
        ({"EngineMode": "provisioned", "Engine": "aurora-mysql"}, ""),
    ],
)
def test_clusters_that_rds_never_stops(row: Mapping[str, Any], why: str) -> None:
    blocked_reason: Any = cluster_blocked_reason
    assert why in blocked_reason(row)
    assert bool(blocked_reason(row)) == bool(why)


@pytest.mark.parametrize(
    ("window", "now", "end"),
    [  # 2026-01-01 is a Thursday
        ("thu:09:00-thu:09:30", "2026-01-01T09:00:00Z", "2026-01-01T09:30:00Z"),
        ("thu:09:00-thu:09:30", "2026-01-01T09:29:59Z", "2026-01-01T09:30:00Z"),
        ("thu:09:00-thu:09:30", "2026-01-01T09:30:00Z", None),
        ("thu:09:00-thu:09:30", "2026-01-01T08:58:00Z", "2026-01-01T09:30:00Z"),
        ("thu:09:00-thu:09:30", "2026-01-01T08:57:59Z", None),
        ("mon:00:00-mon:00:30", "2026-01-04T23:58:00Z", "2026-01-05T00:30:00Z"),
        ("mon:00:00-mon:00:30", "2026-01-04T23:57:59Z", None),
        ("Thu:23:45-Fri:00:15", "2026-01-02T00:05:00Z", "2026-01-02T00:15:00Z"),
        ("sun:23:45-mon:00:15", "2026-01-04T23:50:00Z", "2026-01-05T00:15:00Z"),
        ("sun:23:45-mon:00:15", "2026-01-05T00:05:00Z", "2026-01-05T00:15:00Z"),
        ("sun:23:45-mon:00:15", "2026-01-05T00:15:00Z", None),
        ("mon:00:00-mon:00:00", "2026-01-07T00:00:00Z", "2026-01-12T00:00:00Z"),
        ("xxx:09:00-thu:09:30", "2026-01-01T09:00:00Z", None),
        ("thu:99:00-thu:99:30", "2026-01-01T09:00:00Z", None),
        ("always", "2026-01-01T09:00:00Z", None),
        ("", "2026-01-01T09:00:00Z", None),
    ],
)
def test_the_end_of_the_maintenance_window(window: str, now: str, end: str | None) -> None:
    found = window_end(window, datetime.fromisoformat(now))
    assert found == (datetime.fromisoformat(end) if end else None)
