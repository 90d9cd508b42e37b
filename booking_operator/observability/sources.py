"""The parts of a running operator that metrics and probes read. The composition root sets them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.aws.regions import regions
from booking_operator.cloud.driver import CloudError
from booking_operator.cloud.service import Driver, Service
from booking_operator.domain.group import Scope
from booking_operator.engine.controller import Controller
from booking_operator.engine.reflector import Reflector
from booking_operator.observability.object_counts import ObjectCounts


def never() -> bool:
    """Return False."""
    return False


@dataclass(slots=True)
class Sources:
    """The parts of the operator. Each is empty before the composition root sets it.

    Attributes:
        accounts: the AWS accounts of the operator.
        services: the cloud services, by `spec.type`.
        is_leader: returns whether this replica leads.
        tasks: returns the number of tasks of the event loop that are not done.
        reflectors: the reflectors of all kinds.
        required_reflectors: the reflectors that must have synced before the operator reconciles.
        objects: returns the number of cached objects, by plural name of the kind.
        object_counts: the counts of Bookings and Resources.
        controllers: the controllers of the present leadership; empty without one.
        drivers: the drivers of the present leadership; empty without one.
    """

    accounts: Accounts = field(default_factory=Accounts)
    services: Mapping[str, Service] = field(default_factory=dict)
    is_leader: Callable[[], bool] = never
    tasks: Callable[[], int] = int
    reflectors: Sequence[Reflector[Any]] = ()
    required_reflectors: Sequence[Reflector[Any]] = ()
    objects: Callable[[], Mapping[str, int]] = dict
    object_counts: ObjectCounts | None = None
    controllers: Sequence[Controller[Any]] = ()
    drivers: Sequence[Driver] = ()

    @contextmanager
    def leadership(self, controllers: Sequence[Controller[Any]], drivers: Sequence[Driver]) -> Iterator[None]:
        """Set the parts of a leadership for the length of the context."""
        self.controllers, self.drivers = controllers, drivers
        try:
            yield
        finally:
            self.controllers, self.drivers = (), ()

    def is_known_scope(self, scope: Scope) -> bool:
        """Whether the account and the region of a scope exist: tenants can write any text into a spec."""
        try:
            self.accounts.check_scope(scope)
        except CloudError:
            return False
        return scope.region in regions()
