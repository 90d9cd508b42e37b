"""The conditions of a booking, including those about its Resource."""

from datetime import UTC, datetime, timedelta

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.conditions import BookedResource, ConditionUpdate, Failure, booking_conditions

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)
CLAIM = BookingInterval("b", "ada", NOW, NOW + timedelta(hours=1), NOW)
NONE = timedelta(0)


def booked(
    holder: BookingInterval | None, running: int = 2, failure: Failure | None = None, invalid: str = ""
) -> BookedResource:
    return BookedResource(holder, 2, running, failure, warm_up=NONE, invalid_reason=invalid)


def of(conditions: tuple[ConditionUpdate, ...]) -> dict[str, tuple[bool | None, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in conditions}


def test_a_booking_in_progress_is_ready_when_all_instances_run() -> None:
    assert of(booking_conditions(CLAIM, "r", booked(CLAIM), NOW))["Ready"] == (True, "Running")
    assert of(booking_conditions(CLAIM, "r", booked(CLAIM, 1), NOW))["Ready"] == (False, "Starting")


def test_there_is_no_ready_condition_before_and_after_a_booking() -> None:
    for now in (NOW - timedelta(hours=1), CLAIM.end_at):
        assert "Ready" not in of(booking_conditions(CLAIM, "r", booked(None), now))


def test_a_failure_of_the_resource_is_reported_on_the_booking() -> None:
    failure = Failure("UnauthorizedOperation", "no")
    conditions = of(booking_conditions(CLAIM, "r", booked(CLAIM, 0, failure), NOW))
    assert conditions["Ready"] == (False, "UnauthorizedOperation")


def test_a_missing_resource_is_reported_with_its_name() -> None:
    conditions = booking_conditions(CLAIM, "lost", None, NOW)
    assert of(conditions)["ResourceFound"] == (False, "ResourceNotFound")
    assert of(conditions)["Ready"] == (False, "ResourceNotFound")
    assert "'lost'" in conditions[1].message


def test_the_lock_of_another_is_reported() -> None:
    other = BookingInterval("o", "grace", NOW - timedelta(hours=1), CLAIM.end_at, NOW)
    conditions = booking_conditions(CLAIM, "r", booked(other), NOW)
    assert of(conditions)["HoldsLock"] == (False, "HeldByOther")
    assert "grace holds the Resource until 2026-01-01T10:00:00Z" in conditions[2].message


def test_an_invalid_resource_gives_no_lock_and_no_counts() -> None:
    conditions = booking_conditions(CLAIM, "r", booked(CLAIM, invalid="The Resource is not valid."), NOW)
    for type_ in ("HoldsLock", "Ready"):
        assert of(conditions)[type_] == (False, "ResourceInvalid")
    assert "2 of 2" not in conditions[-1].message
