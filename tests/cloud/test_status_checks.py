"""When status checks are read, on virtual time: only for booked instances that run and are not ready."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta

from booking_operator.cloud.driver import CheckedGroup, CloudError
from booking_operator.cloud.inventory.status_checks import CHECK_BATCH, StatusChecks
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import InstanceState
from tests.support import virtual
from tests.support.inventory import DB, FAR, UNREACHABLE, WEB, Stage
from tests.support.virtual import EPOCH

RUNNING, STOPPED = InstanceState.RUNNING, InstanceState.STOPPED
PROBLEM = "is not ready: its instance status check is initializing"


class Checks(Stage):
    """Status checks in front of an inventory. The groups in `booked` are booked."""

    def __init__(self, tasks: TaskGroup) -> None:
        super().__init__(tasks)
        self.problems: dict[str, str] = {}
        self.error: Exception | None = None
        self.fails = set[str]()
        self.reads: list[tuple[float, tuple[str, ...]]] = []
        self.booked: list[Group] = [WEB]
        self.wanted_from: datetime | None = EPOCH
        self.was_ready = False
        self.answer_after = 0.1
        self.news: list[Group] = []
        self.checks = StatusChecks(self.read, self.inventory, self.clock, tasks)
        self.checks.set_listener(self)
        tasks.create_task(self.checks.poll())
        self.track(WEB, DB)

    async def read(self, _: Scope, ids: Collection[str]) -> Mapping[str, str]:
        self.reads.append((asyncio.get_running_loop().time(), tuple(ids)))
        await self.clock.sleep(self.answer_after)
        if self.fails & set(ids):
            raise UNREACHABLE
        if self.error is not None:
            raise self.error
        return {id_: self.problems.get(id_, "") for id_ in ids}

    def checked_groups(self) -> Collection[CheckedGroup]:
        return [CheckedGroup(group, self.wanted_from, self.was_ready) for group in self.booked]

    def group_changed(self, group: Group) -> None:
        self.news.append(group)

    async def run(self, group: Group, id_: str, state: InstanceState = RUNNING) -> None:
        """Set the state of an instance, and view it."""
        self.cloud.states[group, id_] = state
        await self.observe(group)

    def passed_at(self, id_: str) -> datetime | None:
        return self.checks.of(WEB.scope)[id_].passed_at


def play(scenario: Callable[[Checks], Awaitable[None]]) -> None:
    virtual.play(Checks, scenario)


def test_checks_are_read_until_they_pass_and_never_after() -> None:
    async def scenario(stage: Checks) -> None:
        stage.problems["a"] = PROBLEM
        await stage.sleep_to(10)
        assert stage.reads == []  # nothing runs
        await stage.run(WEB, "a")
        await stage.sleep_to(16)
        assert [ids for _, ids in stage.reads] == [("a",), ("a",)]
        assert stage.checks.of(WEB.scope)["a"].problem == PROBLEM
        del stage.problems["a"]
        await stage.sleep_to(25)
        assert stage.passed_at("a") == EPOCH + timedelta(seconds=stage.reads[-1][0])
        assert len(stage.reads) == 3
        await stage.sleep_to(3600)
        assert len(stage.reads) == 3
        assert stage.news == [WEB, WEB]  # a new problem, and no problem

    play(scenario)


def test_only_running_instances_of_booked_groups_are_read_each_scope_in_one_call() -> None:
    async def scenario(stage: Checks) -> None:
        stage.cloud.states |= {(WEB, "b"): RUNNING, (WEB, "a"): RUNNING, (WEB, "c"): STOPPED}
        stage.cloud.states[DB, "d"] = RUNNING
        await stage.sleep_to(3)
        assert [sorted(ids) for _, ids in stage.reads] == [["a", "b"]]

    play(scenario)


def test_an_instance_that_stops_is_checked_again_after_its_next_start() -> None:
    async def scenario(stage: Checks) -> None:
        await stage.run(WEB, "a")
        await stage.sleep_to(5)
        assert stage.passed_at("a") is not None
        await stage.run(WEB, "a", STOPPED)
        await stage.sleep_to(6)
        assert "a" not in stage.checks.of(WEB.scope)
        stage.problems["a"] = PROBLEM
        await stage.run(WEB, "a")
        await stage.sleep_to(8)
        assert stage.passed_at("a") is None
        assert len(stage.reads) == 2

    play(scenario)


def test_a_group_that_is_no_longer_booked_is_forgotten() -> None:
    async def scenario(stage: Checks) -> None:
        stage.problems["a"] = PROBLEM
        await stage.run(WEB, "a")
        await stage.sleep_to(1)
        stage.booked = []
        await stage.sleep_to(100)
        assert len(stage.reads) == 1
        assert stage.checks.of(WEB.scope) == {}

    play(scenario)


def test_passed_checks_are_remembered_while_nobody_books_the_group() -> None:
    async def scenario(stage: Checks) -> None:
        await stage.run(WEB, "a")
        await stage.sleep_to(5)
        stage.wanted_from = None
        await stage.run(WEB, "b")
        await stage.sleep_to(100)
        assert set(stage.checks.of(WEB.scope)) == {"a"}
        stage.wanted_from, stage.problems["a"] = EPOCH, PROBLEM
        await stage.sleep_to(200)
        assert stage.passed_at("a") is not None
        assert [ids for _, ids in stage.reads] == [("a",), ("b",)]

    play(scenario)


def test_what_was_ready_before_a_restart_is_not_checked_again() -> None:
    async def scenario(stage: Checks) -> None:
        stage.was_ready, stage.problems["a"] = True, PROBLEM
        await stage.run(WEB, "a")
        await stage.sleep_to(100)
        assert stage.reads == []
        assert stage.passed_at("a") is not None

    play(scenario)


def test_an_instance_that_is_new_in_a_ready_group_is_checked() -> None:
    async def scenario(stage: Checks) -> None:
        stage.was_ready = True
        await stage.run(WEB, "a")
        await stage.sleep_to(5)
        stage.problems["b"] = PROBLEM
        await stage.run(WEB, "b")
        await stage.sleep_to(10)
        assert {ids for _, ids in stage.reads} == {("b",)}
        assert stage.passed_at("b") is None

    play(scenario)


def test_a_ready_group_without_instances_at_a_restart_is_checked_when_they_run() -> None:
    async def scenario(stage: Checks) -> None:
        stage.was_ready = True
        stage.problems["a"] = PROBLEM
        await stage.run(WEB, "a", STOPPED)
        await stage.sleep_to(5)
        await stage.run(WEB, "a")
        await stage.sleep_to(10)
        assert stage.passed_at("a") is None

    play(scenario)


def test_a_call_without_an_answer_does_not_keep_checks_from_before_a_stop() -> None:
    async def scenario(stage: Checks) -> None:
        await stage.run(WEB, "a")
        await stage.sleep_to(5)
        assert stage.passed_at("a") is not None
        stage.answer_after = 200
        await stage.run(WEB, "b")
        await stage.sleep_to(10)
        stage.cloud.states[WEB, "a"] = STOPPED
        await stage.run(WEB, "b", STOPPED)
        await stage.sleep_to(60)
        await stage.run(WEB, "a")
        await stage.sleep_to(70)
        assert stage.passed_at("a") is None

    play(scenario)


def test_the_checks_of_a_running_instance_are_read_when_its_booking_begins() -> None:
    async def scenario(stage: Checks) -> None:
        stage.wanted_from = EPOCH + timedelta(seconds=63)
        await stage.run(WEB, "a")
        await stage.sleep_to(62.9)
        assert stage.reads == []
        await stage.sleep_to(63.2)
        assert len(stage.reads) == 1

    play(scenario)


def test_one_batch_that_fails_does_not_disturb_the_others() -> None:
    async def scenario(stage: Checks) -> None:
        ids = [f"a{number:03}" for number in range(CHECK_BATCH + 1)]
        stage.fails = set(ids[:1])
        stage.cloud.states |= {(WEB, id_): RUNNING for id_ in ids}
        await stage.observe(WEB)
        await stage.sleep_to(3)
        assert [len(some) for _, some in stage.reads[:2]] == [CHECK_BATCH, 1]
        assert stage.passed_at(ids[-1]) is not None
        assert stage.passed_at(ids[0]) is None

    play(scenario)


def test_after_ten_minutes_failed_checks_are_read_once_a_minute() -> None:
    async def scenario(stage: Checks) -> None:
        stage.problems["a"] = PROBLEM
        await stage.run(WEB, "a")
        await stage.sleep_to(590)
        early = len(stage.reads)
        assert 110 <= early <= 120
        await stage.sleep_to(620)
        late = len(stage.reads)
        await stage.sleep_to(620 + 3600)
        assert 58 <= len(stage.reads) - late <= 62
        assert stage.checks.of(WEB.scope)["a"].fails_at is not None

    play(scenario)


def test_the_second_failure_in_a_row_is_reported_and_ends_with_a_success() -> None:
    async def scenario(stage: Checks) -> None:
        stage.error = UNREACHABLE
        await stage.run(WEB, "a")
        await stage.sleep_to(1)
        assert stage.checks.failure(WEB.scope) is None
        await stage.sleep_to(10)
        assert stage.checks.failure(WEB.scope) == UNREACHABLE
        assert stage.news == [WEB]
        stage.error = None
        await stage.sleep_to(60)
        assert stage.checks.failure(WEB.scope) is None
        assert stage.passed_at("a") is not None

    play(scenario)


def test_an_unexpected_exception_fails_one_call_only() -> None:
    async def scenario(stage: Checks) -> None:
        stage.error = RuntimeError("bug")
        await stage.run(WEB, "a")
        await stage.sleep_to(10)
        failure = stage.checks.failure(WEB.scope)
        assert isinstance(failure, CloudError)
        assert failure.reason == "UnexpectedError"
        stage.error = None
        await stage.sleep_to(60)
        assert stage.passed_at("a") is not None

    play(scenario)


def test_a_listener_that_fails_ends_no_task() -> None:
    async def scenario(stage: Checks) -> None:
        await stage.run(WEB, "a")
        broken = stage.checked_groups
        stage.checked_groups = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        await stage.observe(WEB)
        await stage.sleep_to(5)
        stage.checked_groups = broken  # type: ignore[method-assign]
        await stage.sleep_to(60)
        assert stage.passed_at("a") is not None

    play(scenario)


def test_a_scope_that_fails_does_not_disturb_another() -> None:
    async def scenario(stage: Checks) -> None:
        stage.booked = [WEB, FAR]
        stage.cloud.states[FAR, "f"] = RUNNING
        stage.track(WEB, FAR)
        await stage.run(WEB, "a")
        await stage.sleep_to(5)
        assert stage.passed_at("a") is not None
        assert stage.checks.of(FAR.scope)["f"].passed_at is not None

    play(scenario)
