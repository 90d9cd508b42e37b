"""Counts Bookings by status and Resources by condition.

The counts are updated with each change of a cached object, so that a scrape does not iterate over objects.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime

from booking_operator.api.booking import Booking
from booking_operator.api.resource import Resource
from booking_operator.domain.booking import Phase
from booking_operator.domain.parsing import parse_rfc3339
from booking_operator.domain.power import GraceReason
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Change, Key
from booking_operator.reconcilers.informers import Informers

NO_STATUS = "none"
CONDITIONS = ("Valid", "Found", "Synced", "Ready", "Delayed")
STATUSES = ("True", "False", "Unknown")
REASONS = (
    "Starting",
    "Stopping",
    "StopWithheld",
    "Blocked",
    "NoInstances",
    "Suspended",
    "DryRun",
    *(reason.value for reason in GraceReason),
)
OTHER = "other"
_PHASES = frozenset(phase.value for phase in Phase)


class ObjectCounts:
    """The counts of Bookings and Resources.

    Attributes:
        bookings: the number of Bookings by status; `none` for an empty or unknown status.
        conditions: the number of Resources by the type and status of their conditions.
    """

    def __init__(self, informers: Informers) -> None:
        """Subscribe to the informers, which must still be empty."""
        self.bookings: Counter[str] = Counter(dict.fromkeys((*_PHASES, NO_STATUS), 0))
        pairs = ((condition, status) for condition in CONDITIONS for status in STATUSES)
        self.conditions: Counter[tuple[str, str]] = Counter(dict.fromkeys(pairs, 0))
        self._unready: dict[Key, tuple[str, datetime]] = {}
        informers.bookings.subscribe(self._on_booking)
        informers.resources.subscribe(self._on_resource)

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"unready": self._unready.keys()}

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
        unready = _unready(change.new) if change.new is not None else None
        if unready is None:
            self._unready.pop(change.key, None)
        else:
            self._unready[change.key] = unready

    def unready_since(self) -> Mapping[str, datetime]:
        """Return, by reason, since when the longest unready Resource has not been Ready (aware UTC)."""
        found: dict[str, datetime] = {}
        for reason, since in self._unready.values():
            found[reason] = min(since, found.get(reason, since))
        return found


def _status(booking: Booking) -> str:
    status = booking.status.status
    return status if status in _PHASES else NO_STATUS


def _conditions(resource: Resource) -> Iterable[tuple[str, str]]:
    for condition in resource.status.conditions:
        if condition.type in CONDITIONS:
            yield condition.type, condition.status


def _unready(resource: Resource) -> tuple[str, datetime] | None:
    """Return why a Resource is not Ready, and since when; None when it is Ready or that is unknown."""
    for condition in resource.status.conditions:
        if condition.type == "Ready" and condition.status == "False" and condition.last_transition_time:
            reason = condition.reason if condition.reason in REASONS else OTHER
            # Another client may have written a malformed time.
            with suppress(ValueError):
                return reason, parse_rfc3339(condition.last_transition_time)
    return None
