"""What Resources accept of their bookings: reads the Bookings, and remembers the decisions for a moment.

`domain.acceptance.decide` decides about all bookings that share exclusive Resources together. The reconciler
of Bookings asks for one Booking after the other, so the decisions are kept while their input stays the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING
from booking_operator.domain.acceptance import NO_RULES, BookingRequest, Decision, decide
from booking_operator.engine.introspection import BOUNDED, Contents
from booking_operator.engine.store import Key
from booking_operator.reconcilers.environment import Environment

_MAX_KEPT = 32
"""For how many exclusive Resources the decisions are kept."""


@dataclass(frozen=True, slots=True)
class _Decided:
    """The decisions about the bookings that share exclusive Resources.

    Attributes:
        requests: the bookings.
        begin: when they were decided (aware UTC).
        end: when they must be decided again (aware UTC); None for never.
        decisions: the decisions, by the name of the Booking.
    """

    requests: Sequence[BookingRequest]
    begin: datetime
    end: datetime | None
    decisions: Mapping[str, Decision]

    def holds(self, requests: Sequence[BookingRequest], now: datetime) -> bool:
        """Whether the decisions are the same at `now`."""
        in_time = self.begin <= now and (self.end is None or now < self.end)
        return in_time and self.requests == requests


class Acceptances:
    """Decides what Resources accept of their bookings."""

    def __init__(self, environment: Environment) -> None:
        self._informers = environment.informers
        self._statuses = environment.statuses[BOOKING]
        self._decided: dict[Key, _Decided] = {}

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {f"{BOUNDED}decided": self._decided.keys()}

    def decide(self, booking: Booking, now: datetime) -> Decision | None:
        """Return the decision about a Booking at `now` (aware UTC).

        It is None without rules, and for a Booking that is invalid or has ended.
        """
        namespace, name = booking.metadata.namespace, booking.metadata.name
        rules = self._informers.rules(Key(namespace, booking.resource_name))
        if rules == NO_RULES:
            return None
        if not rules.exclusive:
            return decide(self._requests([booking]), now).get(name)
        requests = self._requests(self._informers.rivals(Key(namespace, booking.resource_name), now))
        shared = Key(namespace, min((name for item in requests for name in item.rules.exclusive), default=""))
        known = self._decided.pop(shared, None)
        if known is None or not known.holds(requests, now):
            found = decide(requests, now)
            ends = [decision.retry_at for decision in found.values() if decision.retry_at is not None]
            ends += [item.wanted.end for item in requests if item.wanted and now < item.wanted.end]
            known = _Decided(requests, now, min(ends, default=None), found)
        self._decided[shared] = known
        if len(self._decided) > _MAX_KEPT:
            del self._decided[next(iter(self._decided))]
        return known.decisions.get(name)

    def _requests(self, bookings: Iterable[Booking]) -> list[BookingRequest]:
        """Return what each Booking wants, and what was accepted of it for another Resource."""
        found = []
        for booking in bookings:
            current = self._statuses.current(booking)
            names = (booking.resource_name, booking.status.accepted_resource, current.accepted_resource)
            for name in dict.fromkeys(filter(None, names)):
                rules = self._informers.rules(Key(booking.metadata.namespace, name))
                found.append(booking.request(name, rules, current))
        return sorted(found, key=lambda item: (item.created_at, item.name, item.wanted is None))
