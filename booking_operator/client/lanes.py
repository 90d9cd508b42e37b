"""Lanes: the bookings of a Resource in rows in which no two overlap."""

from collections.abc import Sequence
from datetime import datetime

from booking_operator.client.view import ResourceView
from booking_operator.domain.booking import BookingInterval

MAX_LANES = 4
"""The lanes that a chart shows of one Resource. It says how many bookings have no lane."""


def lanes_of(view: ResourceView, begin: datetime, end: datetime) -> Sequence[Sequence[BookingInterval]]:
    """Return the bookings of a time range (aware UTC), warm-up included, in lanes.

    Each booking is in the first lane that has room, by precedence. Those that are not accepted come last.
    """
    lanes: list[list[BookingInterval]] = []
    warm_up = view.resource.warm_up
    found = view.bookings_within(begin, end + warm_up)
    for item in sorted(found, key=view.waiting.__contains__) if view.waiting else found:
        power_on = item.power_on_at(warm_up)
        if power_on >= end:
            continue
        lane = next((lane for lane in lanes if lane[-1].end_at <= power_on), None)
        if lane is None:
            lanes.append([item])
        else:
            lane.append(item)
    return lanes
