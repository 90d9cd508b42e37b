"""Keeps the lock tags of instances in step with who holds them.

It has a queue of its own, which the reconciler of Resources fills once power is as it should be: so that
neither a slow cloud nor an API server that is away makes a start or a stop wait for tags.

What is to be written is remembered in the Resource's status before, and a finalizer stays on the Resource for
as long as there are tags, so that neither a crash nor a deletion leaves a lock behind that nobody knows.
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
from booking_operator.cloud.driver import CloudError, Fault, Order
from booking_operator.domain.conditions import Failure
from booking_operator.domain.instance import Lock, State
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result, WorkQueue
from booking_operator.kube.errors import ApiError
from booking_operator.kube.status import WriteResult
from booking_operator.reconcilers.confirmation import CONFIRM_SECONDS, confirmed
from booking_operator.reconcilers.failures import Failures
from booking_operator.reconcilers.informers import Caches
from booking_operator.reconcilers.ports import Drivers, Events, Objects, Status, Trust
from booking_operator.reconcilers.resource.snapshot import Scene, look, shown

FINALIZER = f"{GROUP}/lock-tags"
PATIENCE_SECONDS = 30.0
"""How long a view of the instances, or one write to the API server, may take."""
CLOUD_SECONDS = 75.0
"""When a reconcile is done with the cloud at the latest, counted from its beginning. Tags wait for their
turn, after a burst of bookings a while. With the write that follows, a reconcile ends within 105 s, and the
controller allows 120 s. The next reconcile does what is left."""


class LockKeeper:
    """Writes and removes the lock tags of Resources."""

    def __init__(
        self,
        caches: Caches,
        drivers: Drivers,
        status: Status[Resource],
        events: Events,
        objects: Objects,
        trust: Trust,
        clock: Clock,
        queue: WorkQueue[Key],
        *,
        dry_run: bool = False,
        failed: Callable[[Key], None],
    ) -> None:
        self._caches = caches
        self._drivers = drivers
        self._status = status
        self._events = events
        self._objects = objects
        self._trust = trust
        self._clock = clock
        self._queue = queue
        self._dry_run = dry_run
        self.failures = Failures(failed)
        self._log = structlog.get_logger()

    def check(self, key: Key, scene: Scene | None) -> None:
        """Have the tags of a Resource brought up to date, if there is anything to be done.

        Args:
            key: of the Resource.
            scene: what it was reconciled by; None where nothing is done for it, or it is being deleted.
        """
        resource = self._caches.resources.get(key)
        if resource is None:
            self.failures.set(key, None)
            return
        held = FINALIZER in resource.metadata.finalizers
        if scene is None or resource.metadata.deletion_timestamp is not None:
            needed = held
        elif scene.observation is None:
            needed = False  # what is not seen may well be tagged
        else:
            marks = scene.marks
            needed = bool(marks.write or marks.remove) or held != bool(marks.memory)
        if needed:
            self._queue.add(key)

    async def reconcile(self, key: Key) -> Result:
        """Bring the tags of one Resource up to date, or let it go if it is being deleted."""
        deadline = self._clock.monotonic() + CLOUD_SECONDS
        resource = self._caches.resources.get(key)
        scene = self._look(resource) if resource else None
        if resource is None or self._dry_run:
            return Result()
        if resource.metadata.deletion_timestamp is not None:
            return Result(failed=not await self._release(resource, scene, deadline))
        if scene is None:
            return Result(failed=not await self._set_finalizer(resource, wanted=False))
        return Result(failed=not await self._keep(key, scene, deadline))

    def _look(self, resource: Resource) -> Scene | None:
        status, now = self._status.current(resource), self._clock.now()
        return look(self._caches, self._drivers, resource, status, now, dry_run=self._dry_run)

    async def _keep(self, key: Key, scene: Scene, deadline: float) -> bool:
        """Whether tags, memory and finalizer are as they should be now.

        `deadline` is the time on the monotonic clock by which the cloud must be done.
        """
        marks = scene.marks
        if await self.removal_withheld(scene, marks.remove):
            return False
        if marks.write and not await self._remember(scene, marks.memory):
            return False
        if marks.memory and not await self._set_finalizer(scene.resource, wanted=True):
            return False
        ids = marks.write or marks.remove
        try:
            if ids and not await self._write(scene, ids, marks.lock, deadline):
                return False
        except CloudError as error:
            self._failed(scene.resource, error)
            return False
        self.failures.set(key, None)
        return bool(marks.memory) or await self._set_finalizer(scene.resource, wanted=False)

    def _failed(self, resource: Resource, error: CloudError) -> None:
        """Have it told in the status; of a Resource that is being deleted, which gets none, by an Event."""
        key, deleted = key_of(resource), resource.metadata.deletion_timestamp is not None
        before = self.failures.get(key)
        self.failures.set(key, Failure(error.reason, f"Lock tags: {error}", error.retry_at))
        if deleted and (before is None or before.reason != error.reason):
            note = f"It is not let go before its lock tags are: {error}"
            self._events.warning(RESOURCE, resource, error.reason, "Release", note)

    async def removal_withheld(self, scene: Scene, ids: Collection[str]) -> bool:
        """Whether instances keep their tags because they run, and bookings of them may be missing."""
        if scene.seen.wanted or scene.observation is None:
            return False
        on = scene.observation.ids(State.PENDING, State.RUNNING)
        return not set(ids).isdisjoint(on) and bool(await confirmed(self._trust, CONFIRM_SECONDS))

    async def _remember(self, scene: Scene, memory: Collection[Lock]) -> bool:
        """Whether a status that names the locks is stored, after an attempt to write it."""
        status = replace(scene.counted(self._status.current(scene.resource)), locks=shown(memory))
        with suppress(TimeoutError):
            async with timeout(PATIENCE_SECONDS):
                return await self._status.write(scene.resource, status) is WriteResult.WRITTEN
        return False

    async def _release(self, resource: Resource, scene: Scene | None, deadline: float) -> bool:
        """Let a Resource go once its lock tags are gone; False when they are not, or that failed."""
        if FINALIZER not in resource.metadata.finalizers:
            return True
        try:
            if scene is not None and not await self._remove_all(scene, deadline):
                return False
        except CloudError as error:
            if error.retryable:
                self._failed(resource, error)
                return False
            # A cloud that will never do it must not keep a Resource for ever.
            note = f"The lock tags stay until they expire: {error}"
            self._events.warning(RESOURCE, resource, "LockTagsLeft", "Release", note)
        self.failures.set(key_of(resource), None)
        return await self._set_finalizer(resource, wanted=False)

    async def _remove_all(self, scene: Scene, deadline: float) -> bool:
        """Remove all lock tags that are our own, by a view taken since the deletion.

        Raises:
            CloudError: the cloud did not show them, or did not remove them.
        """
        try:
            async with timeout(PATIENCE_SECONDS):
                since = scene.resource.metadata.deletion_timestamp or scene.now
                await scene.driver.refresh(scene.group.scope, since)
        except TimeoutError:
            raise CloudError("CloudSlow", "the cloud does not show the instances in time.") from None
        observation = scene.driver.last(scene.group)
        ids = [item.id for item in observation.instances if item.lock in scene.ours] if observation else []
        return not ids or await self._write(scene, ids, None, deadline)

    async def _write(self, scene: Scene, ids: Collection[str], wanted: Lock | None, deadline: float) -> bool:
        """Write or remove the tags of what is not gone; False where that is not wanted any more.

        Raises:
            CloudError: some were not written by the deadline; one that is worth another try, if there is
                such a one.
        """
        key = key_of(scene.resource)

        def stands() -> bool:
            found = self._caches.resources.get(key)
            now = self._look(found) if found and found.metadata.deletion_timestamp is None else None
            return now is None or now.marks.lock == wanted

        order = Order.of(scene.group, ids, scene.now, tenant=key.namespace, stands=stands)
        scene.driver.lock(order, wanted)
        try:
            left = max(0.0, deadline - self._clock.monotonic())
            _, late = await asyncio.wait(order.futures.values(), timeout=left)
        finally:
            order.withdraw()
        errors = [order.trouble or CloudError("CloudSlow", "they wait for their turn")] if late else []
        done = [future for future in order.futures.values() if not future.cancelled()]
        errors += [error for future in done if isinstance(error := future.exception(), CloudError)]
        for error in sorted(errors, key=lambda error: not error.retryable):
            if not _gone(error):
                raise error
        return len(done) == len(order.futures)

    async def _set_finalizer(self, resource: Resource, *, wanted: bool) -> bool:
        """Have the finalizer on the Resource, or not; False when that failed."""
        known = self._caches.resources.get(key_of(resource))
        if known is None or (FINALIZER in known.metadata.finalizers) == wanted:
            return True
        others = [name for name in known.metadata.finalizers if name != FINALIZER]
        try:
            finalizers = [*others, FINALIZER] if wanted else others
            async with timeout(PATIENCE_SECONDS):
                await self._objects.set_finalizers(RESOURCE, known, finalizers)
        except TimeoutError:
            self._log.warning("finalizer_failed", resource=str(key_of(resource)), error="no answer in time")
            return False
        except ApiError as error:
            if not (error.gone or error.conflict):
                self._log.warning("finalizer_failed", resource=str(key_of(resource)), error=str(error))
            return error.gone
        return True


def _gone(error: CloudError) -> bool:
    """Whether an instance is there no more, and its tags with it."""
    return error.fault is Fault.REFUSED and (error.reason == "NotAccepted" or "NotFound" in error.reason)
