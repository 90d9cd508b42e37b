"""What users see of each class of failure: the instance, the reason, and the time of the next attempt."""

import asyncio
from datetime import timedelta

import pytest

from booking_operator.cloud.driver import CloudError, FailureKind, Order
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.store import Key
from tests.reconcilers.test_resource import BOTH, by_hand, played
from tests.support.environment import REGION, Act, World
from tests.support.virtual import EPOCH, run


def message(world: World, type_: str = "Synced") -> str:
    found = world.informers.resources.get(Key("ns", "res"))
    assert found is not None
    return next(item.message for item in found.status.conditions if item.type == type_)


def refusing(
    world: World,
    fault: FailureKind,
    pause: float,
    bad: str = "i-1",
    end: float = 900,
    others: float | None = None,
) -> list[float]:
    """Refuse each start of `bad`, with a retry after `pause` seconds; return the times of the attempts.

    With `others`, all other instances are refused too, with a retry after that time.
    """
    attempts: list[float] = []

    def start(order: Order) -> None:
        async def act() -> None:
            await asyncio.sleep(max(0.0, (order.deadline - world.clock.now()).total_seconds()))
            now = world.clock.now()
            for id_ in order.pending:
                if id_ == bad:
                    attempts.append(round((now - EPOCH).total_seconds(), 2))
                wait = pause if id_ == bad else others
                if wait is not None:
                    until = now + timedelta(seconds=wait) if wait else None
                    error = CloudError("TheReason", "because of it.", kind=fault, retry_at=until)
                    order.futures[id_].set_exception(error)
                else:
                    world.driver.instances[id_] = InstanceState.RUNNING
                    order.futures[id_].set_result(InstanceState.RUNNING)
            world.driver.view = world.driver.look(now)

        asyncio.get_running_loop().create_task(act())

    world.driver.start = start  # type: ignore[method-assign]
    world.booking("b", 10, end)
    return attempts


def test_an_instance_that_cannot_be_started_delays_no_stop_of_the_others() -> None:
    async def scenario(world: World) -> None:
        refusing(world, FailureKind.CAPACITY, pause=60, end=40)

    world = played(scenario, seconds=60)
    assert world.driver.acts == [Act("stop", ("i-2",), 40)]


def test_a_retry_time_in_the_past_is_retried_soon() -> None:
    async def scenario(world: World) -> None:
        attempts.append(refusing(world, FailureKind.REFUSED, pause=-5))

    attempts: list[list[float]] = []
    played(scenario, seconds=60)
    assert 5 < len(attempts[0]) < 15


def test_the_earliest_of_several_retry_times_is_kept() -> None:
    async def scenario(world: World) -> None:
        attempts.append(refusing(world, FailureKind.REFUSED, 3, others=300))
        await asyncio.sleep(9.9)
        by_hand(world, "i-1", InstanceState.STOPPED)  # this creates a separate order

    def before(world: World) -> None:
        world.driver.instances["i-1"] = InstanceState.RUNNING

    attempts: list[list[float]] = []
    played(scenario, seconds=15, before=before, unbooked="Leave")
    assert attempts[0] == [10, 13]


@pytest.mark.parametrize(
    "fault", [FailureKind.REFUSED, FailureKind.CAPACITY, FailureKind.DENIED, FailureKind.ACCOUNT]
)
def test_the_message_has_instance_reason_and_retry_time(fault: FailureKind) -> None:
    async def scenario(world: World) -> None:
        attempts.extend([refusing(world, fault, pause=60)])
        await asyncio.sleep(20)
        assert world.conditions()["Synced"] == ("False", "TheReason")
        assert message(world) == "i-1: because of it. The next attempt is at 2026-01-01T09:01:10Z."
        assert world.conditions()["Ready"] == ("False", "Starting")
        assert world.driver.instances["i-2"] is InstanceState.RUNNING

    attempts: list[list[float]] = []
    world = played(scenario, seconds=200)
    assert attempts[0] == [10, 70, 130, 190]
    for kind in ("Resource", "Booking"):
        assert world.events.recorded.count((kind, "TheReason")) == 1


def test_a_failure_without_a_retry_time_is_retried_with_back_off() -> None:
    async def scenario(world: World) -> None:
        attempts.extend([refusing(world, FailureKind.UNSENT, pause=0)])
        await asyncio.sleep(20)
        assert message(world) == "i-1: because of it."

    attempts: list[list[float]] = []
    played(scenario, seconds=200)
    assert 5 < len(attempts[0]) < 15


