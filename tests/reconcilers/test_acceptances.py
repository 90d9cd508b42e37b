"""The acceptance of bookings by reconcilers, informers and event handlers together, on virtual time."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import booking_rules
from booking_operator.domain.acceptance import KEPT
from booking_operator.domain.booking import TimeSpan
from booking_operator.engine.controller import Controller
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import Result
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from tests.support.environment import REGION, FakeConsistency, FakeStatus, at_text, fake_environment
from tests.support.virtual import EPOCH, VirtualClock, run


class DelayedStatus(FakeStatus):
    """Holds statuses back while `away` is set, as the status writer does when the API server is away."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.waiting: dict[Key, Any] = {}

    def current(self, object_: Any) -> Any:
        key = Key(object_.metadata.namespace, object_.metadata.name)
        return self.waiting[key] if key in self.waiting else super().current(object_)

    def set(self, object_: Any, status: Any) -> None:
        if self.away:
            self.waiting[Key(object_.metadata.namespace, object_.metadata.name)] = status
        else:
            super().set(object_, status)

    def back(self) -> None:
        """Write what has waited."""
        self.away = False
        waiting, self.waiting = self.waiting, {}
        for key, status in waiting.items():
            if (found := self._store.get(key)) is not None:
                self.set(found, status)


class World:
    """One namespace with Resources and bookings. Users write, and the operator reconciles the bookings."""

    def __init__(self) -> None:
        self.informers = Informers(REGION)
        clock = VirtualClock()
        self.handlers = EventHandlers(self.informers, clock)
        self.status = DelayedStatus(self.informers.bookings)
        self.consistency = FakeConsistency()
        environment = fake_environment(
            self.informers, clock, statuses={BOOKING: self.status}, consistency=self.consistency
        )
        self.reconciler = BookingReconciler(environment)
        self.version = 0
        self.reconciled: set[Key] = set()

    async def reconcile_resource(self, key: Key) -> Result:
        self.reconciled.add(key)
        return Result()

    def _meta(self, name: str, known: Any) -> dict[str, Any]:
        self.version += 100
        meta = {"name": name, "namespace": "ns", "uid": f"u-{name}", "generation": self.version}
        meta |= {"resourceVersion": str(self.version), "creationTimestamp": at_text(self.version / 1000)}
        return meta if known is None else meta | {"creationTimestamp": known.metadata.creation_timestamp}

    def resource(self, name: str = "res", **spec: Any) -> None:
        known = self.informers.resources.get(Key("ns", name))
        body = {"metadata": self._meta(name, known), "spec": {"tag": name, **spec}}
        self.informers.resources.apply(RESOURCE.adapter.validate_python(body))

    def book(self, name: str, start: float, end: float, resource: str = "res", user: str = "ada") -> None:
        """Create a booking, or change it. The status stays as it is."""
        known = self.informers.bookings.get(Key("ns", name))
        spec = {"resource_name": resource, "user_id": user}
        spec |= {"start_at": at_text(start), "end_at": at_text(end)}
        body = BOOKING.adapter.validate_python({"metadata": self._meta(name, known), "spec": spec})
        self.informers.bookings.apply(replace(body, status=known.status) if known else body)

    def forget_exclusive(self, name: str) -> None:
        """Make the record of a booking like that of a version that did not record the exclusive Resources."""
        found = self.booking(name)
        self.version += 100
        self.informers.bookings.apply(
            replace(
                found,
                metadata=replace(found.metadata, resourceVersion=str(self.version)),
                status=replace(found.status, accepted_exclusive=()),
            )
        )

    def delete(self, name: str) -> None:
        self.informers.bookings.delete(Key("ns", name))

    def booking(self, name: str) -> Booking:
        found = self.informers.bookings.get(Key("ns", name))
        assert found is not None
        return found

    def phase(self, name: str) -> str:
        return self.booking(name).status.status

    def condition(self, name: str, type_: str) -> tuple[str, str]:
        conditions = self.booking(name).status.conditions
        return next(((item.status, item.reason) for item in conditions if item.type == type_), ("", ""))

    def wanted(self, at: float, resource: str = "res") -> set[str]:
        """The bookings for which the instances of a Resource run at an instant."""
        found = self.informers.resources.get(Key("ns", resource))
        assert found is not None
        now = EPOCH + at * SECOND
        return {item.name for item in self.informers.timeline(found).active(now)}


SECOND = KEPT / 86400


async def until(second: float) -> None:
    await asyncio.sleep(second - asyncio.get_running_loop().time())


