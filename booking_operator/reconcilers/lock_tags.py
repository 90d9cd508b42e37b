"""Reconciles the lock tags of instances with the holder of their Resource.

The reconciler has its own work queue. The reconciler of Resources adds a key at the end of each reconcile
that finds tags to change. A slow cloud or an unavailable API server therefore delays tags, but no start or
stop.

Invariant: the status of the Resource lists a lock before the lock is written to instances, and the Resource
has a finalizer while the operator's tags may exist. The operator therefore finds and removes its locks after
a crash and after a deletion. A Resource with `deletion_policy: Stop` always has the finalizer.
"""

import asyncio
from asyncio import timeout
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace

import structlog

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.meta import GROUP
from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import CloudError, FailureKind, Order
from booking_operator.domain.conditions import Failure
from booking_operator.domain.instance import Lock
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result, WorkQueue
from booking_operator.kube.errors import ApiError
from booking_operator.kube.status import StatusWriter, WriteResult
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.failure_tracker import FailureTracker
from booking_operator.reconcilers.resource.deletion import ResourceDeletion
from booking_operator.reconcilers.resource.snapshot import ResourceSnapshot, take_snapshot, to_lock_tags

FINALIZER = f"{GROUP}/cleanup"
"""Keeps a deleted Resource until its lock tags are removed, and its instances are stopped if
`deletion_policy` is `Stop`."""
REQUEST_TIMEOUT_SECONDS = 30.0
"""Timeout in seconds of one refresh of the inventory, and of one write to the API server."""
CLOUD_DEADLINE_SECONDS = 75.0
"""Deadline in seconds for the cloud calls of one reconcile, counted from its beginning.

Tag changes may wait long in their request queue after a burst of bookings. With the write to the API server
that follows, a reconcile ends within 105 s. The timeout of the controller is 120 s. The next reconcile does
the remaining work.
"""


