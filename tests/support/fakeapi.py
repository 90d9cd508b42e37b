"""An API server in memory as a reflector sees it: resourceVersions, pages, watches, compaction, faults."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Literal

from booking_operator.engine.reflector import (
    EventType,
    ListPage,
    ListWatchError,
    ResourceExpiredError,
    WatchEvent,
)
from tests.support.objects import Thing, thing

Fault = Literal["", "refused", "instant close", "gone", "not found"]
PAGE = 2


class FakeApi:
    """Objects with a history. Every request meets `fault` until a test changes it."""

    def __init__(self) -> None:
        self.version = 1
        self.objects: dict[str, Thing] = {}
        self.history: list[WatchEvent[Thing]] = []
        self.compacted = 0
        self.fault: Fault = ""
        self.lists = 0
        self.watches = 0
        self._news = asyncio.Event()
        self._snapshots: dict[str, tuple[int, list[Thing]]] = {}
        self._cut = 0

    def put(self, name: str, status: str) -> None:
        """Create or update an object."""
        self.version += 1
        verb = EventType.MODIFIED if name in self.objects else EventType.ADDED
        self.objects[name] = thing(name, self.version, status)
        self._record(WatchEvent(verb, str(self.version), self.objects[name]))

    def remove(self, name: str) -> None:
        """Delete an object if it exists."""
        gone = self.objects.pop(name, None)
        if gone is None:
            return
        self.version += 1
        last = replace(gone, metadata=replace(gone.metadata, resource_version=str(self.version)))
        self._record(WatchEvent(EventType.DELETED, str(self.version), last))

    def restore(self, version: int, objects: dict[str, Thing]) -> None:
        """Return to the objects of an earlier version. Later changes reuse versions from before."""
        self.version, self.objects, self.history = version, dict(objects), []

    def bookmark(self) -> None:
        """Send a BOOKMARK event to watchers."""
        self._record(WatchEvent(EventType.BOOKMARK, str(self.version)))

    def compact(self) -> None:
        """Expire older versions for new lists and watches. Open watches continue."""
        self.compacted = self.version

    def cut(self) -> None:
        """Close all open watches."""
        self._cut += 1
        self._news.set()

    def _record(self, event: WatchEvent[Thing]) -> None:
        self.history.append(event)
        self._news.set()

    def _check(self) -> None:
        if self.fault == "refused":
            raise ListWatchError("connection refused")
        if self.fault == "gone":
            raise ResourceExpiredError("too old resource version")
        if self.fault == "not found":
            raise ListWatchError("no such kind", stale_reason="the kind is not served")

    async def list(self, token: str = "") -> ListPage[Thing]:
        """Pages of two objects. All pages have the version of the first page."""
        await asyncio.sleep(0.001)
        self._check()
        self.lists += 1
        if not token:
            token = f"{self.lists}"
            self._snapshots[token] = (self.version, list(self.objects.values()))
        version, rest = self._snapshots.pop(token)
        if version < self.compacted:
            raise ResourceExpiredError("the continue token is too old")
        page, rest = rest[:PAGE], rest[PAGE:]
        if rest:
            self._snapshots[f"{token}+"] = (version, rest)
        return ListPage(page, str(version), f"{token}+" if rest else "")

    @asynccontextmanager
    async def watch(
        self, resource_version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[WatchEvent[Thing]]]:
        """Events after a version, until the watch is cut or times out."""
        await asyncio.sleep(0.001)
        self._check()
        self.watches += 1
        if int(resource_version) < self.compacted:
            raise ResourceExpiredError("too old resource version")
        async with aclosing(self._events(int(resource_version), seconds)) as events:
            yield events

    async def _events(self, version: int, seconds: int) -> AsyncGenerator[WatchEvent[Thing], None]:
        if self.fault == "instant close":
            return
        loop, cut = asyncio.get_running_loop(), self._cut
        ends = loop.time() + seconds
        sent: set[int] = set()
        while self._cut == cut and loop.time() < ends:
            for event in list(self.history):
                if int(event.resource_version) > version and id(event) not in sent:
                    sent.add(id(event))
                    yield event
            self._news.clear()
            try:
                async with asyncio.timeout(ends - loop.time()):
                    await self._news.wait()
            except TimeoutError:
                return
