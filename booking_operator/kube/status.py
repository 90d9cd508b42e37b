"""Writes status: one merge patch per change, and none where nothing changed.

A reconciler says what an object's status shall be and goes on; the write happens here, in a controller of
its own, with its own back-off. So an API server that is slow or away never delays what is due in the cloud,
and of several changes meanwhile only the last is written.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import structlog

from booking_operator.api.kinds import Kind
from booking_operator.engine.clock import Clock
from booking_operator.engine.controller import Controller
from booking_operator.engine.introspection import BOUNDED, Contents
from booking_operator.engine.metrics import MetricsProvider, unmeasured
from booking_operator.engine.queue import Result, WorkQueue
from booking_operator.engine.store import Key, Object, Store, key_of
from booking_operator.kube.client import MERGE_PATCH, KubeClient
from booking_operator.kube.errors import ApiError
from booking_operator.kube.events import Recorder
from booking_operator.kube.reading import read_answer

O = TypeVar("O", bound=Object)  # noqa: E741

WRITERS = 16
"""How many patches of one kind are under way at a time. A first run writes every object there is, and must
leave connections, and time of the loop, to others."""


_FEW = 64


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a status shall be, and the stored one that this was decided on."""

    uid: str
    status: Any
    base: Any
    refused: bool = False


class StatusWriter(Generic[O]):
    """Brings the status of one kind's objects to what the reconcilers say."""

    def __init__(
        self,
        client: KubeClient,
        kind: Kind[O],
        store: Store[O],
        recorder: Recorder,
        clock: Clock,
        *,
        metrics: MetricsProvider = unmeasured,
        decide_again: Callable[[Key], None] = lambda _: None,
        queue: type[WorkQueue[Key]] = WorkQueue,
    ) -> None:
        self._client = client
        self._decide_again = decide_again
        self._kind = kind
        self._store = store
        self._recorder = recorder
        self._wanted: dict[Key, _Wanted] = {}
        self._own: dict[Key, Any] = {}  # what we wrote last, which nobody is overtaken by
        self._outcomes: dict[Key, asyncio.Future[bool]] = {}
        self._log = structlog.get_logger(kind=kind.name)
        self.controller = Controller(
            f"{kind.name} status",
            queue(clock),
            self._reconcile,
            workers=WRITERS,
            metrics=metrics,
        )

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {
            "wanted": self._wanted.keys(),
            "awaited": self._outcomes.keys(),
            f"{BOUNDED}written": self._own.keys(),
        }

    def current(self, object_: O) -> Any:
        """The newest status of an object, written or about to be, however old `object_` is."""
        wanted = self._wanted.get(key_of(object_))
        if wanted is None or wanted.uid != object_.metadata.uid or wanted.refused:
            return self._stored(object_)
        return wanted.status

    def _stored(self, object_: O) -> Any:
        found = self._store.get(key_of(object_))
        return (found if found and found.metadata.uid == object_.metadata.uid else object_).status

    def set(self, object_: O, status: Any) -> None:
        """Have `status` written soon, where it is news."""
        if self._want(object_, status):
            self.controller.queue.add(key_of(object_))

    async def write(self, object_: O, status: Any) -> bool:
        """Write `status` and wait for it; False when the first try failed, and it is tried on."""
        self.set(object_, status)
        key = key_of(object_)
        wanted = self._wanted.get(key)
        if wanted is None or wanted.refused:
            return wanted is None
        outcome = self._outcomes.setdefault(key, asyncio.get_running_loop().create_future())
        # Several may wait for one write, and one that gives up must not take it from the others.
        return await asyncio.shield(outcome)

    def retry(self) -> None:
        """Try at once what waits for its back-off."""
        for key in self._wanted:
            self.controller.queue.add(key)

    def _want(self, object_: O, status: Any) -> bool:
        key, uid = key_of(object_), object_.metadata.uid
        known = self._wanted.get(key)
        if known is None and status == self._stored(object_):
            return False
        if known is not None and (known.uid, known.status) == (uid, status):
            return False
        follows = known is not None and known.uid == uid and not known.refused
        self._wanted[key] = _Wanted(uid, status, known.base if known and follows else object_.status)
        return True

    async def _reconcile(self, key: Key) -> Result:
        overtaken = self._overtaken(key)
        try:
            return await self._bring_up_to_date(key)
        finally:
            outcome = self._outcomes.pop(key, None)
            if outcome is not None:
                outcome.set_result(key not in self._wanted and not overtaken)

    def _overtaken(self, key: Key) -> bool:
        """Whether somebody else has written the status since; then it is decided anew.

        To send it with the newer version would undo what the other wrote: a leader before us, as a rule,
        whose memory of what was started, locked or told is in there.
        """
        wanted, object_ = self._wanted.get(key), self._store.get(key)
        if wanted is None or object_ is None or object_.metadata.uid != wanted.uid:
            return False
        if object_.status in (wanted.base, wanted.status, self._own.get(key)):
            return False
        self._forget(key, wanted)
        self._decide_again(key)
        return True

    async def _bring_up_to_date(self, key: Key) -> Result:
        wanted, object_ = self._wanted.get(key), self._store.get(key)
        if wanted is None:
            return Result()
        if object_ is None or object_.metadata.uid != wanted.uid or object_.status == wanted.status:
            self._forget(key, wanted)
            return Result()
        if wanted.refused:
            return Result()
        try:
            written = await self._patch(object_, wanted.status)
        except ApiError as error:
            return self._failed(object_, wanted, error)
        self._store.wrote(written)
        self._own[key] = written.status
        if len(self._own) > 2 * len(self._store) + _FEW:
            self._own = {key: status for key, status in self._own.items() if self._store.get(key)}
        self._forget(key, wanted)
        return Result()

    async def _patch(self, object_: O, wanted: Any) -> O:
        key, version = key_of(object_), object_.metadata.resource_version
        dumped = self._kind.status_adapter.dump_python(wanted, mode="json", by_alias=True)
        # null removes a field (RFC 7386): an empty list is told by its absence.
        status = {name: None if value == [] else value for name, value in dumped.items()}
        # The version makes the server refuse what was decided for an object that has changed since, or that
        # was deleted and made anew. (Of a uid in a patch of the status it takes no notice.)
        answer = await self._client.request(
            "PATCH",
            self._kind.path(key.namespace, key.name, "status"),
            body={"metadata": {"resourceVersion": version}, "status": status},
            content_type=MERGE_PATCH,
        )
        return read_answer(self._kind.adapter, answer)

    def _failed(self, object_: O, wanted: _Wanted, error: ApiError) -> Result:
        key = key_of(object_)
        if error.gone:
            self._forget(key, wanted)
            return Result()
        if error.conflict:
            return Result(failed=True)  # until the watch has told what changed
        if error.invalid:
            # An object that breaks the schema, on a server without ratcheting: nothing can be written to it.
            if self._wanted.get(key) is wanted:
                self._wanted[key] = replace(wanted, refused=True)
            self._log.warning("status_refused", key=str(key), error=str(error))
            self._recorder.warning(self._kind, object_, "StatusRefused", "WriteStatus", str(error))
            return Result()
        self._log.warning("status_failed", key=str(key), error=str(error))
        return Result(failed=True)

    def _forget(self, key: Key, wanted: _Wanted) -> None:
        if self._wanted.get(key) is wanted:
            del self._wanted[key]
