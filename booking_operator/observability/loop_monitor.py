"""Measures how late the event loop runs what is due, and when it last ran anything."""

import asyncio
from collections.abc import Callable

PERIOD_SECONDS = 0.25
"""A step of the loop that takes longer than this is seen for certain, a shorter one by chance."""


class LoopMonitor:
    """A timer of the running loop that restarts itself. It calls `lagged` with how late it was, in seconds.

    It goes by the loop's own clock, because the loop's own timers are what it measures.
    """

    def __init__(self, lagged: Callable[[float], None]) -> None:
        self._lagged = lagged
        self._loop = asyncio.get_running_loop()
        self._beat_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def age(self) -> float:
        """Seconds since the last beat; a little more than the period at most, while all is well."""
        return self._loop.time() - self._beat_at

    def start(self) -> None:
        """Beat until `stop`."""
        self._timer = self._loop.call_later(PERIOD_SECONDS, self._beat)

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        due = self._beat_at + PERIOD_SECONDS if self._timer is None else self._timer.when()
        self._beat_at = self._loop.time()
        self._lagged(max(0.0, self._beat_at - due))
        self.start()
