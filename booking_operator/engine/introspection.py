"""Read-only introspection: the keys that each long-lived collection holds.

Every class that keeps state by object key for longer than one call implements `Introspectable`. The
composition root joins them, and `Operator.introspect` returns all collections. Tests use the result to find
entries that outlive their objects. The operator makes no decision based on it.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import Protocol

Contents = Mapping[str, Collection[Hashable]]
"""Maps the name of a collection to the keys of its entries. A value may be a live view: copy it to keep
it."""

BOUNDED = "bounded: "
"""Name prefix of a collection of bounded size. Such a collection may keep entries of deleted objects."""


class Introspectable(Protocol):
    """An object that keeps state by key."""

    def introspect(self) -> Contents:
        """Return the keys of each collection that this object owns."""
        ...


def joined(parts: Mapping[str, Introspectable]) -> Contents:
    """Return the collections of several owners, each named `owner.collection`."""
    return {
        f"{owner}.{name}": keys for owner, part in parts.items() for name, keys in part.introspect().items()
    }