@asynccontextmanager
async def operating(world: World) -> AsyncIterator[None]:
    """Reconcile the bookings of a world."""
    world.handlers.subscribe()
    controllers = (
        Controller("bookings", world.handlers.bookings, world.reconciler.reconcile),
        Controller("resources", world.handlers.resources, world.reconcile_resource),
    )
    tasks = [asyncio.ensure_future(controller.run()) for controller in controllers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        world.handlers.unsubscribe()


async def settled() -> None:
    await asyncio.sleep(0.01)


def test_a_conflict_is_accepted_when_the_other_booking_ends_without_a_gap() -> None:
    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        async with operating(world):
            world.book("a", 100, 200)
            world.book("b", 150, 300, user="grace")
            await settled()
            assert (world.phase("a"), world.phase("b")) == ("SCHEDULED", "CONFLICT")
            assert world.condition("b", "Accepted") == ("False", "Conflict")
            await until(189)
            assert (world.phase("a"), world.phase("b")) == ("IN PROGRESS", "CONFLICT")
            assert world.wanted(189) == {"a"}
            await until(191)  # the next boundary then is the end of b
            assert (world.phase("b"), world.condition("b", "Accepted")) == ("SCHEDULED", ("True", "Accepted"))
            assert (world.wanted(199.9), world.wanted(200)) == ({"a"}, {"b"})
            status = world.booking("b").status
            assert (status.accepted_from, status.accepted_until) == (
                "2026-01-01T09:03:20Z",
                "2026-01-01T09:05:00Z",
            )
            await until(200.01)
            assert (world.phase("a"), world.phase("b")) == ("FINISHED", "IN PROGRESS")
            await until(300.01)
            assert world.phase("b") == "FINISHED"

    run(main())


@pytest.mark.parametrize("how", ["release", "delete", "move", "share", "invalid"])
def test_a_conflict_is_accepted_when_the_time_becomes_free(how: str) -> None:
    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        world.resource("other", sharing="Exclusive")
        async with operating(world):
            world.book("a", 100, 200)
            await settled()
            world.book("b", 150, 300)
            await until(120)
            assert world.phase("b") == "CONFLICT"
            match how:
                case "release":
                    world.book("a", 100, 125)
                case "delete":
                    world.delete("a")
                case "move":
                    world.book("a", 100, 200, resource="other")
                case "share":
                    world.resource(sharing="Shared")
                case "invalid":
                    world.book("a", 100, 90)
            await settled()
            assert world.phase("b") == "SCHEDULED"
            assert "b" in world.wanted(160)
            if how == "share":
                assert world.wanted(160) == {"a", "b"}
                assert world.booking("a").status.accepted_until == ""
                assert world.condition("b", "Accepted") == ("", "")
            if how == "move":
                assert world.wanted(160, "other") == {"a"}

    run(main())


def test_an_extension_never_pushes_out_an_accepted_booking() -> None:
    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        async with operating(world):
            world.book("a", 0, 200)
            world.book("b", 200, 300)
            await settled()
            world.book("a", 0, 250)
            await settled()
            assert (world.phase("a"), world.condition("a", "Accepted")) == (
                "IN PROGRESS",
                ("False", "Conflict"),
            )
            assert (world.wanted(199), world.wanted(201)) == ({"a"}, {"b"})
            await until(200.01)
            assert (world.phase("a"), world.phase("b")) == ("CONFLICT", "IN PROGRESS")

    run(main())


def test_nothing_runs_for_a_booking_before_its_acceptance_is_stored() -> None:
    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        async with operating(world):
            world.status.away = True
            world.book("a", 0, 200)
            world.book("b", 100, 300)
            await settled()
            assert world.wanted(1) == set()
            world.reconciled.clear()
            world.status.back()
            await settled()
            assert (world.wanted(1), world.phase("b")) == ({"a"}, "CONFLICT")
            assert world.reconciled == {Key("ns", "res")}

    run(main())


def test_nothing_is_accepted_on_stale_data() -> None:
    """A replica that has just taken over may not know what the one before has accepted."""

    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        world.consistency.stale = "bookings were not listed since the take-over"
        async with operating(world):
            world.book("a", 0, 200)
            await settled()
            assert world.wanted(1) == set()
            assert world.condition("a", "Accepted") == ("False", "Pending")
            world.consistency.stale = ""
            await asyncio.sleep(5)  # the back-off
            assert world.wanted(1) == {"a"}
            world.consistency.stale = "a list failed"
            world.book("a", 0, 100)  # a shorter booking needs nothing
            await settled()
            assert world.booking("a").status.accepted_until == "2026-01-01T09:01:40Z"

    run(main())


def test_a_record_of_an_older_version_stays_on_stale_data() -> None:
    """A record that does not name the exclusive Resources is completed when the caches are complete."""

    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        async with operating(world):
            world.book("a", 0, 200)
            await settled()
            world.consistency.stale = "a relist is pending"
            world.forget_exclusive("a")
            await settled()
            assert world.wanted(1) == {"a"}
            assert world.booking("a").status.accepted_exclusive == ()
            world.consistency.stale = ""
            await asyncio.sleep(5)  # the back-off
            assert world.wanted(1) == {"a"}
            assert world.booking("a").status.accepted_exclusive == ("res",)

    run(main())


def test_a_booking_that_waits_for_complete_caches_is_not_decided() -> None:
    """The instances of a Resource that becomes exclusive run on until its bookings are decided."""

    async def main() -> None:
        world = World()
        world.resource()
        async with operating(world):
            world.book("a", 0, 200)
            await settled()
            world.consistency.stale = "a relist is pending"
            world.resource(sharing="Exclusive")
            await settled()
            assert world.condition("a", "Accepted") == ("False", "Pending")
            assert not world.booking("a").is_decided(world.informers.rules(Key("ns", "res")))
            world.consistency.stale = ""
            await asyncio.sleep(5)
            assert world.booking("a").is_decided(world.informers.rules(Key("ns", "res")))

    run(main())


def test_records_survive_a_resource_that_is_invalid_for_a_while() -> None:
    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        async with operating(world):
            world.book("old", 500, 600)
            await settled()
            world.book("young", 100, 200)
            await settled()
            world.book("old", 100, 200)
            await settled()
            assert (world.phase("old"), world.phase("young")) == ("CONFLICT", "SCHEDULED")
            world.resource(sharing="Exclusive", time_zone="Europe/Berlinn")
            await settled()
            world.resource(sharing="Exclusive")
            await settled()
            assert (world.phase("old"), world.phase("young")) == ("CONFLICT", "SCHEDULED")

    run(main())


def test_a_first_limit_does_not_end_what_is_in_progress() -> None:
    async def main() -> None:
        world = World()
        world.resource()
        async with operating(world):
            world.book("a", 0, 600)
            world.book("later", 100, 700)
            await until(1)
            world.resource(max_duration="5m")
            await settled()
            assert world.wanted(200) == {"a"}
            assert world.condition("a", "Valid") == ("True", "Accepted")
            assert world.condition("later", "Valid") == ("False", "TooLong")

    run(main())


def test_a_booking_that_ends_without_acceptance_is_finished() -> None:
    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        async with operating(world):
            world.book("a", 0, 500)
            world.book("b", 100, 200)
            await until(150)
            assert world.condition("b", "HoldsLock") == ("False", "Conflict")
            await until(200.01)
            assert (world.phase("b"), world.condition("b", "Accepted")) == ("FINISHED", ("", ""))

    run(main())


def test_records_survive_a_resource_that_is_created_again() -> None:
    async def main() -> None:
        world = World()
        world.resource(sharing="Exclusive")
        async with operating(world):
            world.book("a", 100, 200)
            await settled()
            world.book("b", 50, 150)
            world.delete("a")
            await settled()
            world.book("a", 100, 200)
            await settled()
            assert world.phase("b") == "SCHEDULED"
            world.informers.resources.delete(Key("ns", "res"))
            await settled()
            world.resource(sharing="Exclusive")
            await settled()
            assert (world.phase("a"), world.phase("b")) == ("CONFLICT", "SCHEDULED")

    run(main())


def test_a_limit_that_is_lowered_takes_no_time_away() -> None:
    async def main() -> None:
        world = World()
        world.resource(max_duration="10m")
        async with operating(world):
            world.book("a", 0, 600)
            world.book("long", 0, 601)
            await settled()
            assert world.wanted(1) == {"a"}
            assert world.condition("long", "Valid") == ("False", "TooLong")
            world.resource(max_duration="5m")
            await settled()
            assert world.condition("a", "Valid") == ("True", "Accepted")
            world.book("a", 0, 700)
            await settled()
            assert world.condition("a", "Valid") == ("False", "TooLong")
            assert (world.wanted(599), world.wanted(600)) == ({"a"}, set())
            world.resource(max_duration="15m")
            await settled()
            assert world.wanted(600) == {"a", "long"}

    run(main())


def test_a_booking_too_far_ahead_becomes_valid_by_itself() -> None:
    async def main() -> None:
        world = World()
        world.resource(max_ahead="10m")
        async with operating(world):
            world.book("a", 700, 800)
            await settled()
            assert world.condition("a", "Valid") == ("False", "TooFarAhead")
            await until(100.01)
            assert world.condition("a", "Valid") == ("True", "Accepted")

    run(main())


# Whatever the order of the events

SECONDS = st.integers(0, 60)
NAMES = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("book"), NAMES, SECONDS, st.integers(1, 30), st.sampled_from(["res", "other", "third"])
        ),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(
            st.just("resource"),
            st.sampled_from(["res", "other", "third"]),
            st.sampled_from(["Shared", "Exclusive"]),
            st.sets(st.sampled_from(["res", "other", "third"])).map(sorted),
            st.sampled_from(["0s", "5s"]),
        ),
        st.tuples(st.just("limit"), st.sampled_from(["res", "other", "third"])),
        st.tuples(st.just("remove"), st.sampled_from(["res", "other", "third"])),
        st.tuples(st.just("away")),
        st.tuples(st.just("back")),
        st.tuples(st.just("wait"), st.integers(1, 20)),
    ),
    max_size=25,
)


