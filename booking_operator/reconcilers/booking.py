"""Reconciles Bookings: writes the phase and the conditions of each Booking into its status.

This reconciler writes only the status of Bookings. The reconciler of Resources starts and stops instances.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING
from booking_operator.api.meta import InvalidSpec, first_failure
from booking_operator.api.resource import Resource, ResourceStatus
from booking_operator.domain.acceptance import Decision, RequestedBooking
from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.conditions import (
    BookedResource,
    Failure,
    booking_conditions,
    notified_condition,
)
from booking_operator.domain.delay import Delay
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.notification import NotificationTrigger
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result
from booking_operator.reconcilers.acceptances import Acceptances
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.resource.snapshot import invalid_reason
from booking_operator.reconcilers.status_reporter import StatusReporter

# Reasons of the condition Ready of a Resource that its Bookings show as well.
_BLOCKING_REASONS = {
    "Blocked",
    "DryRun",
    "RequiredUnavailable",
    "StatusChecksFailed",
    "StatusChecksPending",
    "Suspended",
    "WaitingForRequired",
}


_NOTHING_ACCEPTED: Mapping[str, Any] = {
    "accepted_resource": "",
    "accepted_from": "",
    "accepted_until": "",
    "accepted_exclusive": (),
}
"""The fields of the status that record what a Resource has accepted, if it has accepted nothing."""


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
        self._consistency = environment.consistency
        self._acceptances = Acceptances(environment)
        self._clock = environment.clock

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return self._acceptances.introspect()

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one Booking. For a deleted Booking this is a no-op."""
        booking = self._informers.bookings.get(key)
        if booking is None or booking.metadata.deletion_timestamp is not None:
            return Result()
        now = self._clock.now()
        if isinstance(booking.spec, InvalidSpec):
            self._reporter.report_invalid(
                booking, "InvalidSpec", booking.spec.message, now, **_NOTHING_ACCEPTED
            )
            return Result()
        interval = booking.interval()
        if interval is None:
            return Result()
        resource = self._informers.resources.get(Key(key.namespace, booking.spec.resource_name))
        rules = self._informers.rules(Key(key.namespace, booking.spec.resource_name))
        decision = self.decide(booking, now)
        request = RequestedBooking(interval, booking.spec.resource_name, rules, decision)
        booked = self._booked(resource, request.counted or interval, now) if resource else None
        conditions = booking_conditions(request, booked, now)
        failure = self._undelivered(key)
        of_the_end = any(NotificationTrigger.ENDING in item.when for item in booking.spec.notifications)
        if of_the_end or (booking.spec.notifications and failure is not None):
            sent = self._reporter.current(booking).notification_sent
            ends = request.counted or interval
            conditions += (notified_condition(ends, now, sent=sent, failure=failure),)
        phase = request.phase_at(now)
        acceptance = _acceptance(request)
        if (
            self._is_incomplete(Key(key.namespace, request.resource))
            and self._reporter.current(booking).accepted_resource == request.resource
        ):
            acceptance = {}  # the Resource may be created again, or be corrected
        # Finished Bookings get no Event: the first run in an old cluster would record one for each.
        quiet = phase is Phase.FINISHED
        self._reporter.report(booking, conditions, now, quiet=quiet, status=phase or "", **acceptance)
        return Result(_next_at(request, booked, now), failed=decision is not None and decision.held_back)

    def _is_incomplete(self, resource: Key) -> bool:
        """Whether a Resource, or one that it requires, does not exist or is invalid, or it requires too many.

        Its rules are then unknown, so what was accepted stays accepted.
        """
        if self._informers.closure(resource).too_many:
            return True
        found = [
            self._informers.resources.get(key) for key in (resource, *self._informers.required(resource))
        ]
        return any(item is None or isinstance(item.spec, InvalidSpec) for item in found)

    def decide(self, booking: Booking, now: datetime) -> Decision | None:
        """Return what is accepted of a Booking; None without rules, and for a booking that has ended.

        The caches of a replica that has just taken over may not have what the one before has accepted.
        """
        decision = self._acceptances.decide(booking, now)
        exclusive = self._informers.rules(Key(booking.metadata.namespace, booking.resource_name)).exclusive
        if decision is None or not exclusive or not self._consistency.stale_reason():
            return decision
        record = self._reporter.current(booking).record_for(booking.resource_name)
        kept = decision.accepted.within(record.span) if record and decision.accepted else None
        if decision.accepted == kept and (record is None or record.exclusive >= exclusive):
            return decision
        return replace(decision, accepted=kept, held_back=True)

    def _booked(self, resource: Resource, interval: BookingInterval, now: datetime) -> BookedResource:
        warm_up, holder, why = resource.warm_up, None, invalid_reason(self._informers, resource)
        if interval.is_active(now, warm_up):
            holder = self._informers.holder(resource, now)
        return BookedResource(
            holder=holder,
            instances=resource.status.instances,
            running=resource.status.running,
            ready=resource.status.status == "RUNNING",
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


def _acceptance(request: RequestedBooking) -> Mapping[str, Any]:
    """Return the status fields that record what the Resource accepts; empty ones if it records nothing."""
    if not request.rules.recorded:
        return _NOTHING_ACCEPTED
    if request.decision is None or request.decision.held_back:
        return {}  # the booking has ended, or the caches may be missing bookings: its record stays
    span = request.decision.accepted
    if span is None:
        return _NOTHING_ACCEPTED
    return {
        "accepted_resource": request.resource,
        "accepted_from": format_utc(span.start),
        "accepted_until": format_utc(span.end),
        "accepted_exclusive": tuple(sorted(request.rules.exclusive)),
    }


def _next_at(request: RequestedBooking, booked: BookedResource | None, now: datetime) -> datetime | None:
    intervals = [request.interval]
    if (part := request.counted) is not None and part is not request.interval:
        intervals.append(part)
    instants = [instant for item in intervals for instant in (item.start_at, item.end_at)]
    if booked is not None:
        instants += [item.power_on_at(booked.warm_up) for item in intervals]
    if request.decision is not None and request.decision.retry_at is not None:
        instants.append(request.decision.retry_at)
    return min((instant for instant in instants if instant > now), default=None)
