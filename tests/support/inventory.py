"""An inventory on virtual time, in front of a cloud in memory."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.cloud.driver import CloudError, Record
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import Instance, InstanceState, Observation
from tests.support import virtual
from tests.support.virtual import EPOCH, VirtualClock

WEB = Group("ec2", "", "eu-west-1", "web")
DB = Group("ec2", "", "eu-west-1", "db")
FAR = Group("ec2", "", "us-east-1", "web")
UNREACHABLE = CloudError("CloudUnreachable", "There was no reply.")


class Cloud:
    """Instances in memory. A Describe takes `latency` seconds."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.latency = 0.2
        self.states: dict[tuple[Group, str], InstanceState] = {
            (WEB, "a"): InstanceState.STOPPED,
            (DB, "d"): InstanceState.STOPPED,
        }
        self.error: CloudError | None = None
        self.calls: list[tuple[Scope, datetime]] = []
        self.active = 0

    async def describe(self, scope: Scope) -> list[Record]:
        assert self.active == 0 or scope != self.calls[-1][0]
        self.active += 1
        self.calls.append((scope, self.clock.now()))
        shown, error = dict(self.states), self.error
        try:
            await self.clock.sleep(self.latency)
        finally:
            self.active -= 1
        if error is not None:
            raise error
        return [
            Record(group.tag, Instance(id_, state))
            for (group, id_), state in shown.items()
            if group.scope == scope
        ]

    def calls_since(self, seconds: float) -> int:
        return sum(at >= EPOCH + timedelta(seconds=seconds) for _, at in self.calls)


@dataclass
class FakeListener:
    """An inventory listener with the callbacks that a test passes."""

    groups: Callable[[], Collection[Group]] = tuple
    group_changed: Callable[[Group], None] = lambda _: None
    polling_periods: Callable[[], Mapping[Scope, timedelta]] = dict
    scope_changed: Callable[[Scope], None] = lambda _: None


class Stage:
    """An inventory on virtual time, its cloud, and the groups that it reported as changed."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.clock = VirtualClock()
        self.cloud = Cloud(self.clock)
        self.tasks = tasks
        self.changed: list[Group] = []
        self.inventory = Inventory(self.cloud.describe, self.clock, tasks)

    def track(self, *groups: Group) -> None:
        self.inventory.set_listener(FakeListener(lambda: groups, self.changed.append))
        self.tasks.create_task(self.inventory.poll())

    async def sleep_to(self, seconds: float) -> None:
        await self.clock.sleep(seconds - asyncio.get_running_loop().time())

    async def observe(self, group: Group = WEB) -> Observation:
        return await self.view(group, self.clock.now())

    async def view(self, group: Group, since: datetime) -> Observation:
        await self.inventory.refresh(group.scope, since)
        observation = self.inventory.observation(group)
        assert observation is not None
        return observation


def play(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a scenario on virtual time, then cancel the remaining tasks."""
    virtual.play(Stage, scenario)
