"""Reconciles Resources: decides power from the bookings and has the cloud driver carry it out.

The order within one reconcile is what the product is about. A start that the bookings ask for leaves first,
on the view of the instances that is at hand. Only then is a fresh view awaited where one is needed, above all
for a stop. What users read, status and Events, comes last and is written by others.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import Resource, ResourceStatus
from booking_operator.cloud.driver import Accepted, CloudError
from booking_operator.domain import power, report, timeline
from booking_operator.domain.booking import Booking as Claim
from booking_operator.domain.instance import State
from booking_operator.domain.power import Plan
from booking_operator.domain.report import Failure, Outcome, utc
from booking_operator.domain.timeline import Cause
from booking_operator.engine.clock import Clock
from booking_operator.engine.queue import Result
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.caches import Caches
from booking_operator.reconcilers.keeper import LockKeeper
from booking_operator.reconcilers.ports import Drivers, Events, Status, Tell, Trust
from booking_operator.reconcilers.reporter import Reporter
from booking_operator.reconcilers.scene import Scene, look, obstacle, shown

OBSERVE_PATIENCE_SECONDS = 10.0
"""How long a fresh view is awaited. A Resource's other business, a new booking, must not wait longer."""
MEMORY_PATIENCE_SECONDS = 2.0
"""How long a start under `unbooked: Leave` waits for its memory to be written. A start needs the booking
alone: without the memory the instances merely stay up later."""


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
        clock: Clock,
        *,
        dry_run: bool = False,
    ) -> None:
        self._caches = caches
        self._drivers = drivers
        self._reporter = Reporter(RESOURCE, status, events)
        self._keeper = keeper
        self._events = events
        self._trust = trust
        self._clock = clock
        self._dry_run = dry_run
        self._causes: dict[Key, Cause] = {}

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one Resource. A deleted one is released: its instances stay as they are."""
        scene = self._look(key)
        if scene is None:
            self._causes.pop(key, None)
            self._keeper.check(key, None)
            return Result()
        failure = await self._start(scene)
        if failure is None and not self._fresh(scene):
            failure = await self._observe(scene)
            scene = self._look(key)
            if scene is None:
                return Result()
            failure = failure or await self._start(scene)
        doubt = ""
        if failure is None:
            doubt, failure = await self._stop(scene)
        plan = self._decide(scene, doubt)
        self._report(scene, plan, failure or scene.trouble or self._keeper.failures.get(key))
        self._keeper.check(key, scene)
        return Result(scene.wake_at(), failed=failure is not None or bool(plan.withheld))

    def _look(self, key: Key) -> Scene | None:
        """The Resource as it stands now; None when there is nothing to act on, which is reported."""
        resource = self._caches.resources.get(key)
        if resource is None or resource.metadata.deletion_timestamp is not None:
            return None
        now = self._clock.now()
        status = self._reporter.current(resource)
        scene = look(self._caches, self._drivers, resource, status, now, dry_run=self._dry_run)
        if scene is not None:
            self._causes[key] = timeline.cause(self._causes.get(key), scene.seen, now, basis=scene.policy)
        elif why := obstacle(self._caches, resource):
            self._reporter.refuse(resource, *why, now)
        return scene

    def _cause(self, scene: Scene) -> Cause:
        return self._causes[key_of(scene.resource)]

    def _fresh(self, scene: Scene) -> bool:
        """Whether the view at hand is young enough to back any decision."""
        observation = scene.driver.last(scene.group)
        return observation is not None and observation.at >= self._cause(scene).since

    def _decide(self, scene: Scene, doubt: str = "") -> Plan:
        current: ResourceStatus = self._reporter.current(scene.resource)
        return power.decide(
            scene.policy,
            scene.seen,
            scene.observation,
            started=frozenset(current.started),
            since=self._cause(scene).since,
            doubt=doubt or self._trust.doubt(),
        )

    async def _start(self, scene: Scene) -> Failure | None:
        plan = self._decide(scene)
        if not plan.start or not scene.policy.acts:
            return None
        await self._remember(scene, plan)
        holder = scene.seen.holder
        deadline = holder.wanted_from(scene.policy.warm_up) if holder else scene.now
        accepted = scene.driver.start(scene.group, plan.start, deadline=deadline)
        return await self._settle(scene, accepted, "Started", scene.seen.holder)

    async def _stop(self, scene: Scene) -> tuple[str, Failure | None]:
        """Stop what the plan says; also why it did not, where there is a doubt."""
        plan = self._decide(scene)
        if not plan.stop or not scene.policy.acts:
            return plan.doubt, None
        if not self._cause(scene).planned and (doubt := await self._trust.confirm()):
            return doubt, None
        scene = self._look(key_of(scene.resource)) or scene
        plan = self._decide(scene)
        if not plan.stop:
            return plan.doubt, None
        released = scene.seen.released
        accepted = scene.driver.stop(
            scene.group,
            plan.stop,
            deadline=released.end_at if released else scene.now,
            hibernate=scene.policy.hibernate,
        )
        return "", await self._settle(scene, accepted, "Stopped", released)

    async def _observe(self, scene: Scene) -> Failure | None:
        """Wait for a fresh view, but never into a boundary: what is due then leaves on the view at hand."""
        boundary, patience = scene.seen.next_change_at, OBSERVE_PATIENCE_SECONDS
        if boundary is not None:
            patience = min(patience, (boundary - scene.now).total_seconds())
        try:
            async with asyncio.timeout(patience):
                await scene.driver.refresh(scene.group.scope, self._cause(scene).since)
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
        if started == current.started:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(MEMORY_PATIENCE_SECONDS):
                await self._reporter.status.write(scene.resource, replace(current, started=started))

    async def _settle(
        self, scene: Scene, accepted: Accepted, verb: str, claim: Claim | None
    ) -> Failure | None:
        """Wait for the answer for each instance; tell what was done, and return the first failure."""
        await asyncio.wait(accepted.values())
        errors = {id_: future.exception() for id_, future in accepted.items()}
        done = [id_ for id_, error in errors.items() if error is None]
        if done:
            whom = f" for {claim.user_id}" if claim and verb == "Started" else ""
            note = f"{verb} {report.listed(done)}{whom}."
            self._events.normal(RESOURCE, scene.resource, verb, verb, note)
            self._tell_booking(scene, claim, self._events.normal, verb, note)
        failed = {id_: error for id_, error in errors.items() if error is not None}
        if not failed:
            return None
        first = next(iter(failed.values()))
        if not isinstance(first, CloudError):
            raise first
        return Failure(first.reason, f"{report.listed(list(failed))}: {first}")

    def _tell_booking(self, scene: Scene, claim: Claim | None, tell: Tell, reason: str, note: str) -> None:
        if claim is None or not claim.name:
            return
        booking = self._caches.bookings.get(Key(scene.resource.metadata.namespace, claim.name))
        if booking is not None:
            tell(BOOKING, booking, reason, reason, note)

    def _report(self, scene: Scene, plan: Plan, failure: Failure | None) -> None:
        observation, holder, marks = scene.observation, scene.seen.holder, scene.marks
        outcome = Outcome(scene.seen, observation, plan, failure, scene.remark)
        verdicts = report.resource_conditions(scene.group.tag, scene.group.place, scene.policy, outcome)
        current: ResourceStatus = self._reporter.current(scene.resource)
        news = self._reporter.report(
            scene.resource,
            verdicts,
            scene.now,
            instances=len(observation.instances) if observation else current.instances,
            running=observation.count(State.RUNNING) if observation else current.running,
            status=report.power_status(observation) or current.status,
            locked_by=holder.user_id if holder else "",
            locked_until=utc(holder.end_at) if holder else "",
            next_change_at=utc(scene.seen.next_change_at),
            started=tuple(sorted(plan.started)),
            locks=shown(marks.memory) if marks.write else current.locks,
        )
        for item in news:
            if failure is not None and item.reason == failure.reason:
                self._tell_booking(scene, holder, self._events.warning, item.reason, item.message)
