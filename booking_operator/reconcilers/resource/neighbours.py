"""The Resources that one requires, and those that require it: their states, and what one waits for."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.meta import first_failure
from booking_operator.api.resource import ResourceStatus
from booking_operator.cloud.driver import CloudError
from booking_operator.domain.conditions import ON_THEIR_WAY
from booking_operator.domain.decision_trigger import LEAD_TIME, DecisionTrigger
from booking_operator.domain.power import Wait
from booking_operator.domain.sequence import (
    DependentState,
    RequiredState,
    instances_to_stop,
    required_state,
    start_wait,
    stop_wait,
)
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.requirements import required_keys
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot, take_snapshot

REFRESH_TIMEOUT_SECONDS = 1.0
"""How long a start or a stop waits for fresh views of other Resources. Their region may not respond, and then
the present views count."""


class Neighbours:
    """Reads the Resources before and after one in the sequence of starts and stops.

    A Resource between two others that has no instances, or none left to stop, is passed: what it requires, or
    what requires it, counts instead.

    Args:
        environment: what all reconcilers share.
        trigger_of: returns the decision trigger of a Resource; None before its first reconcile.
    """

    def __init__(self, environment: Environment, trigger_of: Callable[[Key], DecisionTrigger | None]) -> None:
        self._environment = environment
        self._informers = environment.informers
        self._requirements = environment.informers.requirements
        self._trigger_of = trigger_of

    def wait_of(self, snapshot: ResourceSnapshot, trigger: DecisionTrigger) -> Wait | None:
        """Return why the starts or the stops of a Resource wait for others; None if they do not."""
        if not (self.has_any(snapshot) and _may_wait(snapshot)):
            return None
        until = self._wait_ends_at(snapshot, trigger)
        if until <= snapshot.now:
            return None
        if snapshot.state.running_wanted:
            return start_wait([self._required_state(*item) for item in self._required(snapshot)], until)
        dependents = self._dependents(snapshot, trigger)
        return stop_wait([DependentState(item.name, left) for item, left in dependents], until)

    def has_any(self, snapshot: ResourceSnapshot) -> bool:
        """Whether a Resource has a place in a sequence. Most have none, and cost nothing more."""
        return bool(snapshot.resource.requires) or self._requirements.is_required(key_of(snapshot.resource))

    def _wait_ends_at(self, snapshot: ResourceSnapshot, trigger: DecisionTrigger) -> datetime:
        """Return until when a start, or a stop, waits for others at most (aware UTC)."""
        key = key_of(snapshot.resource)
        if snapshot.state.running_wanted:
            timeout = self._informers.closure(key).timeout
        else:
            timeout = self._requirements.stop_timeout(key)
        return trigger.due_at(snapshot.state, may_act=True) + timeout

    def unseen(self, snapshot: ResourceSnapshot, trigger: DecisionTrigger) -> list[ResourceSnapshot]:
        """Return the Resources whose view is too old for a start or a stop that is due now, or soon."""
        if not self.has_any(snapshot):
            return []
        boundary = snapshot.state.next_change_at
        near = boundary is not None and boundary - LEAD_TIME <= snapshot.now
        found = self._unseen(snapshot, trigger)
        return found or (self._unseen(snapshot.at(boundary), trigger) if near and boundary else [])

    def _unseen(self, snapshot: ResourceSnapshot, trigger: DecisionTrigger) -> list[ResourceSnapshot]:
        if not _may_wait(snapshot) or self._wait_ends_at(snapshot, trigger) <= snapshot.now:
            return []
        if not snapshot.state.running_wanted:
            return [item for item, left in self._dependents(snapshot, trigger) if left is _UNSEEN]
        required = (item for _, item in self._required(snapshot))
        return [item for item in required if item and not _viewed_since(item, trigger.observed_since)]

    async def refresh(self, others: Iterable[ResourceSnapshot], trigger: DecisionTrigger) -> None:
        """Wait for fresh views of other Resources, for `REFRESH_TIMEOUT_SECONDS` at most."""
        scopes = {(item.group.service, item.group.scope): item for item in others}
        with suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_TIMEOUT_SECONDS), asyncio.TaskGroup() as tasks:
                for item in scopes.values():
                    name = f"view of others: {item.group.scope.region}"
                    tasks.create_task(_refresh(item, trigger.observed_since), name=name)

    def _required(self, snapshot: ResourceSnapshot) -> Iterator[tuple[Key, ResourceSnapshot | None]]:
        """Yield what must be ready before a Resource starts: None for what does not exist or is invalid."""
        waiting = list(required_keys(snapshot.resource))
        seen = {key_of(snapshot.resource), *waiting}
        while waiting:
            key = waiting.pop(0)
            resource = self._informers.resources.get(key)
            item = take_snapshot(self._environment, resource, snapshot.now) if resource is not None else None
            if item is not None and item.has_no_instances and item.resource.requires:
                further = [other for other in required_keys(item.resource) if other not in seen]
                seen.update(further)
                waiting += further
            else:
                yield key, item

    def _required_state(self, key: Key, item: ResourceSnapshot | None) -> RequiredState:
        resource = self._informers.resources.get(key)
        if resource is None or resource.metadata.deletion_timestamp is not None:
            return RequiredState(key.name, "which does not exist", lasts=True)
        if item is None:
            return RequiredState(key.name, "which is not valid", lasts=True)
        status: ResourceStatus = self._environment.statuses[RESOURCE].current(resource)
        return required_state(key.name, item.policy, item.observation, _failure(status))

    def _dependents(
        self, snapshot: ResourceSnapshot, trigger: DecisionTrigger
    ) -> Iterator[tuple[ResourceSnapshot, tuple[str, ...]]]:
        """Yield the Resources that must stop before one, each with the ids of its instances."""
        waiting, seen = [key_of(snapshot.resource)], {key_of(snapshot.resource)}
        since = trigger.observed_since
        timeout = self._requirements.stop_timeout(key_of(snapshot.resource))
        while waiting:
            for resource in self._requirements.dependents(waiting.pop()):
                if (key := key_of(resource)) in seen:
                    continue
                seen.add(key)
                item = take_snapshot(self._environment, resource, snapshot.now)
                left = self._left(item, since, timeout) if item is not None else ()
                if item is not None and left:
                    yield item, left
                else:
                    waiting.append(key)

    def _left(self, item: ResourceSnapshot, since: datetime, timeout: timedelta) -> tuple[str, ...]:
        """Return the ids of the instances of a dependent that must stop first."""
        if item.state.running_wanted:
            return ()
        status: ResourceStatus = self._environment.statuses[RESOURCE].current(item.resource)
        left = instances_to_stop(item.policy, item.observation, frozenset(status.started), item.now)
        if left or not item.policy.may_act or _viewed_since(item, since):
            return left
        return _UNSEEN if self._may_run_unseen(item, status, since - timeout) else ()

    def _may_run_unseen(self, item: ResourceSnapshot, status: ResourceStatus, since: datetime) -> bool:
        """Whether a booking may have started instances after the last view, and did not end before `since`.

        If a booking was deleted, only the trigger of the Resource or its status knows of it.
        """
        viewed_at = item.observation.at if item.observation is not None else since
        last, trigger = item.state.last_ended, self._trigger_of(key_of(item.resource))
        ended = last is not None and last.end_at > max(viewed_at, since)
        released = trigger is not None and trigger.ever_wanted and trigger.due_since > viewed_at
        return ended or released or bool(status.locked_until)


_UNSEEN = ("not observed yet",)


def _may_wait(snapshot: ResourceSnapshot) -> bool:
    """Whether the view shows instances to start or to stop. Otherwise no other Resource needs to be read."""
    observation = snapshot.observation
    if observation is None or not snapshot.policy.may_act:
        return False
    return bool(observation.startable() if snapshot.state.running_wanted else observation.stoppable())


def _viewed_since(item: ResourceSnapshot, since: datetime) -> bool:
    return item.observation is not None and item.observation.at >= since


def _failure(status: ResourceStatus) -> str:
    """Return the reason that a status gives for instances that do not start; empty for none."""
    found = first_failure(status.conditions, "Found", "Synced")
    if found is None and status.locked_until:  # otherwise Ready describes a stop
        found = first_failure(status.conditions, "Ready")
    return found.reason if found is not None and found.reason not in ON_THEIR_WAY else ""


async def _refresh(item: ResourceSnapshot, since: datetime) -> None:
    with suppress(CloudError):  # the present view counts
        await item.driver.inventory.refresh(item.group.scope, since)
