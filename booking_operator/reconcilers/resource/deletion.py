"""Stops the instances of deleted Resources whose `deletion_policy` is `Stop`.

A finalizer keeps such a Resource until its instances are stopped. So the result does not depend on the order
in which the objects of a deleted namespace vanish: the stop needs no booking, and ignores those that still
exist.
"""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

import structlog

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.resource import Resource, ResourceStatus
from booking_operator.cloud.driver import CloudError, FailureKind, Order
from booking_operator.domain import power
from booking_operator.domain.conditions import describe_blocked
from booking_operator.domain.formatting import summarize
from booking_operator.domain.instance import InstanceState, Observation
from booking_operator.domain.power import VISIBILITY_DELAY
from booking_operator.engine.store import key_of
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot

IN_FLIGHT_TIME = timedelta(seconds=10)
"""How long after the deletion the instances are checked once more. `VISIBILITY_DELAY` if they were booked: a
start that was sent right before the deletion may stay invisible for so long."""
CHECK_INTERVAL = timedelta(seconds=15)
"""Time between two checks while an instance starts, or while it is busy."""
REFUSAL_LIMIT = timedelta(minutes=2)
"""How long after the deletion a refused stop is tried again. The instance may be in transition."""
BUSY_LIMIT = timedelta(hours=1)
"""How long after the deletion the operator waits for an instance that starts or is busy."""


class ResourceDeletion:
    """Stops the instances of deleted Resources."""

    def __init__(self, environment: Environment) -> None:
        self._informers = environment.informers
        self._status = environment.statuses[RESOURCE]
        self._events = environment.events
        self._clock = environment.clock
        self._log = structlog.get_logger()

    async def stop(self, snapshot: ResourceSnapshot, deadline: float) -> datetime | None:
        """Stop the instances of a deleted Resource, if its policy says so.

        Args:
            snapshot: the snapshot of the Resource.
            deadline: when the calls must have an answer, on the monotonic clock.

        Returns:
            When to check again (aware UTC); None if nothing is left to do.

        Raises:
            CloudError: the instances could not be observed in time, or some of them were not stopped, and
                another try can help.
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
        except CloudError as error:
            refused_long = error.kind is FailureKind.REFUSED and self._age(snapshot) >= REFUSAL_LIMIT
            if error.retryable and not refused_long:
                raise
            self._report_left(resource, str(error))
            return None
        return self._next_check(snapshot, observation, booked=bool(status.locked_by))

    def _next_check(
        self, snapshot: ResourceSnapshot, observation: Observation, *, booked: bool
    ) -> datetime | None:
        """Return when to check again, after a check without an error; None if nothing is left to do.

        Args:
            snapshot: the snapshot of the Resource.
            observation: what the check has observed.
            booked: whether the instances were booked at the last reconcile before the deletion.
        """
        now, age = self._clock.now(), self._age(snapshot)
        settles = VISIBILITY_DELAY if booked or snapshot.state.running_wanted else IN_FLIGHT_TIME
        # The clock of the API server may be ahead, so the wait is bounded.
        if -settles <= age < settles:
            return now + settles - max(age, timedelta(0))
        changing = [
            item for item in observation.instances if item.state is InstanceState.PENDING or item.busy
        ]
        if changing and abs(age) < BUSY_LIMIT:
            return now + CHECK_INTERVAL
        left = [
            item
            for item in observation.instances
            if item.blocked_reason and item.state is not InstanceState.STOPPED
        ]
        if left:
            self._report_left(snapshot.resource, describe_blocked(left))
        return None

    def _age(self, snapshot: ResourceSnapshot) -> timedelta:
        """Return the time since the deletion."""
        return self._clock.now() - (snapshot.resource.metadata.deletion_timestamp or snapshot.now)

    def _report_left(self, resource: Resource, why: str) -> None:
        """Report that some instances keep running although the Resource is deleted.

        In a namespace that is being deleted, the API server refuses Events, so the log has the report too.
        """
        note = f"The Resource is deleted, but instances keep running: {why}"
        self._log.warning("instances_left", resource=str(key_of(resource)), message=note)
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
        answered = {id_: future for id_, future in order.futures.items() if not future.cancelled()}
        errors = {
            id_: error
            for id_, future in answered.items()
            if isinstance(error := future.exception(), CloudError)
        }
        if stopped := [id_ for id_ in answered if id_ not in errors]:
            self._report_stopped(snapshot.resource, stopped)
        if errors:
            raise min(errors.values(), key=lambda error: not error.retryable)

    def _report_stopped(self, resource: Resource, ids: Collection[str]) -> None:
        note = f"Stopped {summarize(list(ids))}: the Resource is deleted, and spec.deletion_policy is Stop."
        self._events.normal(RESOURCE, resource, "Stopped", "Delete", note)
