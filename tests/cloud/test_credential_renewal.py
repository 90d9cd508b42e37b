"""When credentials are loaded, which callers wait for it, and which get an error. On virtual time."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from aiobotocore.credentials import AioCredentials, AioDeferredRefreshableCredentials
from botocore import exceptions as boto

from booking_operator.cloud.aws.credential_renewal import (
    MIN_REMAINING_LIFETIME,
    MIN_RENEWAL_INTERVAL,
    RENEW_BEFORE_EXPIRY,
    RENEWAL_TIMEOUT,
    RenewedCredentials,
)
from booking_operator.cloud.aws.credentials import Source
from booking_operator.cloud.driver import CloudError
from tests.support.virtual import VirtualClock, play

HOUR = timedelta(hours=1)
REFUSED = boto.CredentialRetrievalError(provider="sts", error_msg="no")


class World:
    """Credentials with numbered keys. A test sets the result of the next load."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.tasks = tasks
        self.clock = VirtualClock()
        self.loads: list[datetime] = []
        self.takes = 0.0
        self.lives: timedelta | None = HOUR
        self.error: Exception | None = None
        self.credentials = RenewedCredentials(
            "Account 'acme'", "sts:AssumeRole", self.load, self.clock, tasks
        )

    async def load(self) -> Source:
        self.loads.append(self.clock.now())
        await asyncio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        key = f"key-{len(self.loads)}"
        if self.lives is None:
            return AioCredentials(key, "secret")
        expires_at = (self.clock.now() + self.lives).isoformat()

        async def fetched() -> dict[str, str]:
            return {"access_key": key, "secret_key": "s", "token": "t", "expiry_time": expires_at}

        return AioDeferredRefreshableCredentials(fetched, "test", self.clock.now)

    async def key(self) -> str | None:
        return (await self.credentials.get_frozen_credentials()).access_key

    async def failure(self) -> CloudError:
        with pytest.raises(CloudError) as caught:
            await self.key()
        return caught.value

    async def after(self, time: timedelta) -> str | None:
        """Wait for `time`, trigger a renewal, wait for its end, and return the key that is used then."""
        await asyncio.sleep(time.total_seconds())
        await self.key()
        await asyncio.sleep(self.takes + 0.1)
        return await self.key()


Scenario = Callable[[World], Awaitable[None]]


def scenario(test: Scenario) -> Callable[[], None]:
    def run() -> None:
        play(World, test)

    run.__name__ = test.__name__
    return run


@scenario
async def test_concurrent_callers_share_a_load(world: World) -> None:
    world.takes = 1
    keys = await asyncio.gather(*(world.key() for _ in range(5)))
    assert keys == ["key-1"] * 5
    assert len(world.loads) == 1


@scenario
async def test_keys_that_do_not_expire_are_loaded_once(world: World) -> None:
    world.lives = None
    assert await world.key() == "key-1"
    assert await world.after(timedelta(days=30)) == "key-1"
    assert len(world.loads) == 1


@scenario
async def test_callers_do_not_wait_for_a_renewal_while_credentials_are_valid(world: World) -> None:
    await world.key()
    await asyncio.sleep((HOUR - RENEW_BEFORE_EXPIRY).total_seconds() + 1)
    world.takes, began = 5, world.clock.now()
    assert await world.key() == "key-1"
    assert world.clock.now() == began
    await asyncio.sleep(6)
    assert await world.key() == "key-2"
    assert len(world.loads) == 2


@scenario
async def test_callers_wait_for_a_renewal_when_credentials_expire(world: World) -> None:
    await world.key()
    await asyncio.sleep((HOUR - MIN_REMAINING_LIFETIME).total_seconds() + 1)
    world.takes = 5
    assert await world.key() == "key-2"


@scenario
async def test_valid_credentials_are_used_while_a_renewal_fails(world: World) -> None:
    await world.key()
    world.error = REFUSED
    assert await world.after(HOUR - RENEW_BEFORE_EXPIRY + timedelta(seconds=1)) == "key-1"
    assert len(world.loads) == 2
    assert await world.after(timedelta(seconds=1)) == "key-1"
    assert len(world.loads) == 2
    world.error = None
    assert await world.after(timedelta(minutes=1)) == "key-3"


@scenario
async def test_a_cancelled_caller_cancels_no_other(world: World) -> None:
    world.takes = 2
    first = world.tasks.create_task(world.key())
    second = world.tasks.create_task(world.key())
    await asyncio.sleep(1)
    first.cancel()
    assert await second == "key-1"
    assert len(world.loads) == 1


