"""Lock tags of both services with moto: written, read, and removed."""

import asyncio
from collections.abc import Mapping

import pytest

from booking_operator.cloud.batching.request_queue import MAX_CALLS_IN_FLIGHT
from booking_operator.cloud.driver import CloudError, Order
from booking_operator.cloud.service import Driver
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState, Lock
from tests.support.aws import AwsProxy
from tests.support.driver_calls import CLOCK, SECONDS, WEB, lock, observe, open_driver, start
from tests.support.moto_server import REGION

ADA = Lock("ada", "2026-01-05T10:00:00Z")
SHOP = Group("rds", "", REGION, "shop")


async def locks(driver: Driver, group: Group) -> Mapping[str, Lock | None]:
    return {instance.id: instance.lock for instance in (await observe(driver, group)).instances}


async def test_one_call_tags_all_instances_of_a_group(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 3)
    async with open_driver(CLOCK) as driver:
        assert await locks(driver, WEB) == dict.fromkeys(ids)
        await lock(driver, ids, ADA)
    async with open_driver(CLOCK) as driver:  # a restarted operator reads the tags from AWS
        assert await locks(driver, WEB) == dict.fromkeys(ids, ADA)
        await lock(driver, ids, None)
    async with open_driver(CLOCK) as driver:
        assert await locks(driver, WEB) == dict.fromkeys(ids)
    assert len(aws.calls_of("CreateTags")) == len(aws.calls_of("DeleteTags")) == 1


async def test_tags_that_hang_delay_neither_a_start_nor_a_view(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 50)
    gate = aws.hold("CreateTags")
    async with open_driver(CLOCK) as driver, asyncio.timeout(SECONDS):
        for number, id_ in enumerate(ids):
            driver.batcher.set_lock_tags(Order.of(WEB, [id_], CLOCK.now()), Lock(f"user{number}", ADA.until))
        await aws.arrived("CreateTags", MAX_CALLS_IN_FLIGHT)
        assert await start(driver, ids) == dict.fromkeys(ids, InstanceState.PENDING)
        await observe(driver)
        assert len(aws.calls_of("CreateTags")) == MAX_CALLS_IN_FLIGHT
        gate.set()
        await aws.arrived("CreateTags", len(ids))


async def test_databases_and_clusters_are_tagged_by_their_arn(aws: AwsProxy) -> None:
    ids = [await aws.moto.create_database("orders", "shop", kind=kind) for kind in ("db", "cluster")]
    async with open_driver(CLOCK, "rds") as driver:
        await observe(driver, SHOP)
        await lock(driver, ids, ADA, SHOP)
    async with open_driver(CLOCK, "rds") as driver:
        assert await locks(driver, SHOP) == dict.fromkeys(ids, ADA)
        await lock(driver, ids, None, SHOP)
    async with open_driver(CLOCK, "rds") as driver:
        assert await locks(driver, SHOP) == dict.fromkeys(ids)


async def test_untagged_and_deleted_databases_get_no_lock_tags(aws: AwsProxy) -> None:
    kept, gone = [await aws.moto.create_database(name, "shop") for name in ("kept", "gone")]
    untagged = await aws.moto.create_database("untagged", "")
    async with open_driver(CLOCK, "rds") as driver:
        await observe(driver, SHOP)
        await aws.moto.call("DeleteDBInstance", REGION, DBInstanceIdentifier="gone", SkipFinalSnapshot="true")
        await observe(driver, SHOP)
        for id_ in (untagged, gone):
            with pytest.raises(CloudError, match="has not been observed"):
                await lock(driver, [id_], ADA, SHOP)
        await lock(driver, [kept], ADA, SHOP)
    assert len(aws.calls_of("AddTagsToResource")) == 1


async def test_written_tags_are_visible_immediately(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        await lock(driver, ids, ADA)
        observation = driver.inventory.observation(WEB)
    assert observation is not None
    assert [instance.lock for instance in observation.instances] == [ADA]


async def test_a_terminated_instance_does_not_block_the_others(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    gone = "i-0123456789abcdef0"
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        await lock(driver, [gone, *ids], ADA)
        assert await locks(driver, WEB) == dict.fromkeys(ids, ADA)


async def test_a_missing_permission_is_named(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    aws.fail("CreateTags", code="UnauthorizedOperation", status=403)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        with pytest.raises(CloudError, match="ec2:CreateTags"):
            await lock(driver, ids, ADA)


async def test_a_database_never_seen_cannot_be_tagged(aws: AwsProxy) -> None:
    async with open_driver(CLOCK, "rds") as driver:
        with pytest.raises(CloudError, match="has not been observed yet"):
            await lock(driver, ["db:orders"], ADA, SHOP)
    assert not aws.calls
