"""Sends what is ordered: gathers it into calls, keeps to the limits, and settles what was accepted.

What becomes of a call that failed is `recovery`'s.
"""

from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import groupby

import structlog

from booking_operator.cloud.batching.backoff import BackoffTable
from booking_operator.cloud.batching.batch import Batch, Change, Task
from booking_operator.cloud.batching.fair_queue import GATHER_TIME, Parcel
from booking_operator.cloud.batching.lane import Lane
from booking_operator.cloud.batching.retry import Recovery, Sight
from booking_operator.cloud.batching.token_bucket import LimitsOf
from booking_operator.cloud.driver import Action, CloudError, FailureKind, Group, Order, Scope
from booking_operator.cloud.inventory.view import ActionAnswer
from booking_operator.cloud.metrics import UNMEASURED, CloudMetrics, Part, unexpected
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents

LONG_AGO = timedelta(seconds=0.1)
"""After a wait of this length, orders are asked again whether they stand."""
UNHURRIED = timedelta(seconds=1)
"""How long tags wait for company: nobody waits for them, and thousands may be written after a boundary."""
_TAGS = frozenset({Action.TAG, Action.UNTAG})
_LOGGED = 20  # ids and tags named in one log line

Ready = Callable[[Scope], Awaitable[None]]
"""Has all that a call needs at hand, client and credentials; raises `CloudError`."""
Perform = Callable[[Scope, Change, Sequence[str]], Awaitable[Mapping[str, ActionAnswer]]]
"""Makes one call; the answer has the instances it was accepted for. Raises `CloudError`."""
Accept = Callable[[Group, Change, Mapping[str, ActionAnswer]], None]
"""Is told what was accepted of a group, before anybody who waits for it."""


