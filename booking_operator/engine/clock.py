"""The only place that reads time or sleeps. All instants are aware UTC."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

MAX_SLEEP = timedelta(seconds=10)
"""Deadlines are on the wall clock, sleeps on the monotonic one: in steps of this length, a suspended machine
or a clock that is set is noticed this late at most."""
_MONOTONIC: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Wall-clock time and sleep."""

    def now(self) -> datetime:
        """The current instant, aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some instant, on a clock that nobody sets."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep `seconds` on the event loop's monotonic clock."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The current instant, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some instant; on Linux the time during which the machine is suspended counts."""
        return time.clock_gettime(_MONOTONIC)

    async def sleep(self, seconds: float) -> None:
        """Sleep `seconds` on the event loop's monotonic clock."""
        await asyncio.sleep(seconds)


async def sleep_until(clock: Clock, deadline: datetime) -> None:
    """Return at `deadline` on the wall clock or right after, never before, even if the clock is set."""
    while (left := deadline - clock.now()) > timedelta(0):
        await clock.sleep(min(left, MAX_SLEEP).total_seconds())


async def wait_until(clock: Clock, deadline: datetime | None, event: asyncio.Event) -> None:
    """Return when `event` is set, or at `deadline`, or after the longest sleep: the caller looks again."""
    if deadline is None:
        await event.wait()
        return
    left = min(deadline - clock.now(), MAX_SLEEP).total_seconds()
    if left <= 0:
        return
    try:
        async with asyncio.timeout(left):
            await event.wait()
    except TimeoutError:
        return
