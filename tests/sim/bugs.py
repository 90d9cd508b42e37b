"""Known mistakes of this operator and of other controllers, as subclasses that a `build.Build` can use.

Each class overrides public methods only.
"""

import asyncio
import json
from asyncio import Future
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any

from typing_extensions import override

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import KINDS
from booking_operator.api.resource import Resource, ResourceSpec
from booking_operator.cloud.aws.scalable_targets import ACTIVITIES
from booking_operator.cloud.batching.batcher import Batcher
from booking_operator.cloud.batching.request_queue import RequestQueue
from booking_operator.cloud.batching.token_bucket import BucketLimit, RequestLimits
from booking_operator.cloud.driver import Demand, Order, always
from booking_operator.cloud.service import Driver
from booking_operator.domain.acceptance import Decision
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline, TimelineState
from booking_operator.domain.capacity import CAPACITY_TAG
from booking_operator.domain.decision_trigger import LEAD_TIME, DecisionTrigger, Reported
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import InstanceState, Lock
from booking_operator.domain.notification import Notification, NotificationTrigger
from booking_operator.domain.power import GraceReason, Plan, Wait
from booking_operator.domain.usage import Booked, to_second
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.engine.leader_election import LeaseTiming
from booking_operator.engine.store import Key, Origin, Store, key_of
from booking_operator.engine.workqueue import Backoff, Priority, Result, WorkQueue
from booking_operator.kube.errors import ApiError
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.informers import Informers, Placement
from booking_operator.reconcilers.lock_tags import LockTagsReconciler
from booking_operator.reconcilers.requirements import Closure
from booking_operator.reconcilers.resource.reconciler import ResourceReconciler
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot
from tests.sim.client import SimKubeClient
from tests.sim.kube import Request
from tests.sim.mailbox import SimChannel
from tests.sim.sessions import SimSessions, Written
from tests.support.usage_integration import Rebooked, TracedMeter

STALE_SECONDS = 20.0
_COLLECTIONS = frozenset(kind.path() for kind in KINDS)
_CRDS = "/customresourcedefinitions/"
_CONFLICT = 409
_FAR = datetime(2100, 1, 1, tzinfo=UTC)
_PLENTY = BucketLimit(1e6, 1e6)


# The leader election and the request limits.


class RenewsTooLong(LeaseTiming):
    """RenewDeadline is three times LeaseDuration, so that two replicas can lead."""

    @property
    @override
    def renew_deadline(self) -> timedelta:
        return self.lease_duration * 3


def unlimited(_: Scope, __: str) -> RequestLimits:
    """Return limits that allow every call."""
    return RequestLimits(_PLENTY, _PLENTY)


# The client of the API server.


def _is_first_page(request: Request) -> bool:
    """Whether a request is for the first page of a list of one of the operator's kinds."""
    return request.method == "GET" and request.path in _COLLECTIONS and "continue" not in request.query


def _is_status_write(request: Request) -> bool:
    """Whether a request writes the status of a Resource."""
    return "/resources/" in request.path and request.path.endswith("/status")


def _with_status(request: Request, **fields: Any) -> Request:
    """Return the request with other status fields."""
    body = request.body or {}
    return replace(request, body={**body, "status": {**body["status"], **fields}})


