"""Virtual time and processes: one heap of what is to happen, in one order, that a seed decides.

Each process has an event loop of its own, whose callbacks are handed out here one by one. So a process can be
killed between any two of its steps, as by `kill -9`, or paused, as by SIGSTOP, while the world goes on. Time
passes by itself with each step of a process, and else jumps to what comes next.
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
"""What one callback takes, on the average."""
MAX_CLEANUP_STEPS = 100_000
"""Of a process that ends; one that takes more does not end."""


class StuckError(AssertionError):
    """A process that was cancelled does not end."""


class Kernel:
    """Time, and all that is to happen.

    Attributes:
        now: seconds since the beginning; true time, that nobody in the world knows.
        steps: how many callbacks were run.
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
        """Have something happen at once, after all else that does."""
        self._ready.append((process, call))

    def call_at(
        self, when: float, call: "Step | Callable[[], None]", process: "Process | None" = None
    ) -> None:
        """Have something happen at `when`."""
        heapq.heappush(self._later, (when, next(self._sequence), process, call))

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Have something happen in so many seconds."""
        self.call_at(self.now + seconds, call)

    def run(self, until: float) -> None:
        """Let everything happen up to `until`."""
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
        """Let nothing more happen."""
        self._stopped = True

    def _step(self, process: "Process | None", call: "Step | Callable[[], None]") -> None:
        if process is None:
            call()  # type: ignore[operator]
            return
        if process.run_step(call):  # type: ignore[arg-type]
            self.steps += 1
            self.now += STEP_SECONDS * process.slowness * (0.5 + self._random.random())

    def timers(self, process: "Process") -> int:
        """How many timers a process waits for."""
        return sum(owner is process and not call.cancelled() for _, _, owner, call in self._later)  # type: ignore[union-attr]

    def remove_callbacks(self, process: "Process") -> "list[Step]":
        """What a process was about to do, which nobody does now."""
        taken = [call for owner, call in self._ready if owner is process]
        self._ready = deque(item for item in self._ready if item[0] is not process)
        self._later = [item for item in self._later if item[2] is not process]
        heapq.heapify(self._later)
        return taken  # type: ignore[return-value]


class Step(Handle):
    """A callback of an event loop that can be run from outside of the loop."""

    def run(self) -> None:
        """Run the callback; what it raises goes to the exception handler of the loop."""
        self._run()


class TimedStep(TimerHandle, Step):
    """The same, to be run at an instant."""


def running_process() -> "Process | None":
    """The process whose step is being run; None outside of any."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if isinstance(loop, Process) else None


def _raise_error(message: str) -> None:
    raise AssertionError(message)


class SimTask(Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    _numbers = count()

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class Process(AbstractEventLoop):
    """A process: an event loop, and what may be done to it from outside.

    Attributes:
        name: for the trace.
        alive: whether it was neither killed nor has ended.
        skew: what its wall clock is ahead of true time.
        slowness: how many times longer than usual a step takes.
        tasks: those that have not ended, in the order of their making.
        failure: what it ended with, if that was no cancellation.
        on_unhandled_error: called with each error that would only be printed: of a callback, or one nobody looked at.
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
        """Run `main`; the process ends with it."""
        self._main = self.create_task(main, name="main")
        self._main.add_done_callback(self._on_main_end)

    def _on_main_end(self, task: Future[Any]) -> None:
        self.alive = False
        if not task.cancelled():
            self.failure = task.exception()

    def run_step(self, step: Step) -> bool:
        """Run one callback, or hold it while paused; whether it was run."""
        if step.cancelled():
            return False
        if self.paused:
            self._paused_steps.append(step)
            return False
        asyncio._set_running_loop(self)  # noqa: SLF001 - asyncio has it for event loops
        try:
            step.run()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001 - the same
        return True

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.paused = False
        while self._paused_steps:
            self.kernel.call_soon(self, self._paused_steps.popleft())

    def set_slowness(self, times: float) -> None:
        """Have each step take so many times longer than usual."""
        self.slowness = times

    def terminate(self) -> None:
        """SIGTERM."""
        if self._main is not None:
            self.call_soon(self._main.cancel)

    def kill(self) -> None:
        """kill -9: nothing of it happens any more.

        What its code would do on the way out is run apart from the world, so that nothing is left of it.
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
        """Whether nothing of it runs any more."""
        return self._main is not None and self._main.done()

    def _add_cleanup_step(self, when: float, step: Step) -> None:
        heapq.heappush(self._cleanup_steps, (when, next(self._sequence), step))

    # What asyncio asks of an event loop.

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
        """Nothing: it is dropped when its time comes."""

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
        """A callback raised, or an exception was never looked at; who was killed had no time to."""
        if not self._killed:
            self.on_unhandled_error(f"{context['message']}: {context.get('exception')!r}")


class SimClock:
    """`engine.clock.Clock` of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> datetime:
        """The wall clock: true time, and what it is wrong by."""
        return EPOCH + timedelta(seconds=self._process.time()) + self._process.skew

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self._process.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep so long."""
        await asyncio.sleep(seconds)