class Sender:
    """Gathers orders into calls, each of which is a task of `tasks` and for at most `most` instances."""

    def __init__(
        self,
        ready: Ready,
        perform: Perform,
        accept: Accept,
        sight: Sight,
        clock: Clock,
        tasks: TaskGroup,
        *,
        most: int,
        lanes: Mapping[Action, str],
        limits: LimitsOf,
        metrics: CloudMetrics = UNMEASURED,
    ) -> None:
        self._ready = ready
        self._perform = perform
        self._accept = accept
        self._sight = sight
        self._clock = clock
        self._tasks = tasks
        self._most = most
        self._names = lanes
        self._limits = limits
        self._metrics = metrics
        self._lanes: dict[tuple[Scope, str], Lane] = {}
        self._holds = BackoffTable()
        self._recovery = Recovery(sight, self._holds, clock)
        self._log = structlog.get_logger()

    @property
    def lanes(self) -> Collection[Lane]:
        """The lanes that there has been something to do in."""
        return self._lanes.values()

    def introspect(self) -> Contents:
        """The lanes, and what is held."""
        return {"lanes": self._lanes.keys(), **self._holds.introspect()}

    def submit(self, order: Order, change: Change, ids: Sequence[str]) -> None:
        """Have `change` made to some of the instances of an order. Returns at once."""
        if not ids:
            return
        now = self._clock.now()
        due = max(order.deadline, now)
        # What is known ahead leaves at its deadline; for the rest a moment's wait makes fewer calls.
        ready = due if due > now else now + (UNHURRIED if change.action in _TAGS else GATHER_TIME)
        items = [
            Parcel(Task(order, change), some, order.tenant, order.deadline, due, ready, (change, *suspicion))
            for suspicion, some in self._sorted_out(order, change, ids)
        ]
        self.lane(order.group.scope, change.action).add(items)

    def lane(self, scope: Scope, action: Action) -> Lane:
        """The lane of an action in a scope."""
        name = self._names[action]
        lane = self._lanes.get((scope, name))
        if lane is None:
            self._end_unused()
            limits = self._limits(scope, name)
            lane = Lane(scope, name, limits, self._clock, self._send, most=self._most, metrics=self._metrics)
            self._lanes[scope, name] = lane
            lane.start(self._tasks)
        return lane

    def _end_unused(self) -> None:
        """End the lanes that are not used any more, before one more is made."""
        now = self._clock.now()
        for key in [key for key, lane in self._lanes.items() if lane.unused(now)]:
            self._lanes.pop(key).end()

    def _sorted_out(
        self, order: Order, change: Change, ids: Sequence[str]
    ) -> Iterable[tuple[tuple[str, ...], list[str]]]:
        """The instances, and apart those refused the last time: they must not spoil the call of others."""

        def suspicion(id_: str) -> tuple[str, ...]:
            scope = order.group.scope
            pool = self._sight.pool(scope, id_)
            if change.action is Action.START and pool and self._holds.failed_before((scope, pool)):
                return ("pool", pool)
            return ("instance",) if self._holds.failed_before((scope, change.action, id_)) else ()

        return [(key, list(some)) for key, some in groupby(sorted(ids, key=suspicion), key=suspicion)]

    def _send(self, lane: Lane, batch: Batch) -> None:
        allowed = self._unbarred(lane, batch)
        if not allowed.items:
            return
        lane.throttle = lane.throttle.sent(len(allowed.ids), self._clock.now())
        task = self._tasks.create_task(self._carry_out(lane, allowed), name=f"call: {lane.name}")
        task.add_done_callback(lambda task: allowed.withdraw() if task.cancelled() else None)
        lane.follow(task)

    def _unbarred(self, lane: Lane, batch: Batch) -> Batch:
        """The instances that may be asked for now; the others fail as they did the last time."""
        now, scope, action = self._clock.now(), lane.scope, batch.change.action
        for key in (("account", scope.account), (scope, lane.name)):
            if error := self._holds.active_failure(key, now):
                batch.fail(error)
                return Batch([])
        barred: dict[str, CloudError] = {}
        for id_ in batch.ids:
            error = self._holds.active_failure((scope, action, id_), now)
            if error is None and action is Action.START:
                error = self._holds.active_failure((scope, self._sight.pool(scope, id_)), now)
                error = error or self._sight.start_failed(scope, id_)
            if error is not None:
                barred[id_] = error
        batch.refuse(barred)
        return batch.without(barred) if barred else batch

    async def _carry_out(self, lane: Lane, batch: Batch) -> None:
        """Make one call, and settle its instances. Nothing that is raised on the way ends other calls."""
        try:
            await self._call(lane, batch)
        except Exception as error:  # noqa: BLE001 - see above
            failed = unexpected(self._metrics, Part.BATCH, lane.name, error, **_facts(lane, batch))
            lane.throttle = lane.throttle.answered(self._clock.now())
            batch.fail(failed)

    async def _call(self, lane: Lane, batch: Batch) -> None:
        asked_at = self._clock.now()
        try:
            await self._ready(lane.scope)
            if self._clock.now() - asked_at > LONG_AGO:
                batch = self._asked_again(lane, batch)
            if not batch.items:
                return
            self._metrics.batched(lane.name, len(batch.ids))
            answers = await self._perform(lane.scope, batch.change, batch.ids)
        except CloudError as error:
            self._log_failure(lane, batch, error)
            await self._recovery.failed(lane, batch, error)
        else:
            lane.throttle = lane.throttle.accepted(len(batch.ids), self._clock.now())
            lane.works()
            self._settle(lane, batch, answers)

    def _asked_again(self, lane: Lane, batch: Batch) -> Batch:
        """The orders that still stand after there was something to wait for: credentials, say."""
        still = Batch(lane.standing(batch.items))
        withdrawn = len(batch.ids) - len(still.ids)
        lane.throttle = lane.throttle.cancelled(withdrawn, self._clock.now(), whole=not still.items)
        return still

    def _settle(self, lane: Lane, batch: Batch, answers: Mapping[str, ActionAnswer]) -> None:
        scope, action = lane.scope, batch.change.action
        if batch.inquest is not None:
            batch.inquest.cleared = True
        self._holds.record_success([("account", scope.account), (scope, lane.name)])
        for item in batch.items:
            order, accepted = item.payload.order, {id_: answers[id_] for id_ in item.ids if id_ in answers}
            self._accept(order.group, batch.change, accepted)
            self._holds.record_success((scope, action, id_) for id_ in accepted)
            if action is Action.START:
                self._holds.record_success((scope, self._sight.pool(scope, id_)) for id_ in accepted)
        batch.only(answers).settle({id_: answer.now for id_, answer in answers.items()})
        if answers:
            self._log.info(f"instances_{action}_accepted", **_facts(lane, batch.only(answers)))
        left_out = batch.without(answers)
        if left_out.items:
            text = f"AWS took the {action}, but not for this instance; it may be gone."
            error = CloudError("NotAccepted", text, kind=FailureKind.REFUSED)
            self._log_failure(lane, left_out, error)
            self._recovery.refuse(lane, left_out, error)

    def _log_failure(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        facts = _facts(lane, batch.only(error.ids) if error.ids else batch)
        event = f"instances_{batch.change.action}_refused"
        self._log.warning(event, **facts, reason=error.reason, message=str(error))


def _facts(lane: Lane, batch: Batch) -> dict[str, object]:
    ids = batch.ids
    tags = sorted({item.payload.order.group.tag for item in batch.items})
    where = {"account": lane.scope.account, "region": lane.scope.region}
    return {"tags": tags[:_LOGGED], **where, "count": len(ids), "ids": ids[:_LOGGED]}
