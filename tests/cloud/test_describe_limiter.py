"""The limiter of Describe calls: one call at a time, within the limits of the action."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.batching.token_bucket import BucketLimit, RequestLimits
from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.group import Scope
from tests.support import virtual
from tests.support.virtual import VirtualClock

HERE, THERE = Scope("", "eu-west-1"), Scope("", "us-east-1")


def play(scenario: Callable[[DescribeLimiter], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(DescribeLimiter(lambda *_: RequestLimits(BucketLimit(3, 2)), VirtualClock()))

    virtual.run(main())


async def passed(gate: DescribeLimiter, scope: Scope = HERE, fault: FailureKind | None = None) -> float:
    """The time in seconds at which a call was let through."""
    async with gate.slot(scope, "DescribeInstances"):
        at = asyncio.get_running_loop().time()
        if fault is not None:
            raise CloudError("Reason", "", kind=fault)
    return at


def test_calls_pass_at_the_refill_rate() -> None:
    async def scenario(gate: DescribeLimiter) -> None:
        times = [await passed(gate) for _ in range(5)]
        assert times == pytest.approx([0, 0, 0, 0.5, 1], abs=0.01)
        assert await passed(gate, THERE) == pytest.approx(1, abs=0.01)

    play(scenario)


def test_only_a_throttled_call_delays_the_next_one() -> None:
    async def scenario(gate: DescribeLimiter) -> None:
        for fault, wait in ((FailureKind.LOST, 0), (FailureKind.THROTTLED, 0.5)):
            began = asyncio.get_running_loop().time()
            with pytest.raises(CloudError):
                await passed(gate, fault=fault)
            assert await passed(gate) - began == pytest.approx(wait, abs=0.01)

    play(scenario)
