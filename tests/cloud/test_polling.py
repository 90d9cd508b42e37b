"""The polls and notifications of the inventory, on virtual time and with a cloud in memory."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from booking_operator.cloud.driver import ActionAnswer
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.cloud.inventory.polling import (
    IDLE_INTERVAL,
    MAX_TRANSITION_TIME,
    RETENTION,
    STUCK_INTERVAL,
    TRANSITION_INTERVAL,
)
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import InstanceState
from tests.support.inventory import DB, FAR, UNREACHABLE, WEB, FakeListener, Stage, play

STOPPED, PENDING, RUNNING = InstanceState.STOPPED, InstanceState.PENDING, InstanceState.RUNNING


def test_fifty_idle_groups_cost_at_most_65_calls_an_hour() -> None:
    async def scenario(stage: Stage) -> None:
        groups = [Group("ec2", "", "eu-west-1", f"g{number}") for number in range(50)]
        stage.cloud.states = {(group, f"{group.tag}-{i}"): STOPPED for group in groups for i in (1, 2)}
        stage.track(*groups)
        await stage.sleep_to(3600)
        assert 55 <= len(stage.cloud.calls) <= 65

    play(scenario)


def test_only_scopes_of_tracked_groups_are_polled() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        await stage.observe(FAR)
        await stage.sleep_to(600)
        assert sum(scope == FAR.scope for scope, _ in stage.cloud.calls) == 1

    play(scenario)


def test_a_scope_that_is_no_longer_tracked_is_released_later() -> None:
    async def scenario(stage: Stage) -> None:
        groups, released = [WEB, FAR], list[Scope]()

        async def release(scope: Scope) -> None:
            released.append(scope)

        stage.inventory = Inventory(stage.cloud.describe, stage.clock, stage.tasks, release=release)
        stage.inventory.set_listener(FakeListener(lambda: groups))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(100)
        groups.remove(FAR)
        await stage.sleep_to(RETENTION.total_seconds())
        assert stage.inventory.observation(FAR) is not None
        assert released == []
        await stage.sleep_to(RETENTION.total_seconds() + 200)
        assert released == [FAR.scope]
        assert stage.inventory._watches.keys() == {WEB.scope}
        groups.append(FAR)
        await stage.sleep_to(RETENTION.total_seconds() + 300)
        assert stage.inventory.observation(FAR) is not None

    play(scenario)


def test_reading_an_unknown_scope_keeps_no_state() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        for number in range(1000):
            assert stage.inventory.observation(Group("ec2", "", f"made-up-{number}", "web")) is None
        await stage.sleep_to(61)
        assert stage.inventory._watches.keys() == {WEB.scope}

    play(scenario)


def test_a_scope_with_a_call_in_flight_is_not_released() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        await stage.sleep_to(1)
        stage.cloud.latency = 2 * RETENTION.total_seconds()
        caller = asyncio.create_task(stage.observe(FAR))
        await stage.sleep_to(1 + 1.9 * RETENTION.total_seconds())
        assert FAR.scope in stage.inventory._watches
        assert (await caller).ids() == ()

    play(scenario)


def test_nothing_is_released_before_a_listener_is_set() -> None:
    async def scenario(stage: Stage) -> None:
        stage.tasks.create_task(stage.inventory.poll())
        await stage.observe()
        await stage.sleep_to(3 * RETENTION.total_seconds())
        assert stage.inventory.observation(WEB) is not None

    play(scenario)


def test_a_failed_release_does_not_stop_polling() -> None:
    async def scenario(stage: Stage) -> None:
        groups = [WEB, FAR]

        async def release(_: Scope) -> None:
            raise OSError("it does not close")

        stage.inventory = Inventory(stage.cloud.describe, stage.clock, stage.tasks, release=release)
        stage.inventory.set_listener(FakeListener(lambda: groups))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(1)
        groups.remove(FAR)
        await stage.sleep_to(2 * RETENTION.total_seconds())
        assert FAR.scope not in stage.inventory._watches

    play(scenario)


def test_the_scope_of_a_new_group_is_polled_soon() -> None:
    async def scenario(stage: Stage) -> None:
        groups: list[Group] = []
        stage.inventory.set_listener(FakeListener(lambda: groups, stage.changed.append))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(100)
        groups.append(WEB)
        await stage.sleep_to(111)
        assert len(stage.cloud.calls) == 1

    play(scenario)


def test_a_poll_counts_from_the_last_call_of_any_caller() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        await stage.sleep_to(50)
        await stage.observe()
        await stage.sleep_to(50 + IDLE_INTERVAL.total_seconds() - 1)
        assert len(stage.cloud.calls) == 2
        await stage.sleep_to(50 + IDLE_INTERVAL.total_seconds() + 1)
        assert len(stage.cloud.calls) == 3

    play(scenario)


def test_instances_in_transition_are_polled_often_until_it_ends() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.states[WEB, "a"] = PENDING
        stage.track(WEB)
        await stage.sleep_to(30)
        pace = (stage.cloud.calls[-1][1] - stage.cloud.calls[0][1]) / (len(stage.cloud.calls) - 1)
        assert pace == pytest.approx(TRANSITION_INTERVAL, abs=timedelta(milliseconds=10))
        stage.cloud.states[WEB, "a"] = RUNNING
        await stage.sleep_to(32)
        before = len(stage.cloud.calls)
        await stage.sleep_to(80)
        assert len(stage.cloud.calls) == before

    play(scenario)


def test_transitions_of_untracked_groups_do_not_count() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.states[DB, "d"] = PENDING
        stage.track(WEB)
        await stage.sleep_to(59)
        assert len(stage.cloud.calls) == 1

    play(scenario)


def test_a_stuck_transition_is_polled_less_often() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.states[WEB, "a"] = InstanceState.STOPPING
        stage.track(WEB)
        stuck = MAX_TRANSITION_TIME.total_seconds() + 60
        await stage.sleep_to(stuck + 3600)
        assert stage.cloud.calls_since(stuck) <= 3600 / STUCK_INTERVAL.total_seconds() + 1

    play(scenario)


def test_after_errors_the_interval_grows_to_the_idle_interval() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.error = UNREACHABLE
        stage.track(WEB)
        await stage.sleep_to(600)
        instants = [at for _, at in stage.cloud.calls]
        pauses = [(b - a).total_seconds() for a, b in pairwise(instants)]
        assert pauses[:5] == pytest.approx([2, 4, 8, 16, 32], abs=0.01)
        assert pauses[5:] == pytest.approx([60] * len(pauses[5:]), abs=0.01)

    play(scenario)


def test_after_an_error_ends_polling_is_idle_again() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.error = UNREACHABLE
        stage.track(WEB)
        await stage.sleep_to(1)
        stage.cloud.error = None
        await stage.sleep_to(3600)
        assert len(stage.cloud.calls) <= 62

    play(scenario)


def test_a_clock_that_is_set_back_does_not_stop_the_polls() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        await stage.sleep_to(30)
        stage.clock.skew = timedelta(hours=-1)
        await stage.sleep_to(120)
        assert 2 <= len(stage.cloud.calls) <= 4

    play(scenario)


def test_the_listener_is_notified_of_changed_groups_only() -> None:
    async def scenario(stage: Stage) -> None:
        empty = Group("ec2", "", "eu-west-1", "empty")
        stage.track(WEB, DB, empty)
        await stage.sleep_to(1)
        assert set(stage.changed) == {WEB, DB, empty}  # the first view reports all groups
        stage.changed.clear()
        stage.cloud.states[WEB, "a"] = RUNNING
        await stage.sleep_to(61)
        assert stage.changed == [WEB]
        await stage.sleep_to(200)
        assert stage.changed == [WEB]

    play(scenario)


def test_groups_that_become_empty_or_appear_are_reported() -> None:
    async def scenario(stage: Stage) -> None:
        new = Group("ec2", "", "eu-west-1", "new")
        stage.track(WEB, DB, new)
        await stage.sleep_to(1)
        stage.changed.clear()
        del stage.cloud.states[WEB, "a"]
        stage.cloud.states[new, "n"] = STOPPED
        await stage.observe(DB)
        assert set(stage.changed) == {WEB, new}
        last = stage.inventory.observation(WEB)
        assert last is not None
        assert last.instances == ()

    play(scenario)


def test_an_accepted_start_is_visible_and_polled_immediately() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        await stage.sleep_to(20)
        stage.changed.clear()
        stage.inventory.record_answers(WEB, {"a": ActionAnswer(STOPPED, PENDING)})
        last = stage.inventory.observation(WEB)
        assert last is not None
        assert last.ids(PENDING) == ("a",)
        await stage.sleep_to(20.01)
        assert len(stage.cloud.calls) == 2  # this Describe still shows the old state
        await stage.sleep_to(25)
        assert stage.changed == []
        stage.cloud.states[WEB, "a"] = RUNNING
        await stage.sleep_to(27)
        assert stage.changed == [WEB]

    play(scenario)


def test_a_describe_sent_before_the_answer_does_not_overwrite_it() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.observe()
        await stage.sleep_to(10)
        caller = asyncio.create_task(stage.observe())
        await stage.sleep_to(10.1)
        stage.inventory.record_answers(WEB, {"a": ActionAnswer(STOPPED, PENDING)})
        assert (await caller).ids(PENDING) == ("a",)

    play(scenario)


def test_a_failed_describe_is_reported_when_it_begins_and_when_it_ends() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB, DB, FAR)
        await stage.sleep_to(1)
        stage.changed.clear()
        stage.cloud.error = UNREACHABLE
        await stage.sleep_to(100)
        assert stage.inventory.failure(WEB.scope) is UNREACHABLE
        assert sorted(map(hash, stage.changed)) == sorted(map(hash, [WEB, DB, FAR]))
        stage.changed.clear()
        stage.cloud.error = None
        await stage.sleep_to(200)
        assert stage.inventory.failure(WEB.scope) is None
        assert sorted(map(hash, stage.changed)) == sorted(map(hash, [WEB, DB, FAR]))

    play(scenario)


def test_a_group_is_notified_when_another_tag_differs_only_by_case() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.states = {(WEB, "a"): STOPPED, (DB, "b"): STOPPED}
        stage.track(WEB, DB)
        await stage.sleep_to(100)
        stage.changed.clear()
        other = Group("ec2", "", WEB.region, "WEB")
        stage.cloud.states[other, "c"] = STOPPED
        await stage.sleep_to(200)
        assert stage.changed == [WEB]
        observation = stage.inventory.observation(WEB)
        assert observation is not None
        assert observation.similar == ("WEB",)
        del stage.cloud.states[other, "c"]
        await stage.sleep_to(300)
        assert stage.changed == [WEB, WEB]

    play(scenario)
