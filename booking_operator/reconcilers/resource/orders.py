"""What Resources have asked of the cloud, and have not been answered yet.

A reconcile never asks twice for what is on its way, withdraws what is no longer wanted, and waits only a
moment for answers: what takes longer, because it waits for its turn, wakes the Resource when it is done.
"""

import asyncio
from asyncio import Future
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from booking_operator.cloud.driver import Action, CloudError, Order
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.conditions import Failure
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key


@dataclass(slots=True, eq=False)
class Placed:
    """An order that was given to the driver.

    Attributes:
        order: the order.
        action: START or STOP.
        claim: the booking that it is for, or that has ended.
        at: when it was placed (aware UTC).
        told: the instances whose outcome somebody was told.
        watched: the instances whose outcome will wake the Resource.
    """

    order: Order
    action: Action
    interval: BookingInterval | None
    at: datetime
    told: set[str] = field(default_factory=set)
    watched: set[str] = field(default_factory=set)

    def withdrawn(self, id_: str) -> bool:
        """Whether nothing is done for the instance any more."""
        return self.order.futures[id_].cancelled()

    def watch(self, wake: Callable[[Future[Any]], None]) -> None:
        """Have `wake` called, once, for each instance that has no outcome yet."""
        for id_ in set(self.order.pending) - self.watched:
            self.watched.add(id_)
            self.order.futures[id_].add_done_callback(wake)

    def outcome(self) -> "Outcome":
        """What has become of the instances that nobody was told of yet."""
        done: list[str] = []
        errors: dict[str, CloudError] = {}
        for id_, future in self.order.futures.items():
            if id_ in self.told or not future.done():
                continue
            self.told.add(id_)
            error = _error(future)
            if isinstance(error, CloudError):
                errors[id_] = error
            elif error is not None:
                raise error
            elif not future.cancelled():
                done.append(id_)
        return Outcome(self, done, errors)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of some instances of an order: accepted, or refused with an error."""

    placed: Placed
    done: list[str]
    errors: dict[str, CloudError]


class Orders:
    """The open orders of all Resources. `changed` is called with the key of one that has news."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._placed: defaultdict[Key, list[Placed]] = defaultdict(list)

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {"placed": self._placed.keys()}

    def due(self, key: Key, now: datetime) -> list[Placed]:
        """The open orders whose deadline has come."""
        return [placed for placed in self._placed.get(key, ()) if placed.order.deadline <= now]

    def open(self, key: Key) -> list[Placed]:
        """All orders of a Resource that wait for answers, those ahead included."""
        return [placed for placed in self._placed.get(key, ()) if placed.order.pending]

    def missing(
        self, key: Key, action: Action, wanted: Collection[str], now: datetime, *, ahead: bool = False
    ) -> list[str]:
        """Withdraw what is not wanted any more; the instances that are, and for which there is no order yet.

        Args:
            key: the Resource.
            action: what is wanted.
            wanted: of which instances.
            now: the instant, aware UTC.
            ahead: whether it is about orders whose deadline is yet to come, or about the others.
        """
        ordered: set[str] = set()
        for placed in self._placed.get(key, ()):
            if placed.action is not action or (placed.order.deadline > now) is not ahead:
                continue
            # What was answered, and nobody was told of, comes before asking again.
            ordered |= {id_ for id_ in placed.order.futures.keys() - placed.told if not placed.withdrawn(id_)}
            for id_ in placed.order.pending:
                if id_ not in wanted:
                    placed.order.futures[id_].cancel()
        return [id_ for id_ in wanted if id_ not in ordered]

    def wake(self, key: Key, _: Any = None) -> None:
        """There is news of an order of the Resource."""
        self._changed(key)

    def place(self, key: Key, placed: Placed) -> None:
        """Remember an order that was given to the driver."""
        self._placed[key].append(placed)

    def withdraw(self, key: Key) -> None:
        """Withdraw all orders of a Resource."""
        for placed in self._placed.pop(key, ()):
            placed.order.cancel()

    async def settled(self, key: Key, seconds: float, now: datetime) -> list[Outcome]:
        """Wait for answers to what is due at `now`, at most so long; tell what has come.

        For what takes longer the Resource is woken.
        """
        placed = self.due(key, now)
        waiting = [future for item in placed for future in item.order.futures.values() if not future.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, seconds))
            for item in placed:
                item.watch(partial(self.wake, key))
        outcomes = [item.outcome() for item in placed]
        self._forget(key)
        return outcomes

    def _forget(self, key: Key) -> None:
        """Keep no order to which nothing can come any more."""
        kept = [item for item in self._placed.pop(key, ()) if item.order.pending]
        if kept:
            self._placed[key] = kept


def _error(future: Future[Any]) -> BaseException | None:
    return None if future.cancelled() else future.exception()


def first_retry(errors: Iterable[CloudError | Failure]) -> datetime | None:
    """When the first of the refused is tried again; None where that is not known of all."""
    instants = [error.retry_at for error in errors]
    known = [instant for instant in instants if instant is not None]
    return min(known) if known and len(known) == len(instants) else None


def joined(*failures: Failure | None) -> Failure | None:
    """The first of several failures, tried again when the first of all is; None where there is none."""
    known = [failure for failure in failures if failure is not None]
    return replace(known[0], retry_at=first_retry(known)) if known else None
