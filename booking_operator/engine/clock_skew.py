"""Reports when a server's clock and ours differ, by the Date headers of its answers.

The operator's own clock decides when a booking begins; users whose `date` says otherwise should find out.
"""

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import structlog

TOLERANCE = timedelta(seconds=1)
_RESOLUTION = timedelta(seconds=1)  # of a Date header, RFC 9110 section 5.6.7


def clock_skew(date: datetime, sent_at: datetime, received_at: datetime) -> timedelta:
    """How far our clock is ahead of a server's at least (behind: negative), given when it answered.

    The server took its time somewhere between `sent_at` and `received_at` of ours, and cut it to a second.
    """
    ahead = sent_at - (date + _RESOLUTION)
    behind = received_at - date
    if ahead > timedelta(0):
        return ahead
    return min(timedelta(0), behind)


class ClockSkewMonitor:
    """Warns when the skew exceeds a second, and says when it no longer does.

    Attributes:
        current: how far our clock is ahead at least; negative when it is behind.
    """

    def __init__(self, server: str) -> None:
        """Watch the clock of `server`, which is what the log calls it."""
        self.current = timedelta(0)
        self._server = server
        self._log = structlog.get_logger()

    def record(self, header: str | None, sent_at: datetime, received_at: datetime) -> None:
        """Take the Date header of one answer; one that is missing or unreadable is ignored."""
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
            fix = "set both by NTP; until then bookings begin and end by the operator's clock"
            self._log.warning("clock_skewed", server=self._server, ahead_s=seconds, fix=fix)
        elif abs(self.current) <= TOLERANCE < abs(before):
            self._log.info("clock_agrees", server=self._server, ahead_s=seconds)
