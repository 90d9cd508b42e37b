"""The back-off table: failures, and the time until the next attempt."""

from datetime import timedelta

import pytest

from booking_operator.cloud.batching import backoff
from booking_operator.cloud.batching.backoff import BackoffTable, instance_backoff
from booking_operator.cloud.driver import Action, CloudError, FailureKind
from booking_operator.engine.workqueue import Backoff
from tests.support.virtual import EPOCH, after

ERROR = CloudError("Reason", "because", kind=FailureKind.REFUSED)
PAUSE = Backoff(initial=timedelta(seconds=10), maximum=timedelta(seconds=60))


def test_an_entry_is_active_during_its_back_off_and_remembered_after_it() -> None:
    held = BackoffTable()
    failure = held.record_failure("i-1", ERROR, PAUSE, EPOCH, sent_at=EPOCH)
    assert failure.retry_at == after(10)
    assert held.active_failure("i-1", after(9.9)) is failure
    assert held.active_failure("i-1", after(10)) is None
    assert held.active_failure("i-2", EPOCH) is None
    assert held.failed_before("i-1")
    held.record_success(["i-1"])
    assert not held.failed_before("i-1")


def test_the_back_off_grows_up_to_its_maximum() -> None:
    held, now, pauses = BackoffTable(), EPOCH, []
    for _ in range(5):
        until = held.record_failure("i-1", ERROR, PAUSE, now, sent_at=now).retry_at
        assert until is not None
        pauses.append((until - now).total_seconds())
        now = until
    assert pauses == [10, 20, 40, 60, 60]


def test_failures_of_calls_in_flight_together_count_once() -> None:
    held = BackoffTable()
    first = held.record_failure("account", ERROR, PAUSE, after(2), sent_at=EPOCH)
    assert held.record_failure("account", ERROR, PAUSE, after(3), sent_at=after(1)) is first
    later = held.record_failure("account", ERROR, PAUSE, after(13), sent_at=after(12))
    assert later.retry_at == after(13 + 20)
    set_back = held.record_failure("account", ERROR, PAUSE, after(-90), sent_at=after(-91))
    assert set_back.retry_at == after(-90 + 40)


@pytest.mark.parametrize("later", [7200, -7200])
def test_old_and_future_entries_are_forgotten(later: float) -> None:
    held = BackoffTable()
    held.record_failure("old", ERROR, PAUSE, EPOCH, sent_at=EPOCH)
    held.record_failure("new", ERROR, PAUSE, after(later), sent_at=after(later))
    assert not held.failed_before("old")
    assert held.record_failure(
        "old", ERROR, PAUSE, after(later + 61), sent_at=after(later + 61)
    ).retry_at == after(later + 71)


@pytest.mark.parametrize(
    ("reason", "fault", "pause"),
    [
        ("InvalidInstanceIDNotFound", FailureKind.REFUSED, backoff.UNKNOWN_INSTANCE),
        ("IncorrectInstanceState", FailureKind.REFUSED, backoff.WRONG_STATE),
        ("InvalidDBInstanceState", FailureKind.REFUSED, backoff.WRONG_STATE),
        ("OperationNotPermitted", FailureKind.REFUSED, backoff.NEEDS_CHANGE),
        ("UnsupportedOperation", FailureKind.REFUSED, backoff.NEEDS_CHANGE),
        ("IncorrectSpotRequestState", FailureKind.REFUSED, backoff.SPOT),
        ("InvalidDBClusterStateFault", FailureKind.REFUSED, backoff.WRONG_STATE),
        ("InsufficientInstanceCapacity", FailureKind.CAPACITY, backoff.CAPACITY),
        ("UnauthorizedOperation", FailureKind.DENIED, backoff.DENIED),
    ],
)
def test_each_class_of_failure_has_its_back_off(reason: str, fault: FailureKind, pause: Backoff) -> None:
    assert instance_backoff(CloudError(reason, "", kind=fault), Action.STOP) is pause


def test_a_start_in_the_wrong_state_is_tried_again_sooner_than_a_stop() -> None:
    error = CloudError("InvalidDBInstanceState", "", kind=FailureKind.REFUSED)
    assert instance_backoff(error, Action.START) is backoff.WRONG_STATE_FOR_START
    assert backoff.WRONG_STATE_FOR_START.maximum < backoff.WRONG_STATE.maximum
