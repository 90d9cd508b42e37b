"""The conditions of a booking, including those about its Resource."""

from datetime import UTC, datetime, timedelta

from booking_operator.domain.acceptance import (
    BookingRules,
    Conflict,
    Decision,
    RequestedBooking,
)
from booking_operator.domain.booking import BookingInterval, Phase, TimeSpan
from booking_operator.domain.conditions import (
    BookedResource,
    ConditionUpdate,
    Failure,
    booking_conditions,
    condition_events,
)

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)
CLAIM = BookingInterval("b", "ada", NOW, NOW + timedelta(hours=1), NOW)
REQUEST = RequestedBooking(CLAIM, "r")
NONE = timedelta(0)
EXCLUSIVE = BookingRules(exclusive=frozenset({"r"}))


def booked(
    holder: BookingInterval | None, running: int = 2, failure: Failure | None = None, invalid: str = ""
) -> BookedResource:
    return BookedResource(
        holder, 2, running, failure, warm_up=NONE, invalid_reason=invalid, ready=running == 2
    )


def of(conditions: tuple[ConditionUpdate, ...]) -> dict[str, tuple[bool | None, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in conditions}


def test_a_booking_in_progress_is_ready_when_all_instances_run() -> None:
    assert of(booking_conditions(REQUEST, booked(CLAIM), NOW))["Ready"] == (True, "Running")
    assert of(booking_conditions(REQUEST, booked(CLAIM, 1), NOW))["Ready"] == (False, "Starting")


def test_there_is_no_ready_condition_before_and_after_a_booking() -> None:
    for now in (NOW - timedelta(hours=1), CLAIM.end_at):
        assert "Ready" not in of(booking_conditions(REQUEST, booked(None), now))


def test_a_failure_of_the_resource_is_reported_on_the_booking() -> None:
    failure = Failure("UnauthorizedOperation", "no")
    conditions = of(booking_conditions(REQUEST, booked(CLAIM, 0, failure), NOW))
    assert conditions["Ready"] == (False, "UnauthorizedOperation")


def test_a_missing_resource_is_reported_with_its_name() -> None:
    conditions = booking_conditions(RequestedBooking(CLAIM, "lost"), None, NOW)
    assert of(conditions)["ResourceFound"] == (False, "ResourceNotFound")
    assert of(conditions)["Ready"] == (False, "ResourceNotFound")
    assert "'lost'" in conditions[1].message


def test_the_lock_of_another_is_reported() -> None:
    other = BookingInterval("o", "grace", NOW - timedelta(hours=1), CLAIM.end_at, NOW)
    conditions = booking_conditions(REQUEST, booked(other), NOW)
    assert of(conditions)["HoldsLock"] == (False, "HeldByOther")
    assert "grace holds the Resource until 2026-01-01T10:00:00Z" in conditions[2].message


def test_an_invalid_resource_gives_no_lock_and_no_counts() -> None:
    conditions = booking_conditions(REQUEST, booked(CLAIM, invalid="The Resource is not valid."), NOW)
    for type_ in ("HoldsLock", "Ready"):
        assert of(conditions)[type_] == (False, "ResourceInvalid")
    assert "2 of 2" not in conditions[-1].message


class TestRules:
    """Bookings of a Resource with rules."""

    LIMITS = BookingRules(
        max_duration=timedelta(minutes=30),
        max_ahead=timedelta(hours=2),
        max_duration_of="r",
        max_ahead_of="r",
    )
    KEPT = TimeSpan(NOW, NOW + timedelta(minutes=20))
    RIVAL = Conflict("other", "grace", TimeSpan(NOW, NOW + timedelta(hours=2)), NOW + timedelta(hours=3), "r")

    def test_a_booking_that_is_too_long_is_not_valid(self) -> None:
        request = RequestedBooking(CLAIM, "r", self.LIMITS, Decision(None, too_long=True))
        conditions = booking_conditions(request, booked(None), NOW - timedelta(hours=1))
        assert of(conditions) == {
            "Valid": (False, "TooLong"),
            "ResourceFound": (True, "ResourceFound"),
            "HoldsLock": (False, "TooLong"),
            "Ready": (False, "TooLong"),
            "Stalled": (True, "TooLong"),
        }
        message = "The booking takes 1h; spec.max_duration of the Resource r is 30m."
        assert conditions[0].message == message
        assert request.phase_at(NOW) is None

    def test_an_extension_that_is_too_long_keeps_the_old_interval(self) -> None:
        request = RequestedBooking(CLAIM, "r", self.LIMITS, Decision(self.KEPT, too_long=True))
        conditions = booking_conditions(request, booked(request.counted), NOW)
        assert of(conditions)["Valid"] == (False, "TooLong")
        assert of(conditions)["Ready"] == (True, "Running")
        assert "Stalled" not in of(conditions)
        assert conditions[0].message.endswith(" The booking stays accepted until 2026-01-01T09:20:00Z.")
        assert request.phase_at(NOW) is Phase.IN_PROGRESS

    def test_a_booking_too_far_ahead_says_when_it_becomes_valid(self) -> None:
        allowed = NOW - timedelta(hours=2)
        decision = Decision(None, allowed_from=allowed, retry_at=allowed)
        request = RequestedBooking(
            CLAIM, "r", BookingRules(max_ahead=timedelta(hours=2), max_ahead_of="r"), decision
        )
        conditions = booking_conditions(request, booked(None), NOW - timedelta(hours=3))
        assert of(conditions)["Valid"] == (False, "TooFarAhead")
        assert conditions[0].message == (
            "The booking starts later than spec.max_ahead of the Resource r allows, which is 2h; it becomes "
            "valid at 2026-01-01T07:00:00Z."
        )
        assert "Stalled" not in of(conditions)
        assert request.phase_at(NOW - timedelta(hours=3)) is Phase.SCHEDULED

    def test_a_conflict_names_the_other_booking_and_the_next_free_slot(self) -> None:
        request = RequestedBooking(CLAIM, "r", EXCLUSIVE, Decision(None, self.RIVAL))
        conditions = booking_conditions(request, booked(None), NOW)
        assert of(conditions) == {
            "Valid": (True, "Accepted"),
            "ResourceFound": (True, "ResourceFound"),
            "Accepted": (False, "Conflict"),
            "HoldsLock": (False, "Conflict"),
            "Ready": (False, "Conflict"),
        }
        assert conditions[2].message == (
            "grace has r from 2026-01-01T09:00:00Z until 2026-01-01T11:00:00Z (other); the next free slot of "
            "1h begins at 2026-01-01T12:00:00Z."
        )
        assert request.phase_at(NOW) is Phase.CONFLICT
        assert request.phase_at(CLAIM.end_at) is Phase.FINISHED
        before = booking_conditions(request, booked(None), NOW - timedelta(hours=1))
        assert "Ready" not in of(before)

    def test_an_accepted_booking_says_so(self) -> None:
        span = TimeSpan(CLAIM.start_at, CLAIM.end_at)
        request = RequestedBooking(CLAIM, "r", EXCLUSIVE, Decision(span))
        conditions = booking_conditions(request, booked(CLAIM), NOW)
        assert of(conditions)["Accepted"] == (True, "Accepted")
        assert of(conditions)["HoldsLock"] == (True, "Holder")
        assert of(conditions)["Ready"] == (True, "Running")

    def test_a_conflict_is_reported_as_an_event_once(self) -> None:
        request = RequestedBooking(CLAIM, "r", EXCLUSIVE, Decision(None, self.RIVAL))
        conditions = booking_conditions(request, booked(None), NOW)
        events = condition_events({}, conditions)
        assert [(event.warning, event.reason) for event in events] == [(True, "Conflict")]
        reported = {item.type: (item.reason, item.message) for item in conditions}
        assert condition_events(reported, conditions) == []

    def test_a_kept_interval_that_has_ended_leaves_the_booking_in_conflict(self) -> None:
        decision = Decision(self.KEPT, self.RIVAL)
        request = RequestedBooking(CLAIM, "r", EXCLUSIVE, decision)
        later = self.KEPT.end
        assert request.phase_at(later) is Phase.CONFLICT
        assert of(booking_conditions(request, booked(None), later))["Ready"] == (False, "Conflict")
