"""The entries that wait for one action in one region of one account, and the choice of the next call.

- No entry is sent before its deadline.
- An entry that was queued before its deadline is ready at its deadline. A late entry waits for others to join
  its call: `GATHER_TIME`, or longer for tags.
- If not all entries fit into a call, the tenants take turns, one instance at a time. So a burst of one tenant
  does not delay a single booking of another. An idle tenant accrues no credit. Among the entries of a tenant,
  the one with the earliest deadline goes first.
- Entries with different `call_key` do not share a call.
- The caller may limit the number of instances in the next call with an entry, or make the entry wait.

It neither waits nor reads a clock.
"""

import heapq
from bisect import insort
from collections.abc import Callable, Hashable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain

from booking_operator.cloud.batching.batch import Entry
from booking_operator.cloud.batching.token_bucket import UNLIMITED, RateLimiter

GATHER_TIME = timedelta(milliseconds=50)
"""How long a late entry waits for others to join its call."""

CallLimit = Callable[[Entry], int]
"""Returns the maximum number of instances in the next call with an entry; 0 while the entry must wait."""


def no_call_limit(_: Entry) -> int:
    """Return a number that is no limit."""
    return UNLIMITED


_Ranked = tuple[datetime, int, Entry]
"""An entry after its sort key: an instant, then a unique sequence number."""


@dataclass(slots=True)
class _CallQueue:
    """The due entries that may share a call. The entries of each tenant are sorted by deadline."""

    ready_at: datetime
    size: int = 0
    tenants: dict[str, list[_Ranked]] = field(default_factory=dict)

    @property
    def first(self) -> Entry:
        """One of the entries."""
        return next(iter(self.tenants.values()))[0][2]

    def add(self, number: int, entry: Entry) -> None:
        self.ready_at = min(self.ready_at, entry.ready_at)
        self.size += len(entry.ids)
        insort(self.tenants.setdefault(entry.order.tenant, []), (entry.order.deadline, number, entry))

    def keep(self, wanted: Callable[[Entry], bool]) -> None:
        kept = {
            tenant: [ranked for ranked in queue if wanted(ranked[2])]
            for tenant, queue in self.tenants.items()
        }
        self.tenants = {tenant: queue for tenant, queue in kept.items() if queue}
        self.size = sum(len(entry.ids) for _, _, entry in chain(*self.tenants.values()))

    def take(self, tenant: str, limit: int) -> Entry:
        """Take at most `limit` instances of the tenant's first entry."""
        deadline, number, entry = self.tenants[tenant].pop(0)
        taken, rest = entry.ids[:limit], entry.ids[limit:]
        self.size -= len(taken)
        if rest:
            self.tenants[tenant].insert(0, (deadline, number, replace(entry, ids=rest)))
        elif not self.tenants[tenant]:
            del self.tenants[tenant]
        return replace(entry, ids=taken)