@scenario
async def test_a_failure_is_shared_during_a_growing_back_off(world: World) -> None:
    world.error = REFUSED
    for _ in range(6 * 60 * 10):
        assert (await world.failure()).reason == "NoCredentials"
        await asyncio.sleep(0.1)
    pauses = [
        (after - before).total_seconds() for before, after in zip(world.loads, world.loads[1:], strict=False)
    ]
    assert pauses[:6] == pytest.approx([2, 4, 8, 16, 32, 55], abs=0.3)
    assert min(pauses[5:]) >= 55
    world.error = None
    await asyncio.sleep(60)
    await world.key()


@scenario
async def test_a_caller_that_waits_gets_the_reason_and_the_owner(world: World) -> None:
    world.error = REFUSED
    assert str(await world.failure()).startswith("Account 'acme': Cannot fetch the AWS credentials.")


@scenario
async def test_a_hanging_load_times_out(world: World) -> None:
    world.takes, began = 3600, world.clock.now()
    failures = await asyncio.gather(*(world.failure() for _ in range(3)))
    assert world.clock.now() - began == RENEWAL_TIMEOUT
    assert {failure.reason for failure in failures} == {"CloudUnreachable"}
    assert "Account 'acme': AssumeRole: the response timed out." in str(failures[0])
    assert len(world.loads) == 1


@scenario
async def test_credentials_that_are_already_expired_are_reported(world: World) -> None:
    world.lives = -HOUR
    failure = await world.failure()
    assert failure.reason == "ExpiredCredentials"
    assert "check the clock" in str(failure)
    await world.failure()
    assert len(world.loads) == 1


@scenario
async def test_credentials_near_their_expiry_are_renewed_once_a_minute(world: World) -> None:
    world.lives = timedelta(minutes=10)
    for _ in range(50):
        await world.key()
        await asyncio.sleep(0.1)
    assert len(world.loads) == 1
    assert await world.after(MIN_RENEWAL_INTERVAL) == "key-2"


@scenario
async def test_credentials_with_a_very_short_lifetime_are_loaded_for_each_call(world: World) -> None:
    world.lives = timedelta(seconds=30)
    assert [await world.key(), await world.key()] == ["key-1", "key-2"]


@pytest.mark.parametrize("error", [KeyError("AccessKeyId"), TypeError("list indices must be integers")])
def test_an_incomplete_reply_is_reported(error: Exception) -> None:
    async def test(world: World) -> None:
        world.error = error
        failure = await world.failure()
        assert failure.reason == "NoCredentials"
        assert "are incomplete" in str(failure)

    play(World, test)


@scenario
async def test_rejected_credentials_are_loaded_again_once_a_minute(world: World) -> None:
    await world.key()
    world.credentials.reject()
    assert await world.after(timedelta(seconds=1)) == "key-1"
    await asyncio.sleep(MIN_RENEWAL_INTERVAL.total_seconds())
    for _ in range(3):
        world.credentials.reject()
    assert await world.after(timedelta(seconds=1)) == "key-2"
    world.credentials.reject()
    assert await world.after(timedelta(seconds=1)) == "key-2"
    assert len(world.loads) == 2


@scenario
async def test_credentials_rejected_by_one_region_are_used_until_a_renewal_succeeds(world: World) -> None:
    await world.key()
    await asyncio.sleep(MIN_RENEWAL_INTERVAL.total_seconds())
    world.takes, world.error, began = 5, REFUSED, world.clock.now()
    world.credentials.reject()
    assert await world.key() == "key-1"
    assert world.clock.now() == began
    assert await world.after(timedelta(seconds=10)) == "key-1"
    assert len(world.loads) == 2
    world.credentials.reject()
    assert await world.after(timedelta(seconds=10)) == "key-1"
    assert len(world.loads) == 3
    world.error = None
    await asyncio.sleep(MIN_RENEWAL_INTERVAL.total_seconds())
    world.credentials.reject()
    assert await world.after(timedelta(seconds=10)) == "key-4"


@scenario
async def test_a_rejection_before_the_first_load_causes_no_second_load(world: World) -> None:
    world.takes = 2
    world.credentials.reject()
    assert await world.key() == "key-1"
    assert len(world.loads) == 1


@scenario
async def test_a_clock_set_back_ends_the_back_off(world: World) -> None:
    world.error = REFUSED
    await world.failure()
    world.error, world.clock.skew = None, -HOUR
    assert await world.key() == "key-2"


@scenario
async def test_a_caller_that_waits_gets_an_error_at_shutdown(world: World) -> None:
    world.takes = 10
    waiting = world.tasks.create_task(world.failure())
    await asyncio.sleep(1)
    world.credentials.cancel()
    assert (await waiting).reason == "Closed"