class _StaleLists(SimKubeClient):
    """Some lists come from a stale cache of the API server. The watches after such a list are stale too."""

    @cached_property
    def listed_paths(self) -> set[str]:
        """Paths of which a first page was requested."""
        return set()

    @cached_property
    def stale_paths(self) -> set[str]:
        """Paths whose last list was stale."""
        return set()

    def is_stale(self, *, first: bool) -> bool:
        """Whether a list is stale; `first` says whether it is the first list of its path."""
        raise NotImplementedError

    @override
    async def send(self, request: Request) -> bytes:
        path = request.path
        if _is_first_page(request):
            stale = self.is_stale(first=path not in self.listed_paths)
            self.listed_paths.add(path)
            (self.stale_paths.add if stale else self.stale_paths.discard)(path)
            if stale:
                request = replace(request, query={**request.query, "resourceVersion": "0"})
        return await super().send(request)

    @override
    @asynccontextmanager
    async def watch(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        if request.path in self.stale_paths:
            await asyncio.sleep(STALE_SECONDS)
        async with super().watch(request) as lines:
            yield lines


class FirstListIsStale(_StaleLists):
    """Only the first list of each kind is stale."""

    @override
    def is_stale(self, *, first: bool) -> bool:
        return first


class LaterListsAreStale(_StaleLists):
    """Each list except the first is stale, so that a relist goes back in time."""

    @override
    def is_stale(self, *, first: bool) -> bool:
        return not first


class MissesEvents(SimKubeClient):
    """A watch starts at the newest resourceVersion. It misses the events since the list."""

    @override
    @asynccontextmanager
    async def watch(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        newest = {"resourceVersion": str(self.kube.storage.version)}
        async with super().watch(replace(request, query={**request.query, **newest})) as lines:
            yield lines


class CachesCrd(SimKubeClient):
    """The client caches the first CRD that it reads, and never notices a deletion."""

    first = b""

    @override
    async def send(self, request: Request) -> bytes:
        if _CRDS not in request.path:
            return await super().send(request)
        self.first = self.first or await super().send(request)
        return self.first


class HidesNewCrd(SimKubeClient):
    """Each CRD has the uid of the first CRD, so that a recreated CRD looks like the old one."""

    uid = ""

    @override
    async def send(self, request: Request) -> bytes:
        answer = await super().send(request)
        if _CRDS not in request.path:
            return answer
        found = json.loads(answer)
        self.uid = found["metadata"]["uid"] = self.uid or found["metadata"]["uid"]
        return json.dumps(found).encode()


class ConflictMeansExists(SimKubeClient):
    """Each 409 of a create request has the reason AlreadyExists, also that of an exceeded quota."""

    @override
    async def send(self, request: Request) -> bytes:
        try:
            return await super().send(request)
        except ApiError as error:
            if request.method == "POST" and error.status == _CONFLICT:
                raise ApiError(error.status, str(error), reason="AlreadyExists") from error
            raise


class FirstStatusCountsNothing(SimKubeClient):
    """The first status that a process writes for a Resource counts no instances."""

    @cached_property
    def written_paths(self) -> set[str]:
        """Paths of the statuses that were written."""
        return set()

    @override
    async def send(self, request: Request) -> bytes:
        if _is_status_write(request) and request.path not in self.written_paths:
            self.written_paths.add(request.path)
            request = _with_status(request, instances=0, running=0)
        return await super().send(request)


class ReportsOnlyTheHoldersLock(SimKubeClient):
    """The status of a Resource lists only the holder's lock, without locks whose call is in flight."""

    @override
    async def send(self, request: Request) -> bytes:
        if _is_status_write(request):
            status = (request.body or {})["status"]
            holder = {"locked_by": status["locked_by"], "locked_until": status["locked_until"]}
            request = _with_status(request, locks=[item for item in status["locks"] or () if item == holder])
        return await super().send(request)


class LeaksTasks(SimKubeClient):
    """Each list starts a task that does not end."""

    @override
    async def send(self, request: Request) -> bytes:
        if _is_first_page(request):
            asyncio.get_running_loop().create_task(asyncio.sleep(1e6), name="list")
        return await super().send(request)


# The clients of AWS.


class PendingCountsAsRunning(SimSessions):
    """The response of StartInstances reports `running` in place of `pending`."""

    @override
    async def send(self, action: str, scope: Scope, ids: Sequence[str] = (), lock: Written = None) -> Any:
        answers = await super().send(action, scope, ids, lock)
        if action != "StartInstances":
            return answers
        return {id_: (before, "running") for id_, (before, _) in answers.items()}


class ChecksAlwaysPass(SimSessions):
    """Status checks that are initializing count as passed."""

    @override
    async def send(self, action: str, scope: Scope, ids: Sequence[str] = (), lock: Written = None) -> Any:
        answers = await super().send(action, scope, ids, lock)
        return [(id_, True) for id_, _ in answers] if action == "DescribeInstanceStatus" else answers


class ForgetsSizes(SimSessions):
    """The size of a group is not written before the group is scaled down."""

    @override
    async def send(self, action: str, scope: Scope, ids: Sequence[str] = (), lock: Written = None) -> Any:
        if action == "CreateOrUpdateTags" and CAPACITY_TAG in (lock or ()):
            return None
        return await super().send(action, scope, ids, lock)


class NeverResumesScaling(SimSessions):
    """The scaling of a service stays suspended after a start."""

    @override
    async def send(self, action: str, scope: Scope, ids: Sequence[str] = (), lock: Written = None) -> Any:
        if action == "RegisterScalableTarget" and lock != " ".join(ACTIVITIES):
            return None
        return await super().send(action, scope, ids, lock)


class LosesMessages(SimChannel):
    """Messages that a booking has ended count as delivered, but nobody gets them."""

    @override
    async def deliver(self, notification: Notification, recipient: str) -> None:
        if notification.trigger is not NotificationTrigger.ENDED:
            await super().deliver(notification, recipient)


# The batcher of a cloud service.


class ForwardingBatcher(Batcher):
    """Forwards each call to the batcher of a driver."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    @classmethod
    def wrap(cls, driver: Driver) -> Driver:
        """Return a copy of the driver that calls this class in place of its batcher."""
        return replace(driver, batcher=cls(driver.batcher))

    @property
    @override
    def queues(self) -> Collection[RequestQueue]:
        return self._batcher.queues

    @override
    def introspect(self) -> Contents:
        return self._batcher.introspect()

    @override
    def start(self, order: Order) -> None:
        self._batcher.start(order)

    @override
    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        self._batcher.stop(order, hibernate=hibernate)

    @override
    def set_lock_tags(self, order: Order, lock: Lock | None) -> None:
        self._batcher.set_lock_tags(order, lock)

    @override
    async def expected(self, orders: Collection[Order]) -> Mapping[Order, datetime]:
        return await self._batcher.expected(orders)

    @override
    async def forecast(self, demands: Sequence[Demand]) -> Sequence[datetime]:
        return await self._batcher.forecast(demands)


class _ReplacesOrders(ForwardingBatcher):
    """Passes another order to the batcher than the one that it received."""

    def replacement(self, order: Order) -> Order:
        """Return the order for the batcher."""
        raise NotImplementedError

    @override
    def start(self, order: Order) -> None:
        super().start(self.replacement(order))

    @override
    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        super().stop(self.replacement(order), hibernate=hibernate)


class AlwaysValid(_ReplacesOrders):
    """Every order stays valid, also an order of lock tags."""

    @override
    def replacement(self, order: Order) -> Order:
        return replace(order, still_valid=always)

    @override
    def set_lock_tags(self, order: Order, lock: Lock | None) -> None:
        super().set_lock_tags(self.replacement(order), lock)


class NeverCancels(_ReplacesOrders):
    """Cancellation of an order has no effect on its calls."""

    @override
    def replacement(self, order: Order) -> Order:
        copy = _copy(order)
        for id_, future in copy.futures.items():
            future.add_done_callback(partial(_pass_on, order.futures[id_]))
        return copy


class DropsOutcomes(_ReplacesOrders):
    """An order is cancelled as soon as its copy has an outcome. The outcome, or its error, is lost."""

    @override
    def replacement(self, order: Order) -> Order:
        copy = _copy(order)
        for id_, future in copy.futures.items():
            future.add_done_callback(partial(_drop, order.futures[id_]))
        return copy


class SendsAtOnce(_ReplacesOrders):
    """An order is due `LEAD_TIME` before its deadline, and always valid."""

    @override
    def replacement(self, order: Order) -> Order:
        return replace(order, deadline=order.deadline - LEAD_TIME, still_valid=always)


def _copy(order: Order) -> Order:
    """Return a copy with futures of its own, which is always valid."""
    return Order.of(
        order.group,
        order.futures,
        order.deadline,
        tenant=order.tenant,
        on_pending_error=order.on_pending_error,
        on_accepted=order.on_accepted,
    )


def _pass_on(original: Future[InstanceState | None], future: Future[InstanceState | None]) -> None:
    """Set the outcome of a copy on the original, unless the original was cancelled."""
    if future.cancelled():
        original.cancel()
        return
    error = future.exception()
    if original.done():
        return
    if error is not None:
        original.set_exception(error)
    else:
        original.set_result(future.result())


def _drop(original: Future[InstanceState | None], _: Future[InstanceState | None]) -> None:
    """Cancel the original, whatever the outcome of the copy."""
    original.cancel()


# The work queues.


class _TracksProcessing(WorkQueue[Key]):
    """Tracks which keys are in processing.

    Attributes:
        processing: how often each key was handed out without a `done`.
    """

    def __init__(
        self, clock: Clock, backoff: Backoff | None = None, *, timer_priority: Priority = Priority.BOUNDARY
    ) -> None:
        super().__init__(clock, backoff, timer_priority=timer_priority)
        self.processing: Counter[Key] = Counter()

    @override
    def try_get(self) -> tuple[Key, ...]:
        keys = super().try_get()
        self.processing.update(keys)
        return keys

    @override
    def done(self, key: Key, result: Result) -> None:
        self.processing[key] -= 1
        super().done(key, result)


class HandsOutTwice(_TracksProcessing):
    """A key that is added while it is in processing is handed out immediately."""

    def __init__(
        self, clock: Clock, backoff: Backoff | None = None, *, timer_priority: Priority = Priority.BOUNDARY
    ) -> None:
        super().__init__(clock, backoff, timer_priority=timer_priority)
        self._extra: list[Key] = []

    @override
    def add(self, key: Key, priority: Priority = Priority.CHANGE) -> None:
        super().add(key, priority)
        if self.processing[key]:
            self._extra.append(key)

    @override
    def try_get(self) -> tuple[Key, ...]:
        while self._extra:
            key = self._extra.pop()
            if self.processing[key]:
                self.processing[key] += 1
                return (key,)
        return super().try_get()

    @override
    def done(self, key: Key, result: Result) -> None:
        if self.processing[key] > 1:
            self.processing[key] -= 1
        else:
            super().done(key, result)


class LosesAdds(_TracksProcessing):
    """A key that is added while it is in processing is not enqueued again."""

    @override
    def add(self, key: Key, priority: Priority = Priority.CHANGE) -> None:
        if not self.processing[key]:
            super().add(key, priority)


class KeepsKeys(WorkQueue[Key]):
    """Each key has a timer in the year 2100, and stays in the queue until then."""

    @override
    def done(self, key: Key, result: Result) -> None:
        super().done(key, result if result.failed else Result(result.next_at or _FAR))


class NoBackoff(WorkQueue[Key]):
    """A key that fails is retried after 1 ms."""

    def __init__(
        self, clock: Clock, _: Backoff | None = None, *, timer_priority: Priority = Priority.BOUNDARY
    ) -> None:
        at_once = timedelta(milliseconds=1)
        super().__init__(clock, Backoff(initial=at_once, maximum=at_once), timer_priority=timer_priority)


# The informer caches.


class KeepsDeletedObjects(Store[Any]):
    """A relist does not remove objects that were deleted while the watch was down."""

    @override
    def replace(
        self,
        objects: Iterable[Any],
        origin: Origin = Origin.WATCH,
        *,
        ignore_versions: bool = False,
        as_of: str = "",
    ) -> None:
        for object_ in objects:
            self.apply(object_)


def _without_suspend_until(object_: Any) -> Any:
    if not isinstance(object_, Resource) or not isinstance(object_.spec, ResourceSpec):
        return object_
    return replace(object_, spec=replace(object_.spec, suspend_until=""))


class IgnoresSuspendUntil(Store[Any]):
    """The field `suspend_until` of a Resource is not read."""

    @override
    def apply(self, object_: Any) -> None:
        super().apply(_without_suspend_until(object_))

    @override
    def apply_own_write(self, object_: Any) -> None:
        super().apply_own_write(_without_suspend_until(object_))

    @override
    def replace(
        self,
        objects: Iterable[Any],
        origin: Origin = Origin.WATCH,
        *,
        ignore_versions: bool = False,
        as_of: str = "",
    ) -> None:
        read = map(_without_suspend_until, objects)
        super().replace(read, origin, ignore_versions=ignore_versions, as_of=as_of)


class StartsBeforeRequired(ResourceReconciler):
    """A start does not wait for required Resources."""

    @override
    def waits(self, snapshot: ResourceSnapshot) -> list[Wait]:
        return [wait for wait in super().waits(snapshot) if not snapshot.state.running_wanted]


class StopsBeforeDependents(ResourceReconciler):
    """A stop does not wait for the Resources that require this one."""

    @override
    def waits(self, snapshot: ResourceSnapshot) -> list[Wait]:
        return [wait for wait in super().waits(snapshot) if wait.reason is not GraceReason.DEPENDENTS]


class BooksOneResource(Informers):
    """A booking does not book the Resources that its Resource requires."""

    @override
    def required(self, resource: Key) -> list[Key]:
        return []

    @override
    def placement_of(self, key: Key, closure: Closure) -> Placement:
        return super().placement_of(key, replace(closure, required=()))


class ForgetsOffTimes(ResourceReconciler):
    """Off times stop nothing: only instances that a booking has started are stopped."""

    @override
    def plan_power(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        return super().plan_power(replace(snapshot, off_at={}), stale_reason)


class _EndedBookingWins(BookingTimeline):
    """A booking that has ended removes the holder, if it overlaps the holder's booking."""

    @override
    def state_at(self, now: datetime, warm_up: timedelta = timedelta(0)) -> TimelineState:
        state = super().state_at(now, warm_up)
        ended, holder = state.last_ended, state.holder
        overlapped = ended and holder and holder.start_at < ended.end_at < now
        return replace(state, holder=None) if overlapped else state


class EndedBookingReleases(Informers):
    """The end of a booking releases the lock, although an overlapping booking still runs."""

    @override
    def timeline(self, resource: Resource) -> BookingTimeline:
        return _EndedBookingWins(super().timeline(resource))


# The reconcilers of Resources and of lock tags.


class ForgetsRunningInstances(ResourceReconciler):
    """Instances that a booking has started are forgotten once they run."""

    @override
    def plan_power(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        return _without_started(super().plan_power(snapshot, stale_reason), snapshot, InstanceState.RUNNING)


class ForgetsOnStaleObservation(ResourceReconciler):
    """Started instances are forgotten when any observation shows them stopped, even an old one."""

    @override
    def plan_power(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        plan = super().plan_power(snapshot, stale_reason)
        return (
            plan if snapshot.state.running_wanted else _without_started(plan, snapshot, InstanceState.STOPPED)
        )


class ForgetsStartsInFlight(ResourceReconciler):
    """Started instances are forgotten when an observation since the end of the booking shows them stopped."""

    @cached_property
    def observed_since(self) -> dict[Key, datetime]:
        """`DecisionTrigger.observed_since` by Resource."""
        return {}

    @override
    def next_trigger(self, before: DecisionTrigger | Reported, snapshot: ResourceSnapshot) -> DecisionTrigger:
        trigger = super().next_trigger(before, snapshot)
        self.observed_since[key_of(snapshot.resource)] = trigger.observed_since
        return trigger

    @override
    def plan_power(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        plan, observation = super().plan_power(snapshot, stale_reason), snapshot.observation
        stopped_since = (
            observation is not None
            and observation.at >= self.observed_since[key_of(snapshot.resource)]
            and not snapshot.state.running_wanted
        )
        return _without_started(plan, snapshot, InstanceState.STOPPED) if stopped_since else plan


def _without_started(plan: Plan, snapshot: ResourceSnapshot, state: InstanceState) -> Plan:
    """Return the plan without the started instances that the observation shows in `state`."""
    ids = snapshot.observation.ids(state) if snapshot.observation else ()
    return replace(plan, started=plan.started.difference(ids))


class CountsEditsLate(TracedMeter):
    """A change of the bookings counts from the next observation on."""

    @override
    def rebook(self, at: datetime, booked: Booked) -> None:
        self.trace.append(Rebooked(to_second(at), booked))


class TreatsEditsAsPlanned(ResourceReconciler):
    """An end that an edit or a deletion has moved forward counts as planned."""

    @override
    def next_trigger(self, before: DecisionTrigger | Reported, snapshot: ResourceSnapshot) -> DecisionTrigger:
        return replace(super().next_trigger(before, snapshot), brought_forward=False)


class RemovesTagsOnStaleData(LockTagsReconciler):
    """Lock tags are removed although bookings may be missing."""

    @override
    async def removal_withheld(self, snapshot: ResourceSnapshot, ids: Collection[str]) -> bool:
        return False


# The reconciler of Bookings.


class TakesTimeAway(BookingReconciler):
    """An extension that conflicts loses the interval that was accepted before."""

    @override
    def decide(self, booking: Booking, now: datetime) -> Decision | None:
        decision = super().decide(booking, now)
        lost = decision is not None and decision.conflict is not None
        return replace(decision, accepted=None) if decision and lost else decision


class AcceptsOverlaps(BookingReconciler):
    """A booking is accepted although another one has its time."""

    @override
    def decide(self, booking: Booking, now: datetime) -> Decision | None:
        decision, interval = super().decide(booking, now), booking.interval()
        if decision is None or decision.conflict is None or interval is None:
            return decision
        return Decision(interval.span)


class AcceptsTooLong(BookingReconciler):
    """The field `max_duration` is ignored when a booking is accepted."""

    @override
    def decide(self, booking: Booking, now: datetime) -> Decision | None:
        decision, interval = super().decide(booking, now), booking.interval()
        return Decision(interval.span) if decision and decision.too_long and interval else decision


class AcceptsTooEarly(BookingReconciler):
    """The field `max_ahead` is ignored when a booking is accepted."""

    @override
    def decide(self, booking: Booking, now: datetime) -> Decision | None:
        decision, interval = super().decide(booking, now), booking.interval()
        return Decision(interval.span) if decision and decision.allowed_from and interval else decision


class NeverDecidesAgain(BookingReconciler):
    """A booking that waits is not looked at again when the booking before it ends."""

    @override
    def decide(self, booking: Booking, now: datetime) -> Decision | None:
        decision = super().decide(booking, now)
        return replace(decision, retry_at=None) if decision else None


class CountsBeforeAcceptance(Informers):
    """The instances of an exclusive Resource run for a booking that is not accepted."""

    @override
    def counted(self, booking: Booking) -> BookingInterval | None:
        return booking.interval()
