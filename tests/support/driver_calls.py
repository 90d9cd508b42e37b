"""The driver as tests use it, with outcomes as plain values."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.driver import CloudError, Order
from booking_operator.cloud.service import Driver, open_services
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState, Lock, Observation
from booking_operator.engine.clock import Clock, SystemClock
from booking_operator.engine.fence import MayWrite
from tests.support.moto_server import REGION
from tests.support.virtual import DoneError

WEB = Group("ec2", "", REGION, "web")
ONE_ACCOUNT = Accounts(REGION)
CLOCK = SystemClock()
SECONDS = 20  # the timeout of every wait


class SkewedClock(SystemClock):
    """The system clock, shifted by `skew`."""

    def __init__(self) -> None:
        self.skew = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.skew


@asynccontextmanager
async def open_drivers(
    clock: Clock, accounts: Accounts = ONE_ACCOUNT, live: MayWrite = lambda: True
) -> AsyncIterator[dict[str, Driver]]:
    """The drivers of all services. Their calls are cancelled at the end."""
    async with open_services(clock, accounts, may_write=live) as services:
        try:
            async with asyncio.TaskGroup() as tasks:
                yield {name: service.driver(tasks) for name, service in services.items()}
                raise DoneError  # noqa: TRY301 - raised here to be caught here
        except* DoneError:
            pass


@asynccontextmanager
async def open_driver(
    clock: Clock, service: str = "ec2", accounts: Accounts = ONE_ACCOUNT
) -> AsyncIterator[Driver]:
    """The driver of one service."""
    async with open_drivers(clock, accounts) as drivers:
        yield drivers[service]


async def observe(driver: Driver, group: Group = WEB) -> Observation:
    await driver.inventory.refresh(group.scope, CLOCK.now())
    observation = driver.inventory.observation(group)
    assert observation is not None
    return observation


async def outcomes(order: Order) -> dict[str, InstanceState | str | None]:
    """The state of each instance, or the reason of its error."""
    await asyncio.wait(order.futures.values(), timeout=SECONDS)
    return {id_: _outcome(future) for id_, future in order.futures.items()}


def _outcome(future: asyncio.Future[InstanceState | None]) -> InstanceState | str | None:
    error = future.exception()
    return error.reason if isinstance(error, CloudError) else future.result()


async def start(
    driver: Driver, ids: Collection[str], group: Group = WEB
) -> dict[str, InstanceState | str | None]:
    order = Order.of(group, ids, CLOCK.now())
    driver.batcher.start(order)
    return await outcomes(order)


async def stop(
    driver: Driver, ids: Collection[str], group: Group = WEB, *, hibernate: bool = False
) -> dict[str, InstanceState | str | None]:
    order = Order.of(group, ids, CLOCK.now())
    driver.batcher.stop(order, hibernate=hibernate)
    return await outcomes(order)


async def lock(driver: Driver, ids: Collection[str], wanted: Lock | None, group: Group = WEB) -> None:
    """Write lock tags; raise the first error."""
    order = Order.of(group, ids, CLOCK.now())
    driver.batcher.set_lock_tags(order, wanted)
    await asyncio.wait(order.futures.values(), timeout=SECONDS)
    for future in order.futures.values():
        future.result()


async def failure_of(driver: Driver, group: Group = WEB) -> CloudError:
    with pytest.raises(CloudError) as caught:
        await observe(driver, group)
    return caught.value
