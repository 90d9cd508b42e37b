"""Mistakes that have been made before, in this operator or in others.

Each is a subclass of something that `build.Build` names, and overrides public methods of it.
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

from booking_operator.api.kinds import KINDS
from booking_operator.api.resource import Resource
from booking_operator.cloud.batching.batcher import Batcher
from booking_operator.cloud.batching.request_queue import RequestQueue
from booking_operator.cloud.batching.token_bucket import BucketLimit, RequestLimits
from booking_operator.cloud.driver import Demand, Order, always
from booking_operator.cloud.service import Driver
from booking_operator.domain.booking_timeline import BookingTimeline, TimelineState
from booking_operator.domain.decision_trigger import LEAD_TIME, DecisionTrigger
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import InstanceState, Lock
from booking_operator.domain.power import Plan
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.engine.leader_election import LeaseTiming
from booking_operator.engine.store import Key, Origin, Store, key_of
from booking_operator.engine.workqueue import Backoff, Priority, Result, WorkQueue
from booking_operator.kube.errors import ApiError
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.lock_tags import LockTagsReconciler
from booking_operator.reconcilers.resource.reconciler import ResourceReconciler
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot
from tests.sim.client import SimKubeClient
from tests.sim.kube import Request
from tests.sim.sessions import SimSessions

STALE_SECONDS = 20.0
_COLLECTIONS = frozenset(kind.path() for kind in KINDS)
_CRDS = "/customresourcedefinitions/"
_CONFLICT = 409
_FAR = datetime(2100, 1, 1, tzinfo=UTC)
_PLENTY = BucketLimit(1e6, 1e6)


# The election, and the request limits.


class RenewsTooLong(LeaseTiming):
    """A leadership lasts longer than others wait."""

    @property
    @override
    def renew_deadline(self) -> timedelta:
        return self.lease_duration * 3


def unlimited(_: Scope, __: str) -> RequestLimits:
    """Limits that let everything pass."""
    return RequestLimits(_PLENTY, _PLENTY)


# The client of the API server.


def _is_first_page(request: Request) -> bool:
    """Whether it asks for the first page of a list of one of our kinds."""
    return request.method == "GET" and request.path in _COLLECTIONS and "continue" not in request.query


def _is_status_write(request: Request) -> bool:
    """Whether it is about the status of a Resource."""
    return "/resources/" in request.path and request.path.endswith("/status")


def _with_status(request: Request, **fields: Any) -> Request:
    """The same, with other fields of the status."""
    body = request.body or {}
    return replace(request, body={**body, "status": {**body["status"], **fields}})


class _StaleLists(SimKubeClient):
    """Some lists are of a server that is behind; so are the watches after such a list, for a while."""

    @cached_property
    def listed_paths(self) -> set[str]:
        """Paths that were listed_paths."""
        return set()

    @cached_property
    def stale_paths(self) -> set[str]:
        """Those of which the last list was stale."""
        return set()

    def is_stale(self, *, first: bool) -> bool:
        """Whether a list is of a server that is behind, by whether it is the first of its kind."""
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
    """The first list is stale."""

    @override
    def is_stale(self, *, first: bool) -> bool:
        return first


class LaterListsAreStale(_StaleLists):
    """Time goes back with a list that was needed again."""

    @override
    def is_stale(self, *, first: bool) -> bool:
        return not first


class MissesEvents(SimKubeClient):
    """What happens between list and watch is missed."""

    @override
    @asynccontextmanager
    async def watch(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        newest = {"resourceVersion": str(self.kube.storage.version)}
        async with super().watch(replace(request, query={**request.query, **newest})) as lines:
            yield lines


class CachesCrd(SimKubeClient):
    """The CRD is read once, and believed to be as it was ever after."""

    first = b""

    @override
    async def send(self, request: Request) -> bytes:
        if _CRDS not in request.path:
            return await super().send(request)
        self.first = self.first or await super().send(request)
        return self.first


class HidesNewCrd(SimKubeClient):
    """The CRD always has the uid that it had first."""

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
    """Each conflict at a creation is said to be one of names."""

    @override
    async def send(self, request: Request) -> bytes:
        try:
            return await super().send(request)
        except ApiError as error:
            if request.method == "POST" and error.status == _CONFLICT:
                raise ApiError(error.status, str(error), reason="AlreadyExists") from error
            raise


class FirstStatusCountsNothing(SimKubeClient):
    """The first status of a Resource that a process writes says that there are no instances."""

    @cached_property
    def written_paths(self) -> set[str]:
        """Paths of the statuses that were written_paths."""
        return set()

    @override
    async def send(self, request: Request) -> bytes:
        if _is_status_write(request) and request.path not in self.written_paths:
            self.written_paths.add(request.path)
            request = _with_status(request, instances=0, running=0)
        return await super().send(request)


class ReportsOnlyTheHoldersLock(SimKubeClient):
    """The status of a Resource remembers the lock of its holder, and none that is on its way."""

    @override
    async def send(self, request: Request) -> bytes:
        if _is_status_write(request):
            status = (request.body or {})["status"]
            holder = {"locked_by": status["locked_by"], "locked_until": status["locked_until"]}
            request = _with_status(request, locks=[item for item in status["locks"] or () if item == holder])
        return await super().send(request)


class LeaksTasks(SimKubeClient):
    """Each list leaves a task behind."""

    @override
    async def send(self, request: Request) -> bytes:
        if _is_first_page(request):
            asyncio.get_running_loop().create_task(asyncio.sleep(1e6), name="list")
        return await super().send(request)


# The clients of AWS.


class PendingCountsAsRunning(SimSessions):
    """EC2 is said to answer that an instance runs, where it answers that it is being started."""

    @override
    async def send(
        self, action: str, scope: Scope, ids: Sequence[str] = (), lock: Mapping[str, str] | None = None
    ) -> Any:
        answers = await super().send(action, scope, ids, lock)
        if action != "StartInstances":
            return answers
        return {id_: (before, "running") for id_, (before, _) in answers.items()}


# The driver of a cloud service.


class ForwardingBatcher(Batcher):
    """Passes everything on to the batcher of a driver."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    @classmethod
    def wrap(cls, driver: Driver) -> Driver:
        """The same driver with this before its batcher."""
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
    """Has another order carried out than was given."""

    def replacement(self, order: Order) -> Order:
        """The other order."""
        raise NotImplementedError

    @override
    def start(self, order: Order) -> None:
        super().start(self.replacement(order))

    @override
    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        super().stop(self.replacement(order), hibernate=hibernate)


