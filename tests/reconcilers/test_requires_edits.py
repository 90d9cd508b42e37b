"""What edits of Resources do to the Resources that they require, on virtual time: `res` requires `db`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.resource import Resource
from booking_operator.engine.store import Key, key_of
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.requirements import MAX_REQUIRED
from tests.reconcilers.test_acceptances import World as Bookings
from tests.reconcilers.test_acceptances import operating
from tests.reconcilers.test_requires import DB, MISSING, WEB, Chain, played
from tests.support import virtual
from tests.support.environment import REGION, Act, at_text

RUNS = [Act("start", ("db:d",), 100), Act("stop", ("db:d",), 200)]
GRACE = 5


def web_of(world: Chain) -> Resource:
    found = world.informers.resources.get(WEB)
    assert found is not None
    return found


def again(old: Resource, **changes: Any) -> Resource:
    return replace(old, metadata=replace(old.metadata, resourceVersion="99999", **changes))


async def replace_web(world: Chain) -> None:
    old = web_of(world)
    world.informers.resources.delete(WEB)
    await asyncio.sleep(1)
    world.informers.resources.apply(again(old, uid="another"))


async def require_nothing_for_a_moment(world: Chain) -> None:
    world.resource("res")
    await asyncio.sleep(1)
    world.resource("res", requires=["db"])


async def break_the_spec(world: Chain) -> None:
    meta = world._meta("res", 7) | {"resourceVersion": "99999"}
    spec = {"tag": "web", "requires": ["db"], "warm_up": "nonsense"}
    made: Resource = RESOURCE.adapter.validate_python({"metadata": meta, "spec": spec})
    world.informers.resources.apply(replace(made, status=web_of(world).status))


async def break_another_field(world: Chain) -> None:
    world.resource("res", requires=["db"], warm_up="60s", time_zone="nowhere")


@pytest.mark.parametrize("edit", [replace_web, require_nothing_for_a_moment, break_the_spec])
def test_a_required_resource_runs_on(edit: Callable[[Chain], Awaitable[None]]) -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        await edit(world)

    assert played(scenario, 300, deletion_grace=GRACE).db.acts == RUNS


def test_the_stop_of_what_was_required_is_confirmed_by_the_crd_of_the_resources() -> None:
    """Nothing requires `db` any more when it stops."""

    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.informers.resources.delete(WEB)

    world = played(scenario, 300, deletion_grace=GRACE)
    assert [act.verb for act in world.db.acts] == ["start", "stop"]
    assert world.consistency.confirmed_required


def test_the_stop_of_a_resource_that_nothing_requires_is_not() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.informers.bookings.delete(Key("ns", "b"))

    world = played(scenario, 300, db=MISSING, requires_timeout="1s")
    assert [act.verb for act in world.driver.acts] == ["start", "stop"]
    assert not world.consistency.confirmed_required


def test_the_deletion_of_a_resource_stops_what_it_required_after_the_grace_period() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.informers.resources.delete(WEB)
        await asyncio.sleep(1)
        assert world.conditions("db")["Ready"] == ("False", "DeletionGrace")

    assert played(scenario, 300, deletion_grace=GRACE).db.acts[1:] == [Act("stop", ("db:d",), 150 + GRACE)]


def test_an_invalid_spec_does_not_stop_what_it_requires_in_the_warm_up() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(70)
        await break_another_field(world)

    played_ = played(scenario, 300, warm_up="60s", deletion_grace=GRACE)
    assert played_.db.acts == [Act("start", ("db:d",), 40), Act("stop", ("db:d",), 200)]


def test_a_warm_up_that_is_not_readable_stops_what_is_required_after_the_grace_period() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(70)
        await break_the_spec(world)

    starts_and_stops = [
        (act.verb, act.at) for act in played(scenario, 300, warm_up="60s", deletion_grace=GRACE).db.acts
    ]
    assert starts_and_stops == [("start", 40), ("stop", 70 + GRACE), ("start", 100), ("stop", 200)]


def test_a_required_resource_that_becomes_exclusive_ends_an_ad_hoc_booking_after_the_grace_period() -> None:
    async def main() -> Chain:
        world = Chain(db={}, booked_by="ada", booked_until=at_text(900), deletion_grace=GRACE)
        running = asyncio.ensure_future(world.run(600))
        await asyncio.sleep(300)
        world.resource("db", tag="db", type="rds", sharing="Exclusive")
        await running
        return world

    world = virtual.run(main())
    assert [act.at for act in world.db.acts if act.verb == "stop"] == [300 + GRACE]


def test_an_ad_hoc_booking_of_an_exclusive_required_resource_is_refused() -> None:
    async def main() -> Chain:
        world = Chain(db={"sharing": "Exclusive"}, booked_by="ada", booked_until=at_text(900))
        await world.run(20)
        return world

    world = virtual.run(main())
    assert world.conditions("res")["Valid"] == ("False", "AdHocOfExclusive")
    message = next(item.message for item in world.shown("res").conditions if item.type == "Valid")
    assert message == (
        "spec.booked_by is 'ada', but the required Resource db has sharing: Exclusive and accepts only "
        "Bookings; clear booked_by, and create a Booking."
    )
    assert world.db.acts == []


def test_a_resource_that_requires_too_many_is_refused() -> None:
    async def main() -> Chain:
        world = Chain(db={"requires": ["r0"]})
        for number in range(MAX_REQUIRED):
            world.resource(f"r{number}", tag=f"r{number}", requires=[f"r{number + 1}"])
        await world.run(20)
        return world

    world = virtual.run(main())
    assert world.conditions("db")["Valid"] == ("False", "TooManyRequired")
    assert world.conditions("r0")["Valid"] == ("True", "Accepted")
    nearest = [f"r{number}" for number in range(MAX_REQUIRED)]
    assert world.informers.required(DB) == sorted(Key("ns", name) for name in nearest)


def require_a_long_chain(world: Bookings | Chain, name: str) -> None:
    """Let a Resource that requires `db` require too many Resources as well."""
    for number in range(MAX_REQUIRED):
        world.resource(f"x{number}", tag=f"x{number}", requires=[f"x{number + 1}"])
    world.resource(name, requires=["db", "x0"])


def test_a_resource_that_requires_too_many_stops_nothing_in_progress() -> None:
    """`app` requires `res`, which requires `db`."""

    async def scenario(world: Chain) -> None:
        world.informers.bookings.delete(Key("ns", "b"))
        world.resource("app", tag="app", requires=["res"])
        world.book("a", 100, 200, "app")
        await asyncio.sleep(150)
        require_a_long_chain(world, "res")
        await asyncio.sleep(5)
        assert world.conditions("app")["Valid"] == ("False", "TooManyRequired")

    assert played(scenario, 300, deletion_grace=GRACE).db.acts == RUNS


def test_a_cycle_that_is_broken_has_the_closures_of_fresh_caches() -> None:
    """A long cycle has Resources that no edit of another one reads again."""
    world = Bookings()
    requires = {f"p{number}": [f"p{number + 1}"] for number in range(60)} | {"p60": ["w1"]}
    requires |= {f"w{number}": [f"w{number + 1}", "p55"] for number in range(1, 10)}
    for name, names in (requires | {"w10": ["p0", "p55"]}).items():
        world.resource(name, requires=names)
    world.resource("p60", requires=["w1"], launch_grace="1m")
    world.resource("w10", requires=["p55"])
    fresh = Informers(REGION)
    for item in world.informers.resources.objects():
        fresh.resources.apply(item)
    keys = [key_of(item) for item in fresh.resources.objects()]
    assert [world.informers.closure(key) for key in keys] == [fresh.closure(key) for key in keys]


async def accepted(change: Callable[[Bookings], Awaitable[None]]) -> tuple[set[str], set[str]]:
    """Return the bookings that an exclusive `db` has accepted before and after a change of the Resources.

    `w` of `web`, which requires `middle` and so `db`, was created first, and `d` of `db` conflicts with it.
    """
    world = Bookings()
    world.resource("db", sharing="Exclusive")
    world.resource("middle", requires=["db"])
    world.resource("web", requires=["middle"])
    async with operating(world):
        world.book("w", 100, 5000, "web")
        await asyncio.sleep(1)
        world.book("d", 50, 4000, "db")
        await asyncio.sleep(1)
        before = world.wanted(150, "db")
        await change(world)
        await asyncio.sleep(1)
        return before, world.wanted(150, "db")


def test_a_new_copy_of_a_resource_takes_no_accepted_booking_away() -> None:
    async def change(world: Bookings) -> None:
        world.informers.resources.delete(Key("ns", "web"))
        world.book("d", 60, 4000, "db")  # it is decided in the gap
        await asyncio.sleep(1)
        assert world.phase("d") == "CONFLICT"
        world.resource("web", requires=["db"])

    assert virtual.run(accepted(change)) == ({"w"}, {"w"})


def test_an_invalid_spec_takes_no_accepted_booking_away() -> None:
    async def change(world: Bookings) -> None:
        world.resource("web", requires=["db"], warm_up="nonsense")
        world.book("d", 60, 4000, "db")
        await asyncio.sleep(1)
        assert world.phase("d") == "CONFLICT"
        world.resource("web", requires=["db"])

    assert virtual.run(accepted(change)) == ({"w"}, {"w"})


def test_a_resource_that_requires_too_many_takes_no_accepted_booking_away() -> None:
    async def change(world: Bookings) -> None:
        world.resource("web", requires=["middle"])
        require_a_long_chain(world, "middle")
        world.book("d", 60, 4000, "db")
        await asyncio.sleep(1)
        assert world.wanted(150, "db") == {"w"}
        world.resource("web", requires=["db"])

    assert virtual.run(accepted(change)) == ({"w"}, {"w"})


def test_a_requirement_that_is_new_does_not_have_the_booking_before_it_is_accepted() -> None:
    async def main() -> None:
        world = Bookings()
        world.resource("x", sharing="Exclusive")
        world.resource("db", sharing="Exclusive")
        world.resource("web", requires=["x"])
        async with operating(world):
            world.book("d", 50, 4000, "db", user="grace")
            world.book("w", 40, 5000, "web")
            await asyncio.sleep(1)
            world.status.away = True
            world.resource("web", requires=["x", "db"])
            await asyncio.sleep(1)
            assert (world.wanted(150, "db"), world.wanted(150, "x")) == ({"d"}, {"w"})
            rules = world.informers.rules(Key("ns", "web"))
            assert not world.booking("w").is_decided(rules)
            world.status.back()
            await asyncio.sleep(1)
            assert (world.wanted(150, "db"), world.wanted(150, "x")) == ({"d"}, set())
            assert world.booking("w").is_decided(rules)

    virtual.run(main())


def test_a_resource_that_is_not_required_any_more_is_free_at_once() -> None:
    async def change(world: Bookings) -> None:
        world.resource("web")

    assert virtual.run(accepted(change)) == ({"w"}, {"d"})
