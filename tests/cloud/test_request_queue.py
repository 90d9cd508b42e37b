"""Each class of failure: other entries continue, retries obey a back-off, and orders report the cause."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from booking_operator.cloud.driver import Action, CloudError, FailureKind, Operation
from booking_operator.domain.instance import InstanceState
from tests.support.batcher_stage import (
    BROKEN,
    LOST,
    STOP,
    THROTTLED,
    WEB,
    Reply,
    Sent,
    Stage,
    in_account,
    once,
    outcome,
    play,
    refuse,
    seconds,
)

MANY = tuple(f"i-{number:04}" for number in range(1000))


def good(*bad: str) -> dict[str, str]:
    return dict.fromkeys(set(MANY) - set(bad), "pending")


# --- throttled


def test_a_throttled_batch_is_retried_when_the_limiter_allows() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = once(THROTTLED)
        order = stage.order("a", "b", at=1)
        await asyncio.sleep(1.2)
        assert order.pending_error is not None
        assert order.pending_error.reason == "RequestLimitExceeded"
        assert order.pending_error.retry_at is not None
        assert seconds(order.pending_error.retry_at) == 1.5
        assert await stage.outcome(order) == {"a": "pending", "b": "pending"}
        assert [(call.at, call.ids) for call in stage.sent] == [(1, ("a", "b")), (1.5, ("a", "b"))]
        assert order.pending_error is None

    play(scenario)


def test_the_back_off_after_throttling_grows() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = once(*[THROTTLED] * 5)
        await stage.outcome(stage.order("a", at=0))
        pauses = [round(b.at - a.at, 2) for a, b in pairwise(stage.sent)]
        assert pauses == [0.5, 1, 2, 4, 8]

    play(scenario)


def test_calls_that_are_throttled_together_are_retried_after_one_pause() -> None:
    async def scenario(stage: Stage) -> None:
        stage.latency, stage.reply = 1, once(*[THROTTLED] * 5)
        orders = [stage.order(*MANY[n * 10 : n * 10 + 10], at=1 + n / 10) for n in range(5)]
        for order in orders:
            await stage.outcome(order)
        assert stage.sizes() == [(1, 10), (1.1, 10), (1.2, 10), (1.3, 10), (1.4, 10), (2.5, 50)]

    play(scenario)


# --- 5xx, and no connection


def test_a_batch_after_a_server_error_is_retried_with_back_off() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = once(BROKEN, BROKEN)
        order = stage.order("a", "b", at=1)
        assert set((await stage.outcome(order)).values()) == {"pending"}
        assert [(call.at, len(call.ids)) for call in stage.sent] == [(1, 2), (1.5, 2), (2.5, 2)]

    play(scenario)


def test_calls_that_fail_together_are_retried_after_the_first_back_off() -> None:
    async def scenario(stage: Stage) -> None:
        stage.latency, stage.reply = 1, once(*[BROKEN] * 5)
        orders = [stage.order(f"a{n}", at=1 + n / 10) for n in range(5)]
        for order in orders:
            await stage.outcome(order)
        assert stage.sizes()[5:] == [(2.5, 3), (2.8, 2)]

    play(scenario)


def test_a_failing_entry_does_not_delay_later_ones() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = lambda _, ids: BROKEN if "a" in ids else None
        broken = stage.order("a", at=1)
        fresh = [stage.order(f"b{n}", at=n) for n in range(2, 9)]
        for order in fresh:
            await stage.outcome(order)
        assert outcome(broken) == {"a": "waits"}
        assert [call.at for call in stage.sent if "a" not in call.ids] == [2, 3, 4, 5, 6, 7, 8]

    play(scenario)


def test_a_failing_instance_does_not_prolong_the_back_off_of_others() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = lambda _, ids: BROKEN if "poison" in ids else None
        stage.order("poison", at=0)
        for number in range(60):
            await stage.outcome(stage.order(f"a{number}", at=number + 0.3))
        once_broken = stage.order("once", at=70)
        stage.reply = lambda _, ids: BROKEN if "poison" in ids or seconds(stage.clock.now()) == 70 else None
        await stage.outcome(once_broken)
        assert stage.sent[-1].at <= 71

    play(scenario)


def test_an_instance_that_causes_server_errors_is_isolated() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = lambda _, ids: BROKEN if "i-0007" in ids else None
        order = stage.order(*MANY, at=0)
        await asyncio.sleep(300)
        assert {id_: state for id_, state in outcome(order).items() if state != "waits"} == good("i-0007")
        pauses = [call.at for call in stage.sent if call.ids == ("i-0007",)]
        assert all(later - earlier >= 14.9 for earlier, later in pairwise(pauses))

    play(scenario)


def test_an_outage_that_begins_during_a_search_needs_few_calls() -> None:
    async def scenario(stage: Stage) -> None:
        stage.limits.clear()
        left = [True]

        def reply(_: Operation, ids: Sequence[str]) -> CloudError | None:
            if len(ids) == 500 and left:
                left.clear()
                return None
            return BROKEN

        stage.reply = reply
        order = stage.order(*MANY, at=0)
        await asyncio.sleep(300)
        assert not left
        assert len(stage.sent) < 100
        stage.reply = lambda *_: None
        assert set((await stage.outcome(order)).values()) == {"pending"}
        assert stage.sent[-1].at - 300 <= 20

    play(scenario)


@pytest.mark.parametrize("size", [1, 1000])
def test_an_outage_of_an_hour_needs_few_calls_and_recovery_is_quick(size: int) -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = lambda *_: BROKEN
        orders = [stage.order(*MANY[start : start + size], at=start) for start in range(0, 1000, size)]
        await asyncio.sleep(3600)
        # Each order is tried once when it is due. After that, all are retried together.
        assert len(stage.sent) < len(orders) + 600
        before = len(stage.sent)
        stage.reply = lambda *_: None
        for order in orders:
            assert set((await stage.outcome(order)).values()) == {"pending"}
        assert stage.sent[-1].at - 3600 <= 20
        assert len(stage.sent) - before <= 16

    play(scenario)


# --- lost replies


def test_after_a_lost_reply_only_unchanged_instances_are_sent_again() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = once(LOST)
        stage.states = {"a": InstanceState.PENDING, "b": InstanceState.STOPPED}
        order = stage.order("a", "b", at=1)
        assert await stage.outcome(order) == {"a": "pending", "b": "pending"}
        assert stage.looks == [1]
        assert [call.ids for call in stage.sent] == [("a", "b"), ("b",)]

    play(scenario)


def test_after_a_lost_reply_and_a_failed_refresh_the_call_is_repeated() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = once(LOST)
        stage.states, stage.look_error = {"a": InstanceState.PENDING}, LOST
        assert await stage.outcome(stage.order("a", at=1)) == {"a": "pending"}
        assert len(stage.sent) == 2

    play(scenario)


def test_tokens_of_a_call_with_a_lost_reply_are_refilled() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = once(LOST)
        stage.states = dict.fromkeys(MANY, InstanceState.PENDING)
        await stage.outcome(stage.order(*MANY, at=0))
        await asyncio.sleep(60)
        for late in ("b", "c", "d"):
            await stage.outcome(stage.order(late))
        assert stage.sent[-1].at == pytest.approx(60, abs=1)

    play(scenario)


def test_a_tag_write_with_a_lost_reply_is_repeated() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = once(LOST)
        await stage.outcome(stage.order("a", operation=Operation(Action.UNTAG)))
        assert stage.looks == []
        assert len(stage.sent) == 2

    play(scenario)


# --- some instances are bad


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("bad", [("i-0500",), ("i-0000", "i-0999"), MANY[100:105]])
def test_bad_instances_among_a_thousand_fail_alone(bad: Sequence[str], named: bool) -> None:
    async def scenario(stage: Stage) -> None:
        stage.limits.clear()
        stage.reply = refuse("InvalidInstanceIDNotFound", *bad, named=named)
        order = stage.order(*MANY, at=0)
        found = await stage.outcome(order)
        assert found == {**good(*bad), **dict.fromkeys(bad, "InvalidInstanceIDNotFound")}
        assert len(stage.sent) <= (2 if named else 2 + 20 * len(bad))

    play(scenario)


def test_good_instances_are_sent_again_immediately() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse("IncorrectInstanceState", "bad")
        await stage.outcome(stage.order("a", "bad", "b", at=1))
        assert stage.sent == [
            Sent(1, Action.START, ("a", "bad", "b")),
            Sent(1, Action.START, ("a", "b")),
        ]

    play(scenario)


def test_bad_instances_that_are_named_one_by_one_all_fail() -> None:
    def reply(_: Operation, ids: Sequence[str]) -> CloudError:
        return CloudError("IncorrectInstanceState", ids[0], kind=FailureKind.REFUSED, ids=ids[:1])

    async def scenario(stage: Stage) -> None:
        stage.reply = reply
        found = await stage.outcome(stage.order(*"abcd", at=0))
        assert set(found.values()) == {"IncorrectInstanceState"}
        assert len(stage.sent) == 4

    play(scenario)


@pytest.mark.parametrize("fault", [FailureKind.REFUSED, FailureKind.DENIED])
def test_many_bad_instances_that_are_named_one_at_a_time_fail_alone(fault: FailureKind) -> None:
    bad = MANY[::66]

    def reply(_: Operation, ids: Sequence[str]) -> CloudError | None:
        hit = [id_ for id_ in ids if id_ in bad]
        return CloudError("OperationNotPermitted", hit[0], kind=fault, ids=hit[:1]) if hit else None

    async def scenario(stage: Stage) -> None:
        stage.limits.clear()
        stage.reply = reply
        found = await stage.outcome(stage.order(*MANY, at=0))
        assert found == {**good(*bad), **dict.fromkeys(bad, "OperationNotPermitted")}

    play(scenario)


def test_refusals_without_names_end_after_a_bounded_number_of_calls() -> None:
    async def scenario(stage: Stage) -> None:
        stage.limits.clear()
        stage.reply = lambda *_: CloudError("InvalidParameterCombination", "no", kind=FailureKind.REFUSED)
        found = await stage.outcome(stage.order(*MANY, at=0))
        assert set(found.values()) == {"InvalidParameterCombination"}
        assert len(stage.sent) <= 32

    play(scenario)


@pytest.mark.parametrize(
    ("reason", "pause"),
    [
        ("InvalidInstanceIDNotFound", 60),
        ("IncorrectInstanceState", 3),
        ("IncorrectSpotRequestState", 3),
        ("OperationNotPermitted", 300),
        ("UnsupportedOperation", 300),
    ],
)
def test_a_refused_instance_is_not_sent_during_its_back_off(reason: str, pause: float) -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse(reason, "bad")
        order = stage.order("bad", operation=STOP, at=0)
        await stage.outcome(order)
        error = order.futures["bad"].exception()
        assert isinstance(error, CloudError)
        assert error.retry_at is not None
        assert seconds(error.retry_at) == pytest.approx(pause, abs=0.06)
        for instant in (1, pause - 0.2):
            await asyncio.sleep(instant - seconds(stage.clock.now()))
            again = stage.order("bad", "ok", operation=STOP)
            assert await stage.outcome(again) == {"bad": reason, "ok": "stopping"}
        assert sum("bad" in call.ids for call in stage.sent) == 1
        await asyncio.sleep(1)
        stage.reply = lambda *_: None
        assert await stage.outcome(stage.order("bad", operation=STOP)) == {"bad": "stopping"}

    play(scenario)


async def pauses(stage: Stage, number: int) -> list[float]:
    """Stop an instance that the service refuses, again after each back-off; return the back-offs."""
    found = []
    for _ in range(number):
        order = stage.order("bad", operation=STOP)
        await stage.outcome(order)
        error = order.futures["bad"].exception()
        assert isinstance(error, CloudError)
        assert error.retry_at is not None
        found.append((error.retry_at - stage.clock.now()).total_seconds())
        await asyncio.sleep(found[-1])
    return found


@pytest.mark.parametrize("reason", ["InvalidDBInstanceState", "InvalidDBClusterStateFault"])
def test_the_back_off_of_a_state_that_never_passes_grows_to_an_hour(reason: str) -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse(reason, "bad")
        assert await pauses(stage, 13) == [*(3 * 2**number for number in range(11)), 3600, 3600]

    play(scenario)


def test_the_back_off_of_an_instance_ends_when_its_state_changes() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse("InvalidDBInstanceState", "bad")
        assert (await pauses(stage, 9))[-1] == 768
        await stage.outcome(stage.order("bad", operation=STOP))
        calls = len(stage.sent)
        await asyncio.sleep(1)
        await stage.outcome(stage.order("bad", operation=STOP))
        assert len(stage.sent) == calls
        stage.changed_at["bad"] = stage.clock.now()
        assert await pauses(stage, 2) == [3, 6]
        assert len(stage.sent) == calls + 2

    play(scenario)


def test_the_back_off_of_a_spot_instance_that_only_ec2_may_start_grows() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse("IncorrectSpotRequestState", "bad")
        pauses = []
        for _ in range(10):
            order = stage.order("bad")
            await stage.outcome(order)
            error = order.futures["bad"].exception()
            assert isinstance(error, CloudError)
            assert error.retry_at is not None
            pauses.append((error.retry_at - stage.clock.now()).total_seconds())
            await asyncio.sleep(pauses[-1])
        assert pauses == [3, 6, 12, 24, 48, 96, 192, 384, 600, 600]

    play(scenario)


def test_an_instance_that_was_refused_before_is_retried_alone() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse("InvalidInstanceIDNotFound", "bad", named=False)
        await stage.outcome(stage.order("bad", at=0))
        await asyncio.sleep(61)
        await stage.outcome(stage.order("bad", "good"))
        assert {call.ids for call in stage.sent[1:]} == {("bad",), ("good",)}

    play(scenario)


def test_an_instance_with_a_failed_start_is_not_sent_and_blocks_no_other() -> None:
    async def scenario(stage: Stage) -> None:
        stage.failed_starts = {"bad": CloudError("StartFailed", "it fell back", kind=FailureKind.REFUSED)}
        assert await stage.outcome(stage.order("a", "bad", at=1)) == {"a": "pending", "bad": "StartFailed"}
        assert await stage.outcome(stage.order("bad", operation=STOP, at=2)) == {"bad": "stopping"}
        assert stage.sent == [Sent(1, Action.START, ("a",)), Sent(2, Action.STOP, ("bad",))]

    play(scenario)


# --- no capacity

POOL, OTHER = "m5.large in eu-west-1a", "m5.large in eu-west-1b"


def no_room(named: bool) -> Reply:
    def reply(_: Operation, ids: Sequence[str]) -> CloudError | None:
        pool = POOL if named else ""
        full = any(id_.startswith("full") for id_ in ids)
        error = CloudError("InsufficientInstanceCapacity", "no room", kind=FailureKind.CAPACITY, pool=pool)
        return error if full else None

    return reply


@pytest.mark.parametrize("named", [True, False])
def test_a_full_pool_blocks_no_other_pool(named: bool) -> None:
    async def scenario(stage: Stage) -> None:
        stage.pools = {"full1": POOL, "full2": POOL, "a": OTHER, "b": OTHER}
        stage.reply = no_room(named)
        order = stage.order("full1", "a", "full2", "b", at=1)
        assert await stage.outcome(order) == {
            "full1": "InsufficientInstanceCapacity",
            "full2": "InsufficientInstanceCapacity",
            "a": "pending",
            "b": "pending",
        }
        assert {call.at for call in stage.sent} == {1}

    play(scenario)


def test_a_full_pool_is_not_tried_during_its_back_off_and_then_alone() -> None:
    async def scenario(stage: Stage) -> None:
        stage.pools = {"full1": POOL, "full2": POOL, "a": OTHER}
        stage.reply = no_room(named=True)
        await stage.outcome(stage.order("full1", at=0))
        again = stage.order("full2", "a")
        assert await stage.outcome(again) == {"full2": "InsufficientInstanceCapacity", "a": "pending"}
        assert sum("full2" in call.ids for call in stage.sent) == 0
        await asyncio.sleep(61)
        await stage.outcome(stage.order("full1", "full2", "a"))
        assert {call.ids for call in stage.sent[-2:]} == {("full1",), ("a",)}
        stage.reply = lambda *_: None
        await asyncio.sleep(121)
        await stage.outcome(stage.order("full1"))
        await stage.outcome(stage.order("full2", "a"))
        assert stage.sent[-1].ids == ("full2", "a")

    play(scenario)


class Pools:
    """The capacity of pools, each a number of instances that still fit. Use it as a reply."""

    def __init__(self, stage: Stage, *, named: bool = True, **rooms: int) -> None:
        self.rooms = rooms
        self._stage = stage
        self._named = named

    def __call__(self, _: Operation, ids: Sequence[str]) -> CloudError | None:
        wanted = Counter(self._stage.pools[id_] for id_ in ids)
        short = next((pool for pool, number in wanted.items() if number > self.rooms[pool]), None)
        if short is not None:
            pool = short if self._named else ""
            text = "We do not have enough"
            return CloudError("InsufficientInstanceCapacity", text, kind=FailureKind.CAPACITY, pool=pool)
        for pool, number in wanted.items():
            self.rooms[pool] -= number
        return None


def most_calls(instances: int) -> float:
    return 2 * log2(instances) + 4  # one more for the call with other instances that begins the search


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("room", [0, 1, 50, 98, 99])
def test_what_fits_into_a_pool_starts_at_once(room: int, named: bool) -> None:
    ids = MANY[:99]

    async def scenario(stage: Stage) -> None:
        stage.limits.clear()
        stage.pools = dict.fromkeys(ids, "small") | {"other": "large"}
        stage.reply = Pools(stage, named=named, small=room, large=1)
        order = stage.order(*ids, at=1)
        other = stage.order("other", at=1)
        found = await stage.outcome(order)
        assert Counter(found.values()) == Counter(
            {"pending": room} | ({"InsufficientInstanceCapacity": 99 - room} if room < 99 else {})
        )
        assert await stage.outcome(other) == {"other": "pending"}
        assert len(stage.sent) <= most_calls(99) + (0 if named else 1)
        accepted = [id_ for _, _, answers in stage.accepted for id_ in answers]
        assert len(accepted) == len(set(accepted)) == room + 1

    play(scenario)


def test_orders_due_together_share_the_search_in_the_order_of_their_deadlines() -> None:
    async def scenario(stage: Stage) -> None:
        stage.pools = dict.fromkeys(["a", "b", "c", "d", "e"], "small")
        stage.reply = Pools(stage, small=3)
        late = stage.order("a", "b", at=-1)
        early = stage.order("c", "d", "e", at=-2)
        assert set((await stage.outcome(early)).values()) == {"pending"}
        assert set((await stage.outcome(late)).values()) == {"InsufficientInstanceCapacity"}

    play(scenario)


def test_a_pool_that_was_full_is_tried_with_one_instance_and_then_with_more() -> None:
    ids = MANY[:64]

    async def scenario(stage: Stage) -> None:
        stage.limits.clear()
        stage.pools = dict.fromkeys(ids, "small")
        stage.reply = pools = Pools(stage, small=0)
        await stage.outcome(stage.order(*ids, at=1))
        before = len(stage.sent)
        await asyncio.sleep(61)
        assert set((await stage.outcome(stage.order(*ids))).values()) == {"InsufficientInstanceCapacity"}
        assert [len(call.ids) for call in stage.sent[before:]] == [1]
        pools.rooms["small"] = 64
        before = len(stage.sent)
        await asyncio.sleep(121)
        assert set((await stage.outcome(stage.order(*ids))).values()) == {"pending"}
        assert [len(call.ids) for call in stage.sent[before:]] == [1, 2, 4, 8, 16, 32, 1]

    play(scenario)


def test_a_cancelled_order_leaves_the_search_of_others() -> None:
    ids = MANY[:40]

    async def scenario(stage: Stage) -> None:
        stage.latency = 0.2
        stage.pools = dict.fromkeys(ids, "small")
        stage.reply = Pools(stage, small=10)
        gone = stage.order(*ids[:20], at=1)
        kept = stage.order(*ids[20:], at=1)
        await asyncio.sleep(1.25)
        gone.cancel()
        found = Counter((await stage.outcome(kept)).values())
        assert found["pending"] + Counter(outcome(gone).values())["pending"] <= 10
        assert found["pending"] >= 5
        again = stage.order("fresh", at=5)
        stage.pools["fresh"] = "large"
        stage.reply = lambda *_: None
        assert await stage.outcome(again) == {"fresh": "pending"}

    play(scenario)


@given(
    st.lists(st.sampled_from(["p", "q", "r"]), min_size=1, max_size=60),
    st.lists(st.integers(0, 40), min_size=3, max_size=3),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["p", "q", "r"]), st.integers(0, 20)), max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_several_short_pools_start_what_fits(
    pools: list[str], rooms: list[int], named: bool, changes: list[tuple[int, str, int]]
) -> None:
    """The capacity may also change during the search: then nothing is lost, and no instance starts twice."""
    ids = [f"i-{number:03}" for number in range(len(pools))]

    async def scenario(stage: Stage) -> None:
        stage.limits.clear()
        stage.latency = 0.1
        stage.pools = dict(zip(ids, pools, strict=True))
        stage.reply = capacity = Pools(stage, named=named, **dict(zip("pqr", rooms, strict=True)))
        order = stage.order(*ids, at=1)
        for tenths, pool, room in sorted(changes):
            await asyncio.sleep(max(0.0, 1 + tenths / 10 - seconds(stage.clock.now())))
            capacity.rooms[pool] = room
        found = await stage.outcome(order)
        assert set(found.values()) <= {"pending", "InsufficientInstanceCapacity"}
        accepted = [id_ for _, _, answers in stage.accepted for id_ in answers]
        assert sorted(accepted) == sorted(id_ for id_, state in found.items() if state == "pending")
        if not changes:
            wanted = Counter(pools)
            started = Counter(stage.pools[id_] for id_ in accepted)
            expected = {pool: min(wanted[pool], room) for pool, room in zip("pqr", rooms, strict=True)}
            assert {pool: started[pool] for pool in "pqr"} == expected
        assert len(stage.sent) <= 4 + 3 * most_calls(len(ids))

    play(scenario)


def test_calls_that_find_a_pool_full_together_cause_one_back_off() -> None:
    async def scenario(stage: Stage) -> None:
        ids = [f"full{number}" for number in range(5)]
        stage.pools = dict.fromkeys(ids, POOL)
        stage.latency, stage.reply = 1, no_room(named=True)
        orders = [stage.order(id_, at=1 + number / 10) for number, id_ in enumerate(ids)]
        for order, id_ in zip(orders, ids, strict=True):
            await stage.outcome(order)
            error = order.futures[id_].exception()
            assert isinstance(error, CloudError)
            assert error.retry_at is not None
            assert seconds(error.retry_at) == 2 + 60

    play(scenario)


# --- permissions


def test_a_missing_permission_for_one_instance_blocks_no_other() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = refuse("UnauthorizedOperation", "bad", fault=FailureKind.DENIED)
        found = await stage.outcome(stage.order("a", "bad", at=0))
        assert found == {"a": "pending", "bad": "UnauthorizedOperation"}

    play(scenario)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("size", [20, 40, 1000])
def test_a_permission_missing_for_all_is_reported_after_few_calls_with_back_off(
    size: int, named: bool
) -> None:
    def reply(_: Operation, ids: Sequence[str]) -> CloudError:
        # AWS names the first instance for which it evaluated the policy.
        return CloudError(
            "UnauthorizedOperation", "no", kind=FailureKind.DENIED, ids=ids[:1] if named else ()
        )

    async def scenario(stage: Stage) -> None:
        stage.limits.clear()
        stage.latency = 0.1
        stage.reply = reply
        found = await stage.outcome(stage.order(*MANY[:size], at=0))
        assert set(found.values()) == {"UnauthorizedOperation"}
        calls = len(stage.sent)
        assert calls <= 5 + 31
        if size > 31 or not named:  # otherwise AWS has named each instance
            await stage.outcome(stage.order("other"))
            assert len(stage.sent) == calls
            await asyncio.sleep(31)
        stage.reply = lambda *_: None
        assert await stage.outcome(stage.order("other")) == {"other": "pending"}

    play(scenario)


# --- accounts


def test_expired_credentials_block_the_account_in_all_regions_but_no_other() -> None:
    expired = CloudError("ExpiredCredentials", "renew them", kind=FailureKind.ACCOUNT)

    async def scenario(stage: Stage) -> None:
        stage.reply = lambda *_: expired
        assert await stage.outcome(stage.order("a", at=0)) == {"a": "ExpiredCredentials"}
        stage.reply = lambda *_: None
        assert await stage.outcome(stage.order("b", operation=STOP)) == {"b": "ExpiredCredentials"}
        assert len(stage.sent) == 1
        other = stage.order("c", group=in_account("other"))
        assert await stage.outcome(other) == {"c": "pending"}
        await asyncio.sleep(5)
        assert await stage.outcome(stage.order("a")) == {"a": "pending"}

    play(scenario)


def test_credentials_that_expire_during_several_calls_cause_one_back_off() -> None:
    expired = CloudError("ExpiredCredentials", "renew them", kind=FailureKind.ACCOUNT)

    async def scenario(stage: Stage) -> None:
        stage.latency, stage.reply = 1, lambda *_: expired
        groups = [replace(WEB, region=f"region-{number}") for number in range(10)]
        orders = [stage.order("a", at=1 + number / 100, group=group) for number, group in enumerate(groups)]
        for order in orders:
            await stage.outcome(order)
            error = order.futures["a"].exception()
            assert isinstance(error, CloudError)
            assert error.retry_at is not None
            assert seconds(error.retry_at) == 2 + 5
        await asyncio.sleep(7 - seconds(stage.clock.now()))
        again = stage.order("a")
        await stage.outcome(again)
        error = again.futures["a"].exception()
        assert isinstance(error, CloudError)
        assert error.retry_at is not None
        assert (error.retry_at - stage.clock.now()).total_seconds() == 10

    play(scenario)


def test_an_account_that_hangs_delays_nothing_in_another() -> None:
    async def scenario(stage: Stage) -> None:
        stage.latency = 60
        slow = stage.order("a", at=1)
        await asyncio.sleep(1.5)
        stage.latency = 0
        await stage.outcome(stage.order("b", at=2, group=in_account("other")))
        assert stage.sent[-1].at == 2
        assert outcome(slow) == {"a": "waits"}

    play(scenario)


def test_an_unsent_call_is_reported_immediately_without_back_off() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = once(CloudError("NoCredentials", "none"))
        assert await stage.outcome(stage.order("a", at=0)) == {"a": "NoCredentials"}
        assert await stage.outcome(stage.order("a")) == {"a": "pending"}

    play(scenario)


# --- waits before a call, and clocks that are set back


def test_a_call_that_waits_for_credentials_is_not_sent_in_a_new_back_off() -> None:
    expired = CloudError("ExpiredCredentials", "renew them", kind=FailureKind.ACCOUNT)

    async def scenario(stage: Stage) -> None:
        stage.reply = lambda *_: expired
        stage.preparing = 2
        waiting = stage.order("b", at=0.5)
        await asyncio.sleep(0.6)
        stage.preparing = 0
        await stage.outcome(stage.order("a", at=1))
        assert await stage.outcome(waiting) == {"b": "ExpiredCredentials"}
        assert [call.ids for call in stage.sent] == [("a",)]

    play(scenario)


def test_a_service_that_reads_first_writes_nothing_for_an_order_that_is_invalid_by_then() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reading = 5
        gone = stage.order("a", operation=STOP, at=1, stands=lambda: seconds(stage.clock.now()) < 3)
        await asyncio.sleep(8)
        assert outcome(gone) == {"a": "withdrawn"}
        assert stage.sent == []
        limiter, now = stage.batcher.queue(WEB.scope, Action.STOP).limiter, stage.clock.now()
        assert limiter.available(now) == 1000
        assert await stage.outcome(stage.order("b", operation=STOP, at=9)) == {"b": "stopping"}

    play(scenario)


def test_an_order_that_becomes_valid_again_after_the_read_is_sent_again() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reading = 1
        states = iter([True, False])  # at the first attempt: before the read, and after it
        order = stage.order("a", operation=STOP, at=1, stands=lambda: next(states, True))
        assert await stage.outcome(order) == {"a": "stopping"}

    play(scenario)


def test_an_order_that_becomes_invalid_while_waiting_is_not_sent() -> None:
    async def scenario(stage: Stage) -> None:
        stage.preparing = 20
        gone = stage.order("a", operation=STOP, at=1, stands=lambda: seconds(stage.clock.now()) < 10)
        kept = stage.order("b", operation=STOP, at=1)
        assert await stage.outcome(kept) == {"b": "stopping"}
        assert outcome(gone) == {"a": "withdrawn"}
        assert [call.ids for call in stage.sent] == [("b",)]

    play(scenario)


@pytest.mark.parametrize(
    "error", [None, BROKEN, THROTTLED, CloudError("Expired", "it", kind=FailureKind.ACCOUNT)]
)
def test_a_clock_set_back_by_hours_does_not_delay_orders(error: CloudError | None) -> None:
    async def scenario(stage: Stage) -> None:
        if error is not None:
            stage.reply = once(error)
        long_ago = -6 * 3600.0
        order = stage.order("a", at=long_ago)
        await asyncio.sleep(0.01 if error is None else 0.1)
        stage.clock.skew = -timedelta(hours=5)
        stage.order("b", at=long_ago)  # any new order wakes the queue
        if error is not None and error.kind is FailureKind.ACCOUNT:
            order = stage.order("a", at=long_ago)
        async with asyncio.timeout(60):
            assert await stage.outcome(order) == {"a": "pending"}

    play(scenario)
