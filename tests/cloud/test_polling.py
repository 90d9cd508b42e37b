"""When the inventory polls, and what it notifies: on virtual time, before a cloud in memory."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from booking_operator.cloud.driver import ActionAnswer
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.cloud.inventory.polling import (
    IDLE_INTERVAL,
    KEPT,
    MAX_TRANSITION_TIME,
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


def test_no_scope_is_asked_that_no_group_names() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        await stage.observe(FAR)
        await stage.sleep_to(600)
        assert sum(scope == FAR.scope for scope, _ in stage.cloud.calls) == 1

    play(scenario)


def test_a_scope_that_nobody_tracks_any_more_is_forgotten_after_a_while() -> None:
    async def scenario(stage: Stage) -> None:
        groups, released = [WEB, FAR], list[Scope]()

        async def release(scope: Scope) -> None:
            released.append(scope)

        stage.inventory = Inventory(stage.cloud.describe, stage.clock, stage.tasks, release=release)
        stage.inventory.set_listener(FakeListener(lambda: groups))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(100)
        groups.remove(FAR)
        await stage.sleep_to(KEPT.total_seconds())
        assert stage.inventory.observation(FAR) is not None
        assert released == []
        await stage.sleep_to(KEPT.total_seconds() + 200)
        assert released == [FAR.scope]
        assert stage.inventory._watches.keys() == {WEB.scope}
        groups.append(FAR)
        await stage.sleep_to(KEPT.total_seconds() + 300)
        assert stage.inventory.observation(FAR) is not None

    play(scenario)


def test_scopes_that_are_merely_asked_about_are_not_kept() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        for number in range(1000):
            assert stage.inventory.observation(Group("ec2", "", f"made-up-{number}", "web")) is None
        await stage.sleep_to(61)
        assert stage.inventory._watches.keys() == {WEB.scope}

    play(scenario)


def test_a_scope_with_a_call_under_way_is_not_forgotten() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        await stage.sleep_to(1)
        stage.cloud.latency = 2 * KEPT.total_seconds()
        asker = asyncio.create_task(stage.observe(FAR))
        await stage.sleep_to(1 + 1.9 * KEPT.total_seconds())
        assert FAR.scope in stage.inventory._watches
        assert (await asker).ids() == ()

    play(scenario)


def test_nothing_is_forgotten_before_anything_is_tracked() -> None:
    async def scenario(stage: Stage) -> None:
        stage.tasks.create_task(stage.inventory.poll())
        await stage.observe()
        await stage.sleep_to(3 * KEPT.total_seconds())
        assert stage.inventory.observation(WEB) is not None

    play(scenario)


def test_a_scope_that_cannot_be_released_ends_nothing() -> None:
    async def scenario(stage: Stage) -> None:
        groups = [WEB, FAR]

        async def release(_: Scope) -> None:
            raise OSError("it does not close")

        stage.inventory = Inventory(stage.cloud.describe, stage.clock, stage.tasks, release=release)
        stage.inventory.set_listener(FakeListener(lambda: groups))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(1)
        groups.remove(FAR)
        await stage.sleep_to(2 * KEPT.total_seconds())
        assert FAR.scope not in stage.inventory._watches

    play(scenario)


def test_a_scope_that_a_new_group_names_is_polled_soon() -> None:
    async def scenario(stage: Stage) -> None:
        groups: list[Group] = []
        stage.inventory.set_listener(FakeListener(lambda: groups, stage.told.append))
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


def test_instances_on_their_way_are_watched_closely_until_they_arrive() -> None:
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


def test_others_on_their_way_do_not_count() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.states[DB, "d"] = PENDING
        stage.track(WEB)
        await stage.sleep_to(59)
        assert len(stage.cloud.calls) == 1

    play(scenario)


def test_an_instance_that_never_arrives_is_watched_at_leisure() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.states[WEB, "a"] = InstanceState.STOPPING
        stage.track(WEB)
        stuck = MAX_TRANSITION_TIME.total_seconds() + 60
        await stage.sleep_to(stuck + 3600)
        assert stage.cloud.calls_since(stuck) <= 3600 / STUCK_INTERVAL.total_seconds() + 1

    play(scenario)


def test_after_an_error_the_pause_grows_to_the_idle_one() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.error = UNREACHABLE
        stage.track(WEB)
        await stage.sleep_to(600)
        instants = [at for _, at in stage.cloud.calls]
        pauses = [(b - a).total_seconds() for a, b in pairwise(instants)]
        assert pauses[:5] == pytest.approx([2, 4, 8, 16, 32], abs=0.01)
        assert pauses[5:] == pytest.approx([60] * len(pauses[5:]), abs=0.01)

    play(scenario)


def test_an_error_that_is_over_costs_no_further_calls() -> None:
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


def test_the_listener_hears_of_changed_groups_and_of_no_others() -> None:
    async def scenario(stage: Stage) -> None:
        empty = Group("ec2", "", "eu-west-1", "empty")
        stage.track(WEB, DB, empty)
        await stage.sleep_to(1)
        assert set(stage.told) == {WEB, DB, empty}  # seen for the first time
        stage.told.clear()
        stage.cloud.states[WEB, "a"] = RUNNING
        await stage.sleep_to(61)
        assert stage.told == [WEB]
        await stage.sleep_to(200)
        assert stage.told == [WEB]

    play(scenario)


def test_a_group_that_loses_its_last_instance_is_reported_and_one_that_appears() -> None:
    async def scenario(stage: Stage) -> None:
        new = Group("ec2", "", "eu-west-1", "new")
        stage.track(WEB, DB, new)
        await stage.sleep_to(1)
        stage.told.clear()
        del stage.cloud.states[WEB, "a"]
        stage.cloud.states[new, "n"] = STOPPED
        await stage.observe(DB)
        assert set(stage.told) == {WEB, new}
        last = stage.inventory.observation(WEB)
        assert last is not None
        assert last.instances == ()

    play(scenario)


def test_an_accepted_start_shows_and_is_followed_at_once() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB)
        await stage.sleep_to(20)
        stage.told.clear()
        stage.inventory.record_answers(WEB, {"a": ActionAnswer(STOPPED, PENDING)})
        last = stage.inventory.observation(WEB)
        assert last is not None
        assert last.ids(PENDING) == ("a",)
        await stage.sleep_to(20.01)
        assert len(stage.cloud.calls) == 2  # it still shows the old state
        await stage.sleep_to(25)
        assert stage.told == []
        stage.cloud.states[WEB, "a"] = RUNNING
        await stage.sleep_to(27)
        assert stage.told == [WEB]

    play(scenario)


def test_a_view_sent_before_the_answer_does_not_undo_it() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.observe()
        await stage.sleep_to(10)
        asker = asyncio.create_task(stage.observe())
        await stage.sleep_to(10.1)
        stage.inventory.record_answers(WEB, {"a": ActionAnswer(STOPPED, PENDING)})
        assert (await asker).ids(PENDING) == ("a",)

    play(scenario)


def test_the_cause_of_a_failed_describe_is_known_until_it_ends_and_reported_at_both_ends() -> None:
    async def scenario(stage: Stage) -> None:
        stage.track(WEB, DB, FAR)
        await stage.sleep_to(1)
        stage.told.clear()
        stage.cloud.error = UNREACHABLE
        await stage.sleep_to(100)
        assert stage.inventory.failure(WEB.scope) is UNREACHABLE
        assert sorted(map(hash, stage.told)) == sorted(map(hash, [WEB, DB, FAR]))
        stage.told.clear()
        stage.cloud.error = None
        await stage.sleep_to(200)
        assert stage.inventory.failure(WEB.scope) is None
        assert sorted(map(hash, stage.told)) == sorted(map(hash, [WEB, DB, FAR]))

    play(scenario)
