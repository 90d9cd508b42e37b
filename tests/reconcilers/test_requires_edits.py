"""What edits of Resources do to the Resources that they require, on virtual time: `res` requires `db`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.resource import Resource
from booking_operator.engine.store import Key
from booking_operator.reconcilers.requirements import MAX_REQUIRED
from tests.reconcilers.test_acceptances import World as Bookings
from tests.reconcilers.test_acceptances import operating
from tests.reconcilers.test_requires import DB, WEB, Chain, played
from tests.support import virtual
from tests.support.environment import Act, at_text

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
    world.informers.resources.apply(RESOURCE.adapter.validate_python({"metadata": meta, "spec": spec}))


@pytest.mark.parametrize("edit", [replace_web, require_nothing_for_a_moment, break_the_spec])
def test_a_required_resource_runs_on(edit: Callable[[Chain], Awaitable[None]]) -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        await edit(world)

    assert played(scenario, 300, deletion_grace=GRACE).db.acts == RUNS


def test_the_deletion_of_a_resource_stops_what_it_required_after_the_grace_period() -> None:
    async def scenario(world: Chain) -> None:
        await asyncio.sleep(150)
        world.informers.resources.delete(WEB)
        await asyncio.sleep(1)
        assert world.conditions("db")["Ready"] == ("False", "DeletionGrace")

    assert played(scenario, 300, deletion_grace=GRACE).db.acts[1:] == [Act("stop", ("db:d",), 150 + GRACE)]


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
    assert world.informers.required(DB) == [Key("ns", "r0")]


async def accepted(change: Callable[[Bookings], Awaitable[None]]) -> tuple[set[str], set[str]]:
    """Return the bookings that an exclusive `db` has accepted before and after a change of the Resources.

    `w` of `web`, which requires `db`, was created first, and `d` of `db` conflicts with it.
    """
    world = Bookings()
    world.resource("db", sharing="Exclusive")
    world.resource("web", requires=["db"])
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


def test_a_resource_that_is_not_required_any_more_is_free_at_once() -> None:
    async def change(world: Bookings) -> None:
        world.resource("web")

    assert virtual.run(accepted(change)) == ({"w"}, {"d"})
