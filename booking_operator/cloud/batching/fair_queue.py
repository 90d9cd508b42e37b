"""What waits to be sent by one action, and which of it goes next: the pure half of batching.

- Nothing leaves before its deadline, and what has the earliest goes first.
- What was announced before its deadline leaves at it; what comes later waits `GATHER` for company.
- Where there is not enough room for all, tenants take turns, instance by instance: the burst of one never
  starves another. Who has waited for nothing so far has saved up nothing by that.
- What may not travel together differs in its `load`.
"""

import heapq
from bisect import insort
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Generic, TypeVar

from booking_operator.cloud.batching.token_bucket import RateLimiter

P = TypeVar("P")

GATHER_TIME = timedelta(milliseconds=50)
"""How long what is late already waits for others to join its call."""


@dataclass(frozen=True, slots=True, eq=False)
class Parcel(Generic[P]):
    """Instances that wait for the same, for one tenant.

    Attributes:
        payload: what it is to the sender.
        ids: the instances.
        tenant: in whose turn it goes.
        deadline: when it is to be done (aware UTC); what is due earlier goes first.
        due_at: the earliest instant at which it may leave.
        ready_at: the instant from which it waits for nobody; `due_at` or later.
        load: what may share a call has the same.
    """

    payload: P
    ids: Sequence[str]
    tenant: str
    deadline: datetime
    due_at: datetime
    ready_at: datetime
    load: Hashable = None


_Ranked = tuple[datetime, int, Parcel[P]]
"""A parcel behind what it is sorted by: its deadline, then its number, which no two share."""


@dataclass(slots=True)
class _Load(Generic[P]):
    """The parcels that are due and may share a call, by tenant, each tenant's in the order of deadlines."""

    ready_at: datetime
    size: int = 0
    queues: dict[str, list[_Ranked[P]]] = field(default_factory=dict)

    def add(self, number: int, parcel: Parcel[P]) -> None:
        self.ready_at = min(self.ready_at, parcel.ready_at)
        self.size += len(parcel.ids)
        insort(self.queues.setdefault(parcel.tenant, []), (parcel.deadline, number, parcel))

    def keep(self, wanted: Callable[[Parcel[P]], bool]) -> None:
        kept = {
            tenant: [entry for entry in queue if wanted(entry[2])] for tenant, queue in self.queues.items()
        }
        self.queues = {tenant: queue for tenant, queue in kept.items() if queue}
        self.size = sum(len(parcel.ids) for _, _, parcel in chain(*self.queues.values()))

    def cut(self, tenant: str, most: int) -> Parcel[P]:
        """Take at most so many instances off the tenant's first parcel."""
        deadline, number, parcel = self.queues[tenant].pop(0)
        taken, rest = parcel.ids[:most], parcel.ids[most:]
        self.size -= len(taken)
        if rest:
            self.queues[tenant].insert(0, (deadline, number, replace(parcel, ids=rest)))
        elif not self.queues[tenant]:
            del self.queues[tenant]
        return replace(parcel, ids=taken)


