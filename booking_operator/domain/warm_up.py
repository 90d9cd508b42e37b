"""The warm-up that learns: how long before a booking a group must be started so that it runs on time.

Learnt from the starts seen so far, of which the last few are kept. What counts is a high percentile: late for
one start in twenty is all that a rare slow one may cause.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import ceil

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.formatting import round_up

MAX_STARTS = 20
"""Starts that are remembered."""
PERCENTILE = 0.95
MAX_WARM_UP = timedelta(minutes=30)
"""What it never exceeds, and what a start that takes longer does not count for."""
ROUNDING = timedelta(seconds=5)
"""To which it is rounded up: instances are looked at only so often while they start."""


def add_start(starts: Sequence[int], taken: timedelta) -> tuple[int, ...]:
    """The seconds of past starts with a new one, the oldest left out where there are too many."""
    if not timedelta(0) <= taken <= MAX_WARM_UP:
        return tuple(starts)
    return (*starts, ceil(taken.total_seconds()))[-MAX_STARTS:]


def suggest(starts: Sequence[int], fallback: timedelta) -> timedelta:
    """The warm-up that `starts` suggest, in seconds each; `fallback` before there is any."""
    if not starts:
        return fallback
    ranked = sorted(starts)
    likely = timedelta(seconds=ranked[ceil(PERCENTILE * len(ranked)) - 1])  # the nearest rank
    return min(round_up(likely, ROUNDING), MAX_WARM_UP)


def effective(
    current: timedelta, suggested: timedelta, bookings: Iterable[BookingInterval], now: datetime
) -> timedelta:
    """The warm-up to go by from `now` on.

    It does not shrink while a booking is in its warm-up: that would begin later then, and what has just been
    started would be stopped.
    """
    if suggested < current and any(
        booking.is_active(now, current) and now < booking.start_at for booking in bookings
    ):
        return current
    return suggested
