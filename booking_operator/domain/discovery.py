"""Decides which Resources a monitor creates and deletes. Each decision is independent of earlier ones."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from booking_operator.domain import naming


@dataclass(frozen=True, slots=True)
class KnownResource:
    """The facts about an existing Resource that the decision depends on.

    Attributes:
        name: its name.
        tag: the tag of its group; None if the group is outside the scope and type of the monitor.
        prunable: whether the monitor may delete it: `spec.prune` is set, this monitor created the Resource,
            and no unfinished booking names it.
    """

    name: str
    tag: str | None
    prunable: bool


@dataclass(frozen=True, slots=True)
class DiscoveryPlan:
    """The result of a decision.

    Attributes:
        create: the tags of the Resources to create, by name.
        delete: the names of the Resources to delete.
    """

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
    """Decide what to do so that each group that asks for a Resource has one.

    A group that already has a Resource gets no second one, regardless of its name and its creator.

    Args:
        asking: the tags of the groups that ask for a Resource.
        found: the Resources of the monitor's namespace.
        template: the name template of Resources. It must pass `naming.check_template`.
        place: `type`, `region` and `account` of all these groups.
        prune: whether to delete prunable Resources whose group no longer asks for one.
        taken: the tags of groups that have a Resource in any namespace, or get one from another monitor.
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
