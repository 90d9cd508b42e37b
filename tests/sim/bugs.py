"""Mistakes that have been made before, here or elsewhere: each puts one in, for the length of its context."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from booking_operator.cloud.driver import Order
from booking_operator.cloud.lane import Lane, _open
from booking_operator.cloud.throttle import Throttle
from booking_operator.cloud.view import Answer, View
from booking_operator.domain import power, timeline
from booking_operator.domain.agenda import Agenda
from booking_operator.domain.instance import Observation, State
from booking_operator.domain.lock import Ours
from booking_operator.engine.lease import Timing
from booking_operator.engine.queue import Backoff, WorkQueue
from booking_operator.engine.reflector import Reflector
from booking_operator.engine.store import Store
from booking_operator.kube.errors import ApiError
from booking_operator.kube.source import ListWatch
from booking_operator.kube.trust import CacheTrust
from booking_operator.reconcilers.dispatch import Dispatcher
from booking_operator.reconcilers.keeper import LockKeeper
from booking_operator.reconcilers.orders import Orders
from booking_operator.reconcilers.scene import Scene

BEHIND_SECONDS = 20.0


@contextmanager
def _instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    before = owner.__dict__[name]
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, before)


def twice() -> AbstractContextManager[None]:
    """A key that is added while it is processed is handed out at once."""

    def add(self: Any, key: Any, entry: Any, priority: Any, since: Any) -> None:
        entry.since = entry.since or since
        if entry.ready is None or priority < entry.ready:
            self._make_ready(key, entry, priority)

    return _instead(WorkQueue, "_add", add)


def leads_too_long() -> AbstractContextManager[None]:
    """RenewDeadline is longer than LeaseDuration: who was cut off leads on while another does."""
    return _instead(Timing, "deadline", property(lambda self: self.lease * 3))


@contextmanager
def _behind(*, again: bool) -> Iterator[None]:
    """The first list, or those `again`, are of a server that is behind; so are the watches, for a while."""
    list_, watch_ = ListWatch.list, ListWatch.watch

    async def listed(self: Any, token: str = "") -> Any:
        kept = self._selector
        if not token:
            self.stale, self.listed = getattr(self, "listed", False) is again, True
        if self.stale:
            self._selector = [*self._selector, ("resourceVersion", "0")]
        try:
            return await list_(self, token)
        finally:
            self._selector = kept

    @asynccontextmanager
    async def watch(self: Any, resource_version: str, seconds: int) -> AsyncIterator[Any]:
        if self.stale:
            await asyncio.sleep(BEHIND_SECONDS)
        async with watch_(self, resource_version, seconds) as events:
            yield events

    with _instead(ListWatch, "list", listed), _instead(ListWatch, "watch", watch):
        yield


def lists_stale() -> AbstractContextManager[None]:
    """The first list is that of the API server's cache, as client-go's is: a stale view after a restart."""
    return _behind(again=False)


def goes_back() -> AbstractContextManager[None]:
    """A list that was needed again is of a server that is behind: time goes back, for a while."""
    return _behind(again=True)


def misses_an_event() -> AbstractContextManager[None]:
    """What happens between list and watch is missed: the watch begins at the newest version."""
    before = ListWatch.watch

    def watch(self: Any, _: str, seconds: int) -> Any:
        return before(self, str(self._client._kube.storage.version), seconds)

    return _instead(ListWatch, "watch", watch)


def first_ends_all() -> AbstractContextManager[None]:
    """A booking that ends releases the lock, though another still runs."""
    before = Agenda.moment

    def moment(self: Any, now: Any, warm_up: Any = timedelta(0)) -> Any:
        seen = before(self, now, warm_up)
        ended, holder = seen.released, seen.holder
        overlapped = ended and holder and holder.start_at < ended.end_at < now
        return replace(seen, holder=None) if overlapped else seen

    return _instead(Agenda, "moment", moment)


def believes_a_dying_kind() -> AbstractContextManager[None]:
    """Bookings that vanish with their CRD count as deleted by users."""

    async def confirm(self: Any) -> str:
        return str(self.doubt())

    return _instead(CacheTrust, "confirm", confirm)


def orders_stand() -> AbstractContextManager[None]:
    """What was decided is done, however long it had to wait."""

    def standing(_: Any, items: Any) -> Any:
        return [replace(item, ids=ids) for item in items if (ids := _open(item))]

    return _instead(Lane, "standing", standing)


def leaves_at_once() -> AbstractContextManager[None]:
    """What is ordered ahead of a boundary leaves when it is ordered, and nobody asks whether it stands."""
    before = Order.of.__func__  # type: ignore[attr-defined]

    def of(cls: Any, group: Any, ids: Any, deadline: Any, /, **more: Any) -> Any:
        return before(cls, group, ids, deadline - timeline.LEAD, **more | {"stands": lambda: True})

    return _instead(Order, "of", classmethod(of))


def does_not_ask_again() -> AbstractContextManager[None]:
    """Who orders does not ask whether it is wanted yet."""
    return _instead(Dispatcher, "_stands", lambda *_, **__: True)


def no_limits() -> AbstractContextManager[None]:
    """The model of AWS's request limits lets everything pass."""
    return _instead(Throttle, "room", lambda *_: 1000)


