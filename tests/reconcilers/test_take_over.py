"""A new leader does not start running instances again, and is not late because of that."""

import asyncio

import pytest

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.instance import InstanceState
from booking_operator.domain.power import TAKE_OVER_TIMEOUT, start_waits_until
from tests.reconcilers.test_resource import BOTH, played
from tests.support.environment import Act, World
from tests.support.virtual import EPOCH, after

SECOND = TAKE_OVER_TIMEOUT.total_seconds()


@pytest.mark.parametrize(
    ("due", "viewed", "now", "waits"),
    [
        (-5, -30, 0, True),
        (-5, -30, 0.999, True),
        (-5, -30, 1, False),  # the timeout is over
        (-5, -30, -1, False),  # the clock was set back
        (-5, 0, 0, False),  # the view is as new as the take-over
        (-5, 0.1, 0.2, False),
        (0, -30, 0, False),  # the start is in time
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
    """The view shows stopped instances. The previous leader may have started them since."""
    world.driver.instances = dict.fromkeys(BOTH, InstanceState.STOPPED)
    world.driver.view = world.driver.look(after(viewed))
    world.driver.instances = dict.fromkeys(BOTH, state)
    world.booking("b", start, end)


def test_a_new_leader_does_not_start_running_instances_again() -> None:
    world = played(before=taken_over, seconds=30, took_over=0)
    assert world.driver.acts == []
    assert world.conditions()["Ready"][0] == "True"


def test_a_new_leader_starts_stopped_instances_after_the_first_refresh() -> None:
    def before(world: World) -> None:
        taken_over(world, state=InstanceState.STOPPED)

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", BOTH, 0.05)]


def test_a_new_leader_starts_only_stopped_instances() -> None:
    def before(world: World) -> None:
        taken_over(world)
        world.driver.instances["i-2"] = InstanceState.STOPPED

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", ("i-2",), 0.05)]


def test_a_hanging_refresh_delays_an_overdue_start_by_one_second() -> None:
    def before(world: World) -> None:
        taken_over(world)
        world.driver.hang = True

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", BOTH, SECOND)]


@pytest.mark.parametrize(("retryable", "at"), [(True, SECOND), (False, 0.05)])
def test_a_failed_refresh_delays_an_overdue_start_by_at_most_one_second(retryable: bool, at: float) -> None:
    def before(world: World) -> None:
        taken_over(world)
        world.driver.observe_error = CloudError(
            "Reason", "no", retryable=retryable, kind=FailureKind.TRANSIENT
        )

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts[0] == Act("start", BOTH, at)


def test_a_failed_refresh_is_retried_within_the_second() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(0.2)
        world.driver.observe_error = None

    def before(world: World) -> None:
        taken_over(world)
        world.driver.observe_error = CloudError("CloudUnreachable", "reset", kind=FailureKind.TRANSIENT)

    world = played(scenario, before=before, seconds=30, took_over=0)
    assert world.driver.acts == []


@pytest.mark.parametrize("start", [0, 0.3, 5])
def test_a_start_due_at_or_after_the_take_over_leaves_in_time(start: float) -> None:
    """The previous leader cannot have sent it. The refresh hangs, so the start does not depend on it."""

    def before(world: World) -> None:
        taken_over(world, start=start)
        world.driver.hang = True

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", BOTH, start)]


def test_an_overdue_start_with_a_new_view_leaves_immediately() -> None:
    def before(world: World) -> None:
        taken_over(world, viewed=0)
        world.driver.hang = True

    world = played(before=before, seconds=30, took_over=0)
    assert world.driver.acts == [Act("start", BOTH, 0)]


def test_later_in_a_leadership_an_overdue_start_leaves_immediately() -> None:
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
    assert world.driver.acts == []  # the booking is over


def test_a_stop_right_after_a_take_over_is_in_time() -> None:
    world = played(before=lambda world: taken_over(world, end=12), seconds=30, took_over=0)
    assert world.driver.acts == [Act("stop", BOTH, 12)]
