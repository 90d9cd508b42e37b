"""Keeps a store equal to what the API server has: one consistent list, then a watch from there, for ever.

As client-go's Reflector, with these differences. Lists are consistent (no resourceVersion), because one from
the API server's cache may be behind, and a booking that is missing from it would get its machines stopped. A
watch that ends at once again and again is an error. And a reflector knows whether its store may be stale.
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
from booking_operator.engine.store import Object, Origin, Store, is_older, key_of
from booking_operator.engine.workqueue import Backoff

T = TypeVar("T", bound=Object)

EVENTS_PER_TURN = 16
"""Watch events in a row that are taken before the loop's other tasks get a turn."""
OUTAGE_SECONDS = 1.0
"""No API server is restarted, let alone restored, in less; what is shorter is resumed."""
MAX_SILENCE = timedelta(seconds=75)
"""Bookmarks come about once a minute: after a longer silence the server was away."""
MIN_WATCH_TIME = timedelta(seconds=1)
"""A watch that brought nothing and ended sooner than this did not do its work."""
MAX_RESUME_BACKOFF = timedelta(seconds=5)
"""The longest wait before a watch is tried again: what is acted upon meanwhile is what was known, so a
booking that was extended would be stopped. Lists, which cost more, wait longer; then nothing is stopped."""
WATCH_TIMEOUT_SECONDS = (300, 600)
"""Bounds of the server-side timeout of a watch: random, so that not all of them reconnect together."""


class ResourceExpiredError(Exception):
    """The resource version is too old to watch from (410 Gone): list again."""


class ListWatchError(Exception):
    """The API server did not do what was asked.

    Attributes:
        stale_reason: why the store may miss objects; empty where it is only no longer brought up to date.
        retry_after: how long the server asks to wait, in seconds.
        needs_relist: whether to watch on from where it failed could fail for ever; then all is listed again.
    """

    def __init__(
        self, message: str, *, stale_reason: str = "", retry_after: float = 0, needs_relist: bool = False
    ) -> None:
        """Build it from the server's answer."""
        super().__init__(message)
        self.stale_reason = stale_reason
        self.retry_after = retry_after
        self.needs_relist = needs_relist


class _ShortWatchError(ListWatchError):
    """The API server answers, and ends the watch at once."""


class RestartReason(StrEnum):
    """Why a watch had to be opened again."""

    ENDED = "ended"
    """By the server, after its time: as it should be."""
    EXPIRED = "expired"
    """410: what was missed is no longer known, and all is listed again."""
    REFUSED = "refused"
    """The kind is not served (404), or not readable (403)."""
    FAILED = "failed"
    """All else: no connection, an error of the server, silence, garbage."""


class EventType(StrEnum):
    """Type of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """One page of a list; `token` is empty on the last one."""

    items: list[T]
    resource_version: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One watch event; a bookmark has no object."""

    type: EventType
    resource_version: str
    object: T | None = None


class ListerWatcher(Protocol[T]):
    """Lists and watches one kind. Both raise `ResourceExpiredError` and `SourceError`, and nothing else."""

    async def list(self, token: str = "") -> ListPage[T]:
        """One page of a consistent list; `token` is the previous page's."""
        ...

    def watch(
        self, resource_version: str, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent[T]]]:
        """Events after `resource_version`; the server ends the watch after `seconds`."""
        ...


