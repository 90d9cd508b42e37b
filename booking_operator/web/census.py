"""Counts bookings by status and Resources by condition, as they change: a look at it costs nothing."""

from collections import Counter
from collections.abc import Iterable

from booking_operator.api.booking import Booking
from booking_operator.api.resource import Resource
from booking_operator.domain.booking import Phase
from booking_operator.engine.store import Change
from booking_operator.reconcilers.caches import Caches

NO_STATUS = "none"
CONDITIONS = ("Valid", "Found", "Synced", "Ready", "Delayed")
STATUSES = ("True", "False", "Unknown")
_PHASES = frozenset(phase.value for phase in Phase)


class Census:
    """How many there are of each.

    Attributes:
        bookings: by status; `none` where there is none yet, or it is not one of ours.
        conditions: Resources by type and status of each of their conditions.
    """

    def __init__(self, caches: Caches) -> None:
        """Count from now on, which must be before anything is listed."""
        self.bookings: Counter[str] = Counter(dict.fromkeys((*_PHASES, NO_STATUS), 0))
        pairs = ((condition, status) for condition in CONDITIONS for status in STATUSES)
        self.conditions: Counter[tuple[str, str]] = Counter(dict.fromkeys(pairs, 0))
        caches.bookings.subscribe(self._on_booking)
        caches.resources.subscribe(self._on_resource)

    def _on_booking(self, change: Change[Booking]) -> None:
        if change.old is not None:
            self.bookings[_status(change.old)] -= 1
        if change.new is not None:
            self.bookings[_status(change.new)] += 1

    def _on_resource(self, change: Change[Resource]) -> None:
        if change.old is not None:
            self.conditions.subtract(_conditions(change.old))
        if change.new is not None:
            self.conditions.update(_conditions(change.new))


def _status(booking: Booking) -> str:
    status = booking.status.status
    return status if status in _PHASES else NO_STATUS


def _conditions(resource: Resource) -> Iterable[tuple[str, str]]:
    for condition in resource.status.conditions:
        if condition.type in CONDITIONS:
            yield condition.type, condition.status
