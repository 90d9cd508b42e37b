"""Writes the status of objects: one merge patch per change.

A reconciler sets the wanted status and continues. A separate controller with its own back-off sends the
patch. So a slow or unreachable API server never delays an action in the cloud. If the status changes several
times before the patch is sent, only the last one is written.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

import structlog

from booking_operator.api.kinds import Kind
from booking_operator.engine.controller import Controller
from booking_operator.engine.introspection import BOUNDED, Contents
from booking_operator.engine.store import Key, Object, Store, key_of
from booking_operator.engine.workqueue import Result, WorkQueue
from booking_operator.kube.client import MERGE_PATCH, KubeClient
from booking_operator.kube.decoding import decode_response
from booking_operator.kube.errors import ApiError
from booking_operator.kube.events import EventRecorder
from booking_operator.metrics import NO_METRICS, MetricsProvider

O = TypeVar("O", bound=Object)  # noqa: E741

MAX_PATCHES = 16
"""Maximum number of patches in flight per kind. The first run writes all objects; this limit leaves
connections and time on the event loop for other work."""


_MIN_STALE_ENTRIES = 64


class WriteResult(Enum):
    """The result of a status write. It is true in a condition if the status is stored."""

    WRITTEN = "written"
    """The status is stored, or a later one replaced it before it was sent."""
    FAILED = "failed"
    """The request failed. The writer retries it with back-off."""
    OVERTAKEN = "overtaken"
    """Another client has changed the status. The patch was not sent, and the object is reconciled again."""
    REFUSED = "refused"
    """The API server would refuse this status at any time. The writer does not retry it."""
    GONE = "gone"
    """The object does not exist any more, or was recreated."""

    def __bool__(self) -> bool:
        """Whether the status is stored."""
        return self is WriteResult.WRITTEN


@dataclass(eq=False, slots=True)
class _Wanted:
    """The status that an object should have.

    Attributes:
        uid: uid of the object.
        status: the whole status.
        based_on: the stored status that the decision was based on.
        refused: whether the API server refuses this status permanently.
        under_way: whether a write is in flight.
        result: resolved at the end of the next attempt; None while no caller waits.
    """

    uid: str
    status: Any
    based_on: Any
    refused: bool = False
    under_way: bool = False
    result: asyncio.Future[WriteResult] | None = None

    def settle(self, result: WriteResult) -> None:
        """Resolve `result` for the callers that wait for the attempt."""
        if self.result is not None:
            self.result.set_result(result)
            self.result = None


class StatusWriter(Generic[O]):
    """Writes the status that the reconcilers set for the objects of one kind.

    It calls `requeue` with the key of an object whose status another client has changed.
    """

    def __init__(
        self,
        client: KubeClient,
        kind: Kind[O],
        store: Store[O],
        recorder: EventRecorder,
        queue: WorkQueue[Key],
        *,
        metrics: MetricsProvider = NO_METRICS.controller,
        requeue: Callable[[Key], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._requeue = requeue
        self._kind = kind
        self._store = store
        self._recorder = recorder
        self._wanted: dict[Key, _Wanted] = {}
        self._last_written: dict[Key, Any] = {}  # own writes; they do not count as overtaken
        self._log = structlog.get_logger(kind=kind.name)
        self.controller = Controller(
            f"{kind.name} status",
            queue,
            self._reconcile,
            workers=MAX_PATCHES,
            metrics=metrics,
        )

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {
            "wanted": self._wanted.keys(),
            "waiting": [key for key, wanted in self._wanted.items() if not wanted.refused],
            f"{BOUNDED}written": self._last_written.keys(),
        }

    def current(self, object_: O) -> Any:
        """Return the newest status of an object, stored or queued, even if `object_` is older."""
        wanted = self._wanted.get(key_of(object_))
        if wanted is None or wanted.uid != object_.metadata.uid or wanted.refused:
            return self._stored(object_)
        return wanted.status

    def _stored(self, object_: O) -> Any:
        found = self._store.get(key_of(object_))
        return (found if found and found.metadata.uid == object_.metadata.uid else object_).status

    def set(self, object_: O, status: Any) -> None:
        """Queue a write of `status` if it differs from the current one."""
        if self._want(object_, status):
            self.controller.queue.add(key_of(object_))

    async def write(self, object_: O, status: Any) -> WriteResult:
        """Write `status` and wait for the end of the first attempt that includes it.

        An attempt in flight with another status does not count. A status in back-off stays in back-off.
        """
        self.set(object_, status)
        wanted = self._wanted.get(key_of(object_))
        if wanted is None:
            return WriteResult.WRITTEN
        if wanted.refused:
            return WriteResult.REFUSED
        if wanted.result is None:
            wanted.result = asyncio.get_running_loop().create_future()
        # Several callers may wait for one attempt. The cancellation of one must not cancel the others.
        return await asyncio.shield(wanted.result)

    def retry(self) -> None:
        """Retry all writes now that wait for a back-off."""
        for key in self._wanted:
            self.controller.queue.add(key)

    def _want(self, object_: O, status: Any) -> bool:
        key, uid = key_of(object_), object_.metadata.uid
        known = self._wanted.get(key)
        if known is None and status == self._stored(object_):
            return False
        if known is not None and (known.uid, known.status) == (uid, status):
            return False
        self._wanted[key] = wanted = _Wanted(uid, status, object_.status)
        if known is None:
            return True
        if known.uid == uid and not known.refused:
            wanted.based_on = known.based_on
        if not known.under_way:
            if known.uid == uid:
                wanted.result = known.result
            else:
                known.settle(WriteResult.GONE)
        return True

    async def _reconcile(self, key: Key) -> Result:
        wanted = self._wanted.get(key)
        if wanted is None:
            return Result()
        result, wanted.under_way = WriteResult.FAILED, True
        try:
            result = await self._attempt(key, wanted)
        finally:
            wanted.under_way = False
            wanted.settle(result)
        return Result(failed=result is WriteResult.FAILED)

    async def _attempt(self, key: Key, wanted: _Wanted) -> WriteResult:
        object_ = self._store.get(key)
        if object_ is None or object_.metadata.uid != wanted.uid:
            self._forget(key, wanted)
            return WriteResult.GONE
        if self._is_outdated(key, object_, wanted):
            self._forget(key, wanted)
            self._requeue(key)
            return WriteResult.OVERTAKEN
        if object_.status == wanted.status:
            self._forget(key, wanted)
            return WriteResult.WRITTEN
        if wanted.refused:
            return WriteResult.REFUSED
        try:
            written = await self._patch(object_, wanted.status)
        except ApiError as error:
            return self._failed(object_, wanted, error)
        self._store.apply_own_write(written)
        self._last_written[key] = written.status
        if len(self._last_written) > 2 * len(self._store) + _MIN_STALE_ENTRIES:
            self._last_written = {
                key: status for key, status in self._last_written.items() if self._store.get(key)
            }
        self._forget(key, wanted)
        return WriteResult.WRITTEN

    def _is_outdated(self, key: Key, object_: O, wanted: _Wanted) -> bool:
        """Whether another client has written the status since this one was decided.

        A patch with the newer resourceVersion would undo that write. The other client is usually the previous
        leader, and its status records what it started, locked and notified.
        """
        return object_.status not in (wanted.based_on, wanted.status, self._last_written.get(key))

    async def _patch(self, object_: O, wanted: Any) -> O:
        key, version = key_of(object_), object_.metadata.resource_version
        dumped = self._kind.status_adapter.dump_python(wanted, mode="json", by_alias=True)
        # null removes a field (RFC 7386). An empty list is stored as an absent field.
        status = {name: None if value == [] else value for name, value in dumped.items()}
        # With the resourceVersion, the server rejects the patch if the object has changed or was recreated.
        # It ignores a uid in a patch of the status.
        answer = await self._client.request(
            "PATCH",
            self._kind.path(key.namespace, key.name, "status"),
            body={"metadata": {"resourceVersion": version}, "status": status},
            content_type=MERGE_PATCH,
        )
        return await decode_response(self._kind.adapter, answer)

    def _failed(self, object_: O, wanted: _Wanted, error: ApiError) -> WriteResult:
        key = key_of(object_)
        if error.not_found:
            self._forget(key, wanted)
            return WriteResult.GONE
        if error.conflict:
            return WriteResult.FAILED  # retry until the watch delivers the change
        if error.invalid:
            # The object violates the schema, on a server without CRD ratcheting: every write to it fails.
            wanted.refused = True
            self._log.warning("status_write_refused", key=str(key), error=str(error))
            self._recorder.warning(self._kind, object_, "StatusRefused", "WriteStatus", str(error))
            return WriteResult.REFUSED
        self._log.warning("status_write_failed", key=str(key), error=str(error))
        return WriteResult.FAILED

    def _forget(self, key: Key, wanted: _Wanted) -> None:
        if self._wanted.get(key) is wanted:
            del self._wanted[key]
