"""Delays because of request limits are reported ahead, and until the actions are done."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from structlog.testing import capture_logs

from booking_operator.cloud.driver import Demand
from booking_operator.engine.store import Key
from tests.reconcilers.test_resource import BOTH, played
from tests.support.environment import Act, World
from tests.support.virtual import EPOCH

LATE = ("True", "RequestLimits")


def queued(seconds: float, world: World, end: float = 400) -> None:
    """Book 100 to `end`, with a driver that sends each order `seconds` late."""
    world.driver.queue_seconds = seconds
    world.booking("b", 100, end)


def scenario(*steps: tuple[float, bool]) -> Callable[[World], Awaitable[None]]:
    """A scenario that checks at each instant whether the Resource has the condition Delayed."""

    async def run(world: World) -> None:
        for seconds, delayed in steps:
            await asyncio.sleep(seconds - asyncio.get_running_loop().time())
            assert (world.conditions().get("Delayed") == LATE) is delayed, seconds

    return run


def test_a_late_start_is_reported_ahead_and_until_it_is_done() -> None:
    steps = scenario((50, True), (99, True), (139, True), (145, False))
    world = played(steps, seconds=150, before=lambda world: queued(40, world, end=9000))
    assert world.driver.acts == [Act("start", BOTH, 140)]
    assert world.events.recorded.count(("Resource", "RequestLimits")) == 1


def test_a_start_in_time_is_not_reported() -> None:
    played(scenario((50, False), (99, False), (105, False)), seconds=110, before=lambda w: queued(1, w))


def test_a_booking_created_after_its_start_is_not_delayed_by_limits() -> None:
    async def run(world: World) -> None:
        await asyncio.sleep(110)
        # counted from the start of the booking, so the order leaves a second after the booking is created
        world.driver.queue_seconds = 61
        world.booking("b", 50, 400)
        await asyncio.sleep(0.5)
        assert world.orders.open_orders(Key("ns", "res"))
        await world.delays.update()
        assert world.delays.get(Key("ns", "res")) is None

    played(run, seconds=140)


def test_a_late_stop_is_reported() -> None:
    steps = scenario((350, True), (399, True), (445, False))
    world = played(steps, seconds=450, before=lambda world: queued(40, world))
    assert world.driver.acts[-1] == Act("stop", BOTH, 440)


def test_a_waiting_start_is_cancelled_when_its_booking_is_deleted() -> None:
    async def run(world: World) -> None:
        await asyncio.sleep(110)
        world.delete_booking("b")
        await asyncio.sleep(1)
        assert not any(order.pending for order in world.orders.open_orders(Key("ns", "res")))

    world = played(run, seconds=160, before=lambda world: queued(40, world))
    assert world.driver.acts == []


def test_a_waiting_stop_is_cancelled_when_the_next_booking_begins() -> None:
    def before(world: World) -> None:
        queued(40, world)
        world.booking("next", 420, 900)

    world = played(seconds=500, before=before)
    assert world.driver.acts == [Act("start", BOTH, 140)]


def test_the_delay_is_that_of_the_late_start() -> None:
    world = played(seconds=50, before=lambda world: queued(500, world))
    delay = world.delays.get(Key("ns", "res"))
    assert delay is not None
    assert (delay.due_at - EPOCH).total_seconds() == 100
    assert (delay.complete_at - EPOCH).total_seconds() == 600


def test_an_exception_in_a_forecast_is_retried_and_ends_no_leadership() -> None:
    async def run(world: World) -> None:
        forecast = world.driver.forecast

        async def broken(demands: Sequence[Demand]) -> Sequence[datetime]:
            raise ValueError(f"a bug, with {len(demands)} of them")

        world.driver.forecast = broken  # type: ignore[method-assign]
        await asyncio.sleep(50)
        assert "Delayed" not in world.conditions()
        world.driver.forecast = forecast  # type: ignore[method-assign]
        await asyncio.sleep(35)
        assert world.conditions()["Delayed"] == LATE

    with capture_logs() as logs:
        played(run, seconds=90, before=lambda world: queued(40, world))
    assert {entry["part"] for entry in logs if entry["event"] == "unexpected_error"} == {"delays"}


def test_an_exception_for_one_resource_hides_no_delay_of_others() -> None:
    def before(world: World) -> None:
        world.resource("odd", type="rds", tag="there is no driver for it")
        queued(40, world)

    with capture_logs() as logs:
        played(scenario((50, True)), seconds=60, before=before)
    assert {entry["resource"] for entry in logs if entry["event"] == "unexpected_error"} == {"ns/odd"}
