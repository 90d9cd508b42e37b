"""Which Resources require which, and on which timelines their bookings are."""

from datetime import timedelta

from booking_operator.api.resource import ResourceStatus
from booking_operator.engine.store import Key
from booking_operator.reconcilers.requirements import MAX_REQUIRED
from tests.reconcilers.test_acceptances import World
from tests.support.environment import FakeStatus
from tests.support.virtual import EPOCH


def key(name: str) -> Key:
    return Key("ns", name)


def required(world: World, name: str) -> dict[str, float]:
    """The required Resources of a Resource, each with its lead in seconds."""
    found = world.informers.closure(key(name)).required
    return {item.key.name: item.lead.total_seconds() for item in found}


def cycle(world: World, name: str) -> tuple[str, ...]:
    resource = world.informers.resources.get(key(name))
    assert resource is not None
    return world.informers.requirements.cycle(resource)


def booked(world: World, name: str) -> list[tuple[str, float, float, str]]:
    """The bookings on the timeline of a Resource: name, start and end in seconds, and the booked Resource."""
    resource = world.informers.resources.get(key(name))
    assert resource is not None
    return sorted(
        (item.name, item.start_at.timestamp(), item.end_at.timestamp(), item.booked_resource)
        for item in world.informers.timeline(resource)
    )


def chain() -> World:
    """`app` requires `web` and `cache`, and both require `db`."""
    world = World()
    world.resource("db", warm_up="5s")
    world.resource("cache", requires=["db"], warm_up="20s")
    world.resource("web", requires=["db"], warm_up="10s")
    world.resource("app", requires=["web", "cache"], warm_up="1s")
    return world


def test_the_lead_is_the_longest_chain_of_warm_ups() -> None:
    world = chain()
    assert required(world, "app") == {"cache": 1, "web": 1, "db": 21}
    assert required(world, "web") == {"db": 10}
    assert required(world, "db") == {}
    assert {item.name for item in world.informers.requirements.all_dependents(key("db"))} == {
        "app",
        "web",
        "cache",
    }


def test_a_booking_is_on_the_timelines_of_all_required_resources() -> None:
    world = chain()
    world.book("b", 100, 200, "app")
    start, end = (world.booking("b").interval().span.start, world.booking("b").interval().span.end)  # type: ignore[union-attr]
    first, last = start.timestamp(), end.timestamp()
    assert booked(world, "app") == [("b", first, last, "")]
    assert booked(world, "web") == [("b", first - 1, last, "app")]
    assert booked(world, "db") == [("b", first - 21, last, "app")]
    world.book("b", 100, 200, "web")
    assert booked(world, "app") == booked(world, "cache") == []
    assert booked(world, "db") == [("b", first - 10, last, "web")]
    world.delete("b")
    assert booked(world, "db") == []
    assert world.informers.introspect()["timelines"] == set()


def test_a_lead_takes_no_lock_from_an_earlier_booking() -> None:
    """The lead of a booking is like a warm-up. Until then the exclusive `db` belongs to another booking."""
    world = World()
    world.resource("db")
    world.resource("web", requires=["db"], warm_up="60s")
    world.book("d", 150, 200, "db")
    world.book("w", 200, 300, "web")
    db = world.informers.resources.get(key("db"))
    assert db is not None
    holders = [world.informers.holder(db, EPOCH + timedelta(seconds=second)) for second in (145, 170, 250)]
    assert [holder.name for holder in holders if holder] == ["w", "d", "w"]


def test_bookings_move_when_requirements_or_warm_ups_change() -> None:
    world = chain()
    world.book("b", 100, 200, "app")
    first = world.booking("b").interval().start_at.timestamp()  # type: ignore[union-attr]
    world.resource("cache", requires=["db"], warm_up="60s")
    assert booked(world, "db")[0][1] == first - 61
    world.resource("cache")
    assert booked(world, "db")[0][1] == first - 11
    world.resource("web")
    assert booked(world, "db") == []
    assert booked(world, "cache")[0][1] == first - 1
    world.informers.resources.delete(key("app"))
    assert booked(world, "cache") == []
    world.resource("app", requires=["db"])
    assert booked(world, "db") == [("b", first, first + 100, "app")]