def do(world: World, what: str, *arguments: Any) -> None:
    match what, arguments:
        case "book", (name, start, length, resource):
            world.book(name, start, start + length, resource)
        case "delete", (name,):
            if world.informers.bookings.get(Key("ns", name)):
                world.delete(name)
        case "resource", (name, sharing, requires, warm_up):
            world.resource(name, sharing=sharing, requires=requires, warm_up=warm_up)
        case "limit", (name,):
            world.resource(name, max_duration="1m")
        case "remove", (name,):
            if world.informers.resources.get(Key("ns", name)):
                world.informers.resources.delete(Key("ns", name))
        case "away", _:
            world.status.away = True
        case "back", _:
            world.status.back()


@given(STEPS)
def test_timelines_and_decisions_are_those_of_fresh_informers(steps: list[tuple[Any, ...]]) -> None:
    """A replica that has seen each change knows the same as one that lists everything now."""

    async def main() -> None:
        world = World()
        async with operating(world):
            for what, *arguments in steps:
                do(world, what, *arguments)
                await asyncio.sleep(arguments[0] if what == "wait" else 0.01)
                check(world)
            world.status.back()
            await asyncio.sleep(10)
            check(world)
            check_overlaps(world)
            await check_settled(world)

    run(main())


def check(world: World) -> None:
    """Compare the timelines with those of informers that list everything now, and look for overlaps."""
    fresh = Informers(REGION)
    fresh.bookings.replace(world.informers.bookings.objects())
    fresh.resources.replace(world.informers.resources.objects())
    for resource in fresh.resources.objects():
        known, listed = world.informers.timeline(resource), fresh.timeline(resource)
        assert {item for item in known if item.end_at > now()} == {
            item for item in listed if item.end_at > now()
        }
    # New requirements may let accepted intervals overlap, until all bookings are decided again.
    if not any(resource.requires for resource in fresh.resources.objects()):
        check_overlaps(world)


