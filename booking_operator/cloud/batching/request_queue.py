"""The calls of one action in one region of one account: the waiting entries, token buckets and retries.

AWS counts its limits per action, region and account, so these queues share no limit. A queue that is slow,
throttled or broken delays no other queue.

The path of an entry: `add` queues it. When the buckets allow a call, `_run` takes its entries from the fair
queue, and checks whether each order is still valid. `_send` drops instances that are in back-off, and makes
the call in a separate task. `_accepted` settles the futures of the orders. `_failed` decides by the kind of
the failure which instances fail, and which go back into the queue. If AWS answers `RequestLimitExceeded`,
`token_bucket` corrects the model of the limits, and all instances go back into the queue.

Invariants:
- Before each call, the queue checks whether its orders are still valid. Between this check and the call there
  are at most `PREPARATION_LIMIT` and the wait for a connection. A service that reads before it writes checks
  the orders again in between.
- At most `MAX_CALLS_IN_FLIGHT` calls are in flight. All other entries wait in the fair queue.
- No instance is sent before the back-offs of the instance, its pool, the action and the account are over.
- If the service refuses some instances, the others are retried immediately.
- An unexpected exception fails only the call that raised it, or the entries that wait in this queue.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from booking_operator.cloud.batching import backoff
from booking_operator.cloud.batching.backoff import BackoffTable, instance_backoff
from booking_operator.cloud.batching.batch import Batch, Entry
from booking_operator.cloud.batching.bisection import Bisection
from booking_operator.cloud.batching.capacity_search import PROBE, CapacitySearch
from booking_operator.cloud.batching.fair_queue import FairQueue
from booking_operator.cloud.batching.token_bucket import (
    MAX_PAUSE,
    UNLIMITED,
    RequestLimits,
    full_limiter,
)
from booking_operator.cloud.driver import (
    Action,
    ActionAnswer,
    CloudError,
    FailureKind,
    Operation,
    Order,
    OutdatedError,
    ServiceApi,
)
from booking_operator.cloud.forecast import simulate
from booking_operator.cloud.instrumentation import unexpected
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.clock import Clock, in_flight_together, wait_until
from booking_operator.engine.workqueue import Backoff
from booking_operator.metrics import CloudMetrics, FailedPart

if TYPE_CHECKING:
    from asyncio import Task, TaskGroup

MAX_CALLS_IN_FLIGHT = 20
"""Maximum number of calls of one queue in flight. More calls would wait for a connection, and their orders
are not checked again after that wait."""
MAX_ATTEMPTS = 4
"""After this many attempts without a response about the instances, a batch is sent in parts: one instance may
be the cause."""
REFRESH_TIMEOUT_SECONDS = 30.0
"""How long to wait for a view after a lost response. After that, the call is retried without a view."""
PREPARATION_LIMIT = timedelta(seconds=0.1)
"""If the wait for a client or credentials is longer, the orders and the back-offs are checked again."""
BISECTION_PAUSE = timedelta(minutes=10)
"""After a search shows that failed calls do not depend on single instances, no search of this kind starts for
this long, or until the service responds. Searches for refused instances are not affected."""

MAX_IDLE = timedelta(hours=1)
"""How long an unused queue is kept. The buckets of AWS are full again after less than nine minutes."""

_RESET_PAUSE_SECONDS = 1.0
_FORECAST_SLICE = 10  # calls between two yields to other tasks; about a millisecond
_MAX_LOGGED = 20  # ids and tags in one log record
_Settle = Callable[[Batch, CloudError], None]
_PASSED_LIMITS = frozenset(
    {FailureKind.REFUSED, FailureKind.CAPACITY, FailureKind.DENIED, FailureKind.ACCOUNT}
)
"""Failures for which AWS let the call through its limits."""
_DONE: Mapping[Action, frozenset[InstanceState]] = {
    Action.START: frozenset({InstanceState.PENDING, InstanceState.RUNNING}),
    Action.STOP: frozenset({InstanceState.STOPPING, InstanceState.STOPPED}),
    Action.HIBERNATE: frozenset({InstanceState.STOPPING, InstanceState.STOPPED}),
}
"""The states that show that an action was accepted."""


@dataclass(slots=True)
class _Shortage:
    """A capacity pool without capacity for all instances, while its queue finds out how many fit.

    Attributes:
        search: the size of the next call.
        error: the last refusal; None if the pool had none since this search began.
        in_flight: whether a call of the search is in flight.
    """

    search: CapacitySearch
    error: CloudError | None = None
    in_flight: bool = False


@dataclass(frozen=True)
class SendContext:
    """The objects that all request queues of one service share.

    Attributes:
        api: makes the calls.
        inventory: the view of the instances; it records accepted actions.
        clock: the clock.
        tasks: owns the tasks of the queues and of their calls.
        metrics: measures the calls.
        backoffs: the failures in back-off, of instances, pools, actions and accounts.
    """

    api: ServiceApi
    inventory: Inventory
    clock: Clock
    tasks: "TaskGroup"
    metrics: CloudMetrics
    backoffs: BackoffTable


class RequestQueue:
    """The entries, token buckets and retries of one API action. The module docstring describes the flow.

    Attributes:
        scope: the account and the region.
        call: the name of the AWS API action, such as `StartInstances`.
        limiter: the model of the request limits.
    """

    def __init__(self, scope: Scope, call: str, limits: RequestLimits, context: SendContext) -> None:
        self.scope = scope
        self.call = call
        self.limiter = full_limiter(limits, context.clock.now())
        self._context = context
        self._clock = context.clock
        self._backoffs = context.backoffs
        self._queue = FairQueue(context.api.facts.max_batch)
        # Failures in a row without a response about the instances. Calls that fail together count once.
        self._failures_in_row = 0
        self._failed_at: datetime | None = None  # when the last of them failed
        self._retry_at: datetime | None = None
        self._searched_at: datetime | None = None
        self._shortages: dict[str, _Shortage] = {}
        self._in_flight = 0
        self._used_at = context.clock.now()
        self._wake = asyncio.Event()
        self._log = structlog.get_logger()
        self._task = context.tasks.create_task(self._run(), name=f"request queue: {call}")
        # A `finally` in the task would not run if the task is cancelled before its first step.
        self._task.add_done_callback(lambda _: self._cancel_waiting())

    @property
    def waiting(self) -> int:
        """The number of instances that are due and wait for a call."""
        return self._queue.waiting

    def idle(self, now: datetime) -> bool:
        """Whether no entry waits, no call is in flight, and the last use was `MAX_IDLE` ago."""
        # An instant in the future is from before the clock was set back.
        return not self._in_flight and not any(self._queue) and abs(now - self._used_at) >= MAX_IDLE

    def close(self) -> None:
        """Stop the queue. Waiting orders are cancelled."""
        self._task.cancel()

    def add(self, entries: Iterable[Entry]) -> None:
        """Queue entries."""
        for entry in entries:
            self._queue.add(entry)
        self._used_at = self._clock.now()
        self._wake.set()

    async def forecast(self, coming: Iterable[Entry] = ()) -> Mapping[Order, datetime]:
        """Forecast when the last instance of each order is sent, by the model of the limits (aware UTC).

        Args:
            coming: entries that will be added.
        """
        sent_at: dict[Order, datetime] = {}
        self._queue.keep(lambda entry: bool(entry.open_ids))
        self._drop_unused_shortages()
        calls = simulate(self._queue, self.limiter, self._clock.now(), coming)
        for number, (at, entries) in enumerate(calls):
            sent_at |= {entry.order: at for entry in entries}
            if number % _FORECAST_SLICE == 0:
                await self._clock.sleep(0)
        return sent_at

    async def _run(self) -> None:
        before = self._clock.now()
        while True:
            self._wake.clear()
            now = self._clock.now()
            full = self._in_flight >= MAX_CALLS_IN_FLIGHT
            self.limiter = self.limiter.refilled(now)
            try:
                if now < before:
                    self._queue.limit_waits(now, MAX_PAUSE)
                taken = [] if full else self._queue.take(now, self.limiter, self._call_limit)
                waits = full or taken
                next_at = None if waits else self._queue.next_at(now, self.limiter, self._call_limit)
            except Exception as error:  # noqa: BLE001 - later entries must still be sent
                self._reset(error)
                await self._clock.sleep(_RESET_PAUSE_SECONDS)
                continue
            before = now
            if not taken:
                await wait_until(self._clock, next_at, self._wake)
                continue
            self._send_valid(Batch(taken, now))
            await self._clock.sleep(0)  # many small calls must not starve other tasks

    def _send_valid(self, batch: Batch) -> None:
        """Make the call for those entries whose orders are still valid."""
        try:
            self._send(self._still_valid(batch))
        except Exception as error:  # noqa: BLE001 - later entries must still be sent
            batch.fail(self._unexpected(FailedPart.QUEUE, error))

    def _reset(self, error: Exception) -> None:
        """Replace a fair queue that raised. Its orders fail, so that their Resources create new orders."""
        failure, waiting = self._unexpected(FailedPart.QUEUE, error), list(self._queue)
        self._queue = FairQueue(self._context.api.facts.max_batch)
        for entry in waiting:
            entry.order.fail(failure, entry.ids)

    def _unexpected(self, part: FailedPart, error: Exception, **fields: object) -> CloudError:
        fields = fields or {"account": self.scope.account, "region": self.scope.region}
        return unexpected(self._context.metrics, part, self.call, error, **fields)

    def _cancel_waiting(self) -> None:
        for entry in self._queue:
            entry.order.cancel()

    def _send(self, batch: Batch) -> None:
        """Make the call for those instances that are not in back-off."""
        allowed = self._without_backoffs(batch) if batch.entries else batch
        if not allowed.entries:
            self._drop_unused_shortages()
            return
        if allowed.pool:
            self._shortages.setdefault(allowed.pool, _Shortage(PROBE)).in_flight = True
        self.limiter = self.limiter.sent(len(allowed.ids), self._clock.now())
        self._in_flight += 1
        task = self._context.tasks.create_task(self._make_call(allowed), name=f"call: {self.call}")
        task.add_done_callback(lambda task: self._call_ended(allowed, task))

    def _call_ended(self, batch: Batch, task: "Task[None]") -> None:
        if task.cancelled():
            batch.cancel()
        self._in_flight -= 1
        if shortage := self._shortages.get(batch.pool):
            shortage.in_flight = False
        self._drop_unused_shortages()
        self._wake.set()

    def _without_backoffs(self, batch: Batch) -> Batch:
        """Return the instances that may be sent now. The others fail with their last error."""
        now = self._clock.now()
        for key in self._shared_keys:
            if error := self._backoffs.active_failure(key, now):
                batch.fail(error)
                return batch.only(())
        failures = {id_: self._instance_failure(batch.operation.action, id_, now) for id_ in batch.ids}
        active = {id_: error for id_, error in failures.items() if error is not None}
        batch.fail_each(active)
        return batch.without(active) if active else batch

    @property
    def _shared_keys(self) -> tuple[tuple[object, str], ...]:
        """The keys of the back-offs that apply to all instances of the queue: the account and the action."""
        return ("account", self.scope.account), (self.scope, self.call)

    def _instance_failure(self, action: Action, id_: str, now: datetime) -> CloudError | None:
        changed_at = self._context.inventory.changed_at(self.scope, id_)
        error = self._backoffs.active_failure((self.scope, action, id_), now, changed_at=changed_at)
        if error is not None or action is not Action.START:
            return error
        pool = self._context.inventory.pool(self.scope, id_)
        error = self._backoffs.active_failure((self.scope, pool), now)
        return error or self._context.inventory.failed_start_error(self.scope, id_)

    async def _make_call(self, batch: Batch) -> None:
        """Make one call and settle its instances. An unexpected exception fails this call only."""
        try:
            await self._call(batch)
        except Exception as error:  # noqa: BLE001 - other calls must continue
            failure = self._unexpected(FailedPart.BATCH, error, **self._log_fields(batch))
            self.limiter = self.limiter.answered(self._clock.now())
            batch.fail(failure)

    async def _call(self, batch: Batch) -> None:
        began = self._clock.now()
        try:
            await self._context.api.ready(self.scope)
            batch = replace(batch, sent_at=self._clock.now())
            if batch.sent_at - began > PREPARATION_LIMIT:
                batch = self._valid_part(batch)
            if not batch.entries:
                return
            self._context.metrics.batched(self.call, len(batch.ids))
            valid = partial(self._any_valid, batch)
            answers = await self._context.api.perform(self.scope, batch.operation, batch.ids, valid)
        except OutdatedError:
            self._drop_invalid(batch)
        except CloudError as error:
            self._log_failure(batch, error)
            await self._failed(batch, error)
        else:
            self._accepted(batch, answers)

    def _valid_part(self, batch: Batch) -> Batch:
        """Return the instances that may still be sent after a wait, for example for credentials."""
        valid = self._still_valid(batch)
        valid = self._without_backoffs(valid) if valid.entries else valid
        dropped = len(batch.ids) - len(valid.ids)
        self.limiter = self.limiter.cancelled(dropped, self._clock.now(), whole=not valid.entries)
        return valid

    def _any_valid(self, batch: Batch) -> bool:
        """Whether a call that has read something may still write."""
        return any(entry.open_ids and self._is_valid(entry.order) for entry in batch.entries)

    def _drop_invalid(self, batch: Batch) -> None:
        """Cancel the invalid orders of a call that has changed nothing. Queue the others again."""
        now, rest = self._clock.now(), self._still_valid(batch)
        self.limiter = self.limiter.cancelled(len(batch.ids), now, whole=True)
        if rest.entries:
            self._requeue(rest.again(now))

    def _still_valid(self, batch: Batch) -> Batch:
        """Return the entries with open instances whose orders are valid now. Cancel the invalid orders."""
        valid: dict[Order, bool] = {}
        kept = []
        for entry in batch.entries:
            order = entry.order
            if order not in valid:
                valid[order] = self._is_valid(order)
                if not valid[order]:
                    order.cancel()
            if ids := entry.open_ids:
                kept.append(replace(entry, ids=ids))
        return replace(batch, entries=kept)

    def _is_valid(self, order: Order) -> bool:
        """Whether an order is still valid. If its check raises, only this order fails."""
        try:
            return order.still_valid()
        except Exception as error:  # noqa: BLE001 - see above
            order.fail(self._unexpected(FailedPart.QUEUE, error))
            return False

    # The call was accepted.

    def _accepted(self, batch: Batch, answers: Mapping[str, ActionAnswer]) -> None:
        self.limiter = self.limiter.accepted(len(batch.ids), self._clock.now(), sent_at=batch.sent_at)
        self._call_was_answered()
        if batch.bisection is not None:
            batch.bisection.record_accepted()
        self._backoffs.record_success(self._shared_keys)
        action = batch.operation.action
        for entry in batch.entries:
            accepted = {id_: answers[id_] for id_ in entry.ids if id_ in answers}
            self._context.inventory.record_accepted(entry.order.group, entry.operation, accepted)
            self._backoffs.record_success((self.scope, action, id_) for id_ in accepted)
            if action is Action.START:
                pools = (self._context.inventory.pool(self.scope, id_) for id_ in accepted)
                self._backoffs.record_success((self.scope, pool) for pool in pools)
        if shortage := self._shortages.get(batch.pool):
            shortage.search = shortage.search.accepted(len(batch.ids))
            if shortage.search.over and shortage.error is not None:
                self._end_capacity_search(batch.only(()), batch.pool, shortage.error)
        done = batch.only(answers)
        done.accept({id_: answer.now for id_, answer in answers.items()})
        if answers:
            self._log.info(f"instances_{action}_accepted", **self._log_fields(done))
        left_out = batch.without(answers)
        if left_out.entries:
            text = f"AWS accepted the {action}, but not for this instance. The instance may be gone."
            error = CloudError("NotAccepted", text, kind=FailureKind.REFUSED)
            self._log_failure(left_out, error)
            self._refuse(left_out, error)

    def _call_was_answered(self) -> None:
        """Record that AWS responded: there is no outage, or it is over."""
        self._failures_in_row, self._searched_at = 0, None

    # The call failed.

    async def _failed(self, batch: Batch, error: CloudError) -> None:
        self._learn_limits(batch, error)
        if batch.operation.action is Action.HIBERNATE and _hibernation_refused(error):
            self._stop_instead(batch, error)
        elif error.kind is FailureKind.LOST:
            await self._check_and_retry(batch, error)
        else:
            self._handlers[error.kind](batch, error)

    @property
    def _handlers(self) -> Mapping[FailureKind, Callable[[Batch, CloudError], None]]:
        """The handling of a failed batch, by the kind of the failure."""
        return {
            FailureKind.THROTTLED: self._requeue_throttled,
            FailureKind.TRANSIENT: self._requeue_after_backoff,
            FailureKind.REFUSED: self._isolate,
            FailureKind.DENIED: self._isolate,
            FailureKind.CAPACITY: self._search_capacity,
            FailureKind.ACCOUNT: self._back_off_account,
            FailureKind.UNSENT: lambda batch, error: batch.fail(error),
        }

    def _learn_limits(self, batch: Batch, error: CloudError) -> None:
        """Correct the model of the limits after a failed call."""
        instances, now = len(batch.ids), self._clock.now()
        if error.kind is FailureKind.THROTTLED:
            self.limiter = self.limiter.throttled(instances, now, sent_at=batch.sent_at)
            return
        if error.kind in _PASSED_LIMITS:
            self._call_was_answered()
            self.limiter = self.limiter.accepted(0, now, sent_at=batch.sent_at)
        if error.kind is FailureKind.LOST:
            self.limiter = self.limiter.answered(now)
        else:
            self.limiter = self.limiter.refunded(instances, now)

    def _requeue(self, batch: Batch, pending_error: CloudError | None = None) -> None:
        """Queue a batch again. Its orders report `pending_error` while they wait."""
        if pending_error is not None:
            batch.set_pending_error(pending_error)
        self.add(batch.entries)

    def _requeue_throttled(self, batch: Batch, error: CloudError) -> None:
        """Queue the whole batch again. The next call takes as many of its instances as the limits allow."""
        now = self._clock.now()
        ready_at = self.limiter.ready_at(min(len(batch.ids), self.limiter.min_call_size), now)
        self._requeue(batch.rescheduled(now), error.with_retry_at(ready_at))

    def _back_off_account(self, batch: Batch, error: CloudError) -> None:
        """Fail the batch, and start the back-off of the account."""
        self._fail_in_backoff(batch, ("account", self.scope.account), error, backoff.ACCOUNT)

    def _fail_in_backoff(self, batch: Batch, key: Hashable, error: CloudError, pause: Backoff) -> None:
        """Fail a batch, and start the back-off of what it shares, such as its account."""
        now = self._clock.now()
        batch.fail(self._backoffs.record_failure(key, error, pause, now, sent_at=batch.sent_at))

    def _stop_instead(self, batch: Batch, error: CloudError) -> None:
        """Stop the instances that cannot hibernate. Hibernate the others."""
        self._search(batch, error, self._requeue_as_stop, self._requeue_as_stop)

    def _requeue_as_stop(self, batch: Batch, _: CloudError) -> None:
        self._requeue(batch.again(self._clock.now(), operation=Operation(Action.STOP)))

    async def _check_and_retry(self, batch: Batch, error: CloudError) -> None:
        """After a lost response, settle the instances that a new view shows as done, and retry the others."""
        goal = _DONE.get(batch.operation.action, frozenset())
        if goal and not await self._refreshed():
            goal = frozenset()
        done: dict[str, InstanceState] = {}
        for entry in batch.entries:
            states = {id_: self._context.inventory.state_of(entry.order.group, id_) for id_ in entry.ids}
            done |= {id_: state for id_, state in states.items() if state is not None and state in goal}
        batch.only(done).accept(done)
        rest = batch.without(done)
        if rest.entries:
            self.limiter = self.limiter.refunded(len(rest.ids), self._clock.now())
            self._requeue_after_backoff(rest, error)

    async def _refreshed(self) -> bool:
        """Whether a view arrived in time whose Describe was sent now or later."""
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_SECONDS):
                await self._context.inventory.refresh(self.scope, self._clock.now())
        except (CloudError, TimeoutError):
            return False
        return True

    def _requeue_after_backoff(self, batch: Batch, error: CloudError) -> None:
        """Retry the whole batch after a back-off, or in parts if it has failed too often."""
        now, attempts, size = self._clock.now(), batch.attempts + 1, len(batch.ids)
        self._count_failure(batch.sent_at, now)
        pause = backoff.RETRY.after(max(attempts, self._failures_in_row))
        bisection = _bisection(batch, refusals=False)
        if bisection is None and attempts >= MAX_ATTEMPTS and size > 1 and self._may_bisect(now):
            bisection = Bisection(size, refusals=False)
        if bisection is None:
            self._requeue_with_failed(batch, error, attempts, pause)
            return
        bisection.failures += 1
        if bisection.exhausted:
            self._searched_at = now
            whole = self._with_unsent_parts(batch, bisection)
            self._requeue_with_failed(whole, error, 1, pause)
            return
        for part in batch.halves():
            again = part.again(now + pause, attempts=attempts, bisection=bisection, apart=object())
            self._requeue(again, error.with_retry_at(now + pause))

    def _count_failure(self, sent_at: datetime, now: datetime) -> None:
        """Count a failed call, unless it was sent before the last counted failure."""
        if not in_flight_together(sent_at, self._failed_at, now):
            self._failures_in_row, self._failed_at = self._failures_in_row + 1, now

    def _requeue_with_failed(self, batch: Batch, error: CloudError, attempts: int, pause: timedelta) -> None:
        """Retry the batch together with all other failed batches, so that an outage costs few calls.

        Entries that have not failed go separately. An instance that keeps failing is retried alone while the
        queue is otherwise healthy.
        """
        now = self._clock.now()
        alone = len(batch.ids) == 1 and attempts >= MAX_ATTEMPTS > self._failures_in_row
        at = now + pause if alone else self._common_retry_at(now, pause)
        again = batch.again(at, attempts=attempts, apart=object() if alone else "retry")
        self._requeue(again, error.with_retry_at(at))

    def _common_retry_at(self, now: datetime, pause: timedelta) -> datetime:
        """Return when to retry: after `pause`, or with other entries that are due in its second half."""
        if self._retry_at is None or not now + pause / 2 <= self._retry_at <= now + pause:
            self._retry_at = now + pause
        return self._retry_at

    def _may_bisect(self, now: datetime) -> bool:
        """Whether a search may start. During an outage it would cost calls and find nothing."""
        return self._searched_at is None or not self._searched_at <= now < self._searched_at + BISECTION_PAUSE

    def _with_unsent_parts(self, batch: Batch, bisection: Bisection) -> Batch:
        """Return a batch with all parts of a search that still wait in the queue. They leave the queue."""
        unsent = [entry for entry in self._queue if entry.bisection is bisection]
        self._queue.keep(lambda entry: entry.bisection is not bisection)
        return replace(batch, entries=[*batch.entries, *unsent])

    # A capacity pool is short.

    def _call_limit(self, entry: Entry) -> int:
        """Return the maximum number of instances in the next call with an entry; 0 while it must wait."""
        if not entry.pool:
            return UNLIMITED
        shortage = self._shortages.get(entry.pool)
        if shortage is None:
            return PROBE.size
        return 0 if shortage.in_flight else shortage.search.size

    def _search_capacity(self, batch: Batch, error: CloudError) -> None:
        """Find how many instances of the pool that lacks capacity can start. Retry all others."""
        now = self._clock.now()
        pools = {id_: self._context.inventory.pool(self.scope, id_) for id_ in batch.ids}
        several = len(set(pools.values())) > 1
        short = error.pool or ("" if several else next(iter(pools.values())))
        hit = batch.only(id_ for id_, pool in pools.items() if short and pool == short)
        if hit.entries:
            self._requeue(batch.without(hit.ids).again(now))
            self._halve(hit, short, error, of_search=batch.pool == short)
        elif several and not short:
            # The error does not name the pool, so each pool gets its own calls.
            for pool in sorted(set(pools.values())):
                part = batch.only(id_ for id_, its in pools.items() if its == pool)
                if pool:
                    self._shortages.setdefault(pool, _Shortage(CapacitySearch(len(part.ids)), error))
                self._requeue(part.again(now, pool=pool, apart=None if pool else "no pool"))
        else:
            self._isolate(batch, error)

    def _halve(self, batch: Batch, pool: str, error: CloudError, *, of_search: bool) -> None:
        """Continue the search in a pool after a refusal, or begin it."""
        shortage = self._shortages.get(pool)
        if shortage is None or of_search:
            search = (shortage.search if shortage else PROBE).failed(len(batch.ids))
            shortage = self._shortages[pool] = _Shortage(search, error, in_flight=of_search)
        if shortage.search.over:
            self._end_capacity_search(batch, pool, error)
        else:
            self._requeue(batch.again(self._clock.now(), pool=pool), error)

    def _end_capacity_search(self, batch: Batch, pool: str, error: CloudError) -> None:
        """Start the back-off of a pool. Fail the batch, and all other instances of the pool that wait."""
        waiting = [entry for entry in self._queue if entry.pool == pool]
        self._queue.keep(lambda entry: entry.pool != pool)
        del self._shortages[pool]
        rest = replace(batch, entries=[*batch.entries, *waiting])
        if rest.entries:
            self._fail_in_backoff(rest, (self.scope, pool), error, backoff.CAPACITY)

    def _drop_unused_shortages(self) -> None:
        """Drop the searches without a call in flight whose instances all started, or were cancelled."""
        if self._shortages:
            waiting = {entry.pool for entry in self._queue}
            self._shortages = {
                pool: shortage
                for pool, shortage in self._shortages.items()
                if shortage.in_flight or pool in waiting
            }

    # The service refuses instances.

    def _isolate(self, batch: Batch, error: CloudError) -> None:
        """Refuse the instances that cause a refusal. Retry the others."""
        self._search(batch, error, self._refuse, self._refuse_all)

    def _search(self, batch: Batch, error: CloudError, some: _Settle, whole: _Settle) -> None:
        """Find the instances that cause a refusal: those that the error names, or bisection finds.

        Args:
            batch: the refused batch.
            error: the refusal.
            some: settles the instances that cause it.
            whole: settles the rest of the batch if the refusal does not depend on single instances.
        """
        now = self._clock.now()
        bisection = _bisection(batch, refusals=True) or Bisection(len(batch.ids), refusals=True)
        bisection.failures += 1
        named = batch.only(error.ids)
        culprits = batch if len(batch.ids) == 1 else named
        some(culprits, error)
        rest = batch.without(culprits.ids)
        # If a permission is missing, AWS names the first instance that it checks, so a name proves nothing.
        if bisection.exhausted and (not named.entries or error.kind is FailureKind.DENIED):
            whole(self._with_unsent_parts(rest, bisection), error)
            return
        parts: tuple[Batch, ...] = rest.halves()
        if named.entries and bisection.named < Bisection.MAX_NAMED:
            bisection.named += 1
            parts = (rest,)
        for part in parts:
            self._requeue(part.again(now, bisection=bisection, apart=object()))

    def _refuse(self, batch: Batch, error: CloudError) -> None:
        """Fail instances and start the back-off of each."""
        if not batch.entries:
            return
        now, pause = self._clock.now(), instance_backoff(error, batch.operation.action)
        for id_ in batch.ids:
            key = (self.scope, batch.operation.action, id_)
            changed_at = self._context.inventory.changed_at(self.scope, id_)
            timed = self._backoffs.record_failure(
                key, error, pause, now, sent_at=batch.sent_at, changed_at=changed_at
            )
            batch.fail_each({id_: timed})

    def _refuse_all(self, batch: Batch, error: CloudError) -> None:
        """Fail the rest of a search: the failure does not depend on single instances.

        If a permission is missing, the back-off of the action starts. Otherwise that of each instance starts.
        """
        if not batch.entries:  # the service has refused each instance in a call of its own
            return
        if error.kind is FailureKind.DENIED:
            self._fail_in_backoff(batch, (self.scope, self.call), error, backoff.DENIED)
        else:
            self._refuse(batch, error)

    def _log_failure(self, batch: Batch, error: CloudError) -> None:
        fields = self._log_fields(batch.only(error.ids) if error.ids else batch)
        event = f"instances_{batch.operation.action}_failed"
        self._log.warning(event, **fields, reason=error.reason, message=str(error))

    def _log_fields(self, batch: Batch) -> dict[str, object]:
        ids = batch.ids
        tags = sorted({entry.order.group.tag for entry in batch.entries})
        place = {"account": self.scope.account, "region": self.scope.region}
        return {"tags": tags[:_MAX_LOGGED], **place, "count": len(ids), "ids": ids[:_MAX_LOGGED]}


def _bisection(batch: Batch, *, refusals: bool) -> Bisection | None:
    """Return the search that a batch is part of, if it is of that kind."""
    bisection = batch.bisection
    return bisection if bisection is not None and bisection.refusals is refusals else None


def _hibernation_refused(error: CloudError) -> bool:
    """Whether an instance cannot hibernate, now or permanently, but can be stopped.

    EC2 responds with `UnsupportedHibernationConfiguration` if an instance is not configured for hibernation.
    It responds with `UnsupportedOperation` if the instance is not ready, for example in the minutes after its
    launch. See https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshoot-instance-hibernate.html.
    """
    return "Hibernat" in error.reason or error.reason == "UnsupportedOperation"
