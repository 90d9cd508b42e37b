"""A work queue with the invariants of client-go and one absolute wake-up time per key.

The invariants, as in k8s.io/client-go/util/workqueue:
- A key in processing is not handed out again before `done`.
- A key added while it is in processing is handed out once more after `done`.
- Several adds of a waiting key collapse into one, and no add is lost.
- A delayed add keeps the earliest time.
- A key whose reconcile fails is requeued after an exponential back-off. Success resets the back-off.

The differences from client-go:
- The result of a reconcile replaces the timer of the key.
- A failure keeps the next boundary of the key, so that a back-off never delays a boundary.
- Keys that are due by the clock go first, then changed keys, then keys of the initial list. So a burst of
  changes does not delay a boundary.
"""

import asyncio
import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import count
from typing import Generic, TypeVar

from booking_operator.engine.clock import Clock, wait_until
from booking_operator.engine.introspection import Contents
from booking_operator.metrics import NO_METRICS, ControllerMetrics

K = TypeVar("K", bound=Hashable)

_MIN_STALE_TIMERS = 64


class Priority(IntEnum):
    """The order in which ready keys are handed out: the lowest value first."""

    BOUNDARY = 0
    CHANGE = 1
    INITIAL = 2


@dataclass(frozen=True, slots=True)
class Result:
    """When the queue hands out the key again after a reconcile.

    Attributes:
        next_at: when to reconcile the key again (aware UTC); None to wait for a change.
        failed: whether to retry after a back-off, or at `next_at` if that is earlier.
    """

    next_at: datetime | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off: `initial`, doubled after each failure, at most `maximum`."""

    initial: timedelta = timedelta(milliseconds=250)
    maximum: timedelta = timedelta(seconds=60)

    def after(self, failures: int) -> timedelta:
        """Return how long to wait after `failures` failures in a row; `failures` is at least 1."""
        doublings = min(failures - 1, 32)
        return min(self.initial * (1 << doublings), self.maximum)


@dataclass(frozen=True, slots=True, order=True)
class _Timer:
    at: datetime
    priority: Priority


@dataclass(slots=True)
class _Entry:
    """The state of one key.

    A key is never `ready` and `processing` at the same time. `again` is set only while `processing`.
    """

    ready: Priority | None = None
    processing: bool = False
    again: Priority | None = None
    timer: _Timer | None = None
    held: _Timer | None = None  # the timer at hand-out; restored if the reconcile fails without a `next_at`
    taken_at: datetime | None = None
    failures: int = 0
    since: datetime | None = None  # when the pending hand-out was requested or due

    @property
    def idle(self) -> bool:
        return not (self.processing or self.failures) and self.ready is None and self.timer is None


class WorkQueue(Generic[K]):
    """A queue of keys for one consumer. All methods except `get` and `wait_until_idle` are synchronous.

    `timer_priority` is the priority of keys that are due by the clock. A queue that only informs users passes
    `Priority.CHANGE`.

    Attributes:
        clock: the clock of all times in the queue.
        metrics: receives the measurements; the controller sets it.
    """

    def __init__(
        self, clock: Clock, backoff: Backoff | None = None, *, timer_priority: Priority = Priority.BOUNDARY
    ) -> None:
        self.clock = clock
        self.metrics: ControllerMetrics = NO_METRICS
        self._timer_priority = timer_priority
        self._backoff = backoff or Backoff()
        self._entries: dict[K, _Entry] = {}
        self._ready: list[tuple[Priority, int, K]] = []
        self._timers: list[tuple[datetime, int, K]] = []
        self._sequence = count()
        self._changed = asyncio.Event()
        self._processing = 0
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """How many keys are ready."""
        return self._waiting

    @property
    def key_count(self) -> int:
        """How many keys the queue holds: ready, in processing, or waiting for a timer or a back-off."""
        return len(self._entries)

    def introspect(self) -> Contents:
        """The keys that `key_count` counts."""
        return {"queue": self._entries.keys()}

    @property
    def busy(self) -> bool:
        """Whether any key is ready or in processing. Keys that wait for a timer do not count."""
        return not self._idle.is_set()

    async def wait_until_idle(self) -> None:
        """Wait until the queue is not busy."""
        await self._idle.wait()

    def add(self, key: K, priority: Priority = Priority.CHANGE) -> None:
        """Enqueue `key` now. If it is in processing, it becomes ready again after `done`."""
        self._add(key, self._entries.setdefault(key, _Entry()), priority, self.clock.now())
        self._changed.set()

    def add_at(self, key: K, when: datetime) -> None:
        """Enqueue `key` at `when` (aware UTC), unless it has an earlier timer."""
        entry = self._entries.setdefault(key, _Entry())
        self._set_timer(key, entry, _Timer(when, self._timer_priority), entry.timer)
        self._changed.set()

    async def get(self) -> K:
        """Wait for the next key. The caller must return it with `done`."""
        while True:
            self._changed.clear()
            for key in self.try_get():
                return key
            await wait_until(self.clock, self._timers[0][0] if self._timers else None, self._changed)

    def try_get(self) -> tuple[K, ...]:
        """Return the next key if one is ready or due, else an empty tuple.

        The caller must return the key with `done`.
        """
        self._fire_timers()
        if not self._ready:
            return ()
        _, _, key = heapq.heappop(self._ready)
        entry, now = self._entries[key], self.clock.now()
        if entry.since is not None:
            self.metrics.waited(max(0.0, (now - entry.since).total_seconds()))
        entry.ready, entry.processing, entry.taken_at, entry.since = None, True, now, None
        self._waiting -= 1
        entry.held, entry.timer = entry.timer, None
        self._processing += 1
        self._discard_stale()
        return (key,)

    def done(self, key: K, result: Result) -> None:
        """Return `key` after a reconcile.

        Its timer becomes the time that `result` asks for, or an earlier time that was added during the
        reconcile. If the clock was set back during the reconcile, the key is ready again at once.
        """
        entry, now = self._entries[key], self.clock.now()
        wanted = [_Timer(result.next_at, self._timer_priority)] if result.next_at else []
        if result.failed:
            entry.failures += 1
            self.metrics.retried()
            pause = self._backoff.after(entry.failures)
            wanted.append(_Timer(now + pause, Priority.CHANGE))
            if entry.held and not result.next_at:
                wanted.append(entry.held)
        else:
            entry.failures = 0
        # This reconcile has handled every boundary that was due at hand-out. If the clock was set back since
        # then, such a boundary is in the future again.
        taken_at = entry.taken_at or now
        wanted = [timer for timer in wanted if timer.at > min(taken_at, now)]
        if now < taken_at:
            # The reconcile may have read an instant that is in the future again, after another boundary.
            self._add(key, entry, self._timer_priority, now)
        entry.processing, entry.held, entry.taken_at = False, None, None
        if wanted:
            self._set_timer(key, entry, min(wanted), entry.timer)
        if entry.again is not None:
            self._make_ready(key, entry, entry.again)
            entry.again = None
        if entry.idle:
            del self._entries[key]
        self._processing -= 1
        if not (self._processing or self._ready):
            self._idle.set()
        self._changed.set()

    def _fire_timers(self) -> None:
        now = self.clock.now()
        while self._timers and self._timers[0][0] <= now:
            _, _, key = heapq.heappop(self._timers)
            entry = self._entries[key]
            timer, entry.timer = entry.timer, None
            self._discard_stale()
            if timer is not None:
                self._add(key, entry, timer.priority, timer.at)
                self._changed.set()

    def _add(self, key: K, entry: _Entry, priority: Priority, since: datetime) -> None:
        if entry.since is None:
            entry.since = since
            self.metrics.added()
        if entry.processing:
            entry.again = priority if entry.again is None else min(entry.again, priority)
        elif entry.ready is None or priority < entry.ready:
            self._make_ready(key, entry, priority)

    def _make_ready(self, key: K, entry: _Entry, priority: Priority) -> None:
        self._waiting += entry.ready is None
        entry.ready = priority
        self._idle.clear()
        heapq.heappush(self._ready, (priority, next(self._sequence), key))
        self._discard_stale()

    def _set_timer(self, key: K, entry: _Entry, timer: _Timer, other: _Timer | None) -> None:
        if other is not None and other <= timer:
            return
        entry.timer = timer
        heapq.heappush(self._timers, (timer.at, next(self._sequence), key))
        self._discard_stale()
        if len(self._timers) > 2 * len(self._entries) + _MIN_STALE_TIMERS:
            self._rebuild_timers()

    def _rebuild_timers(self) -> None:
        """Drop superseded timers.

        Each reconcile of a key with a boundary months ahead leaves one in the heap.
        """
        held = ((entry.timer, key) for key, entry in self._entries.items())
        self._timers = [(timer.at, next(self._sequence), key) for timer, key in held if timer is not None]
        heapq.heapify(self._timers)

    def _discard_stale(self) -> None:
        """Drop superseded entries from the heads of both heaps, so that the heads are valid."""
        while self._ready and self._is_stale_ready(*self._ready[0]):
            heapq.heappop(self._ready)
        while self._timers and self._is_stale_timer(*self._timers[0]):
            heapq.heappop(self._timers)

    def _is_stale_ready(self, priority: Priority, _: int, key: K) -> bool:
        entry = self._entries.get(key)
        return entry is None or entry.ready is not priority

    def _is_stale_timer(self, at: datetime, _: int, key: K) -> bool:
        entry = self._entries.get(key)
        return entry is None or entry.timer is None or entry.timer.at != at
