"""A local cache of the objects of one kind, with indexes.

A reflector and the operator's own writes update it. Subscribed handlers receive each change synchronously.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import chain
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from booking_operator.engine.introspection import Contents


class Key(NamedTuple):
    """Namespace and name, which identify an object among all objects of its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Format the key as client-go does: `namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Meta(Protocol):
    """The metadata that a store reads."""

    @property
    def namespace(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def uid(self) -> str: ...  # noqa: D102
    @property
    def resource_version(self) -> str: ...  # noqa: D102
    @property
    def generation(self) -> int: ...  # noqa: D102
    @property
    def deletion_timestamp(self) -> datetime | None: ...  # noqa: D102


class Object(Protocol):
    """An object that the API server serves."""

    @property
    def metadata(self) -> Meta: ...  # noqa: D102
    @property
    def spec(self) -> Any: ...  # noqa: D102
    @property
    def status(self) -> Any: ...  # noqa: D102


T = TypeVar("T", bound=Object)


class Origin(Enum):
    """The source of a change."""

    INITIAL = "initial"
    WATCH = "watch"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One object before and after a change; None if it did not exist."""

    old: T | None
    new: T | None
    origin: Origin

    @property
    def key(self) -> Key:
        """The key of the object."""
        return key_of(self.latest)

    @property
    def latest(self) -> T:
        """The object after the change, or the last known object if it was deleted."""
        object_ = self.new if self.new is not None else self.old
        if object_ is None:
            raise ValueError("a change must have an old or a new object")
        return object_

    @property
    def significant(self) -> bool:
        """Whether the change affects a reconciler. A new resourceVersion alone does not."""
        if self.old is None or self.new is None:
            return True
        return not self.status_only or bool(self.old.status != self.new.status)

    @property
    def status_only(self) -> bool:
        """Whether old and new are the same object with the same spec."""
        if self.old is None or self.new is None:
            return False
        old, new = self.old.metadata, self.new.metadata
        return (
            old.uid == new.uid
            and old.generation == new.generation
            and old.deletion_timestamp == new.deletion_timestamp
            and self.old.spec == self.new.spec  # a restored etcd may issue a generation twice
        )


def key_of(object_: Object) -> Key:
    """Return the key of an object."""
    return Key(object_.metadata.namespace, object_.metadata.name)


Index = Callable[[T], Iterable[Hashable]]


class Store(Generic[T]):
    """Objects by key and by index. Handlers are called in subscription order, synchronously."""

    def __init__(self, indexes: Mapping[str, Index[T]] | None = None) -> None:
        self._objects: dict[Key, T] = {}
        self._indexes = dict(indexes or {})
        self._indexed: dict[str, defaultdict[Hashable, dict[Key, T]]] = {
            name: defaultdict(dict) for name in self._indexes
        }
        self._handlers: list[Callable[[Change[T]], None]] = []

    def __len__(self) -> int:
        """The number of objects."""
        return len(self._objects)

    def introspect(self) -> Contents:
        """The keys of all objects, and of the objects in each index."""
        return {"objects": self._objects.keys()} | {
            f"index {name}": set(chain(*values.values())) for name, values in self._indexed.items()
        }

    def subscribe(self, handler: Callable[[Change[T]], None]) -> None:
        """Call `handler` for each significant change from now on."""
        self._handlers.append(handler)

    def unsubscribe(self, handler: Callable[[Change[T]], None]) -> None:
        """Stop calling `handler`."""
        self._handlers.remove(handler)

    def get(self, key: Key) -> T | None:
        """Return the object with this key, or None."""
        return self._objects.get(key)

    def objects(self) -> Iterable[T]:
        """All objects, in no particular order."""
        return self._objects.values()

    def by_index(self, index: str, value: Hashable) -> list[T]:
        """Return the objects for which `index` yields `value`."""
        found = self._indexed[index].get(value)
        return list(found.values()) if found else []

    def index_values(self, index: str) -> Collection[Any]:
        """All distinct values that `index` yields."""
        return self._indexed[index].keys()

    def replace(
        self,
        objects: Iterable[T],
        origin: Origin = Origin.WATCH,
        *,
        ignore_versions: bool = False,
        as_of: str = "",
    ) -> None:
        """Replace the contents with a consistent list. An object that the list does not contain was deleted.

        Args:
            objects: all objects of the kind.
            origin: the source of the changes.
            ignore_versions: whether to skip the version checks, because a restored etcd may issue
                resourceVersions twice.
            as_of: resourceVersion of the list; the store keeps own writes that are newer. If empty, the list
                replaces them.
        """
        listed = {key_of(object_): object_ for object_ in objects}
        for key in [key for key in self._objects if key not in listed]:
            self.delete(key)
        for key, object_ in listed.items():
            # Skip unchanged objects, so that a full list blocks the event loop only briefly.
            known = self._objects.get(key)
            if ignore_versions or not (known and (_same(object_, known) or _is_newer(known, object_, as_of))):
                self._set(object_, origin)

    def apply(self, object_: T) -> None:
        """Store an added or modified object from a watch. The same or an older version is ignored."""
        known = self._objects.get(key_of(object_))
        if known is None or not _same_or_older(object_, known):
            self._set(object_, Origin.WATCH)

    def apply_own_write(self, object_: T) -> None:
        """Store the response to an own write, so that the next reconcile already reads it.

        The store ignores the response if the object was deleted or recreated. If the response also contains a
        spec change by another client, its origin is `Origin.WATCH`, because the watch will not report that
        change again.
        """
        known = self._objects.get(key_of(object_))
        if known is None or known.metadata.uid != object_.metadata.uid or _same_or_older(object_, known):
            return
        alone = known.metadata.generation == object_.metadata.generation
        self._set(object_, Origin.OWN if alone else Origin.WATCH)

    def delete(self, key: Key) -> None:
        """Remove a deleted object."""
        old = self._objects.pop(key, None)
        if old is not None:
            self._unindex(key, old)
            self._notify(Change(old, None, Origin.WATCH))

    def _set(self, object_: T, origin: Origin) -> None:
        key = key_of(object_)
        old = self._objects.get(key)
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = object_
        for name, index in self._indexes.items():
            for value in index(object_):
                self._indexed[name][value][key] = object_
        self._notify(Change(old, object_, origin))

    def _unindex(self, key: Key, object_: T) -> None:
        for name, index in self._indexes.items():
            for value in index(object_):
                found = self._indexed[name][value]
                found.pop(key, None)
                if not found:
                    del self._indexed[name][value]

    def _notify(self, change: Change[T]) -> None:
        if change.significant:
            for handler in self._handlers:
                handler(change)


def _is_newer(known: Object, object_: Object, as_of: str) -> bool:
    """Whether the store has a later version of the object than a list of the version `as_of` can contain."""
    return known.metadata.uid == object_.metadata.uid and is_older(as_of, known.metadata.resource_version)


def _same(object_: Object, known: Object) -> bool:
    """Whether both are the same version of the same object."""
    new, old = object_.metadata, known.metadata
    return bool(new.resource_version) and (new.resource_version, new.uid) == (old.resource_version, old.uid)


def _same_or_older(object_: Object, known: Object) -> bool:
    """Whether `object_` is the same version as `known` or older.

    Versions of different objects are not comparable.
    """
    if object_.metadata.uid != known.metadata.uid:
        return False
    version, known_version = object_.metadata.resource_version, known.metadata.resource_version
    return (version.isdecimal() and version == known_version) or is_older(version, known_version)


def is_older(version: str, known: str) -> bool:
    """Whether a resourceVersion is older than another.

    Both must be decimal numbers (KEP-5504), else the result is False.
    """
    return is_version(version) and is_version(known) and int(version) < int(known)


def is_version(text: str) -> bool:
    """Whether a text is a resourceVersion that can be compared: a decimal number."""
    return text.isascii() and text.isdecimal()
