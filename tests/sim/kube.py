"""An API server in memory: resourceVersions, pages, watches, conflicts and errors.

It stores the same JSON objects as a real API server. `tests/e2e/test_simkube.py` compares its responses with
those of a real one.
"""

import copy
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from booking_operator.kube.errors import ApiError
from tests.sim.crds import Crds
from tests.sim.kernel import Kernel
from tests.sim.network import Stream
from tests.sim.storage import Name, Object, Storage, timestamp

_CONFLICT = 409


@dataclass
class Faults:
    """The current faults of the API server.

    Attributes:
        status: the HTTP status of failed requests.
        share: the share of requests that fail.
    """

    status: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a client.

    Attributes:
        client: the name of the calling process; empty for users.
        method: the HTTP method; `WATCH` for a watch.
        path: the path of the URL.
        query: the query of the URL.
        body: the parsed JSON body.
    """

    client: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None

    @property
    def selected_name(self) -> str:
        """The name in the field selector; empty without one."""
        return self.query.get("fieldSelector", "").rpartition("=")[2]


class SimKube:
    """The API server. It serves each request at once; the links of `network` add the latency.

    Attributes:
        storage: the stored objects.
        crds: the CRDs.
        faults: the current faults.
        on_request: called with each request and the HTTP status of its response.
    """

    def __init__(self, kernel: Kernel, seed: str) -> None:
        self.storage = Storage(kernel)
        self.faults = Faults()
        self.on_request: Callable[[Request, int], None] = lambda *_: None
        self._kernel = kernel
        self._rng = random.Random(f"{seed}/kube")
        self._page = self._rng.choice((2, 3, 10, 500))
        self._snapshots: dict[str, tuple[int, list[Object]]] = {}
        self.crds = Crds(kernel, self.storage, self._rng)
        self._numbers = 0

    # Access without a network: users and checks.

    def get(self, plural: str, name: str, namespace: str = "team") -> Object | None:
        """Return the current object; None if it does not exist."""
        return self.storage.objects[plural].get((namespace, name))

    def all(self, plural: str) -> list[Object]:
        """Return all current objects of a kind."""
        return list(self.storage.objects[plural].values())

    def user_request(self, method: str, plural: str, name: str, body: Object | None = None) -> None:
        """Send a write of a user. The server may refuse it; the error is ignored."""
        tail = "" if method == "POST" else f"/{name}"
        path = f"/apis/manager.kotaico.de/v1/namespaces/team/{plural}{tail}"
        if body is not None:
            body = {"metadata": {"name": name}} | body
        try:
            self.serve(Request("", method, path, body=body))
        except ApiError:
            return

    def remove(self, plural: str, name: str, namespace: str) -> None:
        """Delete an object if it exists, regardless of finalizers."""
        found = self.get(plural, name, namespace)
        if found is not None:
            self.storage.commit("", plural, found, None)

    # Requests of clients.

    def serve(self, request: Request) -> bytes:
        """Process one request and return the body of the response.

        Raises:
            ApiError: the server refuses the request.
        """
        return self._respond(request, self._serve)

    def watch(self, stream: Stream, request: Request) -> None:
        """Open a watch on `stream`.

        Raises:
            ApiError: the server refuses the watch.
        """
        self._respond(request, lambda request: self._watch(stream, request))

    def _respond(self, request: Request, answer: Callable[[Request], bytes]) -> bytes:
        try:
            self._raise_faults(request)
            found = answer(request)
        except ApiError as error:
            self.on_request(request, error.status)
            raise
        self.on_request(request, 200)
        return found

    def _raise_faults(self, request: Request) -> None:
        """Raise an error according to the current faults.

        A 409 stands for an exceeded quota, so only create requests get it. Requests of users never get an
        error here.
        """
        status = self.faults.status
        if not request.client or (status == _CONFLICT and request.method != "POST"):
            return
        if self._rng.random() < self.faults.share:
            raise ApiError(status, f"HTTP {status}: faulty", retry_after=1)

    def _serve(self, request: Request) -> bytes:
        match request.path.split("/")[2:]:
            case ["apiextensions.k8s.io", _, _, crd]:
                return self.crds.definition(crd.partition(".")[0])
            case ["v1", "namespaces", _]:
                return b'{"metadata": {}}'
            case [_, _]:
                return self.crds.discovery()
            case [_, _, "namespaces", namespace, plural]:
                self.crds.check(plural)
                return self._create(request, plural, namespace)
            case [_, _, plural]:
                self.crds.check(plural)
                return self._list(plural, request)
            case [_, _, "namespaces", namespace, plural, name, *sub]:
                self.crds.check(plural)
                return self._object(request, plural, (namespace, name), "".join(sub))
        raise ApiError(404, f"HTTP 404: {request.path}")

    def _object(self, request: Request, plural: str, name: Name, sub: str) -> bytes:
        found = self.storage.objects[plural].get(name)
        if found is None:
            raise ApiError(404, f"HTTP 404: {plural} {name[1]} not found", reason="NotFound")
        match request.method:
            case "GET":
                return json.dumps(found).encode()
            case "DELETE":
                return self._delete(request, plural, found)
        return self._update(request, plural, found, sub)

    def _list(self, plural: str, request: Request) -> bytes:
        token = request.query.get("continue", "")
        if token:
            version, rest = self._snapshots.pop(token, (-1, []))
            if version < self.storage.compacted:
                raise ApiError(410, "HTTP 410: the continue parameter is too old")
        elif request.query.get("resourceVersion") == "0":
            version, rest = self.storage.snapshot(plural, self._kernel.now - self._rng.uniform(0, 60))
        else:
            version, rest = self.storage.version, self.all(plural)
        if request.selected_name:
            rest = [item for item in rest if item["metadata"]["name"] == request.selected_name]
        if selector := request.query.get("labelSelector"):
            rest = [item for item in rest if _is_selected(item, selector)]
        size = min(self._page, int(request.query.get("limit", "500")))
        page, rest = rest[:size], rest[size:]
        token = self._next_id("t") if rest else ""
        if rest:
            self._snapshots[token] = version, rest
        meta = {"resourceVersion": str(version), "continue": token}
        return json.dumps({"metadata": meta, "items": page}).encode()

    def _create(self, request: Request, plural: str, namespace: str) -> bytes:
        if request.method == "GET":
            return self._list(plural, request)
        self.crds.check_not_terminating(plural)
        if plural == "events":
            return json.dumps(request.body).encode()
        body = copy.deepcopy(request.body) or {}
        meta = body["metadata"]
        if (namespace, meta["name"]) in self.storage.objects[plural]:
            text = f"HTTP 409: {plural} {meta['name']} already exists"
            raise ApiError(_CONFLICT, text, reason="AlreadyExists")
        meta |= {"namespace": namespace, "uid": self._next_id("uid-"), "generation": 1}
        meta["creationTimestamp"] = self._timestamp()
        body.pop("status", None)
        return self.storage.commit(request.client, plural, None, body)

    def _update(self, request: Request, plural: str, found: Object, sub: str) -> bytes:
        body = request.body or {}
        metadata = body.get("metadata", {})
        if metadata.get("resourceVersion") not in {None, found["metadata"]["resourceVersion"]}:
            raise ApiError(_CONFLICT, "HTTP 409: the object has been modified", reason="Conflict")
        # The copy shares the other fields with `found`. They are replaced, never changed in place.
        new = found | {"metadata": dict(found["metadata"])}
        if sub == "status":
            new["status"] = merge_patch(found.get("status", {}), body.get("status", {}))
        elif request.method == "PUT":
            new["spec"] = copy.deepcopy(body["spec"])
        else:
            for part in ("annotations", "finalizers"):
                if part in metadata:
                    new["metadata"][part] = merge_patch(found["metadata"].get(part), metadata[part])
            new["spec"] = merge_patch(found.get("spec", {}), body.get("spec", {}))
        if new == found:
            return json.dumps(found).encode()
        if new.get("spec") != found.get("spec"):
            new["metadata"]["generation"] += 1
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self._remove(request.client, plural, new)
        return self.storage.commit(request.client, plural, found, new)

    def _delete(self, request: Request, plural: str, found: Object) -> bytes:
        meta = found["metadata"]
        for name, value in ((request.body or {}).get("preconditions") or {}).items():
            if meta.get(name) != value:
                raise ApiError(_CONFLICT, f"HTTP 409: precondition {name}", reason="Conflict")
        if not meta.get("finalizers"):
            self._remove(request.client, plural, found)
            return b"{}"
        if not meta.get("deletionTimestamp"):
            terminating = meta | {
                "deletionTimestamp": self._timestamp(),
                "generation": meta["generation"] + 1,
            }
            return self.storage.commit(request.client, plural, found, found | {"metadata": terminating})
        return json.dumps(found).encode()

    def _remove(self, client: str, plural: str, found: Object) -> bytes:
        """Delete an object. One second later, delete the objects that it owns, like the garbage collector."""
        owner = found["metadata"]["uid"]

        def collect() -> None:
            for kind in list(self.storage.objects):
                for item in self.all(kind):
                    owners = item["metadata"].get("ownerReferences", ())
                    if any(reference["uid"] == owner for reference in owners):
                        self.user_request("DELETE", kind, item["metadata"]["name"])

        self._kernel.call_later(1.0, collect)
        return self.storage.commit(client, plural, found, None)

    def _watch(self, stream: Stream, request: Request) -> bytes:
        plural, since = request.path.split("/")[-1], int(request.query["resourceVersion"])
        self.crds.check(plural)
        if since < self.storage.compacted:
            if self._rng.random() < 0.5:
                raise ApiError(410, "HTTP 410: too old resource version")
            status = {"kind": "Status", "code": 410, "message": "too old resource version"}
            stream.send(json.dumps({"type": "ERROR", "object": status}).encode())
            stream.send(None)
        else:
            self.storage.watch(
                stream, plural, request.selected_name, since, int(request.query["timeoutSeconds"])
            )
        return b""

    def _next_id(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}{self._numbers}"

    def _timestamp(self) -> str:
        return timestamp(int(self._kernel.now))

    # Failures.

    def restart(self) -> None:
        """Reset all connections and invalidate continue tokens, as a killed server does."""
        self.storage.break_watches()
        self._snapshots.clear()


def _is_selected(object_: Object, selector: str) -> bool:
    """Return whether a label is there and has none of the values, for the selector `L,L notin (A, B)`."""
    label, _, values = selector.partition(",")
    value = object_["metadata"].get("labels", {}).get(label)
    return value is not None and value not in values.partition("(")[2].rstrip(")").split(", ")


def merge_patch(old: Any, patch: Any) -> Any:
    """Return the result of a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result
