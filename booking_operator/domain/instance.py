"""Instances as the rules see them, the same for every cloud service."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class InstanceState(StrEnum):
    """Power state of an instance that exists; terminated ones are left out where instances are read.

    `UNAVAILABLE` is neither on nor off, and nothing that the operator does will change that.
    """

    STOPPED = "stopped"
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Lock:
    """What the lock tags of an instance say, word for word: who has it, and until when."""

    by: str
    until: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance and its power state.

    Attributes:
        id: what the service knows it by, and the user.
        state: its power state.
        blocked_reason: why it can be neither started nor stopped at present, as the end of the sentence "it
        …";
            empty when nothing stands in the way.
        lock: its lock tags; None where it has none.
    """

    id: str
    state: InstanceState
    blocked_reason: str = ""
    lock: Lock | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """The instances of one group as they were at `at` (aware UTC), the instant the question was sent."""

    instances: tuple[Instance, ...]
    at: datetime

    def ids(self, *states: InstanceState) -> tuple[str, ...]:
        """Ids of the instances in one of `states`, in order."""
        return tuple(instance.id for instance in self.instances if instance.state in states)

    def unblocked(self, state: InstanceState) -> tuple[str, ...]:
        """Ids of the instances in `state` that nothing keeps there, in order."""
        return tuple(item.id for item in self.instances if item.state is state and not item.blocked_reason)

    def count(self, state: InstanceState) -> int:
        """How many instances are in `state`."""
        return sum(instance.state is state for instance in self.instances)

    def all_in(self, state: InstanceState) -> bool:
        """Whether there are instances, and all of them are in `state`."""
        return bool(self.instances) and self.count(state) == len(self.instances)

    def with_states(self, states: Mapping[str, InstanceState]) -> "Observation":
        """The same view, corrected by the states that an accepted action has answered."""
        return replace(self, instances=_corrected(self.instances, states))


def _corrected(instances: Iterable[Instance], states: Mapping[str, InstanceState]) -> tuple[Instance, ...]:
    return tuple(replace(instance, state=states.get(instance.id, instance.state)) for instance in instances)