class Reflector(Generic[T]):
    """Runs list and watch of one kind into a store.

    Attributes:
        kind: plural name of the kind.
        has_synced: whether it was listed since the start.
        backing_off: whether the last list or watch failed, and the next waits for its back-off.
        last_activity_at: when the API server last sent anything of the kind, bookmarks included (aware UTC).
        list_seconds: how long the last list took, in seconds.
        restarts: how often a list or watch had to begin again, by the reason.
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
        self._failures: Counter[str] = Counter()  # since a watch last did its work, by what failed
        self._timeout: asyncio.Timeout | None = None
        self._needs_list = True
        self._disconnected_at: float | None = None  # on the monotonic clock
        self._log = structlog.get_logger(kind=kind)
        self._synced_callbacks: list[Callable[[], None]] = []
        self._recovered_callbacks: list[Callable[[], None]] = []

    @property
    def stale_reason(self) -> str:
        """Why the store may miss objects; empty while it may be trusted.

        A watch that is down does not make the store stale: what was known holds until the API server says
        otherwise.
        """
        if not self.has_synced:
            return f"the {self.kind} have not been listed yet"
        return self._stale_reason

    def on_synced(self, call: Callable[[], None]) -> None:
        """Have `call` called after each complete list."""
        self._synced_callbacks.append(call)

    def on_recovered(self, call: Callable[[], None]) -> None:
        """Have `call` called when a watch stands again after a failure: the API server is back."""
        self._recovered_callbacks.append(call)

    def relist(self, why: str) -> None:
        """List everything again. Until then the store is stale, for the reason `why`."""
        self._stale_reason, asked = why, self._needs_list
        self._needs_list = True
        if self._timeout is None or self._timeout.expired():
            return  # what is under way is interrupted already, and a list follows
        if self.backing_off or not asked:
            self._timeout.reschedule(0)

    async def run(self) -> None:
        """List and watch until cancelled."""
        try:
            while True:
                with suppress(TimeoutError):  # when asked to list
                    async with asyncio.timeout(None) as self._timeout:
                        await self._list_and_watch()
        finally:
            self._timeout = None

    async def _list_and_watch(self) -> None:
        listing = self._needs_list
        try:
            if listing or self._had_outage:
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
        """After a pause; with a list, where there must be one."""
        if isinstance(error, ResourceExpiredError):
            self._needs_list = True
            self.restarts[RestartReason.EXPIRED] += 1
            await self._back_off("watch_expired", error)
            return
        self.restarts[RestartReason.REFUSED if error.stale_reason else RestartReason.FAILED] += 1
        await self._back_off("list_failed" if self._needs_list else "watch_failed", error)
        self._needs_list = self._needs_list or error.needs_relist

    async def _list(self) -> None:
        began, lapsed, self._needs_list = self._clock.monotonic(), self._had_outage, False
        page = await self._lister_watcher.list()
        items = page.items
        while page.token:
            self.last_activity_at = self._clock.now()
            page = await self._lister_watcher.list(page.token)
            items += page.items
        gone_back, self._version = is_older(page.resource_version, self._version), page.resource_version
        origin = Origin.WATCH if self.has_synced else Origin.INITIAL
        # What we wrote since stays, and the watch brings the rest; not so where versions may be given twice.
        self._store.replace(items, origin, ignore_versions=gone_back, as_of="" if lapsed else self._version)
        self.has_synced, self._stale_reason, self._disconnected_at = True, "", None
        self.last_activity_at, self.list_seconds = self._clock.now(), self._clock.monotonic() - began
        self._log.info("list_synced", objects=len(items), resource_version=self._version)
        for call in self._synced_callbacks:
            call()

    @property
    def _had_outage(self) -> bool:
        """Whether the server was away for so long that its storage may have been restored from a backup.

        Then versions are given twice. A watch from one that lies ahead is no error to it: it would report
        nothing until that is reached, and never what the backup has changed.
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
                    await asyncio.sleep(0)  # those that have arrived already are read without a pause
        if not events and self._clock.now() - began < MIN_WATCH_TIME:
            raise _ShortWatchError("the API server ends the watch at once")
        self._failures.clear()

    def _apply(self, event: WatchEvent[T]) -> None:
        if is_older(event.resource_version, self._version):
            raise ResourceExpiredError(
                f"an event of version {event.resource_version} came after {self._version}: "
                "the API server has another history than the one that was listed"
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
        # Each kind of failure counts by itself: a 410 after many refusals is an answer, and the list that it
        # asks for comes soon.
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
