"""The storage of the API server: each write has a resourceVersion and goes to the watches.

Old watch events expire, as in etcd. The full history of each object is kept separately, because the oracle
needs it.
"""

import copy
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.sim.kernel import EPOCH, Kernel, Process
from tests.sim.network import Stream

BOOKMARK_SECONDS = 60.0
"""The interval of bookmarks."""
EVENT_TTL_SECONDS = 300.0
"""How long watch events are kept at least, unless compacted earlier. etcd also keeps 300 s."""

Object = dict[str, Any]
Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """One watch event. `name` is the namespace and the name of the object."""

    version: int
    at: float
    name: Name
    line: bytes


@dataclass(slots=True)
class Watch:
    """An open watch; `name` is empty unless it selects one object."""

    stream: Stream
    plural: str
    name: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class Version:
    """A state of an object from an instant on (true time); None if the object does not exist."""

    since: float
    object: Object | None


class Storage:
    """Objects by the plural name of their kind, and by namespace and name.

    Attributes:
        version: the resourceVersion of the last write.
        compacted: events up to this resourceVersion have expired.
        objects: the current objects.
        versions: the full history of each object.
        on_write: called with each write: the client, the kind, and the object before and after.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.version = 1
        self.compacted = 0
        self.objects: defaultdict[str, dict[Name, Object]] = defaultdict(dict)
        self.versions: defaultdict[str, defaultdict[Name, list[Version]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.on_write: Callable[[str, str, Object | None, Object | None], None] = lambda *_: None
        self._kernel = kernel
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self._watches: list[Watch] = []
        kernel.call_later(BOOKMARK_SECONDS, self._bookmark)

    def commit(self, client: str, plural: str, old: Object | None, new: Object | None) -> bytes:
        """Store an object, or delete it if `new` is None; return its JSON."""
        self.version += 1
        body = copy.deepcopy(old) if new is None else new
        assert body is not None
        body["metadata"]["resourceVersion"] = str(self.version)
        name = (body["metadata"]["namespace"], body["metadata"]["name"])
        verb = "DELETED" if new is None else "ADDED" if old is None else "MODIFIED"
        if new is None:
            del self.objects[plural][name]
        else:
            self.objects[plural][name] = new
        self.versions[plural][name].append(Version(self._kernel.now, new))
        encoded = json.dumps(body).encode()
        line = b'{"type": "%s", "object": %s}\n' % (verb.encode(), encoded)
        self._events[plural].append(Event(self.version, self._kernel.now, name, line))
        for watch in self._watches:
            if watch.plural == plural and watch.name in {"", name[1]}:
                watch.stream.send(line)
        self.on_write(client, plural, old, new)
        return encoded

    def snapshot(self, plural: str, instant: float) -> tuple[int, list[Object]]:
        """Return the objects of a kind at an instant and their highest version, like a stale cache."""
        items, version = [], 1
        for versions in self.versions[plural].values():
            found = next((each for each in reversed(versions) if each.since <= instant), None)
            if found is not None and found.object is not None:
                items.append(found.object)
                version = max(version, int(found.object["metadata"]["resourceVersion"]))
        return version, items

    def changed_at(self, plural: str, name: str, namespace: str = "team") -> float:
        """Return when an object was last written or deleted (true time); 0 if never."""
        versions = self.versions[plural][namespace, name]
        return versions[-1].since if versions else 0.0

    def watch(self, stream: Stream, plural: str, name: str, since: int, seconds: int) -> None:
        """Send all events after `since`, and new ones for `seconds`."""
        for event in self._events[plural]:
            if event.version > since and name in {"", event.name[1]}:
                stream.send(event.line)
        self._watches.append(Watch(stream, plural, name, self._kernel.now + seconds))

    def open_watches(self, process: Process) -> int:
        """Return the number of open watches of a process."""
        return sum(watch.stream.process is process and not watch.stream.closed for watch in self._watches)

    def end_watches(self, plural: str) -> None:
        """End the watches of a kind without an error."""
        for watch in self._watches:
            if watch.plural == plural:
                watch.stream.send(None)

    def break_watches(self) -> None:
        """Reset all watches."""
        for watch in self._watches:
            watch.stream.reset()
        self._watches.clear()

    def compact(self) -> None:
        """Expire all events."""
        self.compacted = self.version
        for events in self._events.values():
            events.clear()

    def _bookmark(self) -> None:
        line = b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "%d"}}}\n' % self.version
        for watch in self._watches:
            watch.stream.send(line)
            if watch.ends_at <= self._kernel.now:
                watch.stream.send(None)
        self._watches = [watch for watch in self._watches if not watch.stream.closed]
        self._expire_events()
        self._kernel.call_later(BOOKMARK_SECONDS, self._bookmark)

    def _expire_events(self) -> None:
        """Expire events older than `EVENT_TTL_SECONDS`, once the oldest is twice as old."""
        for plural, events in self._events.items():
            if events and events[0].at < self._kernel.now - 2 * EVENT_TTL_SECONDS:
                kept = [event for event in events if event.at >= self._kernel.now - EVENT_TTL_SECONDS]
                expired = events[: len(events) - len(kept)]
                self.compacted = max(self.compacted, *(event.version for event in expired))
                self._events[plural] = kept


def timestamp(seconds: float) -> str:
    """Return an instant, given in seconds after `EPOCH`, in RFC 3339 format."""
    instant = EPOCH + timedelta(seconds=seconds)
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
