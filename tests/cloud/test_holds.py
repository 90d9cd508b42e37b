"""What was refused, and for how long it is not asked for."""

from datetime import datetime, timedelta

import pytest

from booking_operator.cloud.batching import backoff
from booking_operator.cloud.batching.backoff import Holds, pause_of
from booking_operator.cloud.driver import CloudError, Fault
from booking_operator.engine.workqueue import Backoff
from tests.support.virtual import EPOCH

ERROR = CloudError("Reason", "because", fault=Fault.REFUSED)
PAUSE = Backoff(first=timedelta(seconds=10), longest=timedelta(seconds=60))


def after(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def test_it_is_barred_until_its_pause_is_over_and_suspect_after_that() -> None:
    held = Holds()
    told = held.bar("i-1", ERROR, PAUSE, EPOCH)
    assert told.retry_at == after(10)
    assert held.barred("i-1", after(9.9)) is told
    assert held.barred("i-1", after(10)) is None
    assert held.barred("i-2", EPOCH) is None
    assert held.suspect("i-1")
    held.lift(["i-1"])
    assert not held.suspect("i-1")


def test_the_pause_grows_each_time_up_to_its_bound() -> None:
    held, now, pauses = Holds(), EPOCH, []
    for _ in range(5):
        until = held.bar("i-1", ERROR, PAUSE, now).retry_at
        assert until is not None
        pauses.append((until - now).total_seconds())
        now = until
    assert pauses == [10, 20, 40, 60, 60]


@pytest.mark.parametrize("later", [7200, -7200])
def test_what_is_long_over_or_from_before_a_clock_was_set_back_is_forgotten(later: float) -> None:
    held = Holds()
    held.bar("old", ERROR, PAUSE, EPOCH)
    held.bar("new", ERROR, PAUSE, after(later))
    assert not held.suspect("old")
    assert held.bar("old", ERROR, PAUSE, after(later + 61)).retry_at == after(later + 71)


@pytest.mark.parametrize(
    ("reason", "fault", "pause"),
    [
        ("InvalidInstanceIDNotFound", Fault.REFUSED, backoff.GONE),
        ("IncorrectInstanceState", Fault.REFUSED, backoff.STATE),
        ("InvalidDBInstanceState", Fault.REFUSED, backoff.STATE),
        ("OperationNotPermitted", Fault.REFUSED, backoff.BARRED),
        ("UnsupportedOperation", Fault.REFUSED, backoff.BARRED),
        ("IncorrectSpotRequestState", Fault.REFUSED, backoff.SPOT),
        ("IncorrectSpotInstanceRequestState", Fault.REFUSED, backoff.SPOT),
        ("InsufficientInstanceCapacity", Fault.CAPACITY, backoff.CAPACITY),
        ("UnauthorizedOperation", Fault.DENIED, backoff.DENIED),
    ],
)
def test_each_class_has_its_pause(reason: str, fault: Fault, pause: Backoff) -> None:
    assert pause_of(CloudError(reason, "", fault=fault)) is pause
