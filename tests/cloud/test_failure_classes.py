"""Each class of failure with the fake EC2: other instances start on time, and calls are limited.

`tests/reconcilers/test_failures.py` tests what users see of each class.
"""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from booking_operator.cloud.driver import CloudError, Order
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from tests.support.aws import AwsProxy
from tests.support.driver_calls import (
    CLOCK,
    SECONDS,
    WEB,
    SkewedClock,
    observe,
    open_driver,
    outcomes,
    start,
    stop,
)
from tests.support.moto_server import REGION

DB = Group("ec2", "", REGION, "db")
GONE = "i-0123456789abcdef0"


async def starts(aws: AwsProxy) -> list[int]:
    """The number of instances in each StartInstances call."""
    return [len(call.instance_ids) for call in aws.calls_of("StartInstances")]


async def test_groups_that_are_due_together_start_in_one_call(aws: AwsProxy) -> None:
    web, db = await aws.create_instances("web", 2), await aws.create_instances("db", 2)
    async with open_driver(CLOCK) as driver:
        orders = [Order.of(WEB, web, CLOCK.now()), Order.of(DB, db, CLOCK.now())]
        for order in orders:
            driver.batcher.start(order)
        for order in orders:
            await outcomes(order)
    assert await starts(aws) == [4]


@pytest.mark.parametrize("how", ["gone", "terminated", "wrong state", "cursed"])
async def test_one_bad_instance_among_many_good_ones(aws: AwsProxy, how: str) -> None:
    """With "gone", the call has as many instances as EC2 takes."""
    aws.transition_seconds = 3600 if how == "wrong state" else 0
    good = await aws.create_instances("web", 999 if how == "gone" else 63)
    (bad,) = await aws.create_instances("web", 1, state="running" if how == "wrong state" else "stopped")
    if how == "gone":
        bad = GONE
    elif how == "terminated":
        await aws.moto.change("TerminateInstances", [bad])
        # moto would start a terminated instance.
        text = f"The instance '{bad}' is not in a state from which it can be started."
        aws.curse([bad], "StartInstances", code="IncorrectInstanceState", message=text)
    elif how == "cursed":
        aws.curse([bad], "StartInstances")
    async with open_driver(CLOCK) as driver:
        if how == "wrong state":
            await stop(driver, [bad])
        result = await start(driver, [*good[:50], bad, *good[50:]])
        calls = len(aws.calls_of("StartInstances"))
        assert isinstance(result.pop(bad), str)
        assert result == dict.fromkeys(good, InstanceState.PENDING)
        assert calls <= (13 if how == "cursed" else 2)
        assert isinstance((await start(driver, [bad]))[bad], str)
        assert len(aws.calls_of("StartInstances")) == calls, "asked again before its pause is over"


@pytest.mark.usefixtures("aws")
async def test_a_bad_instance_in_a_call_of_its_own() -> None:
    async with open_driver(CLOCK) as driver:
        order = Order.of(WEB, [GONE], CLOCK.now())
        driver.batcher.start(order)
        assert await outcomes(order) == {GONE: "InvalidInstanceIDNotFound"}
        error = order.futures[GONE].exception()
        assert isinstance(error, CloudError)
        assert error.retry_at is not None
        assert 55 < (error.retry_at - CLOCK.now()).total_seconds() <= 60


async def test_no_capacity_for_one_type_in_one_zone(aws: AwsProxy) -> None:
    full = await aws.create_instances("web", 2, instance_type="m5.large", zone=f"{REGION}a")
    other_zone = await aws.create_instances("web", 1, instance_type="m5.large", zone=f"{REGION}b")
    other_type = await aws.create_instances("web", 1, instance_type="t3.micro", zone=f"{REGION}a")
    aws.exhaust("m5.large", f"{REGION}a")
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        ids = [full[0], *other_zone, full[1], *other_type]
        assert await start(driver, ids) == {
            **dict.fromkeys(full, "InsufficientInstanceCapacity"),
            **dict.fromkeys([*other_zone, *other_type], InstanceState.PENDING),
        }
        assert await starts(aws) == [4, 2, 1]
        assert set((await start(driver, full)).values()) == {"InsufficientInstanceCapacity"}
        assert await starts(aws) == [4, 2, 1]


@pytest.mark.parametrize("code", ["OperationNotPermitted", "UnsupportedOperation"])
async def test_an_instance_that_cannot_be_stopped_blocks_no_other(aws: AwsProxy, code: str) -> None:
    kept, *others = await aws.create_instances("web", 3, state="running")
    aws.protect([kept], code)
    async with open_driver(CLOCK) as driver:
        for _ in range(3):
            assert (await stop(driver, [kept, *others]))[kept] == code
    assert [set(call.instance_ids) for call in aws.calls_of("StopInstances")[:2]] == [
        {kept, *others},
        set(others),
    ]
    assert sum(kept in call.instance_ids for call in aws.calls_of("StopInstances")) == 1


