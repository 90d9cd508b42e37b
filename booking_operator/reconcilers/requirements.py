"""Which Resources require which, by `spec.requires`. All methods read the cached Resources."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from booking_operator.api.resource import Resource
from booking_operator.engine.store import Key, Store, key_of

REQUIRED_INDEX = "required"
"""The index of the store of Resources that finds the Resources that require one."""
MAX_REQUIRED = 64
"""How many Resources one may require, directly or through others. It bounds the work at each change."""


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


@dataclass(frozen=True, slots=True)
class Closure:
    """All that a Resource requires.

    Attributes:
        required: the Resources that it requires, directly or not, by name, without itself. If they are too
            many, the `MAX_REQUIRED` with the fewest steps to them.
        timeout: how long its start waits for them at most. A required Resource may wait as well, so the
            timeouts of a chain are added. It is zero for a Resource that such a fault makes invalid.
        cyclic: whether it requires itself, directly or not. It is False if `too_many`.
        too_many: whether it requires more than `MAX_REQUIRED`.
    """

    required: tuple[Required, ...] = ()
    timeout: timedelta = timedelta(0)
    cyclic: bool = False
    too_many: bool = False


NOTHING_REQUIRED = Closure()


def required_keys(resource: Resource) -> tuple[Key, ...]:
    """Return the Resources that a Resource requires directly."""
    return tuple(Key(resource.metadata.namespace, name) for name in resource.requires)


class Requirements:
    """The requirements of all Resources in a store, which has the index `REQUIRED_INDEX`."""

    def __init__(self, resources: Store[Resource]) -> None:
        self._resources = resources

    def is_required(self, key: Key) -> bool:
        """Whether any Resource requires one directly."""
        return key in self._resources.index_values(REQUIRED_INDEX)

    def dependents(self, key: Key) -> list[Resource]:
        """Return the Resources that require one directly, by name."""
        return sorted(self._resources.by_index(REQUIRED_INDEX, key), key=lambda item: item.metadata.name)

    def all_dependents(self, key: Key) -> list[Key]:
        """Return the Resources that require one, directly or not. A Resource is not its own dependent.

        Those that are more than `MAX_REQUIRED` steps away are left out: they require too many Resources, so
        no change of this one concerns them.
        """
        found: dict[Key, None] = {key: None}
        level = [key]
        for _ in range(MAX_REQUIRED):
            above = dict.fromkeys(dependent for one in level for dependent in self._dependent_keys(one))
            level = [dependent for dependent in above if dependent not in found]
            if not level:
                break
            found |= dict.fromkeys(level)
        del found[key]
        return list(found)

    def closures(self, keys: Collection[Key], known: Callable[[Key], Closure]) -> Mapping[Key, Closure]:
        """Return all that some Resources require.

        Args:
            keys: the Resources.
            known: returns the closure of any other Resource.
        """
        own, found = set(keys), dict[Key, Closure]()

        def required(key: Key) -> list[Key]:
            return [direct for direct in self._required_keys(key) if direct in own]

        def closure_of(key: Key) -> Closure:
            return found[key] if key in own else known(key)

        for component in _components(keys, required):
            found.update(self._closures_of(component, closure_of))
        return found

    def _closures_of(
        self, component: Collection[Key], closure_of: Callable[[Key], Closure]
    ) -> Mapping[Key, Closure]:
        """Return the closures of Resources that require each other, or of one that does not.

        `closure_of` returns those of all others that they require.
        """
        leads, waits, too_many = dict[Key, timedelta](), timedelta(0), False
        for key in component:
            warm_up = self._warm_up(key)
            for direct in self._required_keys(key):
                if direct in component:
                    continue
                further = closure_of(direct)
                waits, too_many = max(waits, further.timeout), too_many or further.too_many
                for other, lead in (
                    (direct, timedelta(0)),
                    *((item.key, item.lead) for item in further.required),
                ):
                    leads[other] = max(warm_up + lead, leads.get(other, timedelta(0)))
        outside = Closure(tuple(Required(key, lead) for key, lead in leads.items()), waits, too_many=too_many)
        return {key: self._closure(key, component, outside) for key in component}

    def _closure(self, key: Key, component: Collection[Key], outside: Closure) -> Closure:
        """Return the closure of a Resource, given what its component requires of others."""
        direct, resource = self._required_keys(key), self._resources.get(key)
        if not direct or resource is None:
            return NOTHING_REQUIRED
        # The Resources of a cycle wait for each other without an end, so their warm-ups have no order.
        leads = {other: timedelta(0) for other in component if other != key}
        leads |= {item.key: item.lead for item in outside.required}
        too_many = outside.too_many or len(leads) > MAX_REQUIRED
        # A long cycle is not read as a whole after each change, so it counts as too many Resources.
        cyclic = not too_many and (len(component) > 1 or key in direct)
        if too_many:
            leads = self._nearest(key)
        return Closure(
            tuple(Required(other, leads[other]) for other in sorted(leads)),
            timedelta(0) if cyclic or too_many else resource.requires_timeout + outside.timeout,
            cyclic,
            too_many,
        )

    def _nearest(self, key: Key) -> dict[Key, timedelta]:
        """Return the `MAX_REQUIRED` Resources with the fewest steps to them, each with its lead."""
        leads, waiting = {key: timedelta(0)}, [key]
        for other in waiting:
            further = [item for item in self._required_keys(other) if item not in leads]
            further = further[: MAX_REQUIRED + 1 - len(leads)]
            leads |= dict.fromkeys(further, leads[other] + self._warm_up(other))
            waiting += further
        del leads[key]
        return leads

    def stop_timeout(self, key: Key) -> timedelta:
        """Return how long the stop of a Resource waits at most for those that require it.

        They may wait for others as well, so the timeouts of a chain are added.
        """
        found: dict[Key, timedelta] = {}
        for component in _components([key], self._dependent_keys):
            waits = [
                item.requires_timeout + found[key_of(item)]
                for member in component
                for item in self.dependents(member)
                if key_of(item) not in component
            ]
            found |= dict.fromkeys(component, max(waits, default=timedelta(0)))
        return found[key]

    def cycle(self, resource: Resource) -> tuple[str, ...]:
        """Return the names on a way from a Resource through its requirements back to it; empty if none.

        The first and the last name are that of the Resource.
        """
        own = key_of(resource)
        before: dict[Key, Key] = {}
        waiting = [own]
        while waiting:
            key = waiting.pop(0)
            for direct in self._required_keys(key):
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

    def _required_keys(self, key: Key) -> tuple[Key, ...]:
        resource = self._resources.get(key)
        return required_keys(resource) if resource is not None else ()

    def _dependent_keys(self, key: Key) -> list[Key]:
        return [key_of(item) for item in self.dependents(key)]

    def _warm_up(self, key: Key) -> timedelta:
        resource = self._resources.get(key)
        return resource.warm_up if resource is not None else timedelta(0)


def _components(keys: Iterable[Key], edges: Callable[[Key], Iterable[Key]]) -> Iterator[Collection[Key]]:
    """Yield the strongly connected components that are reachable from `keys`, each after those it leads to.

    This is Tarjan's algorithm, without recursion: a chain of Resources may be longer than Python's stack.
    """
    index, low = dict[Key, int](), dict[Key, int]()
    stack: dict[Key, None] = {}
    for root in keys:
        if root in index:
            continue
        work = [(root, iter(edges(root)))]
        index[root] = low[root] = len(index)
        stack[root] = None
        while work:
            key, rest = work[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack[other] = None
                    work.append((other, iter(edges(other))))
                    break
                if other in stack:
                    low[key] = min(low[key], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[key])
                if low[key] == index[key]:
                    component = set[Key]()
                    while key not in component:
                        component.add(stack.popitem()[0])
                    yield component
