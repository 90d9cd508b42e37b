"""Reads what a Resource waits for, because of `spec.requires`: the states of other Resources."""

from datetime import datetime

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.resource import Resource, ResourceStatus
from booking_operator.domain.power import Wait
from booking_operator.domain.start_order import (
    DependentState,
    RequiredState,
    instances_to_stop,
    required_state,
    start_wait,
    stop_wait,
)
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot, take_snapshot


def wait_of(environment: Environment, snapshot: ResourceSnapshot, changed_at: datetime) -> Wait | None:
    """Return why the starts or the stops of a Resource wait for other Resources; None if they do not.

    Args:
        environment: what all reconcilers share.
        snapshot: the snapshot of the Resource.
        changed_at: when the bookings or the policy last changed what is wanted (aware UTC). The wait does not
            begin earlier.
    """
    resource, holder = snapshot.resource, snapshot.state.holder
    if not snapshot.policy.may_act:
        return None
    if holder is not None:
        if not resource.requires:
            return None
        due_at = max(holder.power_on_at(snapshot.policy.warm_up), changed_at)
        namespace = resource.metadata.namespace
        required = [_required(environment, Key(namespace, name), snapshot.now) for name in resource.requires]
        return start_wait(required, due_at, resource.requires_timeout)
    dependents = environment.informers.requirements.dependents(key_of(resource))
    if not dependents:
        return None
    last = snapshot.state.last_ended
    ended_at = max(last.end_at, changed_at) if last is not None else changed_at
    states = [_dependent(environment, item, snapshot.now, changed_at) for item in dependents]
    return stop_wait(states, ended_at)


def outdated_neighbours(
    environment: Environment, snapshot: ResourceSnapshot, since: datetime
) -> list[ResourceSnapshot]:
    """Return the Resources in the order of a Resource whose view is older than `since` (aware UTC).

    These are the Resources that it requires, and those that require it.
    """
    keys = environment.informers.requirements.neighbours(key_of(snapshot.resource))
    resources = [environment.informers.resources.get(key) for key in keys]
    found = [take_snapshot(environment, item, snapshot.now) for item in resources if item is not None]
    return [item for item in found if item is not None and not _viewed_since(item, since)]


def _viewed_since(snapshot: ResourceSnapshot, since: datetime) -> bool:
    observation = snapshot.observation
    return observation is not None and observation.at >= since


def _required(environment: Environment, key: Key, now: datetime) -> RequiredState:
    resource = environment.informers.resources.get(key)
    if resource is None or resource.metadata.deletion_timestamp is not None:
        return RequiredState(key.name, "which does not exist", lasts=True)
    snapshot = take_snapshot(environment, resource, now)
    if snapshot is None:
        return RequiredState(key.name, "which is not valid", lasts=True)
    return required_state(key.name, snapshot.policy, snapshot.observation)


def _dependent(
    environment: Environment, resource: Resource, now: datetime, changed_at: datetime
) -> DependentState:
    """Return the state of a Resource that requires another one.

    A view from before `changed_at` (aware UTC) may miss a start, so it does not show that all have stopped.
    """
    status: ResourceStatus = environment.statuses[RESOURCE].current(resource)
    snapshot, left = take_snapshot(environment, resource, now), tuple[str, ...]()
    if snapshot is not None and not snapshot.state.running_wanted:
        left = instances_to_stop(snapshot.policy, snapshot.observation, frozenset(status.started), now)
        if not _viewed_since(snapshot, changed_at) and snapshot.policy.may_act:
            left = left or ("not observed yet",)
    return DependentState(resource.metadata.name, left, resource.requires_timeout)
