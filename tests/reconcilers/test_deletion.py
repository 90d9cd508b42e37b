"""The deletion of a Resource and of its namespace: which instances keep running, on virtual time."""

import asyncio
from typing import Any

import pytest

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.store import Key
from booking_operator.reconcilers.lock_tags import FINALIZER
from booking_operator.reconcilers.resource.deletion import REFUSAL_LIMIT
from tests.reconcilers.test_resource import BOTH, played
from tests.support.environment import Act, World

RUNNING, STOPPED, PENDING = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.PENDING
START = Act("start", BOTH, 10)


def exists(world: World) -> bool:
    return world.informers.resources.get(Key("ns", "res")) is not None


def finalizers(world: World) -> tuple[str, ...]:
    found = world.informers.resources.get(Key("ns", "res"))
    return found.metadata.finalizers if found else ()


async def deleted_at_20(world: World) -> None:
    await asyncio.sleep(20)
    world.delete_resource()


def booked(world: World) -> None:
    world.booking("b", 10, 90)


def test_the_instances_of_a_deleted_resource_keep_running() -> None:
    world = played(deleted_at_20, before=booked)
    assert world.driver.acts == [START]
    assert not exists(world)


def test_deletion_policy_stop_stops_booked_instances_before_the_resource_vanishes() -> None:
    async def scenario(world: World) -> None:
        await deleted_at_20(world)
        await asyncio.sleep(5)
        assert exists(world)

    world = played(scenario, before=booked, deletion_policy="Stop")
    assert [act.verb for act in world.driver.acts] == ["start", "stop"]
    assert 20 <= world.driver.acts[1].at < 21
    assert not exists(world)
    assert world.driver.locked[-1][1] is None
    assert ("Resource", "Stopped") in world.events.recorded


@pytest.mark.parametrize("bookings_first", [True, False])
@pytest.mark.parametrize("policy", ["Leave", "Stop"])
def test_the_order_in_which_a_namespace_vanishes_does_not_matter(policy: str, bookings_first: bool) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(20)
        world.consistency.vanishing = "ns"
        if not bookings_first:
            world.delete_resource()
            await asyncio.sleep(30)
        world.delete_booking("b")
        await asyncio.sleep(30)
        if bookings_first:
            world.delete_resource()

    world = played(scenario, seconds=120, before=booked, deletion_policy=policy)
    assert [act.verb for act in world.driver.acts] == (["start"] if policy == "Leave" else ["start", "stop"])
    assert set(world.driver.instances.values()) == {RUNNING if policy == "Leave" else STOPPED}
    assert not exists(world)


def test_a_stop_is_withheld_while_the_namespace_vanishes() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(20)
        world.consistency.vanishing = "ns"
        world.delete_booking("b")
        await asyncio.sleep(5)
        assert world.conditions()["Ready"] == ("False", "StopWithheld")
        world.consistency.vanishing = ""

    world = played(scenario, before=booked)
    assert [act.verb for act in world.driver.acts] == ["start", "stop"]


def test_a_resource_with_deletion_policy_stop_always_has_the_finalizer() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        assert finalizers(world) == (FINALIZER,)
        world.resource(deletion_policy="Leave")
        await asyncio.sleep(5)
        assert finalizers(world) == ()

    played(scenario, seconds=15, deletion_policy="Stop")


def test_the_finalizer_is_set_even_if_the_instances_were_never_observed() -> None:
    def before(world: World) -> None:
        world.driver.observe_error = CloudError("CloudUnreachable", "no route")

    assert finalizers(played(before=before, seconds=5, deletion_policy="Stop")) == (FINALIZER,)
    assert finalizers(played(before=before, seconds=5)) == ()


def test_an_outage_of_the_cloud_delays_the_deletion() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.driver.act_error = CloudError("InternalError", "it broke", kind=FailureKind.TRANSIENT)
        await asyncio.sleep(5)
        world.delete_resource()
        await asyncio.sleep(40)
        assert exists(world)
        assert ("Resource", "InternalError") in world.events.recorded
        world.driver.act_error = None

    world = played(scenario, seconds=200, before=booked, deletion_policy="Stop")
    assert set(world.driver.instances.values()) == {STOPPED}
    assert not exists(world)


def test_a_stop_that_aws_keeps_refusing_does_not_block_the_deletion() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.driver.act_error = CloudError("OperationNotPermitted", "protected", kind=FailureKind.REFUSED)
        await asyncio.sleep(5)
        world.delete_resource()
        await asyncio.sleep(REFUSAL_LIMIT.total_seconds() - 5)
        assert exists(world)

    world = played(scenario, seconds=300, before=booked, deletion_policy="Stop")
    assert ("Resource", "InstancesLeft") in world.events.recorded
    assert not exists(world)


