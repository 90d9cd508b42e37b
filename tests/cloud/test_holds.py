"""What was refused, and for how long it is not asked for."""

from datetime import datetime, timedelta

import pytest

from booking_operator.cloud.batching import retry
from booking_operator.cloud.batching.retry import BackoffTable, instance_backoff
from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.engine.workqueue import Backoff
from tests.support.virtual import EPOCH

ERROR = CloudError("Reason", "because", kind=FailureKind.REFUSED)
PAUSE = Backoff(initial=timedelta(seconds=10), maximum=timedelta(seconds=60))


def after(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def test_it_is_barred_until_its_pause_is_over_and_suspect_after_that() -> None:
    held = BackoffTable()
    told = held.record_failure("i-1", ERROR, PAUSE, EPOCH)
    assert told.retry_at == after(10)
    assert held.active_failure("i-1", after(9.9)) is told
    assert held.active_failure("i-1", after(10)) is None
    assert held.active_failure("i-2", EPOCH) is None
    assert held.failed_before("i-1")
    held.record_success(["i-1"])
    assert not held.failed_before("i-1")


def test_the_pause_grows_each_time_up_to_its_bound() -> None:
    held, now, pauses = BackoffTable(), EPOCH, []
    for _ in range(5):
        until = held.record_failure("i-1", ERROR, PAUSE, now).retry_at
        assert until is not None
        pauses.append((until - now).total_seconds())
        now = until
    assert pauses == [10, 20, 40, 60, 60]


@pytest.mark.parametrize("later", [7200, -7200])
def test_what_is_long_over_or_from_before_a_clock_was_set_back_is_forgotten(later: float) -> None:
    held = BackoffTable()
    held.record_failure("old", ERROR, PAUSE, EPOCH)
    held.record_failure("new", ERROR, PAUSE, after(later))
    assert not held.failed_before("old")
    assert held.record_failure("old", ERROR, PAUSE, after(later + 61)).retry_at == after(later + 71)


@pytest.mark.parametrize(
    ("reason", "fault", "pause"),
    [
        ("InvalidInstanceIDNotFound", FailureKind.REFUSED, retry.UNKNOWN_INSTANCE),
        ("IncorrectInstanceState", FailureKind.REFUSED, retry.WRONG_STATE),
        ("InvalidDBInstanceState", FailureKind.REFUSED, retry.WRONG_STATE),
        ("OperationNotPermitted", FailureKind.REFUSED, retry.NEEDS_CHANGE),
        ("UnsupportedOperation", FailureKind.REFUSED, retry.NEEDS_CHANGE),
        ("IncorrectSpotRequestState", FailureKind.REFUSED, retry.SPOT),
        ("IncorrectSpotInstanceRequestState", FailureKind.REFUSED, retry.SPOT),
        ("InsufficientInstanceCapacity", FailureKind.CAPACITY, retry.CAPACITY),
        ("UnauthorizedOperation", FailureKind.DENIED, retry.DENIED),
    ],
)
def test_each_class_has_its_pause(reason: str, fault: FailureKind, pause: Backoff) -> None:
    assert instance_backoff(CloudError(reason, "", kind=fault)) is pause
