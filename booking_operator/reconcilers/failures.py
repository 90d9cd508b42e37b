"""Failures outside of a reconciler, for the reconciler that reports them to users."""

from collections.abc import Callable

from booking_operator.domain.conditions import Failure
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key


class FailureTracker:
    """The present failure of each object, if any. `changed` is called with the key of one that differs."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self.changed = changed
        self._failures: dict[Key, Failure] = {}

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {"failures": self._failures.keys()}

    def get(self, key: Key) -> Failure | None:
        """Why something about the object is not as it should be; None when it is."""
        return self._failures.get(key)

    def set(self, key: Key, failure: Failure | None) -> None:
        """Replace it; None when all is well, or the object is gone."""
        before = self._failures.pop(key, None)
        if failure is not None:
            self._failures[key] = failure
        if before != failure:
            self.changed(key)
