"""When orders leave, in which calls, and the outcome of each instance."""

import asyncio
import gc
from asyncio import TaskGroup
from collections import Counter

import pytest
from structlog.testing import capture_logs

from booking_operator.cloud.batching.request_queue import MAX_CALLS_IN_FLIGHT, MAX_IDLE
from booking_operator.cloud.driver import Action, CloudError, FailureKind, Operation, Order
from booking_operator.domain.group import Group
from booking_operator.domain.instance import Lock
from tests.support import virtual
from tests.support.batcher_stage import (
    STOP,
    WEB,
    Sent,
    Stage,
    outcome,
    play,
    refuse,
    seconds,
)

DB = Group("ec2", "", "eu-west-1", "db")
FAR = Group("ec2", "", "us-east-1", "web")


def test_orders_of_several_groups_leave_at_their_deadline_in_one_call() -> None:
    async def scenario(stage: Stage) -> None:
        orders = [stage.order("a", at=10), stage.order("b", "c", at=10, group=DB, tenant="other")]
        await asyncio.sleep(9.999)
        assert stage.sent == []
        for order in orders:
            await stage.outcome(order)
        assert stage.sent == [Sent(10, Action.START, ("a", "b", "c"))]
        assert [(group, set(answers)) for group, _, answers in stage.accepted] == [
            (WEB, {"a"}),
            (DB, {"b", "c"}),
        ]

    play(scenario)


def test_late_orders_wait_for_the_gather_time() -> None:
    async def scenario(stage: Stage) -> None:
        first = stage.order("a")
        await asyncio.sleep(0.03)
        second = stage.order("b", group=DB)
        await stage.outcome(first)
        await stage.outcome(second)
        assert stage.sent == [Sent(0.05, Action.START, ("a", "b"))]

    play(scenario)


def test_regions_and_accounts_share_no_call_and_no_limit() -> None:
    async def scenario(stage: Stage) -> None:
        stage.order(*(f"a{n}" for n in range(1000)), at=1)
        far = stage.order("f", at=1, group=FAR)
        stage.order("b", at=1)
        await stage.outcome(far)
        assert {(call.scope.region, call.at) for call in stage.sent} == {("eu-west-1", 1), ("us-east-1", 1)}

    play(scenario)


def test_large_orders_leave_in_several_calls_within_the_limits() -> None:
    async def scenario(stage: Stage) -> None:
        orders = [stage.order(f"a{n}", f"b{n}", at=1) for n in range(1000)]
        await asyncio.wait([future for order in orders for future in order.futures.values()])
        assert stage.sizes()[0] == (1, 1000)
        assert sum(size for _, size in stage.sizes()) == 2000
        assert max(at for at, _ in stage.sizes()) <= 1 + 500 * 1.02

    play(scenario)


def test_stops_do_not_wait_for_starts() -> None:
    async def scenario(stage: Stage) -> None:
        stage.order(*(f"a{n}" for n in range(1500)), at=1)
        stop = stage.order("z", at=2, operation=STOP)
        await stage.outcome(stop)
        assert stage.sent[-1] == Sent(2, Action.STOP, ("z",))

    play(scenario)


def test_equal_tags_are_written_in_one_call() -> None:
    ada, bob = Lock("ada", "2026-01-01T10:00:00Z"), Lock("bob", "2026-01-01T10:00:00Z")

    async def scenario(stage: Stage) -> None:
        orders = [
            stage.order("a", operation=Operation(Action.TAG, ada)),
            stage.order("b", operation=Operation(Action.TAG, bob), group=DB),
            stage.order("c", operation=Operation(Action.TAG, ada), group=DB),
            stage.order("d", operation=Operation(Action.UNTAG)),
            stage.order("e", operation=Operation(Action.UNTAG), group=DB),
        ]
        for order in orders:
            await stage.outcome(order)
        assert sorted(call.ids for call in stage.sent) == [("a", "c"), ("b",), ("d", "e")]

    play(scenario)


def test_an_order_without_instances_makes_no_call() -> None:
    async def scenario(stage: Stage) -> None:
        stage.order()
        await asyncio.sleep(1)
        assert stage.sent == []

    play(scenario)


# --- orders that are no longer valid


def test_an_invalid_order_is_cancelled_when_it_is_due() -> None:
    async def scenario(stage: Stage) -> None:
        checks: list[float] = []

        def stands() -> bool:
            checks.append(seconds(stage.clock.now()))
            return False

        gone, kept = stage.order("a", at=5, stands=stands), stage.order("b", at=5)
        await stage.outcome(kept)
        assert outcome(gone) == {"a": "withdrawn"}
        assert checks == [5]
        assert stage.sent == [Sent(5, Action.START, ("b",))]

    play(scenario)


def test_a_cancelled_order_is_not_sent() -> None:
    async def scenario(stage: Stage) -> None:
        order = stage.order("a", at=5)
        order.cancel()
        await asyncio.sleep(9)
        assert stage.sent == []

    play(scenario)