class LockTagsReconciler:
    """Writes and removes the lock tags of the instances of Resources, and cleans up after deleted Resources.

    Args:
        environment: what all reconcilers share.
        queue: the work queue of this reconciler.
        failed: called with the key of a Resource when its failure has changed.

    Attributes:
        failures: why the lock tags of a Resource are not up to date; its condition shows the failure.
    """

    def __init__(
        self, environment: Environment, queue: WorkQueue[Key], failed: Callable[[Key], None]
    ) -> None:
        self._environment = environment
        self._informers = environment.informers
        self._status: StatusWriter[Resource] = environment.statuses[RESOURCE]
        self._events = environment.events
        self._clock = environment.clock
        self._queue = queue
        self._deletion = ResourceDeletion(environment)
        self.failures = FailureTracker(failed)
        self._log = structlog.get_logger()

    def enqueue_if_needed(self, key: Key, snapshot: ResourceSnapshot | None) -> None:
        """Enqueue a Resource if its lock tags, its list of locks or its finalizer must change.

        Args:
            key: the key of the Resource.
            snapshot: the snapshot of the last reconcile; None if the Resource is invalid or being deleted.
        """
        resource = self._informers.resources.get(key)
        if resource is None:
            self.failures.set(key, None)
            return
        held = FINALIZER in resource.metadata.finalizers
        if snapshot is None or resource.metadata.deletion_timestamp is not None:
            needed = held
        elif snapshot.observation is None:
            # The instances were never observed, so they may have tags.
            needed = snapshot.policy.stop_when_deleted and not held
        else:
            marks = snapshot.lock_tag_changes
            needed = bool(marks.write or marks.remove) or held != _needs_finalizer(snapshot)
        if needed:
            self._queue.add(key)

    async def reconcile(self, key: Key) -> Result:
        """Update the lock tags of one Resource, or release the Resource if it is being deleted."""
        deadline = self._clock.monotonic() + CLOUD_DEADLINE_SECONDS
        resource = self._informers.resources.get(key)
        snapshot = self._take_snapshot(resource) if resource else None
        if resource is None or self._environment.dry_run:
            return Result()
        if resource.metadata.deletion_timestamp is not None:
            return await self._release(resource, snapshot, deadline)
        if snapshot is None:
            return Result(failed=not await self._set_finalizer(resource, wanted=False))
        return Result(failed=not await self._sync_tags(key, snapshot, deadline))

    def _take_snapshot(self, resource: Resource) -> ResourceSnapshot | None:
        return take_snapshot(self._environment, resource, self._clock.now())

    async def _sync_tags(self, key: Key, snapshot: ResourceSnapshot, deadline: float) -> bool:
        """Update the tags, the list of locks in the status, and the finalizer.

        `deadline` is the deadline of the cloud calls on the monotonic clock.

        Returns:
            Whether everything is up to date.
        """
        if snapshot.observation is None:
            wanted = snapshot.policy.stop_when_deleted
            return not wanted or await self._set_finalizer(snapshot.resource, wanted=True)
        marks = snapshot.lock_tag_changes
        if await self.removal_withheld(snapshot, marks.remove):
            return False
        if marks.write and not await self._record_locks(snapshot, marks.remembered):
            return False
        if marks.remembered and not await self._set_finalizer(snapshot.resource, wanted=True):
            return False
        ids = marks.write or marks.remove
        try:
            if ids and not await self._write(snapshot, ids, marks.lock, deadline):
                return False
        except CloudError as error:
            self._failed(snapshot.resource, error)
            return False
        self.failures.set(key, None)
        return await self._set_finalizer(snapshot.resource, wanted=_needs_finalizer(snapshot))

    def _failed(self, resource: Resource, error: CloudError, failed: str = "update the lock tags") -> None:
        """Record a failure for the status. If the Resource is being deleted, report it at once.

        Args:
            resource: the Resource.
            error: the failure.
            failed: what failed, as the end of the sentence "Cannot …".
        """
        key, deleted = key_of(resource), resource.metadata.deletion_timestamp is not None
        before = self.failures.get(key)
        self.failures.set(key, Failure(error.reason, f"Cannot {failed}: {error}", error.retry_at))
        if deleted and (before is None or before.reason != error.reason):
            note = f"The deletion waits. Cannot {failed}: {error}"
            # In a namespace that is being deleted, the API server refuses Events.
            self._log.warning("deletion_waits", resource=str(key), message=note)
            self._events.warning(RESOURCE, resource, error.reason, "Release", note)

    async def removal_withheld(self, snapshot: ResourceSnapshot, ids: Collection[str]) -> bool:
        """Whether instances keep their tags because the caches may be missing bookings.

        The states of the instances do not matter: a stale view may show a running instance as stopped.
        """
        if snapshot.state.running_wanted or snapshot.observation is None or not ids:
            return False
        return bool(await self._environment.consistency.confirm_within())

    async def _record_locks(self, snapshot: ResourceSnapshot, memory: Collection[Lock]) -> bool:
        """Write the locks into the status.

        Returns:
            Whether the status is stored.
        """
        status = replace(
            snapshot.with_counts(self._status.current(snapshot.resource)), locks=to_lock_tags(memory)
        )
        with suppress(TimeoutError):
            async with timeout(REQUEST_TIMEOUT_SECONDS):
                return await self._status.write(snapshot.resource, status) is WriteResult.WRITTEN
        return False

    async def _release(
        self, resource: Resource, snapshot: ResourceSnapshot | None, deadline: float
    ) -> Result:
        """Clean up after a Resource that is being deleted, and then remove its finalizer.

        First the instances are stopped, if `deletion_policy` says so. Then the lock tags are removed.

        Returns:
            When to try again, if the finalizer is not removed.
        """
        if FINALIZER not in resource.metadata.finalizers:
            return Result()
        try:
            if snapshot is not None and (check_at := await self._deletion.stop(snapshot, deadline)):
                return Result(check_at)
        except CloudError as error:
            self._failed(resource, error, "stop the instances")
            return Result(failed=True)
        try:
            if snapshot is not None and not await self._remove_all(snapshot, deadline):
                return Result(failed=True)
        except CloudError as error:
            if error.retryable:
                self._failed(resource, error)
                return Result(failed=True)
            # An error that a retry cannot fix must not block the deletion of the Resource for ever.
            note = f"The lock tags remain on the instances. Their lock is ignored after it expires. {error}"
            self._events.warning(RESOURCE, resource, "LockTagsLeft", "Release", note)
        self.failures.set(key_of(resource), None)
        return Result(failed=not await self._set_finalizer(resource, wanted=False))

    async def _remove_all(self, snapshot: ResourceSnapshot, deadline: float) -> bool:
        """Remove all lock tags that the operator wrote, on a view that is newer than the deletion.

        Returns:
            Whether all of these tags are removed.

        Raises:
            CloudError: the instances could not be observed in time, or some tags were not removed.
        """
        try:
            async with timeout(REQUEST_TIMEOUT_SECONDS):
                since = snapshot.resource.metadata.deletion_timestamp or snapshot.now
                await snapshot.driver.inventory.refresh(snapshot.group.scope, since)
        except TimeoutError:
            raise CloudError("CloudTimeout", "the cloud did not list the instances in time.") from None
        observation = snapshot.driver.inventory.observation(snapshot.group)
        ids = (
            [item.id for item in observation.instances if item.lock in snapshot.own_locks]
            if observation
            else []
        )
        return not ids or await self._write(snapshot, ids, None, deadline)

    async def _write(
        self, snapshot: ResourceSnapshot, ids: Collection[str], wanted: Lock | None, deadline: float
    ) -> bool:
        """Write the lock `wanted` to instances, or remove their lock tags if it is None.

        Instances that no longer exist count as done.

        Returns:
            Whether the operation is done for all instances. False means that the order was cancelled, because
            the bookings now want another lock.

        Raises:
            CloudError: some instances have no answer by the deadline, or their call failed. If several calls
                failed, this is a retryable error if there is one.
        """
        key = key_of(snapshot.resource)
        deletions = self._informers.deletions(key)

        def stands() -> bool:
            if wanted is None and self._informers.deletions(key) != deletions:
                return False  # the next reconcile confirms first that no booking is missing
            found = self._informers.resources.get(key)
            now = self._take_snapshot(found) if found and found.metadata.deletion_timestamp is None else None
            return now is None or now.lock_tag_changes.lock == wanted

        order = Order.of(snapshot.group, ids, snapshot.now, tenant=key.namespace, still_valid=stands)
        snapshot.driver.batcher.set_lock_tags(order, wanted)
        try:
            left = max(0.0, deadline - self._clock.monotonic())
            _, late = await asyncio.wait(order.futures.values(), timeout=left)
        finally:
            order.cancel()
        errors = (
            [order.pending_error or CloudError("CloudTimeout", "the tag changes are still queued.")]
            if late
            else []
        )
        done = [future for future in order.futures.values() if not future.cancelled()]
        errors += [error for future in done if isinstance(error := future.exception(), CloudError)]
        for error in sorted(errors, key=lambda error: not error.retryable):
            if not _instance_gone(error):
                raise error
        return len(done) == len(order.futures)

    async def _set_finalizer(self, resource: Resource, *, wanted: bool) -> bool:
        """Add the finalizer to a Resource, or remove it.

        Returns:
            Whether the Resource has the wanted state, or no longer exists. False means that the write failed.
        """
        known = self._informers.resources.get(key_of(resource))
        if known is None or (FINALIZER in known.metadata.finalizers) == wanted:
            return True
        others = [name for name in known.metadata.finalizers if name != FINALIZER]
        try:
            finalizers = [*others, FINALIZER] if wanted else others
            async with timeout(REQUEST_TIMEOUT_SECONDS):
                await self._environment.objects.set_finalizers(RESOURCE, known, finalizers)
        except TimeoutError:
            self._log.warning(
                "finalizer_update_failed", resource=str(key_of(resource)), error="the request timed out"
            )
            return False
        except ApiError as error:
            if not (error.not_found or error.conflict):
                self._log.warning("finalizer_update_failed", resource=str(key_of(resource)), error=str(error))
            return error.not_found
        return True


def _needs_finalizer(snapshot: ResourceSnapshot) -> bool:
    """Whether the deletion of a Resource requires a cleanup."""
    return bool(snapshot.lock_tag_changes.remembered) or snapshot.policy.stop_when_deleted


def _instance_gone(error: CloudError) -> bool:
    """Whether an error says that the instance, and with it its tags, no longer exists."""
    return error.kind is FailureKind.REFUSED and (error.reason == "NotAccepted" or "NotFound" in error.reason)