class FairQueue:
    """The entries of one action in one region of one account, for calls of at most `max_batch` instances."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._sequence = 0
        self._future: list[_Ranked] = []  # a heap by due_at
        self._due: dict[Hashable, _CallQueue] = {}
        # The number of instances sent for each waiting tenant. A new tenant starts at the current minimum.
        self._served: dict[str, int] = {}

    def __iter__(self) -> Iterator[Entry]:
        """All waiting entries, in no particular order."""
        queues = chain(self._future, *(chain(*queue.tenants.values()) for queue in self._due.values()))
        return (entry for _, _, entry in queues)

    @property
    def waiting(self) -> int:
        """The number of due instances, as of the last `take` or `next_at`."""
        return sum(queue.size for queue in self._due.values())

    def copy(self) -> "FairQueue":
        """Return a copy that can be emptied without a change of the original. It shares the entries."""
        shared = {id(entry): entry for entry in self}
        return deepcopy(self, dict(shared))

    def add(self, entry: Entry) -> None:
        """Add an entry. An entry without instances is ignored."""
        if entry.ids:
            self._sequence += 1
            heapq.heappush(self._future, (entry.due_at, self._sequence, entry))

    def keep(self, wanted: Callable[[Entry], bool]) -> None:
        """Remove all other entries."""
        self._future = [ranked for ranked in self._future if wanted(ranked[2])]
        heapq.heapify(self._future)
        for queue in self._due.values():
            queue.keep(wanted)
        self._forget(set(self._served))

    def limit_waits(self, now: datetime, longest: timedelta) -> None:
        """After the clock was set back to `now`, limit all waits to `longest`, except for a deadline."""
        latest = now + longest
        entries = list(self)
        self._future, self._due, self._served = [], {}, {}
        for entry in entries:
            due_at, ready_at = (
                max(entry.order.deadline, min(instant, latest)) for instant in (entry.due_at, entry.ready_at)
            )
            self.add(replace(entry, due_at=due_at, ready_at=ready_at))

    def take(self, now: datetime, limiter: RateLimiter, call_limit: CallLimit = no_call_limit) -> list[Entry]:
        """Take the entries of the call to make at `now`; empty if no call is due or allowed."""
        queue = self._next_call(now, call_limit)
        if queue is None:
            return []
        limit = min(self._max_batch, call_limit(queue.first))
        room = min(limiter.available(now), limit)
        if room < min(queue.size, limit, limiter.min_call_size):
            return []
        tenants = set(queue.tenants)
        taken = list(self._share(queue, room))
        self._forget(tenants - queue.tenants.keys())
        return taken

    def next_at(
        self, now: datetime, limiter: RateLimiter, call_limit: CallLimit = no_call_limit
    ) -> datetime | None:
        """Return when to call `take` again if nothing is added; None if no entry waits for an instant."""
        queue = self._next_call(now, call_limit)
        if queue is not None:
            limit = min(self._max_batch, call_limit(queue.first))
            return limiter.ready_at(min(queue.size, limit, limiter.min_call_size), now)
        instants = [queue.ready_at for queue in self._due.values() if call_limit(queue.first)]
        instants += [due_at for due_at, _, _ in self._future[:1]]
        return min(instants, default=None)

    def _next_call(self, now: datetime, call_limit: CallLimit) -> _CallQueue | None:
        """Return the entries that share the next call, or None if none is ready."""
        while self._future and self._future[0][0] <= now:
            _, number, entry = self._future[0]
            self._due.setdefault(entry.call_key, _CallQueue(entry.ready_at)).add(number, entry)
            self._served.setdefault(entry.order.tenant, min(self._served.values(), default=0))
            heapq.heappop(self._future)  # last, so that an exception loses no entry
        ready = [queue for queue in self._due.values() if queue.ready_at <= now and call_limit(queue.first)]
        return min(ready, key=self._rank, default=None)

    def _rank(self, queue: _CallQueue) -> tuple[int, datetime, int]:
        """The sort key of calls: first the tenant that was served least, then the earliest deadline."""
        return min((self._served[tenant], *entries[0][:2]) for tenant, entries in queue.tenants.items())

    def _share(self, queue: _CallQueue, room: int) -> Iterator[Entry]:
        for tenant, granted in self._grant(queue, room).items():
            self._served[tenant] += granted
            left = granted
            while left:
                entry = queue.take(tenant, left)
                left -= len(entry.ids)
                yield entry

    def _grant(self, queue: _CallQueue, room: int) -> dict[str, int]:
        """Return the number of instances of each tenant in a call for `room` instances."""
        wanted = {
            tenant: sum(len(ranked[2].ids) for ranked in entries) for tenant, entries in queue.tenants.items()
        }
        if queue.size <= room:
            return wanted
        granted = dict.fromkeys(wanted, 0)
        turns = [(self._served[tenant], *entries[0][:2], tenant) for tenant, entries in queue.tenants.items()]
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
        """Drop empty call queues, and the counters of those `tenants` that have no due entry."""
        for key in [key for key, queue in self._due.items() if not queue.tenants]:
            del self._due[key]
        for tenant in tenants:
            if not any(tenant in queue.tenants for queue in self._due.values()):
                self._served.pop(tenant, None)
