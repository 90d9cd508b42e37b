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
from booking_operator.api.meta import Garbled
from booking_operator.api.resource import FALLBACKS, Resource, ResourceStatus
from booking_operator.cloud.driver import Action, CloudError
from booking_operator.domain import conditions, decision_trigger, power, warm_up
from booking_operator.domain.conditions import Failure, Outcome, utc
from booking_operator.domain.decision_trigger import LEAD, Cause
from booking_operator.domain.delay import shown as shown_duration
from booking_operator.domain.power import Plan
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result
from booking_operator.reconcilers.confirmation import confirmed
from booking_operator.reconcilers.delays import Delays
from booking_operator.reconcilers.informers import Caches
from booking_operator.reconcilers.lock_tags import LockKeeper
from booking_operator.reconcilers.ports import Drivers, Events, Status, Trust
from booking_operator.reconcilers.resource.dispatch import Dispatcher, Wish
from booking_operator.reconcilers.resource.orders import joined
from booking_operator.reconcilers.resource.snapshot import Scene, look, obstacle, shown
from booking_operator.reconcilers.resource.start_times import StartTimes
from booking_operator.reconcilers.status_reporter import Reporter

PATIENCE_SECONDS = 10.0
"""How long a fresh view is awaited, or a confirmation. A Resource's other business, a new booking, must not
wait longer."""
MEMORY_PATIENCE_SECONDS = 2.0
"""How long a start under `unbooked: Leave` waits for its memory to be written. A start needs the booking
alone: without the memory the instances merely stay up later."""
RETRY_SECONDS = 0.25
"""Between two tries to get a view right after a take-over, when each moment makes the starts late."""
WAITING = timedelta(seconds=15)
"""How often a Resource is looked at while its order waits for its turn."""


