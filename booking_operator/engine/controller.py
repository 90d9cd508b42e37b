"""Takes keys from a work queue and reconciles each in a task of its own."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

from booking_operator.engine.queue import Result, WorkQueue

K = TypeVar("K", bound=Hashable)

PATIENCE_SECONDS = 120.0
"""A reconcile that takes longer is cancelled and tried again: no call in it may hang for ever."""


class TerminalError(Exception):
    """A reconcile failed in a way that only a change of the object can mend: not retried."""


class Controller(Generic[K]):
    """Reconciles the keys of one queue. Keys run side by side; one key never runs twice at once.

    At most `workers` of them run at a time, for what uses something scarce; otherwise all that are ready.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue[K],
        reconcile: Callable[[K], Awaitable[Result]],
        *,
        workers: int = sys.maxsize,
    ) -> None:
        self.queue = queue
        self._reconcile = reconcile
        self._workers = workers
        self._log = structlog.get_logger(controller=name)

    async def run(self) -> None:
        """Reconcile until cancelled; what is under way then is cancelled too."""
        free = asyncio.Semaphore(self._workers)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await free.acquire()
                key = await self.queue.get()
                tasks.create_task(self._process(key)).add_done_callback(lambda _: free.release())
                # One key a turn: a thousand that are due together must not keep the loop from other things.
                await asyncio.sleep(0)

    async def _process(self, key: K) -> None:
        result = Result(failed=True)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                result = await self._reconcile(key)
        except TerminalError as error:
            self._log.warning("reconcile_refused", key=str(key), error=str(error))
            result = Result()
        except TimeoutError:
            self._log.exception("reconcile_timed_out", key=str(key), seconds=PATIENCE_SECONDS)
        except Exception:  # noqa: BLE001
            # The last line of defence: a bug that one object triggers must not stop all others.
            self._log.exception("reconcile_failed", key=str(key))
        self.queue.done(key, result)
