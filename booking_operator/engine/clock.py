"""The only place that reads time or sleeps. All instants are aware UTC."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol

LONGEST_SLEEP = timedelta(seconds=10)
"""A deadline is on the wall clock, a sleep on the monotonic one: in steps, a suspended machine or a clock that
is set is noticed at most this late."""


class Clock(Protocol):
    """Wall-clock time and sleep."""

    def now(self) -> datetime:
        """The current instant, aware UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep `seconds`, of any clock that runs."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The current instant, aware UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop's monotonic clock."""
        await asyncio.sleep(seconds)


async def sleep_until(clock: Clock, deadline: datetime) -> None:
    """Return at `deadline` on the wall clock or right after, never before, however the clock is set meanwhile."""
    while (left := deadline - clock.now()) > timedelta(0):
        await clock.sleep(min(left, LONGEST_SLEEP).total_seconds())
