"""Results that are used again for a short time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from booking_operator.engine.clock import Clock

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")
MAX_ENTRIES = 10_000
"""The maximum number of entries, because callers may send any number of different keys."""


class ExpiringCache(Generic[Q, A]):
    """The results of requests by their key. Each is used for some seconds.

    Args:
        clock: the monotonic clock.
        seconds: how long a result is used.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._entries: dict[Q, tuple[float, A]] = {}  # by the time of the result
        self._locks: WeakValueDictionary[Q, asyncio.Lock] = WeakValueDictionary()  # of the present callers

    async def get(self, key: Q, ask: Callable[[], Awaitable[A]]) -> A:
        """Return the result for a key; ask for it if it is unknown or old.

        Callers who want the same key at the same time wait for one request. Errors are not remembered.
        """
        async with self._locks.setdefault(key, asyncio.Lock()):
            found = self._entries.get(key)
            if found is not None and self._clock.monotonic() - found[0] < self._seconds:
                return found[1]
            result = await ask()
            self._entries.pop(key, None)
            self._entries[key] = (self._clock.monotonic(), result)
            self._remove_old()
            return result

    def _remove_old(self) -> None:
        limit = self._clock.monotonic() - self._seconds
        while self._entries:
            oldest = next(iter(self._entries))
            if self._entries[oldest][0] > limit and len(self._entries) <= MAX_ENTRIES:
                return
            del self._entries[oldest]
