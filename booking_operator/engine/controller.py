"""Takes keys from a work queue and reconciles each key in its own task."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

from booking_operator.engine.introspection import Contents
from booking_operator.engine.workqueue import Result, WorkQueue
from booking_operator.metrics import NO_METRICS, MetricsProvider, ReconcileOutcome

K = TypeVar("K", bound=Hashable)

RECONCILE_TIMEOUT_SECONDS = 120.0
"""A reconcile that takes longer is cancelled and retried, so that a call that hangs cannot block its key for
ever."""


class Controller(Generic[K]):
    """Reconciles the keys of one work queue.

    Different keys run concurrently. One key never runs twice at the same time, which the queue guarantees. At
    most `workers` reconciles run at a time; the default is no limit.

    Attributes:
        name: the name of the controller in logs and metrics.
        queue: the work queue that delivers the keys.
        keys_taken: how many keys the controller has taken from the queue since it was created.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue[K],
        reconcile: Callable[[K], Awaitable[Result]],
        *,
        workers: int = sys.maxsize,
        metrics: MetricsProvider = NO_METRICS.controller,
    ) -> None:
        self.name = name
        self.queue = queue
        self._metrics = queue.metrics = metrics(name)
        self._running: dict[K, float] = {}
        self.keys_taken = 0
        self._reconcile = reconcile
        self._workers = workers
        self._log = structlog.get_logger(controller=name)

    @property
    def longest_running_seconds(self) -> float:
        """How long the oldest reconcile in flight has run, in seconds; 0 if none is in flight."""
        began = next(iter(self._running.values()), None)
        return 0.0 if began is None else self.queue.clock.monotonic() - began

    def introspect(self) -> Contents:
        """The keys that are being reconciled, and the keys in the queue."""
        return {"running": self._running.keys(), **self.queue.introspect()}

    async def run(self) -> None:
        """Reconcile until cancelled. Cancellation also cancels the reconciles in flight."""
        free = asyncio.Semaphore(self._workers)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await free.acquire()
                key = await self.queue.get()
                self.keys_taken += 1
                task = tasks.create_task(self._process(key), name=f"reconcile: {self.name}")
                task.add_done_callback(lambda _: free.release())
                # Start one reconcile per turn of the event loop, so that many due keys do not block other
                # tasks.
                await asyncio.sleep(0)

    async def _process(self, key: K) -> None:
        began = self._running[key] = self.queue.clock.monotonic()
        self._metrics.reconcile_started(key)
        try:
            result, outcome = await self._attempt(key)
        finally:
            self._metrics.reconcile_ended(key)
            del self._running[key]
        self._metrics.reconciled(outcome, self.queue.clock.monotonic() - began)
        self.queue.done(key, result)

    async def _attempt(self, key: K) -> tuple[Result, ReconcileOutcome]:
        timeout = asyncio.timeout(RECONCILE_TIMEOUT_SECONDS)
        try:
            async with timeout:
                result = await self._reconcile(key)
        except Exception:  # noqa: BLE001
            # A bug that one object triggers must not stop the reconciles of the other objects.
            if timeout.expired():
                self._log.exception("reconcile_timed_out", key=str(key), timeout_s=RECONCILE_TIMEOUT_SECONDS)
                return Result(failed=True), ReconcileOutcome.TIMEOUT
            self._log.exception("reconcile_failed", key=str(key))
            return Result(failed=True), ReconcileOutcome.ERROR
        return result, ReconcileOutcome.REQUEUE if result.failed else ReconcileOutcome.SUCCESS
