"""The decisions of the baseline are those of a typical polling operator."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench.poller import booked, change

NINE = datetime(2026, 1, 1, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)


def booking(resource: str, start_at: str, end_at: str) -> dict[str, Any]:
    return {"spec": {"resource_name": resource, "start_at": start_at, "end_at": end_at}}


def test_booked_resources() -> None:
    bookings = [
        booking("now", "2026-01-01T10:00:00+01:00", "2026-01-01T11:00:00+01:00"),
        booking("next", "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"),
    ]
    assert booked(bookings, NINE) == {"now"}
    assert booked(bookings, TEN) == {"next"}


@pytest.mark.parametrize(("wanted", "verb", "ids"), [(True, "start", ["i-1"]), (False, "stop", ["i-2"])])
def test_instances_in_the_wrong_state_are_changed(wanted: bool, verb: str, ids: list[str]) -> None:
    states = {"i-1": "stopped", "i-2": "running", "i-3": "pending", "i-4": "stopping"}
    assert change(states, wanted=wanted) == (verb, ids)
