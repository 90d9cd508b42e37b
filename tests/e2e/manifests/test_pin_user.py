"""With the component pin-user, users can book only in their own name."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import Operator, Tenant, manifest, soon, until
from tests.e2e.manifests.conftest import Overlay, in_force, token_kubeconfig

ADA = ("--as=ada", "--as-group=system:authenticated")
BOT = ("--as=bot", "--as-group=system:authenticated", "--as-group=booking-operator:impersonators")
TIMES = {"start_at": "2026-01-01T09:00:00Z", "end_at": "2026-01-01T10:00:00Z"}


def booking(user: str) -> dict[str, Any]:
    return manifest("Booking", "bk", {"resource_name": "res", "user_id": user, **TIMES})


def scheduler(user: str) -> dict[str, Any]:
    template = {"resource_name": "res", "user_id": user}
    return manifest(
        "BookingScheduler", "bs", {"schedule": "0 9 * * *", "duration": 5, "bookingTemplate": template}
    )


def resource(user: str) -> dict[str, Any]:
    return manifest(
        "Resource", "res", {"tag": "t", "booked_by": user, "booked_until": "2026-01-01T10:00:00Z"}
    )


def applied(tenant: Tenant, object_: dict[str, Any], *identity: str) -> "subprocess.CompletedProcess[str]":
    arguments = ("-n", tenant.namespace, "apply", "-f", "-", *identity)
    return tenant.devcluster.kubectl.attempt(*arguments, stdin=json.dumps(object_))


@pytest.fixture
async def pinned(devcluster: Playground, tenant: Tenant, overlay: Overlay) -> AsyncIterator[Tenant]:
    """A tenant in whose namespace all users may write everything, apart from the policy."""
    kinds = "bookings,bookingschedulers,resources"
    tenant.kubectl("create", "role", "writer", "--verb=get,create,update,patch", f"--resource={kinds}")
    tenant.kubectl("create", "rolebinding", "writer", "--role=writer", "--group=system:authenticated")

    def refused() -> bool:
        return "pin-user" in applied(tenant, booking("nobody"), "--dry-run=server", *ADA).stderr

    async with in_force(devcluster, "-k", str(overlay("pin-user", base=False)), refused=refused):
        yield tenant


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (booking, "spec.user_id"),
        (scheduler, "spec.bookingTemplate.user_id"),
        (resource, "spec.booked_by"),
    ],
    ids=["Booking", "BookingScheduler", "Resource"],
)
async def test_users_cannot_book_in_the_name_of_another(pinned: Tenant, made: Any, field: str) -> None:
    said = applied(pinned, made("grace"), *ADA).stderr
    assert f"{field} is 'grace', but you are 'ada'; write your own name" in said
    assert applied(pinned, made("ada"), *ADA).returncode == 0
    assert f"{field} is 'grace'" in applied(pinned, made("grace"), *ADA).stderr
    # A member of the group may write it, and other users may then edit other fields.
    assert applied(pinned, made("grace"), *BOT).returncode == 0
    changed = made("grace")
    changed["metadata"]["labels"] = {"team": "x"}
    assert applied(pinned, changed, *ADA).returncode == 0


async def test_a_resource_without_an_ad_hoc_booking_needs_no_name(pinned: Tenant) -> None:
    plain = manifest("Resource", "res", {"tag": "t"})
    assert applied(pinned, plain, *ADA).returncode == 0
    assert applied(pinned, resource("grace"), *BOT).returncode == 0
    assert applied(pinned, plain, *ADA).returncode == 0


async def test_the_operator_creates_bookings_of_schedulers_and_writes_status(
    pinned: Tenant, operator: Operator, tmp_path: Path
) -> None:
    kubeconfig = await asyncio.to_thread(token_kubeconfig, pinned.devcluster, tmp_path)
    async with operator(kubeconfig=kubeconfig):
        assert applied(pinned, scheduler("ada"), *ADA).returncode == 0
        await until(lambda: "bs-" in pinned.kubectl("get", "bookings", "-o", "name"))
        pinned.booking("mine", soon(-60), soon(600))
        await until(lambda: pinned.condition("booking", "mine", "Valid") == ("True", "Accepted"))
