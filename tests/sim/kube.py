"""An API server in memory, as its clients see it: versions, pages, watches, conflicts, compaction.

What it stores are the JSON objects that the real one would store. It keeps what each object was at which
time, which is what an oracle needs to say what a client could know.
"""

import copy
import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from booking_operator.api.kinds import KINDS
from booking_operator.kube.errors import ApiError
from tests.sim.kernel import EPOCH, Kernel, Process
from tests.sim.network import Stream

BOOKMARK_SECONDS = 60.0
KEPT_SECONDS = 300.0
"""How long old versions are kept, as etcd does, unless compacted earlier."""
_PARTS_OF_COLLECTION = 1
_PARTS_OF_OBJECT = 2

Object = dict[str, Any]
Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch."""

    version: int
    at: float
    kind: str
    name: Name
    line: bytes


@dataclass(slots=True)
class Watch:
    """A watch that is open."""

    stream: Stream
    plural: str
    name: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class Version:
    """What an object was from an instant on, in true time; None while it did not exist."""

    since: float
    object: Object | None


@dataclass
class Faults:
    """What the server itself does wrong.

    Attributes:
        status: with which HTTP status it answers instead of what was asked.
        share: how often.
    """

    status: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        client: name of the process that asks; empty for users.
        path: as in the URL.
        query: the same.
        body: JSON, parsed.
    """

    client: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None