def check_overlaps(world: World) -> None:
    """Look for accepted bookings of an exclusive Resource that overlap."""
    informers = world.informers
    spans: dict[Key, list[TimeSpan]] = {}
    for booking in informers.bookings.objects():
        counted = informers.counted(booking)
        for key, _ in informers.booked_resources(booking) if counted and counted.end_at > now() else ():
            resource = informers.resources.get(key)
            if counted and resource is not None and booking_rules(resource).exclusive:
                spans.setdefault(key, []).append(counted.span)
    for found in spans.values():
        for one, other in itertools.pairwise(sorted(found)):
            assert not one.overlaps(other), "accepted bookings overlap"


async def check_settled(world: World) -> None:
    """Check that a second operator, which knows nothing but the objects, decides the same."""
    before, other = statuses(world), World()
    other.informers.resources.replace(world.informers.resources.objects())
    other.informers.bookings.replace(world.informers.bookings.objects())
    async with operating(other):
        await settled()
    assert statuses(other) == before


def statuses(world: World) -> dict[str, Any]:
    """What is accepted of the bookings that have not ended. Nobody looks at the others again."""
    return {
        item.metadata.name: (
            item.status.acceptance,
            item.status.status,
            *(world.condition(item.metadata.name, type_) for type_ in ("Valid", "Accepted")),
        )
        for item in world.informers.bookings.objects()
        if item.interval() is None or item.status.status != "FINISHED"
    }


def now() -> Any:
    return VirtualClock().now()
