"""Keeps a store in sync with the API server: one consistent list, then a watch, until cancelled.

It follows client-go's Reflector, with three differences:
- Lists are consistent reads (without a resourceVersion). A list from the watch cache of the API server may be
  stale, and a booking that is missing from it would let the instances stop.
- A watch that ends immediately is an error and leads to a back-off.
- The reflector knows whether its store may miss objects (`stale_reason`).
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

import structlog

from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Object, Origin, Store, is_older, is_version, key_of
from booking_operator.engine.workqueue import Backoff

T = TypeVar("T", bound=Object)

EVENTS_PER_TURN = 16
"""How many watch events the reflector applies before it yields to the other tasks of the event loop."""
OUTAGE_SECONDS = 1.0
"""An outage at least this long leads to a relist, because etcd may have been restored from a backup. After a
shorter one the watch resumes: no API server restarts that fast."""
MAX_SILENCE = timedelta(seconds=75)
"""The API server sends a bookmark about once a minute. If the reflector received nothing for longer than this
before a failure, it treats the failure as an outage."""
MIN_WATCH_TIME = timedelta(seconds=1)
"""A watch that ends sooner than this without an event counts as failed."""
MAX_RESUME_BACKOFF = timedelta(seconds=5)
"""The longest back-off before a watch is retried. Until it resumes, the operator acts on the cache, and stops
the instances of a booking whose extension it has not received. Lists cost more, so their back-off is longer;
it is safe, because a stale store blocks stops."""
WATCH_TIMEOUT_SECONDS = (300, 600)
"""Bounds of the server-side timeout of a watch. The value is random, so that the watches do not all reconnect
at the same time."""


class ResourceExpiredError(Exception):
    """The resourceVersion is too old to watch from (410 Gone). A relist is necessary."""


class ListWatchError(Exception):
    """A list or a watch failed.

    Attributes:
        stale_reason: why the store may miss objects; empty if the store is only no longer updated.
        retry_after: the delay that the server asks for, in seconds.
        needs_relist: whether a watch from the same resourceVersion could fail every time, so that a relist is
            necessary.
    """

    def __init__(
        self, message: str, *, stale_reason: str = "", retry_after: float = 0, needs_relist: bool = False
    ) -> None:
        """Create it from the response of the API server."""
        super().__init__(message)
        self.stale_reason = stale_reason
        self.retry_after = retry_after
        self.needs_relist = needs_relist


class _ShortWatchError(ListWatchError):
    """The API server responds, but ends the watch immediately."""


class RestartReason(StrEnum):
    """Why a list or a watch started again."""

    ENDED = "ended"
    """The server ended the watch at its timeout, as expected."""
    EXPIRED = "expired"
    """410 Gone: the server no longer has the missed events. The reflector relists."""
    REFUSED = "refused"
    """The API server does not serve the kind (404), or forbids the request (403)."""
    FAILED = "failed"
    """All other failures: no connection, a server error, a timeout, or an invalid response."""


class EventType(StrEnum):
    """Type of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """One page of a list. `token` is the continue token; it is empty on the last page."""

    items: list[T]
    resource_version: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One watch event. A bookmark has no object."""

    type: EventType
    resource_version: str
    object: T | None = None


class ListerWatcher(Protocol[T]):
    """Lists and watches one kind. Both methods raise only `ResourceExpiredError` and `ListWatchError`."""

    async def list(self, token: str = "") -> ListPage[T]:
        """Return one page of a consistent list; `token` comes from the previous page."""
        ...

    def watch(
        self, resource_version: str, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent[T]]]:
        """Watch the events after `resource_version`. The server ends the watch after `seconds`."""
        ...


class Reflector(Generic[T]):
    """Lists and watches one kind, and writes the result to a store.

    Attributes:
        kind: plural name of the kind.
        has_synced: whether the first list has completed.
        backing_off: whether the last list or watch failed and the reflector waits for its back-off.
        last_activity_at: when the API server last sent an event, a bookmark or a list page of the kind (aware
            UTC).
        list_seconds: how long the last list took, in seconds.
        restarts: how often a list or watch started again, by reason.
    """

    def __init__(
        self,
        kind: str,
        source: ListerWatcher[T],
        store: Store[T],
        clock: Clock,
        backoff: Backoff | None = None,
    ) -> None:
        self.kind = kind
        self.has_synced = False
        self.backing_off = False
        self.last_activity_at: datetime | None = None
        self.list_seconds = 0.0
        self.restarts: Counter[RestartReason] = Counter()
        self._lister_watcher = source
        self._store = store
        self._clock = clock
        self._backoff = backoff or Backoff(maximum=timedelta(seconds=30))
        self._version = ""
        self._stale_reason = ""
        self._failures: Counter[str] = Counter()  # since the last successful watch, by log event
        self._timeout: asyncio.Timeout | None = None
        self._needs_list = True
        self._disconnected_at: float | None = None  # on the monotonic clock
        self._log = structlog.get_logger(kind=kind)
        self._synced_callbacks: list[Callable[[], None]] = []
        self._failed_callbacks: list[Callable[[], None]] = []
        self._recovered_callbacks: list[Callable[[], None]] = []

    @property
    def stale_reason(self) -> str:
        """Why the store may miss objects; empty if it is complete.

        A watch that is down does not make the store stale. The cached objects stay valid until the API server
        reports a change.
        """
        if not self.has_synced:
            return f"the {self.kind} have not been listed yet"
        return self._stale_reason

    def on_synced(self, call: Callable[[], None]) -> None:
        """Call `call` after each complete list."""
        self._synced_callbacks.append(call)

    def on_failed(self, call: Callable[[], None]) -> None:
        """Call `call` each time a list or a watch fails. A 410 is no failure, because the server answers."""
        self._failed_callbacks.append(call)

    def on_recovered(self, call: Callable[[], None]) -> None:
        """Call `call` each time a watch opens after a failure."""
        self._recovered_callbacks.append(call)

    def relist(self, why: str) -> None:
        """List all objects again. Until then the store is stale, with the reason `why`."""
        self._stale_reason, asked = why, self._needs_list
        self._needs_list = True
        if self._timeout is None or self._timeout.expired():
            return  # not running, or already interrupted; a list follows
        if self.backing_off or not asked:
            self._timeout.reschedule(0)

    async def run(self) -> None:
        """List and watch until cancelled."""
        try:
            while True:
                with suppress(TimeoutError):  # `relist` interrupts with a timeout
                    async with asyncio.timeout(None) as self._timeout:
                        await self._list_and_watch()
        finally:
            self._timeout = None

    async def _list_and_watch(self) -> None:
        listing = self._needs_list
        try:
            if listing or self.had_outage:
                await self._list()
            listing = False
            await self._watch()
            self.restarts[RestartReason.ENDED] += 1
        except (ResourceExpiredError, ListWatchError) as error:
            refusal = error.stale_reason if isinstance(error, ListWatchError) else ""
            if refusal or listing:
                self._stale_reason = refusal or f"the last list of {self.kind} failed: {error}"
                self._needs_list = True
            await self._handle_failure(error)

    async def _handle_failure(self, error: ResourceExpiredError | ListWatchError) -> None:
        """Wait for the back-off. The next attempt starts with a list if the failure requires one."""
        if isinstance(error, ResourceExpiredError):
            self._needs_list = True
            self.restarts[RestartReason.EXPIRED] += 1
            await self._back_off("watch_expired", error)
            return
        self.restarts[RestartReason.REFUSED if error.stale_reason else RestartReason.FAILED] += 1
        for call in self._failed_callbacks:
            call()
        await self._back_off("list_failed" if self._needs_list else "watch_failed", error)
        self._needs_list = self._needs_list or error.needs_relist

    async def _list(self) -> None:
        began, lapsed, self._needs_list = self._clock.monotonic(), self.had_outage, False
        page = await self._lister_watcher.list()
        items = page.items
        while page.token:
            self.last_activity_at = self._clock.now()
            page = await self._lister_watcher.list(page.token)
            items += page.items
        gone_back, self._version = is_older(page.resource_version, self._version), page.resource_version
        origin = Origin.WATCH if self.has_synced else Origin.INITIAL
        # Own writes that are newer than the list stay; the watch delivers all later changes. After an outage
        # the list replaces them too, because etcd may have issued their resourceVersions a second time.
        self._store.replace(items, origin, ignore_versions=gone_back, as_of="" if lapsed else self._version)
        self.has_synced, self._stale_reason, self._disconnected_at = True, "", None
        self.last_activity_at, self.list_seconds = self._clock.now(), self._clock.monotonic() - began
        self._log.info("list_synced", objects=len(items), resource_version=self._version)
        for call in self._synced_callbacks:
            call()

    @property
    def had_outage(self) -> bool:
        """Whether the watch is down for so long that etcd may have been restored from a backup.

        A restored etcd issues the same resourceVersions a second time. A watch from a resourceVersion in its
        future does not fail. It delivers no event until etcd reaches that version, and never the changes that
        the restore made.
        """
        if self._disconnected_at is None:
            return False
        unheard = (
            self.last_activity_at is not None and self._clock.now() - self.last_activity_at > MAX_SILENCE
        )
        return unheard or self._clock.monotonic() - self._disconnected_at >= OUTAGE_SECONDS

    async def _watch(self) -> None:
        began, events = self._clock.now(), 0
        async with self._lister_watcher.watch(
            self._version, random.randint(*WATCH_TIMEOUT_SECONDS)
        ) as stream:
            self._disconnected_at = None
            if self._failures:
                for call in self._recovered_callbacks:
                    call()
            async for event in stream:
                self._apply(event)
                events += 1
                self._failures.clear()
                if events % EVENTS_PER_TURN == 0:
                    await asyncio.sleep(0)  # buffered events arrive without yielding to the loop
        if not events and self._clock.now() - began < MIN_WATCH_TIME:
            raise _ShortWatchError("the API server closed the watch immediately")
        self._failures.clear()

    def _apply(self, event: WatchEvent[T]) -> None:
        if event.resource_version and is_version(self._version) and not is_version(event.resource_version):
            # Without a number, the reflector could not notice that a later event is from the past.
            raise ListWatchError(
                f"a watch event has the invalid resourceVersion {event.resource_version!r}", needs_relist=True
            )
        if is_older(event.resource_version, self._version):
            raise ResourceExpiredError(
                f"a watch event with resourceVersion {event.resource_version} arrived after {self._version}; "
                "the history of the API server differs from the last list"
            )
        self._version = event.resource_version or self._version
        self.last_activity_at = self._clock.now()
        if event.object is None:
            return
        if event.type is EventType.DELETED:
            self._store.delete(key_of(event.object))
        else:
            self._store.apply(event.object)

    async def _back_off(self, event: str, error: ResourceExpiredError | ListWatchError) -> None:
        # Each kind of failure has its own counter. A 410 after many failed watches shows that the server
        # responds, so the relist follows after a short back-off.
        self._failures[event] += 1
        failures = self._failures[event]
        asked = error.retry_after if isinstance(error, ListWatchError) else 0
        away = event == "watch_failed" and not isinstance(error, _ShortWatchError)
        longest = MAX_RESUME_BACKOFF if away else self._backoff.maximum
        pause = min(self._backoff.after(failures), longest).total_seconds() * random.uniform(0.5, 1)
        pause = max(pause, min(asked, self._backoff.maximum.total_seconds()))
        self._log.warning(event, error=str(error), failures=failures, retry_in_s=round(pause, 3))
        if away and self._disconnected_at is None:
            self._disconnected_at = self._clock.monotonic()
        self.backing_off = True
        try:
            await self._clock.sleep(pause)
        finally:
            self.backing_off = False
