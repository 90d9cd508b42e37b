"""Reconciles Bookings: writes the phase and the conditions of each Booking into its status.

This reconciler writes only the status of Bookings. The reconciler of Resources starts and stops instances.
"""

from collections.abc import Callable
from datetime import datetime

from booking_operator.api.kinds import BOOKING
from booking_operator.api.meta import InvalidSpec, first_failure
from booking_operator.api.resource import Resource, ResourceStatus
from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.conditions import BookedResource, Failure, booking_conditions, notified_condition
from booking_operator.domain.delay import Delay
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.resource.snapshot import invalid_reason
from booking_operator.reconcilers.status_reporter import StatusReporter

# Reasons of the condition Ready of a Resource that its Bookings show as well.
_BLOCKING_REASONS = {
    "Blocked",
    "DryRun",
    "Suspended",
}


class BookingReconciler:
    """Updates the status of one Booking, and requeues it for its next boundary.

    Args:
        environment: what all reconcilers share.
        undelivered: returns why the notifications of a Booking are not delivered; None without a failure.
        delay: returns the expected delay of a Resource; None when it is on time.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        undelivered: Callable[[Key], Failure | None] = lambda _: None,
        delay: Callable[[Key], Delay | None] = lambda _: None,
    ) -> None:
        self._informers = environment.informers
        self._undelivered = undelivered
        self._delay = delay
        self._reporter = StatusReporter(BOOKING, environment)
        self._clock = environment.clock

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one Booking. For a deleted Booking this is a no-op."""
        booking = self._informers.bookings.get(key)
        if booking is None or booking.metadata.deletion_timestamp is not None:
            return Result()
        now = self._clock.now()
        if isinstance(booking.spec, InvalidSpec):
            self._reporter.report_invalid(booking, "InvalidSpec", booking.spec.message, now)
            return Result()
        interval = booking.interval()
        if interval is None:
            return Result()
        resource = self._informers.resources.get(Key(key.namespace, booking.spec.resource_name))
        booked = self._booked(resource, interval, now) if resource else None
        conditions = booking_conditions(interval, booking.spec.resource_name, booked, now)
        if booking.spec.notifications:
            sent = self._reporter.current(booking).notification_sent
            conditions += (notified_condition(interval, now, sent=sent, failure=self._undelivered(key)),)
        phase = interval.phase_at(now)
        # Finished Bookings get no Event: the first run in an old cluster would record one for each.
        self._reporter.report(booking, conditions, now, quiet=phase is Phase.FINISHED, status=phase)
        return Result(_next_at(interval, booked, now))

    def _booked(self, resource: Resource, interval: BookingInterval, now: datetime) -> BookedResource:
        warm_up, holder, why = resource.warm_up, None, invalid_reason(self._informers, resource)
        if interval.is_active(now, warm_up):
            holder = self._informers.holder(resource, now)
        return BookedResource(
            holder=holder,
            instances=resource.status.instances,
            running=resource.status.running,
            failure=_resource_failure(resource.status),
            warm_up=warm_up,
            invalid_reason=f"The Resource {resource.metadata.name} is not valid: {why[1]}" if why else "",
            delay=self._delay(key_of(resource)),
        )


def _resource_failure(status: ResourceStatus) -> Failure | None:
    """Return the failure in the conditions of a Resource that keeps it from being as booked."""
    ready = first_failure(status.conditions, "Ready")
    # While the Resource has no holder, Ready describes a stop, which does not concern a booking.
    if ready is not None and ready.reason in _BLOCKING_REASONS and status.locked_until:
        return ready
    return first_failure(status.conditions, "Synced", "Found")


def _next_at(interval: BookingInterval, booked: BookedResource | None, now: datetime) -> datetime | None:
    instants = [interval.start_at, interval.end_at]
    if booked is not None:
        instants.append(interval.power_on_at(booked.warm_up))
    return min((instant for instant in instants if instant > now), default=None)
