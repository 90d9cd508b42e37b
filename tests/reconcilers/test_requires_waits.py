"""How long starts and stops wait for other Resources, on virtual time.

`res` requires `db`. In a `Fleet`, `app` requires `web`, and `web` requires `db`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from booking_operator.api.kinds import BOOKING
from booking_operator.cloud.driver import CloudError, Order
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import InstanceState, Lock, Observation
from booking_operator.engine.store import Key
from booking_operator.reconcilers.event_handlers import EventHandlers
from tests.reconcilers.test_requires import Chain, played
from tests.support import virtual
from tests.support.environment import REGION, FakeDriver, World, at_text

TIMEOUT = 600
SUSPENDED: Mapping[str, Any] = {"suspend": True}


class Groups:
    """A driver of several groups, each with one instance that boots for 30 s."""

    def __init__(self, world: World, tags: Mapping[str, Any]) -> None:
        self.of = {
            tag: FakeDriver(world.clock, {f"i-{tag}": InstanceState.STOPPED}, boot_seconds=30) for tag in tags
        }
        self.checks = world.driver.checks
        self.inventory = self.batcher = self

    def observation(self, group: Group) -> Observation | None:
        return self.of[group.tag].observation(group)

    def failure(self, _: Scope) -> None:
        return None

    async def refresh(self, place: Scope, since: datetime) -> None:
        for driver in self.of.values():
            await driver.refresh(place, since)

    def start(self, order: Order) -> None:
        self.of[order.group.tag].start(order)

    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        self.of[order.group.tag].stop(order, hibernate=hibernate)

    def set_lock_tags(self, order: Order, lock: Any) -> None:
        self.of[order.group.tag].set_lock_tags(order, lock)

    async def expected(self, orders: Any) -> Any:
        return {order: order.deadline for order in orders}

    async def forecast(self, demands: Any) -> Any:
        return [demand.at for demand in demands]


class Fleet(World):
    """Resources that are named like their groups."""

    def __init__(self, **specs: Mapping[str, Any]) -> None:
        super().__init__()
        self.informers.resources.delete(Key("ns", "res"))
        self.groups = Groups(self, specs)
        drivers: Any = self.environment.drivers
        drivers["ec2"] = self.groups
        self.handlers = EventHandlers(self.informers, self.clock)
        self.handlers.resources = self.queue
        self.handlers.subscribe()
        for tag, driver in self.groups.of.items():
            driver.changed = partial(self.handlers.group_changed, Group("ec2", "", REGION, tag))
        for name, spec in specs.items():
            self.resource(name, **{"tag": name, **spec})

    def book(self, name: str, start: float, end: float, resource: str) -> None:
        spec = {"resource_name": resource, "user_id": "ada"}
        spec |= {"start_at": at_text(start), "end_at": at_text(end)}
        made = BOOKING.adapter.validate_python({"metadata": self._meta(name, 1), "spec": spec})
        self.informers.bookings.apply(made)

    def acts(self, verb: str) -> dict[str, float]:
        """When the instance of each group was started or stopped first."""
        return {
            tag: next(act.at for act in driver.acts if act.verb == verb)
            for tag, driver in self.groups.of.items()
            if any(act.verb == verb for act in driver.acts)
        }


def chain(
    scenario: Callable[[Fleet], Awaitable[None]], seconds: float = 3000, **specs: Mapping[str, Any]
) -> Fleet:
    async def main() -> Fleet:
        world = Fleet(**({"db": {}, "web": {"requires": ["db"]}, "app": {"requires": ["web"]}} | specs))
        running = asyncio.ensure_future(world.run(seconds))
        await scenario(world)
        await running
        return world

    return virtual.run(main())


def starts(world: Chain) -> list[float]:
    return [act.at for act in world.driver.acts if act.verb == "start"]


def test_bookings_without_a_gap_do_not_make_the_wait_longer() -> None:
    async def scenario(world: Chain) -> None:
        for number in range(1, 10):
            world.book(f"s{number}", 200 + 100 * number, 300 + 100 * number)
        world.book("s0", 200, 300)

    assert starts(played(scenario, 1500, db=dict(SUSPENDED))) == [100 + TIMEOUT]


def test_an_edit_does_not_make_the_wait_longer() -> None:
    async def scenario(world: Chain) -> None:
        world.book("long", 100, 3000)
        for second in (300, 300):
            await asyncio.sleep(second)
            world.resource("res", requires=["db"], launch_grace=f"{second}s")

    assert starts(played(scenario, 2000, db=dict(SUSPENDED))) == [100 + TIMEOUT]


def test_an_instance_that_stops_by_itself_long_after_the_start_is_not_waited_with() -> None:
    async def scenario(world: Chain) -> None:
        world.book("long", 100, 3000)
        world.book("next", 2000, 4000)
        await asyncio.sleep(2500)
        world.driver._show("i-1", InstanceState.STOPPED)

    assert starts(played(scenario, 2600, db=dict(SUSPENDED))) == [100 + TIMEOUT, 2500]


def test_the_end_of_a_suspension_begins_a_new_wait() -> None:
    async def scenario(world: Chain) -> None:
        world.book("long", 100, 5000)
        await asyncio.sleep(1000)
        world.resource("db", tag="db", type="rds")
        world.resource("res", requires=["db"])

    world = played(scenario, 2000, db=dict(SUSPENDED), suspend=True)
    assert world.db.acts[0].at == 1000
    assert starts(world) == [1030]


def test_a_restart_does_not_begin_a_new_wait() -> None:
    async def scenario(world: Chain) -> None:
        world.book("long", 100, 5000)
        await asyncio.sleep(300)
        world.reconciler._triggers.clear()

    assert starts(played(scenario, 2000, db=dict(SUSPENDED))) == [100 + TIMEOUT]


def test_a_restart_after_a_wait_does_not_begin_a_new_one() -> None:
    async def scenario(world: Chain) -> None:
        world.book("long", 100, 9000)
        world.driver.act_error = CloudError("InsufficientInstanceCapacity", "no capacity")
        await asyncio.sleep(120 + TIMEOUT)
        world.driver.act_error = None
        world.driver.acts.clear()
        world.reconciler._triggers.clear()
        world.wake()

    assert starts(played(scenario, 2000, db=dict(SUSPENDED)))[0] < 130 + TIMEOUT


def test_a_restart_begins_no_stop_before_those_that_require_it() -> None:
    """`Ready` was False before the end of the booking already, because of an instance with another lock."""

    async def scenario(world: Chain) -> None:
        world.book("long", 100, 1900)
        world.db.instances["db:e"] = InstanceState.STOPPED
        world.db.locks["db:e"] = Lock("stranger", at_text(9000))
        await asyncio.sleep(1700)
        world.driver.shutdown_seconds = 120
        await asyncio.sleep(240)
        world.reconciler._triggers.clear()
        world.handlers.group_changed(Group("rds", "", REGION, "db"))

    world = played(scenario, 3000)
    assert [act.at for act in world.db.acts if act.verb == "stop"] == [2020]


def test_a_spec_that_is_invalid_for_a_moment_does_not_begin_a_new_wait() -> None:
    async def scenario(world: Chain) -> None:
        world.book("long", 100, 9000)
        await asyncio.sleep(500)
        world.resource("res", requires=["db"], time_zone="nowhere")
        await asyncio.sleep(2)
        world.resource("res", requires=["db"])

    assert starts(played(scenario, 2000, db=dict(SUSPENDED))) == [100 + TIMEOUT]


def test_a_new_requirement_begins_a_new_wait() -> None:
    async def scenario(world: Chain) -> None:
        world.book("long", 100, 9000)
        world.resource("res")
        world.driver.instances.clear()
        await asyncio.sleep(2000)
        world.driver.instances["i-9"] = InstanceState.STOPPED
        world.driver.look_again()
        world.resource("res", requires=["db"])

    assert starts(played(scenario, 4000, db=dict(SUSPENDED))) == [2000 + TIMEOUT]


def test_a_start_waits_for_a_fresh_view_of_what_it_requires() -> None:
    """Somebody has stopped the database in the console, and the view does not have it yet."""

    async def scenario(world: Chain) -> None:
        world.db.instances["db:d"] = InstanceState.RUNNING
        await asyncio.sleep(50)
        world.db.instances["db:d"] = InstanceState.STOPPED
        await asyncio.sleep(10)
        world.book("now", 60, 500)

    world = played(scenario, db={"unbooked": "Leave"})
    assert world.db.acts[0].at == pytest.approx(60, abs=0.1)
    assert starts(world) == [pytest.approx(90, abs=0.1)]


@pytest.mark.parametrize("error", [None, CloudError("CloudUnreachable", "no route")])
def test_a_region_that_does_not_respond_delays_a_start_by_a_second(error: CloudError | None) -> None:
    async def scenario(world: Chain) -> None:
        world.db.instances["db:d"] = InstanceState.RUNNING
        await asyncio.sleep(50)
        world.db.hang, world.db.observe_error = error is None, error
        world.book("now", 60, 500)
        await asyncio.sleep(20)
        assert world.conditions("res")["Synced"] == ("True", "Synced")

    world = played(scenario, db={"unbooked": "Leave"})
    assert starts(world) == [pytest.approx(60, abs=1.1)]


def test_a_stop_does_not_wait_for_the_region_of_what_it_required() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.db.hang = True
        world.informers.bookings.delete(Key("ns", "b"))
        await asyncio.sleep(2)
        assert world.conditions("res")["Synced"] == ("True", "Synced")

    assert played(scenario, 300).driver.acts[-1].at == pytest.approx(150, abs=0.1)


def test_a_dependent_that_nobody_has_booked_delays_no_stop() -> None:
    async def main() -> Chain:
        world = Chain(db={})
        world.driver.hang = True
        world.book("own", 100, 200, "db")
        await world.run(300)
        return world

    world = virtual.run(main())
    assert [(act.verb, act.at) for act in world.db.acts] == [("start", 100), ("stop", 200)]


def test_a_dependent_that_cannot_be_observed_is_waited_for_if_it_was_booked() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.driver.hang = True
        world.driver.view = None

    world = played(scenario, 2000)
    assert world.db.acts[-1].at == 200 + TIMEOUT


def test_a_required_resource_with_a_failure_is_named_with_it() -> None:
    async def scenario(world: Chain) -> None:
        world.db.act_error = CloudError("UnauthorizedOperation", "StartDBInstance: denied.")
        await asyncio.sleep(150)
        assert world.conditions("res")["Ready"] == ("False", "RequiredUnavailable")
        assert "db, of which 0 of 1 instances are ready and which reports Unauthorized" in world.message(
            "res"
        )

    played(scenario, 180)


class TestChains:
    """`app` requires `web`, and `web` requires `db`."""

    def test_the_timeouts_of_a_chain_are_added(self) -> None:
        async def scenario(world: Fleet) -> None:
            world.groups.of["db"].boot_seconds = 700
            world.book("b", 100, 4000, "app")

        assert chain(scenario).acts("start") == {"db": 100, "web": 700, "app": 730}

    def test_the_stop_of_the_first_waits_for_both_others(self) -> None:
        async def scenario(world: Fleet) -> None:
            world.groups.of["app"].shutdown_seconds = 700
            world.groups.of["web"].shutdown_seconds = 50
            world.book("b", 100, 400, "app")

        assert chain(scenario).acts("stop") == {"app": 400, "web": 1000, "db": 1100}

    @pytest.mark.parametrize("empty", [True, False])
    def test_a_resource_in_between_with_nothing_to_do_does_not_break_the_sequence(self, empty: bool) -> None:
        async def scenario(world: Fleet) -> None:
            if empty:
                world.groups.of["web"].instances.clear()
            world.groups.of["app"].shutdown_seconds = 60
            world.book("b", 100, 400, "app")
            await asyncio.sleep(250)
            if not empty:
                world.groups.of["web"]._show("i-web", InstanceState.STOPPED)
                world.resource("web", tag="web", requires=["db"], suspend=True)

        world = chain(scenario)
        assert world.acts("start") == (
            {"db": 100, "app": 130} if empty else {"db": 100, "web": 130, "app": 160}
        )
        assert world.acts("stop") == {"app": 400, "db": 460}
