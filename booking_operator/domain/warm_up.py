"""`warm_up: auto`: how long before a booking a group must start so that it runs on time.

The warm-up is the 95th percentile of the last `MAX_STARTS` start times of the group. One slow start in twenty
therefore does not increase it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import ceil

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.formatting import round_up

MAX_STARTS = 20
"""The number of start times that the status keeps."""
PERCENTILE = 0.95
MAX_WARM_UP = timedelta(minutes=30)
"""The maximum warm-up. A start that takes longer does not count."""
ROUNDING = timedelta(seconds=5)
"""The warm-up is rounded up to a multiple of this: polling limits the precision of start times."""


def add_start(starts: Sequence[int], taken: timedelta) -> tuple[int, ...]:
    """Return the start times in seconds with a new one added, at most the last `MAX_STARTS`."""
    if not timedelta(0) <= taken <= MAX_WARM_UP:
        return tuple(starts)
    return (*starts, ceil(taken.total_seconds()))[-MAX_STARTS:]


def suggest(starts: Sequence[int], fallback: timedelta) -> timedelta:
    """Return the warm-up for the start times `starts` in seconds; `fallback` when there is none."""
    if not starts:
        return fallback
    ranked = sorted(starts)
    likely = timedelta(seconds=ranked[ceil(PERCENTILE * len(ranked)) - 1])  # the nearest rank
    return min(round_up(likely, ROUNDING), MAX_WARM_UP)


def effective(
    current: timedelta, suggested: timedelta, bookings: Iterable[BookingInterval], now: datetime
) -> timedelta:
    """Return the warm-up to apply from `now` (aware UTC) on.

    The warm-up does not shrink while a booking is in its warm-up. Otherwise the warm-up of that booking would
    begin later, and its instances would be stopped again.
    """
    if suggested < current and any(
        booking.is_active(now, current) and now < booking.start_at for booking in bookings
    ):
        return current
    return suggested
