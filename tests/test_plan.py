"""Which Resources and bookings the forecast of `booking-operator plan` counts."""

import json
from datetime import timedelta
from typing import Any

import pytest

from booking_operator.cli.plan import as_json, as_text, forecast_of
from booking_operator.cloud.batching.token_bucket import published_limits
from tests.support.people import NOW, at, booking_body, resource_body, view_of


def calls(**spec: Any) -> list[tuple[str, int]]:
    """The calls of a day for a booking from 15:00 to 17:00, and when the most instances are due."""
    resource = resource_body("web", "STOPPED", 0, 2, spec=spec)
    informers = view_of(resource, booking_body("b", "web", "ada", "15:00", "17:00")).informers
    found = forecast_of(informers, NOW, NOW + timedelta(days=1), published_limits)
    return [(item.call, round((item.peak_at - at("00:00")).total_seconds() / 3600)) for item in found.calls]


def test_the_off_times_of_what_runs_unbooked_count() -> None:
    spec = {
        "unbooked": "Leave",
        "stop_at": ["0 20 * * *"],
        "time_zone": "Europe/Berlin",
        "unbooked_for": "8h",
    }
    since = [{"id": "i-1", "since": "2026-11-24T10:00:00Z"}, {"id": "i-2", "since": "2026-11-24T12:00:00Z"}]
    resource = resource_body("web", "RUNNING", 2, 2, spec=spec, unbooked=since)
    found = forecast_of(view_of(resource).informers, NOW, NOW + timedelta(days=1), published_limits)
    [call] = found.calls
    assert (call.call, call.instances, call.peak_at) == ("StopInstances", 2, at("19:00"))
    assert (call.peak, call.calls) == (1, 2)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("StartInstances", 15), ("StopInstances", 17)]),
        ({"suspend": True}, []),
        ({"suspend_until": "2026-11-24T16:00:00+01:00"}, [("StartInstances", 16), ("StopInstances", 17)]),
        ({"suspend_until": "2026-11-24T18:00:00+01:00"}, []),
        ({"suspend_until": "2026-11-24T12:00:00+01:00"}, [("StartInstances", 15), ("StopInstances", 17)]),
        ({"sharing": "Exclusive"}, []),  # nothing is accepted
        ({"max_duration": "1h"}, []),
    ],
)
def test_suspensions_and_rules_count(spec: dict[str, Any], expected: list[tuple[str, int]]) -> None:
    assert calls(**spec) == expected


def test_a_booking_counts_for_required_resources_and_waits_for_their_late_start() -> None:
    db = resource_body("db", "STOPPED", 0, 1200)
    web = resource_body("web", "STOPPED", 0, 2, spec={"requires": ["db"], "region": "us-east-1"})
    informers = view_of(db, web, booking_body("b", "web", "ada", "15:00", "17:00")).informers
    found = forecast_of(informers, NOW, NOW + timedelta(days=1), published_limits)
    late = {item.resource.name: item for item in found.late}
    assert set(late) == {"db", "web"}
    assert late["db"].late_by > timedelta(seconds=90)
    assert late["web"].late_by == late["db"].late_by
    assert late["web"].required == late["db"].resource
    assert (late["web"].remedy, late["db"].required) == (None, None)
    assert late["db"].remedy is not None
    text = as_text(found, NOW, NOW + timedelta(days=1))
    assert "waits for db" in text
    data = json.loads(as_json(found, NOW, NOW + timedelta(days=1)))
    assert {item["required"] for item in data["late"]} == {None, str(late["db"].resource)}
