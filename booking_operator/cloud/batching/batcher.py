"""Combines orders into few calls. Each cloud service has one batcher during a leadership.

The batcher puts the instances of an order into the request queue of their action, region and account. An
instance that was refused before gets a separate call, so that it does not make the call of other instances
fail. The request queue handles failed and throttled calls.
"""

from asyncio import TaskGroup
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from booking_operator.cloud.batching.backoff import BackoffTable
from booking_operator.cloud.batching.batch import Entry, call_key
from booking_operator.cloud.batching.fair_queue import GATHER_TIME
from booking_operator.cloud.batching.request_queue import RequestQueue, SendContext
from booking_operator.cloud.batching.token_bucket import LimitsOf, published_limits
from booking_operator.cloud.driver import Action, Demand, Operation, Order, ServiceApi, api_action
from booking_operator.cloud.forecast import entry_of
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Lock
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.metrics import NO_METRICS, CloudMetrics

TAG_GATHER_TIME = timedelta(seconds=1)
"""How long lock tags wait for others to join their call. One boundary may cause thousands of them."""
_TAG_ACTIONS = frozenset({Action.TAG, Action.UNTAG})


class Batcher:
    """The request queues of one service. Queues and calls are tasks of `tasks`."""

    def __init__(
        self,
        api: ServiceApi,
        inventory: Inventory,
        clock: Clock,
        tasks: TaskGroup,
        limits: LimitsOf = published_limits,
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        self._api = api
        self._inventory = inventory
        self._clock = clock
        self._limits = limits
        self._backoffs = BackoffTable()
        self._context = SendContext(api, inventory, clock, tasks, metrics, self._backoffs)
        self._queues: dict[tuple[Scope, str], RequestQueue] = {}

    @property
    def queues(self) -> Collection[RequestQueue]:
        """The open request queues."""
        return self._queues.values()

    def start(self, order: Order) -> None:
        """Start the instances of an order.

        Returns immediately; the futures of the order report the outcome.
        """
        self.submit(order, Operation(Action.START), list(order.futures))

    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        """Stop the instances of an order; with `hibernate`, hibernate those that can."""
        able = set(self._inventory.hibernating(order.group.scope, order.futures)) if hibernate else set()
        self.submit(order, Operation(Action.STOP), [id_ for id_ in order.futures if id_ not in able])
        self.submit(order, Operation(Action.HIBERNATE), [id_ for id_ in order.futures if id_ in able])

    def set_lock_tags(self, order: Order, lock: Lock | None) -> None:
        """Write `lock` into the lock tags of the instances of an order; if it is None, remove the tags."""
        operation = Operation(Action.TAG, lock) if lock else Operation(Action.UNTAG)
        self.submit(order, operation, list(order.futures))

    def submit(self, order: Order, operation: Operation, ids: Sequence[str]) -> None:
        """Queue an operation for some of the instances of an order. Returns immediately."""
        if not ids:
            return
        now = self._clock.now()
        due = max(order.deadline, now)
        # An early order is sent at its deadline. A late order waits a little for others, which saves calls.
        wait = TAG_GATHER_TIME if operation.action in _TAG_ACTIONS else GATHER_TIME
        ready = due if due > now else now + wait
        entries = [
            Entry(order, operation, some, due, ready, call_key(operation, pool=pool, apart=apart), pool)
            for (pool, apart), some in self._by_suspicion(order.group.scope, operation.action, ids)
        ]
        self.queue(order.group.scope, operation.action).add(entries)

    def queue(self, scope: Scope, action: Action) -> RequestQueue:
        """Return the request queue of an action in a region of an account."""
        call = api_action(self._api.facts, action)
        queue = self._queues.get((scope, call))
        if queue is None:
            self._close_idle()
            queue = RequestQueue(scope, call, self._limits(scope, call), self._context)
            self._queues[scope, call] = queue
        return queue

    def _close_idle(self) -> None:
        """Close the unused queues. It runs before a new queue is opened."""
        now = self._clock.now()
        for key in [key for key, queue in self._queues.items() if queue.idle(now)]:
            self._queues.pop(key).close()

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"queues": self._queues.keys(), **self._backoffs.introspect()}

    def _by_suspicion(
        self, scope: Scope, action: Action, ids: Sequence[str]
    ) -> Iterable[tuple[tuple[str, str], list[str]]]:
        """Group the instances, with separate groups for those that have a known failure.

        The key of a group is a capacity pool that had no capacity, or the mark of refused instances.

        An instance has one if the service refused it, or its pool, and has accepted no call for it since.
        """

        def suspicion(id_: str) -> tuple[str, str]:
            pool = self._inventory.pool(scope, id_)
            if action is Action.START and pool and self._backoffs.failed_before((scope, pool)):
                return (pool, "")
            return ("", "refused" if self._backoffs.failed_before((scope, action, id_)) else "")

        return [(key, list(some)) for key, some in groupby(sorted(ids, key=suspicion), key=suspicion)]

    async def expected(self, orders: Collection[Order]) -> Mapping[Order, datetime]:
        """Forecast when the last instance of each waiting start or stop is sent (aware UTC)."""
        sent_at: dict[Order, datetime] = {}
        for scope in dict.fromkeys(order.group.scope for order in orders):
            for action in (Action.START, Action.STOP):
                sent_at |= await self.queue(scope, action).forecast()
        return {order: sent_at[order] for order in orders if order in sent_at}

    async def forecast(self, demands: Sequence[Demand]) -> Sequence[datetime]:
        """Forecast when the last instance of each demand is sent, after all waiting entries (aware UTC)."""
        entries = [entry_of(demand) for demand in demands]
        sent_at: dict[Order, datetime] = {}
        for scope, action in dict.fromkeys((demand.group.scope, demand.action) for demand in demands):
            mine = [
                entry
                for entry, demand in zip(entries, demands, strict=True)
                if (demand.group.scope, demand.action) == (scope, action)
            ]
            sent_at |= await self.queue(scope, action).forecast(mine)
        return [sent_at.get(entry.order, demand.at) for entry, demand in zip(entries, demands, strict=True)]
