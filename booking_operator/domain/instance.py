"""Instances as the rules see them, the same for every cloud service."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """Power state of an instance that exists; terminated ones are left out where instances are read."""

    STOPPED = "stopped"
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance and its power state."""

    id: str
    state: State


@dataclass(frozen=True, slots=True)
class Observation:
    """The instances of one group as they were at `at` (aware UTC), the instant the question was sent."""

    instances: tuple[Instance, ...]
    at: datetime

    def ids(self, *states: State) -> tuple[str, ...]:
        """Ids of the instances in one of `states`, in order."""
        return tuple(instance.id for instance in self.instances if instance.state in states)

    def count(self, state: State) -> int:
        """How many instances are in `state`."""
        return sum(instance.state is state for instance in self.instances)

    def all_in(self, state: State) -> bool:
        """Whether there are instances, and all of them are in `state`."""
        return bool(self.instances) and self.count(state) == len(self.instances)

    def with_states(self, states: Mapping[str, State]) -> "Observation":
        """The same view, corrected by the states that an accepted action has answered."""
        return replace(self, instances=_corrected(self.instances, states))


def _corrected(instances: Iterable[Instance], states: Mapping[str, State]) -> tuple[Instance, ...]:
    return tuple(replace(instance, state=states.get(instance.id, instance.state)) for instance in instances)
