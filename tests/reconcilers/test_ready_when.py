"""`ready_when: StatusChecks`: what the Resource and the warm-up make of status checks, on virtual time."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from booking_operator.cloud.driver import CloudError
from booking_operator.domain.instance import InstanceState, StatusCheck
from tests.reconcilers.test_resource import BOTH, played
from tests.reconcilers.test_warm_up import status
from tests.support.environment import World
from tests.support.virtual import EPOCH

PROBLEM = "is not ready: its system status check is initializing"


def check(world: World, at: float, *passed: str) -> None:
    """Set the status checks; those of `passed` passed at `at` (seconds after the epoch)."""
    since = EPOCH + timedelta(seconds=at)
    for id_ in BOTH:
        known = world.driver.status_checks.get(id_) or StatusCheck(since, problem=PROBLEM)
        world.driver.status_checks[id_] = (
            replace(known, passed_at=since, problem="") if id_ in passed else known
        )
    world.wake()


def ready(world: World) -> tuple[str, str]:
    found = {item.type: item for item in status(world).conditions}["Ready"]
    return f"{found.status}/{found.reason}", found.message


def test_an_instance_is_ready_when_its_checks_have_passed() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        assert status(world).status == "PENDING"
        assert status(world).running == 2
        text = (
            "2 of 2 instances are running. i-1 is not ready: its status checks are not known yet; i-2 is not"
        )
        assert ready(world)[0] == "False/StatusChecksPending"
        assert ready(world)[1].startswith(text)
        check(world, 12, "i-1")
        await asyncio.sleep(1)
        assert ready(world)[1] == f"2 of 2 instances are running. i-2 {PROBLEM}."
        check(world, 13, "i-2")
        await asyncio.sleep(1)
        assert ready(world)[0] == "True/Running"
        assert status(world).status == "RUNNING"

    world = played(scenario, seconds=30, before=lambda w: w.booking("b", 10, 2000), ready_when="StatusChecks")
    assert len(world.driver.acts) == 1


def test_checks_that_do_not_pass_are_reported_after_ten_minutes() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        check(world, 12, "i-1")
        await asyncio.sleep(599)
        assert ready(world)[0] == "False/StatusChecksPending"
        assert ("Resource", "StatusChecksFailed") not in world.events.recorded
        await asyncio.sleep(2)
        message = f"2 of 2 instances are running. After 10m or longer, i-2 {PROBLEM}."
        assert ready(world) == ("False/StatusChecksFailed", message)
        assert ("Resource", "StatusChecksFailed") in world.events.recorded

    played(scenario, seconds=700, before=lambda w: w.booking("b", 10, 2000), ready_when="StatusChecks")


def test_without_a_booking_the_checks_do_not_matter() -> None:
    async def scenario(world: World) -> None:
        world.driver.instances = dict.fromkeys(BOTH, InstanceState.RUNNING)
        await asyncio.sleep(5)
        assert status(world).status == "RUNNING"
        assert ready(world)[0] == "True/Left"

    played(scenario, seconds=10, ready_when="StatusChecks", unbooked="Leave")


def test_checks_that_cannot_be_read_are_a_failure() -> None:
    async def scenario(world: World) -> None:
        world.driver.check_error = CloudError("UnauthorizedOperation", "DescribeInstanceStatus: denied.")
        await asyncio.sleep(12)
        synced = {item.type: item for item in status(world).conditions}["Synced"]
        assert (synced.status, synced.reason) == ("False", "UnauthorizedOperation")

    played(scenario, seconds=20, before=lambda w: w.booking("b", 10, 2000), ready_when="StatusChecks")


def test_the_warm_up_learns_the_time_until_the_checks_pass() -> None:
    async def scenario(world: World) -> None:
        world.driver.boot_seconds = 33
        await asyncio.sleep(930)
        assert status(world).start_seconds == ()
        check(world, 930, *BOTH)
        await asyncio.sleep(1)
        assert status(world).start_seconds == (50,)

    played(
        scenario,
        seconds=1000,
        before=lambda w: w.booking("b", 1000, 2000),
        ready_when="StatusChecks",
        warm_up="auto",
    )
