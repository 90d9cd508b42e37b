"""Virtual time and processes: one scheduler runs all callbacks in an order that the seed determines.

Each process has its own event loop, whose callbacks the kernel runs one at a time. The kernel can therefore
kill a process between any two callbacks, like `kill -9`, or pause it, like SIGSTOP, while the rest of the
world continues. Each callback takes some virtual time. If no callback is ready, time jumps to the next timer.
"""

import asyncio
import heapq
import random
from asyncio import AbstractEventLoop, Future, Handle, Task, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

EPOCH = datetime(2026, 3, 2, 6, tzinfo=UTC)
STEP_SECONDS = 20e-6
"""Mean virtual duration of one callback."""
MAX_CLEANUP_STEPS = 100_000
"""Callbacks that a killed process may run for its cleanup. A process that needs more counts as stuck."""


class StuckError(AssertionError):
    """A process does not end although all of its tasks were cancelled."""


class Kernel:
    """The virtual clock and the scheduler.

    Attributes:
        now: seconds since `EPOCH`: the true time, which no process can read.
        steps: the number of callbacks of processes that were run.
    """

    def __init__(self, seed: str) -> None:
        self.now = 0.0
        self.steps = 0
        self._stopped = False
        self._random = random.Random(f"{seed}/kernel")
        self._ready: deque[tuple[Process | None, Step | Callable[[], None]]] = deque()
        self._later: list[tuple[float, int, Process | None, Step | Callable[[], None]]] = []
        self._sequence = count()

    def call_soon(self, process: "Process | None", call: "Step | Callable[[], None]") -> None:
        """Schedule a callback at the current instant, after all that are ready."""
        self._ready.append((process, call))

    def call_at(
        self, when: float, call: "Step | Callable[[], None]", process: "Process | None" = None
    ) -> None:
        """Schedule a callback at `when`."""
        heapq.heappush(self._later, (when, next(self._sequence), process, call))

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Schedule a callback in `seconds`."""
        self.call_at(self.now + seconds, call)

    def run(self, until: float) -> None:
        """Run all callbacks that are due up to `until`."""
        while not self._stopped:
            if not self._ready:
                if not self._later or self._later[0][0] > until:
                    self.now = max(self.now, until)
                    return
                self.now = max(self.now, self._later[0][0])
            while self._later and self._later[0][0] <= self.now:
                _, _, process, call = heapq.heappop(self._later)
                self._ready.append((process, call))
            self._step(*self._ready.popleft())

    def stop(self) -> None:
        """Run no more callbacks."""
        self._stopped = True

    def _step(self, process: "Process | None", call: "Step | Callable[[], None]") -> None:
        if process is None:
            call()  # type: ignore[operator]
            return
        if process.run_step(call):  # type: ignore[arg-type]
            self.steps += 1
            self.now += STEP_SECONDS * process.slowness * (0.5 + self._random.random())

    def timers(self, process: "Process") -> int:
        """Return the number of pending timers of a process."""
        return sum(owner is process and not call.cancelled() for _, _, owner, call in self._later)  # type: ignore[union-attr]

    def remove_callbacks(self, process: "Process") -> "list[Step]":
        """Remove all callbacks and timers of a process; return the callbacks that were ready."""
        taken = [call for owner, call in self._ready if owner is process]
        self._ready = deque(item for item in self._ready if item[0] is not process)
        self._later = [item for item in self._later if item[2] is not process]
        heapq.heapify(self._later)
        return taken  # type: ignore[return-value]


class Step(Handle):
    """A callback of an event loop that the kernel can run."""

    def run(self) -> None:
        """Run the callback. An exception goes to the exception handler of the loop."""
        self._run()


class TimedStep(TimerHandle, Step):
    """A `Step` at an instant."""


def running_process() -> "Process | None":
    """Return the process whose callback is running; None if there is none."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if isinstance(loop, Process) else None


def _raise_error(message: str) -> None:
    raise AssertionError(message)


