"""Clock skew according to Date headers."""

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from booking_operator.engine.clock_skew import ClockSkewMonitor, clock_skew

DATE = datetime(2026, 1, 1, 9, tzinfo=UTC)
HEADER = "Thu, 01 Jan 2026 09:00:00 GMT"


def after(seconds: float) -> datetime:
    return DATE + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("sent", "received", "expected"),
    [(0, 0.1, 0), (0.9, 1.5, 0), (-5, 0, 0), (-20, 30, 0), (4, 4.1, 3), (-5, -4, -4)],
)
def test_only_certain_skew_counts(sent: float, received: float, expected: float) -> None:
    assert clock_skew(DATE, after(sent), after(received)) == timedelta(seconds=expected)


def test_skew_is_logged_when_it_begins_and_when_it_ends() -> None:
    monitor = ClockSkewMonitor("the API server")
    with capture_logs() as logs:
        for seconds in (0.5, 1.9, 7, 8, 0.5):
            monitor.record(HEADER, after(seconds), after(seconds))
    assert [entry["event"] for entry in logs] == ["clock_skew_detected", "clock_skew_resolved"]
    assert logs[0]["ahead_s"] == 6.0


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "yesterday",
        "Thu, 01 Jan 2026 09:00:00",
        "Thu, 01 Jan 2026 09:00:00 -0000",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ],
)
def test_an_invalid_date_header_is_ignored(header: str | None) -> None:
    monitor = ClockSkewMonitor("the API server")
    monitor.record(header, after(99), after(99))
    assert monitor.current == timedelta(0)
