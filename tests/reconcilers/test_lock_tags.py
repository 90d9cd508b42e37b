"""Lock tags over the life of a Resource, on virtual time."""

import asyncio

import pytest
from structlog.testing import capture_logs

from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.instance import InstanceState, Lock
from booking_operator.engine.controller import RECONCILE_TIMEOUT_SECONDS
from booking_operator.engine.store import Key
from booking_operator.kube.errors import ApiError
from booking_operator.reconcilers.lock_tags import FINALIZER
from tests.reconcilers.test_resource import BOTH, played
from tests.support import virtual
from tests.support.environment import Act, World, at_text

DENIED = CloudError("UnauthorizedOperation", "ec2:CreateTags", retryable=False, kind=FailureKind.DENIED)


def refused(reason: str) -> CloudError:
    return CloudError(reason, "CreateTags: no", kind=FailureKind.REFUSED)


def lock_until(second: float, user: str = "ada") -> Lock:
    return Lock(user, at_text(second))


def resource(world: World) -> Resource:
    found = world.informers.resources.get(Key("ns", "res"))
    assert found is not None
    return found


def test_tags_are_written_after_the_start_and_removed_after_the_stop() -> None:
    world = played(before=lambda world: world.booking("b", 10, 20))
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 20)]
    assert world.driver.locked == [(BOTH, lock_until(20), 10), (BOTH, None, 20)]
    assert resource(world).metadata.finalizers == ()


def test_existing_tags_are_in_the_status_and_have_a_finalizer() -> None:
    world = played(before=lambda world: world.booking("b", 10, 500))
    assert resource(world).metadata.finalizers == (FINALIZER,)
    (stored,) = resource(world).status.locks
    assert (stored.locked_by, stored.locked_until) == ("ada", at_text(500))


def test_the_next_holder_gets_the_tags_without_a_stop() -> None:
    def before(world: World) -> None:
        world.booking("one", 10, 20)
        world.booking("two", 20, 30, user="grace")

    world = played(before=before)
    assert [lock for _, lock, _ in world.driver.locked] == [lock_until(20), lock_until(30, "grace"), None]
    assert [act.verb for act in world.driver.acts] == ["start", "stop"]


def test_an_extension_updates_the_tags() -> None:
    async def scenario(world: World) -> None:
        await world.clock.sleep(15)
        world.booking("b", 10, 40)

    world = played(scenario, before=lambda world: world.booking("b", 10, 20))
    assert world.driver.locked == [(BOTH, lock_until(20), 10), (BOTH, lock_until(40), 15), (BOTH, None, 40)]


@pytest.mark.parametrize("error", [DENIED, refused("TagLimitExceeded")])
def test_refused_tags_affect_nothing_else_and_are_reported(error: CloudError) -> None:
    def before(world: World) -> None:
        world.booking("b", 10, 20)
        world.driver.lock_error = error

    world = played(before=before, seconds=15)
    assert world.driver.acts == [Act("start", BOTH, 10)]
    assert world.conditions()["Synced"] == ("False", error.reason)
    assert world.events.recorded.count(("Resource", error.reason)) == 1
    world = played(before=before)
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 20)]


@pytest.mark.parametrize("reason", ["InvalidInstanceIDNotFound", "DBClusterNotFoundFault", "NotAccepted"])
def test_tags_of_deleted_instances_count_as_removed(reason: str) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.driver.lock_error = refused(reason)

    world = played(scenario, seconds=25, before=lambda world: world.booking("b", 10, 20))
    assert world.conditions()["Synced"] == ("True", "Synced")
    assert resource(world).metadata.finalizers == ()


def test_a_refused_removal_is_retried_while_the_finalizer_stays() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.driver.lock_error = refused("ConcurrentTagAccess")
        await asyncio.sleep(10)
        assert resource(world).metadata.finalizers == (FINALIZER,)
        assert world.conditions()["Synced"] == ("False", "ConcurrentTagAccess")
        world.driver.lock_error = None

    world = played(scenario, before=lambda world: world.booking("b", 10, 20))
    assert set(world.driver.locks.values()) == {None}
    assert resource(world).metadata.finalizers == ()
    assert world.conditions()["Synced"] == ("True", "Synced")


