"""Virtual time: an event loop whose clock jumps to the next timer when nothing is ready to run."""

import asyncio
import selectors
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
W = TypeVar("W")
EPOCH = datetime(2026, 1, 1, 9, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """The instant that many seconds after the epoch."""
    return EPOCH + timedelta(seconds=seconds)


class DeadlockError(AssertionError):
    """Every task waits, and no timer is left to wake one."""


class _JumpingSelector(selectors.SelectSelector):
    """Moves the clock of the loop to the next timer instead of waiting. There is no real I/O."""

    elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise DeadlockError("every task waits, and there is no timer")
        self.elapsed += max(timeout, 1e-6)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits in real time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.elapsed


class VirtualClock:
    """Reads the time of the virtual loop. `skew` shifts the wall clock but not the monotonic clock."""

    def __init__(self, epoch: datetime = EPOCH) -> None:
        self.epoch = epoch
        self.skew = timedelta(0)

    def now(self) -> datetime:
        elapsed = asyncio.get_running_loop().time()
        return self.epoch + timedelta(seconds=elapsed) + self.skew

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class DoneError(Exception):
    """Ends the tasks of a scenario."""


def play(make: Callable[[TaskGroup], W], scenario: Callable[[W], Awaitable[None]]) -> None:
    """Run a scenario in a world whose tasks belong to a task group, then cancel the remaining tasks."""

    async def main() -> None:
        try:
            async with TaskGroup() as tasks:
                await scenario(make(tasks))
                raise DoneError  # noqa: TRY301 - raised here to be caught here
        except* DoneError:
            pass

    run(main())
