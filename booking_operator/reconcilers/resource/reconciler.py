"""Reconciles Resources: decides power from the bookings and has the cloud driver carry it out.

The order within one reconcile is what the product is about. A start that the bookings ask for leaves first,
on the view of the instances that is at hand; right after a take-over an overdue start waits for a fresh view,
for a second at most. Only then is a fresh view awaited where one is needed, above all for a stop. Shortly
before a boundary what it will ask for is ordered ahead, so that it leaves at the boundary itself, by one call
with all others that are due then. What users read, status and Events, comes last and is written by others.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from booking_operator.api.fields import AUTO
from booking_operator.api.kinds import RESOURCE
from booking_operator.api.meta import InvalidSpec
from booking_operator.api.resource import DEFAULT_WARM_UPS, ResourceStatus
from booking_operator.cloud.driver import Action, CloudError
from booking_operator.domain import conditions, decision_trigger, power, warm_up
from booking_operator.domain.conditions import Failure, ResourceReport
from booking_operator.domain.decision_trigger import LEAD_TIME, DecisionTrigger
from booking_operator.domain.formatting import format_duration, format_utc
from booking_operator.domain.power import Plan
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result
from booking_operator.reconcilers.delays import DelayController
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.lock_tags import LockTagsReconciler
from booking_operator.reconcilers.resource.orders import ResourceOrders, first_failure
from booking_operator.reconcilers.resource.snapshot import (
    ResourceSnapshot,
    invalid_reason,
    take_snapshot,
    to_lock_tags,
)
from booking_operator.reconcilers.status_reporter import StatusReporter

REFRESH_TIMEOUT_SECONDS = 10.0
"""How long a fresh view is awaited, or a confirmation. A Resource's other business, a new booking, must not
wait longer."""
STARTED_WRITE_TIMEOUT_SECONDS = 2.0
"""How long a start under `unbooked: Leave` waits for its memory to be written. A start needs the booking
alone: without the memory the instances merely stay up later."""
RETRY_SECONDS = 0.25
"""Between two tries to get a view right after a take-over, when each moment makes the starts late."""
QUEUED_CHECK_INTERVAL = timedelta(seconds=15)
"""How often a Resource is looked at while its order waits for its turn."""


class ResourceReconciler:
    """Brings the instances of one Resource to what its bookings want, and says how that goes."""

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

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {"triggers": self._triggers.keys()}

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one Resource. A deleted one is released: its instances stay as they are."""
        snapshot = self._take_snapshot(key)
        if snapshot is not None and (until := self._start_waits_until(snapshot)) is not None:
            await self._view_since_take_over(snapshot, until)
            snapshot = self._take_snapshot(key)
        if snapshot is None:
            return self._release(key)
        failure = await self._start(snapshot)
        if not self._fresh(snapshot, since := self._needed(snapshot)):
            blind = await self._refresh(snapshot, since)
            snapshot = self._take_snapshot(key)
            if snapshot is None:
                return self._release(key)
            failure = first_failure(failure, blind) or await self._start(snapshot)
        stale_reason, other = await self._stop(snapshot)
        failure = first_failure(failure, other)
        ahead = await self._order_ahead(snapshot)
        plan = self.decide(snapshot, stale_reason)
        self._note_whether_met(snapshot, plan)
        begun = self._orders.starting(key) if snapshot.state.running_wanted else frozenset()
        plan = replace(plan, started=plan.started | ahead.started | begun)
        self._report(snapshot, plan, failure or snapshot.failure or self._lock_tags.failures.get(key))
        self._lock_tags.enqueue_if_needed(key, snapshot)
        return self._result(snapshot, plan, failure)

    def _release(self, key: Key) -> Result:
        self._triggers.pop(key, None)
        self._orders.release(key)
        self._lock_tags.enqueue_if_needed(key, None)
        return Result()

    def _result(self, snapshot: ResourceSnapshot, plan: Plan, failure: Failure | None) -> Result:
        """When to look again; what waits for its turn is looked after, since its prospects may change."""
        settled = power.settled_after(
            plan.started, snapshot.policy, snapshot.state, self._trigger(snapshot).observed_since
        )
        key, now = key_of(snapshot.resource), self._clock.now()
        settled = settled if settled is None or settled > now else None
        instants = [snapshot.wake_at(), failure.retry_at if failure else None, settled]
        delay = self._delays.get(key)
        if waiting := self._orders.waiting(key):
            instants.append(now + QUEUED_CHECK_INTERVAL)
        if waiting or (delay is not None and delay.due_at <= now):
            self._delays.update_soon()
        next_at = min((instant for instant in instants if instant is not None), default=None)
        unknown = failure is not None and (failure.retry_at is None or failure.retry_at <= now)
        return Result(next_at, failed=unknown or bool(plan.withheld))

    def _take_snapshot(self, key: Key) -> ResourceSnapshot | None:
        """The Resource as it stands now; None when there is nothing to act on, which is reported."""
        resource = self._informers.resources.get(key)
        if resource is None or resource.metadata.deletion_timestamp is not None:
            return None
        now = self._clock.now()
        status = self._reporter.current(resource)
        snapshot = take_snapshot(self._environment, resource, now)
        if snapshot is not None:
            self._triggers[key] = self.follow_cause(self._triggers.get(key), snapshot)
            coming = snapshot.state.next_change_at
            self._orders.expect_change(key, coming, status.next_change)
        elif why := invalid_reason(self._informers, resource):
            self._reporter.report_invalid(resource, *why, now)
        return snapshot

    def follow_cause(self, previous: DecisionTrigger | None, snapshot: ResourceSnapshot) -> DecisionTrigger:
        """Why power is wanted as it is, given why it was when the Resource was looked at last."""
        return decision_trigger.next_trigger(previous, snapshot.state, snapshot.now, basis=snapshot.policy)

    def _trigger(self, snapshot: ResourceSnapshot) -> DecisionTrigger:
        return self._triggers[key_of(snapshot.resource)]

    def _needed(self, snapshot: ResourceSnapshot) -> datetime:
        """What a view must not be older than, to back any decision."""
        since, current = self._trigger(snapshot).observed_since, self._reporter.current(snapshot.resource)
        settled = power.settled_after(current.started, snapshot.policy, snapshot.state, since)
        return since if settled is None or settled > snapshot.now else settled

    def _fresh(self, snapshot: ResourceSnapshot, since: datetime | None = None) -> bool:
        """Whether the view at hand is young enough: not older than `since`, or the cause of it all."""
        observation = snapshot.driver.inventory.observation(snapshot.group)
        return observation is not None and observation.at >= (since or self._trigger(snapshot).observed_since)

    def _note_whether_met(self, snapshot: ResourceSnapshot, plan: Plan) -> None:
        """Whether what the last boundary asked for is done, as far as it can be, or not wanted."""
        done = self._fresh(snapshot) and not (plan.has_actions or plan.withheld or plan.in_transition)
        if done or not snapshot.policy.may_act:
            self._orders.as_booked(key_of(snapshot.resource))

    def decide(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        """What is to be started and stopped, by the bookings and the view at hand.

        `stale_reason` is why the bookings may be incomplete, where the caller knows more than the caches do.
        """
        current: ResourceStatus = self._reporter.current(snapshot.resource)
        return power.decide(
            snapshot.policy,
            snapshot.state,
            snapshot.observation,
            started=frozenset(current.started),
            observed_since=self._trigger(snapshot).observed_since,
            stale_reason=stale_reason or self._consistency.stale_reason(),
        )

    def _start_waits_until(self, snapshot: ResourceSnapshot) -> datetime | None:
        """Until when what the bookings ask to start waits for a younger view; None where it does not."""
        if snapshot.now >= self._took_over_at + power.TAKE_OVER_TIMEOUT:
            return None  # before anything is worked out: this holds after the first second of a leadership
        holder, view = snapshot.state.holder, snapshot.driver.inventory.observation(snapshot.group)
        if holder is None or view is None or not (snapshot.policy.may_act and self.decide(snapshot).start):
            return None
        return power.start_waits_until(
            holder.power_on_at(snapshot.policy.warm_up),
            viewed_at=view.at,
            took_over_at=self._took_over_at,
            now=snapshot.now,
        )

    async def _view_since_take_over(self, snapshot: ResourceSnapshot, until: datetime) -> None:
        """Wait for a view that is as young as the take-over, but not beyond `until` or the next boundary."""
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

    async def _start(self, snapshot: ResourceSnapshot) -> Failure | None:
        """Have what is to be started in order, and what is not out of it."""
        plan = self.decide(snapshot)
        start = plan.start if snapshot.policy.may_act else ()
        if start:
            await self._record_started(snapshot, plan)
        holder = snapshot.state.holder
        at = holder.power_on_at(snapshot.policy.warm_up) if holder else snapshot.now
        self._orders.place(snapshot, Action.START, start, at, holder)
        if snapshot.state.running_wanted:
            self._orders.place(snapshot, Action.STOP, (), snapshot.now, None)
        return await self._orders.settle(snapshot)

    async def _stop(self, snapshot: ResourceSnapshot) -> tuple[str, Failure | None]:
        """Stop what the plan says; return why it did not, where data is stale."""
        plan = self.decide(snapshot)
        if plan.stop and snapshot.policy.may_act:
            if not self._trigger(snapshot).planned and (stale_reason := await self._confirm(snapshot)):
                return stale_reason, None
            snapshot = self._take_snapshot(key_of(snapshot.resource)) or snapshot
            plan = self.decide(snapshot)
        released, stop = snapshot.state.last_ended, plan.stop if snapshot.policy.may_act else ()
        at = released.end_at if released else snapshot.now
        self._orders.place(snapshot, Action.STOP, stop, at, released)
        return plan.stale_reason, await self._orders.settle(snapshot)

    async def _order_ahead(self, snapshot: ResourceSnapshot) -> Plan:
        """Order ahead what the next boundary will ask for, if it is near and the view is young enough."""
        boundary, plan, then = snapshot.state.next_change_at, Plan(), snapshot
        near = boundary is not None and boundary - LEAD_TIME <= self._clock.now() < boundary
        if boundary is not None and near and snapshot.policy.may_act and self._fresh(snapshot):
            stale_reason = await self._confirm(snapshot) if self._trigger(snapshot).brought_forward else ""
            then = snapshot.at(boundary)
            plan = self.decide(then, stale_reason)
            if plan.start:
                await self._record_started(then, plan)
        at = boundary or snapshot.now
        self._orders.place(then, Action.START, plan.start, at, then.state.holder, ahead=True)
        self._orders.place(then, Action.STOP, plan.stop, at, then.state.last_ended, ahead=True)
        return plan

    def _time_budget(self, snapshot: ResourceSnapshot) -> float:
        """How many seconds the cloud or the API server may take, never into a boundary."""
        boundary = snapshot.state.next_change_at
        left = (boundary - self._clock.now()).total_seconds() if boundary else REFRESH_TIMEOUT_SECONDS
        return min(REFRESH_TIMEOUT_SECONDS, left)

    async def _confirm(self, snapshot: ResourceSnapshot) -> str:
        """Why bookings may be missing; what is due at the next boundary does not wait for the answer."""
        return await self._consistency.confirm_within(self._time_budget(snapshot))

    async def _refresh(self, snapshot: ResourceSnapshot, since: datetime) -> Failure | None:
        """Wait for a fresh view; what is due at the next boundary leaves on the view at hand."""
        boundary, timeout = snapshot.state.next_change_at, self._time_budget(snapshot)
        try:
            async with asyncio.timeout(timeout):
                await snapshot.driver.inventory.refresh(snapshot.group.scope, since)
        except CloudError as error:
            return Failure(error.reason, str(error))
        except TimeoutError:
            if boundary is None or self._clock.now() < boundary:
                return Failure("CloudSlow", f"The cloud does not answer within {timeout:.0f} s.")
        return None

    async def _record_started(self, snapshot: ResourceSnapshot, plan: Plan) -> None:
        """Under `unbooked: Leave`, write what is about to be started before it is."""
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
                # The leader before has written meanwhile: what both have started is remembered.
                known: ResourceStatus = self._reporter.current(found)
                both = tuple(sorted({*known.started, *started}))
                await self._reporter.status.write(found, replace(snapshot.with_counts(known), started=both))

    def _warm_up_status(self, snapshot: ResourceSnapshot) -> dict[str, Any]:
        """The fields of the status that `warm_up: auto` goes by."""
        key, current = key_of(snapshot.resource), self._reporter.current(snapshot.resource)
        if not snapshot.state.running_wanted:
            self._orders.forget_start(key)
        whole = not self._orders.open_orders(key)
        taken = self._orders.complete_start(key, snapshot.observation) if whole else None
        spec = snapshot.resource.spec
        if isinstance(spec, InvalidSpec) or spec.warm_up != AUTO:
            return {"warm_up": "", "start_seconds": ()}
        starts = warm_up.add_start(current.start_seconds, taken) if taken else current.start_seconds
        suggested = warm_up.suggest(starts, DEFAULT_WARM_UPS[spec.type])
        applied = warm_up.effective(snapshot.policy.warm_up, suggested, snapshot.timeline, snapshot.now)
        return {"warm_up": format_duration(applied), "start_seconds": starts}

    def _report(self, snapshot: ResourceSnapshot, plan: Plan, failure: Failure | None) -> None:
        observation, holder, marks = snapshot.observation, snapshot.state.holder, snapshot.lock_tag_changes
        delay = self._delays.get(key_of(snapshot.resource))
        outcome = ResourceReport(snapshot.state, observation, plan, failure, snapshot.warning, delay)
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
            started=tuple(sorted(plan.started)),
            **self._warm_up_status(snapshot),
            locks=to_lock_tags(marks.remembered) if marks.write else current.locks,
        )
        for item in news:
            if failure is not None and item.reason == failure.reason:
                self._orders.report_on_booking(
                    snapshot.resource, holder, self._events.warning, item.reason, item.message
                )
