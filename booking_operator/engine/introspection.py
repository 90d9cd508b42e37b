"""Read-only introspection: the keys that each long-lived collection holds.

Every class that keeps state by the key of an object for longer than one call implements `Introspectable`.
The composition root joins them, and `Operator.introspect` returns the whole. Tests use it to find entries
that outlive their objects. Nothing in the operator decides by it.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import Protocol

Contents = Mapping[str, Collection[Hashable]]
"""By the name of a collection, the keys of its entries. A value may be a live view: copy it to keep it."""

BOUNDED = "bounded: "
"""A collection whose name begins so may keep entries of objects that are gone; its size is bounded."""


class Introspectable(Protocol):
    """Something that keeps state by key."""

    def introspect(self) -> Contents:
        """The keys of each collection that it owns."""
        ...


def joined(parts: Mapping[str, Introspectable]) -> Contents:
    """The collections of several owners, each named `owner.collection`."""
    return {
        f"{owner}.{name}": keys for owner, part in parts.items() for name, keys in part.introspect().items()
    }
