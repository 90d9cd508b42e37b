"""What users are told of a booking: conditions and their reasons, as `domain.conditions` for a resource."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.conditions import ConditionUpdate, Failure, delayed_conditions, format_utc
from booking_operator.domain.delay import Delay


@dataclass(frozen=True, slots=True)
class BookedResource:
    """What a booking has to know of the resource it names.

    Attributes:
        holder: the booking that holds it now, None when nobody does.
        instances: how many instances exist, as last reported.
        running: how many of them run, as last reported.
        trouble: why it cannot be as booked, None where nothing stands in the way.
        warm_up: how long before `start_at` its instances start.
        invalid: why nothing at all is done for it; empty where it is valid.
        delay: how late its present or next start or stop is; None where it is on time.
    """

    holder: BookingInterval | None
    instances: int
    running: int
    failure: Failure | None
    warm_up: timedelta
    invalid_reason: str = ""
    delay: Delay | None = None


def booking_conditions(
    booking: BookingInterval, resource_name: str, resource: BookedResource | None, now: datetime
) -> tuple[ConditionUpdate, ...]:
    """Conditions of a valid Booking.

    `Ready` is there only while the booking is active: before and after, nothing is to become ready, and a
    tool that reads kstatus would wait for ever on a booking that starts next week, or ended last week.
    """
    valid = ConditionUpdate("Valid", True, "Accepted", "The spec is valid.")
    if resource is None:
        message = f"There is no Resource {resource_name!r} in this namespace; create it, or name another one."
        found = ConditionUpdate("ResourceFound", False, "ResourceNotFound", message)
    else:
        found = ConditionUpdate(
            "ResourceFound", True, "ResourceFound", f"The Resource {resource_name} exists."
        )
    warm_up = resource.warm_up if resource else timedelta(0)
    conditions: tuple[ConditionUpdate, ...] = (valid, found, _holds_lock(booking, resource, now, warm_up))
    if booking.is_active(now, warm_up):
        conditions = (*conditions, _booking_ready(found, resource))
    late = resource.delay if resource else None
    mine = late is not None and late.is_start and late.due_at == booking.power_on_at(warm_up)
    return (*conditions, *delayed_conditions(late if mine else None))


def notified_condition(
    booking: BookingInterval, now: datetime, *, sent: bool, failure: Failure | None
) -> ConditionUpdate:
    """Whether those who are to be told of the end of a valid Booking have been."""
    if failure is not None:
        return ConditionUpdate("Notified", False, failure.reason, failure.message)
    if sent:
        return ConditionUpdate(
            "Notified", True, "Sent", f"All were told that it ends at {format_utc(booking.end_at)}."
        )
    if now >= booking.end_at:
        return ConditionUpdate("Notified", False, "Missed", "It ended before all could be told.")
    return ConditionUpdate("Notified", False, "Pending", "The recipients are told shortly before it ends.")


def _holds_lock(
    booking: BookingInterval, resource: BookedResource | None, now: datetime, warm_up: timedelta
) -> ConditionUpdate:
    if booking.phase_at(now) is Phase.FINISHED:
        return ConditionUpdate("HoldsLock", False, "Finished", f"It ended at {format_utc(booking.end_at)}.")
    if not booking.is_active(now, warm_up):
        begins = format_utc(booking.power_on_at(warm_up))
        return ConditionUpdate("HoldsLock", False, "Scheduled", f"It holds the resource from {begins} on.")
    if resource is None or resource.holder is None:
        return ConditionUpdate("HoldsLock", False, "ResourceNotFound", "There is no resource to hold.")
    if resource.invalid_reason:
        return ConditionUpdate("HoldsLock", False, "ResourceInvalid", resource.invalid_reason)
    if resource.holder.name == booking.name:
        return ConditionUpdate(
            "HoldsLock", True, "Holder", f"It holds the resource until {format_utc(booking.end_at)}."
        )
    other = f"{resource.holder.user_id} holds the resource until {format_utc(resource.holder.end_at)}"
    return ConditionUpdate(
        "HoldsLock", False, "HeldByOther", f"{other}; the instances run for this booking too."
    )


def _booking_ready(found: ConditionUpdate, resource: BookedResource | None) -> ConditionUpdate:
    if resource is None:
        return ConditionUpdate("Ready", False, found.reason, found.message)
    if resource.invalid_reason:
        return ConditionUpdate("Ready", False, "ResourceInvalid", resource.invalid_reason)
    running = f"{resource.running} of {resource.instances} instances run"
    if resource.instances and resource.running == resource.instances:
        return ConditionUpdate("Ready", True, "Running", f"{running}.")
    if resource.failure is not None:
        return ConditionUpdate("Ready", False, resource.failure.reason, resource.failure.message)
    return ConditionUpdate("Ready", False, "Starting", f"{running}.")
