"""Failures of the account, and calls that cannot be sent, for the services that are switched by a size."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from booking_operator.cloud.aws.scalable_targets import SUSPENDED_TAG
from booking_operator.cloud.driver import Order
from booking_operator.cloud.service import Driver
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from tests.support.aws import AwsProxy
from tests.support.driver_calls import CLOCK, SkewedClock, failure_of, observe, open_driver, start, stop
from tests.support.emulators import Emulator
from tests.support.moto_server import REGION

SIZES = {"asg": "UpdateAutoScalingGroup", "ecs": "UpdateService"}
"""The call of each service that sets a size."""
STOPPING = InstanceState.STOPPING


def group(service: str) -> Group:
    return Group(service, "", REGION, "front")


async def create(aws: AwsProxy, service: str, name: str) -> str:
    """Create a scaled group that is on; return its id."""
    emulator = Emulator("moto", aws.moto.url)
    if service == "asg":
        return await asyncio.to_thread(emulator.create_scaled_group, name, "front", "1/4/2")
    return await asyncio.to_thread(emulator.create_service, name, "front", 2)


@pytest.mark.parametrize("service", SIZES)
async def test_expired_credentials_pause_the_account(aws: AwsProxy, service: str) -> None:
    web = await create(aws, service, "web")
    async with open_driver(CLOCK, service) as driver:
        await observe(driver, group(service))
        aws.fail(SIZES[service], code="ExpiredTokenException", status=400, message="The token has expired")
        assert await stop(driver, [web], group(service)) == {web: "ExpiredCredentials"}
        assert await stop(driver, [web], group(service)) == {web: "ExpiredCredentials"}
    assert len(aws.calls_of(SIZES[service])) == 1


@pytest.mark.parametrize("service", SIZES)
async def test_a_limit_of_the_account_fails_one_group_alone(aws: AwsProxy, service: str) -> None:
    ids = [await create(aws, service, name) for name in ("web", "api")]
    async with open_driver(CLOCK, service) as driver:
        await observe(driver, group(service))
        await stop(driver, ids, group(service))
        await observe(driver, group(service))
        aws.fail(SIZES[service], code="VcpuLimitExceeded", status=400, message="More vCPU than your limit")
        started = await start(driver, ids, group(service))
    assert sorted(map(str, started.values())) == ["VcpuLimitExceeded", "running"]


@pytest.mark.parametrize(
    ("service", "action"),
    [("asg", "DescribeAutoScalingGroups"), ("ecs", "GetResources"), ("ecs", "DescribeServices")],
)
async def test_a_reply_that_is_not_from_aws_fails_the_view(aws: AwsProxy, service: str, action: str) -> None:
    await create(aws, service, "web")
    async with open_driver(CLOCK, service) as driver:
        aws.fail_raw(action, status=200, body="<html>Please sign in</html>")
        assert (await failure_of(driver, group(service))).reason == "UnexpectedError"
        assert (await observe(driver, group(service))).stoppable()


@pytest.mark.parametrize("service", SIZES)
async def test_missing_credentials_are_reported_until_they_exist(
    aws: AwsProxy, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = await create(aws, service, "web")
    clock = SkewedClock()
    async with open_driver(clock, service) as driver:
        await observe(driver, group(service))
    aws.calls.clear()
    async with open_driver(clock, service) as driver:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        assert (await failure_of(driver, group(service))).reason == "NoCredentials"
        failed: Any = await stop(driver, [web], group(service))
        assert failed == {web: "NoCredentials"}
        assert aws.calls == []
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        clock.skew = timedelta(minutes=1)
        await observe(driver, group(service))
        assert await stop(driver, [web], group(service)) == {web: STOPPING}


WRITES = {
    "asg": {"CreateOrUpdateTags", "UpdateAutoScalingGroup"},
    "ecs": {"TagResource", "UntagResource", "RegisterScalableTarget", "UpdateService"},
}
"""The calls of each service that change something."""
READS = {"asg": "DescribeAutoScalingGroups", "ecs": "DescribeServices"}


async def until_called(aws: AwsProxy, driver: Driver, service: str, id_: str, action: str) -> list[str]:
    """Order a stop that is valid until the call `action` was made; return the calls."""
    aws.calls.clear()
    order = Order.of(group(service), [id_], CLOCK.now(), still_valid=lambda: not aws.calls_of(action))
    driver.batcher.stop(order)
    await asyncio.wait(order.futures.values(), timeout=20)
    assert order.futures[id_].cancelled()
    return [call.action for call in aws.calls]


@pytest.mark.parametrize("service", SIZES)
async def test_a_stop_that_becomes_invalid_while_it_reads_writes_nothing(aws: AwsProxy, service: str) -> None:
    web = await create(aws, service, "web")
    async with open_driver(CLOCK, service) as driver:
        await observe(driver, group(service))
        calls = await until_called(aws, driver, service, web, READS[service])
        assert WRITES[service].isdisjoint(calls)
        assert (await observe(driver, group(service))).stoppable()


@pytest.mark.parametrize(("service", "action"), [("asg", "CreateOrUpdateTags"), ("ecs", "TagResource")])
async def test_a_stop_that_becomes_invalid_after_its_first_write_is_undone(
    aws: AwsProxy, service: str, action: str
) -> None:
    web = await create(aws, service, "web")
    emulator = Emulator("moto", aws.moto.url)
    if service == "ecs":
        await asyncio.to_thread(emulator.add_scalable_target, web, 1, 4, DynamicScalingInSuspended=True)
    async with open_driver(CLOCK, service) as driver:
        await observe(driver, group(service))
        calls = await until_called(aws, driver, service, web, action)
        assert SIZES[service] not in calls
        if service == "ecs":
            assert await asyncio.to_thread(emulator.suspended, web) == {"DynamicScalingIn"}
            assert SUSPENDED_TAG not in await asyncio.to_thread(emulator.service_tags, web)
        (instance,) = (await observe(driver, group(service))).instances
        assert (instance.state, instance.start_incomplete) == (InstanceState.RUNNING, False)


@pytest.mark.parametrize("service", SIZES)
async def test_a_start_that_becomes_invalid_while_it_reads_writes_nothing(
    aws: AwsProxy, service: str
) -> None:
    web = await create(aws, service, "web")
    async with open_driver(CLOCK, service) as driver:
        await observe(driver, group(service))
        await stop(driver, [web], group(service))
        await observe(driver, group(service))
        aws.calls.clear()
        reads = READS[service]
        order = Order.of(group(service), [web], CLOCK.now(), still_valid=lambda: not aws.calls_of(reads))
        driver.batcher.start(order)
        await asyncio.wait(order.futures.values(), timeout=20)
        assert order.futures[web].cancelled()
        assert WRITES[service].isdisjoint(call.action for call in aws.calls)
