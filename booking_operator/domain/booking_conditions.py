"""What users are told of a booking: conditions and their reasons, as `domain.conditions` for a resource."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.domain.booking import Booking, Phase
from booking_operator.domain.conditions import Condition, Failure, delayed, utc
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

    holder: Booking | None
    instances: int
    running: int
    trouble: Failure | None
    warm_up: timedelta
    invalid: str = ""
    delay: Delay | None = None


def booking_conditions(
    booking: Booking, resource_name: str, resource: BookedResource | None, now: datetime
) -> tuple[Condition, ...]:
    """Conditions of a valid Booking.

    `Ready` is there only while the booking is active: before and after, nothing is to become ready, and a
    tool that reads kstatus would wait for ever on a booking that starts next week, or ended last week.
    """
    valid = Condition("Valid", True, "Accepted", "The spec is valid.")
    if resource is None:
        message = f"There is no Resource {resource_name!r} in this namespace; create it, or name another one."
        found = Condition("ResourceFound", False, "ResourceNotFound", message)
    else:
        found = Condition("ResourceFound", True, "ResourceFound", f"The Resource {resource_name} exists.")
    warm_up = resource.warm_up if resource else timedelta(0)
    conditions: tuple[Condition, ...] = (valid, found, _holds_lock(booking, resource, now, warm_up))
    if booking.active(now, warm_up):
        conditions = (*conditions, _booking_ready(found, resource))
    late = resource.delay if resource else None
    mine = late is not None and late.starting and late.at == booking.wanted_from(warm_up)
    return (*conditions, *delayed(late if mine else None))


def notified(booking: Booking, now: datetime, *, sent: bool, failure: Failure | None) -> Condition:
    """Whether those who are to be told of the end of a valid Booking have been."""
    if failure is not None:
        return Condition("Notified", False, failure.reason, failure.message)
    if sent:
        return Condition("Notified", True, "Sent", f"All were told that it ends at {utc(booking.end_at)}.")
    if now >= booking.end_at:
        return Condition("Notified", False, "Missed", "It ended before all could be told.")
    return Condition("Notified", False, "Pending", "The recipients are told shortly before it ends.")


def _holds_lock(
    booking: Booking, resource: BookedResource | None, now: datetime, warm_up: timedelta
) -> Condition:
    if booking.phase(now) is Phase.FINISHED:
        return Condition("HoldsLock", False, "Finished", f"It ended at {utc(booking.end_at)}.")
    if not booking.active(now, warm_up):
        begins = utc(booking.wanted_from(warm_up))
        return Condition("HoldsLock", False, "Scheduled", f"It holds the resource from {begins} on.")
    if resource is None or resource.holder is None:
        return Condition("HoldsLock", False, "ResourceNotFound", "There is no resource to hold.")
    if resource.invalid:
        return Condition("HoldsLock", False, "ResourceInvalid", resource.invalid)
    if resource.holder.name == booking.name:
        return Condition("HoldsLock", True, "Holder", f"It holds the resource until {utc(booking.end_at)}.")
    other = f"{resource.holder.user_id} holds the resource until {utc(resource.holder.end_at)}"
    return Condition("HoldsLock", False, "HeldByOther", f"{other}; the instances run for this booking too.")


def _booking_ready(found: Condition, resource: BookedResource | None) -> Condition:
    if resource is None:
        return Condition("Ready", False, found.reason, found.message)
    if resource.invalid:
        return Condition("Ready", False, "ResourceInvalid", resource.invalid)
    running = f"{resource.running} of {resource.instances} instances run"
    if resource.instances and resource.running == resource.instances:
        return Condition("Ready", True, "Running", f"{running}.")
    if resource.trouble is not None:
        return Condition("Ready", False, resource.trouble.reason, resource.trouble.message)
    return Condition("Ready", False, "Starting", f"{running}.")
