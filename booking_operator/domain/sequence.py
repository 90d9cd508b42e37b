"""The sequence of starts and stops: what a Resource waits for, because of `spec.requires`.

A Resource starts when all Resources that it requires are ready, and a required Resource stops when those that
require it have stopped. Each wait has an end, so that a Resource with a fault holds no other back for long.
"""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from booking_operator.domain.formatting import summarize
from booking_operator.domain.instance import InstanceState, Observation
from booking_operator.domain.power import GraceReason, PowerPolicy, UnbookedPolicy, Wait


@dataclass(frozen=True, slots=True)
class RequiredState:
    """A Resource that another one requires.

    Attributes:
        name: its name.
        problem: why it is not ready, such as `which does not exist`; empty if it is ready.
        lasts: whether the problem lasts until somebody solves it.
    """

    name: str
    problem: str = ""
    lasts: bool = False


@dataclass(frozen=True, slots=True)
class DependentState:
    """A Resource that requires another one.

    Attributes:
        name: its name.
        left: the ids of its instances that must stop first.
    """

    name: str
    left: tuple[str, ...]


def required_state(
    name: str, policy: PowerPolicy, observation: Observation | None, failure: str = ""
) -> RequiredState:
    """Return the state of a valid Resource that another one requires.

    Args:
        name: its name.
        policy: its rules.
        observation: its newest observation; None before the first one.
        failure: the reason that its status gives for not being as booked; empty for none.
    """
    if observation is None:
        return RequiredState(name, "whose instances have not been observed yet")
    if observation.all_ready:
        return RequiredState(name)
    if not observation.instances:
        return RequiredState(name, "which has no instances", lasts=True)
    counts = f"of which {observation.machines_ready} of {observation.machines} instances are ready"
    if not policy.may_act:
        return RequiredState(name, f"{counts} and which is suspended", lasts=True)
    if failure:
        return RequiredState(name, f"{counts} and which reports {failure}", lasts=True)
    return RequiredState(name, counts)


def start_wait(required: Collection[RequiredState], until: datetime) -> Wait | None:
    """Return why a start waits for required Resources; None if all of them are ready.

    Args:
        required: the Resources that must be ready.
        until: how long it waits at most (aware UTC).
    """
    waited_for = [state for state in required if state.problem]
    if not waited_for:
        return None
    lasts = any(state.lasts for state in waited_for)
    reason = GraceReason.UNAVAILABLE if lasts else GraceReason.REQUIRED
    text = summarize([f"{item.name}, {item.problem}" for item in waited_for], separator="; ")
    return Wait(reason, until, text)


def instances_to_stop(
    policy: PowerPolicy, observation: Observation | None, started: AbstractSet[str], now: datetime
) -> tuple[str, ...]:
    """Return the ids of the instances that the operator stops without a booking, and that have not stopped.

    Args:
        policy: the rules of the Resource.
        observation: the newest observation; None before the first one.
        started: the ids of the instances that a booking has started.
        now: the instant (aware UTC).
    """
    if observation is None or not policy.may_act:
        return ()
    on = {InstanceState.PENDING, InstanceState.RUNNING, InstanceState.STOPPING}
    return tuple(
        item.id
        for item in observation.instances
        if item.state in on
        and not item.blocked_reason
        and (
            policy.unbooked is UnbookedPolicy.STOP
            or item.id in started
            or (item.off_at is not None and item.off_at <= now)
        )
    )


def stop_wait(dependents: Collection[DependentState], until: datetime) -> Wait | None:
    """Return why a stop waits for the Resources that require this one; None if all of them have stopped.

    Args:
        dependents: the Resources that must have stopped.
        until: how long it waits at most (aware UTC).
    """
    waited_for = [state for state in dependents if state.left]
    if not waited_for:
        return None
    text = summarize([f"{state.name} ({summarize(list(state.left))})" for state in waited_for])
    return Wait(GraceReason.DEPENDENTS, until, text)
