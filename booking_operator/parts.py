"""The parts of an operator that a simulation may replace, as one argument of the composition root.

`Operator` and `Manager` take a `Parts`. Production never passes one: the defaults are the real parts.
`tests/sim` passes a `Parts` with a mistake in it, to show that its invariants catch that mistake.
A replacement is a subclass that overrides public methods, and marks each with `typing_extensions.override`.
So mypy reports a method that was renamed or removed.

A field is added here only for a mistake that cannot be made outside of the operator. Whatever the operator
takes as an argument anyway is replaced there: the API client, the cloud services, the clock, the election.
"""

from collections.abc import Callable
from dataclasses import dataclass

from booking_operator.cloud.service import Driver
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import WorkQueue
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.lock_tags import LockTagsReconciler
from booking_operator.reconcilers.resource.reconciler import ResourceReconciler


def direct(driver: Driver) -> Driver:
    """The driver itself, with nothing before it."""
    return driver


@dataclass(frozen=True)
class Parts:
    """Constructors of the parts.

    Attributes:
        queue: the work queue of each controller.
        informers: the objects of the API server, made from the default region.
        driver: returns what the reconcilers use as the driver of a cloud service, given the driver itself.
        resources: decides what is started and stopped.
        locks: keeps the lock tags.
    """

    queue: type[WorkQueue[Key]] = WorkQueue
    informers: Callable[[str], Informers] = Informers
    driver: Callable[[Driver], Driver] = direct
    resources: type[ResourceReconciler] = ResourceReconciler
    locks: type[LockTagsReconciler] = LockTagsReconciler


REAL = Parts()
"""The parts of every operator outside of the simulation."""
