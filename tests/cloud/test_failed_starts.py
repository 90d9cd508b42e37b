"""Accepted starts that fail later: they get a back-off, and are reported."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Callable, Collection, Mapping, Sequence

import pytest

from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.driver import ActionAnswer, CloudError, Operation, Order, Record, always
from booking_operator.cloud.inventory.failed_starts import AcceptedStarts
from booking_operator.cloud.service import Driver, Service
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Instance, InstanceState
from tests.support import virtual
from tests.support.batcher_stage import WEB, seconds
from tests.support.virtual import EPOCH, VirtualClock, after

WHY = "Client.InternalError: Client error on launch"


def fall(starts: AcceptedStarts, at: float, why: str = WHY) -> None:
    """Record a start that is accepted, and that has failed three seconds later."""
    starts.record_answer("i-1", InstanceState.PENDING, after(at))
    starts.record_state("i-1", InstanceState.PENDING, "", after(at + 1.5))
    starts.record_state("i-1", InstanceState.STOPPED, why, after(at + 3))


def pause(starts: AcceptedStarts, at: float) -> float:
    error = starts.active_failure("i-1", after(at))
    assert error is None or error.retry_at is not None
    return (error.retry_at - after(at)).total_seconds() if error and error.retry_at else 0


def test_the_back_off_grows_up_to_its_maximum() -> None:
    starts, at, pauses = AcceptedStarts(), 0.0, []
    for _ in range(6):
        fall(starts, at)
        pauses.append(pause(starts, at + 3))
        at += 3 + pauses[-1]
        assert pause(starts, at) == 0
    assert pauses == [60, 120, 240, 480, 600, 600]


def test_the_error_has_the_reason_of_the_service() -> None:
    starts = AcceptedStarts()
    fall(starts, 0)
    error = starts.active_failure("i-1", after(3))
    assert error is not None
    assert error.reason == "StartFailed"
    assert str(error) == f"AWS accepted the start, but the instance stopped again before it ran: {WHY}"


def test_without_a_reason_the_first_failure_counts_as_a_stop_by_hand() -> None:
    starts = AcceptedStarts()
    fall(starts, 0, why="")
    assert pause(starts, 3) == 0
    fall(starts, 3, why="")
    assert pause(starts, 6) == 60
    error = starts.active_failure("i-1", after(6))
    assert "the AWS console may show the reason" in str(error)


def test_further_views_of_the_stopped_instance_do_not_extend_the_back_off() -> None:
    starts = AcceptedStarts()
    fall(starts, 0)
    starts.record_state("i-1", InstanceState.STOPPED, WHY, after(30))
    assert pause(starts, 30) == 33


@pytest.mark.parametrize("accepted", [InstanceState.STOPPING, InstanceState.RUNNING])
def test_a_stop_or_a_running_instance_ends_the_record_of_a_start(accepted: InstanceState) -> None:
    starts = AcceptedStarts()
    starts.record_answer("i-1", InstanceState.PENDING, EPOCH)
    starts.record_answer("i-1", accepted, after(1))
    starts.record_state("i-1", InstanceState.STOPPED, WHY, after(2))
    assert pause(starts, 2) == 0


def test_an_instance_that_was_running_has_not_failed() -> None:
    starts = AcceptedStarts()
    fall(starts, 0)
    starts.record_answer("i-1", InstanceState.PENDING, after(63))
    starts.record_state("i-1", InstanceState.RUNNING, "", after(70))
    starts.record_state("i-1", InstanceState.STOPPED, WHY, after(80))
    assert pause(starts, 80) == 0
    fall(starts, 80)
    assert pause(starts, 83) == 60


def test_a_stop_long_after_the_start_is_no_failure() -> None:
    starts = AcceptedStarts()
    starts.record_answer("i-1", InstanceState.PENDING, EPOCH)
    starts.record_state("i-1", InstanceState.STOPPED, WHY, after(601))
    assert pause(starts, 601) == 0


@pytest.mark.parametrize("now", [-60, 3700])
def test_old_and_future_entries_are_forgotten(now: float) -> None:
    starts = AcceptedStarts()
    fall(starts, 0)
    starts.forget(after(now))
    fall(starts, now)
    assert pause(starts, now + 3) == 60


def test_a_clock_set_back_ends_the_back_off() -> None:
    starts = AcceptedStarts()
    fall(starts, 7200)
    assert pause(starts, 0) == 0


# --- the whole driver


class Api:
    """One instance. Each start is accepted, and with `fails` it fails after three seconds."""

    facts = Ec2Api.facts

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.fails = True
        self.state, self.why, self.starts = InstanceState.STOPPED, "", list[float]()

    async def describe(self, _: Scope) -> list[Record]:
        await asyncio.sleep(0.05)
        return [Record("web", Instance("i-1", self.state), failure_reason=self.why)]

    async def check(self, _: Scope, ids: Collection[str]) -> Mapping[str, str]:
        return dict.fromkeys(ids, "")

    async def ready(self, _: Scope) -> None:
        """Return immediately."""

    async def release(self, _: Scope) -> None:
        """Do nothing."""

    async def perform(
        self, _: Scope, __: Operation, ids: Sequence[str], ___: Callable[[], bool] = always
    ) -> Mapping[str, ActionAnswer]:
        self.starts.append(seconds(self.clock.now()))
        self.state = InstanceState.PENDING
        asyncio.get_running_loop().call_later(3, self.end)
        return dict.fromkeys(ids, ActionAnswer(InstanceState.STOPPED, InstanceState.PENDING))

    def end(self) -> None:
        self.state, self.why = (InstanceState.STOPPED, WHY) if self.fails else (InstanceState.RUNNING, "")


async def keep_running(driver: Driver, api: Api, until: float) -> list[str]:
    """Poll, and start the instance whenever it is stopped; return the reported reasons."""
    reasons = []
    while seconds(api.clock.now()) < until:
        await driver.inventory.refresh(WEB.scope, api.clock.now())
        observation = driver.inventory.observation(WEB)
        assert observation is not None
        if observation.ids(InstanceState.STOPPED):
            order = Order.of(WEB, ["i-1"], api.clock.now())
            driver.batcher.start(order)
            await asyncio.wait(order.futures.values())
            error = order.futures["i-1"].exception()
            reasons += [error.reason] if isinstance(error, CloudError) else []
        await asyncio.sleep(1.5)
    return reasons


def test_an_instance_whose_starts_fail_is_started_a_few_times_an_hour() -> None:
    def make(tasks: TaskGroup) -> tuple[Driver, Api]:
        api = Api(VirtualClock())
        return Service(api, api.clock, tasks).driver(tasks), api

    async def scenario(world: tuple[Driver, Api]) -> None:
        driver, api = world
        assert set(await keep_running(driver, api, 3600)) == {"StartFailed"}
        assert 5 <= len(api.starts) <= 10
        api.fails = False
        await keep_running(driver, api, 4300)
        count = len(api.starts)
        api.state = InstanceState.STOPPED  # a user stops it
        assert await keep_running(driver, api, 4310) == []
        assert api.starts[count:] == pytest.approx([4301], abs=2)

    virtual.play(make, scenario)