def book_with_slow_queue(world: World) -> None:
    """Book from second 10 on. The order waits 15 s in the request queue."""
    world.driver.queue_seconds = 15
    world.booking("b", 10, 900)


def test_a_retry_of_the_driver_is_reported_while_it_waits() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(11)
        (order,) = world.orders.open_orders(Key("ns", "res"))
        until = EPOCH + timedelta(seconds=25)
        broken = CloudError("InternalError", "It broke.", kind=FailureKind.TRANSIENT, retry_at=until)
        order.set_pending_error(broken, BOTH)
        await asyncio.sleep(4)
        assert world.conditions()["Synced"] == ("False", "InternalError")
        assert message(world) == "i-1, i-2: It broke. The next attempt is at 2026-01-01T09:00:25Z."
        await asyncio.sleep(20)
        assert world.conditions()["Synced"] == ("True", "Synced")

    world = played(scenario, seconds=60, before=book_with_slow_queue)
    assert [act.ids for act in world.driver.acts] == [BOTH]


def test_a_retry_time_that_has_passed_in_the_queue_is_not_reported() -> None:
    """The request queue repeats the call when its buckets allow it, so the reconcile does not back off."""

    async def scenario(world: World) -> None:
        await asyncio.sleep(11)
        (order,) = world.orders.open_orders(Key("ns", "res"))
        until = EPOCH + timedelta(seconds=12)
        throttled = CloudError("RequestLimitExceeded", "Slow.", kind=FailureKind.THROTTLED, retry_at=until)
        order.set_pending_error(throttled, BOTH)
        await asyncio.sleep(4)
        world.wake()
        await asyncio.sleep(0)
        assert world.conditions()["Synced"] == ("False", "RequestLimitExceeded")
        result = await world.reconciler.reconcile(Key("ns", "res"))
        assert message(world) == "i-1, i-2: Slow."
        assert not result.failed

    played(scenario, seconds=60, before=book_with_slow_queue)


def test_an_accepted_instance_keeps_the_error_of_the_others() -> None:
    async def main() -> None:
        order = Order.of(Group("ec2", "", REGION, "web"), BOTH, EPOCH)
        error = CloudError("RequestLimitExceeded", "Slow.", kind=FailureKind.THROTTLED)
        order.set_pending_error(error, BOTH)
        order.accept({"i-1": InstanceState.PENDING})
        assert order.pending_error is error
        order.accept({"i-2": InstanceState.PENDING})
        assert order.pending_error is None

    run(main())


def test_a_waiting_stop_is_cancelled_when_the_policy_becomes_leave() -> None:
    """`Leave` keeps the instances running, because no booking has started them."""

    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        (order,) = world.orders.open_orders(Key("ns", "res"))
        assert order.still_valid()
        world.resource(unbooked="Leave")
        assert not order.still_valid()

    def before(world: World) -> None:
        world.driver.queue_seconds = 15
        world.driver.instances = dict.fromkeys(BOTH, InstanceState.RUNNING)

    world = played(scenario, seconds=60, before=before)
    assert world.driver.acts == []


def test_a_failing_stop_does_not_block_other_stops() -> None:
    async def scenario(world: World) -> None:
        stop = world.driver.stop

        def failing(order: Order, *, hibernate: bool = False) -> None:
            if "i-1" in order.futures:
                until = world.clock.now() + timedelta(seconds=5)
                error = CloudError("InternalError", "It broke.", kind=FailureKind.TRANSIENT, retry_at=until)
                asyncio.get_running_loop().call_later(11, order.set_pending_error, error, ["i-1"])
            else:
                stop(order, hibernate=hibernate)

        world.driver.stop = failing  # type: ignore[method-assign]
        world.driver.instances["i-1"] = InstanceState.RUNNING
        await asyncio.sleep(30)
        world.driver.instances["i-2"] = InstanceState.RUNNING
        world.driver.view = world.driver.look(world.clock.now())
        world.wake()

    world = played(scenario, seconds=60)
    assert [(act.verb, act.ids) for act in world.driver.acts] == [("stop", ("i-2",))]


def test_a_cancelled_order_is_submitted_again_if_it_is_still_needed() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(9)
        (order,) = world.orders.open_orders(Key("ns", "res"))
        order.cancel()

    world = played(scenario, seconds=20, before=lambda world: world.booking("b", 10, 900))
    assert world.driver.acts == [Act("start", BOTH, 10)]
