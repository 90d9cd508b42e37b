"""The collaborators that all reconcilers share during one leadership."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from booking_operator.api.kinds import Kind
from booking_operator.cloud.service import Driver
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Object
from booking_operator.kube.cache_consistency import CacheConsistency
from booking_operator.kube.events import EventRecorder
from booking_operator.kube.objects import ObjectWriter
from booking_operator.kube.status import StatusWriter
from booking_operator.reconcilers.informers import Informers

RecordEvent = Callable[[Kind[Any], Object, str, str, str], None]
"""Records one Event: the kind, the object, the reason, the action and the note."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The collaborators of the reconcilers.

    Attributes:
        informers: the caches of all kinds.
        drivers: the cloud services, by `spec.type`.
        statuses: the status writer of each kind.
        events: records Events.
        objects: creates, updates and deletes objects.
        consistency: decides whether the caches may be missing bookings.
        clock: the wall clock and the monotonic clock.
        dry_run: whether the operator writes nothing to the cloud.
        lock_tags: whether the operator writes lock tags. Otherwise it only removes those that it wrote.
        deletion_grace: how long a stop waits after the deletion of the booking that it ends.
    """

    informers: Informers
    drivers: Mapping[str, Driver]
    statuses: Mapping[Kind[Any], StatusWriter[Any]]
    events: EventRecorder
    objects: ObjectWriter
    consistency: CacheConsistency
    clock: Clock
    dry_run: bool = False
    lock_tags: bool = True
    deletion_grace: timedelta = timedelta(0)
