"""When what is ordered leaves, with what else, and what becomes of each instance."""

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
from tests.support.sending import (
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


def test_what_is_ordered_ahead_leaves_at_its_deadline_by_one_call_whatever_group_it_is_of() -> None:
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


def test_what_is_late_already_waits_a_moment_for_company() -> None:
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


def test_more_than_a_call_takes_leaves_by_several_as_the_limits_allow() -> None:
    async def scenario(stage: Stage) -> None:
        orders = [stage.order(f"a{n}", f"b{n}", at=1) for n in range(1000)]
        await asyncio.wait([future for order in orders for future in order.futures.values()])
        assert stage.sizes()[0] == (1, 1000)
        assert sum(size for _, size in stage.sizes()) == 2000
        assert max(at for at, _ in stage.sizes()) <= 1 + 500 * 1.02

    play(scenario)


def test_stops_are_not_kept_by_starts() -> None:
    async def scenario(stage: Stage) -> None:
        stage.order(*(f"a{n}" for n in range(1500)), at=1)
        stop = stage.order("z", at=2, operation=STOP)
        await stage.outcome(stop)
        assert stage.sent[-1] == Sent(2, Action.STOP, ("z",))

    play(scenario)


def test_tags_of_the_same_words_are_written_by_one_call() -> None:
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


def test_no_instance_no_call() -> None:
    async def scenario(stage: Stage) -> None:
        stage.order()
        await asyncio.sleep(1)
        assert stage.sent == []

    play(scenario)


# --- orders that do not stand any more


def test_an_order_that_does_not_stand_any_more_is_withdrawn_as_it_would_leave() -> None:
    async def scenario(stage: Stage) -> None:
        asked: list[float] = []

        def stands() -> bool:
            asked.append(seconds(stage.clock.now()))
            return False

        gone, kept = stage.order("a", at=5, stands=stands), stage.order("b", at=5)
        await stage.outcome(kept)
        assert outcome(gone) == {"a": "withdrawn"}
        assert asked == [5]
        assert stage.sent == [Sent(5, Action.START, ("b",))]

    play(scenario)


def test_what_was_withdrawn_is_not_sent_and_makes_no_call_by_itself() -> None:
    async def scenario(stage: Stage) -> None:
        order = stage.order("a", at=5)
        order.cancel()
        await asyncio.sleep(9)
        assert stage.sent == []

    play(scenario)


def test_what_is_withdrawn_under_way_stays_so_and_is_noted() -> None:
    async def scenario(stage: Stage) -> None:
        stage.latency = 1
        order = stage.order("a", at=5)
        await asyncio.sleep(5.5)
        order.cancel()
        await asyncio.sleep(1)
        assert [set(answers) for _, _, answers in stage.accepted] == [{"a"}]

    play(scenario)


def test_what_waits_for_calls_under_way_is_not_sent_after_it_was_withdrawn() -> None:
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


def test_no_more_calls_of_a_lane_are_under_way_than_it_may_have() -> None:
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


def test_calls_that_fail_let_others_follow() -> None:
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
def test_what_is_withdrawn_before_it_leaves_draws_nothing(kept: int) -> None:
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


# --- prospects


def test_it_reports_when_the_last_of_an_order_will_leave() -> None:
    async def scenario(stage: Stage) -> None:
        first = stage.order(*(f"a{n}" for n in range(1000)), at=1)
        second = stage.order(*(f"b{n}" for n in range(200)), at=1)
        lane = stage.batcher.queue(WEB.scope, Action.START)
        expected = await lane.forecast()
        assert 100 <= seconds(expected[second]) - 1 <= 102
        assert seconds(expected[first]) == 1
        await stage.outcome(second)
        assert stage.sent[-1].at == pytest.approx(seconds(expected[second]), abs=1)
        assert await lane.forecast() == {}

    play(scenario)


def test_what_was_withdrawn_keeps_nobody_waiting() -> None:
    async def scenario(stage: Stage) -> None:
        first = stage.order(*(f"a{n}" for n in range(1000)), at=1)
        second = stage.order(*(f"b{n}" for n in range(200)), at=1)
        first.cancel()
        expected = await stage.batcher.queue(WEB.scope, Action.START).forecast()
        assert seconds(expected[second]) == 1

    play(scenario)


# --- outcomes


def test_an_instance_the_answer_leaves_out_was_not_accepted() -> None:
    async def scenario(stage: Stage) -> None:
        stage.silent_on = frozenset("b")
        assert await stage.outcome(stage.order("a", "b")) == {"a": "pending", "b": "NotAccepted"}

    play(scenario)


def test_what_was_accepted_is_noted_before_anybody_acts_on_it() -> None:
    async def scenario(stage: Stage) -> None:
        noted: list[int] = []
        order = stage.order("a")
        order.futures["a"].add_done_callback(lambda _: noted.append(len(stage.accepted)))
        await stage.outcome(order)
        assert noted == [1]

    play(scenario)


def test_lanes_that_are_not_used_any_more_are_ended() -> None:
    async def scenario(stage: Stage) -> None:
        before = len(asyncio.all_tasks())
        for number in range(30):
            await stage.outcome(stage.order("a", group=Group("ec2", "", f"region-{number}", "web")))
        ahead = stage.order("b", at=3 * MAX_IDLE.total_seconds(), group=FAR)
        await asyncio.sleep(MAX_IDLE.total_seconds() + 100)
        assert len(stage.batcher.queues) == 31
        await stage.outcome(stage.order("c"))
        assert {lane.scope for lane in stage.batcher.queues} == {WEB.scope, FAR.scope}
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == before + 2
        assert await stage.outcome(ahead) == {"b": "pending"}
        again = Group("ec2", "", "region-0", "web")
        assert await stage.outcome(stage.order("a", group=again)) == {"a": "pending"}

    play(scenario)


def test_nobody_needs_to_look_at_a_failure() -> None:
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
        assert [(call.action, call.ids) for call in stage.sent] == [
            (Action.HIBERNATE, ("a", "b")),
            (Action.STOP, ("a", "b")),
        ]

    play(scenario)


def test_hibernation_refused_for_some_leaves_it_to_the_others() -> None:
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


def test_what_was_accepted_and_refused_is_logged_once_a_call() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse("InvalidInstanceIDNotFound", "bad")
        with capture_logs() as logs:
            orders = [stage.order("a", "bad"), stage.order("b", group=DB)]
            for order in orders:
                await stage.outcome(order)
        where = {"account": "", "region": "eu-west-1"}
        assert logs == [
            {
                "event": "instances_start_refused",
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
