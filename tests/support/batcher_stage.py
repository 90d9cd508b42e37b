"""A batcher on virtual time, in front of a service in memory whose answers a test sets."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from booking_operator.cloud.batching.batcher import Batcher
from booking_operator.cloud.batching.token_bucket import DEFAULT_LIMITS, PUBLISHED_LIMITS, RequestLimits
from booking_operator.cloud.driver import (
    Action,
    ActionAnswer,
    CloudError,
    FailureKind,
    Operation,
    Order,
    OutdatedError,
    Record,
    always,
)
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import InstanceState
from booking_operator.domain.services import SERVICES
from booking_operator.metrics import NO_METRICS, CloudMetrics
from tests.support import virtual
from tests.support.virtual import EPOCH, VirtualClock, after

WEB = Group("ec2", "", "eu-west-1", "web")
START, STOP = Operation(Action.START), Operation(Action.STOP)
AFTER = {
    Action.START: InstanceState.PENDING,
    Action.STOP: InstanceState.STOPPING,
    Action.HIBERNATE: InstanceState.STOPPING,
    Action.TAG: None,
    Action.UNTAG: None,
}
THROTTLED = CloudError("RequestLimitExceeded", "too many", kind=FailureKind.THROTTLED)
BROKEN = CloudError("InternalError", "it broke", kind=FailureKind.TRANSIENT)
LOST = CloudError("CloudUnreachable", "no reply", kind=FailureKind.LOST)

Reply = Callable[[Operation, Sequence[str]], CloudError | None]


@dataclass(frozen=True)
class Sent:
    """One call: its time in seconds after the epoch, its action, and its instances."""

    at: float
    action: Action
    ids: tuple[str, ...]
    scope: Scope = WEB.scope


def seconds(instant: datetime) -> float:
    return round((instant - EPOCH).total_seconds(), 3)


class Stage:
    """A batcher and its service. The service accepts a call unless `reply` returns an error for it."""

    def __init__(self, tasks: TaskGroup, max_batch: int = 1000, metrics: CloudMetrics = NO_METRICS) -> None:
        self.facts = replace(SERVICES["ec2"], max_batch=max_batch)
        self.clock = VirtualClock()
        self.sent: list[Sent] = []
        self.accepted: list[tuple[Group, Operation, dict[str, ActionAnswer]]] = []
        self.reply: Reply = lambda *_: None
        self.silent_on: frozenset[str] = frozenset()
        self.latency = 0.0
        self.preparing = 0.0
        self.reading = 0.0
        self.states: dict[str, InstanceState] = {}
        self.pools: dict[str, str] = {}
        self.changed_at: dict[str, datetime] = {}
        self.failed_starts: dict[str, CloudError] = {}
        self.looks: list[float] = []
        self.look_error: CloudError | None = None
        self.limits: dict[str, RequestLimits] = dict(PUBLISHED_LIMITS)
        inventory: Any = StageInventory(self)
        self.batcher = Batcher(
            self,
            inventory,
            self.clock,
            tasks,
            lambda _, call: self.limits.get(call, DEFAULT_LIMITS),
            metrics,
        )

    async def describe(self, _: Scope) -> list[Record]:
        return []

    async def release(self, _: Scope) -> None:
        """Do nothing."""

    async def check(self, _: Scope, ids: Collection[str]) -> Mapping[str, str]:
        return dict.fromkeys(ids, "")

    async def ready(self, _: Scope) -> None:
        if self.preparing:
            await asyncio.sleep(self.preparing)

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str], still_valid: Callable[[], bool] = always
    ) -> Mapping[str, ActionAnswer]:
        if self.reading:
            await asyncio.sleep(self.reading)
            if not still_valid():
                raise OutdatedError
        self.sent.append(Sent(seconds(self.clock.now()), operation.action, tuple(ids), scope))
        await asyncio.sleep(self.latency)
        if error := self.reply(operation, ids):
            raise error
        return {id_: ActionAnswer(None, AFTER[operation.action]) for id_ in ids if id_ not in self.silent_on}

    def order(
        self,
        *ids: str,
        operation: Operation = START,
        at: float | None = None,
        tenant: str = "ns",
        group: Group = WEB,
        stands: Callable[[], bool] = lambda: True,
    ) -> Order:
        """Submit an order with a deadline of `at` seconds after the epoch, or now."""
        deadline = self.clock.now() if at is None else after(at)
        made = Order.of(group, ids, deadline, tenant=tenant, still_valid=stands)
        self.batcher.submit(made, operation, ids)
        return made

    async def outcome(self, order: Order) -> dict[str, str]:
        """Wait until all futures are done; return the state of each instance, or the reason of its error."""
        await asyncio.wait(order.futures.values())
        return outcome(order)

    def sizes(self) -> list[tuple[float, int]]:
        return [(call.at, len(call.ids)) for call in self.sent]


class StageInventory:
    """The methods of an inventory that the batcher calls, with values from the stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def pool(self, _: Scope, id_: str) -> str:
        return self._stage.pools.get(id_, "")

    def state_of(self, _: Group, id_: str) -> InstanceState | None:
        return self._stage.states.get(id_)

    def changed_at(self, _: Scope, id_: str) -> datetime | None:
        return self._stage.changed_at.get(id_)

    def failed_start_error(self, _: Scope, id_: str) -> CloudError | None:
        return self._stage.failed_starts.get(id_)

    def record_accepted(
        self, group: Group, operation: Operation, answers: Mapping[str, ActionAnswer]
    ) -> None:
        self._stage.accepted.append((group, operation, dict(answers)))

    async def refresh(self, _: Scope, since: datetime) -> None:
        self._stage.looks.append(seconds(since))
        await asyncio.sleep(0.1)
        if self._stage.look_error:
            raise self._stage.look_error


def outcome(order: Order) -> dict[str, str]:
    return {id_: _result(future) for id_, future in order.futures.items()}


def _result(future: "asyncio.Future[InstanceState | None]") -> str:
    if not future.done():
        return "waits"
    if future.cancelled():
        return "withdrawn"
    error = future.exception()
    if isinstance(error, CloudError):
        return error.reason
    return str(future.result())


def refuse(reason: str, *bad: str, fault: FailureKind = FailureKind.REFUSED, named: bool = True) -> Reply:
    """Refuse each call that contains any of `bad`; the error names them if `named`."""

    def reply(_: Operation, ids: Sequence[str]) -> CloudError | None:
        hit = [id_ for id_ in ids if id_ in bad]
        return CloudError(reason, ", ".join(hit), kind=fault, ids=hit if named else ()) if hit else None

    return reply


def once(*errors: CloudError) -> Reply:
    """Answer the first calls with these errors, one error for each call."""
    left = list(errors)
    return lambda *_: left.pop(0) if left else None


def play(scenario: Callable[[Stage], Awaitable[None]], *, most: int = 1000) -> None:
    """Run a scenario on virtual time, then cancel the remaining tasks.

    Args:
        scenario: the scenario.
        most: the maximum number of instances of one call.
    """
    virtual.play(partial(Stage, max_batch=most), scenario)


def in_account(account: str, group: Group = WEB) -> Group:
    return replace(group, account=account)
