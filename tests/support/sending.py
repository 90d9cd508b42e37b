"""A sender on virtual time, before a service in memory that answers as a test says."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.batching.batch import Change
from booking_operator.cloud.batching.retry import Sight
from booking_operator.cloud.batching.sender import Sender
from booking_operator.cloud.batching.token_bucket import DEFAULT_LIMITS, PUBLISHED_LIMITS, RequestLimits
from booking_operator.cloud.driver import Action, CloudError, FailureKind, Group, Order, Scope
from booking_operator.cloud.inventory.view import ActionAnswer
from booking_operator.domain.instance import InstanceState
from tests.support import virtual
from tests.support.virtual import EPOCH, VirtualClock

WEB = Group("ec2", "", "eu-west-1", "web")
START, STOP = Change(Action.START), Change(Action.STOP)
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

Reply = Callable[[Change, Sequence[str]], CloudError | None]


@dataclass(frozen=True)
class Sent:
    """One call: so many seconds after the epoch, to do what, to which instances."""

    at: float
    action: Action
    ids: tuple[str, ...]
    scope: Scope = WEB.scope


def seconds(instant: datetime) -> float:
    return round((instant - EPOCH).total_seconds(), 3)


def after(since: float) -> datetime:
    return EPOCH + timedelta(seconds=since)


class Stage:
    """The sender, and the service: it accepts everything but what `reply` has an error for."""

    def __init__(self, tasks: TaskGroup, most: int = 1000) -> None:
        self.clock = VirtualClock()
        self.calls: list[Sent] = []
        self.accepted: list[tuple[Group, Change, dict[str, ActionAnswer]]] = []
        self.reply: Reply = lambda *_: None
        self.silent_on: frozenset[str] = frozenset()
        self.latency = 0.0
        self.preparing = 0.0
        self.states: dict[str, InstanceState] = {}
        self.pools: dict[str, str] = {}
        self.failed_starts: dict[str, CloudError] = {}
        self.looks: list[float] = []
        self.look_error: CloudError | None = None
        self.limits: dict[str, RequestLimits] = dict(PUBLISHED_LIMITS)
        self.sender = Sender(
            self.ready,
            self.perform,
            self.accept,
            Sight(
                self.look,
                lambda _, id_: self.states.get(id_),
                lambda _, id_: self.pools.get(id_, ""),
                lambda _, id_: self.failed_starts.get(id_),
            ),
            self.clock,
            tasks,
            most=most,
            lanes=Ec2Api.lanes,
            limits=lambda _, action: self.limits.get(action, DEFAULT_LIMITS),
        )

    async def ready(self, _: Scope) -> None:
        if self.preparing:
            await asyncio.sleep(self.preparing)

    async def perform(self, scope: Scope, change: Change, ids: Sequence[str]) -> Mapping[str, ActionAnswer]:
        self.calls.append(Sent(seconds(self.clock.now()), change.action, tuple(ids), scope))
        await asyncio.sleep(self.latency)
        if error := self.reply(change, ids):
            raise error
        return {id_: ActionAnswer(None, AFTER[change.action]) for id_ in ids if id_ not in self.silent_on}

    def accept(self, group: Group, change: Change, answers: Mapping[str, ActionAnswer]) -> None:
        self.accepted.append((group, change, dict(answers)))

    async def look(self, _: Scope, since: datetime) -> None:
        self.looks.append(seconds(since))
        await asyncio.sleep(0.1)
        if self.look_error:
            raise self.look_error

    def order(
        self,
        *ids: str,
        change: Change = START,
        at: float | None = None,
        tenant: str = "ns",
        group: Group = WEB,
        stands: Callable[[], bool] = lambda: True,
    ) -> Order:
        """Order it for `at` seconds after the epoch, or for now."""
        deadline = self.clock.now() if at is None else after(at)
        made = Order.of(group, ids, deadline, tenant=tenant, still_valid=stands)
        self.sender.submit(made, change, ids)
        return made

    async def outcome(self, order: Order) -> dict[str, str]:
        """Wait for all of it: each instance's state, or the reason of its error."""
        await asyncio.wait(order.futures.values())
        return outcome(order)

    def sizes(self) -> list[tuple[float, int]]:
        return [(call.at, len(call.ids)) for call in self.calls]


def outcome(order: Order) -> dict[str, str]:
    return {id_: _told(future) for id_, future in order.futures.items()}


def _told(future: "asyncio.Future[InstanceState | None]") -> str:
    if not future.done():
        return "waits"
    if future.cancelled():
        return "withdrawn"
    error = future.exception()
    if isinstance(error, CloudError):
        return error.reason
    return str(future.result())


def refuse(reason: str, *bad: str, fault: FailureKind = FailureKind.REFUSED, named: bool = True) -> Reply:
    """Refuse each call that has any of `bad`, naming them or not."""

    def reply(_: Change, ids: Sequence[str]) -> CloudError | None:
        hit = [id_ for id_ in ids if id_ in bad]
        return CloudError(reason, ", ".join(hit), kind=fault, ids=hit if named else ()) if hit else None

    return reply


def once(*errors: CloudError) -> Reply:
    """Answer the first calls with these errors, one each."""
    left = list(errors)
    return lambda *_: left.pop(0) if left else None


def play(scenario: Callable[[Stage], Awaitable[None]], *, most: int = 1000) -> None:
    """Run a scenario on virtual time, then cancel what still runs; a call is for at most `most` instances."""
    virtual.play(partial(Stage, most=most), scenario)


def in_account(account: str, group: Group = WEB) -> Group:
    return replace(group, account=account)