def test_the_answer_for_an_order_cancelled_in_flight_is_recorded() -> None:
    async def scenario(stage: Stage) -> None:
        stage.latency = 1
        order = stage.order("a", at=5)
        await asyncio.sleep(5.5)
        order.cancel()
        await asyncio.sleep(1)
        assert [set(answers) for _, _, answers in stage.accepted] == [{"a"}]

    play(scenario)


def test_an_order_cancelled_while_it_waits_for_calls_is_not_sent() -> None:
    async def scenario(stage: Stage) -> None:
        stage.latency = 2
        orders = [stage.order(f"db{number}", operation=STOP, at=1) for number in range(50)]
        await asyncio.sleep(2)
        for order in orders:
            order.cancel()
        kept = stage.order("kept", operation=STOP)
        assert await stage.outcome(kept) == {"kept": "stopping"}
        assert [(call.at, call.ids) for call in stage.sent[MAX_CALLS_IN_FLIGHT:]] == [(3, ("kept",))]

    play(scenario, most=1)


def test_the_calls_in_flight_of_a_queue_are_bounded() -> None:
    async def scenario(stage: Stage) -> None:
        stage.latency = 2
        orders = [stage.order(f"db{number}", operation=STOP, at=1) for number in range(50)]
        start = stage.order("a", at=2)
        await asyncio.wait([future for order in orders for future in order.futures.values()])
        stops = Counter(call.at for call in stage.sent if call.action is Action.STOP)
        assert stops == {1: MAX_CALLS_IN_FLIGHT, 3: MAX_CALLS_IN_FLIGHT, 5: 50 - 2 * MAX_CALLS_IN_FLIGHT}
        assert await stage.outcome(start) == {"a": "pending"}
        assert [call.at for call in stage.sent if call.action is Action.START] == [2]

    play(scenario, most=1)


def test_failed_calls_do_not_block_later_ones() -> None:
    async def scenario(stage: Stage) -> None:
        stage.latency = 1
        stage.reply = lambda _, ids: None if "last" in ids else CloudError("X", "y")
        orders = [
            stage.order(f"db{number}", operation=STOP, at=0) for number in range(2 * MAX_CALLS_IN_FLIGHT)
        ]
        last = stage.order("last", operation=STOP, at=0.5)
        assert await stage.outcome(last) == {"last": "stopping"}
        assert {reason for order in orders for reason in outcome(order).values()} == {"X"}

    play(scenario, most=1)


@pytest.mark.parametrize("kept", [0, 400])
def test_an_order_cancelled_before_it_is_sent_takes_no_tokens(kept: int) -> None:
    async def scenario(stage: Stage) -> None:
        stage.preparing = 0.2
        orders = [stage.order("kept", *(f"a{n}" for n in range(kept - 1)), at=0)] if kept else []
        gone = stage.order(*(f"b{n}" for n in range(1000 - kept)), at=0)
        await asyncio.sleep(0.1)
        gone.cancel()
        await asyncio.sleep(0.2)
        assert [outcome(order)["kept"] for order in orders] == ["pending"] * len(orders)
        throttle, now = stage.batcher.queue(WEB.scope, Action.START).limiter, stage.clock.now()
        assert throttle.available(now) == 1000 - kept
        assert throttle.requests.refilled(now).level == pytest.approx(4.1 if kept else 5)

    play(scenario)


# --- forecasts


def test_the_forecast_is_the_time_of_the_last_instance_of_an_order() -> None:
    async def scenario(stage: Stage) -> None:
        first = stage.order(*(f"a{n}" for n in range(1000)), at=1)
        second = stage.order(*(f"b{n}" for n in range(200)), at=1)
        queue = stage.batcher.queue(WEB.scope, Action.START)
        expected = await queue.forecast()
        assert 100 <= seconds(expected[second]) - 1 <= 102
        assert seconds(expected[first]) == 1
        await stage.outcome(second)
        assert stage.sent[-1].at == pytest.approx(seconds(expected[second]), abs=1)
        assert await queue.forecast() == {}

    play(scenario)


def test_a_cancelled_order_delays_no_other() -> None:
    async def scenario(stage: Stage) -> None:
        first = stage.order(*(f"a{n}" for n in range(1000)), at=1)
        second = stage.order(*(f"b{n}" for n in range(200)), at=1)
        first.cancel()
        expected = await stage.batcher.queue(WEB.scope, Action.START).forecast()
        assert seconds(expected[second]) == 1

    play(scenario)


# --- outcomes


def test_an_instance_missing_in_the_answer_is_not_accepted() -> None:
    async def scenario(stage: Stage) -> None:
        stage.silent_on = frozenset("b")
        assert await stage.outcome(stage.order("a", "b")) == {"a": "pending", "b": "NotAccepted"}

    play(scenario)


def test_the_inventory_records_an_answer_before_futures_are_done() -> None:
    async def scenario(stage: Stage) -> None:
        noted: list[int] = []
        order = stage.order("a")
        order.futures["a"].add_done_callback(lambda _: noted.append(len(stage.accepted)))
        await stage.outcome(order)
        assert noted == [1]

    play(scenario)


