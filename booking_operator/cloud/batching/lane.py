"""One action in one region of one account: what waits for it, its buckets, and the loop that sends.

AWS counts its limits for each lane apart, so lanes have nothing in common: what is slow, throttled or broken
in one delays nothing in another. An exception that no rule covers fails the instances that were to leave, and
the lane goes on.
"""

import asyncio
from asyncio import TaskGroup
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from booking_operator.cloud.aws.request_limits import MAX_CALLS_IN_FLIGHT
from booking_operator.cloud.batching.batch import Batch, Inquest, Item, Task
from booking_operator.cloud.batching.fair_queue import Backlog, simulate
from booking_operator.cloud.batching.token_bucket import MAX_PAUSE, RequestLimits, full_limiter
from booking_operator.cloud.driver import CloudError, Order, Scope
from booking_operator.cloud.metrics import UNMEASURED, CloudMetrics, Part, unexpected
from booking_operator.engine.clock import Clock, wait_until

_SEARCH_AGAIN = timedelta(minutes=10)
_START_OVER_SECONDS = 1.0
KEPT = timedelta(hours=1)
"""How long a lane is kept that is not used. AWS's buckets are full again after less than nine minutes."""
_SLICE = 10  # calls forecast between two looks at what else there is to do; about a millisecond


class Lane:
    """See the module. `send` is given each batch that is to leave now."""

    def __init__(
        self,
        scope: Scope,
        name: str,
        limits: RequestLimits,
        clock: Clock,
        send: Callable[["Lane", Batch], None],
        *,
        most: int,
        metrics: CloudMetrics = UNMEASURED,
    ) -> None:
        self.scope = scope
        self.name = name
        self.throttle = full_limiter(limits, clock.now())
        self.troubles = 0  # calls in a row that failed without any answer about the instances
        self._retry_at: datetime | None = None
        self._searched_at: datetime | None = None
        self._under_way = 0
        self._task: asyncio.Task[None] | None = None
        self._used_at = clock.now()
        self._most = most
        self._metrics = metrics
        self._backlog: Backlog[Task] = Backlog(most)
        self._clock = clock
        self._send = send
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many instances are due and wait for their turn."""
        return self._backlog.waiting

    def start(self, tasks: TaskGroup) -> None:
        """Send from now on, in a task of `tasks`; what waits when that ends is withdrawn."""
        self._task = task = tasks.create_task(self._run(), name=f"lane: {self.name}")
        # Not in a `finally` of the task: one that is cancelled before its first step never gets there.
        task.add_done_callback(lambda _: self._abandon())

    def unused(self, now: datetime) -> bool:
        """Whether it can be ended without a loss: nothing waits, or is under way, or was for `KEPT`."""
        # An instant in the future dates from before the clock was set back.
        return not self._under_way and not any(self._backlog) and abs(now - self._used_at) >= KEPT

    def end(self) -> None:
        """Send nothing any more."""
        if self._task is not None:
            self._task.cancel()

    def add(self, items: Iterable[Item]) -> None:
        """Have parcels wait."""
        for item in items:
            self._backlog.add(item)
        self._used_at = self._clock.now()
        self._wake.set()

    def follow(self, call: asyncio.Task[None]) -> None:
        """Count a call among those under way until it has ended; at most `UNDER_WAY` are."""
        self._under_way += 1
        call.add_done_callback(lambda _: self._ended())

    def retry_at(self, now: datetime, pause: timedelta) -> datetime:
        """When what failed at `now` goes again: after `pause`, or half of it and more to go with others."""
        if self._retry_at is None or not now + pause / 2 <= self._retry_at <= now + pause:
            self._retry_at = now + pause
        return self._retry_at

    def works(self) -> None:
        """A call was answered: what failed before was no outage, or it is over."""
        self.troubles, self._searched_at = 0, None

    def searched(self, now: datetime) -> None:
        """A search for the instances to blame found that none is."""
        self._searched_at = now

    def worth_a_search(self, now: datetime) -> bool:
        """Whether to look for the instances to blame: in an outage that is of no use, and costs calls."""
        return self._searched_at is None or not self._searched_at <= now < self._searched_at + _SEARCH_AGAIN

    def take_back(self, inquest: Inquest) -> list[Item]:
        """The parts of a search that have not been sent yet, and now will not be."""
        found = [item for item in self._backlog if item.payload.inquest is inquest]
        self._backlog.keep(lambda item: item.payload.inquest is not inquest)
        return found

    async def forecast(self, coming: Iterable[Item] = ()) -> Mapping[Order, datetime]:
        """When the last of each order will leave, by the model: of what waits, and of what is `coming`."""
        leaves: dict[Order, datetime] = {}
        self._backlog.keep(lambda item: bool(_open(item)))
        plan = simulate(self._backlog, self.throttle, self._clock.now(), coming)
        for number, (at, items) in enumerate(plan):
            leaves |= {item.payload.order: at for item in items}
            if number % _SLICE == 0:
                await self._clock.sleep(0)
        return leaves

    async def _run(self) -> None:
        before = self._clock.now()
        while True:
            self._wake.clear()
            now = self._clock.now()
            full = self._under_way >= MAX_CALLS_IN_FLIGHT
            try:
                if now < before:
                    self._backlog.set_back(now, MAX_PAUSE)
                taken = [] if full else self._backlog.take(now, self.throttle)
                next_at = None if full or taken else self._backlog.next_at(now, self.throttle)
            except Exception as error:  # noqa: BLE001 - what comes after it must leave
                self._start_over(error)
                await self._clock.sleep(_START_OVER_SECONDS)
                continue
            before = now
            if not taken:
                await wait_until(self._clock, next_at, self._wake)
                continue
            self._leave(taken)
            await self._clock.sleep(0)  # hundreds of small calls must not keep the loop from other things

    def _leave(self, taken: list[Item]) -> None:
        """Have what was taken, and still stands, sent by one call."""
        try:
            if wanted := self.standing(taken):
                self._send(self, Batch(wanted))
        except Exception as error:  # noqa: BLE001 - what comes after it must leave
            Batch(taken).fail(self._unexpected(error))

    def _start_over(self, error: Exception) -> None:
        """Drop a backlog that has failed. Its orders fail too, so that their Resources order again."""
        failed, waiting = self._unexpected(error), list(self._backlog)
        self._backlog = Backlog(self._most)
        for item in waiting:
            item.payload.order.fail(failed, item.ids)

    def _unexpected(self, error: Exception) -> CloudError:
        facts = {"account": self.scope.account, "region": self.scope.region}
        return unexpected(self._metrics, Part.LANE, self.name, error, **facts)

    def standing(self, items: Iterable[Item]) -> list[Item]:
        """What is still wanted at this instant, which is the last one at which that can be asked."""
        standing: dict[Order, bool] = {}
        wanted = []
        for item in items:
            order = item.payload.order
            if order not in standing:
                standing[order] = self._stands(order)
                if not standing[order]:
                    order.cancel()
            if ids := _open(item):
                wanted.append(replace(item, ids=ids))
        return wanted

    def _stands(self, order: Order) -> bool:
        """Whether an order is still wanted. One that cannot say so fails, and no other with it."""
        try:
            return order.still_valid()
        except Exception as error:  # noqa: BLE001 - see above
            order.fail(self._unexpected(error))
            return False

    def _ended(self) -> None:
        self._under_way -= 1
        self._used_at = self._clock.now()
        self._wake.set()

    def _abandon(self) -> None:
        for item in self._backlog:
            item.payload.order.cancel()


def _open(item: Item) -> list[str]:
    """Ids without an outcome that somebody still waits for."""
    return [id_ for id_ in item.ids if not item.payload.order.futures[id_].done()]
