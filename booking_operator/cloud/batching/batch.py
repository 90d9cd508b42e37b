"""Entries wait in a request queue. One call sends a batch of entries."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from booking_operator.cloud.batching.bisection import Bisection
from booking_operator.cloud.driver import CloudError, Operation, Order
from booking_operator.domain.instance import InstanceState


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """Instances of one order that wait for the same call.

    Attributes:
        order: the order of the instances.
        operation: the operation on the instances.
        ids: the ids of the instances.
        due_at: the earliest instant at which the entry may be sent (aware UTC).
        ready_at: when the entry stops waiting for others to join its call (aware UTC); `due_at` or later.
        call_key: entries share a call only if their keys are equal; see `call_key`.
        pool: the capacity pool of all instances, if they share calls only with instances of this pool;
            otherwise empty.
        attempts: the number of calls in a row that failed without a response about the instances.
        bisection: the search that the entry is part of, or None.
    """

    order: Order
    operation: Operation
    ids: Sequence[str]
    due_at: datetime
    ready_at: datetime
    call_key: Hashable = None
    pool: str = ""
    attempts: int = 0
    bisection: Bisection | None = None

    @property
    def open_ids(self) -> list[str]:
        """The instances without an outcome."""
        return [id_ for id_ in self.ids if not self.order.futures[id_].done()]


def call_key(
    operation: Operation, *, bisection: Bisection | None = None, pool: str = "", apart: Hashable = None
) -> Hashable:
    """Return the key of the entries that share calls.

    Args:
        operation: the operation of the call.
        bisection: the search that the entries are part of.
        pool: the capacity pool, if the entries share calls only with instances of this pool.
        apart: if not None, the entries share a call only with entries whose value is equal.
    """
    return (operation, bisection, pool, apart)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The entries of one call. All have the same operation.

    Attributes:
        entries: the entries.
        sent_at: when the call is sent (aware UTC). Before that, when the queue released the entries.
    """

    entries: Sequence[Entry]
    sent_at: datetime

    @property
    def operation(self) -> Operation:
        """The operation of the call."""
        return self.entries[0].operation

    @property
    def bisection(self) -> Bisection | None:
        """The search that the batch is part of, or None."""
        return self.entries[0].bisection

    @property
    def pool(self) -> str:
        """The capacity pool of the call; empty if the call is not limited to one."""
        return self.entries[0].pool

    @property
    def attempts(self) -> int:
        """The number of calls in a row that failed without a response about the instances."""
        return max(entry.attempts for entry in self.entries)

    @property
    def ids(self) -> list[str]:
        """All instances of the call."""
        return [id_ for entry in self.entries for id_ in entry.ids]

    def only(self, ids: Iterable[str]) -> "Batch":
        """Return the part of the batch with the instances `ids`."""
        wanted = set(ids)
        parts = ((entry, [id_ for id_ in entry.ids if id_ in wanted]) for entry in self.entries)
        return replace(self, entries=[replace(entry, ids=kept) for entry, kept in parts if kept])

    def without(self, ids: Iterable[str]) -> "Batch":
        """Return the part of the batch without the instances `ids`."""
        unwanted = set(ids)
        return self.only(id_ for id_ in self.ids if id_ not in unwanted)

    def halves(self) -> "tuple[Batch, ...]":
        """Return two parts of about equal size, or the batch itself if it has one instance."""
        ids = self.ids
        middle = len(ids) // 2
        return (self.only(ids[:middle]), self.only(ids[middle:])) if middle else (self,)

    def rescheduled(self, instant: datetime) -> "Batch":
        """Return the batch with another `due_at`. It keeps its attempts and its bisection."""
        return replace(
            self, entries=[replace(entry, due_at=instant, ready_at=instant) for entry in self.entries]
        )

    def again(
        self,
        instant: datetime,
        *,
        operation: Operation | None = None,
        attempts: int = 0,
        bisection: Bisection | None = None,
        pool: str = "",
        apart: Hashable = None,
    ) -> "Batch":
        """Return the same instances for a retry.

        Args:
            instant: when they are due (aware UTC).
            operation: the operation; by default the previous one.
            attempts: the number of calls in a row that failed without a response about the instances.
            bisection: the search that they are part of from now on.
            pool: their capacity pool, if they share calls only with instances of this pool.
            apart: if not None, they share a call only with entries whose value is equal.
        """
        if not self.entries:
            return self
        operation = operation or self.operation
        key = call_key(operation, bisection=bisection, pool=pool, apart=apart)
        entries = [
            replace(
                entry,
                operation=operation,
                due_at=instant,
                ready_at=instant,
                call_key=key,
                pool=pool,
                attempts=attempts,
                bisection=bisection,
            )
            for entry in self.entries
        ]
        return replace(self, entries=entries)

    def accept(self, states: Mapping[str, InstanceState | None]) -> None:
        """Settle all instances of the batch as accepted, with the states in the service's response."""
        for entry in self.entries:
            entry.order.accept({id_: states[id_] for id_ in entry.ids})

    def fail(self, error: CloudError) -> None:
        """Settle all instances of the batch as failed."""
        self.fail_each(dict.fromkeys(self.ids, error))

    def fail_each(self, errors: Mapping[str, CloudError]) -> None:
        """Settle the instances in `errors` as failed."""
        for entry in self.entries:
            for id_ in filter(errors.__contains__, entry.ids):
                entry.order.fail(errors[id_], (id_,))

    def set_pending_error(self, error: CloudError) -> None:
        """Record on the orders why their instances have no outcome. Conditions show it to users."""
        for entry in self.entries:
            entry.order.set_pending_error(error, entry.ids)

    def cancel(self) -> None:
        """Cancel the orders of the batch that have no outcome."""
        for entry in self.entries:
            entry.order.cancel()
