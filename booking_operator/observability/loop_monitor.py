"""Measures the lag of the event loop, and when it last ran a timer."""

import asyncio
from collections.abc import Callable

PERIOD_SECONDS = 0.25
"""The period of the timer. A blocking call that takes longer is always measured, a shorter one sometimes."""


class LoopMonitor:
    """A periodic timer of the running event loop, which uses the clock of the loop.

    Args:
        lagged: called with the lateness of each beat in seconds.
    """

    def __init__(self, lagged: Callable[[float], None]) -> None:
        self._lagged = lagged
        self._loop = asyncio.get_running_loop()
        self._beat_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def age(self) -> float:
        """The seconds since the last beat. In a healthy loop it is at most a little more than the period."""
        return self._loop.time() - self._beat_at

    def start(self) -> None:
        """Start the timer. It repeats until `stop`."""
        self._timer = self._loop.call_later(PERIOD_SECONDS, self._beat)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        due = self._beat_at + PERIOD_SECONDS if self._timer is None else self._timer.when()
        self._beat_at = self._loop.time()
        self._lagged(max(0.0, self._beat_at - due))
        self.start()
