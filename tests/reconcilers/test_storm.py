"""Ten minutes of failures on virtual time, with the real driver. At the end, all groups are as booked.

`tests/storm` does the same for ten real minutes, with a real API server.
"""

import asyncio
import random
from asyncio import TaskGroup
from datetime import timedelta

import pytest

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.cloud.service import Service
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.controller import Controller
from booking_operator.reconcilers.delays import DelayController
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.lock_tags import LockTagsReconciler
from booking_operator.reconcilers.resource.orders import ResourceOrders
from booking_operator.reconcilers.resource.reconciler import ResourceReconciler
from tests.support import virtual
from tests.support.environment import REGION, FakeObjects, FakeStatus, at_text, fake_environment
from tests.support.memory_ec2 import Fleet
from tests.support.virtual import VirtualClock

SECONDS, GROUPS, SIZE = 600, 20, 3
DOWN = "fragile"
ON_ITS_WAY = timedelta(seconds=0.05)
"""A stop that is sent before a booking begins may arrive this long after the start."""


class Harness:
    """Resources of two accounts, one of which is down, with the reconciler and the driver under test."""

    def __init__(self, tasks: TaskGroup, seed: int) -> None:
        self.clock = clock = VirtualClock()
        self.chance = random.Random(seed)
        self.fleet = Fleet(clock, self.chance)
        self.informers = Informers(REGION)
        self.handlers = EventHandlers(self.informers, clock)
        drivers = {"ec2": Service(self.fleet, clock, tasks).driver(tasks)}
        environment = fake_environment(
            self.informers,
            clock,
            drivers=drivers,
            statuses={RESOURCE: FakeStatus(self.informers.resources)},
            objects=FakeObjects(self.informers.resources),
        )
        orders = ResourceOrders(environment, self.handlers.resources.add)
        delays = DelayController(environment, orders.open_orders, self.handlers.delay_changed)
        lock_tags = LockTagsReconciler(environment, self.handlers.lock_tags, self.handlers.resources.add)
        reconciler = ResourceReconciler(environment, orders, lock_tags, delays, took_over_at=clock.now())
        self.handlers.subscribe()
        self.spans: dict[str, list[tuple[float, float]]] = {}
        self.wrong: dict[str, InstanceState] = {}
        for number in range(GROUPS):
            self._group(f"g{number}", DOWN if number % 5 == 0 else "")
        drivers["ec2"].inventory.set_listener(self.handlers.inventory_listener("ec2"))
        tasks.create_task(Controller("Resource", self.handlers.resources, reconciler.reconcile).run())
        tasks.create_task(Controller("locks", self.handlers.lock_tags, lock_tags.reconcile).run())
        tasks.create_task(delays.run())

    def _group(self, name: str, account: str) -> None:
        self.fleet.add(Group("ec2", account, REGION, name), SIZE)
        self.spans[name] = spans = []
        at = self.chance.uniform(5, 30)
        while at < SECONDS - 60:
            end = at + self.chance.uniform(15, 60)
            spans.append((at, end))
            at = end + self.chance.choice((0, self.chance.uniform(10, 40), -self.chance.uniform(1, 10)))
        if self.chance.random() < 0.5:
            spans.append((SECONDS - 20, 9999))
        meta = {"namespace": f"ns{len(self.spans) % 4}", "resourceVersion": "1", "generation": 1}
        made = {"metadata": {"name": name, "uid": name, **meta}, "spec": {"tag": name, "account": account}}
        self.informers.resources.apply(RESOURCE.adapter.validate_python(made))
        for number, (start, end) in enumerate(spans):
            booking = f"{name}-{number}"
            times = {"start_at": at_text(round(start, 3)), "end_at": at_text(round(end, 3))}
            spec = {"resource_name": name, "user_id": "ada", **times}
            whole = {"metadata": {"name": booking, "uid": booking, **meta}, "spec": spec}
            self.informers.bookings.apply(BOOKING.adapter.validate_python(whole))

    def booked(self, tag: str, seconds: float) -> bool:
        return any(round(start, 3) <= seconds < round(end, 3) for start, end in self.spans[tag])

    def look(self) -> dict[str, InstanceState]:
        """The instances that are not in the booked state."""
        now, wanted = self.fleet.now(), {True: InstanceState.RUNNING, False: InstanceState.STOPPED}
        states = {id_: (machine.group.tag, machine.at(now)) for id_, machine in self.fleet.machines.items()}
        return {id_: at for id_, (tag, at) in states.items() if at is not wanted[self.booked(tag, now)]}

    def stopped_while_booked(self) -> list[str]:
        found = []
        for stop in self.fleet.stops:
            at = (stop.at - self.clock.epoch).total_seconds()
            tag = stop.group.tag
            if self.booked(tag, at) and self.booked(tag, at - ON_ITS_WAY.total_seconds()):
                found.append(f"{stop.id} at {at}")
        return found


def survived(seed: int, throttled: float, reset: float, lag: float, *down: str, calm: float) -> Harness:
    async def scenario(harness: Harness) -> None:
        fleet = harness.fleet
        fleet.throttled, fleet.reset, fleet.lag = throttled, reset, lag
        fleet.down |= set(down)
        await asyncio.sleep(SECONDS)
        fleet.throttled = fleet.reset = fleet.lag = 0
        fleet.down.clear()
        await asyncio.sleep(calm)
        harness.wrong = harness.look()

    made: list[Harness] = []

    def make(tasks: TaskGroup) -> Harness:
        made.append(Harness(tasks, seed))
        return made[0]

    virtual.play(make, scenario)
    return made[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_after_the_storm_all_groups_are_as_booked_and_no_booked_instance_was_stopped(seed: int) -> None:
    harness = survived(seed, 0.3, 0.05, 5, DOWN, calm=90)
    assert harness.stopped_while_booked() == []
    assert harness.wrong == {}


def test_without_faults_each_boundary_needs_few_calls() -> None:
    harness = survived(7, 0, 0, 0, calm=30)
    assert harness.stopped_while_booked() == []
    assert harness.wrong == {}
    boundaries = sum(len(spans) for spans in harness.spans.values())
    assert harness.fleet.calls["StartInstances"] <= boundaries
    assert harness.fleet.calls["DescribeInstances"] <= 600 / 1.5 * 2 + boundaries * 2