def test_a_cancelled_removal_keeps_the_finalizer() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(20.5)
        world.booking("next", 20.5, 40)

    def before(world: World) -> None:
        world.driver.lock_seconds = 1
        world.booking("b", 10, 20)

    world = played(scenario, before=before)
    assert world.objects.finalizers == [(FINALIZER,), ()]
    assert set(world.driver.locks.values()) == {None}


def test_no_tags_are_written_before_the_status() -> None:
    def before(world: World) -> None:
        world.booking("b", 10, 20)
        world.status.away = True

    world = played(before=before, seconds=19)
    assert world.driver.acts == [Act("start", BOTH, 10)]
    assert world.driver.locked == []


def test_no_tags_are_written_without_the_finalizer() -> None:
    def before(world: World) -> None:
        world.booking("b", 10, 20)
        world.objects.error = ApiError(500, "no")

    world = played(before=before, seconds=19)
    assert world.driver.acts == [Act("start", BOTH, 10)]
    assert world.driver.locked == []


def test_a_foreign_lock_is_respected_until_it_expires_and_reported() -> None:
    def before(world: World) -> None:
        world.driver.locks["i-1"] = lock_until(50, "bob")
        world.booking("b", 10, 500)

    world = played(before=before, seconds=30)
    assert world.driver.acts == [Act("start", ("i-2",), 10)]
    assert world.conditions()["Synced"] == ("False", "LockedElsewhere")
    assert world.conditions()["Ready"] == ("False", "Blocked")
    world = played(before=before)
    assert world.driver.acts == [Act("start", ("i-2",), 10), Act("start", ("i-1",), 50)]
    assert world.conditions()["Synced"] == ("True", "Synced")
    assert world.driver.locks["i-1"] == lock_until(500)


def test_a_foreign_lock_prevents_a_stop() -> None:
    def before(world: World) -> None:
        world.driver.instances = dict.fromkeys(BOTH, InstanceState.RUNNING)
        world.driver.locks["i-1"] = lock_until(50, "bob")

    world = played(before=before)
    assert [(act.verb, act.ids) for act in world.driver.acts] == [("stop", ("i-2",)), ("stop", ("i-1",))]
    assert world.driver.acts[1].at >= 50
    assert world.driver.locks["i-1"] == lock_until(50, "bob"), "not ours to remove"


def test_an_invalid_lock_is_reported_and_ignored() -> None:
    def before(world: World) -> None:
        world.driver.locks["i-1"] = Lock("bob", "soon")
        world.booking("b", 10, 20)

    world = played(before=before, seconds=9)
    assert world.conditions()["Synced"] == ("True", "LockTagsInvalid")
    assert ("Resource", "LockTagsInvalid") in world.events.recorded
    world = played(before=before)
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 20)]


def test_a_deleted_resource_is_released_after_its_tags_are_removed() -> None:
    async def scenario(world: World) -> None:
        await world.clock.sleep(15)
        world.delete_resource()

    world = played(scenario, before=lambda world: world.booking("b", 10, 500))
    assert world.driver.locked[-1][:2] == (BOTH, None)
    assert world.informers.resources.get(Key("ns", "res")) is None
    assert set(world.driver.instances.values()) == {InstanceState.RUNNING}, "instances stay as they are"


def test_a_permanent_error_does_not_keep_a_deleted_resource() -> None:
    async def scenario(world: World) -> None:
        await world.clock.sleep(15)
        world.driver.observe_error = CloudError("UnknownAccount", "gone", retryable=False)
        world.delete_resource()

    world = played(scenario, before=lambda world: world.booking("b", 10, 500))
    assert world.informers.resources.get(Key("ns", "res")) is None
    assert ("Resource", "LockTagsLeft") in world.events.recorded