def no_backoff() -> AbstractContextManager[None]:
    """What fails is tried again at once."""
    return _instead(Backoff, "after", lambda *_: timedelta(milliseconds=1))


def loses_adds() -> AbstractContextManager[None]:
    """A key that is added while it is processed is not handed out again."""
    before = WorkQueue._add

    def add(self: Any, key: Any, entry: Any, priority: Any, since: Any) -> None:
        if not entry.processing:
            before(self, key, entry, priority, since)

    return _instead(WorkQueue, "_add", add)


def keeps_the_dead() -> AbstractContextManager[None]:
    """What vanished while the watch was down is not noticed by the list after it."""

    def replaced(self: Any, objects: Any, *_: Any, **__: Any) -> None:
        for object_ in objects:
            self.apply(object_)

    return _instead(Store, "replace", replaced)


def leaks_tasks() -> AbstractContextManager[None]:
    """Each list leaves a task behind."""
    before = Reflector._list

    async def listed(self: Any) -> None:
        asyncio.get_running_loop().create_task(asyncio.sleep(1e6))
        await before(self)

    return _instead(Reflector, "_list", listed)


def leaks_keys() -> AbstractContextManager[None]:
    """The queue keeps an entry of each key that it has ever seen."""
    before = WorkQueue.done

    def done(self: Any, key: Any, result: Any) -> None:
        entry = self._entries[key]
        before(self, key, result)
        self._entries.setdefault(key, entry)

    return _instead(WorkQueue, "done", done)


def believes_the_order() -> AbstractContextManager[None]:
    """What was asked to start counts as running."""
    before = View.note

    def note(self: Any, tag: str, answers: Mapping[str, Answer], answered_at: Any) -> None:
        claimed = {
            id_: replace(answer, now=State.RUNNING) if answer.now is State.PENDING else answer
            for id_, answer in answers.items()
        }
        before(self, tag, claimed, answered_at)

    return _instead(View, "note", note)


def looks_away() -> AbstractContextManager[None]:
    """What was asked is forgotten as soon as it is answered, with what was refused."""
    before = Orders.settled

    async def settled(self: Any, key: Any, seconds: float, now: Any) -> Any:
        for placed in self.due(key, now):
            await asyncio.wait(placed.order.futures.values(), timeout=seconds)
        self._forget(key)
        return await before(self, key, 0, now)

    return _instead(Orders, "settled", settled)


def forgets_what_runs() -> AbstractContextManager[None]:
    """What a booking has started is remembered until it runs."""

    def remembered(observation: Observation, started: AbstractSet[str], *_: Any, **__: Any) -> frozenset[str]:
        return frozenset(started) - set(observation.ids(State.RUNNING))

    return _instead(power, "_remembered", remembered)


@contextmanager
def forgets_by_an_old_view() -> Iterator[None]:
    """What was started is forgotten where a view from before shows it stopped. Found by the simulation."""
    before = power._remembered

    def remembered(observation: Observation, started: Any, _: Any, *over: Any) -> frozenset[str]:
        return before(observation, started, observation.at, *over)

    with _instead(power, "_remembered", remembered), _instead(power, "SETTLING", timedelta(days=-1)):
        yield


def forgets_at_once() -> AbstractContextManager[None]:
    """What is seen stopped when a booking ends is over, even on its way. Found by the simulation."""
    return _instead(power, "SETTLING", timedelta(0))


def releases_on_a_doubt() -> AbstractContextManager[None]:
    """The tags of what runs on, because a stop is in doubt, go all the same. Found by the simulation."""

    async def doubtful(*_: Any) -> bool:
        return False

    return _instead(LockKeeper, "_doubtful", doubtful)


def counts_on_conflicts() -> AbstractContextManager[None]:
    """Each conflict at a creation is taken to say that the object is there. Found by reading."""
    return _instead(ApiError, "exists", ApiError.conflict)


def claims_nothing() -> AbstractContextManager[None]:
    """What is remembered of a new Resource is written with counts of nothing. Found by the simulation."""
    return _instead(Scene, "counted", lambda _, status: status)


def believes_a_new_kind() -> AbstractContextManager[None]:
    """A CRD that was deleted and applied again passes for the old one. Found by the simulation."""
    return _instead(CacheTrust, "_note", lambda *_: None)


@contextmanager
def believes_what_is_left() -> Iterator[None]:
    """Where one booking is gone, the end of another still counts as foreseen. Found by the simulation."""
    before = timeline.cause

    def cause(*given: Any, **more: Any) -> Any:
        return replace(before(*given, **more), shortened=False)

    with _instead(timeline, "cause", cause):
        yield


def forgets_what_is_on_its_way() -> AbstractContextManager[None]:
    """Only locks that are seen are remembered, not those under way. Found by the simulation."""
    return _instead(Ours, "remembered", lambda *_: set())