class SimTask(Task[Any]):
    """A task whose hash does not depend on its address.

    The order of a set of tasks is therefore reproducible.
    """

    _numbers = count()

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class Process(AbstractEventLoop):
    """A simulated process: an event loop with methods for signals.

    Attributes:
        name: the name in the trace.
        alive: False after a kill or after the end of `main`.
        skew: how far the wall clock is ahead of the true time.
        slowness: factor on the duration of each callback.
        tasks: the tasks that have not ended, in the order of their creation.
        failure: the exception with which `main` ended, unless it was cancelled.
        on_unhandled_error: called with each error that reaches the loop's exception handler.
    """

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.alive = True
        self.paused = False
        self.skew = timedelta(0)
        self.slowness = 1.0
        self.tasks: dict[SimTask, None] = {}
        self.failure: BaseException | None = None
        self.on_unhandled_error: Callable[[str], None] = _raise_error
        self._main: SimTask | None = None
        self._paused_steps: deque[Step] = deque()
        self._killed = False
        self._cleanup_steps: list[tuple[float, int, Step]] = []
        self._cleanup_time = 0.0
        self._sequence = count()

    def start(self, main: Coroutine[Any, Any, None]) -> None:
        """Run `main`. The process ends when `main` ends."""
        self._main = self.create_task(main, name="main")
        self._main.add_done_callback(self._on_main_end)

    def _on_main_end(self, task: Future[Any]) -> None:
        self.alive = False
        if not task.cancelled():
            self.failure = task.exception()

    def run_step(self, step: Step) -> bool:
        """Run one callback, or hold it while the process is paused; return whether it was run."""
        if step.cancelled():
            return False
        if self.paused:
            self._paused_steps.append(step)
            return False
        asyncio._set_running_loop(self)  # noqa: SLF001 - the interface of asyncio for event loops
        try:
            step.run()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001 - the same
        return True

    def pause(self) -> None:
        """Stop the process like SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """Continue the process like SIGCONT."""
        self.paused = False
        while self._paused_steps:
            self.kernel.call_soon(self, self._paused_steps.popleft())

    def set_slowness(self, times: float) -> None:
        """Make each callback take `times` as long as usual."""
        self.slowness = times

    def kill(self) -> None:
        """Kill the process like SIGKILL.

        Its remaining callbacks have no effect on the world: the cancellation of its tasks runs in a time of
        its own, so that coroutines are closed and no task remains.

        Raises:
            StuckError: tasks remain after `MAX_CLEANUP_STEPS` callbacks.
        """
        self.alive = self.paused = False
        self._killed = True
        self._cleanup_time = self.kernel.now
        for handle in (*self._paused_steps, *self.kernel.remove_callbacks(self)):
            self._add_cleanup_step(self._cleanup_time, handle)
        self._paused_steps.clear()
        for task in list(self.tasks):
            task.cancel()
        for _ in range(MAX_CLEANUP_STEPS):
            if not self._cleanup_steps:
                break
            when, _, handle = heapq.heappop(self._cleanup_steps)
            self._cleanup_time = max(self._cleanup_time, when)
            self.run_step(handle)
        if self.tasks:
            raise StuckError(f"{self.name} does not end: {[task.get_coro() for task in self.tasks]}")

    @property
    def ended(self) -> bool:
        """Whether `main` has ended."""
        return self._main is not None and self._main.done()

    def _add_cleanup_step(self, when: float, step: Step) -> None:
        heapq.heappush(self._cleanup_steps, (when, next(self._sequence), step))

    # The methods of an event loop.

    def time(self) -> float:
        return self._cleanup_time if self._killed else self.kernel.now

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Step(callback, args, self, context)
        if not self._killed:
            self.kernel.call_soon(self, handle)
        else:
            self._add_cleanup_step(self._cleanup_time, handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> TimerHandle:
        handle = TimedStep(when, callback, args, self, context)
        if not self._killed:
            self.kernel.call_at(when, handle, self)
        else:
            self._add_cleanup_step(when, handle)
        return handle

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """Do nothing: the kernel drops a cancelled timer when it is due."""

    def create_future(self) -> Future[Any]:
        return Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> SimTask:
        task = SimTask(coro, loop=self, name=name, context=context)
        self.tasks[task] = None
        task.add_done_callback(self._remove_task)
        return task

    def _remove_task(self, task: Any) -> None:
        self.tasks.pop(task, None)

    def is_running(self) -> bool:
        return running_process() is self

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report an exception that was not handled or never retrieved, unless the process was killed."""
        if not self._killed:
            self.on_unhandled_error(f"{context['message']}: {context.get('exception')!r}")


class SimClock:
    """`engine.clock.Clock` of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> datetime:
        """Return the wall clock: the true time and the skew of the process (aware UTC)."""
        return EPOCH + timedelta(seconds=self._process.time()) + self._process.skew

    def monotonic(self) -> float:
        """Return the seconds since `EPOCH`."""
        return self._process.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds` of virtual time."""
        await asyncio.sleep(seconds)
