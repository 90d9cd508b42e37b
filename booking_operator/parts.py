"""The parts of an operator that a simulation may replace, as one argument of the composition root.

`Operator` and `Manager` take a `Parts`. In production the argument is absent, and the defaults apply.
`tests/sim` passes a `Parts` with a mistake in it, to show that its invariants catch that mistake.
A replacement is a subclass that overrides public methods, and marks each with `typing_extensions.override`.
mypy therefore reports a method that was renamed or removed.

Add a field here only for a mistake that cannot be injected by an argument of the operator. The API client,
the cloud services, the clock and the election are arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass

from booking_operator.cloud.service import Driver
from booking_operator.domain.usage import Meter
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import WorkQueue
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.lock_tags import LockTagsReconciler
from booking_operator.reconcilers.resource.reconciler import ResourceReconciler


def direct(driver: Driver) -> Driver:
    """Return the driver unchanged."""
    return driver


@dataclass(frozen=True)
class Parts:
    """Constructors of the parts.

    Attributes:
        queue: the class of all work queues.
        informers: creates the informers from the default region.
        driver: returns the driver that the reconcilers use, given the driver of a cloud service.
        resources: the class of the reconciler of Resources.
        bookings: the class of the reconciler of Bookings.
        locks: the class of the reconciler of lock tags.
        meter: the class of the meter of a Resource.
    """

    queue: type[WorkQueue[Key]] = WorkQueue
    informers: Callable[[str], Informers] = Informers
    driver: Callable[[Driver], Driver] = direct
    resources: type[ResourceReconciler] = ResourceReconciler
    bookings: type[BookingReconciler] = BookingReconciler
    locks: type[LockTagsReconciler] = LockTagsReconciler
    meter: type[Meter] = Meter


REAL = Parts()
"""The parts that production uses."""
