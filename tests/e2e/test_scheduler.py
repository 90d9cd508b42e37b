"""Schedulers on a real API server: their bookings are created and deleted, and start machines."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from tests.e2e.conftest import IN_HALF_A_DAY, Operator, Tenant, limit_bookings, until

HOUR = IN_HALF_A_DAY.hour
DAILY = f"0 {HOUR} * * *"


def scheduler(tenant: Tenant, name: str = "night", **spec: Any) -> None:
    template = {"resource_name": "res", "user_id": "ada"}
    whole = {"schedule": DAILY, "duration": 20, "bookingTemplate": template, **spec}
    tenant.apply("BookingScheduler", name, **whole)


def bookings(tenant: Tenant) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(tenant.kubectl("get", "bookings", "-o", "json"))["items"]
    return sorted(found, key=lambda booking: str(booking["metadata"]["name"]))


def _start(booking: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(booking["spec"]["start_at"])


def _end(booking: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(booking["spec"]["end_at"])


def is_invalid(tenant: Tenant, name: str) -> bool:
    return tenant.condition("bookingscheduler", name, "Valid") == ("False", "InvalidSpec")


def is_ready(tenant: Tenant, generation: int = 1) -> bool:
    status = tenant.status("bookingscheduler", "night")
    ready = tenant.condition("bookingscheduler", "night", "Ready") == ("True", "Synced")
    return ready and status.get("observedGeneration") == generation


async def test_bookings_are_created_ahead_with_an_owner_reference(tenant: Tenant, operator: Operator) -> None:
    notifications = [{"type": "email", "recipient": "ada@example.com"}]
    template = {"resource_name": "res", "user_id": "ada", "notifications": notifications}
    async with operator():
        hour = IN_HALF_A_DAY.astimezone(ZoneInfo("Europe/Berlin")).hour
        zoned = {"schedule": f"0 {hour} * * *", "time_zone": "Europe/Berlin"}
        scheduler(tenant, **zoned, horizon="72h", bookingTemplate=template)
        await until(lambda: is_ready(tenant) and len(bookings(tenant)) == 3)
        first = bookings(tenant)[0]
        owner = tenant.get("bookingscheduler", "night")["metadata"]["uid"]
        (reference,) = first["metadata"]["ownerReferences"]
        assert (reference["kind"], reference["uid"], reference["controller"]) == (
            "BookingScheduler",
            owner,
            True,
        )
        start = _start(first)
        assert first["spec"]["start_at"].endswith(("+01:00", "+02:00"))
        assert (start.hour, start.minute) == (hour, 0)
        assert _end(first) - start == timedelta(minutes=20)
        assert first["spec"]["notifications"] == [item | {"when": ["Ending"]} for item in notifications]
        assert first["metadata"]["name"] == f"night-{start.astimezone(UTC):%Y%m%d%H%M}"
        shown = tenant.status("bookingscheduler", "night")["next"]
        assert datetime.fromisoformat(shown) == start
        table = tenant.kubectl("get", "bs")
        assert table.split("\n")[0].split() == ["NAME", "SCHEDULE", "DURATION", "NEXT"]


async def test_an_edit_changes_bookings_and_suspend_deletes_them(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        scheduler(tenant, horizon="48h")
        await until(lambda: len(bookings(tenant)) == 2)
        before = {booking["metadata"]["uid"] for booking in bookings(tenant)}
        scheduler(tenant, horizon="48h", duration=40)
        await until(lambda: is_ready(tenant, 2))
        spans = {_end(booking) - _start(booking) for booking in bookings(tenant)}
        assert spans == {timedelta(minutes=40)}
        assert {booking["metadata"]["uid"] for booking in bookings(tenant)} == before
        later = (HOUR + 1) % 24
        scheduler(tenant, horizon="48h", schedule=f"30 {later} * * *")
        await until(lambda: {_start(booking).hour for booking in bookings(tenant)} == {later})
        scheduler(tenant, suspend=True)
        await until(lambda: not bookings(tenant))
        await until(lambda: tenant.status("bookingscheduler", "night")["next"] == "")


async def test_a_booking_that_a_user_extended_stays_extended(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        scheduler(tenant)
        await until(lambda: is_ready(tenant) and bookings(tenant))
        (booking,) = bookings(tenant)
        end = (datetime.fromisoformat(booking["spec"]["end_at"]) + timedelta(hours=1)).isoformat()
        name = booking["metadata"]["name"]
        tenant.kubectl("patch", "booking", name, "--type=merge", "-p", json.dumps({"spec": {"end_at": end}}))
        scheduler(tenant, keep_finished=1)
        await until(lambda: is_ready(tenant, 2))
        assert tenant.get("booking", name)["spec"]["end_at"] == end


async def test_a_booking_of_another_owner_with_the_name_is_reported_and_kept(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        scheduler(tenant)
        await until(lambda: is_ready(tenant) and bookings(tenant))
        (booking,) = bookings(tenant)
        tenant.kubectl("delete", "bookingscheduler", "night")
        scheduler(
            tenant
        )  # the new scheduler has another uid, and without a garbage collector the booking still exists
        await until(lambda: tenant.condition("bookingscheduler", "night", "Synced") == ("False", "NameTaken"))
        assert [item["metadata"]["uid"] for item in bookings(tenant)] == [booking["metadata"]["uid"]]


async def test_an_exhausted_quota_is_reported_and_a_larger_one_fixes_it(
    tenant: Tenant, operator: Operator
) -> None:
    limit_bookings(tenant.devcluster, tenant.namespace, hard=1, used=0)
    async with operator():
        scheduler(tenant, horizon="72h")
        await until(
            lambda: tenant.condition("bookingscheduler", "night", "Synced") == ("False", "QuotaExceeded")
        )
        assert len(bookings(tenant)) == 1
        limit_bookings(tenant.devcluster, tenant.namespace, hard=9, used=1)
        await until(lambda: is_ready(tenant) and len(bookings(tenant)) == 3)


async def test_unknown_zones_and_schedules_without_times_are_reported(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        for name, change, words in (
            ("zone", {"time_zone": "Europe/Atlantis"}, "is not an IANA time zone"),
            ("never", {"schedule": "0 0 31 2 *"}, "is not a valid cron expression"),
        ):
            scheduler(tenant, name, **change)
            await until(partial(is_invalid, tenant, name))
            conditions = tenant.status("bookingscheduler", name)["conditions"]
            assert words in conditions[0]["message"]
        assert not bookings(tenant)


async def test_every_minute_starts_machines(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource()
        scheduler(tenant, schedule="* * * * *", duration=1, horizon="0s")
        await until(lambda: len(bookings(tenant)) >= 1)
        await until(lambda: tenant.states() == ["running", "running"], 90)
        # The next booking exists while the current one is in progress, so that instances keep running.
        await until(lambda: len(bookings(tenant)) >= 2)
        tenant.kubectl("patch", "bs", "night", "--type=merge", "-p", '{"spec": {"suspend": true}}')
        # A minute may begin during the test, so one booking or more have started.
        await until(lambda: all(_start(booking) <= datetime.now(UTC) for booking in bookings(tenant)))
        assert bookings(tenant)
        tenant.kubectl("delete", "bookings", "--all")
        await until(lambda: tenant.states() == ["stopped", "stopped"])


async def test_a_manifest_that_the_crd_of_the_go_operator_accepts(tenant: Tenant, operator: Operator) -> None:
    template = {"resource_name": "res", "user_id": "ada", "start_at": "2023-01-01T00:00:00Z", "end_at": ""}
    async with operator():
        tenant.resource()
        tenant.apply("BookingScheduler", "go", schedule="0 * * * *", duration=20, bookingTemplate=template)
        await until(lambda: tenant.condition("bookingscheduler", "go", "Ready") == ("True", "Synced"))
    (booking, *_) = json.loads(tenant.kubectl("get", "bookings", "-o", "json"))["items"]
    assert booking["spec"]["start_at"] > "2026"
    explained = tenant.kubectl("explain", "bookingscheduler.spec.bookingTemplate.start_at")
    assert "Ignored: schedule says when bookings start." in " ".join(explained.split())