class ResourceReconciler:
    """Brings the instances of one Resource to what its bookings want, and says how that goes."""

    def __init__(
        self,
        caches: Caches,
        drivers: Drivers,
        status: Status[Resource],
        events: Events,
        trust: Trust,
        keeper: LockKeeper,
        dispatcher: Dispatcher,
        clock: Clock,
        *,
        dry_run: bool = False,
        delays: Delays,
        starts: StartTimes,
        took_over_at: datetime,
    ) -> None:
        self._caches = caches
        self._drivers = drivers
        self._reporter = Reporter(RESOURCE, status, events)
        self._keeper = keeper
        self._dispatcher = dispatcher
        self._events = events
        self._trust = trust
        self._clock = clock
        self._dry_run = dry_run
        self._delays = delays
        self._starts = starts
        self._took_over_at = took_over_at
        self._causes: dict[Key, Cause] = {}

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {"causes": self._causes.keys()}

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one Resource. A deleted one is released: its instances stay as they are."""
        scene = self._look(key)
        if scene is not None and (until := self._start_waits_until(scene)) is not None:
            await self._view_since_take_over(scene, until)
            scene = self._look(key)
        if scene is None:
            return self._release(key)
        failure = await self._start(scene)
        if not self._fresh(scene, since := self._needed(scene)):
            blind = await self._observe(scene, since)
            scene = self._look(key)
            if scene is None:
                return self._release(key)
            failure = joined(failure, blind) or await self._start(scene)
        doubt, other = await self._stop(scene)
        failure = joined(failure, other)
        ahead = await self._announce(scene)
        plan = self.decide(scene, doubt)
        self._note_whether_met(scene, plan)
        begun = self._starts.under_way(key) if scene.seen.wanted else frozenset()
        plan = replace(plan, started=plan.started | ahead.started | begun)
        self._report(scene, plan, failure or scene.trouble or self._keeper.failures.get(key))
        self._keeper.check(key, scene)
        return self._result(scene, plan, failure)

    def _release(self, key: Key) -> Result:
        self._starts.forget(key)
        self._causes.pop(key, None)
        self._dispatcher.withdraw(key)
        self._dispatcher.punctuality.forget(key)
        self._keeper.check(key, None)
        return Result()

    def _result(self, scene: Scene, plan: Plan, failure: Failure | None) -> Result:
        """When to look again; what waits for its turn is looked after, since its prospects may change."""
        settled = power.settled_at(plan.started, scene.policy, scene.seen, self._cause(scene).since)
        key, now = key_of(scene.resource), self._clock.now()
        settled = settled if settled is None or settled > now else None
        instants = [scene.wake_at(), failure.retry_at if failure else None, settled]
        delay = self._delays.get(key)
        if waiting := self._dispatcher.waiting(key):
            instants.append(now + WAITING)
        if waiting or (delay is not None and delay.at <= now):
            self._delays.look_soon()
        next_at = min((instant for instant in instants if instant is not None), default=None)
        unknown = failure is not None and (failure.retry_at is None or failure.retry_at <= now)
        return Result(next_at, failed=unknown or bool(plan.withheld))

    def _look(self, key: Key) -> Scene | None:
        """The Resource as it stands now; None when there is nothing to act on, which is reported."""
        resource = self._caches.resources.get(key)
        if resource is None or resource.metadata.deletion_timestamp is not None:
            return None
        now = self._clock.now()
        status = self._reporter.current(resource)
        scene = look(self._caches, self._drivers, resource, status, now, dry_run=self._dry_run)
        if scene is not None:
            self._causes[key] = self.follow_cause(self._causes.get(key), scene)
            coming = scene.seen.next_change_at
            self._dispatcher.punctuality.foresee(key, coming, now, remembered=status.next_change)
        elif why := obstacle(self._caches, resource):
            self._reporter.refuse(resource, *why, now)
        return scene

    def follow_cause(self, previous: Cause | None, scene: Scene) -> Cause:
        """Why power is wanted as it is, given why it was when the Resource was looked at last."""
        return decision_trigger.cause(previous, scene.seen, scene.now, basis=scene.policy)

    def _cause(self, scene: Scene) -> Cause:
        return self._causes[key_of(scene.resource)]

    def _needed(self, scene: Scene) -> datetime:
        """What a view must not be older than, to back any decision."""
        since, current = self._cause(scene).since, self._reporter.current(scene.resource)
        settled = power.settled_at(current.started, scene.policy, scene.seen, since)
        return since if settled is None or settled > scene.now else settled

    def _fresh(self, scene: Scene, since: datetime | None = None) -> bool:
        """Whether the view at hand is young enough: not older than `since`, or the cause of it all."""
        observation = scene.driver.last(scene.group)
        return observation is not None and observation.at >= (since or self._cause(scene).since)

    def _note_whether_met(self, scene: Scene, plan: Plan) -> None:
        """Whether what the last boundary asked for is done, as far as it can be, or not wanted."""
        done = self._fresh(scene) and not (plan.acts or plan.withheld or plan.moving)
        if done or not scene.policy.acts:
            self._dispatcher.punctuality.met(key_of(scene.resource))

    def decide(self, scene: Scene, doubt: str = "") -> Plan:
        """What is to be started and stopped, by the bookings and the view at hand.

        `doubt` is why the bookings may be incomplete, where the caller knows more than the caches do.
        """
        current: ResourceStatus = self._reporter.current(scene.resource)
        return power.decide(
            scene.policy,
            scene.seen,
            scene.observation,
            started=frozenset(current.started),
            since=self._cause(scene).since,
            doubt=doubt or self._trust.doubt(),
        )

    def _start_waits_until(self, scene: Scene) -> datetime | None:
        """Until when what the bookings ask to start waits for a younger view; None where it does not."""
        if scene.now >= self._took_over_at + power.TAKE_OVER_TIMEOUT:
            return None  # before anything is worked out: this holds for all but the first second of a term
        holder, view = scene.seen.holder, scene.driver.last(scene.group)
        if holder is None or view is None or not (scene.policy.acts and self.decide(scene).start):
            return None
        return power.start_waits_until(
            holder.wanted_from(scene.policy.warm_up),
            viewed_at=view.at,
            took_over_at=self._took_over_at,
            now=scene.now,
        )

    async def _view_since_take_over(self, scene: Scene, until: datetime) -> None:
        """Wait for a view that is as young as the take-over, but not beyond `until` or the next boundary."""
        left = (until - self._clock.now()).total_seconds()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, self._patience(scene))):
                while True:
                    try:
                        await scene.driver.refresh(scene.group.scope, self._took_over_at)
                    except CloudError as error:
                        if not error.retryable:
                            return
                    else:
                        return
                    await self._clock.sleep(RETRY_SECONDS)

    async def _start(self, scene: Scene) -> Failure | None:
        """Have what is to be started in order, and what is not out of it."""
        plan = self.decide(scene)
        start = plan.start if scene.policy.acts else ()
        if start:
            await self._remember(scene, plan)
        holder = scene.seen.holder
        at = holder.wanted_from(scene.policy.warm_up) if holder else scene.now
        self._dispatcher.due(scene, Wish(Action.START, start, at, holder))
        if scene.seen.wanted:
            self._dispatcher.due(scene, Wish(Action.STOP, (), scene.now, None))
        return await self._dispatcher.settled(scene)

    async def _stop(self, scene: Scene) -> tuple[str, Failure | None]:
        """Stop what the plan says; also why it did not, where there is a doubt."""
        plan = self.decide(scene)
        if plan.stop and scene.policy.acts:
            if not self._cause(scene).planned and (doubt := await self._confirm(scene)):
                return doubt, None
            scene = self._look(key_of(scene.resource)) or scene
            plan = self.decide(scene)
        released, stop = scene.seen.released, plan.stop if scene.policy.acts else ()
        at = released.end_at if released else scene.now
        self._dispatcher.due(scene, Wish(Action.STOP, stop, at, released))
        return plan.doubt, await self._dispatcher.settled(scene)

    async def _announce(self, scene: Scene) -> Plan:
        """Order ahead what the next boundary will ask for, if it is near and the view is young enough."""
        boundary, plan, then = scene.seen.next_change_at, Plan(), scene
        near = boundary is not None and boundary - LEAD <= self._clock.now() < boundary
        if boundary is not None and near and scene.policy.acts and self._fresh(scene):
            doubt = await self._confirm(scene) if self._cause(scene).shortened else ""
            then = scene.at(boundary)
            plan = self.decide(then, doubt)
            if plan.start:
                await self._remember(then, plan)
        at = boundary or scene.now
        self._dispatcher.announce(then, Wish(Action.START, plan.start, at, then.seen.holder))
        self._dispatcher.announce(then, Wish(Action.STOP, plan.stop, at, then.seen.released))
        return plan

    def _patience(self, scene: Scene) -> float:
        """How many seconds the cloud or the API server may take, never into a boundary."""
        boundary = scene.seen.next_change_at
        left = (boundary - self._clock.now()).total_seconds() if boundary else PATIENCE_SECONDS
        return min(PATIENCE_SECONDS, left)

    async def _confirm(self, scene: Scene) -> str:
        """Why bookings may be missing; what is due at the next boundary does not wait for the answer."""
        return await confirmed(self._trust, self._patience(scene))

    async def _observe(self, scene: Scene, since: datetime) -> Failure | None:
        """Wait for a fresh view; what is due at the next boundary leaves on the view at hand."""
        boundary, patience = scene.seen.next_change_at, self._patience(scene)
        try:
            async with asyncio.timeout(patience):
                await scene.driver.refresh(scene.group.scope, since)
        except CloudError as error:
            return Failure(error.reason, str(error))
        except TimeoutError:
            if boundary is None or self._clock.now() < boundary:
                return Failure("CloudSlow", f"The cloud does not answer within {patience:.0f} s.")
        return None

    async def _remember(self, scene: Scene, plan: Plan) -> None:
        """Under `unbooked: Leave`, write what is about to be started before it is."""
        current: ResourceStatus = self._reporter.current(scene.resource)
        started = tuple(sorted(plan.started))
        if scene.policy.unbooked is power.Unbooked.STOP or started == current.started:
            return
        patience = MEMORY_PATIENCE_SECONDS
        if scene.now > self._clock.now():
            patience = min(patience, (scene.now - self._clock.now()).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                status = replace(scene.counted(current), started=started)
                written = await self._reporter.status.write(scene.resource, status)
                found = self._caches.resources.get(key_of(scene.resource)) or scene.resource
                if written or found.status == scene.resource.status:
                    return
                # Overtaken, by whoever led before: what both have started is remembered.
                known: ResourceStatus = self._reporter.current(found)
                both = tuple(sorted({*known.started, *started}))
                await self._reporter.status.write(found, replace(scene.counted(known), started=both))

    def _learn(self, scene: Scene) -> dict[str, Any]:
        """The fields of the status that `warm_up: auto` goes by."""
        key, current = key_of(scene.resource), self._reporter.current(scene.resource)
        if not scene.seen.wanted:
            self._starts.forget(key)
        whole = not self._dispatcher.open_orders(key)
        taken = self._starts.arrived(key, scene.observation) if whole else None
        spec = scene.resource.spec
        if isinstance(spec, Garbled) or spec.warm_up != AUTO:
            return {"warm_up": "", "start_seconds": ()}
        starts = warm_up.remembered(current.start_seconds, taken) if taken else current.start_seconds
        suggested = warm_up.learned(starts, FALLBACKS[spec.type])
        applied = warm_up.applied(scene.policy.warm_up, suggested, scene.claims, scene.now)
        return {"warm_up": shown_duration(applied), "start_seconds": starts}

    def _report(self, scene: Scene, plan: Plan, failure: Failure | None) -> None:
        observation, holder, marks = scene.observation, scene.seen.holder, scene.marks
        delay = self._delays.get(key_of(scene.resource))
        outcome = Outcome(scene.seen, observation, plan, failure, scene.remark, delay)
        verdicts = conditions.resource_conditions(scene.group.tag, scene.group.place, scene.policy, outcome)
        current: ResourceStatus = self._reporter.current(scene.resource)
        if current.next_change_at != utc(scene.seen.next_change_at):
            self._delays.look_soon()
        counted = scene.counted(current)
        news = self._reporter.report(
            scene.resource,
            verdicts,
            scene.now,
            instances=counted.instances,
            running=counted.running,
            status=counted.status,
            locked_by=holder.user_id if holder else "",
            locked_until=utc(holder.end_at) if holder else "",
            next_change_at=utc(scene.seen.next_change_at),
            started=tuple(sorted(plan.started)),
            **self._learn(scene),
            locks=shown(marks.memory) if marks.write else current.locks,
        )
        for item in news:
            if failure is not None and item.reason == failure.reason:
                self._dispatcher.tell_booking(scene, holder, self._events.warning, item.reason, item.message)
