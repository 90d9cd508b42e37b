"""What RDS answers for each engine and mode: the state of each database, and what blocks it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from booking_operator.domain.group import Group
from booking_operator.domain.instance import Instance, InstanceState
from tests.support.aws import AwsProxy
from tests.support.driver_calls import SkewedClock, open_driver
from tests.support.moto_server import REGION

SHOP = Group("rds", "", REGION, "shop")
ANSWERS = Path(__file__).parent / "rds_answers"
THURSDAY = datetime(2026, 1, 1, 9, 5, tzinfo=UTC)
RUNNING, PENDING, STOPPED = InstanceState.RUNNING, InstanceState.PENDING, InstanceState.STOPPED

CASES: dict[str, dict[str, tuple[InstanceState, str]]] = {
    "mysql": {"db:single": (RUNNING, ""), "db:multi-az": (RUNNING, "")},
    "postgres": {"db:orders": (RUNNING, "")},
    "oracle": {"db:ledger": (RUNNING, "")},
    "sqlserver": {
        "db:single": (RUNNING, ""),
        "db:multi-az": (RUNNING, "cannot be stopped: it is a Multi-AZ SQL Server instance"),
    },
    "read_replica": {
        "db:source": (RUNNING, "cannot be stopped: it has a read replica"),
        "db:replica": (RUNNING, "cannot be stopped: it is a read replica"),
    },
    "aurora_provisioned": {"cluster:orders": (RUNNING, "")},
    "aurora_serverless_v1": {"cluster:orders": (RUNNING, "cannot be stopped: its engine mode is serverless")},
    "aurora_serverless_v2": {"cluster:orders": (RUNNING, "")},
    "global_database_one_cluster": {"cluster:orders": (RUNNING, "")},
    "global_database_two_clusters": {
        "cluster:orders": (
            RUNNING,
            "cannot be stopped: it is part of the global database world, which has 2 clusters",
        )
    },
    "multi_az_cluster": {"cluster:orders": (RUNNING, "cannot be stopped: it is a Multi-AZ DB cluster")},
    "docdb": {"cluster:papers": (RUNNING, "")},
    "neptune": {"cluster:graph": (RUNNING, "")},
    "blue_green_rds": {
        "db:orders": (RUNNING, "cannot be stopped: it has a read replica"),
        "db:orders-green-1a2b3c": (RUNNING, "cannot be stopped: it is a read replica"),
    },
    # RDS does not show that a cluster is part of a blue/green deployment. It refuses the stop.
    "blue_green_aurora": {"cluster:orders": (RUNNING, ""), "cluster:orders-green-1a2b3c": (RUNNING, "")},
    "pending_maintenance": {
        "cluster:cluster": (RUNNING, ""),
        "db:due": (RUNNING, ""),
        "db:later": (RUNNING, ""),
        "db:optional": (RUNNING, ""),
        "db:outside": (RUNNING, ""),
        "db:stopped": (STOPPED, ""),
    },
    "automatic_restart": {
        "cluster:papers": (STOPPED, ""),
        "db:again": (PENDING, ""),
        "db:orders": (STOPPED, ""),
    },
    "member_with_another_tag": {"cluster:orders": (RUNNING, "")},
}


async def seen(
    aws: AwsProxy, case: str, tag: str = "shop"
) -> tuple[dict[str, Instance], tuple[Instance, ...]]:
    """The instances that the driver sees, and those that it leaves out, on Thursday, 2026-01-01, at 09:05."""
    serve(aws, case)
    clock = SkewedClock()
    clock.skew = THURSDAY - clock.now()
    async with open_driver(clock, "rds") as driver:
        await driver.inventory.refresh(SHOP.scope, clock.now())
        observation = driver.inventory.observation(Group("rds", "", REGION, tag))
    assert observation is not None
    return {instance.id: instance for instance in observation.instances}, observation.left_out


def serve(aws: AwsProxy, case: str) -> None:
    answer: dict[str, Any] = json.loads((ANSWERS / f"{case}.json").read_text())
    for list_, rows in answer.items():
        aws.answer("rds", f"Describe{list_}", {list_: rows})


def test_there_is_a_case_for_each_file() -> None:
    assert {path.stem for path in ANSWERS.glob("*.json")} == CASES.keys()


@pytest.mark.parametrize("case", CASES)
async def test_the_databases_of_each_engine(aws: AwsProxy, case: str) -> None:
    found, _ = await seen(aws, case)
    assert {id_: (instance.state, instance.blocked_reason) for id_, instance in found.items()} == CASES[case]


@pytest.mark.parametrize(
    ("case", "extra"),
    [
        ("mysql", set()),
        ("aurora_provisioned", set()),
        ("global_database_one_cluster", {"DescribeGlobalClusters"}),
        ("pending_maintenance", {"DescribePendingMaintenanceActions"}),
        ("automatic_restart", set()),
    ],
)
async def test_further_calls_are_made_only_if_a_database_depends_on_them(
    aws: AwsProxy, case: str, extra: set[str]
) -> None:
    await seen(aws, case)
    assert {call.action for call in aws.calls} == {"DescribeDBClusters", "DescribeDBInstances"} | extra


async def test_maintenance_that_is_due_is_known_until_the_end_of_the_window(aws: AwsProxy) -> None:
    found, _ = await seen(aws, "pending_maintenance")
    assert {
        id_: instance.maintenance_until for id_, instance in found.items() if instance.maintenance_until
    } == {
        "cluster:cluster": THURSDAY.replace(minute=15),
        "db:due": THURSDAY.replace(minute=30),
    }


FAILURES = [("AccessDenied", 403), ("InternalFailure", 500), ("Throttling", 400)]


@pytest.mark.parametrize(("code", "status"), FAILURES)
async def test_without_an_answer_each_maintenance_window_counts(
    aws: AwsProxy, code: str, status: int
) -> None:
    aws.fail("DescribePendingMaintenanceActions", code=code, message="no", status=status)
    found, _ = await seen(aws, "pending_maintenance")
    assert {id_ for id_, instance in found.items() if instance.maintenance_until} == {
        "cluster:cluster",
        "db:due",
        "db:later",
        "db:optional",
    }


@pytest.mark.parametrize(("code", "status"), FAILURES)
async def test_without_an_answer_no_cluster_of_a_global_database_is_stopped(
    aws: AwsProxy, code: str, status: int
) -> None:
    aws.fail("DescribeGlobalClusters", code=code, message="no", status=status)
    found, _ = await seen(aws, "global_database_one_cluster")
    assert found["cluster:orders"].blocked_reason == (
        "cannot be stopped: it is part of the global database world, and the operator cannot see with "
        "rds:DescribeGlobalClusters whether it is the only cluster"
    )


async def test_the_time_of_an_automatic_restart_is_known(aws: AwsProxy) -> None:
    found, _ = await seen(aws, "automatic_restart")
    assert {id_: instance.restarts_at for id_, instance in found.items()} == {
        "cluster:papers": datetime(2026, 1, 8, 20, tzinfo=UTC),
        "db:again": None,
        "db:orders": datetime(2026, 1, 8, 19, tzinfo=UTC),
    }


async def test_a_member_whose_tag_differs_from_that_of_its_cluster_is_left_alone(aws: AwsProxy) -> None:
    found, left_out = await seen(aws, "member_with_another_tag", "reports")
    assert not found
    reason = "is a member of cluster:orders, which has the tag 'shop' and starts and stops as a whole"
    assert [(instance.id, instance.blocked_reason) for instance in left_out] == [("db:orders-1", reason)]


@pytest.mark.parametrize(
    ("case", "sizes"),
    [
        ("mysql", {"db:single": ("db.m6g.large",), "db:multi-az": ("db.m6g.large", "db.m6g.large")}),
        ("aurora_provisioned", {"cluster:orders": ("db.m6g.large", "db.m6g.large")}),
        ("multi_az_cluster", {"cluster:orders": ("db.m6gd.large",) * 3}),
    ],
)
async def test_each_machine_of_a_database_counts(
    aws: AwsProxy, case: str, sizes: dict[str, tuple[str, ...]]
) -> None:
    found, _ = await seen(aws, case)
    assert {id_: instance.sizes for id_, instance in found.items()} == sizes
