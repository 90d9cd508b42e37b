"""What there is to look at in a running operator: the composition root fills it in as things come and go."""

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
    """Leads at no time."""
    return False


@dataclass(slots=True)
class Sources:
    """The parts of the operator. All are empty before they are made, and those of a term between two terms.

    Attributes:
        accounts: those that there may be anything in.
        services: the cloud services, by name.
        is_leader: whether this replica leads.
        tasks: how many tasks of the event loop are not done.
        reflectors: of all kinds.
        required_reflectors: those without which nothing is reconciled.
        objects: how many objects are known, by kind.
        object_counts: what is counted of bookings and Resources.
        controllers: those of the present term.
        drivers: the same.
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
        """For as long as this replica leads."""
        self.controllers, self.drivers = controllers, drivers
        try:
            yield
        finally:
            self.controllers, self.drivers = (), ()

    def is_known_scope(self, scope: Scope) -> bool:
        """Whether a scope may name anything: tenants can write any account and region into a spec."""
        try:
            self.accounts.check_scope(scope)
        except CloudError:
            return False
        return scope.region in regions()
