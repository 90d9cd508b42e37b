"""Which Resources a monitor is to make and to delete, decided from scratch each time."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from booking_operator.domain import naming


@dataclass(frozen=True, slots=True)
class KnownResource:
    """A Resource as far as it matters here.

    Attributes:
        name: its own.
        tag: the group it stands for, of those the monitor looks at; None for any other group.
        prunable: it was made by this monitor, and nobody has an unfinished booking of it.
    """

    name: str
    tag: str | None
    prunable: bool


@dataclass(frozen=True, slots=True)
class DiscoveryPlan:
    """Resources to create, by name with their tag; and names of those to delete."""

    create: Mapping[str, str]
    delete: tuple[str, ...]


def plan_discovery(
    asking: AbstractSet[str],
    found: Collection[KnownResource],
    *,
    template: str,
    place: Mapping[str, str],
    prune: bool,
    taken: AbstractSet[str] = frozenset(),
) -> DiscoveryPlan:
    """What is to be done so that each group that asks for a Resource has one.

    A group that has one already, of any name and from any user, gets no second.

    Args:
        asking: tags of the groups that ask for a Resource.
        found: the Resources of the monitor's namespace.
        template: how Resources are named; `naming.check` has passed it.
        place: `type`, `region` and `account` of all these groups.
        prune: whether Resources of groups that ask no longer are deleted.
        taken: tags that a Resource of another namespace stands for.
    """
    names = {resource.name for resource in found}
    served = {resource.tag for resource in found} | taken
    create: dict[str, str] = {}
    for tag in sorted(asking - served):
        candidates = naming.name_candidates(template, {**place, "tag": tag})
        name = next((name for name in candidates if name not in names), None)
        if name is not None:
            names.add(name)
            create[name] = tag
    gone = tuple(item.name for item in found if item.prunable and item.tag not in asking) if prune else ()
    return DiscoveryPlan(create, gone)
