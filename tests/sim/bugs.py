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
from booking_operator.cloud.batching.token_bucket import Limit, Limits
from booking_operator.cloud.driver import Audience, CloudError, Demand, Driver, Group, Order, Scope, always
from booking_operator.domain.booking_timeline import Agenda, Moment
from booking_operator.domain.decision_trigger import LEAD, Cause
from booking_operator.domain.instance import Lock, Observation, State
from booking_operator.domain.power import Plan
from booking_operator.engine.clock import Clock
from booking_operator.engine.lease import Timing
from booking_operator.engine.store import Key, Origin, Store, key_of
from booking_operator.engine.workqueue import Backoff, Priority, Result, WorkQueue
from booking_operator.kube.errors import ApiError
from booking_operator.reconcilers.informers import Caches
from booking_operator.reconcilers.lock_tags import LockKeeper
from booking_operator.reconcilers.resource.reconciler import ResourceReconciler
from booking_operator.reconcilers.resource.snapshot import Scene
from tests.sim.client import SimKubeClient
from tests.sim.kube import Request
from tests.sim.sessions import SimSessions

BEHIND_SECONDS = 20.0
_COLLECTIONS = frozenset(kind.path() for kind in KINDS)
_CRDS = "/customresourcedefinitions/"
_CONFLICT = 409
_FAR = datetime(2100, 1, 1, tzinfo=UTC)
_PLENTY = Limit(1e6, 1e6)


# The election, and the request limits.


class LeadsTooLong(Timing):
    """A leadership lasts longer than others wait."""

    @property
    @override
    def deadline(self) -> timedelta:
        return self.lease * 3


def unlimited(_: Scope, __: str) -> Limits:
    """Limits that let everything pass."""
    return Limits(_PLENTY, _PLENTY)


# The client of the API server.


def _lists(request: Request) -> bool:
    """Whether it asks for the first page of a list of one of our kinds."""
    return request.method == "GET" and request.path in _COLLECTIONS and "continue" not in request.query


def _writes_status(request: Request) -> bool:
    """Whether it is about the status of a Resource."""
    return "/resources/" in request.path and request.path.endswith("/status")


def _with_status(request: Request, **fields: Any) -> Request:
    """The same, with other fields of the status."""
    body = request.body or {}
    return replace(request, body={**body, "status": {**body["status"], **fields}})