def test_a_learned_warm_up_moves_the_bookings_of_required_resources() -> None:
    world = World()
    world.resource("db")
    world.resource("web", requires=["db"], warm_up="auto")
    world.book("b", 1000, 2000, "web")
    before = booked(world, "db")[0][1]
    found = world.informers.resources.get(key("web"))
    assert found is not None
    FakeStatus(world.informers.resources).set(found, ResourceStatus(warm_up="45s"))
    assert booked(world, "db")[0][1] == before + 120 - 45


def test_an_ad_hoc_booking_books_required_resources_too() -> None:
    world = World()
    world.resource("db")
    until = "2100-01-01T00:00:00Z"
    world.resource("web", requires=["db"], booked_by="ada", booked_until=until)
    assert [(name, via) for name, _, _, via in booked(world, "db")] == [("", "web")]
    db = world.informers.resources.get(key("db"))
    assert db is not None
    now = EPOCH + timedelta(hours=1)
    assert world.informers.holder(db, now) is not None
    world.resource("web", requires=["db"])
    assert booked(world, "db") == []
    assert world.informers.holder(db, now) is None


def test_cycles_are_found_and_bookings_are_placed_once() -> None:
    world = World()
    world.resource("self", requires=["self"])
    world.resource("a", requires=["b"])
    world.resource("b", requires=["c"])
    world.resource("c", requires=["a"])
    world.resource("outside", requires=["a"])
    assert cycle(world, "self") == ("self", "self")
    assert cycle(world, "a") == ("a", "b", "c", "a")
    assert cycle(world, "b") == ("b", "c", "a", "b")
    assert cycle(world, "outside") == ()
    assert required(world, "a") == {"b": 0, "c": 0}
    timeouts = [world.informers.closure(key(name)).timeout for name in ("a", "self", "outside")]
    assert timeouts == [timedelta(0), timedelta(0), timedelta(minutes=10)]
    world.book("x", 10, 20, "a")
    world.book("y", 10, 20, "outside")
    assert [name for name, *_ in booked(world, "a")] == ["x", "y"]
    assert [name for name, *_ in booked(world, "c")] == ["x", "y"]


def test_a_required_resource_need_not_exist() -> None:
    world = World()
    world.resource("web", requires=["db"])
    world.book("b", 10, 20, "web")
    assert required(world, "web") == {"db": 0}
    world.resource("db")
    assert [name for name, *_ in booked(world, "db")] == ["b"]


def test_a_chain_may_be_longer_than_the_stack_of_python() -> None:
    world = World()
    for number in reversed(range(1100)):
        world.resource(f"r{number}", requires=[f"r{number + 1}"])
    closures = [world.informers.closure(key(f"r{number}")) for number in (0, 500, 1035, 1036)]
    assert [closure.too_many for closure in closures] == [True, True, True, False]
    assert [len(closure.required) for closure in closures] == [MAX_REQUIRED] * 4
    nearest = [key(f"r{number}") for number in range(1, MAX_REQUIRED + 1)]
    assert [item.key for item in closures[0].required] == sorted(nearest)


def test_a_wide_and_deep_graph_is_read_quickly() -> None:
    """Eight layers of six Resources, each of which requires the whole next layer: more than 10^6 ways."""
    world = World()
    for layer in reversed(range(8)):
        for number in range(6):
            below = [f"r{layer + 1}-{other}" for other in range(6)] if layer < 7 else []
            world.resource(f"r{layer}-{number}", requires=below, warm_up="1s")
    found = world.informers.closure(key("r0-0")).required
    assert len(found) == 7 * 6
    assert max(item.lead for item in found) == timedelta(seconds=7)
