"""The driver as tests use it: outcomes as plain values."""

import asyncio
from collections.abc import Collection

import pytest

from booking_operator.cloud.driver import Accepted, CloudError, Group
from booking_operator.cloud.ec2 import Ec2Driver
from booking_operator.domain.instance import Observation, State
from booking_operator.engine.clock import SystemClock
from tests.support.moto_server import REGION

WEB = Group("ec2", "", REGION, "web")
CLOCK = SystemClock()
SECONDS = 20  # for anything that should come about


async def observe(driver: Ec2Driver, group: Group = WEB) -> Observation:
    return await driver.observe(group, CLOCK.now())


async def outcomes(accepted: Accepted) -> dict[str, State | str]:
    """Each instance's state, or the reason of the error."""
    await asyncio.wait(accepted.values(), timeout=SECONDS)
    return {id_: _outcome(future) for id_, future in accepted.items()}


def _outcome(future: asyncio.Future[State]) -> State | str:
    error = future.exception()
    return error.reason if isinstance(error, CloudError) else future.result()


async def start(driver: Ec2Driver, ids: Collection[str]) -> dict[str, State | str]:
    return await outcomes(driver.start(WEB, ids, deadline=CLOCK.now()))


async def stop(driver: Ec2Driver, ids: Collection[str], *, hibernate: bool = False) -> dict[str, State | str]:
    return await outcomes(driver.stop(WEB, ids, deadline=CLOCK.now(), hibernate=hibernate))


async def failure_of(driver: Ec2Driver, group: Group = WEB) -> CloudError:
    with pytest.raises(CloudError) as caught:
        await observe(driver, group)
    return caught.value
