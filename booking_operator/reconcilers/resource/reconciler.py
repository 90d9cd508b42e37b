"""Reconciles Resources: decides the power of instances from the bookings, and orders starts and stops.

The order of the steps in one reconcile matters:
1. Order the starts, on the present view of the instances. Right after a take-over, overdue starts wait for a
   fresh view, one second at most. With `requires`, starts also wait for views of the required Resources.
2. Refresh the view if it is too old for a decision, and order the starts again. A stop needs a fresh view.
3. Order the stops.
4. Shortly before a boundary, order ahead what the boundary will need. The driver then sends it at the
   boundary, in one call with all other orders that are due.
5. Set the status and enqueue the lock tags. Other controllers write them, so a slow write delays no start and
   no stop. Under `unbooked: Leave`, the list of started instances is an exception: see `_record_started`.
"""

import asyncio
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from booking_operator.api.fields import AUTO
from booking_operator.api.kinds import RESOURCE
from booking_operator.api.meta import InvalidSpec
from booking_operator.api.resource import AutomaticRestart, ResourceStatus, UnbookedInstance
from booking_operator.cloud.driver import Action, CloudError
from booking_operator.domain import conditions, decision_trigger, power, warm_up
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.conditions import Failure, ResourceReport
from booking_operator.domain.decision_trigger import LEAD_TIME, DecisionTrigger, Reported, reported
from booking_operator.domain.formatting import format_duration, format_second, format_utc
from booking_operator.domain.power import GraceReason, Plan, Wait
from booking_operator.domain.services import SERVICES
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result
from booking_operator.reconcilers.delays import DelayController
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.lock_tags import LockTagsReconciler
from booking_operator.reconcilers.resource.neighbours import Neighbours
from booking_operator.reconcilers.resource.orders import ResourceOrders, first_failure
from booking_operator.reconcilers.resource.snapshot import (
    ResourceSnapshot,
    invalid_reason,
    take_snapshot,
    to_lock_tags,
)
from booking_operator.reconcilers.status_reporter import StatusReporter

REFRESH_TIMEOUT_SECONDS = 10.0
"""Timeout for a fresh view, and another one for the confirmation of the caches. A new booking of the same
Resource waits while they last."""
STARTED_WRITE_TIMEOUT_SECONDS = 2.0
"""How long a start under `unbooked: Leave` waits until the status lists the started instances.

The start does not depend on this write. If the list is lost, the instances stay up after the booking.
"""
EDIT_TOLERANCE = timedelta(minutes=1)
"""If the last booking ended earlier than this before the change that causes a stop, it is not the cause."""
RETRY_SECONDS = 0.25
"""Pause between two attempts to refresh the view right after a take-over, while overdue starts wait."""
QUEUED_CHECK_INTERVAL = timedelta(seconds=15)
"""How often a Resource is reconciled while one of its orders waits in a request queue."""


