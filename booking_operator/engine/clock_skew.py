"""Reports clock skew between the operator and a server, measured from the Date headers of the responses.

The operator's clock decides when a booking begins. A skew that goes unnoticed makes bookings begin too early
or too late for users whose clock is right.
"""

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import structlog

TOLERANCE = timedelta(seconds=1)
_RESOLUTION = timedelta(seconds=1)  # of a Date header, RFC 9110 section 5.6.7


def clock_skew(date: datetime, sent_at: datetime, received_at: datetime) -> timedelta:
    """Return the smallest skew that a response proves, or zero if it proves none.

    The skew is positive if the operator's clock is ahead, and negative if it is behind. The server read its
    clock between `sent_at` and `received_at`, which are instants of the operator's clock, and truncated it to
    whole seconds.
    """
    ahead = sent_at - (date + _RESOLUTION)
    behind = received_at - date
    if ahead > timedelta(0):
        return ahead
    return min(timedelta(0), behind)


class ClockSkewMonitor:
    """Logs a warning when the skew exceeds one second, and an info record when it no longer does.

    Attributes:
        current: the smallest skew that the last response proves; negative if the operator's clock is behind.
    """

    def __init__(self, server: str) -> None:
        """Create a monitor; `server` is the name of the server in log records."""
        self.current = timedelta(0)
        self._server = server
        self._log = structlog.get_logger()

    def record(self, header: str | None, sent_at: datetime, received_at: datetime) -> None:
        """Measure the skew from the Date header of one response.

        A header that is missing or invalid is ignored.
        """
        try:
            date = parsedate_to_datetime(header or "")
            if date.tzinfo is None:
                return
            ahead = clock_skew(date, sent_at, received_at)
        except (ValueError, OverflowError):
            return
        before, self.current = self.current, ahead
        seconds = round(self.current.total_seconds(), 1)
        if abs(self.current) > TOLERANCE >= abs(before):
            fix = "synchronize both clocks by NTP; bookings begin and end by the operator's clock"
            self._log.warning("clock_skew_detected", server=self._server, ahead_s=seconds, fix=fix)
        elif abs(self.current) <= TOLERANCE < abs(before):
            self._log.info("clock_skew_resolved", server=self._server, ahead_s=seconds)