def test_a_missing_permission_does_not_keep_a_deleted_resource() -> None:
    async def scenario(world: World) -> None:
        await world.clock.sleep(15)
        world.driver.lock_error = DENIED
        world.delete_resource()

    world = played(scenario, before=lambda world: world.booking("b", 10, 500))
    assert world.informers.resources.get(Key("ns", "res")) is None
    assert world.events.recorded.count(("Resource", "LockTagsLeft")) == 1


def test_the_release_of_a_resource_continues_in_the_next_reconcile() -> None:
    async def scenario(world: World) -> None:
        await world.clock.sleep(15)
        world.driver.view_seconds, world.driver.lock_pace, world.objects.seconds = 29, 44, 5
        world.delete_resource()

    with capture_logs() as logs:
        world = played(scenario, seconds=300, before=lambda world: world.booking("b", 10, 9000))
    assert world.informers.resources.get(Key("ns", "res")) is None
    assert [(ids, lock) for ids, lock, _ in world.driver.locked[1:]] == [(BOTH, None), (BOTH[1:], None)]
    assert [entry for entry in logs if entry["event"] == "reconcile_timed_out"] == []


@pytest.mark.parametrize("deleted", [True, False])
def test_a_slow_reconcile_of_lock_tags_ends_before_its_timeout(deleted: bool) -> None:
    async def scenario(world: World) -> float:
        loop = asyncio.get_running_loop()
        await world.clock.sleep(15)
        world.consistency.confirm_seconds = world.status.seconds = world.objects.seconds = 3600
        world.driver.view_seconds, world.driver.lock_seconds = 29, 3600
        if deleted:
            world.delete_resource()
        else:
            world.delete_booking("b")
            world.booking("next", 0, 9000, user="grace")
        began = loop.time()
        assert (await world.lock_tags.reconcile(Key("ns", "res"))).failed
        return loop.time() - began

    async def main() -> float:
        world = World()
        world.booking("b", 10, 9000)
        running = asyncio.ensure_future(world.run(15))
        taken = await scenario(world)
        await running
        return taken

    assert 20 < virtual.run(main()) < RECONCILE_TIMEOUT_SECONDS - 10


@pytest.mark.parametrize("where", ["lock_error", "observe_error"])
def test_a_deleted_resource_waits_for_its_tags_and_reports_why(where: str) -> None:
    async def scenario(world: World) -> None:
        await world.clock.sleep(15)
        setattr(world.driver, where, refused("InvalidDBInstanceState"))
        world.delete_resource()
        await world.clock.sleep(30)
        assert resource(world).metadata.finalizers == (FINALIZER,)
        assert world.events.recorded.count(("Resource", "InvalidDBInstanceState")) == 1
        setattr(world.driver, where, None)

    world = played(scenario, before=lambda world: world.booking("b", 10, 500))
    assert set(world.driver.locks.values()) == {None}
    assert world.informers.resources.get(Key("ns", "res")) is None


def test_after_a_restart_own_tags_are_recognized() -> None:
    def before(world: World) -> None:
        world.driver.instances = dict.fromkeys(BOTH, InstanceState.RUNNING)
        world.driver.locks = dict.fromkeys(BOTH, lock_until(500))
        world.booking("b", -10, 500)

    world = played(before=before)
    assert world.conditions()["Synced"] == ("True", "Synced")
    assert world.driver.locked == []


def test_a_restart_that_cannot_see_the_instances_keeps_the_finalizer() -> None:
    async def scenario(world: World) -> None:
        await world.clock.sleep(15)
        world.driver.view = None  # a new process has no view of the instances
        world.driver.observe_error = CloudError("CloudUnreachable", "no")
        world.wake()
        await world.clock.sleep(30)
        assert resource(world).metadata.finalizers == (FINALIZER,)
        world.driver.observe_error = None

    world = played(scenario, before=lambda world: world.booking("b", 10, 500))
    assert resource(world).metadata.finalizers == (FINALIZER,)


