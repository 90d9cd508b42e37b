"""Records Events, which `kubectl describe` shows for an object (API events.k8s.io/v1).

This is best effort, in separate tasks: an Event never delays the action that it reports. An Event that cannot
be written is dropped after a few attempts, with a log record.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from booking_operator.api.kinds import Kind
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Object
from booking_operator.kube.client import KubeClient
from booking_operator.kube.errors import ApiError
from booking_operator.kube.objects import micro_time

CONTROLLER = "manager.kotaico.de/booking-operator"
_MAX_NOTE_BYTES = 1024
_MAX_QUEUED = 10_000  # 1,000 Resources that start at the same time have two Events each
_WRITERS = 8
_MAX_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class _QueuedEvent:
    namespace: str
    body: dict[str, Any]


class EventRecorder:
    """Accepts Events synchronously and writes them in the background.

    It calls `dropped` for each Event that it drops.
    """

    def __init__(
        self, client: KubeClient, clock: Clock, *, dropped: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._clock = clock
        self._dropped = dropped
        self._queue: asyncio.Queue[_QueuedEvent] = asyncio.Queue(_MAX_QUEUED)
        self._instance = f"{socket.gethostname()}-{os.getpid()}"[:128]
        self._log = structlog.get_logger()

    def normal(self, kind: Kind[Any], object_: Object, reason: str, action: str, note: str) -> None:
        """Record an Event of type Normal."""
        self._record(kind, object_, "Normal", reason, action, note)

    def warning(self, kind: Kind[Any], object_: Object, reason: str, action: str, note: str) -> None:
        """Record an Event of type Warning."""
        self._record(kind, object_, "Warning", reason, action, note)

    def _record(
        self, kind: Kind[Any], object_: Object, type_: str, reason: str, action: str, note: str
    ) -> None:
        meta = object_.metadata
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{meta.name[:220].rstrip('-.')}.{uuid.uuid4().hex[:16]}",
                "namespace": meta.namespace,
            },
            "eventTime": micro_time(self._clock.now()),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "type": type_,
            "reason": reason,
            "action": action,
            "note": note.encode("utf-8", "replace")[:_MAX_NOTE_BYTES].decode("utf-8", "ignore"),
            "regarding": {
                "apiVersion": kind.api_version,
                "kind": kind.name,
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
        }
        try:
            self._queue.put_nowait(_QueuedEvent(meta.namespace, body))
        except asyncio.QueueFull:
            self._dropped()
            self._log.warning("event_dropped", name=meta.name, reason=reason, error="the queue is full")

    async def wait_until_idle(self) -> None:
        """Wait until all queued Events are written or dropped."""
        await self._queue.join()

    async def run(self) -> None:
        """Write Events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_WRITERS):
                tasks.create_task(self._write_all(), name="event writer")

    async def _write_all(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except Exception:  # noqa: BLE001 - a bug in the code for Events must not end the leadership
                self._dropped()
                self._log.exception("event_dropped", reason=event.body["reason"])
            finally:
                self._queue.task_done()

    async def _write(self, event: _QueuedEvent) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{event.namespace}/events"
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                await self._client.request("POST", path, body=event.body)
            except ApiError as error:
                if error.already_exists:
                    return  # the name is unique, so an earlier attempt has written it
                if error.invalid or error.status in {403, 404} or attempt == _MAX_ATTEMPTS:
                    reason = event.body["reason"]
                    self._dropped()
                    self._log.warning("event_dropped", reason=reason, error=str(error))
                    return
                await self._clock.sleep(2.0**attempt)
            else:
                return