class Backlog(Generic[P]):
    """The parcels of one action in one region of one account, for calls of at most `most` instances."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers = 0
        self._coming: list[tuple[datetime, int, Parcel[P]]] = []
        self._loads: dict[Hashable, _Load[P]] = {}
        # How much of each tenant that waits was served, on a scale that begins where the tenant joins.
        self._served: dict[str, int] = {}

    def __iter__(self) -> Iterator[Parcel[P]]:
        """All parcels that wait, in no order."""
        queues = chain(self._coming, *(chain(*load.queues.values()) for load in self._loads.values()))
        return (parcel for _, _, parcel in queues)

    @property
    def waiting(self) -> int:
        """How many instances are due, when last looked at, and have not left."""
        return sum(load.size for load in self._loads.values())

    def copy(self) -> "Backlog[P]":
        """One that can be worked off without the original being changed; it shares the parcels."""
        shared = {id(parcel): parcel for parcel in self}
        return deepcopy(self, dict(shared))

    def add(self, parcel: Parcel[P]) -> None:
        """Have it wait; one without instances does not."""
        if parcel.ids:
            self._numbers += 1
            heapq.heappush(self._coming, (parcel.due_at, self._numbers, parcel))

    def keep(self, wanted: Callable[[Parcel[P]], bool]) -> None:
        """Have all other parcels wait no longer."""
        self._coming = [entry for entry in self._coming if wanted(entry[2])]
        heapq.heapify(self._coming)
        for load in self._loads.values():
            load.keep(wanted)
        self._forget(set(self._served))

    def set_back(self, now: datetime, longest: timedelta) -> None:
        """The clock was set back to `now`: have nothing wait longer than `longest`, but for its deadline."""
        latest = now + longest
        parcels = list(self)
        self._coming, self._loads, self._served = [], {}, {}
        for parcel in parcels:
            due_at, ready_at = (
                max(parcel.deadline, min(instant, latest)) for instant in (parcel.due_at, parcel.ready_at)
            )
            self.add(replace(parcel, due_at=due_at, ready_at=ready_at))

    def take(self, now: datetime, throttle: RateLimiter) -> list[Parcel[P]]:
        """What leaves now by one call, taken out of the backlog; empty where nothing does."""
        load = self._next(now)
        room = min(throttle.available(now), self._most)
        if load is None or room < self._least(load, throttle):
            return []
        tenants = set(load.queues)
        taken = list(self._share(load, room))
        self._forget(tenants - load.queues.keys())
        return taken

    def next_at(self, now: datetime, throttle: RateLimiter) -> datetime | None:
        """When to look again, provided that nothing is added; None where nothing waits."""
        load = self._next(now)
        if load is not None:
            return throttle.ready_at(self._least(load, throttle), now)
        instants = [load.ready_at for load in self._loads.values()]
        instants += [due_at for due_at, _, _ in self._coming[:1]]
        return min(instants, default=None)

    def _next(self, now: datetime) -> _Load[P] | None:
        """What is to share the next call; None where nothing is to leave yet."""
        while self._coming and self._coming[0][0] <= now:
            _, number, parcel = self._coming[0]
            self._loads.setdefault(parcel.load, _Load(parcel.ready_at)).add(number, parcel)
            self._served.setdefault(parcel.tenant, min(self._served.values(), default=0))
            heapq.heappop(self._coming)  # last, so that no parcel is lost where something is raised
        ready = [load for load in self._loads.values() if load.ready_at <= now]
        return min(ready, key=self._rank, default=None)

    def _rank(self, load: _Load[P]) -> tuple[int, datetime, int]:
        """Whose turn it is: of the tenant that was served least, the earliest deadline."""
        return min((self._served[tenant], *queue[0][:2]) for tenant, queue in load.queues.items())

    def _least(self, load: _Load[P], throttle: RateLimiter) -> int:
        """For how many instances at least the next call is made."""
        return min(load.size, self._most, throttle.min_call_size)

    def _share(self, load: _Load[P], room: int) -> Iterator[Parcel[P]]:
        for tenant, granted in self._grant(load, room).items():
            self._served[tenant] += granted
            left = granted
            while left:
                parcel = load.cut(tenant, left)
                left -= len(parcel.ids)
                yield parcel

    def _grant(self, load: _Load[P], room: int) -> dict[str, int]:
        """How many instances each tenant may send, given room for so many."""
        wanted = {tenant: sum(len(item[2].ids) for item in queue) for tenant, queue in load.queues.items()}
        if load.size <= room:
            return wanted
        granted = dict.fromkeys(wanted, 0)
        turns = [(self._served[tenant], *queue[0][:2], tenant) for tenant, queue in load.queues.items()]
        heapq.heapify(turns)
        for _ in range(room):
            served, deadline, number, tenant = turns[0]
            granted[tenant] += 1
            if granted[tenant] < wanted[tenant]:
                heapq.heapreplace(turns, (served + 1, deadline, number, tenant))
            else:
                heapq.heappop(turns)
        return granted

    def _forget(self, tenants: set[str]) -> None:
        """Keep no trace of loads that are empty, and of those `tenants` that wait for nothing any more."""
        for key in [key for key, load in self._loads.items() if not load.queues]:
            del self._loads[key]
        for tenant in tenants:
            if not any(tenant in load.queues for load in self._loads.values()):
                self._served.pop(tenant, None)


def simulate(
    backlog: Backlog[P], throttle: RateLimiter, now: datetime, coming: Iterable[Parcel[P]] = ()
) -> Iterator[tuple[datetime, list[Parcel[P]]]]:
    """What would leave when, if nobody else used the buckets and every call was let through.

    Neither `backlog` nor `throttle` is changed. It is the same code that decides for real, so the forecast is
    as good as the model.

    Args:
        backlog: what waits already.
        throttle: the buckets at `now`.
        now: the instant at which it begins (aware UTC).
        coming: what will wait besides.
    """
    waiting = backlog.copy()
    for parcel in coming:
        waiting.add(parcel)
    instant: datetime | None = now
    while instant is not None:
        if taken := waiting.take(instant, throttle):
            throttle = throttle.sent(sum(len(item.ids) for item in taken), instant)
            yield instant, taken
        else:
            instant = waiting.next_at(instant, throttle)