class AlwaysValid(_ReplacesOrders):
    """Every order stands, that of lock tags included."""

    @override
    def replacement(self, order: Order) -> Order:
        return replace(order, still_valid=always)

    @override
    def set_lock_tags(self, order: Order, lock: Lock | None) -> None:
        super().set_lock_tags(self.replacement(order), lock)


class NeverCancels(_ReplacesOrders):
    """What becomes of an order is its own business, once it was given."""

    @override
    def replacement(self, order: Order) -> Order:
        copy = _copy(order)
        for id_, future in copy.futures.items():
            future.add_done_callback(partial(_pass_on, order.futures[id_]))
        return copy


class DropsOutcomes(_ReplacesOrders):
    """An order counts as withdrawn once it has an outcome, which nobody looks at."""

    @override
    def replacement(self, order: Order) -> Order:
        copy = _copy(order)
        for id_, future in copy.futures.items():
            future.add_done_callback(partial(_drop, order.futures[id_]))
        return copy


class SendsAtOnce(_ReplacesOrders):
    """What is ordered ahead of a boundary is due when it is ordered, and stands whatever happens."""

    @override
    def replacement(self, order: Order) -> Order:
        return replace(order, deadline=order.deadline - LEAD_TIME, still_valid=always)


def _copy(order: Order) -> Order:
    """The same, with an outcome of its own, and standing whatever happens."""
    return Order.of(
        order.group,
        order.futures,
        order.deadline,
        tenant=order.tenant,
        on_pending_error=order.on_pending_error,
        on_accepted=order.on_accepted,
    )


def _pass_on(original: Future[InstanceState | None], future: Future[InstanceState | None]) -> None:
    """Give an order the outcome of its copy, unless it was withdrawn."""
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
    """Settle an order, whatever has become of its copy."""
    original.cancel()


# The queues.


