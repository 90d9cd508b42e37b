"""Measures how late starts and stops are that were known ahead: the operator's service level.

Lateness is the time from a boundary to the acceptance of the call by the cloud, for each instance. A boundary
is the instant at which the bookings have power change, warm-up included. It counts if it was known before it
came, to this process or to the one before: `status.next_change_at` tells it, so what came due while no
operator ran counts with all of its lateness. Not so what nobody could foresee: a booking for now, an edit, a
deletion, an instance that somebody started by hand.

A boundary counts until the group is as booked for the first time after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from booking_operator.cloud.driver import Action
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key

Late = Callable[[Action, str, float, int], None]
"""Is told of START or STOP, of which service, how late in seconds, and of how many instances."""


def untold(_: Action, __: str, ___: float, ____: int) -> None:
    """For those who measure nothing."""


@dataclass(slots=True)
class _Boundary:
    """One Resource: when power will change next, and when it last should have, while that is not done."""

    coming: datetime | None
    passed: datetime | None = None


class Punctuality:
    """Follows the boundaries of all Resources. `late` is told of each acceptance that counts."""

    def __init__(self, clock: Clock, late: Late = untold) -> None:
        self._clock = clock
        self._late = late
        self._boundaries: dict[Key, _Boundary] = {}

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {"boundaries": self._boundaries.keys()}

    def foresee(
        self, key: Key, coming: datetime | None, now: datetime, *, remembered: datetime | None = None
    ) -> None:
        """Take what the bookings of a Resource say.

        Args:
            key: the Resource.
            coming: when its power will next change (aware UTC); None for never.
            now: the instant, aware UTC.
            remembered: the same as its status told it before this process knew of it.
        """
        boundary = self._boundaries.get(key)
        if boundary is None:
            boundary = self._boundaries[key] = _Boundary(remembered)
        if boundary.coming is not None and boundary.coming <= now:
            boundary.passed = boundary.coming
        boundary.coming = coming

    def met(self, key: Key) -> None:
        """The group of a Resource is as booked, or is not to be: what comes now is something else."""
        boundary = self._boundaries.get(key)
        if boundary is not None:
            boundary.passed = None

    def forget(self, key: Key) -> None:
        """The Resource is gone."""
        self._boundaries.pop(key, None)

    def measure(self, key: Key, action: Action, service: str, deadline: datetime) -> Callable[[int], None]:
        """What is to be called with the number of instances when an order for a Resource is accepted."""
        boundary = self._boundaries.get(key)
        if boundary is None or deadline not in {boundary.coming, boundary.passed}:
            return _nothing

        def accepted(instances: int) -> None:
            late = (self._clock.now() - deadline).total_seconds()
            self._late(action, service, max(0.0, late), instances)

        return accepted


def _nothing(_: int) -> None:
    """Of what does not count."""
