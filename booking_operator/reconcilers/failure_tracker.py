"""Keeps failures of one reconciler for another reconciler, which reports them in a status.

For example, the reconciler of Bookings reports failed notifications.
"""

from collections.abc import Callable

from booking_operator.domain.conditions import Failure
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key


class FailureTracker:
    """The present failure of each object, by key.

    Args:
        changed: called with the key of an object when its failure has changed.
    """

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self.changed = changed
        self._failures: dict[Key, Failure] = {}

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"failures": self._failures.keys()}

    def get(self, key: Key) -> Failure | None:
        """Return the present failure of an object; None when there is none."""
        return self._failures.get(key)

    def set(self, key: Key, failure: Failure | None) -> None:
        """Replace the failure of an object; None removes it."""
        before = self._failures.pop(key, None)
        if failure is not None:
            self._failures[key] = failure
        if before != failure:
            self.changed(key)
