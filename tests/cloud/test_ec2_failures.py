"""The driver with a service that refuses calls, garbles or loses replies, or is unreachable."""

import asyncio
from datetime import timedelta

import pytest

from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.batching.token_bucket import published_limits
from booking_operator.cloud.driver import CloudError, Order
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from tests.support.aws import AwsProxy
from tests.support.driver_calls import (
    CLOCK,
    ONE_ACCOUNT,
    SECONDS,
    WEB,
    SkewedClock,
    failure_of,
    observe,
    open_driver,
    start,
    stop,
)
from tests.support.moto_server import REGION


async def test_one_id_that_does_not_exist_fails_alone(aws: AwsProxy) -> None:
    ids, bad = await aws.create_instances("web", 2), "i-0123456789abcdef0"
    async with open_driver(CLOCK) as driver:
        assert await start(driver, [ids[0], bad, ids[1]]) == {
            ids[0]: InstanceState.PENDING,
            bad: "InvalidInstanceIDNotFound",
            ids[1]: InstanceState.PENDING,
        }
    assert [call.instance_ids for call in aws.calls] == [(ids[0], bad, ids[1]), tuple(ids)]


async def test_one_instance_in_the_wrong_state_fails_alone(aws: AwsProxy) -> None:
    aws.transition_seconds = 3600
    stopping, stopped = await aws.create_instances("web", 2, state="running")
    await aws.moto.change("StopInstances", [stopped])
    async with open_driver(CLOCK) as driver:
        await stop(driver, [stopping])
        assert await start(driver, [stopping, stopped]) == {
            stopping: "IncorrectInstanceState",
            stopped: InstanceState.PENDING,
        }


@pytest.mark.parametrize(
    ("code", "status"),
    [("RequestLimitExceeded", 503), ("InternalError", 500), ("Unavailable", 503)],
)
async def test_transient_failures_are_retried_as_a_whole(aws: AwsProxy, code: str, status: int) -> None:
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        aws.fail("StartInstances", code=code, status=status)
        assert await start(driver, ids) == dict.fromkeys(ids, InstanceState.PENDING)
    first, second = aws.calls_of("StartInstances")
    assert first.instance_ids == second.instance_ids == tuple(ids)
    assert second.monotonic - first.monotonic >= 0.49


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("InsufficientInstanceCapacity", 500, "InsufficientInstanceCapacity"),
        ("UnauthorizedOperation", 403, "UnauthorizedOperation"),
        ("AuthFailure", 401, "AuthFailure"),
        ("RequestExpired", 400, "ExpiredCredentials"),
        ("ExpiredToken", 400, "ExpiredCredentials"),
    ],
)
async def test_a_failure_is_reported_and_not_retried_during_its_back_off(
    aws: AwsProxy, code: str, status: int, reason: str
) -> None:
    ids = await aws.create_instances("web", 1)
    async with open_driver(CLOCK) as driver:
        aws.fail("StartInstances", code=code, status=status)
        for _ in range(3):
            assert await start(driver, ids) == dict.fromkeys(ids, reason)
    assert len(aws.calls_of("StartInstances")) == 1


async def test_a_start_with_a_lost_reply_is_not_repeated(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        aws.lose_reply("StartInstances")
        assert await start(driver, ids) == dict.fromkeys(ids, InstanceState.RUNNING)
    assert [call.status for call in aws.calls_of("StartInstances")] == [200], "it counts as taken"


async def test_a_start_that_did_not_arrive_is_repeated(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        aws.drop("StartInstances")
        assert await start(driver, ids) == dict.fromkeys(ids, InstanceState.PENDING)
    assert [call.action for call in aws.calls].count("DescribeInstances") == 2
    assert [call.status for call in aws.calls_of("StartInstances")] == [0, 200]
    assert set((await aws.moto.states()).values()) == {"running"}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (502, "<html><body>Bad Gateway</body></html>", "HTTP502"),
        (503, "", "HTTP503"),
        (200, "<html><body>Log in", "InvalidResponse"),
    ],
)
async def test_a_reply_that_is_not_from_ec2_is_reported(
    aws: AwsProxy, status: int, body: str, reason: str
) -> None:
    async with open_driver(CLOCK) as driver:
        aws.fail_raw("DescribeInstances", status=status, body=body, times=2)
        assert (await failure_of(driver)).reason == reason
        assert driver.inventory.failure(WEB.scope) is None, "it may pass"
        assert (await failure_of(driver)).reason == reason
        assert driver.inventory.failure(WEB.scope) is not None
        await observe(driver)
        assert driver.inventory.failure(WEB.scope) is None


async def test_a_call_without_an_answer_times_out(aws: AwsProxy) -> None:
    aws.hold("DescribeInstances")
    async with AwsClients(CLOCK, ONE_ACCOUNT, call_seconds=0.2) as clients:
        with pytest.raises(CloudError) as raised:
            await Ec2Api(clients, DescribeLimiter(published_limits, CLOCK)).describe(WEB.scope)
    error = raised.value
    assert (error.reason, str(error)) == (
        "CloudUnreachable",
        "DescribeInstances: the response timed out.",
    )


async def test_pending_futures_are_cancelled_when_the_driver_closes(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    aws.hold("StartInstances")
    async with open_driver(CLOCK) as driver:
        order = Order.of(WEB, ids, CLOCK.now())
        driver.batcher.start(order)
        async with asyncio.timeout(SECONDS):
            await aws.arrived("StartInstances")
    assert order.futures[ids[0]].cancelled()


async def test_missing_credentials_are_reported_until_they_exist(
    aws: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await aws.create_instances("web", 1)
    clock = SkewedClock()
    async with open_driver(clock) as driver:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        assert (await failure_of(driver)).reason == "NoCredentials"
        assert await start(driver, ids) == {ids[0]: "NoCredentials"}
        assert aws.calls == []
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        clock.skew = timedelta(minutes=1)
        assert await start(driver, ids) == {ids[0]: InstanceState.PENDING}


async def test_incomplete_credentials_are_reported(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with open_driver(CLOCK) as driver:
        error = await failure_of(driver)
    assert error.reason == "NoCredentials"
    assert "AWS_SECRET_ACCESS_KEY" in str(error)
    assert aws.calls == []


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        (Group("ec2", "", "", "web"), "NoRegion"),
        (Group("ec2", "", "not a region", "web"), "InvalidRegion"),
        (Group("ec2", "other", REGION, "web"), "UnknownAccount"),
    ],
)
async def test_an_invalid_region_or_account_is_reported(aws: AwsProxy, group: Group, reason: str) -> None:
    async with open_driver(CLOCK) as driver:
        error = await failure_of(driver, group)
    assert (error.reason, error.retryable) == (reason, False)
    assert aws.calls == []


async def test_a_closed_port_is_reported(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with open_driver(CLOCK) as driver:
        assert (await failure_of(driver)).reason == "CloudUnreachable"
    assert aws.calls == []
