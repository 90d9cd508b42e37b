"""Booking rules of Resources, by kubectl: exclusive use, limits, and a suspension that ends by itself."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from booking_operator.domain.acceptance import ACCEPT_AHEAD
from tests.e2e.conftest import Operator, Tenant, at, soon, until

RUNNING, STOPPED = ["running", "running"], ["stopped", "stopped"]
DAY = timedelta(days=1)


def phases(tenant: Tenant) -> dict[str, str]:
    """The column STATUS of `kubectl get bookings`, by name."""
    rows = [line.split() for line in tenant.kubectl("get", "bookings", "--no-headers").splitlines()]
    return {row[0]: " ".join(row[3:]) for row in rows}


def second(seconds: float) -> datetime:
    return soon(seconds).replace(microsecond=0)


@pytest.mark.slow
async def test_a_conflict_waits_and_follows_without_a_stop(tenant: Tenant, operator: Operator) -> None:
    start = soon(-60)
    async with operator():
        tenant.resource(sharing="Exclusive")
        tenant.booking("first", start, soon(3600))
        await until(lambda: tenant.condition("booking", "first", "Ready") == ("True", "Running"))
        end = second(15) + ACCEPT_AHEAD
        tenant.booking("first", start, end)
        tenant.booking("second", soon(-30), end + DAY, user="grace")
        await until(lambda: phases(tenant) == {"first": "IN PROGRESS", "second": "CONFLICT"})
        found = tenant.get("booking", "second")["status"]["conditions"]
        message = next(item["message"] for item in found if item["type"] == "Accepted")
        assert message.startswith("ada has res from ")
        assert "(first); the next free slot of 24h" in message
        assert tenant.condition("booking", "second", "Accepted") == ("False", "Conflict")
        await until(lambda: "Conflict" in tenant.events("Booking", "second"))
        await until(lambda: tenant.condition("booking", "second", "HoldsLock") == ("True", "Holder"))
        await until(lambda: phases(tenant) == {"first": "FINISHED", "second": "IN PROGRESS"})
        await until(lambda: tenant.status("resource", "res")["locked_by"] == "grace")
        assert tenant.states() == RUNNING
        assert "Stopped" not in tenant.events("Resource", "res")


async def test_an_accepted_booking_outlives_the_operator(tenant: Tenant, operator: Operator) -> None:
    """The booking that was accepted keeps its time, also against one that was created earlier."""
    async with operator():
        tenant.resource(sharing="Exclusive")
        tenant.booking("early", soon(3000), soon(4000))
        await until(lambda: phases(tenant) == {"early": "SCHEDULED"})
        tenant.booking("late", soon(1000), soon(2000))
        await until(lambda: phases(tenant)["late"] == "SCHEDULED")
    tenant.booking("early", soon(1200), soon(1800))
    async with operator():
        await until(lambda: phases(tenant)["early"] == "CONFLICT")
        assert phases(tenant)["late"] == "SCHEDULED"
        await asyncio.to_thread(
            tenant.kubectl, "wait", "--for=condition=Accepted", "--timeout=10s", "booking/late"
        )
        tenant.kubectl("delete", "booking", "late")
        await until(lambda: phases(tenant) == {"early": "SCHEDULED"})


async def test_an_extension_that_is_too_long_stops_nothing(tenant: Tenant, operator: Operator) -> None:
    start, end = second(-60), second(600)
    async with operator():
        tenant.resource(max_duration="15m", max_ahead="1h")
        tenant.booking("bk", start, end)
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        tenant.booking("bk", start, start + DAY)
        await until(lambda: tenant.condition("booking", "bk", "Valid") == ("False", "TooLong"))
        await at(soon(1.5))
        assert tenant.states() == RUNNING
        assert tenant.condition("booking", "bk", "Ready") == ("True", "Running")
        tenant.booking("ahead", soon(7200), soon(7300))
        await until(lambda: tenant.condition("booking", "ahead", "Valid") == ("False", "TooFarAhead"))
        tenant.booking("long", soon(0), soon(3600))
        await until(lambda: tenant.condition("booking", "long", "Stalled") == ("True", "TooLong"))


async def test_a_resource_that_becomes_exclusive_keeps_one_booking(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource()
        tenant.booking("first", soon(-60), soon(600))
        await until(lambda: tenant.states() == RUNNING)
        tenant.booking("second", soon(-60), soon(600))
        await until(lambda: phases(tenant) == {"first": "IN PROGRESS", "second": "IN PROGRESS"})
        tenant.resource(sharing="Exclusive")
        await until(lambda: sorted(phases(tenant).values()) == ["CONFLICT", "IN PROGRESS"])
        assert tenant.states() == RUNNING
        tenant.resource(sharing="Shared")
        await until(lambda: phases(tenant) == {"first": "IN PROGRESS", "second": "IN PROGRESS"})


@pytest.mark.slow
async def test_a_suspension_ends_by_itself(tenant: Tenant, operator: Operator) -> None:
    until_ = second(40)
    async with operator():
        tenant.resource(suspend_until=until_.isoformat())
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("False", "Suspended"))
        assert tenant.states() == STOPPED
        shown = tenant.status("resource", "res")["next_change_at"]
        assert datetime.fromisoformat(shown) == until_
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        assert datetime.now(UTC) >= until_


@pytest.mark.slow
async def test_what_a_user_has_started_is_stopped_at_an_off_time(tenant: Tenant, operator: Operator) -> None:
    ids = tenant.devcluster.instances.start(tenant.tag)
    async with operator():
        off = soon(75).replace(second=0, microsecond=0)  # 15 to 75 seconds from now
        tenant.resource(unbooked="Leave", unbooked_for="2m", stop_at=[f"{off.minute} {off.hour} * * *"])
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("True", "Left"))
        await until(lambda: tenant.status("resource", "res").get("unbooked"))
        found = tenant.status("resource", "res")
        assert [item["id"] for item in found["unbooked"]] == sorted(ids)
        assert datetime.fromisoformat(found["next_change_at"]) == off
        await until(lambda: tenant.states() == STOPPED, 90)
        assert datetime.now(UTC) >= off
        await until(lambda: "Stopped" in tenant.events("Resource", "res"))


async def test_a_booking_that_is_not_accepted_starts_nothing(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource(max_duration="1m")
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("False", "TooLong"))
        assert tenant.states() == STOPPED
        tenant.resource(max_duration="1h")
        await until(lambda: tenant.states() == RUNNING)


async def test_with_status_checks_an_instance_is_ready_when_they_pass(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource(ready_when="StatusChecks")
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        assert tenant.status("resource", "res")["status"] == "RUNNING"
        assert "StatusChecks" in tenant.kubectl("explain", "resource.spec.ready_when")