async def test_a_permission_that_is_missing_for_all_instances(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 3)
    text = f"You are not authorized to perform this operation. arn:aws:ec2:{REGION}:1:instance/{ids[0]}"
    aws.fail("StartInstances", times=99, code="UnauthorizedOperation", message=text, status=403)
    async with open_driver(CLOCK) as driver:
        assert await start(driver, ids) == dict.fromkeys(ids, "UnauthorizedOperation")
        calls = len(aws.calls_of("StartInstances"))
        await start(driver, ids)
    assert len(aws.calls_of("StartInstances")) == calls <= 5


async def test_an_instance_with_unaccepted_marketplace_terms_blocks_no_other(aws: AwsProxy) -> None:
    market, *others = await aws.create_instances("web", 3)
    far = await aws.create_instances("web", 1, region="us-east-1")
    text = "In order to use this AWS Marketplace product you need to accept terms and subscribe."
    aws.curse([market], "StartInstances", code="OptInRequired", message=text)
    async with open_driver(CLOCK) as driver:
        assert await start(driver, [market, *others]) == {
            market: "OptInRequired",
            **dict.fromkeys(others, InstanceState.PENDING),
        }
        assert await start(driver, far, Group("ec2", "", "us-east-1", "web")) == {
            far[0]: InstanceState.PENDING
        }
        assert await stop(driver, others) == dict.fromkeys(others, InstanceState.STOPPING)


async def test_throttled_calls_are_retried_within_the_limits(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 20)
    async with open_driver(CLOCK) as driver:
        aws.fail("StartInstances", times=2)
        assert await start(driver, ids) == dict.fromkeys(ids, InstanceState.PENDING)
    times = [call.monotonic for call in aws.calls_of("StartInstances")]
    assert [later - earlier >= 0.49 for earlier, later in pairwise(times)] == [True, True]


async def test_enforced_limits_are_kept_without_a_refusal(aws: AwsProxy) -> None:
    aws.enforce_limits()
    ids = await aws.create_instances("web", 30)
    async with open_driver(CLOCK) as driver:
        for id_ in ids[:8]:  # EC2 allows five calls at once, then two a second
            await start(driver, [id_])
        await start(driver, ids[8:])
    assert {call.status for call in aws.calls_of("StartInstances")} == {200}


async def test_an_account_that_is_down_delays_nothing_in_another(aws: AwsProxy) -> None:
    """Regions stand for accounts here. Each region has its own calls. `test_accounts` has accounts."""
    ids = await aws.create_instances("web", 1, region="us-east-1")
    far = Group("ec2", "", "us-east-1", "web")
    gate = aws.hold("StopInstances")
    running = await aws.create_instances("web", 1, state="running")
    async with open_driver(CLOCK) as driver:
        driver.batcher.stop(Order.of(WEB, running, CLOCK.now()))
        async with asyncio.timeout(SECONDS):
            await aws.arrived("StopInstances")
        assert await start(driver, ids, far) == dict.fromkeys(ids, InstanceState.PENDING)
        gate.set()


async def test_a_stale_view_neither_repeats_a_start_nor_hides_it(aws: AwsProxy) -> None:
    aws.stale_seconds = aws.transition_seconds = 5
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        await start(driver, ids)
        seen = await observe(driver)
    assert {instance.state for instance in seen.instances} == {InstanceState.PENDING}


async def test_a_wrong_clock_is_reported_with_its_difference(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    clock = SkewedClock()
    clock.skew = timedelta(minutes=7)
    text = "AWS was not able to validate the provided access credentials"
    async with open_driver(clock) as driver:
        aws.fail("StartInstances", code="AuthFailure", message=text, status=401)
        order = Order.of(WEB, ids, clock.now())
        driver.batcher.start(order)
        assert await outcomes(order) == {ids[0]: "ClockSkewed"}
        error = order.futures[ids[0]].exception()
        assert "s ahead of the AWS clock; synchronize it by NTP" in str(error)


async def test_expired_credentials_are_reported_and_block_the_account(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    async with open_driver(CLOCK) as driver:
        aws.fail("StartInstances", code="RequestExpired")
        assert await start(driver, ids) == {ids[0]: "ExpiredCredentials"}
        assert await start(driver, ids) == {ids[0]: "ExpiredCredentials"}
        assert len(aws.calls_of("StartInstances")) == 1
