"""`warm_up: auto` learns from starts, and does not stop instances that it has just started."""

import asyncio
from typing import Any

from booking_operator.engine.store import Key
from tests.reconcilers.test_resource import BOTH, played
from tests.support.environment import Act, World


def status(world: World) -> Any:
    found = world.informers.resources.get(Key("ns", "res"))
    assert found is not None
    return found.status


def bookings(world: World, boot: float) -> None:
    world.driver.boot_seconds = boot
    for number in range(1, 4):
        world.booking(f"b{number}", number * 1000, number * 1000 + 300)


def test_the_first_start_uses_the_default_and_the_next_the_measured_time() -> None:
    world = played(seconds=3400, before=lambda world: bookings(world, 33), warm_up="auto")
    starts = [act.at for act in world.driver.acts if act.verb == "start"]
    assert starts == [880, 1965, 2965]
    assert status(world).warm_up == "35s"
    assert status(world).start_seconds == (33, 33, 33)


def test_a_new_warm_up_is_not_used_while_it_would_stop_started_instances() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(990)
        assert status(world).start_seconds == (33,)
        assert status(world).warm_up == "2m"
        await asyncio.sleep(320)
        assert status(world).warm_up == "35s"

    world = played(scenario, seconds=1400, before=lambda world: bookings(world, 33), warm_up="auto")
    assert world.driver.acts == [Act("start", BOTH, 880), Act("stop", BOTH, 1300)]


def test_a_slow_group_starts_earlier_the_next_time() -> None:
    world = played(seconds=2100, before=lambda world: bookings(world, 250), warm_up="auto")
    assert [act.at for act in world.driver.acts if act.verb == "start"] == [880, 1750]


def test_a_fixed_warm_up_learns_nothing() -> None:
    world = played(seconds=1400, before=lambda world: bookings(world, 33), warm_up="60s")
    assert (status(world).warm_up, status(world).start_seconds) == ("", ())


def test_starts_by_other_users_are_not_measured() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(500)
        for id_ in BOTH:
            world.driver.instances[id_] = world.driver.instances[id_].RUNNING
        world.driver.view = world.driver.look(world.clock.now())

    world = played(scenario, seconds=1200, before=lambda w: bookings(w, 33), warm_up="auto", unbooked="Leave")
    assert status(world).start_seconds == ()
