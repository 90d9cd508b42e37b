"""EC2 in memory and on virtual time: request limits, transitions, stale Describes, lost replies."""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.driver import (
    Action,
    ActionAnswer,
    CloudError,
    FailureKind,
    Operation,
    Record,
    always,
    api_action,
)
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import Instance, InstanceState, Lock
from tests.support.aws_limits import Limits
from tests.support.virtual import EPOCH, VirtualClock

_GOAL = {Action.START: InstanceState.RUNNING, Action.STOP: InstanceState.STOPPED}
_ON_THE_WAY = {Action.START: InstanceState.PENDING, Action.STOP: InstanceState.STOPPING}
_FROM = {Action.START: InstanceState.STOPPED, Action.STOP: InstanceState.RUNNING}


@dataclass
class Machine:
    """One instance. `history` has its states, each with the time in seconds at which it began."""

    group: Group
    history: list[tuple[float, InstanceState]]
    lock: Lock | None = None

    def at(self, seconds: float) -> InstanceState:
        return next(state for since, state in reversed(self.history) if since <= seconds)


@dataclass(frozen=True)
class Stopped:
    """A stop of one instance that arrived, accepted or not."""

    at: datetime
    id: str
    group: Group


@dataclass
class Fleet:
    """`cloud.service.Api` with all faults.

    Attributes:
        throttled, reset: the share of calls that are throttled, and the share whose connection is reset.
        lag: the age in seconds of the states that Describe shows.
        transition: the duration in seconds of a transition between power states.
        down: accounts whose calls all fail.
    """

    clock: VirtualClock
    chance: random.Random
    throttled: float = 0.0
    reset: float = 0.0
    lag: float = 0.0
    transition: float = 8.0
    down: set[str] = field(default_factory=set)
    machines: dict[str, Machine] = field(default_factory=dict)
    stops: list[Stopped] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    facts = Ec2Api.facts

    def add(self, group: Group, n: int) -> None:
        for number in range(n):
            self.machines[f"i-{group.account}{group.tag}-{number}"] = Machine(
                group, [(-1e9, InstanceState.STOPPED)]
            )

    def now(self) -> float:
        return (self.clock.now() - EPOCH).total_seconds()

    async def describe(self, scope: Scope) -> list[Record]:
        await self._arrive(scope, "DescribeInstances", 0)
        shown = [
            Record(machine.group.tag, Instance(id_, machine.at(self.now() - self.lag), lock=machine.lock))
            for id_, machine in self.machines.items()
            if machine.group.scope == scope
        ]
        await asyncio.sleep(self.chance.uniform(0.02, 0.3))
        return shown

    async def check(self, _: Scope, ids: Collection[str]) -> Mapping[str, str]:
        return dict.fromkeys(ids, "")

    async def ready(self, _: Scope) -> None:
        await asyncio.sleep(0)

    async def release(self, _: Scope) -> None:
        """Do nothing."""

    async def perform(
        self, scope: Scope, change: Operation, ids: Sequence[str], _: Callable[[], bool] = always
    ) -> Mapping[str, ActionAnswer]:
        action = change.action
        if action is Action.STOP:
            self.stops += [Stopped(self.clock.now(), id_, self.machines[id_].group) for id_ in ids]
        loses = await self._arrive(scope, api_action(self.facts, action), len(ids))
        if action not in _GOAL:
            for id_ in ids:
                self.machines[id_].lock = change.lock
            return {id_: ActionAnswer(None, None) for id_ in ids}
        for id_ in ids:
            if self.machines[id_].at(self.now()) is _ON_THE_WAY[_other(action)]:
                text = f"The instance '{id_}' is not in a state for that."
                raise CloudError("IncorrectInstanceState", text, kind=FailureKind.REFUSED, ids=[id_])
        answers = {id_: self._set(id_, action) for id_ in ids}
        await asyncio.sleep(self.chance.uniform(0.02, 0.3))
        if loses:
            raise CloudError("CloudUnreachable", "no reply", kind=FailureKind.LOST)
        return answers

    def _set(self, id_: str, action: Action) -> ActionAnswer:
        machine, now = self.machines[id_], self.now()
        before = machine.at(now)
        if before is _FROM[action]:
            machine.history += [(now, _ON_THE_WAY[action]), (now + self.transition, _GOAL[action])]
        return ActionAnswer(before, machine.at(now))

    async def _arrive(self, scope: Scope, call: str, n: int) -> bool:
        """Simulate the way of a call, and raise if it is refused; return whether the reply will be lost."""
        self.calls[call] = self.calls.get(call, 0) + 1
        await asyncio.sleep(self.chance.uniform(0.001, 0.01))
        if scope.account in self.down:
            await asyncio.sleep(self.chance.choice((0.01, 20)))
            raise CloudError("Unavailable", "It is down.", kind=FailureKind.TRANSIENT)
        drawn = self.chance.random()
        refused = not self.limits.admits(scope.account, scope.region, call, n, self.now())
        if drawn < self.throttled or refused:
            raise CloudError("RequestLimitExceeded", "Too many.", kind=FailureKind.THROTTLED)
        if drawn < self.throttled + self.reset / 2:
            raise CloudError("CloudUnreachable", "no reply", kind=FailureKind.LOST)
        return drawn < self.throttled + self.reset


def _other(action: Action) -> Action:
    return Action.STOP if action is Action.START else Action.START