class ResourceReconciler:
    """Reconciles Resources. Different Resources are reconciled concurrently.

    Args:
        environment: what all reconcilers share.
        orders: the orders of all Resources.
        lock_tags: the reconciler of lock tags.
        delays: the forecast delays.
        took_over_at: when this replica began to lead (aware UTC).
    """

    def __init__(
        self,
        environment: Environment,
        orders: ResourceOrders,
        lock_tags: LockTagsReconciler,
        delays: DelayController,
        *,
        took_over_at: datetime,
    ) -> None:
        self._environment = environment
        self._informers = environment.informers
        self._reporter = StatusReporter(RESOURCE, environment)
        self._events = environment.events
        self._consistency = environment.consistency
        self._clock = environment.clock
        self._orders = orders
        self._lock_tags = lock_tags
        self._delays = delays
        self._took_over_at = took_over_at
        self._triggers: dict[Key, DecisionTrigger] = {}
        self._neighbours = Neighbours(environment, self._triggers.get)

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"triggers": self._triggers.keys()}

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one Resource. The instances of a deleted Resource stay as they are.

        It decides again after a refresh and after a confirmation, because bookings and instances may have
        changed. `Order.still_valid` checks the bookings once more right before a call.
        """
        snapshot = self._take_snapshot(key)
        if snapshot is not None and (until := self._start_waits_until(snapshot)) is not None:
            await self._view_since_take_over(snapshot, until)
            snapshot = self._take_snapshot(key)
        if snapshot is None:
            return self._release(key)
        if (snapshot := await self._with_fresh_neighbours(snapshot)) is None:
            return self._release(key)
        failure = await self._order_starts(snapshot)
        if not self._fresh(snapshot, since := self._view_needed_since(snapshot)):
            refresh_failure = await self._refresh(snapshot, since)
            snapshot = self._take_snapshot(key)
            if snapshot is None or (snapshot := await self._with_fresh_neighbours(snapshot)) is None:
                return self._release(key)
            failure = first_failure(failure, refresh_failure) or await self._order_starts(snapshot)
        stale_reason, stop_failure = await self._order_stops(snapshot)
        failure = first_failure(failure, stop_failure)
        ahead = await self._order_ahead(snapshot)
        plan = self.plan_power(snapshot, stale_reason)
        self._note_whether_met(snapshot, plan)
        starting = self._orders.starting(key) if snapshot.state.running_wanted else frozenset()
        plan = replace(plan, started=plan.started | ahead.started | starting)
        self._report(snapshot, plan, failure or snapshot.failure or self._lock_tags.failures.get(key))
        self._lock_tags.enqueue_if_needed(key, snapshot)
        return self._result(snapshot, plan, failure)

    def _release(self, key: Key) -> Result:
        self._triggers.pop(key, None)
        self._orders.release(key)
        self._lock_tags.enqueue_if_needed(key, None)
        return Result()

    def _result(self, snapshot: ResourceSnapshot, plan: Plan, failure: Failure | None) -> Result:
        """Return when to reconcile the Resource again.

        While an order waits or a change is overdue, the forecast is updated, because the expected time may
        change.
        """
        forget_from = power.forget_stopped_from(
            plan.started, snapshot.policy, snapshot.state, self._trigger(snapshot).observed_since
        )
        key, now = key_of(snapshot.resource), self._clock.now()
        forget_from = forget_from if forget_from is None or forget_from > now else None
        graces = [grace.until for grace in plan.graces]
        instants = [snapshot.wake_at(), failure.retry_at if failure else None, forget_from, *graces]
        delay = self._delays.get(key)
        if waiting := self._orders.waiting(key):
            instants.append(now + QUEUED_CHECK_INTERVAL)
        if waiting or (delay is not None and delay.due_at <= now):
            self._delays.update_soon()
        next_at = min((instant for instant in instants if instant is not None), default=None)
        unseen = plan.waits_for_others and self._neighbours.unseen(snapshot, self._trigger(snapshot))
        return Result(next_at, failed=_needs_backoff(failure, now) or bool(plan.withheld or unseen))

    def _take_snapshot(self, key: Key) -> ResourceSnapshot | None:
        """Take a snapshot of the Resource now, and record its decision trigger and its next boundary.

        Returns:
            The snapshot; None if the Resource is deleted or invalid. The status of an invalid one says why.
        """
        resource = self._informers.resources.get(key)
        if resource is None or resource.metadata.deletion_timestamp is not None:
            return None
        now = self._clock.now()
        status = self._reporter.current(resource)
        snapshot = take_snapshot(self._environment, resource, now)
        if snapshot is not None:
            before = self._triggers.get(key) or self._reported(snapshot)
            self._triggers[key] = self.next_trigger(before, snapshot)
            coming = snapshot.state.next_change_at
            self._orders.expect_change(key, coming, status.next_change)
        elif why := invalid_reason(self._informers, resource):
            self._reporter.report_invalid(resource, *why, now)
        return snapshot

    def next_trigger(self, before: DecisionTrigger | Reported, snapshot: ResourceSnapshot) -> DecisionTrigger:
        """Return the decision trigger of a snapshot, given that of the last reconcile or what is reported."""
        return decision_trigger.next_trigger(
            before,
            snapshot.state,
            policy=(snapshot.policy.rules, *_own_boundaries(snapshot)),
            deletions=self._informers.deletions(key_of(snapshot.resource)),
            deletion_grace=self._environment.deletion_grace,
            may_act=snapshot.policy.may_act,
            requires=snapshot.resource.requires,
        )

    def _reported(self, snapshot: ResourceSnapshot) -> Reported:
        current: ResourceStatus = self._reporter.current(snapshot.resource)
        return reported(current.booked_until, current.due, snapshot.state.holder, snapshot.policy.warm_up)

    def _trigger(self, snapshot: ResourceSnapshot) -> DecisionTrigger:
        return self._triggers[key_of(snapshot.resource)]

    def _view_needed_since(self, snapshot: ResourceSnapshot) -> datetime:
        """Return the instant (aware UTC) that a view must not precede, to back every decision."""
        since, current = self._trigger(snapshot).observed_since, self._reporter.current(snapshot.resource)
        forget_from = power.forget_stopped_from(current.started, snapshot.policy, snapshot.state, since)
        return since if forget_from is None or forget_from > snapshot.now else forget_from

    def _fresh(self, snapshot: ResourceSnapshot, since: datetime | None = None) -> bool:
        """Whether the present view is not older than `since`, by default the decision trigger."""
        observation = snapshot.driver.inventory.observation(snapshot.group)
        return observation is not None and observation.at >= (since or self._trigger(snapshot).observed_since)

    async def _with_fresh_neighbours(self, snapshot: ResourceSnapshot) -> ResourceSnapshot | None:
        """Refresh the views of other Resources that the decision needs. Return a snapshot from after that."""
        trigger = self._trigger(snapshot)
        unseen = self._neighbours.unseen(snapshot, trigger)
        if not unseen:
            return snapshot
        await self._neighbours.refresh(unseen, trigger)
        return self._take_snapshot(key_of(snapshot.resource))

    def _note_whether_met(self, snapshot: ResourceSnapshot, plan: Plan) -> None:
        """Record that the group is as booked, if nothing is left to do or the operator may not act.

        What waits for other Resources is not late either.
        """
        done = self._fresh(snapshot) and not (plan.has_actions or plan.withheld or plan.in_transition)
        if done or plan.waits_for_others or not snapshot.policy.may_act:
            self._orders.as_booked(key_of(snapshot.resource))

    def plan_power(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        """Decide what to start and stop, by the bookings and the present view.

        Args:
            snapshot: the snapshot of the Resource.
            stale_reason: why the cached bookings may be incomplete. If it is empty, the reason of the caches
                applies.
        """
        current: ResourceStatus = self._reporter.current(snapshot.resource)
        observation, started = snapshot.observation, frozenset(current.started)
        if observation is not None:
            started |= power.restarted_by_cloud(observation, current.restarts)
        return power.decide(
            snapshot.policy,
            snapshot.state,
            observation,
            started=started,
            observed_since=self._trigger(snapshot).observed_since,
            waits=self.waits(snapshot),
            stale_reason=stale_reason or self._consistency.stale_reason() or self._undecided(snapshot),
        )

    def waits(self, snapshot: ResourceSnapshot) -> list[Wait]:
        """Return why all starts, or all stops, wait: after a deletion, or for other Resources."""
        trigger = self._trigger(snapshot)
        deleted = Wait(GraceReason.DELETION, trigger.stop_from) if trigger.stop_from is not None else None
        sequence = self._neighbours.wait_of(snapshot, trigger)
        return [wait for wait in (deleted, sequence) if wait is not None]

    def _undecided(self, snapshot: ResourceSnapshot) -> str:
        """Return which active booking is neither accepted nor refused yet; empty if there is none.

        If a Resource gets rules for its bookings, the instances run on until the bookings are decided.
        """
        key = key_of(snapshot.resource)
        for booking in self._informers.requests(key, snapshot.now):
            interval = dict(self._informers.booked_resources(booking)).get(key)
            if interval is None or not interval.is_active(snapshot.now, snapshot.policy.warm_up):
                continue
            if not booking.is_decided(self._informers.rules(Key(key.namespace, booking.resource_name))):
                return f"the booking {booking.metadata.name} is neither accepted nor refused yet"
        return ""

    def _start_waits_until(self, snapshot: ResourceSnapshot) -> datetime | None:
        """Return until when a start waits for a fresh view (aware UTC); None when it does not wait."""
        if snapshot.now >= self._took_over_at + power.TAKE_OVER_TIMEOUT:
            return None  # checked first because it is cheap and true after the first second of a leadership
        holder, view = snapshot.state.holder, snapshot.driver.inventory.observation(snapshot.group)
        if (
            holder is None
            or view is None
            or not (snapshot.policy.may_act and self.plan_power(snapshot).start)
        ):
            return None
        return power.start_waits_until(
            holder.power_on_at(snapshot.policy.warm_up),
            viewed_at=view.at,
            took_over_at=self._took_over_at,
            now=snapshot.now,
        )

    async def _view_since_take_over(self, snapshot: ResourceSnapshot, until: datetime) -> None:
        """Wait for a view that is not older than the take-over, until `until` or the next boundary."""
        left = (until - self._clock.now()).total_seconds()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, self._time_budget(snapshot))):
                while True:
                    try:
                        await snapshot.driver.inventory.refresh(snapshot.group.scope, self._took_over_at)
                    except CloudError as error:
                        if not error.retryable:
                            return
                    else:
                        return
                    await self._clock.sleep(RETRY_SECONDS)

    async def _order_starts(self, snapshot: ResourceSnapshot) -> Failure | None:
        """Order the starts of the plan, and cancel starts and stops that are no longer wanted.

        Returns:
            Why a start failed or is delayed; None when nothing failed.
        """
        plan = self.plan_power(snapshot)
        start = plan.start if snapshot.policy.may_act else ()
        if start:
            await self._record_started(snapshot, plan)
        holder = snapshot.state.holder
        at = holder.power_on_at(snapshot.policy.warm_up) if holder else snapshot.now
        self._orders.place(snapshot, Action.START, start, at, holder)
        if snapshot.state.running_wanted:
            self._orders.place(snapshot, Action.STOP, (), snapshot.now, None)
        return await self._orders.collect_answers(snapshot)

    async def _order_stops(self, snapshot: ResourceSnapshot) -> tuple[str, Failure | None]:
        """Order the stops of the plan, unless data is stale.

        Returns:
            Why data is stale (or empty), and why a stop failed or is delayed (or None).
        """
        plan = self.plan_power(snapshot)
        if plan.stop and snapshot.policy.may_act:
            if not self._trigger(snapshot).planned and (stale_reason := await self._confirm_caches(snapshot)):
                return stale_reason, None
            snapshot = self._take_snapshot(key_of(snapshot.resource)) or snapshot
            plan = self.plan_power(snapshot)
        released, stop = self._released_by(snapshot), plan.stop if snapshot.policy.may_act else ()
        at = released.end_at if released else snapshot.now
        self._orders.place(snapshot, Action.STOP, stop, at, released)
        return plan.stale_reason, await self._orders.collect_answers(snapshot)

    def _released_by(self, snapshot: ResourceSnapshot) -> BookingInterval | None:
        """Return the booking whose end causes a stop; None if another change does, such as a deletion.

        An edit may set an end slightly in the past.
        """
        last, since = snapshot.state.last_ended, self._trigger(snapshot).observed_since
        return last if last is not None and last.end_at >= since - EDIT_TOLERANCE else None

    async def _order_ahead(self, snapshot: ResourceSnapshot) -> Plan:
        """Order ahead what the next boundary will need, if it is near and the view is fresh.

        Returns:
            The plan for the boundary; an empty plan if nothing is ordered ahead.
        """
        boundary, plan, then = snapshot.state.next_change_at, Plan(), snapshot
        near = boundary is not None and boundary - LEAD_TIME <= self._clock.now() < boundary
        if boundary is not None and near and self._fresh(snapshot):
            then = snapshot.at(boundary)
        if then.policy.may_act and then is not snapshot:
            stale_reason = (
                await self._confirm_caches(snapshot) if self._trigger(snapshot).brought_forward else ""
            )
            plan = self.plan_power(then, stale_reason)
            if plan.start:
                await self._record_started(then, plan)
        at = boundary or snapshot.now
        self._orders.place(then, Action.START, plan.start, at, then.state.holder, ahead=True)
        ended = then.state.last_ended
        if ended is not None and ended.end_at != at:
            ended = None  # an off time or the end of a suspension causes the stop
        self._orders.place(then, Action.STOP, plan.stop, at, ended, ahead=True)
        return plan

    def _time_budget(self, snapshot: ResourceSnapshot) -> float:
        """Return the timeout in seconds for a request to the cloud or the API server.

        The timeout never passes the next boundary.
        """
        boundary = snapshot.state.next_change_at
        left = (boundary - self._clock.now()).total_seconds() if boundary else REFRESH_TIMEOUT_SECONDS
        return min(REFRESH_TIMEOUT_SECONDS, left)

    async def _confirm_caches(self, snapshot: ResourceSnapshot) -> str:
        """Return why the caches may be missing bookings; empty if the API server confirms them in time."""
        # With `deletion_policy: Stop` it does not matter why the bookings vanish.
        checked = "" if snapshot.policy.stop_when_deleted else snapshot.resource.metadata.namespace
        required = self._informers.was_required(key_of(snapshot.resource))
        seconds = self._time_budget(snapshot)
        return await self._consistency.confirm_within(seconds, namespace=checked, required=required)

    async def _refresh(self, snapshot: ResourceSnapshot, since: datetime) -> Failure | None:
        """Wait for a view that is not older than `since`, until the next boundary at most.

        Returns:
            Why there is no such view; None on success, and also at the boundary, where decisions use the
            present view.
        """
        boundary, timeout = snapshot.state.next_change_at, self._time_budget(snapshot)
        try:
            async with asyncio.timeout(timeout):
                await snapshot.driver.inventory.refresh(snapshot.group.scope, since)
        except CloudError as error:
            return Failure(error.reason, str(error))
        except TimeoutError:
            if boundary is None or self._clock.now() < boundary:
                return Failure("CloudTimeout", f"The cloud did not respond within {timeout:.0f} s.")
        return None

    async def _record_started(self, snapshot: ResourceSnapshot, plan: Plan) -> None:
        """Under `unbooked: Leave`, write the started instances into the status before their start.

        The write may take `STARTED_WRITE_TIMEOUT_SECONDS`. For a start ahead it ends at the boundary. If the
        write fails, the start leaves anyway.
        """
        current: ResourceStatus = self._reporter.current(snapshot.resource)
        started = tuple(sorted(plan.started))
        if snapshot.policy.unbooked is power.UnbookedPolicy.STOP or started == current.started:
            return
        timeout = STARTED_WRITE_TIMEOUT_SECONDS
        if snapshot.now > self._clock.now():
            timeout = min(timeout, (snapshot.now - self._clock.now()).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                status = replace(snapshot.with_counts(current), started=started)
                written = await self._reporter.status.write(snapshot.resource, status)
                found = self._informers.resources.get(key_of(snapshot.resource)) or snapshot.resource
                if written or found.status == snapshot.resource.status:
                    return
                # Another client, usually the previous leader, has changed the status. Keep what both started.
                known: ResourceStatus = self._reporter.current(found)
                both = tuple(sorted({*known.started, *started}))
                await self._reporter.status.write(found, replace(snapshot.with_counts(known), started=both))

    def _warm_up_status(self, snapshot: ResourceSnapshot) -> dict[str, Any]:
        """Return the status fields of `warm_up: auto`, after adding a start that is now complete."""
        key, current = key_of(snapshot.resource), self._reporter.current(snapshot.resource)
        if not snapshot.state.running_wanted:
            self._orders.forget_start(key)
        whole = not self._orders.open_orders(key)
        taken = self._orders.complete_start(key, snapshot.observation) if whole else None
        spec = snapshot.resource.spec
        if isinstance(spec, InvalidSpec) or spec.warm_up != AUTO:
            return {"warm_up": "", "start_seconds": ()}
        starts = warm_up.add_start(current.start_seconds, taken) if taken else current.start_seconds
        suggested = warm_up.suggest(starts, SERVICES[spec.type].default_warm_up)
        applied = warm_up.effective(snapshot.policy.warm_up, suggested, snapshot.timeline, snapshot.now)
        return {"warm_up": format_duration(applied), "start_seconds": starts}

    def _due_since(self, snapshot: ResourceSnapshot) -> str:
        """Return since when starts or stops are due, to the second; empty if they never wait for others."""
        if not snapshot.policy.may_act or not self._neighbours.has_any(snapshot):
            return ""
        return format_second(self._trigger(snapshot).due_since)

    def _automatic_restarts(self, snapshot: ResourceSnapshot) -> tuple[AutomaticRestart, ...]:
        """Return when the cloud starts stopped instances by itself. Only `unbooked: Leave` depends on it."""
        current: ResourceStatus = self._reporter.current(snapshot.resource)
        if snapshot.policy.unbooked is power.UnbookedPolicy.STOP:
            return ()
        if snapshot.observation is None:
            return current.automatic_restarts
        restarts = power.coming_restarts(snapshot.observation, current.restarts)
        return tuple(AutomaticRestart(id_, format_utc(restarts[id_])) for id_ in sorted(restarts))

    def _report(self, snapshot: ResourceSnapshot, plan: Plan, failure: Failure | None) -> None:
        observation, holder, marks = snapshot.observation, snapshot.state.holder, snapshot.lock_tag_changes
        delay = self._delays.get(key_of(snapshot.resource))
        off_at = min(snapshot.off_at.values(), default=None)
        outcome = ResourceReport(snapshot.state, observation, plan, failure, snapshot.warning, delay, off_at)
        verdicts = conditions.resource_conditions(
            snapshot.group.tag, snapshot.group.place, snapshot.policy, outcome
        )
        current: ResourceStatus = self._reporter.current(snapshot.resource)
        if current.next_change_at != format_utc(snapshot.state.next_change_at):
            self._delays.update_soon()
        counted = snapshot.with_counts(current)
        news = self._reporter.report(
            snapshot.resource,
            verdicts,
            snapshot.now,
            instances=counted.instances,
            running=counted.running,
            status=counted.status,
            locked_by=holder.user_id if holder else "",
            locked_until=format_utc(holder.end_at) if holder else "",
            next_change_at=format_utc(snapshot.state.next_change_at),
            due_since=self._due_since(snapshot),
            started=tuple(sorted(plan.started)),
            automatic_restarts=self._automatic_restarts(snapshot),
            unbooked=tuple(
                UnbookedInstance(id_, format_utc(since))
                for id_, since in sorted(snapshot.unbooked_since.items())
            ),
            **self._warm_up_status(snapshot),
            locks=to_lock_tags(marks.remembered) if marks.write else current.locks,
        )
        for item in news:
            if failure is not None and item.reason == failure.reason:
                self._orders.report_on_booking(
                    snapshot.resource, holder, self._events.warning, item.reason, item.message
                )


def _own_boundaries(snapshot: ResourceSnapshot) -> tuple[Hashable, ...]:
    """Return the fields of the spec that set boundaries, so that an edit of them changes the policy."""
    spec = snapshot.resource.spec
    if isinstance(spec, InvalidSpec):
        return ()
    return spec.suspend_until, spec.stop_at, spec.time_zone, spec.unbooked_for


def _needs_backoff(failure: Failure | None, now: datetime) -> bool:
    """Whether the back-off of the work queue decides when to retry: nothing else has a later time for it."""
    if failure is None or failure.in_request_queue:
        return False
    return failure.retry_at is None or failure.retry_at <= now
