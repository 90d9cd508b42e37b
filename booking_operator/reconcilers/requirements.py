"""Which Resources require which, by `spec.requires`. All methods read the cached Resources."""

from dataclasses import dataclass
from datetime import timedelta

from booking_operator.api.resource import Resource
from booking_operator.engine.store import Key, Store, key_of

REQUIRED_INDEX = "required"
"""The index of the store of Resources that finds the Resources that require one."""


@dataclass(frozen=True, slots=True)
class Required:
    """A Resource that another one requires, directly or through others.

    Attributes:
        key: the required Resource. It need not exist.
        lead: how much earlier than `start_at` of a booking it must be ready: the warm-ups of the Resources
            that need it, one after the other.
    """

    key: Key
    lead: timedelta


def required_keys(resource: Resource) -> tuple[Key, ...]:
    """Return the Resources that a Resource requires directly."""
    return tuple(Key(resource.metadata.namespace, name) for name in resource.requires)


class Requirements:
    """The requirements of all Resources in a store, which has the index `REQUIRED_INDEX`."""

    def __init__(self, resources: Store[Resource]) -> None:
        self._resources = resources

    def dependents(self, key: Key) -> list[Resource]:
        """Return the Resources that require one directly, by name."""
        return sorted(self._resources.by_index(REQUIRED_INDEX, key), key=lambda item: item.metadata.name)

    def all_dependents(self, key: Key) -> list[Key]:
        """Return the Resources that require one, directly or not. A Resource is not its own dependent."""
        found: dict[Key, None] = {}
        waiting = [key]
        while waiting:
            for item in self.dependents(waiting.pop()):
                dependent = key_of(item)
                if dependent not in found and dependent != key:
                    found[dependent] = None
                    waiting.append(dependent)
        return list(found)

    def neighbours(self, key: Key) -> list[Key]:
        """Return the Resources that one requires, and those that require it, directly."""
        resource = self._resources.get(key)
        direct = required_keys(resource) if resource is not None else ()
        return [*direct, *(key_of(item) for item in self.dependents(key))]

    def required(self, key: Key) -> tuple[Required, ...]:
        """Return the Resources that one requires, directly or not, by name. It does not include itself."""
        leads = self._leads(key, {}, ())
        return tuple(Required(other, leads[other]) for other in sorted(leads) if other != key)

    def _leads(
        self, key: Key, known: dict[Key, dict[Key, timedelta]], path: tuple[Key, ...]
    ) -> dict[Key, timedelta]:
        """Return the lead of each required Resource. A requirement that closes a cycle is left out."""
        if key not in known:
            resource, leads = self._resources.get(key), dict[Key, timedelta]()
            warm_up = resource.warm_up if resource is not None else timedelta(0)
            for direct in required_keys(resource) if resource is not None else ():
                if direct in path or direct == key:
                    continue
                further = self._leads(direct, known, (*path, key))
                for other, lead in ({direct: timedelta(0)} | further).items():
                    leads[other] = max(warm_up + lead, leads.get(other, timedelta(0)))
            known[key] = leads
        return known[key]

    def cycle(self, resource: Resource) -> tuple[str, ...]:
        """Return the names on a way from a Resource through its requirements back to it; empty if none.

        The first and the last name are that of the Resource.
        """
        own = key_of(resource)
        before: dict[Key, Key] = {}
        waiting = [own]
        while waiting:
            key = waiting.pop(0)
            found = self._resources.get(key)
            for direct in required_keys(found) if found is not None else ():
                if direct == own:
                    return self._way(own, key, before)
                if direct not in before:
                    before[direct] = key
                    waiting.append(direct)
        return ()

    @staticmethod
    def _way(own: Key, last: Key, before: dict[Key, Key]) -> tuple[str, ...]:
        names = [own.name]
        while last != own:
            names.append(last.name)
            last = before[last]
        return tuple(reversed([*names, own.name]))