def test_unused_queues_are_closed() -> None:
    async def scenario(stage: Stage) -> None:
        before = len(asyncio.all_tasks())
        for number in range(30):
            await stage.outcome(stage.order("a", group=Group("ec2", "", f"region-{number}", "web")))
        ahead = stage.order("b", at=3 * MAX_IDLE.total_seconds(), group=FAR)
        await asyncio.sleep(MAX_IDLE.total_seconds() + 100)
        assert len(stage.batcher.queues) == 31
        await stage.outcome(stage.order("c"))
        assert {queue.scope for queue in stage.batcher.queues} == {WEB.scope, FAR.scope}
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == before + 2
        assert await stage.outcome(ahead) == {"b": "pending"}
        again = Group("ec2", "", "region-0", "web")
        assert await stage.outcome(stage.order("a", group=again)) == {"a": "pending"}

    play(scenario)


def test_failures_that_are_not_retrieved_are_not_logged() -> None:
    complaints: list[object] = []

    async def scenario(stage: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        stage.reply = lambda *_: CloudError("X", "y")
        order = stage.order("a", "b")
        await stage.outcome(order)
        del order
        gc.collect()

    play(scenario)
    assert complaints == []


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
@pytest.mark.parametrize("at", [0, 60])
def test_pending_futures_are_cancelled_with_the_task_group(turns: int, at: float) -> None:
    async def main() -> None:
        async def shut_down() -> None:
            async with TaskGroup() as tasks:
                stage = Stage(tasks)
                stage.latency = 99
                orders.append(stage.order("a", at=at))
                for _ in range(turns):
                    await asyncio.sleep(0.02)
                raise KeyError

        orders: list[Order] = []
        with pytest.raises(ExceptionGroup):
            await shut_down()
        await asyncio.sleep(0)
        assert outcome(orders[0]) == {"a": "withdrawn"}

    virtual.run(main())


# --- hibernation


@pytest.mark.parametrize("reason", ["UnsupportedHibernationConfiguration", "UnsupportedOperation"])
def test_hibernation_refused_is_a_plain_stop(reason: str) -> None:
    async def scenario(stage: Stage) -> None:
        error = CloudError(reason, "no", kind=FailureKind.REFUSED)
        stage.reply = lambda change, _: error if change.action is Action.HIBERNATE else None
        order = stage.order("a", "b", operation=Operation(Action.HIBERNATE))
        assert await stage.outcome(order) == {"a": "stopping", "b": "stopping"}
        hibernated = [call.ids for call in stage.sent if call.action is Action.HIBERNATE]
        assert hibernated == [("a", "b"), ("a",), ("b",)]
        assert sorted(call.ids for call in stage.sent if call.action is Action.STOP) == [("a",), ("b",)]

    play(scenario)


@pytest.mark.parametrize("unready", [1, 50])
def test_hibernation_refused_without_names_still_works_for_the_others(unready: int) -> None:
    async def scenario(stage: Stage) -> None:
        ids = [f"i-{number:02}" for number in range(50)]
        bad = ids[-unready:]
        unnamed = refuse("UnsupportedOperation", *bad, named=False)
        stage.reply = lambda change, ids: unnamed(change, ids) if change.action is Action.HIBERNATE else None
        stage.limits.clear()
        order = stage.order(*ids, operation=Operation(Action.HIBERNATE))
        assert set((await stage.outcome(order)).values()) == {"stopping"}
        stopped = [id_ for call in stage.sent if call.action is Action.STOP for id_ in call.ids]
        assert sorted(stopped) == bad
        assert len(stage.sent) <= 31 + 20

    play(scenario)


def test_hibernation_refused_for_some_still_works_for_the_others() -> None:
    async def scenario(stage: Stage) -> None:
        named = refuse("UnsupportedHibernationConfiguration", "old")
        stage.reply = lambda change, ids: named(change, ids) if change.action is Action.HIBERNATE else None
        order = stage.order("a", "old", operation=Operation(Action.HIBERNATE))
        assert await stage.outcome(order) == {"a": "stopping", "old": "stopping"}
        assert {(call.action, call.ids) for call in stage.sent[1:]} == {
            (Action.STOP, ("old",)),
            (Action.HIBERNATE, ("a",)),
        }

    play(scenario)


# --- logs


def test_accepted_and_refused_instances_are_logged_once_per_call() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse("InvalidInstanceIDNotFound", "bad")
        with capture_logs() as logs:
            orders = [stage.order("a", "bad"), stage.order("b", group=DB)]
            for order in orders:
                await stage.outcome(order)
        where = {"account": "", "region": "eu-west-1"}
        assert logs == [
            {
                "event": "instances_start_failed",
                "log_level": "warning",
                "tags": ["web"],
                **where,
                "count": 1,
                "ids": ["bad"],
                "reason": "InvalidInstanceIDNotFound",
                "message": "bad",
            },
            {
                "event": "instances_start_accepted",
                "log_level": "info",
                "tags": ["db", "web"],
                **where,
                "count": 2,
                "ids": ["a", "b"],
            },
        ]

    play(scenario)