class _Behind(SimKubeClient):
    """Some lists are of a server that is behind; so are the watches after such a list, for a while."""

    @cached_property
    def listed(self) -> set[str]:
        """Paths that were listed."""
        return set()

    @cached_property
    def stale(self) -> set[str]:
        """Those of which the last list was stale."""
        return set()

    def behind(self, *, first: bool) -> bool:
        """Whether a list is of a server that is behind, by whether it is the first of its kind."""
        raise NotImplementedError

    @override
    async def send(self, request: Request) -> bytes:
        path = request.path
        if _lists(request):
            stale = self.behind(first=path not in self.listed)
            self.listed.add(path)
            (self.stale.add if stale else self.stale.discard)(path)
            if stale:
                request = replace(request, query={**request.query, "resourceVersion": "0"})
        return await super().send(request)

    @override
    @asynccontextmanager
    async def watch(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        if request.path in self.stale:
            await asyncio.sleep(BEHIND_SECONDS)
        async with super().watch(request) as lines:
            yield lines


class FirstListIsStale(_Behind):
    """The first list is stale."""

    @override
    def behind(self, *, first: bool) -> bool:
        return first


class LaterListsAreStale(_Behind):
    """Time goes back with a list that was needed again."""

    @override
    def behind(self, *, first: bool) -> bool:
        return not first


class MissesEvents(SimKubeClient):
    """What happens between list and watch is missed."""

    @override
    @asynccontextmanager
    async def watch(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        newest = {"resourceVersion": str(self.kube.storage.version)}
        async with super().watch(replace(request, query={**request.query, **newest})) as lines:
            yield lines


class BelievesInTheCrd(SimKubeClient):
    """The CRD is read once, and believed to be as it was ever after."""

    first = b""

    @override
    async def send(self, request: Request) -> bytes:
        if _CRDS not in request.path:
            return await super().send(request)
        self.first = self.first or await super().send(request)
        return self.first


class SameCrd(SimKubeClient):
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
    def written(self) -> set[str]:
        """Paths of the statuses that were written."""
        return set()

    @override
    async def send(self, request: Request) -> bytes:
        if _writes_status(request) and request.path not in self.written:
            self.written.add(request.path)
            request = _with_status(request, instances=0, running=0)
        return await super().send(request)


class RemembersOneLock(SimKubeClient):
    """The status of a Resource remembers the lock of its holder, and none that is on its way."""

    @override
    async def send(self, request: Request) -> bytes:
        if _writes_status(request):
            status = (request.body or {})["status"]
            holder = {"locked_by": status["locked_by"], "locked_until": status["locked_until"]}
            request = _with_status(request, locks=[item for item in status["locks"] or () if item == holder])
        return await super().send(request)


class LeaksTasks(SimKubeClient):
    """Each list leaves a task behind."""

    @override
    async def send(self, request: Request) -> bytes:
        if _lists(request):
            asyncio.get_running_loop().create_task(asyncio.sleep(1e6), name="list")
        return await super().send(request)


# The clients of AWS.


class RunsAtOnce(SimSessions):
    """EC2 is said to answer that an instance runs, where it answers that it is being started."""

    @override
    async def sent(
        self, action: str, scope: Scope, ids: Sequence[str] = (), lock: Mapping[str, str] | None = None
    ) -> Any:
        answers = await super().sent(action, scope, ids, lock)
        if action != "StartInstances":
            return answers
        return {id_: (before, "running") for id_, (before, _) in answers.items()}


# The driver of a cloud service.


class Between(Driver):
    """Passes everything on to a driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @override
    def last(self, group: Group) -> Observation | None:
        return self._driver.last(group)

    @override
    def managed(self, scope: Scope) -> frozenset[str]:
        return self._driver.managed(scope)

    @override
    def failure(self, scope: Scope) -> CloudError | None:
        return self._driver.failure(scope)

    @override
    async def refresh(self, scope: Scope, since: datetime) -> datetime:
        return await self._driver.refresh(scope, since)

    @override
    def start(self, order: Order) -> None:
        self._driver.start(order)

    @override
    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        self._driver.stop(order, hibernate=hibernate)

    @override
    def lock(self, order: Order, lock: Lock | None) -> None:
        self._driver.lock(order, lock)

    @override
    async def expected(self, orders: Collection[Order]) -> Mapping[Order, datetime]:
        return await self._driver.expected(orders)

    @override
    async def forecast(self, demands: Sequence[Demand]) -> Sequence[datetime]:
        return await self._driver.forecast(demands)

    @override
    def track(self, audience: Audience) -> None:
        self._driver.track(audience)


class _Otherwise(Between):
    """Has another order carried out than was given."""

    def instead(self, order: Order) -> Order:
        """The other order."""
        raise NotImplementedError

    @override
    def start(self, order: Order) -> None:
        super().start(self.instead(order))

    @override
    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        super().stop(self.instead(order), hibernate=hibernate)


class AlwaysStands(_Otherwise):
    """Every order stands, that of lock tags included."""

    @override
    def instead(self, order: Order) -> Order:
        return replace(order, stands=always)

    @override
    def lock(self, order: Order, lock: Lock | None) -> None:
        super().lock(self.instead(order), lock)


class NeverWithdraws(_Otherwise):
    """What becomes of an order is its own business, once it was given."""

    @override
    def instead(self, order: Order) -> Order:
        other = _copy(order)
        for id_, future in other.futures.items():
            future.add_done_callback(partial(_pass_on, order.futures[id_]))
        return other


class LooksAway(_Otherwise):
    """An order counts as withdrawn once it has an outcome, which nobody looks at."""

    @override
    def instead(self, order: Order) -> Order:
        other = _copy(order)
        for id_, future in other.futures.items():
            future.add_done_callback(partial(_drop, order.futures[id_]))
        return other


class LeavesAtOnce(_Otherwise):
    """What is ordered ahead of a boundary is due when it is ordered, and stands whatever happens."""

    @override
    def instead(self, order: Order) -> Order:
        return replace(order, deadline=order.deadline - LEAD, stands=always)


def _copy(order: Order) -> Order:
    """The same, with an outcome of its own, and standing whatever happens."""
    return Order.of(
        order.group,
        order.futures,
        order.deadline,
        tenant=order.tenant,
        news=order.news,
        accepted=order.accepted,
    )


def _pass_on(original: Future[State | None], future: Future[State | None]) -> None:
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


def _drop(original: Future[State | None], _: Future[State | None]) -> None:
    """Settle an order, whatever has become of its copy."""
    original.cancel()


# The queues.


class _Tracked(WorkQueue[Key]):
    """Knows which keys are being reconciled.

    Attributes:
        out: how often each was handed out and not given back.
    """

    def __init__(
        self, clock: Clock, backoff: Backoff | None = None, *, due: Priority = Priority.BOUNDARY
    ) -> None:
        super().__init__(clock, backoff, due=due)
        self.out: Counter[Key] = Counter()

    @override
    def take(self) -> tuple[Key, ...]:
        keys = super().take()
        self.out.update(keys)
        return keys

    @override
    def done(self, key: Key, result: Result) -> None:
        self.out[key] -= 1
        super().done(key, result)


class HandsOutTwice(_Tracked):
    """A key that is added while it is reconciled is handed out at once."""

    def __init__(
        self, clock: Clock, backoff: Backoff | None = None, *, due: Priority = Priority.BOUNDARY
    ) -> None:
        super().__init__(clock, backoff, due=due)
        self._again: list[Key] = []

    @override
    def add(self, key: Key, priority: Priority = Priority.CHANGE) -> None:
        super().add(key, priority)
        if self.out[key]:
            self._again.append(key)

    @override
    def take(self) -> tuple[Key, ...]:
        while self._again:
            key = self._again.pop()
            if self.out[key]:
                self.out[key] += 1
                return (key,)
        return super().take()

    @override
    def done(self, key: Key, result: Result) -> None:
        if self.out[key] > 1:
            self.out[key] -= 1
        else:
            super().done(key, result)


class LosesAdds(_Tracked):
    """A key that is added while it is reconciled is not handed out again."""

    @override
    def add(self, key: Key, priority: Priority = Priority.CHANGE) -> None:
        if not self.out[key]:
            super().add(key, priority)


class KeepsKeys(WorkQueue[Key]):
    """Each key has a timer, be it one that is years ahead."""

    @override
    def done(self, key: Key, result: Result) -> None:
        super().done(key, result if result.failed else Result(result.next_at or _FAR))


class NoBackoff(WorkQueue[Key]):
    """A key that fails is tried again at once."""

    def __init__(self, clock: Clock, _: Backoff | None = None, *, due: Priority = Priority.BOUNDARY) -> None:
        at_once = timedelta(milliseconds=1)
        super().__init__(clock, Backoff(first=at_once, longest=at_once), due=due)


# The caches.


class KeepsTheDead(Store[Any]):
    """What vanished while the watch was down is not noticed by the list after it."""

    @override
    def replace(
        self, objects: Iterable[Any], origin: Origin = Origin.WATCH, *, anew: bool = False, as_of: str = ""
    ) -> None:
        for object_ in objects:
            self.apply(object_)


class _FirstEndWins(Agenda):
    """A booking that has ended leaves no holder, if it overlaps the one that would be."""

    @override
    def moment(self, now: datetime, warm_up: timedelta = timedelta(0)) -> Moment:
        seen = super().moment(now, warm_up)
        ended, holder = seen.released, seen.holder
        overlapped = ended and holder and holder.start_at < ended.end_at < now
        return replace(seen, holder=None) if overlapped else seen


class FirstEndReleases(Caches):
    """A booking that ends releases the lock, although another still runs."""

    @override
    def claims(self, resource: Resource) -> Agenda:
        return _FirstEndWins(super().claims(resource))


# What decides on power, and on lock tags.


class ForgetsWhatRuns(ResourceReconciler):
    """What a booking has started is remembered until it runs."""

    @override
    def decide(self, scene: Scene, doubt: str = "") -> Plan:
        return _forgetting(super().decide(scene, doubt), scene, State.RUNNING)


class ForgetsByAnOldView(ResourceReconciler):
    """What was started is forgotten where any view shows it stopped, however old."""

    @override
    def decide(self, scene: Scene, doubt: str = "") -> Plan:
        plan = super().decide(scene, doubt)
        return plan if scene.seen.wanted else _forgetting(plan, scene, State.STOPPED)


class ForgetsAtOnce(ResourceReconciler):
    """What was started is forgotten where a view since the end of the booking shows it stopped."""

    @cached_property
    def since(self) -> dict[Key, datetime]:
        """Since when power is wanted as it is, by Resource."""
        return {}

    @override
    def follow_cause(self, previous: Cause | None, scene: Scene) -> Cause:
        cause = super().follow_cause(previous, scene)
        self.since[key_of(scene.resource)] = cause.since
        return cause

    @override
    def decide(self, scene: Scene, doubt: str = "") -> Plan:
        plan, seen = super().decide(scene, doubt), scene.observation
        over = seen is not None and seen.at >= self.since[key_of(scene.resource)] and not scene.seen.wanted
        return _forgetting(plan, scene, State.STOPPED) if over else plan


def _forgetting(plan: Plan, scene: Scene, state: State) -> Plan:
    """A plan that forgets what was started and is seen in `state`."""
    seen = scene.observation.ids(state) if scene.observation else ()
    return replace(plan, started=plan.started.difference(seen))


class BelievesWhatIsLeft(ResourceReconciler):
    """An end that an edit or a deletion has brought nearer counts as foreseen."""

    @override
    def follow_cause(self, previous: Cause | None, scene: Scene) -> Cause:
        return replace(super().follow_cause(previous, scene), shortened=False)


class NeverWithholds(LockKeeper):
    """Lock tags are removed although bookings may be missing."""

    @override
    async def removal_withheld(self, scene: Scene, ids: Collection[str]) -> bool:
        return False
