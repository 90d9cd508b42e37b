"""One Resource in all situations, on virtual time, with exact times and calls."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from booking_operator.api.resource import AutomaticRestart, ResourceStatus, UnbookedInstance
from booking_operator.cloud.driver import CloudError
from booking_operator.domain.instance import Instance, InstanceState, Observation
from booking_operator.engine.store import Key
from tests.support import virtual
from tests.support.environment import Act, World, at_text
from tests.support.virtual import EPOCH, after

BOTH = ("i-1", "i-2")
THROTTLED = CloudError("RequestLimitExceeded", "StartInstances: throttled")


def played(
    scenario: Callable[[World], Awaitable[None]] | None = None,
    seconds: float = 100,
    before: Callable[[World], None] = lambda _: None,
    **world: Any,
) -> World:
    async def main() -> World:
        made = World(**world)
        before(made)
        running = asyncio.ensure_future(made.run(seconds))
        if scenario:
            await scenario(made)
        await running
        return made

    return virtual.run(main())


def test_start_and_stop_leave_exactly_at_the_boundary() -> None:
    world = played(before=lambda world: world.booking("b", 10, 20))
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 20)]
    assert ("Resource", "Started") in world.events.recorded
    assert ("Booking", "Stopped") in world.events.recorded


def test_the_inventory_is_refreshed_before_each_boundary() -> None:
    world = played(before=lambda world: world.booking("b", 10, 20))
    assert world.driver.observed == 3  # once at the beginning, and once before each boundary


@pytest.mark.parametrize("fault", ["hang", "error"])
def test_a_failed_refresh_does_not_delay_a_start(fault: str) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        if fault == "hang":
            world.driver.hang = True
        else:
            world.driver.observe_error = CloudError("CloudUnreachable", "no route")

    world = played(scenario, seconds=15, before=lambda world: world.booking("b", 10, 200))
    assert world.driver.acts == [Act("start", BOTH, 10)]


def test_a_stop_waits_for_a_successful_refresh() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.driver.observe_error = CloudError("CloudUnreachable", "no route")
        await asyncio.sleep(10)
        assert world.conditions()["Synced"] == ("False", "CloudUnreachable")
        assert len(world.driver.acts) == 1
        world.driver.observe_error = None

    world = played(scenario, before=lambda world: world.booking("b", 10, 20))
    assert [act.verb for act in world.driver.acts] == ["start", "stop"]
    assert world.driver.acts[1].at > 25


def test_a_failed_start_is_reported_and_retried_with_back_off_and_keeps_the_end() -> None:
    async def scenario(world: World) -> None:
        world.driver.act_error = THROTTLED
        await asyncio.sleep(12)
        assert world.conditions()["Synced"] == ("False", "RequestLimitExceeded")
        assert world.conditions()["Ready"] == ("False", "Starting")
        await asyncio.sleep(20)
        world.driver.act_error = None

    world = played(scenario, seconds=50, before=lambda world: world.booking("b", 10, 40))
    starts = [act.at for act in world.driver.acts if act.verb == "start"]
    assert starts[0] == 10
    assert all(later - earlier >= 0.25 for earlier, later in pairwise(starts))
    assert len(starts) < 12
    assert world.driver.acts[-1] == Act("stop", BOTH, 40)
    for kind in ("Resource", "Booking"):
        assert world.events.recorded.count((kind, "RequestLimitExceeded")) == 1


def test_a_deleted_booking_stops_after_a_refresh_and_a_confirmation() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        observed = world.driver.observed
        world.delete_booking("b")
        await asyncio.sleep(1)
        assert world.driver.observed == observed + 1

    world = played(scenario, before=lambda world: world.booking("b", 10, 90), writes_lock_tags=False)
    assert world.driver.acts[-1] == Act("stop", BOTH, 12.05)
    assert world.consistency.confirmations == 1


def test_a_stop_that_a_deletion_causes_waits_for_the_grace_period() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        world.delete_booking("b")
        await asyncio.sleep(1)
        assert world.conditions()["Ready"] == ("False", "DeletionGrace")

    world = played(scenario, before=lambda world: world.booking("b", 10, 90), deletion_grace=5)
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 17)]


def test_a_booking_that_replaces_a_deleted_one_keeps_the_instances_running() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        world.delete_booking("b")
        await asyncio.sleep(3)
        world.booking("b", 10, 60)

    world = played(scenario, before=lambda world: world.booking("b", 10, 90), deletion_grace=5)
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 60)]


@pytest.mark.parametrize(("unbooked", "stops"), [("Stop", [Act("stop", BOTH, 40)]), ("Leave", [])])
def test_instances_are_not_stopped_within_their_launch_grace(unbooked: str, stops: list[Act]) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(2)
        expected = ("False", "LaunchGrace") if stops else ("True", "Left")
        assert world.conditions()["Ready"] == expected

    def before(world: World) -> None:
        world.driver.instances = dict.fromkeys(BOTH, InstanceState.RUNNING)
        world.driver.more["launched_at"] = EPOCH - timedelta(seconds=20)

    world = played(scenario, before=before, launch_grace="60s", unbooked=unbooked)
    assert world.driver.acts == stops


@pytest.mark.parametrize("maintenance", ["Ignore", "Allow"])
def test_a_database_in_maintenance_is_stopped_at_the_end_of_its_window(maintenance: str) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(20.1)
        allowed = maintenance == "Allow"
        expected = ("False", "MaintenanceWindow") if allowed else ("True", "Stopped")
        assert world.conditions()["Ready"] == expected

    def before(world: World) -> None:
        world.driver.more["maintenance_until"] = after(40)
        world.booking("b", 10, 20)

    world = played(scenario, before=before, maintenance=maintenance)
    stops = [act for act in world.driver.acts if act.verb == "stop"]
    assert stops == [Act("stop", BOTH, 40 if maintenance == "Allow" else 20)]


def restarted(world: World, state: InstanceState = InstanceState.RUNNING) -> None:
    """The cloud shows other states of the instances."""
    world.driver.instances = dict.fromkeys(BOTH, state)
    world.driver.more.clear()
    world.driver.view = world.driver.look(world.clock.now())
    world.wake()


@pytest.mark.parametrize(("seconds", "stopped"), [(400, True), (80, False)])
def test_under_leave_only_a_start_by_the_cloud_itself_is_reverted(seconds: float, stopped: bool) -> None:
    """AWS starts a stopped database again after seven days. A user may have started it before that."""

    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        assert [restart.at for restart in world.shown().automatic_restarts] == [at_text(400)] * 2
        await asyncio.sleep(seconds - 5)
        restarted(world, InstanceState.PENDING)
        await asyncio.sleep(5)
        restarted(world)
        await asyncio.sleep(600 - seconds)
        assert world.conditions()["Ready"] == (("True", "Stopped") if stopped else ("True", "Left"))
        assert world.shown().automatic_restarts == ()

    def before(world: World) -> None:
        world.driver.more["restarts_at"] = after(400)

    world = played(scenario, seconds=700, before=before, unbooked="Leave")
    assert world.driver.acts == ([Act("stop", BOTH, seconds + 5)] if stopped else [])


def test_a_restart_by_the_cloud_while_no_operator_ran_is_reverted() -> None:
    def before(world: World) -> None:
        world.driver.instances = dict.fromkeys(BOTH, InstanceState.RUNNING)
        restarts = tuple(AutomaticRestart(id_, at_text(-3600)) for id_ in BOTH)
        found: Any = world.informers.resources.get(Key("ns", "res"))
        world.status.set(found, ResourceStatus(automatic_restarts=restarts))

    world = played(before=before, unbooked="Leave")
    assert [(act.verb, act.ids) for act in world.driver.acts] == [("stop", BOTH)]


def test_a_planned_stop_needs_no_confirmation() -> None:
    world = played(before=lambda world: world.booking("b", 10, 20), writes_lock_tags=False)
    assert world.consistency.confirmations == 0


@pytest.mark.parametrize("field", ["stale", "unconfirmed"])
def test_nothing_is_stopped_on_stale_data(field: str) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        setattr(world.consistency, field, "the list failed")
        world.delete_booking("b")
        await asyncio.sleep(30)
        assert len(world.driver.acts) == 1
        assert world.conditions()["Ready"] == ("False", "StopWithheld")
        setattr(world.consistency, field, "")

    world = played(scenario, seconds=120, before=lambda world: world.booking("b", 10, 999))
    assert [act.verb for act in world.driver.acts] == ["start", "stop"]
    assert ("Resource", "StopWithheld") in world.events.recorded


def test_a_start_is_allowed_on_stale_data() -> None:
    def before(world: World) -> None:
        world.consistency.stale = "the list failed"
        world.booking("b", 10, 20)

    world = played(before=before, seconds=15)
    assert world.driver.acts == [Act("start", BOTH, 10)]


def by_hand(world: World, id_: str, state: InstanceState) -> None:
    """A user starts or stops an instance, and the view shows it."""
    world.driver.instances[id_] = state
    world.driver.view = world.driver.look(world.clock.now())
    world.wake()


def test_a_start_does_not_wait_for_the_confirmation_of_a_stop() -> None:
    def before(world: World) -> None:
        world.consistency.confirm_seconds = 30
        world.driver.instances["i-1"] = InstanceState.RUNNING
        world.booking("b", 10, 500)

    world = played(before=before)
    assert world.driver.acts == [Act("start", ("i-2",), 10)]


def test_a_stop_without_a_confirmation_in_time_is_reported() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(30)
        found = world.informers.resources.get(Key("ns", "res"))
        assert found is not None
        (ready,) = (item for item in found.status.conditions if item.type == "Ready")
        assert ready.reason == "StopWithheld"
        assert "the API server did not confirm in time" in ready.message
        world.consistency.confirm_seconds = 0

    def before(world: World) -> None:
        world.consistency.confirm_seconds = 3600
        world.driver.instances["i-1"] = InstanceState.RUNNING

    world = played(scenario, before=before)
    assert [(act.verb, act.ids) for act in world.driver.acts] == [("stop", ("i-1",))]


def test_the_wait_for_a_confirmation_ends_at_the_next_boundary() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(18.8)
        world.consistency.confirm_seconds = 30
        world.delete_booking("long")
        await asyncio.sleep(0.5)
        world.booking("next", 19, 90)
        by_hand(world, "i-2", InstanceState.STOPPED)

    def before(world: World) -> None:
        world.booking("short", 10, 20)
        world.booking("long", 10, 90)

    world = played(scenario, seconds=80, before=before)
    assert world.driver.acts == [Act("start", BOTH, 10), Act("start", ("i-2",), 20)]


def test_an_extension_at_the_last_moment_prevents_the_stop() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(19.9)
        world.booking("b", 10, 50)

    world = played(scenario, before=lambda world: world.booking("b", 10, 20))
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 50)]


def test_an_extension_during_the_confirmation_prevents_the_stop() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(12)
        real = world.consistency.confirm

        async def confirm(**_: bool) -> str:
            world.booking("again", 0, 90)
            return await real()

        world.consistency.confirm = confirm  # type: ignore[method-assign]
        world.delete_booking("b")

    world = played(scenario, seconds=30, before=lambda world: world.booking("b", 10, 90))
    assert [act.verb for act in world.driver.acts] == ["start"]


def test_an_instance_started_by_hand_is_stopped() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        by_hand(world, "i-1", InstanceState.RUNNING)

    world = played(scenario)
    assert world.driver.acts == [Act("stop", ("i-1",), 5)]


def test_leave_writes_the_status_before_the_start() -> None:
    def before(world: World) -> None:
        world.driver.instances["i-1"] = InstanceState.RUNNING
        world.booking("b", 10, 20)

    world = played(before=before, unbooked="Leave")
    assert world.status.log == ["write"]
    assert world.driver.acts == [Act("start", ("i-2",), 10), Act("stop", ("i-2",), 20)]


def test_leave_stops_a_start_that_becomes_visible_after_the_booking() -> None:
    """The call may have been in flight when the booking ended, or the view was stale."""

    async def scenario(world: World) -> None:
        await asyncio.sleep(10.5)
        shown = (Instance("i-1", InstanceState.RUNNING), Instance("i-2", InstanceState.STOPPED))
        world.driver.view = Observation(shown, EPOCH + timedelta(seconds=9.9))
        await asyncio.sleep(25 - 10.5)
        by_hand(world, "i-2", InstanceState.RUNNING)

    def before(world: World) -> None:
        world.driver.instances["i-1"] = InstanceState.RUNNING
        world.booking("b", 10, 11)

    world = played(scenario, before=before, unbooked="Leave")
    assert world.driver.acts[0] == Act("start", ("i-2",), 10)
    assert world.driver.acts[-1] == Act("stop", ("i-2",), 25)


def test_leave_keeps_instances_started_by_hand_after_the_booking() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(70)
        by_hand(world, "i-2", InstanceState.RUNNING)

    def before(world: World) -> None:
        world.booking("b", 10, 20)

    world = played(scenario, before=before, unbooked="Leave", seconds=200)
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 20)]
    assert world.driver.observed == 4, "at first, before each boundary, and once what was started is over"


def test_leave_starts_even_if_the_status_cannot_be_written() -> None:
    def before(world: World) -> None:
        world.status.away = True
        world.booking("b", 10, 90)

    world = played(before=before, seconds=20, unbooked="Leave")
    assert world.driver.acts == [Act("start", BOTH, 10)]


@pytest.mark.parametrize(("how", "reason"), [({"suspend": True}, "Suspended"), ({"dry_run": True}, "DryRun")])
def test_suspend_and_dry_run_change_nothing(how: dict[str, Any], reason: str) -> None:
    made = played(before=lambda world: world.booking("b", 10, 90), seconds=20, **how)
    assert made.driver.acts == []
    assert made.conditions()["Ready"] == ("False", reason)


@pytest.mark.parametrize("booked", [True, False])
def test_a_suspension_ends_by_itself_to_the_millisecond(booked: bool) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        assert world.conditions()["Ready"] == ("False", "Suspended")
        assert world.shown().next_change_at == at_text(30)

    def before(world: World) -> None:
        world.booking("b", 10, 60 if booked else 20)
        if not booked:
            by_hand(world, "i-1", InstanceState.RUNNING)

    world = played(scenario, before=before, seconds=40, suspend_until=at_text(30))
    wanted = Act("start", BOTH, 30) if booked else Act("stop", ("i-1",), 30)
    assert world.driver.acts == [wanted]
    assert world.conditions()["Ready"] == ("True", "Running" if booked else "Stopped")


def test_a_suspension_that_is_shortened_needs_a_fresh_view_for_a_stop() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        by_hand(world, "i-1", InstanceState.RUNNING)
        observed = world.driver.observed
        await asyncio.sleep(1)
        world.resource(suspend_until=at_text(10))
        await asyncio.sleep(1)
        assert world.driver.observed == observed + 1

    world = played(scenario, seconds=20, suspend_until=at_text(3000))
    assert [act.verb for act in world.driver.acts] == ["stop"]


LEAVE: dict[str, Any] = {"unbooked": "Leave"}
EACH_MINUTE = LEAVE | {"stop_at": ["* * * * *"]}
A_MINUTE = LEAVE | {"unbooked_for": "1m"}


@pytest.mark.parametrize(("off", "at"), [(EACH_MINUTE, 60), (A_MINUTE, 75)])
def test_an_off_time_stops_what_a_user_started_to_the_millisecond(off: dict[str, Any], at: float) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        by_hand(world, "i-1", InstanceState.RUNNING)
        await asyncio.sleep(1)
        assert world.shown().next_change_at == at_text(at)
        assert world.conditions()["Ready"] == ("True", "Left")
        message = next(item.message for item in world.shown().conditions if item.type == "Ready")
        assert message.endswith(f"spec.unbooked is Leave. The next off time is {at_text(at)}.")

    world = played(scenario, seconds=80, **off)
    assert world.driver.acts == [Act("stop", ("i-1",), at)]
    assert world.conditions()["Ready"] == ("True", "Stopped")
    assert world.shown().unbooked == ()
    assert world.shown().next_change_at == ""


def test_an_off_time_during_a_booking_stops_nothing() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        by_hand(world, "i-1", InstanceState.RUNNING)

    world = played(scenario, before=lambda world: world.booking("b", 10, 70), seconds=130, **EACH_MINUTE)
    # The booking has started i-2 only, so its end stops i-2 only.
    assert world.driver.acts == [
        Act("start", ("i-2",), 10),
        Act("stop", ("i-2",), 70),
        Act("stop", ("i-1",), 120),
    ]


def test_a_booking_that_ends_at_an_off_time_does_not_protect_from_it() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        by_hand(world, "i-1", InstanceState.RUNNING)

    world = played(scenario, before=lambda world: world.booking("b", 10, 60), seconds=70, **EACH_MINUTE)
    # The order ahead is for what the booking has started; what a user has started follows at once.
    assert world.driver.acts == [
        Act("start", ("i-2",), 10),
        Act("stop", ("i-2",), 60),
        Act("stop", ("i-1",), 60),
    ]


def test_an_instance_that_is_started_right_after_an_off_time_is_left_alone() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(60.5)
        by_hand(world, "i-1", InstanceState.RUNNING)

    world = played(scenario, seconds=119, **EACH_MINUTE)
    assert world.driver.acts == []


def test_instances_run_on_until_the_bookings_are_decided_by_new_rules() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(20)
        world.resource(sharing="Exclusive")
        await asyncio.sleep(5)
        assert world.conditions()["Ready"] == ("False", "StopWithheld")
        message = next(item.message for item in world.shown().conditions if item.type == "Ready")
        assert "the booking b is neither accepted nor refused yet" in message
        booking: Any = world.informers.bookings.get(Key("ns", "b"))
        record = {"accepted_from": at_text(10), "accepted_until": at_text(90)}
        status = replace(booking.status, accepted_resource="res", **record)
        metadata = replace(booking.metadata, resource_version="999999")
        world.informers.bookings.apply(replace(booking, status=status, metadata=metadata))
        world.wake()

    world = played(scenario, before=lambda world: world.booking("b", 10, 90), seconds=95)
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 90)]


def test_the_time_without_a_booking_counts_from_the_end_of_the_last_one() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        by_hand(world, "i-1", InstanceState.RUNNING)

    world = played(scenario, before=lambda world: world.booking("b", 10, 70), seconds=140, **A_MINUTE)
    assert world.driver.acts[-1] == Act("stop", ("i-1",), 130)


def test_an_off_time_without_an_operator_is_made_up_for() -> None:
    def before(world: World) -> None:
        found: Any = world.informers.resources.get(Key("ns", "res"))
        since = UnbookedInstance("i-1", at_text(-70))
        world.status.set(found, replace(found.status, unbooked=(since,)))
        world.driver.instances = {"i-1": InstanceState.RUNNING, "i-2": InstanceState.RUNNING}

    world = played(before=before, seconds=20, **EACH_MINUTE)
    assert [(act.verb, act.ids) for act in world.driver.acts] == [("stop", ("i-1",))]
    assert world.driver.acts[0].at < 1
    assert world.shown().unbooked_since["i-2"] == after(1)  # the next whole second


def test_a_new_off_time_needs_a_fresh_view_and_confirmed_caches() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        by_hand(world, "i-1", InstanceState.RUNNING)
        await asyncio.sleep(120)
        world.consistency.unconfirmed = "the CRD is being deleted"
        world.resource(**A_MINUTE)
        await asyncio.sleep(1)
        assert world.conditions()["Ready"] == ("False", "StopWithheld")
        world.consistency.unconfirmed = ""

    world = played(scenario, seconds=150, **(LEAVE | {"unbooked_for": "1h"}))
    assert [(act.verb, act.ids) for act in world.driver.acts] == [("stop", ("i-1",))]


def test_a_suspension_holds_an_off_time_back() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        by_hand(world, "i-1", InstanceState.RUNNING)

    world = played(scenario, seconds=100, **EACH_MINUTE, suspend=True)
    assert world.driver.acts == []
    assert world.conditions()["Ready"] == ("False", "Suspended")


def test_the_start_after_a_suspension_is_forecast() -> None:
    async def scenario(world: World) -> None:
        world.driver.queue_seconds = 60
        await asyncio.sleep(15)
        delay = world.delays.get(Key("ns", "res"))
        assert delay is not None
        assert (delay.is_start, delay.due_at) == (True, after(30))

    played(scenario, before=lambda world: world.booking("b", 10, 90), seconds=20, suspend_until=at_text(30))


def test_instances_not_started_because_of_suspend_are_kept_after_it() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        by_hand(world, "i-1", InstanceState.RUNNING)
        await asyncio.sleep(15)
        world.resource(unbooked="Leave")

    def before(world: World) -> None:
        world.booking("b", 10, 20)

    world = played(scenario, before=before, unbooked="Leave", suspend=True)
    assert world.driver.acts == []


def test_leave_stops_instances_started_while_unbooked_was_stop() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.resource(unbooked="Leave")

    def before(world: World) -> None:
        world.driver.instances["i-1"] = InstanceState.RUNNING
        world.driver.view = world.driver.look(world.clock.now())
        world.booking("b", 0, 20)

    world = played(scenario, before=before)
    assert world.status.log == [], "no start waits for it"
    assert world.driver.acts == [Act("start", ("i-2",), 0), Act("stop", ("i-2",), 20)]


def test_hibernate_is_passed_on() -> None:
    world = played(before=lambda world: world.booking("b", 10, 20), hibernate=True)
    assert [act.verb for act in world.driver.acts] == ["start", "hibernate"]


def test_a_newer_duplicate_does_nothing() -> None:
    def before(world: World) -> None:
        world.resource("young")
        world.booking("b", 10, 20)

    world = played(before=before)
    assert world.conditions("young")["Valid"] == ("False", "Duplicate")
    assert world.driver.acts == [Act("start", BOTH, 10), Act("stop", BOTH, 20)]


def test_without_changes_there_are_no_actions_and_no_writes() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(10)
        world.status.writes = 0
        for _ in range(50):
            world.wake()
            await asyncio.sleep(1)
        assert world.status.writes == 0

    world = played(scenario)
    assert world.driver.acts == []
    assert world.events.recorded == []


def test_status_started_needs_no_additional_write() -> None:
    async def scenario(world: World) -> None:
        world.driver.boot_seconds = 3
        for instant, started, writes in ((9, (), 1), (11, BOTH, 1), (19, BOTH, 1), (29, (), 1)):
            await asyncio.sleep(instant - asyncio.get_running_loop().time())
            found = world.informers.resources.get(Key("ns", "res"))
            assert found is not None
            assert (found.status.started, world.status.writes) == (started, writes), instant
            world.status.writes = 0

    played(scenario, before=lambda world: world.booking("b", 10, 20))


def test_a_boundary_needs_one_status_write() -> None:
    async def scenario(world: World) -> None:
        for instant in (9, 19, 29):  # before the start, before the end, and after both
            await asyncio.sleep(instant - asyncio.get_running_loop().time())
            assert world.status.writes <= 1, instant
            world.status.writes = 0

    played(scenario, before=lambda world: world.booking("b", 10, 20))


def test_a_stop_by_a_deletion_is_not_reported_on_an_earlier_booking() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(200)
        world.delete_booking("later")

    def before(world: World) -> None:
        world.booking("earlier", 10, 20)
        world.booking("later", 100, 900)

    world = played(scenario, seconds=300, before=before)
    assert [act.verb for act in world.driver.acts] == ["start", "stop"] * 2
    assert world.events.recorded.count(("Resource", "Stopped")) == 2
    assert world.events.recorded.count(("Booking", "Stopped")) == 1


def test_a_deleted_resource_is_released() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(15)
        world.informers.resources.delete(Key("ns", "res"))
        world.wake()

    world = played(scenario, before=lambda world: world.booking("b", 10, 20))
    assert world.driver.acts == [Act("start", BOTH, 10)]
