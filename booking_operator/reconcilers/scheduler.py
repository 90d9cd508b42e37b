"""Reconciles BookingSchedulers: creates their Bookings ahead of time, and updates and deletes them.

`domain.schedule` decides which Bookings to create, update and delete. This module carries the plan out and
reports the result in the status of the scheduler.
"""

from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER
from booking_operator.api.meta import TEMPLATE_ANNOTATION, InvalidSpec
from booking_operator.api.scheduler import BookingScheduler, BookingSchedulerSpec
from booking_operator.domain import conditions, schedule
from booking_operator.domain.conditions import Failure
from booking_operator.domain.formatting import format_rfc3339, format_utc
from booking_operator.domain.parsing import parse_duration, parse_rfc3339
from booking_operator.domain.schedule import MAX_LENGTH, CreatedBooking, SchedulePlan, ScheduleRule
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import Result
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.object_writes import QUOTA_EXCEEDED, try_create, try_write
from booking_operator.reconcilers.status_reporter import StatusReporter

MAX_EDIT_DELAY = timedelta(minutes=2)
"""The assumed maximum time from an edit of a scheduler to its first reconcile.

A hand-over or an upgrade of the operator may take that long.
"""


class SchedulerReconciler:
    """Creates, updates and deletes the Bookings of one scheduler, and requeues it for its next change."""

    def __init__(self, environment: Environment) -> None:
        self._informers = environment.informers
        self._reporter = StatusReporter(BOOKING_SCHEDULER, environment)
        self._objects = environment.objects
        self._clock = environment.clock

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one scheduler.

        Garbage collection deletes the Bookings of a deleted scheduler by their ownerReferences.
        """
        scheduler, now = self._informers.schedulers.get(key), self._clock.now()
        if scheduler is None or scheduler.metadata.deletion_timestamp is not None:
            return Result()
        spec = scheduler.spec
        if isinstance(spec, InvalidSpec):
            self._reporter.report_invalid(scheduler, "InvalidSpec", spec.message, now)
            return Result()
        adopted, lost = await self._adopt(scheduler, spec)
        bookings = {booking.metadata.name: booking for booking in self._informers.bookings_made_by(scheduler)}
        made = [item for item in map(_made, bookings.values()) if item is not None]
        since = self._since(scheduler, spec, now)
        rule = _rule(scheduler, spec)
        plan = schedule.plan_bookings(rule, made, now, since)
        missing, unmade = await self._create_missing(scheduler, spec, rule, plan, adopted)
        untidy = await self._update_and_delete(spec, rule, plan, bookings)
        failure = lost or unmade or untidy
        verdicts = conditions.creator_conditions(failure, _done(spec, plan))
        until = format_utc(plan.scheduled_until(missing))
        self._reporter.report(
            scheduler, verdicts, now, next=format_utc(plan.next_start), scheduled_until=until
        )
        return Result(plan.next_at, failed=failure is not None)

    def _since(self, scheduler: BookingScheduler, spec: BookingSchedulerSpec, now: datetime) -> datetime:
        """Return the start (aware UTC) from which a missed occurrence still gets a Booking.

        A missed occurrence has begun and has no Booking. An occurrence in progress at the creation of the
        scheduler gets one. Occurrences from before the last edit get none. The time of an edit is not known
        exactly, so it counts as `MAX_EDIT_DELAY` before `now`.
        """
        current, meta = self._reporter.current(scheduler), scheduler.metadata
        if not current.observed_generation:
            return meta.creation_timestamp - (spec.booking_duration or MAX_LENGTH)
        if current.observed_generation != meta.generation:
            return max(meta.creation_timestamp, now - MAX_EDIT_DELAY)
        try:
            return parse_rfc3339(current.scheduled_until)
        except ValueError:  # another client wrote the status
            return now

    async def _create_missing(
        self,
        scheduler: BookingScheduler,
        spec: BookingSchedulerSpec,
        rule: ScheduleRule,
        plan: SchedulePlan,
        adopted: AbstractSet[str],
    ) -> tuple[datetime | None, Failure | None]:
        """Create the missing Bookings. A failure does not stop the others, unless a quota is exceeded.

        The cache may not have the owner of the Bookings in `adopted` yet.

        Returns:
            The start and the failure of the first Booking that could not be created; None and None if all
            were created.
        """
        annotations, failures = {TEMPLATE_ANNOTATION: spec.template_hash()}, dict[datetime, Failure]()
        for name, start in plan.create.items():
            if name in adopted:
                continue
            failure = await self._create(scheduler, name, _times(spec, rule, start), annotations)
            if failure is not None:
                failures[start] = failure
                if failure.reason == QUOTA_EXCEEDED:
                    break
        return next(iter(failures.items()), (None, None))

    async def _update_and_delete(
        self,
        spec: BookingSchedulerSpec,
        rule: ScheduleRule,
        plan: SchedulePlan,
        bookings: dict[str, Booking],
    ) -> Failure | None:
        """Update and delete Bookings as the plan says. Returns the first failure, or None on success."""
        annotations, failures = {TEMPLATE_ANNOTATION: spec.template_hash()}, []
        for name, start in plan.update.items():
            write = self._objects.update(BOOKING, bookings[name], _times(spec, rule, start), annotations)
            failures.append(await try_write(write, name))
        failures += [
            await try_write(self._objects.delete(BOOKING, bookings[name]), name) for name in plan.delete
        ]
        return next(filter(None, failures), None)

    async def _adopt(
        self, scheduler: BookingScheduler, spec: BookingSchedulerSpec
    ) -> tuple[AbstractSet[str], Failure | None]:
        """Become the owner of Bookings that were restored from a backup, which drops ownerReferences.

        A Booking is the scheduler's own if it has the annotation of a scheduler, the name for its start, and
        the user of the template. Another user could write the annotation, but not book in this name.

        Returns:
            The names of these Bookings, and the first failure, or None on success.
        """
        adopted, failures = set[str](), list[Failure | None]()
        for booking in self._informers.orphaned_bookings(scheduler.metadata.namespace):
            interval, name = booking.interval(), booking.metadata.name
            if interval is None or interval.user_id != spec.booking_template.user_id:
                continue
            if name == schedule.booking_name(scheduler.metadata.name, interval.start_at):
                adoption = self._objects.adopt(BOOKING, booking, (BOOKING_SCHEDULER, scheduler))
                failures.append(await try_write(adoption, name))
                adopted.add(name)
        return adopted, next(filter(None, failures), None)

    async def _create(
        self, scheduler: BookingScheduler, name: str, spec: dict[str, Any], annotations: dict[str, str]
    ) -> Failure | None:
        namespace = scheduler.metadata.namespace
        if self._informers.bookings.get(Key(namespace, name)) is not None:
            text = f"The booking {name} exists, but this scheduler did not create it; delete the booking."
            return Failure("NameTaken", text)
        owner = (BOOKING_SCHEDULER, scheduler)
        write = self._objects.create(BOOKING, namespace, name, spec, annotations=annotations, owner=owner)
        return await try_create(write, name)


def _rule(scheduler: BookingScheduler, spec: BookingSchedulerSpec) -> ScheduleRule:
    return ScheduleRule(
        name=scheduler.metadata.name,
        recurrence=spec.recurrence(scheduler.metadata.creation_timestamp),
        duration=spec.booking_duration,
        ends=spec.ends(scheduler.metadata.creation_timestamp),
        template_hash=spec.template_hash(),
        horizon=parse_duration(spec.horizon),
        keep_finished=spec.keep_finished,
        suspend=spec.suspend,
    )


def _made(booking: Booking) -> CreatedBooking | None:
    interval = booking.interval()
    if interval is None or booking.metadata.deletion_timestamp is not None:
        return None
    digest = booking.metadata.annotations.get(TEMPLATE_ANNOTATION, "")
    return CreatedBooking(interval.name, interval.start_at, interval.end_at, digest)


def _times(spec: BookingSchedulerSpec, rule: ScheduleRule, start: datetime) -> dict[str, Any]:
    """Return the spec of the Booking that starts at `start`, with times in the scheduler's time zone."""
    times = {"start_at": start, "end_at": rule.end_of(start)}
    return spec.booking_spec() | {
        name: format_rfc3339(at.astimezone(spec.zone)) for name, at in times.items()
    }


def _done(spec: BookingSchedulerSpec, plan: SchedulePlan) -> str:
    if spec.suspend:
        return "The scheduler creates no bookings while spec.suspend is true."
    return (
        "All bookings within the horizon exist."
        if plan.next_start
        else "The schedule has no more occurrences."
    )
