"""What leaves by one call: parcels of several orders that want the same done to their instances."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from booking_operator.cloud.batching.fair_queue import Parcel
from booking_operator.cloud.driver import Action, CloudError, Order
from booking_operator.domain.instance import InstanceState, Lock

_GENERAL = 31  # failures: of the whole, two halves, and so on to sixteen sixteenths


@dataclass(frozen=True, slots=True)
class Change:
    """What one call does to all of its instances; `lock` is what TAG writes."""

    action: Action
    lock: Lock | None = None


@dataclass(slots=True, eq=False)
class Inquest:
    """The search for those of a batch that had it fail, by sending its halves, and halves of these.

    Attributes:
        size: of the batch.
        answered: whether the service refuses them, or fails without an answer.
        named: how many calls in a row were refused for the sake of instances that were named.
        failures: of the batch and its parts so far, without those.
        cleared: whether any part was accepted.
    """

    size: int
    answered: bool
    named: int = 0
    failures: int = 0
    cleared: bool = False

    @property
    def general(self) -> bool:
        """Whether all parts have failed, to sixteenths or single ones: so it is not for the sake of some."""
        return self.failures >= min(_GENERAL, 2 * self.size - 1) and not self.cleared


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a parcel is to the sender.

    Attributes:
        order: whose instances they are.
        change: what is to be done to them.
        attempts: how many calls have failed without any answer about the instances.
        inquest: the search that they are part of.
    """

    order: Order
    change: Change
    attempts: int = 0
    inquest: Inquest | None = None


Item = Parcel[Task]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What leaves by one call: parcels that want the same change."""

    items: Sequence[Item]

    @property
    def change(self) -> Change:
        """What is to be done."""
        return self.items[0].payload.change

    @property
    def inquest(self) -> Inquest | None:
        """The search that it is part of."""
        return self.items[0].payload.inquest

    @property
    def attempts(self) -> int:
        """How many calls have failed for it without any answer about the instances."""
        return max(item.payload.attempts for item in self.items)

    @property
    def ids(self) -> list[str]:
        """All instances of the call."""
        return [id_ for item in self.items for id_ in item.ids]

    def only(self, ids: Iterable[str]) -> "Batch":
        """The same for some of its instances."""
        wanted = set(ids)
        some = ((item, [id_ for id_ in item.ids if id_ in wanted]) for item in self.items)
        return Batch([replace(item, ids=kept) for item, kept in some if kept])

    def without(self, ids: Iterable[str]) -> "Batch":
        """The same for all of its instances but some."""
        unwanted = set(ids)
        return self.only(id_ for id_ in self.ids if id_ not in unwanted)

    def halves(self) -> "tuple[Batch, Batch]":
        """The same in two."""
        ids = self.ids
        middle = len(ids) // 2
        return self.only(ids[:middle]), self.only(ids[middle:])

    def at(self, instant: datetime) -> "Batch":
        """The same, to leave at `instant`."""
        return Batch([replace(item, due_at=instant, ready_at=instant) for item in self.items])

    def again(
        self,
        instant: datetime,
        *,
        change: Change | None = None,
        attempts: int = 0,
        inquest: Inquest | None = None,
        apart: Hashable = None,
    ) -> "Batch":
        """What is to be tried anew at `instant`; with `apart` only together with what has the same."""
        if not self.items:
            return self
        change = change or self.change
        together = inquest is None and apart is None
        load = (change,) if together else (change, inquest, apart)
        return Batch(
            [
                replace(
                    item,
                    payload=Task(item.payload.order, change, attempts, inquest),
                    due_at=instant,
                    ready_at=instant,
                    load=load,
                )
                for item in self.items
            ]
        )

    def settle(self, states: Mapping[str, InstanceState | None]) -> None:
        """Settle its instances as accepted, with what the service answered."""
        for item in self.items:
            item.payload.order.accept({id_: states[id_] for id_ in item.ids})

    def fail(self, error: CloudError) -> None:
        """Settle all of its instances as refused."""
        self.refuse(dict.fromkeys(self.ids, error))

    def refuse(self, errors: Mapping[str, CloudError]) -> None:
        """Settle those of its instances as refused that `errors` has a reason for."""
        for item in self.items:
            for id_ in filter(errors.__contains__, item.ids):
                item.payload.order.fail(errors[id_], (id_,))

    def withdraw(self) -> None:
        """Cancel the orders that it is for, as far as they have no outcome."""
        for item in self.items:
            item.payload.order.cancel()
