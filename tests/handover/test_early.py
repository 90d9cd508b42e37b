"""The calls that the handover test counts as starts outside a booking, and as stops inside one."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.handover.test_handover import Boundary, early
from tests.support.aws import Call

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("action", "seconds", "found"),
    [
        ("StartInstances", 9.99, True),
        ("StartInstances", 10, False),
        ("StartInstances", 20.4, False),  # it may have been sent before the end
        ("StartInstances", 20.6, True),
        ("StopInstances", 9.9, False),
        ("StopInstances", 10.4, False),
        ("StopInstances", 10.6, True),
        ("StopInstances", 19.99, True),
        ("StopInstances", 20, False),
    ],
)
def test_a_call_is_early_unless_it_was_in_flight_at_the_boundary(
    action: str, seconds: float, found: bool
) -> None:
    due = {"g": [Boundary(at(10), "g", "StartInstances"), Boundary(at(20), "g", "StopInstances")]}
    params = {"InstanceId.1": "i-1"}
    call = Call(action, "ec2", "eu-west-1", "A", "1", params, {}, at(seconds), 0)
    assert bool(early([call], due, {"g": ["i-1"]})) is found
