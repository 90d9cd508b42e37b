"""What Resources accept of their bookings: reads the Bookings, and remembers the decisions for a moment.

`domain.acceptance.decide` decides about all bookings of an exclusive Resource together. The reconciler of
Bookings asks for one Booking after the other, so the decisions are kept while their input stays the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING
from booking_operator.domain.acceptance import BookingRequest, BookingRules, Decision, decide
from booking_operator.engine.introspection import BOUNDED, Contents
from booking_operator.engine.store import Key
from booking_operator.reconcilers.environment import Environment

_MAX_KEPT = 32
"""For how many Resources the decisions are kept."""


@dataclass(frozen=True, slots=True)
class _Decided:
    """The decisions about the bookings of one Resource.

    Attributes:
        requests: the bookings.
        rules: the rules of the Resource.
        begin: when they were decided (aware UTC).
        end: when they must be decided again (aware UTC); None for never.
        decisions: the decisions, by the name of the Booking.
    """

    requests: Sequence[BookingRequest]
    rules: BookingRules
    begin: datetime
    end: datetime | None
    decisions: Mapping[str, Decision]

    def holds(self, requests: Sequence[BookingRequest], rules: BookingRules, now: datetime) -> bool:
        """Whether the decisions are the same at `now`."""
        in_time = self.begin <= now and (self.end is None or now < self.end)
        return in_time and self.rules == rules and self.requests == requests


class Acceptances:
    """Decides what Resources accept of their bookings."""

    def __init__(self, environment: Environment) -> None:
        self._informers = environment.informers
        self._statuses = environment.statuses[BOOKING]
        self._decided: dict[Key, _Decided] = {}

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {f"{BOUNDED}decided": self._decided.keys()}

    def decide(self, booking: Booking, rules: BookingRules, now: datetime) -> Decision | None:
        """Return the decision about a Booking at `now` (aware UTC); None if it is invalid or has ended."""
        key = Key(booking.metadata.namespace, booking.resource_name)
        if not rules.exclusive:
            return decide(self._requests(key, [booking]), rules, now).get(booking.metadata.name)
        requests = self._requests(key, self._informers.requests(key, now))
        known = self._decided.pop(key, None)
        if known is None or not known.holds(requests, rules, now):
            found = decide(requests, rules, now)
            ends = [decision.retry_at for decision in found.values() if decision.retry_at is not None]
            ends += [item.wanted.end for item in requests if item.wanted and now < item.wanted.end]
            known = _Decided(requests, rules, now, min(ends, default=None), found)
        self._decided[key] = known
        if len(self._decided) > _MAX_KEPT:
            del self._decided[next(iter(self._decided))]
        return known.decisions.get(booking.metadata.name)

    def _requests(self, key: Key, bookings: Iterable[Booking]) -> list[BookingRequest]:
        found = [booking.request(key.name, self._statuses.current(booking)) for booking in bookings]
        return sorted(found, key=lambda item: (item.created_at, item.name))