def busy(world: World) -> None:
    world.driver.instances = dict.fromkeys(BOTH, RUNNING)
    world.driver.more |= {"blocked_reason": "cannot be stopped while it is modifying", "busy": True}


def test_a_busy_database_is_stopped_when_it_is_available() -> None:
    async def scenario(world: World) -> None:
        booked(world)
        await deleted_at_20(world)
        await asyncio.sleep(100)
        assert exists(world)
        world.driver.more.clear()

    world = played(scenario, seconds=300, before=busy, deletion_policy="Stop")
    assert [act.verb for act in world.driver.acts] == ["stop"]
    assert not exists(world)


def test_a_database_that_stays_busy_is_left_after_an_hour() -> None:
    world = played(deleted_at_20, seconds=4000, before=busy, deletion_policy="Stop")
    assert world.driver.acts == []
    assert ("Resource", "InstancesLeft") in world.events.recorded
    assert not exists(world)


def test_a_start_that_takes_effect_after_the_deletion_is_reverted() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(19)
        world.driver.act_error = None
        world.driver.instances = dict.fromkeys(BOTH, STOPPED)
        world.delete_resource()
        world.driver.acts.clear()
        await asyncio.sleep(25)
        assert exists(world)
        world.driver.instances = dict.fromkeys(BOTH, RUNNING)

    def before(world: World) -> None:
        booked(world)
        world.driver.act_error = CloudError("CloudUnreachable", "no reply", kind=FailureKind.LOST)

    world = played(scenario, seconds=120, before=before, deletion_policy="Stop")
    assert [act.verb for act in world.driver.acts] == ["stop"]
    assert not exists(world)


def test_a_missing_permission_does_not_block_the_deletion() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.driver.act_error = CloudError("UnauthorizedOperation", "no", retryable=False)
        await asyncio.sleep(5)
        world.delete_resource()

    world = played(scenario, before=booked, deletion_policy="Stop")
    assert ("Resource", "InstancesLeft") in world.events.recorded
    assert not exists(world)


@pytest.mark.parametrize("more", [{"suspend": True}, {"unbooked": "Leave"}])
def test_instances_that_the_operator_may_not_stop_keep_running(more: dict[str, Any]) -> None:
    def before(world: World) -> None:
        world.driver.instances = dict.fromkeys(BOTH, RUNNING)

    world = played(deleted_at_20, before=before, deletion_policy="Stop", **more)
    assert world.driver.acts == []
    assert not exists(world)


def test_under_leave_the_instances_of_a_booking_are_stopped() -> None:
    def before(world: World) -> None:
        world.driver.instances = {"i-1": STOPPED, "i-2": RUNNING}
        booked(world)

    world = played(deleted_at_20, before=before, deletion_policy="Stop", unbooked="Leave")
    assert [(act.verb, act.ids) for act in world.driver.acts] == [("start", ("i-1",)), ("stop", ("i-1",))]


def test_another_resource_for_the_same_instances_decides_about_them() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.resource("successor", deletion_policy="Leave")
        await deleted_at_20(world)

    world = played(scenario, before=booked, deletion_policy="Stop")
    assert Act("stop", BOTH, 20) not in world.driver.acts
    assert not exists(world)


def test_an_instance_that_still_starts_is_stopped_when_it_runs() -> None:
    def before(world: World) -> None:
        world.driver.boot_seconds = 30
        booked(world)

    world = played(deleted_at_20, seconds=120, before=before, deletion_policy="Stop")
    assert [act.verb for act in world.driver.acts] == ["start", "stop"]
    assert 40 <= world.driver.acts[1].at <= 61
    assert not exists(world)


def test_a_blocked_instance_is_named_and_left() -> None:
    def before(world: World) -> None:
        booked(world)
        world.driver.more["blocked_reason"] = "cannot be stopped: it is a read replica"
        world.driver.instances = dict.fromkeys(BOTH, RUNNING)

    world = played(deleted_at_20, before=before, deletion_policy="Stop")
    assert world.driver.acts == []
    assert ("Resource", "InstancesLeft") in world.events.recorded
    assert not exists(world)


def test_dry_run_changes_nothing() -> None:
    world = played(deleted_at_20, before=booked, dry_run=True, deletion_policy="Stop")
    assert world.driver.acts == []
    assert world.objects.finalizers == []