class SimKube:
    """The server. Whatever it is asked it does at once; the way there and back is the network's.

    Attributes:
        version: of the last write.
        faults: what it does wrong at present.
        past: what each object was, by plural name of its kind.
        written: is told of each change, with who made it.
    """

    def __init__(self, kernel: Kernel, seed: str) -> None:
        self.version = 1
        self.faults = Faults()
        self.past: defaultdict[str, defaultdict[Name, list[Version]]] = defaultdict(lambda: defaultdict(list))
        self.written: Callable[[str, str, Object | None, Object | None], None] = lambda *_: None
        self.asked: Callable[[Request, int], None] = lambda *_: None
        self._kernel = kernel
        self._random = random.Random(f"{seed}/kube")
        self._page = self._random.choice((2, 3, 10, 500))
        self._objects: defaultdict[str, dict[Name, Object]] = defaultdict(dict)
        self._history: defaultdict[str, list[Event]] = defaultdict(list)
        self._compacted = 0
        self._watches: list[Watch] = []
        self._snapshots: dict[str, tuple[int, list[Object]]] = {}
        self._crds: dict[str, str | None] = {kind.plural: None for kind in KINDS}
        self._numbers = 0
        kernel.after(BOOKMARK_SECONDS, self._bookmark)

    # What users do, without a network between.

    def get(self, plural: str, name: str, namespace: str = "team") -> Object | None:
        """An object as it is now."""
        return self._objects[plural].get((namespace, name))

    def all(self, plural: str) -> list[Object]:
        """All objects of a kind, as they are now."""
        return list(self._objects[plural].values())

    def user(self, method: str, plural: str, name: str, body: Object | None = None) -> None:
        """A user's write, which may be refused like any other."""
        group = "manager.kotaico.de/v1"
        tail = "" if method == "POST" else f"/{name}"
        path = f"/apis/{group}/namespaces/team/{plural}{tail}"
        if body is not None:
            body = {"metadata": {"name": name}} | body
        try:
            self.serve(Request("", method, path, body=body))
        except ApiError:
            return

    # What clients ask.

    def serve(self, request: Request) -> bytes:
        """Answer one request.

        Raises:
            ApiError: it is refused.
        """
        if request.client and self._random.random() < self.faults.share:
            status = self.faults.status
            self.asked(request, status)
            raise ApiError(status, f"HTTP {status}: faulty", retry_after=1 if status == 429 else 0)
        try:
            answer = self._serve(request)
        except ApiError as error:
            self.asked(request, error.status)
            raise
        self.asked(request, 200)
        return answer

    def _serve(self, request: Request) -> bytes:
        parts = request.path.split("/")[4:]
        if "customresourcedefinitions" in request.path:
            plural = parts[-1].partition(".")[0]
            if plural not in self._crds:
                raise ApiError(404, "HTTP 404: no such CRD")
            stamp = self._crds[plural]
            return json.dumps({"metadata": {"deletionTimestamp": stamp} if stamp else {}}).encode()
        namespace = ""
        if parts and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
        plural = parts[0]
        if plural not in self._crds and plural in {kind.plural for kind in KINDS}:
            raise ApiError(404, "HTTP 404: the kind is not served")
        if len(parts) == _PARTS_OF_COLLECTION:
            if request.method == "GET":
                return self._list(plural, request.query)
            return self._create(request, plural, namespace)
        name, sub = parts[1], "".join(parts[_PARTS_OF_OBJECT:])
        found = self._objects[plural].get((namespace, name))
        if found is None:
            raise ApiError(404, f"HTTP 404: {plural} {name} not found")
        match request.method:
            case "GET":
                return json.dumps(found).encode()
            case "DELETE":
                return self._delete(request, plural, found)
            case _:
                return self._update(request, plural, found, sub)

    def _list(self, plural: str, query: Mapping[str, str]) -> bytes:
        token = query.get("continue", "")
        if token:
            version, rest = self._snapshots.pop(token, (0, []))
            if version <= self._compacted:
                raise ApiError(410, "HTTP 410: the continue parameter is too old")
        else:
            version, rest = self._stale(plural) if query.get("resourceVersion") == "0" else self._now(plural)
        if name := query.get("fieldSelector", "").rpartition("=")[2]:
            rest = [item for item in rest if item["metadata"]["name"] == name]
        size = min(self._page, int(query.get("limit", "500")))
        page, rest = rest[:size], rest[size:]
        self._numbers += 1
        token = f"t{self._numbers}" if rest else ""
        if rest:
            self._snapshots[token] = version, rest
        return json.dumps({"metadata": {"resourceVersion": str(version), "continue": token}, "items": page}).encode()

    def _now(self, plural: str) -> tuple[int, list[Object]]:
        return self.version, list(self._objects[plural].values())

    def _stale(self, plural: str) -> tuple[int, list[Object]]:
        """What a watch cache may answer: all as it was some time ago."""
        then = self._kernel.now - self._random.uniform(0, 60)
        items, version = [], 1
        for versions in self.past[plural].values():
            for past in reversed(versions):
                if past.since <= then:
                    if past.object is not None:
                        items.append(past.object)
                        version = max(version, int(past.object["metadata"]["resourceVersion"]))
                    break
        return version, items

    def _create(self, request: Request, plural: str, namespace: str) -> bytes:
        body = request.body or {}
        if self._crds.get(plural):
            raise ApiError(405, "HTTP 405: create not allowed while custom resource definition is terminating")
        if plural == "events":
            return json.dumps(body).encode()
        body = copy.deepcopy(body)
        meta = body["metadata"]
        key = (namespace, meta["name"])
        if key in self._objects[plural]:
            raise ApiError(409, f"HTTP 409: {plural} {key[1]} already exists")
        self._numbers += 1
        meta |= {
            "namespace": namespace,
            "uid": f"uid-{self._numbers}",
            "generation": 1,
            "creationTimestamp": self._stamp(),
        }
        body.pop("status", None)
        return self._commit(request.client, plural, None, body)

    def _update(self, request: Request, plural: str, found: Object, sub: str) -> bytes:
        body = request.body or {}
        asked = body.get("metadata", {})
        if asked.get("resourceVersion") not in {None, found["metadata"]["resourceVersion"]}:
            raise ApiError(409, "HTTP 409: the object has been modified")
        new = found | {"metadata": dict(found["metadata"])}  # what it has in common is never changed
        if sub == "status":
            new["status"] = _merged(found.get("status", {}), body.get("status", {}))
        elif request.method == "PUT":
            new["spec"] = copy.deepcopy(body["spec"])
        else:
            for part in ("annotations", "finalizers"):
                if part in asked:
                    new["metadata"][part] = _merged(found["metadata"].get(part), asked[part])
            new["spec"] = _merged(found.get("spec", {}), body.get("spec", {}))
        if new == found:
            return json.dumps(found).encode()
        if new.get("spec") != found.get("spec"):
            new["metadata"]["generation"] += 1
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self._commit(request.client, plural, found, None)
        return self._commit(request.client, plural, found, new)

    def _delete(self, request: Request, plural: str, found: Object) -> bytes:
        for name, value in ((request.body or {}).get("preconditions") or {}).items():
            if found["metadata"].get(name) != value:
                raise ApiError(409, f"HTTP 409: precondition {name}")
        if not found["metadata"].get("finalizers"):
            self._commit(request.client, plural, found, None)
        elif not found["metadata"].get("deletionTimestamp"):
            new = copy.deepcopy(found)
            new["metadata"] |= {"deletionTimestamp": self._stamp(), "generation": found["metadata"]["generation"] + 1}
            self._commit(request.client, plural, found, new)
        return b"{}"

    def _commit(self, client: str, plural: str, old: Object | None, new: Object | None) -> bytes:
        self.version += 1
        told = copy.deepcopy(old) if new is None else new
        assert told is not None
        told["metadata"]["resourceVersion"] = str(self.version)
        meta = told["metadata"]
        name = (meta["namespace"], meta["name"])
        verb = "DELETED" if new is None else "ADDED" if old is None else "MODIFIED"
        if new is None:
            del self._objects[plural][name]
        else:
            self._objects[plural][name] = new
        self.past[plural][name].append(Version(self._kernel.now, new))
        shown = json.dumps(told).encode()
        line = b'{"type": "%s", "object": %s}\n' % (verb.encode(), shown)
        event = Event(self.version, self._kernel.now, verb, name, line)
        self._history[plural].append(event)
        for watch in self._watches:
            if watch.plural == plural and watch.name in {"", name[1]}:
                watch.stream.send(line)
        self.written(client, plural, old, new)
        if new is None:
            self._collect(meta["uid"])
        return shown

    def _collect(self, owner: str) -> None:
        """The garbage collector: what the object owned goes with it, a moment later."""

        def collect() -> None:
            for plural in list(self._objects):
                for item in list(self._objects[plural].values()):
                    owners = item["metadata"].get("ownerReferences", ())
                    if any(reference["uid"] == owner for reference in owners):
                        self.user("DELETE", plural, item["metadata"]["name"])

        self._kernel.after(1.0, collect)

    def _stamp(self) -> str:
        return (EPOCH + timedelta(seconds=int(self._kernel.now))).strftime("%Y-%m-%dT%H:%M:%SZ")

    # Watches.

    def watch(self, stream: Stream, request: Request) -> None:
        """Open a watch on `stream`.

        Raises:
            ApiError: it is refused.
        """
        if self._random.random() < self.faults.share:
            self.asked(request, self.faults.status)
            raise ApiError(self.faults.status, f"HTTP {self.faults.status}: faulty")
        plural = request.path.split("/")[-1]
        if plural not in self._crds and plural in {kind.plural for kind in KINDS}:
            self.asked(request, 404)
            raise ApiError(404, "HTTP 404: the kind is not served")
        since, name = int(request.query["resourceVersion"]), request.query.get("fieldSelector", "").rpartition("=")[2]
        if since < self._compacted:
            self.asked(request, 410)
            if self._random.random() < 0.5:
                raise ApiError(410, "HTTP 410: too old resource version")
            gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
            stream.send(json.dumps(gone).encode())
            stream.send(None)
            return
        self.asked(request, 200)
        for event in self._history[plural]:
            if event.version > since and name in {"", event.name[1]}:
                stream.send(event.line)
        ends_at = self._kernel.now + int(request.query["timeoutSeconds"])
        self._watches.append(Watch(stream, plural, name, ends_at))

    def watched_by(self, process: Process) -> int:
        """How many watches of a process are open."""
        return sum(watch.stream.process is process and not watch.stream.closed for watch in self._watches)

    def _bookmark(self) -> None:
        line = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}})
        for watch in self._watches:
            watch.stream.send(line.encode() + b"\n")
            if watch.ends_at <= self._kernel.now:
                watch.stream.send(None)
        self._watches = [watch for watch in self._watches if not watch.stream.closed]
        for plural, events in self._history.items():
            if events and events[0].at < self._kernel.now - 2 * KEPT_SECONDS:
                kept = [event for event in events if event.at >= self._kernel.now - KEPT_SECONDS]
                self._compacted = max(self._compacted, *(event.version for event in events if event not in kept))
                self._history[plural] = kept
        self._kernel.after(BOOKMARK_SECONDS, self._bookmark)

    # What becomes of the server.

    def remove(self, plural: str, name: str, namespace: str) -> None:
        """Delete an object, if it is there, whatever stands against it."""
        found = self._objects[plural].get((namespace, name))
        if found is not None:
            self._commit("", plural, found, None)

    def compact(self) -> None:
        """Forget all that was before now."""
        self._compacted = self.version
        for events in self._history.values():
            events.clear()

    def restart(self) -> None:
        """End all connections, as a server does that is killed."""
        for watch in self._watches:
            watch.stream.break_off()
        self._watches.clear()
        self._snapshots.clear()

    def delete_crd(self, plural: str) -> None:
        """Delete a CRD: first it says so, then its objects go, then it is not served any more."""
        if plural not in self._crds or self._crds[plural]:
            return
        self._crds[plural] = self._stamp()

        # That they are gone is nobody's wish: in the past that is kept they stay, until it is known better.
        kept = {name: list(versions) for name, versions in self.past[plural].items()}

        def empty() -> None:
            left = list(self._objects[plural].values())
            if left:
                self._commit("", plural, left[0], None)
                self.past[plural].update(kept)
                self._kernel.after(self._random.uniform(0, 0.02), empty)
            else:
                self._kernel.after(self._random.uniform(0.1, 1), close)

        def close() -> None:
            del self._crds[plural]
            for watch in self._watches:
                if watch.plural == plural:
                    watch.stream.send(None)

        self._kernel.after(self._random.uniform(0.01, 0.5), empty)

    def restore_crd(self, plural: str, objects: list[Object]) -> None:
        """Apply a CRD again, once it is gone, and what its users had."""
        if plural in self._crds:
            self._kernel.after(1, lambda: self.restore_crd(plural, objects))
            return
        self._crds[plural] = None
        for item in objects:
            self.user("POST", plural, item["metadata"]["name"], {"spec": item["spec"]})
        for name, versions in self.past[plural].items():
            if name not in self._objects[plural] and versions[-1].object is not None:
                versions.append(Version(self._kernel.now, None))


def _merged(old: Any, patch: Any) -> Any:
    """A merge patch, RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def stamp(seconds: float) -> str:
    """An instant, so many seconds after the beginning, as users write it."""
    instant: datetime = EPOCH + timedelta(seconds=seconds)
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