class _TracksProcessing(WorkQueue[Key]):
    """Knows which keys are being reconciled.

    Attributes:
        out: how often each was handed out and not given back.
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
    """A key that is added while it is reconciled is handed out at once."""

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
    """A key that is added while it is reconciled is not handed out again."""

    @override
    def add(self, key: Key, priority: Priority = Priority.CHANGE) -> None:
        if not self.processing[key]:
            super().add(key, priority)


class KeepsKeys(WorkQueue[Key]):
    """Each key has a timer, even if it is years ahead."""

    @override
    def done(self, key: Key, result: Result) -> None:
        super().done(key, result if result.failed else Result(result.next_at or _FAR))


class NoBackoff(WorkQueue[Key]):
    """A key that fails is tried again at once."""

    def __init__(
        self, clock: Clock, _: Backoff | None = None, *, timer_priority: Priority = Priority.BOUNDARY
    ) -> None:
        at_once = timedelta(milliseconds=1)
        super().__init__(clock, Backoff(initial=at_once, maximum=at_once), timer_priority=timer_priority)


# The caches.


class KeepsDeletedObjects(Store[Any]):
    """What vanished while the watch was down is not noticed by the list after it."""

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


class _EndedBookingWins(BookingTimeline):
    """A booking that has ended leaves no holder, if it overlaps the one that would be."""

    @override
    def state_at(self, now: datetime, warm_up: timedelta = timedelta(0)) -> TimelineState:
        state = super().state_at(now, warm_up)
        ended, holder = state.last_ended, state.holder
        overlapped = ended and holder and holder.start_at < ended.end_at < now
        return replace(state, holder=None) if overlapped else state


class EndedBookingReleases(Informers):
    """A booking that ends releases the lock, although another still runs."""

    @override
    def timeline(self, resource: Resource) -> BookingTimeline:
        return _EndedBookingWins(super().timeline(resource))


# What decides on power, and on lock tags.


class ForgetsRunningInstances(ResourceReconciler):
    """What a booking has started is remembered until it runs."""

    @override
    def decide(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        return _without_started(super().decide(snapshot, stale_reason), snapshot, InstanceState.RUNNING)


class ForgetsOnStaleObservation(ResourceReconciler):
    """What was started is forgotten where any view shows it stopped, however old."""

    @override
    def decide(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        plan = super().decide(snapshot, stale_reason)
        return (
            plan if snapshot.state.running_wanted else _without_started(plan, snapshot, InstanceState.STOPPED)
        )


class ForgetsStartsInFlight(ResourceReconciler):
    """What was started is forgotten where a view since the end of the booking shows it stopped."""

    @cached_property
    def observed_since(self) -> dict[Key, datetime]:
        """Since when power is wanted as it is, by Resource."""
        return {}

    @override
    def follow_cause(self, previous: DecisionTrigger | None, snapshot: ResourceSnapshot) -> DecisionTrigger:
        trigger = super().follow_cause(previous, snapshot)
        self.observed_since[key_of(snapshot.resource)] = trigger.observed_since
        return trigger

    @override
    def decide(self, snapshot: ResourceSnapshot, stale_reason: str = "") -> Plan:
        plan, observation = super().decide(snapshot, stale_reason), snapshot.observation
        stopped_since = (
            observation is not None
            and observation.at >= self.observed_since[key_of(snapshot.resource)]
            and not snapshot.state.running_wanted
        )
        return _without_started(plan, snapshot, InstanceState.STOPPED) if stopped_since else plan


def _without_started(plan: Plan, snapshot: ResourceSnapshot, state: InstanceState) -> Plan:
    """A plan that forgets what was started and is seen in `state`."""
    ids = snapshot.observation.ids(state) if snapshot.observation else ()
    return replace(plan, started=plan.started.difference(ids))


class TreatsEditsAsPlanned(ResourceReconciler):
    """An end that an edit or a deletion has brought nearer counts as foreseen."""

    @override
    def follow_cause(self, previous: DecisionTrigger | None, snapshot: ResourceSnapshot) -> DecisionTrigger:
        return replace(super().follow_cause(previous, snapshot), brought_forward=False)


class RemovesTagsOnStaleData(LockTagsReconciler):
    """Lock tags are removed although bookings may be missing."""

    @override
    async def removal_withheld(self, snapshot: ResourceSnapshot, ids: Collection[str]) -> bool:
        return False