def test_existing_tags_without_a_finalizer_get_one() -> None:
    def before(world: World) -> None:
        world.driver.instances = dict.fromkeys(BOTH, InstanceState.RUNNING)
        world.driver.locks = dict.fromkeys(BOTH, lock_until(500))
        world.booking("b", -10, 500)

    assert resource(played(before=before)).metadata.finalizers == (FINALIZER,)


@pytest.mark.parametrize("field", ["stale", "unconfirmed"])
def test_instances_that_stale_data_keeps_running_keep_their_lock_tags(field: str) -> None:
    """Seed 149 of the simulation: the bookings vanished with their CRD.

    The tags were removed although all instances kept running.
    """

    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        setattr(world.consistency, field, "the CRD is being deleted")
        world.delete_booking("b")
        await asyncio.sleep(30)
        assert [lock for _, lock, _ in world.driver.locked] == [lock_until(999)]
        setattr(world.consistency, field, "")

    world = played(scenario, seconds=120, before=lambda world: world.booking("b", 10, 999))
    assert [lock for _, lock, _ in world.driver.locked] == [lock_until(999), None]


def test_a_removal_that_waits_for_its_call_does_not_outlive_a_booking() -> None:
    """Seed 20224 of the simulation: a booking came after the confirmation, and vanished with the CRD."""

    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.driver.lock_seconds = 20
        await asyncio.sleep(10)
        world.booking("next", 0, 999)
        await asyncio.sleep(2)
        world.consistency.unconfirmed = "the CRD is being deleted"
        world.delete_booking("next")
        await asyncio.sleep(30)
        assert world.driver.locks == dict.fromkeys(BOTH, lock_until(20))

    played(scenario, seconds=60, before=lambda world: world.booking("b", 10, 20))


def test_a_slow_confirmation_does_not_delay_the_tags_of_the_next_holder() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        world.consistency.confirm_seconds = 3600
        world.delete_booking("b")
        await asyncio.sleep(18)
        world.booking("next", 30, 999, user="grace")

    world = played(scenario, seconds=50, before=lambda world: world.booking("b", 10, 999))
    assert [lock for _, lock, _ in world.driver.locked] == [lock_until(999), lock_until(999, "grace")]


def test_without_lock_tags_nothing_is_written() -> None:
    world = played(before=lambda world: world.booking("b", 10, 20), writes_lock_tags=False)
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 20)]
    assert world.driver.locked == []
    assert resource(world).metadata.finalizers == ()


def test_without_lock_tags_those_from_before_are_removed_and_foreign_ones_respected() -> None:
    def before(world: World) -> None:
        world.booking("b", -10, 50)
        world.driver.instances = dict.fromkeys(BOTH, InstanceState.RUNNING)
        world.driver.locks = {"i-1": lock_until(50), "i-2": lock_until(90, "eve")}

    world = played(before=before, writes_lock_tags=False, seconds=80)
    assert [(ids, lock) for ids, lock, _ in world.driver.locked] == [(("i-1",), None)]
    assert world.driver.acts == [Act("stop", ("i-1",), 50)]


@pytest.mark.parametrize("state", [InstanceState.RUNNING, InstanceState.STOPPED])
def test_no_tag_is_removed_on_stale_data_whatever_state_the_view_shows(state: InstanceState) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        world.driver.instances = dict.fromkeys(BOTH, state)
        world.consistency.unconfirmed = "the CRD is being deleted"
        world.delete_booking("b")
        await asyncio.sleep(30)
        assert [lock for _, lock, _ in world.driver.locked] == [lock_until(90)]
        world.consistency.unconfirmed = ""

    world = played(scenario, seconds=120, before=lambda world: world.booking("b", 10, 90))
    assert world.driver.locked[-1][1] is None
