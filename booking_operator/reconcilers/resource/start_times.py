"""Measures how long starts take, from the call that was accepted to the view that shows all of it running."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.domain.instance import InstanceState, Observation
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key


@dataclass(frozen=True, slots=True)
class _Start:
    ids: frozenset[str]
    at: datetime


class StartTimes:
    """The starts that are under way, one for each Resource at most."""

    def __init__(self) -> None:
        self._starts: dict[Key, _Start] = {}

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {"started": self._starts.keys()}

    def began(self, key: Key, ids: Collection[str], at: datetime) -> None:
        """The start of instances was accepted at `at` (aware UTC); of one in parts, the first part counts."""
        known = self._starts.get(key)
        if known is not None:
            self._starts[key] = _Start(known.ids | frozenset(ids), known.at)
        else:
            self._starts[key] = _Start(frozenset(ids), at)

    def under_way(self, key: Key) -> frozenset[str]:
        """The instances whose start was accepted, until all of them run."""
        start = self._starts.get(key)
        return start.ids if start is not None else frozenset()

    def arrived(self, key: Key, observation: Observation | None) -> timedelta | None:
        """How long the start took, once all of it runs; None before, and when nothing was started."""
        start = self._starts.get(key)
        if start is None or observation is None or observation.at < start.at:
            return None
        if not start.ids <= set(observation.ids(InstanceState.RUNNING)):
            return None
        del self._starts[key]
        return observation.at - start.at

    def forget(self, key: Key) -> None:
        """The start is not waited for any more."""
        self._starts.pop(key, None)
