"""What becomes of a batch that failed, by the class of the failure (`cloud.driver.Fault`).

What the classes have in common: the instances that are not to blame go on at once, nothing is asked again
before its pause is over, and an order that waits can say why.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.cloud.batching import backoff
from booking_operator.cloud.batching.backoff import BackoffTable, instance_backoff
from booking_operator.cloud.batching.batch import Batch, Change, Inquest
from booking_operator.cloud.batching.lane import Lane
from booking_operator.cloud.driver import Action, CloudError, FailureKind, Group, Scope
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.clock import Clock
from booking_operator.engine.workqueue import Backoff

RETRY = Backoff(initial=timedelta(seconds=0.5), maximum=timedelta(seconds=15))
"""Between two tries of what failed without an answer about the instances."""
PATIENCE = 4
"""Such failures in a row after which a batch is sent in parts: one instance may be what the service trips
over."""
NAMED = 5
"""Calls in a row that may each name an instance that is to blame; then halves are sent as well."""
LOOK_SECONDS = 30.0
"""How long a lost reply is looked into before the call is simply made again."""

_LET_THROUGH = frozenset({FailureKind.REFUSED, FailureKind.CAPACITY, FailureKind.DENIED, FailureKind.ACCOUNT})
_DONE: Mapping[Action, frozenset[InstanceState]] = {
    Action.START: frozenset({InstanceState.PENDING, InstanceState.RUNNING}),
    Action.STOP: frozenset({InstanceState.STOPPING, InstanceState.STOPPED}),
    Action.HIBERNATE: frozenset({InstanceState.STOPPING, InstanceState.STOPPED}),
}


@dataclass(frozen=True)
class Sight:
    """What is known of the instances.

    Attributes:
        look: has a view of them since an instant. Raises `CloudError`.
        shown: the state in which the newest view has an instance of a group; None where it has none.
        pool: type and zone of an instance; empty where that is not known.
        start_failed: why an instance is not to be started yet, its last start having come to nothing.
    """

    look: Callable[[Scope, datetime], Awaitable[object]]
    shown: Callable[[Group, str], InstanceState | None]
    pool: Callable[[Scope, str], str]
    start_failed: Callable[[Scope, str], CloudError | None]


class Recovery:
    """Decides who goes on, who waits and who is refused."""

    def __init__(self, sight: Sight, held: BackoffTable, clock: Clock) -> None:
        self._sight = sight
        self._holds = held
        self._clock = clock

    async def failed(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        """Treat a batch for which the call has failed."""
        _take_note(lane, len(batch.ids), error, self._clock.now())
        if batch.change.action is Action.HIBERNATE and _hibernation_refused(error):
            self._stop_instead(lane, batch, error)
        elif error.kind is FailureKind.LOST:
            await self._look_into(lane, batch, error)
        else:
            self._treat(lane, batch, error)

    def _treat(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        now = self._clock.now()
        match error.kind:
            case FailureKind.THROTTLED:
                self._send(lane, batch.at(now), error.with_retry_at(lane.throttle.ready_at(1, now)))
            case FailureKind.CAPACITY:
                self._no_capacity(lane, batch, error)
            case FailureKind.ACCOUNT:
                batch.fail(
                    self._holds.record_failure(("account", lane.scope.account), error, backoff.ACCOUNT, now)
                )
            case FailureKind.UNSENT:
                batch.fail(error)
            case FailureKind.REFUSED | FailureKind.DENIED:
                self._isolate(lane, batch, error)
            case _:
                self._retry(lane, batch, error)

    def _stop_instead(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        """Stop what cannot be hibernated; hibernate the rest."""
        now = self._clock.now()
        hit = batch.only(error.ids) if error.ids else batch
        self._send(lane, hit.again(now, change=Change(Action.STOP)))
        self._send(lane, batch.without(hit.ids).at(now))

    def refuse(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        """Settle instances as refused, none of them to be asked for again before its pause is over."""
        if not batch.items:
            return
        now, pause, action = self._clock.now(), instance_backoff(error), batch.change.action
        batch.refuse(
            {
                id_: self._holds.record_failure((lane.scope, action, id_), error, pause, now)
                for id_ in batch.ids
            }
        )

    def _send(self, lane: Lane, batch: Batch, trouble: CloudError | None = None) -> None:
        """Have a batch sent as it says; `trouble` is what users are told meanwhile."""
        if trouble is not None:
            for item in batch.items:
                item.payload.order.set_pending_error(trouble)
        lane.add(batch.items)

    def _retry(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        """Have the whole sent again after a pause; in parts once it has failed too often."""
        now, attempts, size = self._clock.now(), batch.attempts + 1, len(batch.ids)
        inquest = _search(batch, answered=False)
        lane.troubles += 1
        pause = RETRY.after(max(attempts, lane.troubles))
        if inquest is None and attempts >= PATIENCE and size > 1 and lane.worth_a_search(now):
            inquest = Inquest(size, answered=False)
        if inquest is None:
            self._send_with_others(lane, batch, error, attempts, pause)
            return
        inquest.failures += 1
        if inquest.general:
            lane.searched(now)
            whole = Batch([*batch.items, *lane.take_back(inquest)])
            self._send_with_others(lane, whole, error, 1, pause)
            return
        for part in batch.halves() if size > 1 else (batch,):
            again = part.again(now + pause, attempts=attempts, inquest=inquest, apart=object())
            self._send(lane, again, error.with_retry_at(now + pause))

    def _send_with_others(
        self, lane: Lane, batch: Batch, error: CloudError, attempts: int, pause: timedelta
    ) -> None:
        """Have it sent with all that failed, lest an outage leave a call for each; apart from what is fresh.

        One that fails while others do not goes alone.
        """
        now = self._clock.now()
        alone = len(batch.ids) == 1 and attempts >= PATIENCE > lane.troubles
        at = now + pause if alone else lane.retry_at(now, pause)
        again = batch.again(at, attempts=attempts, apart=object() if alone else "retry")
        self._send(lane, again, error.with_retry_at(at))

    async def _look_into(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        """Settle what a fresh view shows to be done although the reply was lost; send the rest again."""
        wanted = _DONE.get(batch.change.action, frozenset())
        seen: dict[str, InstanceState] = {}
        if wanted:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._sight.look(lane.scope, self._clock.now())
            except (CloudError, TimeoutError):
                wanted = frozenset()
        for item in batch.items:
            shown = {id_: self._sight.shown(item.payload.order.group, id_) for id_ in item.ids}
            seen |= {id_: state for id_, state in shown.items() if state is not None and state in wanted}
        batch.only(seen).settle(seen)
        rest = batch.without(seen)
        if rest.items:
            lane.throttle = lane.throttle.refunded(len(rest.ids), self._clock.now())
            self._retry(lane, rest, error)

    def _no_capacity(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        """Set those aside that there is no room for; all others go on."""
        now = self._clock.now()
        pools = {id_: self._sight.pool(lane.scope, id_) for id_ in batch.ids}
        several = len(set(pools.values())) > 1
        pool = error.pool or ("" if several else next(iter(pools.values())))
        hit = [id_ for id_, its in pools.items() if pool and its == pool]
        if hit:
            batch.only(hit).fail(self._holds.record_failure((lane.scope, pool), error, backoff.CAPACITY, now))
            self._send(lane, batch.without(hit).again(now))
        elif several and not pool:
            # It does not say which: each is asked for by itself.
            for one in sorted(set(pools.values())):
                apart = batch.only(id_ for id_, its in pools.items() if its == one)
                self._send(lane, apart.again(now, apart=("pool", one)))
        else:
            self._isolate(lane, batch, error)

    def _isolate(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        """Refuse the instances that are to blame, named or found by halving; send the others."""
        now, inquest = (
            self._clock.now(),
            _search(batch, answered=True) or Inquest(len(batch.ids), answered=True),
        )
        alone = len(batch.ids) == 1
        blamed = batch if alone else batch.only(error.ids)
        self.refuse(lane, blamed, error)
        rest = batch.without(blamed.ids)
        if not rest.items:
            return
        if blamed.items and inquest.named < NAMED:
            inquest.named += 1
            self._send(lane, rest.again(now, inquest=inquest, apart=object()))
            return
        # Named one at a time again and again: halves find those that are good sooner. A missing permission is
        # laid to the first instance that AWS comes upon, so there a name proves nothing.
        inquest.failures += 1
        if inquest.general and (not blamed.items or error.kind is FailureKind.DENIED):
            self._refuse_all(lane, Batch([*rest.items, *lane.take_back(inquest)]), error)
            return
        for part in rest.halves() if len(rest.ids) > 1 else (rest,):
            self._send(lane, part.again(now, inquest=inquest, apart=object()))

    def _refuse_all(self, lane: Lane, batch: Batch, error: CloudError) -> None:
        """It is not for the sake of some instances: a permission for the action is missing, say."""
        key, now = (lane.scope, lane.name), self._clock.now()
        if error.kind is FailureKind.DENIED:
            # Other parts may be under way yet, and find the same.
            batch.fail(
                self._holds.active_failure(key, now)
                or self._holds.record_failure(key, error, backoff.DENIED, now)
            )
        else:
            self.refuse(lane, batch, error)


def _search(batch: Batch, *, answered: bool) -> Inquest | None:
    """The search that a batch is part of, if it is of that kind."""
    inquest = batch.inquest
    return inquest if inquest is not None and inquest.answered is answered else None


def _take_note(lane: Lane, instances: int, error: CloudError, now: datetime) -> None:
    """What a failure tells of the limits."""
    if error.kind is FailureKind.THROTTLED:
        lane.throttle = lane.throttle.throttled(instances, now)
        return
    if error.kind in _LET_THROUGH:
        lane.works()
        lane.throttle = lane.throttle.accepted(0, now)
    if error.kind is FailureKind.LOST:
        lane.throttle = lane.throttle.answered(now)
    else:
        lane.throttle = lane.throttle.refunded(instances, now)


def _hibernation_refused(error: CloudError) -> bool:
    """Whether an instance cannot be hibernated, or not yet, but may be stopped.

    `UnsupportedHibernationConfiguration` is said of those that are not set up for it, `UnsupportedOperation`
    of those not ready for it, as in the minutes after the launch; see
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshoot-instance-hibernate.html.
    """
    return "Hibernat" in error.reason or error.reason == "UnsupportedOperation"
