"""Resources and Bookings as a person sees them, with the conditions that the operator would write."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, RESOURCE, USAGE
from booking_operator.api.resource import Resource
from booking_operator.api.usage import MONTH_LABEL, to_status, usage_name
from booking_operator.client.view import View, Viewer
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.usage import UsageAmounts, UsageSums, to_second

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 13, 3, tzinfo=UTC)
"""Tuesday, 14:03 in Berlin."""
NAMESPACE = "team-a"


def at(text: str) -> datetime:
    """Return a time of day, or a date and a time, of November 2026 in Berlin: `13:00`, `25 09:00`."""
    day, _, time = text.rpartition(" ")
    local = datetime.fromisoformat(f"2026-11-{int(day or 24):02}T{time}")
    return local.replace(tzinfo=BERLIN).astimezone(UTC)


def viewer(user: str = "ada", now: datetime = NOW) -> Viewer:
    return Viewer(user, now, BERLIN, NAMESPACE)


def condition(type_: str, status: str, reason: str, message: str, since: str = "13:00") -> dict[str, Any]:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": format_utc(at(since)),
    }


def resource_body(
    name: str,
    status: str = "",
    running: int = 0,
    instances: int = 0,
    conditions: Sequence[dict[str, Any]] = (),
    *,
    spec: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a Resource, with Ready=True unless `conditions` has Ready."""
    if not any(item["type"] == "Ready" for item in conditions):
        reason = "Running" if status == "RUNNING" else "Stopped"
        conditions = [*conditions, condition("Ready", "True", reason, f"{running} run.")]
    reported = {"status": status, "running": running, "instances": instances, "conditions": list(conditions)}
    return {
        "apiVersion": RESOURCE.api_version,
        "kind": "Resource",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": name,
            "creationTimestamp": "2026-11-01T00:00:00Z",
        },
        "spec": {"tag": name} | (spec or {}),
        "status": reported | {"observedGeneration": 1} | more,
    }


def booking_body(
    name: str,
    resource: str,
    user: str,
    start: str,
    end: str,
    conditions: Sequence[dict[str, Any]] = (),
    *,
    observed: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """Return a Booking between two times, as for `at`, with its phase at `NOW`, and `more` in its status."""
    begin, finish = at(start), at(end)
    phase = "SCHEDULED" if begin > NOW else "IN PROGRESS" if finish > NOW else "FINISHED"
    reported = {"status": phase, "conditions": list(conditions), "observedGeneration": 1} if observed else {}
    return {
        "apiVersion": BOOKING.api_version,
        "kind": "Booking",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": name,
            "creationTimestamp": "2026-11-01T00:00:00Z",
        },
        "spec": {
            "resource_name": resource,
            "user_id": user,
            "start_at": begin.astimezone(BERLIN).isoformat(),
            "end_at": finish.astimezone(BERLIN).isoformat(),
        },
        "status": reported | more,
    }


def accepted(resource: str, start: str, end: str) -> dict[str, Any]:
    """Return the status fields of a booking that an exclusive Resource has accepted."""
    return {
        "accepted_resource": resource,
        "accepted_from": format_utc(at(start)),
        "accepted_until": format_utc(at(end)),
        "accepted_exclusive": [resource],
    }


def usage_body(
    resource: str, sizes: Mapping[str, Sequence[float]], charged: Mapping[tuple[str, str], float]
) -> dict[str, Any]:
    """Return the Usage of a Resource in November 2026, until `NOW`.

    Args:
        resource: the name of the Resource.
        sizes: by size the hours of capacity, running, booked, unbooked, missing and unobserved.
        charged: the hours by user and size.
    """
    sums = UsageSums(
        to_second(NOW),
        {size: UsageAmounts(*(round(3600 * each) for each in hours)) for size, hours in sizes.items()},
        Counter({key: round(3600 * hours) for key, hours in charged.items()}),
    )
    return {
        "apiVersion": USAGE.api_version,
        "kind": "Usage",
        "metadata": {
            "name": usage_name(resource, "2026-11"),
            "namespace": NAMESPACE,
            "labels": {MONTH_LABEL: "2026-11"},
        },
        "spec": {"resource_name": resource, "month": "2026-11"},
        "status": USAGE.status_adapter.dump_python(to_status(sums), mode="json", by_alias=True),
    }


def view_of(*bodies: dict[str, Any], now: datetime = NOW) -> View:
    """Return a view of some Resources and Bookings."""
    resources: list[Resource] = [
        RESOURCE.adapter.validate_python(body) for body in bodies if body["kind"] == "Resource"
    ]
    bookings: list[Booking] = [
        BOOKING.adapter.validate_python(body) for body in bodies if body["kind"] == "Booking"
    ]
    return View.of(resources, bookings, now)


def later(**span: float) -> datetime:
    return NOW + timedelta(**span)
