"""A replica that takes over does not start again what already runs, and makes no start late for that."""

import asyncio
from datetime import datetime, timedelta

import pytest

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.instance import InstanceState
from booking_operator.domain.power import TAKE_OVER_TIMEOUT, start_waits_until
from tests.reconcilers.test_resource import BOTH, played
from tests.support.fakes import Act, World
from tests.support.virtual import EPOCH

SECOND = TAKE_OVER_TIMEOUT.total_seconds()


def after(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("due", "viewed", "now", "waits"),
    [
        (-5, -30, 0, True),
        (-5, -30, 0.999, True),
        (-5, -30, 1, False),  # a second is over
        (-5, -30, -1, False),  # the clock was set back
        (-5, 0, 0, False),  # the view is as young as the take-over
        (-5, 0.1, 0.2, False),
        (0, -30, 0, False),  # it is on time
        (0.5, -30, 0.5, False),
    ],
)
def test_an_overdue_start_waits_for_a_view_since_the_take_over(
    due: float, viewed: float, now: float, waits: bool
) -> None:
    found = start_waits_until(after(due), viewed_at=after(viewed), took_over_at=EPOCH, now=after(now))
    assert found == (after(SECOND) if waits else None)


def taken_over(
    world: World,
    *,
    start: float = -5,
    viewed: float = -30,
    state: InstanceState = InstanceState.RUNNING,
    end: float = 500,
) -> None:
    """The view at hand shows stopped instances; meanwhile the leader before may have started them."""
    world.driver.instances = dict.fromkeys(BOTH, InstanceState.STOPPED)
    world.driver.view = world.driver.look(after(viewed))
    world.driver.instances = dict.fromkeys(BOTH, state)
    world.booking("b", start, end)


def test_what_the_leader_before_has_started_is_not_started_again() -> None:
    world = played(before=taken_over, seconds=30, took_over=0)
    assert world.driver.acts == []
    assert world.conditions()["Ready"][0] == "True"


def test_what_the_leader_before_has_not_started_is_started_on_the_first_view() -> None:
    def before(world: World) -> None:
        taken_over(world, state=InstanceState.STOPPED)

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", BOTH, 0.05)]


def test_only_what_is_missing_is_started() -> None:
    def before(world: World) -> None:
        taken_over(world)
        world.driver.instances["i-2"] = InstanceState.STOPPED

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", ("i-2",), 0.05)]


def test_a_cloud_that_does_not_answer_makes_an_overdue_start_a_second_late_and_no_more() -> None:
    def before(world: World) -> None:
        taken_over(world)
        world.driver.hang = True

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", BOTH, SECOND)]


@pytest.mark.parametrize(("retryable", "at"), [(True, SECOND), (False, 0.05)])
def test_a_cloud_that_refuses_makes_an_overdue_start_a_second_late_at_most(
    retryable: bool, at: float
) -> None:
    def before(world: World) -> None:
        taken_over(world)
        world.driver.observe_error = CloudError(
            "Reason", "no", retryable=retryable, kind=FailureKind.TRANSIENT
        )

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts[0] == Act("start", BOTH, at)


def test_a_look_that_fails_once_is_made_again_within_the_second() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(0.2)
        world.driver.observe_error = None

    def before(world: World) -> None:
        taken_over(world)
        world.driver.observe_error = CloudError("CloudUnreachable", "reset", kind=FailureKind.TRANSIENT)

    world = played(scenario, before=before, seconds=30, took_over=0)
    assert world.driver.acts == []


@pytest.mark.parametrize("start", [0, 0.3, 5])
def test_a_start_that_is_due_at_the_take_over_or_after_it_leaves_at_its_time(start: float) -> None:
    """The leader before cannot have sent it. The cloud answers nothing, so nothing else can let it leave."""

    def before(world: World) -> None:
        taken_over(world, start=start)
        world.driver.hang = True

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", BOTH, start)]


def test_an_overdue_start_on_a_view_since_the_take_over_leaves_at_once() -> None:
    def before(world: World) -> None:
        taken_over(world, viewed=0)
        world.driver.hang = True

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", BOTH, 0)]


def test_later_in_a_term_a_booking_in_the_past_starts_at_once_on_the_view_at_hand() -> None:
    def before(world: World) -> None:
        taken_over(world)
        world.driver.hang = True

    world = played(before=before, seconds=30, took_over=-60)
    assert world.driver.acts == [Act("start", BOTH, 0)]


def test_the_wait_ends_at_the_next_boundary() -> None:
    def before(world: World) -> None:
        taken_over(world, state=InstanceState.STOPPED, end=0.4)
        world.driver.hang = True

    world = played(before=before, seconds=3, took_over=0)
    assert world.driver.acts == []  # nobody has it booked any more


def test_a_stop_right_after_a_take_over_is_not_withheld() -> None:
    world = played(before=lambda world: taken_over(world, end=12), seconds=30, took_over=0)
    assert world.driver.acts == [Act("stop", BOTH, 12)]
