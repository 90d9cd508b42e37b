"""The only module that reads the time or sleeps.

All instants are aware `datetime` values in UTC.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

MAX_SLEEP = timedelta(seconds=10)
"""The longest single sleep. Deadlines are in wall-clock time, but `asyncio` sleeps in monotonic time. After a
suspend, or after the wall clock was set, a waiting task notices the new time at most this late."""
_MONOTONIC: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Wall-clock time and sleep."""

    def now(self) -> datetime:
        """The current instant, aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary instant, on a clock that cannot be set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep `seconds`, measured on the monotonic clock of the event loop."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The current instant, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since an arbitrary instant.

        On Linux the value includes the time for which the machine is suspended.
        """
        return time.clock_gettime(_MONOTONIC)

    async def sleep(self, seconds: float) -> None:
        """Sleep `seconds`, measured on the monotonic clock of the event loop."""
        await asyncio.sleep(seconds)


async def sleep_until(clock: Clock, deadline: datetime) -> None:
    """Return as soon as the wall clock has reached `deadline`, even if the clock is set during the sleep."""
    while (left := deadline - clock.now()) > timedelta(0):
        await clock.sleep(min(left, MAX_SLEEP).total_seconds())


def in_flight_together(sent_at: datetime, answered_at: datetime | None, now: datetime) -> bool:
    """Whether a call that was sent at `sent_at` was in flight when another one was answered.

    Their answers then report the same event. An `answered_at` after `now` is from before the clock was set
    back, and does not count. All instants are aware UTC.
    """
    return answered_at is not None and sent_at <= answered_at <= now


async def wait_until(clock: Clock, deadline: datetime | None, event: asyncio.Event) -> None:
    """Wait until `event` is set, until `deadline`, or for `MAX_SLEEP`, whichever comes first.

    Without a deadline, wait for `event` only. The caller checks its condition again after each return.
    """
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
