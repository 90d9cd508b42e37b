"""The order of starts and stops, on virtual time: `web` (EC2) requires `db` (RDS)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from booking_operator.api.kinds import BOOKING
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.store import Key
from booking_operator.reconcilers.event_handlers import EventHandlers
from tests.support import virtual
from tests.support.environment import REGION, Act, FakeDriver, World, at_text

DB, WEB = Key("ns", "db"), Key("ns", "res")


class Chain(World):
    """`res` requires `db`. The instances of `db` boot for 30 s."""

    def __init__(self, *, db: dict[str, Any], **spec: Any) -> None:
        super().__init__(requires=["db"], **spec)
        self.db = FakeDriver(self.clock, {"db:d": InstanceState.STOPPED}, boot_seconds=30)
        drivers: Any = self.environment.drivers
        drivers["rds"] = self.db
        self.handlers = EventHandlers(self.informers, self.clock)
        self.handlers.resources = self.queue
        self.handlers.subscribe()
        self.db.changed = lambda: self.handlers.group_changed(Group("rds", "", REGION, "db"))
        self.driver.changed = lambda: self.handlers.group_changed(Group("ec2", "", REGION, "web"))
        if db is not MISSING:
            self.resource("db", **{"tag": "db", "type": "rds", **db})

    def book(self, name: str, start: float, end: float, resource: str = "res") -> None:
        spec = {
            "resource_name": resource,
            "user_id": "ada",
            "start_at": at_text(start),
            "end_at": at_text(end),
        }
        made = BOOKING.adapter.validate_python({"metadata": self._meta(name, 1), "spec": spec})
        self.informers.bookings.apply(made)

    def message(self, name: str) -> str:
        return next(item.message for item in self.shown(name).conditions if item.type == "Ready")


MISSING: dict[str, Any] = {}


def played(
    scenario: Callable[[Chain], Awaitable[None]] | None = None,
    seconds: float = 1000,
    db: dict[str, Any] | None = None,
    **spec: Any,
) -> Chain:
    async def main() -> Chain:
        world = Chain(db={"warm_up": "0s"} if db is None else db, **spec)
        world.book("b", 100, 200)
        running = asyncio.ensure_future(world.run(seconds))
        if scenario:
            await scenario(world)
        await running
        return world

    return virtual.run(main())


def test_the_required_resource_starts_first_and_stops_last() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(110)
        assert world.conditions("res")["Ready"] == ("False", "WaitingForRequired")
        text = "The start of i-1, i-2 waits for db, of which 0 of 1 instances are ready. It is sent at "
        assert world.message("res").startswith(text)

    world = played(scenario)
    assert world.db.acts == [Act("start", ("db:d",), 100), Act("stop", ("db:d",), 200)]
    assert world.driver.acts == [Act("start", ("i-1", "i-2"), 130), Act("stop", ("i-1", "i-2"), 200)]


def test_a_warm_up_of_the_required_resource_lets_both_be_on_time() -> None:
    late: list[tuple[Any, ...]] = []
    world = played(db={"warm_up": "35s"}, warm_up="10s", late=lambda *about: late.append(about))
    assert world.db.acts[0] == Act("start", ("db:d",), 55)
    assert world.driver.acts[0] == Act("start", ("i-1", "i-2"), 90)
    assert {round(about[2], 3) for about in late} == {0}


def test_a_wait_is_not_a_late_start() -> None:
    late: list[tuple[Any, ...]] = []
    world = played(late=lambda *about: late.append(about))
    assert world.driver.acts[0].at == 130
    assert {round(about[2], 3) for about in late} == {0}


def test_the_stop_waits_until_the_dependent_has_stopped() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.driver.shutdown_seconds = 25
        await asyncio.sleep(60)
        assert world.conditions("db")["Ready"] == ("False", "WaitingForDependents")
        assert "res (i-1, i-2), which must stop first" in world.message("db")

    world = played(scenario)
    assert world.driver.acts[-1] == Act("stop", ("i-1", "i-2"), 200)
    assert world.db.acts[-1] == Act("stop", ("db:d",), 225)


def test_a_dependent_that_never_stops_is_waited_for_until_the_timeout() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.driver._act = lambda *_: None  # type: ignore[method-assign]

    world = played(scenario, requires_timeout="2m")
    assert world.db.acts[-1] == Act("stop", ("db:d",), 320)


@pytest.mark.parametrize(
    ("db", "problem"),
    [
        ({"suspend": True}, "db, of which 0 of 1 instances are ready and which is suspended"),
        (MISSING, "db, which does not exist"),
        ({"requires": ["res"]}, ""),
    ],
)
def test_a_required_resource_with_a_problem_is_waited_for_until_the_timeout(
    db: dict[str, Any], problem: str
) -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(110)
        if problem:
            assert world.conditions("res")["Ready"] == ("False", "RequiredUnavailable")
            assert problem in world.message("res")
        else:
            assert world.conditions("res")["Valid"] == ("False", "RequiresCycle")
            assert world.conditions("db")["Valid"] == ("False", "RequiresCycle")

    world = played(scenario, db=db, requires_timeout="1m")
    starts = [act.at for act in world.driver.acts if act.verb == "start"]
    assert starts == ([160] if problem else [])
    assert world.db.acts == []


def test_the_problem_is_solved_and_the_start_follows() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(120)
        world.resource("db", tag="db", type="rds")

    world = played(scenario, db={"suspend": True})
    assert world.db.acts[0] == Act("start", ("db:d",), 120)
    assert world.driver.acts[0] == Act("start", ("i-1", "i-2"), 150)


def test_what_runs_already_is_not_waited_for() -> None:
    """A booking of `db` itself has started it, so `web` starts on time."""

    async def scenario(world: Chain) -> None:
        world.book("own", 10, 400, "db")

    world = played(scenario)
    assert world.driver.acts == [Act("start", ("i-1", "i-2"), 100), Act("stop", ("i-1", "i-2"), 200)]
    assert world.db.acts == [Act("start", ("db:d",), 10), Act("stop", ("db:d",), 400)]


def test_a_booking_that_is_deleted_stops_both_in_order() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.informers.bookings.delete(Key("ns", "b"))

    world = played(scenario)
    assert [act.verb for act in world.driver.acts] == ["start", "stop"]
    assert world.db.acts[-1].verb == "stop"
    assert 150 <= world.driver.acts[-1].at <= world.db.acts[-1].at < 160


def test_an_instance_that_stopped_by_itself_is_started_again_at_once() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.driver._show("i-1", InstanceState.STOPPED)

    world = played(scenario)
    assert world.driver.acts[1] == Act("start", ("i-1",), 150)


def test_a_delay_of_another_booking_of_the_required_resource_delays_nothing() -> None:
    async def main() -> Chain:
        world = Chain(db={})
        world.db.queue_seconds = 60
        world.book("own", 100, 200, "db")
        world.book("later", 2000, 3000)
        running = asyncio.ensure_future(world.run(70))
        await asyncio.sleep(60)
        assert {item.type for item in world.shown("db").conditions} >= {"Delayed"}
        assert "Delayed" not in {item.type for item in world.shown("res").conditions}
        await running
        return world

    virtual.run(main())


def test_the_forecast_delay_of_a_required_resource_is_one_of_the_dependent() -> None:
    async def scenario(world: Chain) -> None:
        world.db.queue_seconds = 60
        await asyncio.sleep(60)
        found = {item.type: item for item in world.shown("res").conditions}
        assert found["Delayed"].reason == "RequiredDelayed"
        assert found["Delayed"].message.startswith("The required Resource db is late")
        assert {item.type: item.reason for item in world.shown("db").conditions}["Delayed"] == "RequestLimits"

    played(scenario, seconds=70)
