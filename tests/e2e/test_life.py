"""Bookings from creation to end: the operator on a real API server, with moto's server as AWS."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from booking_operator.devcluster.playground import Playground
from booking_operator.domain.capacity import CAPACITY_TAG
from booking_operator.domain.power import VISIBILITY_DELAY
from tests.e2e.conftest import Operator, Tenant, at, soon, until
from tests.e2e.test_schema import store_against_the_rules

STOPPED, RUNNING = ["stopped", "stopped"], ["running", "running"]
DAY = timedelta(days=1)


def is_invalid(tenant: Tenant, name: str) -> bool:
    return tenant.condition("booking", name, "Valid") == ("False", "InvalidSpec")


def is_status(tenant: Tenant, name: str, text: str) -> bool:
    return bool(tenant.status("booking", name).get("status") == text)


def is_ready(tenant: Tenant, kind: str, name: str, status: str, reason: str) -> bool:
    return tenant.condition(kind, name, "Ready") == (status, reason)


async def test_a_booking_from_creation_to_end(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(300), soon(600))
        await until(lambda: is_status(tenant, "bk", "SCHEDULED"))
        await until(lambda: is_ready(tenant, "resource", "res", "True", "Stopped"))
        assert tenant.status("resource", "res")["next_change_at"]
        assert tenant.states() == STOPPED
        start = soon(5)
        tenant.booking("bk", start, soon(600))
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))
        assert datetime.now(UTC) >= start
        assert tenant.states() == RUNNING
        assert tenant.condition("booking", "bk", "HoldsLock") == ("True", "Holder")
        held = tenant.status("resource", "res")
        assert (held["status"], held["locked_by"], held["running"]) == ("RUNNING", "ada", 2)
        tenant.booking("bk", start, soon(2))
        await until(lambda: is_status(tenant, "bk", "FINISHED"))
        await until(lambda: is_ready(tenant, "resource", "res", "True", "Stopped"))
        assert tenant.states() == STOPPED
        assert tenant.status("resource", "res")["locked_by"] == ""
        assert tenant.condition("booking", "bk", "Ready") == ("", "")
        await until(lambda: tenant.events("Resource", "res") >= {"Started", "Stopped"})
        await until(lambda: tenant.events("Booking", "bk") >= {"Started", "Stopped"})


async def test_kubectl_wait_and_observed_generation(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await asyncio.to_thread(
            tenant.kubectl, "wait", "--for=condition=Ready", "--timeout=60s", "booking/bk"
        )
        await asyncio.to_thread(
            tenant.kubectl, "wait", "--for=condition=Ready", "--timeout=60s", "resource/res"
        )
        for kind, name in (("booking", "bk"), ("resource", "res")):
            found = tenant.get(kind, name)
            assert found["status"]["observedGeneration"] == found["metadata"]["generation"]


async def test_a_manifest_of_the_go_operator_works(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.kubectl("apply", "-f", "manifests/samples/manager_v1_booking.yaml")
        await until(lambda: is_status(tenant, "analytics-jan01", "FINISHED"))
        assert tenant.condition("booking", "analytics-jan01", "ResourceFound")[0] == "False"


async def test_overlapping_bookings_keep_instances_running_until_the_last_ends(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource()
        start = soon(-60)
        tenant.booking("first", start, soon(600), user="ada")
        tenant.booking("second", soon(-30), soon(600), user="grace")
        await until(lambda: is_ready(tenant, "booking", "second", "True", "Running"))
        assert tenant.condition("booking", "second", "HoldsLock") == ("False", "HeldByOther")
        tenant.booking("first", start, soon(2), user="ada")
        await until(lambda: is_status(tenant, "first", "FINISHED"))
        await until(lambda: tenant.condition("booking", "second", "HoldsLock") == ("True", "Holder"))
        assert tenant.status("resource", "res")["locked_by"] == "grace"
        assert tenant.states() == RUNNING
        assert "Stopped" not in tenant.events("Resource", "res")


async def test_back_to_back_and_nested_bookings_never_cause_a_stop(
    tenant: Tenant, operator: Operator
) -> None:
    middle = soon(4).replace(microsecond=0)
    async with operator():
        tenant.resource()
        tenant.booking("outer", soon(-60), middle)
        tenant.booking("nested", soon(-30), soon(2))
        tenant.booking("next", middle, middle + DAY, user="grace")
        await until(lambda: tenant.states() == RUNNING)
        await until(lambda: tenant.condition("booking", "next", "HoldsLock") == ("True", "Holder"))
        assert tenant.states() == RUNNING
        assert "Stopped" not in tenant.events("Resource", "res")


async def test_an_extension_keeps_instances_running_and_a_shorter_end_stops_them(
    tenant: Tenant, operator: Operator
) -> None:
    start = soon(-60)
    async with operator():
        tenant.resource()
        tenant.booking("bk", start, soon(600))
        await until(lambda: tenant.states() == RUNNING)
        end = soon(6)
        tenant.booking("bk", start, end)
        tenant.booking("bk", start, end + DAY)
        await at(end + timedelta(seconds=1.5))
        assert tenant.states() == RUNNING
        assert is_status(tenant, "bk", "IN PROGRESS")
        tenant.booking("bk", start, soon(-1))
        await until(lambda: tenant.states() == STOPPED)
        await until(lambda: is_status(tenant, "bk", "FINISHED"))


async def test_a_deleted_booking_in_progress_stops_its_instances(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.states() == RUNNING)
        tenant.kubectl("delete", "booking", "bk")
        await until(lambda: tenant.states() == STOPPED)


async def test_moving_a_booking_to_another_resource_affects_both(
    devcluster: Playground, tenant: Tenant, operator: Operator
) -> None:
    other = Tenant(devcluster, f"{tenant.tag}-other")
    devcluster.instances.create(other.tag, 2)
    start, end = soon(-60), soon(600)
    async with operator():
        tenant.resource()
        tenant.resource("two", tag=other.tag)
        tenant.booking("bk", start, end)
        await until(lambda: tenant.states() == RUNNING)
        tenant.booking("bk", start, end, resource="two")
        await until(lambda: tenant.states() == STOPPED)
        await until(lambda: other.states() == RUNNING)


async def test_a_resource_is_deleted_and_created_again(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.states() == RUNNING)
        await tenant.delete("resource", "res")
        await until(lambda: tenant.condition("booking", "bk", "ResourceFound")[0] == "False")
        assert tenant.states() == RUNNING  # deleting a Resource leaves its instances as they are
        tenant.resource()
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))
        await tenant.delete("resource", "res")
        tenant.kubectl("delete", "booking", "bk")
        tenant.resource()
        await until(lambda: tenant.states() == STOPPED)


async def test_a_booking_works_when_its_resource_appears(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.booking("bk", soon(-60), soon(600))
        await until(
            lambda: tenant.condition("booking", "bk", "ResourceFound") == ("False", "ResourceNotFound")
        )
        await until(lambda: "ResourceNotFound" in tenant.events("Booking", "bk"))
        tenant.resource()
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))


async def test_a_group_without_instances_is_reported_until_it_has_some(
    devcluster: Playground, tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource(tag=f"{tenant.tag}-empty")
        await until(lambda: tenant.condition("resource", "res", "Found") == ("False", "NoInstances"))
        devcluster.instances.create(f"{tenant.tag}-empty", 1)
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))


async def test_instances_without_a_booking_are_stopped(tenant: Tenant, operator: Operator) -> None:
    tenant.devcluster.instances.start(tenant.tag)
    async with operator():
        tenant.resource()
        await until(lambda: tenant.states() == STOPPED)


@pytest.mark.slow
async def test_leave_stops_only_instances_that_a_booking_started(tenant: Tenant, operator: Operator) -> None:
    mine = tenant.devcluster.instances.start(tenant.tag, 1)
    async with operator():
        tenant.resource(unbooked="Leave")
        await until(lambda: is_ready(tenant, "resource", "res", "True", "Left"))
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.states() == RUNNING)
    started = tenant.status("resource", "res")["started"]
    assert len(started) == 1
    assert not set(started) & set(mine)
    async with operator():  # after a restart, status.started has the instances that a booking started
        tenant.kubectl("delete", "booking", "bk")
        await until(lambda: sorted(tenant.states()) == ["running", "stopped"])
        # The operator keeps status.started until a start in flight must be visible.
        await until(
            lambda: "started" not in tenant.status("resource", "res"), VISIBILITY_DELAY.total_seconds() + 20
        )


async def test_an_ad_hoc_booking_in_the_resource(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource(booked_by="grace", booked_until=soon(600).isoformat())
        await until(lambda: tenant.states() == RUNNING)
        await until(lambda: tenant.status("resource", "res").get("locked_by") == "grace")
        tenant.resource(booked_by="grace", booked_until=soon(2).isoformat())
        await until(lambda: tenant.states() == STOPPED)


async def test_warm_up_starts_early_while_the_booking_is_scheduled(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource(warm_up="30s")
        tenant.booking("bk", soon(25), soon(600))
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))
        assert is_status(tenant, "bk", "SCHEDULED")
        assert tenant.status("resource", "res")["locked_by"] == "ada"


async def test_suspend_reports_and_changes_nothing(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource(suspend=True)
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: is_ready(tenant, "resource", "res", "False", "Suspended"))
        assert tenant.states() == STOPPED
        tenant.resource(suspend=False)
        await until(lambda: tenant.states() == RUNNING)


async def test_dry_run_reports_and_changes_nothing(tenant: Tenant, operator: Operator) -> None:
    async with operator(dry_run=True):
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: is_ready(tenant, "resource", "res", "False", "DryRun"))
        await until(lambda: "DryRun" in tenant.events("Resource", "res"))
        assert tenant.states() == STOPPED


async def test_the_newer_of_two_resources_of_one_group_is_a_duplicate(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource("elder")
        await until(lambda: tenant.condition("resource", "elder", "Valid") == ("True", "Accepted"))
        await asyncio.sleep(1.1)  # creation times have a resolution of one second
        tenant.resource("younger")
        await until(lambda: tenant.condition("resource", "younger", "Valid") == ("False", "Duplicate"))
        assert tenant.condition("resource", "younger", "Stalled")[0] == "True"
        await tenant.delete("resource", "elder")
        await until(lambda: tenant.condition("resource", "younger", "Valid") == ("True", "Accepted"))


async def test_a_database_runs_while_booked_and_is_stopped_again_after_aws_starts_it(
    tenant: Tenant, operator: Operator
) -> None:
    databases, name = tenant.devcluster.databases, f"{tenant.tag}-orders"
    databases.create(tenant.tag, name)
    async with operator():
        tenant.resource(type="rds")
        start = soon(-60)
        tenant.booking("bk", start, soon(600))
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))
        assert databases.state(name) == "available"
        tenant.booking("bk", start, soon(0))
        await until(lambda: is_ready(tenant, "resource", "res", "True", "Stopped"))
        assert databases.state(name) == "stopped"
        assert tenant.states() == STOPPED
    databases.start(name)
    async with operator():  # the first refresh of the inventory shows the started database
        await until(lambda: databases.state(name) == "stopped")


async def test_an_auto_scaling_group_is_scaled_by_its_bookings(tenant: Tenant, operator: Operator) -> None:
    groups, name = tenant.devcluster.scaled_groups, f"{tenant.tag}-web"
    groups.create(tenant.tag, name, "1/4/2")
    async with operator():
        tenant.resource(type="asg")
        await until(lambda: is_ready(tenant, "resource", "res", "True", "Stopped"))
        assert (groups.capacity(name), groups.tags(name)[CAPACITY_TAG]) == ("0/0/0", "1/4/2")
        start = soon(-60)
        tenant.booking("bk", start, soon(600))
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))
        assert groups.capacity(name) == "1/4/2"
        await until(lambda: groups.tags(name).get("resource-booking-locked-by") == "ada")
        status = tenant.status("resource", "res")
        assert (status["instances"], status["running"], status["status"]) == (2, 2, "RUNNING")
        tenant.booking("bk", start, soon(0))
        await until(lambda: is_ready(tenant, "resource", "res", "True", "Stopped"))
        assert groups.capacity(name) == "0/0/0"
        status = tenant.status("resource", "res")
        assert (status["instances"], status["running"], status["status"]) == (2, 0, "STOPPED")
        await until(lambda: "resource-booking-locked-by" not in groups.tags(name))


async def test_an_ecs_service_is_scaled_by_its_bookings(tenant: Tenant, operator: Operator) -> None:
    services, id_ = tenant.devcluster.services, f"main/{tenant.tag}"
    services.create(tenant.tag, id_, 2)
    async with operator():
        tenant.resource(type="ecs")
        await until(lambda: is_ready(tenant, "resource", "res", "True", "Stopped"))
        assert (services.desired(id_), services.tags(id_)[CAPACITY_TAG]) == (0, "2/2/2")
        start = soon(-60)
        tenant.booking("bk", start, soon(600))
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))
        await until(lambda: services.tags(id_).get("resource-booking-locked-by") == "ada")
        status = tenant.status("resource", "res")
        assert (status["instances"], status["running"], status["status"]) == (2, 2, "RUNNING")
        services.resize(id_, 5)
        tenant.booking("bk", start, soon(0))
        await until(lambda: is_ready(tenant, "resource", "res", "True", "Stopped"))
        assert (services.desired(id_), services.tags(id_)[CAPACITY_TAG]) == (0, "5/5/5")
        status = tenant.status("resource", "res")
        assert (status["instances"], status["running"], status["status"]) == (5, 0, "STOPPED")
        await until(lambda: "resource-booking-locked-by" not in services.tags(id_))


def locked_by(tenant: Tenant) -> set[str]:
    return {
        tags.get("resource-booking-locked-by", "") for tags in tenant.devcluster.instances.tags(tenant.tag)
    }


async def test_instances_have_the_lock_tags_of_their_holder(tenant: Tenant, operator: Operator) -> None:
    end = soon(600)
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), end)
        await until(lambda: locked_by(tenant) == {"ada"})
        until_tags = {
            datetime.fromisoformat(tags["resource-booking-locked-until"])
            for tags in tenant.devcluster.instances.tags(tenant.tag)
        }
        assert until_tags == {end}
        assert tenant.get("resource", "res")["metadata"]["finalizers"] == ["manager.kotaico.de/cleanup"]
        tenant.kubectl("delete", "booking", "bk")
        await until(lambda: locked_by(tenant) == {""})
        await until(lambda: "finalizers" not in tenant.get("resource", "res")["metadata"])


async def test_deleting_a_booked_resource_removes_the_lock_tags(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: locked_by(tenant) == {"ada"})
        await tenant.delete("resource", "res")
        assert locked_by(tenant) == {""}
        assert tenant.states() == RUNNING


GARBAGE = {
    "soon": {"resource_name": "res", "start_at": "soon", "end_at": "later", "user_id": "ada"},
    "backwards": {
        "resource_name": "res",
        "start_at": "2026-01-02T00:00:00Z",
        "end_at": "2026-01-01T00:00:00Z",
        "user_id": "ada",
    },
    "nameless": {"start_at": "2026-01-01T00:00:00Z", "end_at": "2999-01-01T00:00:00Z", "user_id": "ada"},
    "reason": {"reason": "a spec may not pretend to be its own refusal"},
}


# CEL rules fail for values of another type, even with ratcheting: the API server accepts no write to such an
# object.
UNWRITABLE = {"numbers": {"resource_name": 7, "start_at": 8, "end_at": [], "user_id": {}}}


@pytest.mark.dedicated
@pytest.mark.timeout(180)
async def test_invalid_objects_from_before_the_schema_affect_no_other(
    devcluster: Playground, tenant: Tenant, operator: Operator
) -> None:
    """It is not run beside the tests of the schema, because it takes the schema away for a moment."""
    store_against_the_rules(devcluster, tenant.namespace, "Booking", GARBAGE | UNWRITABLE)
    store_against_the_rules(devcluster, tenant.namespace, "Resource", {"broken": {"tag": "", "type": "gce"}})
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: is_ready(tenant, "booking", "bk", "True", "Running"))
        for name in GARBAGE:
            await until(partial(is_invalid, tenant, name))
            assert is_ready(tenant, "booking", name, "False", "InvalidSpec")
        await until(lambda: tenant.condition("resource", "broken", "Valid") == ("False", "InvalidSpec"))
        messages = {
            condition["message"]
            for condition in tenant.status("booking", "soon")["conditions"]
            if condition["type"] == "Valid"
        }
        assert any("spec.start_at: 'soon' is not an RFC 3339 date" in message for message in messages)
        await until(lambda: "InvalidSpec" in tenant.events("Booking", "soon"))
        await until(lambda: tenant.events("Booking", "numbers") >= {"InvalidSpec", "StatusRefused"})
        # Labels of an invalid object stay writable, and a valid spec makes the booking valid.
        tenant.kubectl("label", "booking", "soon", "seen=true")
        tenant.booking("soon", soon(-60), soon(600))
        await until(lambda: is_ready(tenant, "booking", "soon", "True", "Running"))
