"""Stops the instances of deleted Resources whose `deletion_policy` is `Stop`.

A finalizer keeps such a Resource until its instances are stopped. So the result does not depend on the order
in which the objects of a deleted namespace vanish: the stop needs no booking, and ignores those that still
exist.
"""

import asyncio
from datetime import datetime, timedelta

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.resource import Resource, ResourceStatus
from booking_operator.cloud.driver import CloudError, Order
from booking_operator.domain import power
from booking_operator.domain.conditions import describe_blocked
from booking_operator.domain.formatting import summarize
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.store import key_of
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot

IN_FLIGHT_TIME = timedelta(seconds=10)
"""How long after the deletion of a Resource a start that was sent before may stay invisible.

The instances are checked once more after this time."""
CHECK_INTERVAL = timedelta(seconds=5)
"""Time between two checks while an instance is still starting."""


class ResourceDeletion:
    """Stops the instances of deleted Resources."""

    def __init__(self, environment: Environment) -> None:
        self._informers = environment.informers
        self._status = environment.statuses[RESOURCE]
        self._events = environment.events
        self._clock = environment.clock

    async def stop(self, snapshot: ResourceSnapshot, deadline: float) -> datetime | None:
        """Stop the instances of a deleted Resource, if its policy says so.

        Args:
            snapshot: the snapshot of the Resource.
            deadline: when the calls must have an answer, on the monotonic clock.

        Returns:
            When to check again (aware UTC); None if nothing is left to do.

        Raises:
            CloudError: the instances could not be observed in time, or some of them were not stopped.
        """
        resource, policy = snapshot.resource, snapshot.policy
        if not (policy.stop_when_deleted and policy.may_act) or self._succeeded(resource):
            return None
        try:
            async with asyncio.timeout(deadline - self._clock.monotonic()):
                await snapshot.driver.inventory.refresh(snapshot.group.scope, self._clock.now())
                observation = snapshot.observation
                if observation is None:
                    return self._clock.now() + CHECK_INTERVAL
                status: ResourceStatus = self._status.current(resource)
                started = frozenset(status.started) | power.restarted_by_cloud(observation, status.restarts)
                await self._order_stop(snapshot, power.stop_when_deleted(policy, observation, started))
        except TimeoutError:
            raise CloudError("CloudTimeout", "the cloud did not respond in time.") from None
        now, deleted_at = self._clock.now(), resource.metadata.deletion_timestamp or snapshot.now
        settled_at = deleted_at + IN_FLIGHT_TIME
        # The clock of the API server may differ, so the wait is bounded.
        if timedelta(0) < settled_at - now <= 2 * IN_FLIGHT_TIME:
            return settled_at
        if observation.ids(InstanceState.PENDING):
            return now + CHECK_INTERVAL
        blocked = [
            item
            for item in observation.instances
            if item.blocked_reason and item.state is not InstanceState.STOPPED
        ]
        if blocked:
            self.report_left(resource, describe_blocked(blocked))
        return None

    def report_left(self, resource: Resource, why: str) -> None:
        """Record that some instances keep running although the Resource is deleted."""
        note = f"The Resource is deleted, but instances keep running: {why}"
        self._events.warning(RESOURCE, resource, "InstancesLeft", "Delete", note)

    def _succeeded(self, resource: Resource) -> bool:
        """Whether another Resource stands for the same instances, and decides about them."""
        return any(
            peer.metadata.deletion_timestamp is None and key_of(peer) != key_of(resource)
            for peer in self._informers.duplicates(resource)
        )

    async def _order_stop(self, snapshot: ResourceSnapshot, ids: tuple[str, ...]) -> None:
        """Stop instances, and wait for the answers. Raises `CloudError` if a stop fails."""
        if not ids:
            return
        key = key_of(snapshot.resource)

        def still_valid() -> bool:
            found = self._informers.resources.get(key)
            return (
                found is not None
                and found.metadata.uid == snapshot.resource.metadata.uid
                and not self._succeeded(found)
            )

        now = self._clock.now()
        order = Order.of(snapshot.group, ids, now, tenant=key.namespace, still_valid=still_valid)
        snapshot.driver.batcher.stop(order, hibernate=snapshot.policy.hibernate)
        try:
            await asyncio.wait(order.futures.values())
        finally:
            order.cancel()
        done = [future for future in order.futures.values() if not future.cancelled()]
        errors = [error for future in done if isinstance(error := future.exception(), CloudError)]
        if errors:
            raise min(errors, key=lambda error: not error.retryable)
        note = f"Stopped {summarize(ids)}: the Resource is deleted, and spec.deletion_policy is Stop."
        self._events.normal(RESOURCE, snapshot.resource, "Stopped", "Delete", note)
