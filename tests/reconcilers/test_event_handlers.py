"""Which events enqueue which keys, and which do not: there may be tens of thousands of bookings."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import Resource
from booking_operator.engine.controller import Controller
from booking_operator.engine.store import Key, Origin
from booking_operator.engine.workqueue import Result, WorkQueue
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from tests.support import virtual
from tests.support.environment import REGION, FakeStatus, at_text, fake_environment
from tests.support.virtual import EPOCH, VirtualClock

ADA = {"type": "email", "recipient": "ada@example.com"}


def booking(
    name: str, start: float, end: float, version: int = 1, generation: int = 0, **spec: Any
) -> Booking:
    metadata = {"name": name, "namespace": "ns", "uid": f"u-{name}", "generation": generation or version}
    whole = {"resource_name": "res", "user_id": "ada", "start_at": at_text(start), "end_at": at_text(end)}
    metadata["resourceVersion"] = str(version)
    return BOOKING.adapter.validate_python({"metadata": metadata, "spec": whole | spec})


def resource(version: int = 1, generation: int = 1, **spec: Any) -> Resource:
    metadata = {"name": "res", "namespace": "ns", "uid": "u", "generation": generation}
    metadata["resourceVersion"] = str(version)
    return RESOURCE.adapter.validate_python({"metadata": metadata, "spec": {"tag": "web", **spec}})


class World:
    """One Resource with a finished, an active, and two future bookings."""

    def __init__(self) -> None:
        self.informers = Informers(REGION)
        self.handlers = EventHandlers(self.informers, VirtualClock())
        self.informers.resources.replace([resource()], Origin.INITIAL)
        spans = {"over": (-20, -10), "active": (-5, 10), "soon": (60, 90), "ahead": (1000, 2000)}
        items = [booking(name, *span) for name, span in spans.items()]
        self.informers.bookings.replace(items, Origin.INITIAL)
        self.handlers.subscribe()
        for queue in (self.handlers.bookings, self.handlers.resources, self.handlers.notifications):
            names(queue)

    def woken(self) -> set[str]:
        return set(names(self.handlers.bookings))


def names(queue: WorkQueue[Key]) -> list[str]:
    found = []
    while keys := queue.try_get():
        for key in keys:
            found.append(key.name)
            queue.done(key, Result())
    return found


@pytest.mark.parametrize(
    ("changed", "woken"),
    [
        (booking("new", 500, 600), {"new"}),
        (booking("soon", 70, 90, 2), {"soon"}),
        (booking("new", -1, 5), {"new", "active"}),
        (booking("active", 500, 600, 2), {"active"}),
        (booking("active", -5, 30, 2), {"active"}),
        (booking("soon", -1, 90, 2), {"soon", "active"}),
    ],
)
def test_a_booking_enqueues_those_whose_lock_it_can_take(changed: Booking, woken: set[str]) -> None:
    async def main() -> set[str]:
        world = World()
        world.informers.bookings.apply(changed)
        return world.woken()

    assert virtual.run(main()) == woken


def test_a_deleted_or_moved_active_booking_enqueues_the_other_active_ones() -> None:
    async def main() -> tuple[set[str], set[str]]:
        world = World()
        world.informers.bookings.apply(booking("waits", -1, 30))
        world.woken()
        world.informers.bookings.apply(booking("active", -5, 10, 2, resource_name="other"))
        moved = world.woken()
        world.informers.bookings.apply(booking("active", -5, 10, 3))
        world.woken()
        world.informers.bookings.delete(Key("ns", "active"))
        return moved, world.woken()

    assert virtual.run(main()) == ({"active", "waits"}, {"active", "waits"})


def test_warm_up_makes_a_booking_active() -> None:
    async def main() -> set[str]:
        world = World()
        world.informers.resources.apply(resource(2, 2, warm_up="2m"))
        world.woken()
        world.informers.bookings.apply(booking("new", -1, 5))
        return world.woken()

    assert virtual.run(main()) == {"new", "active", "soon"}


def test_a_resource_status_enqueues_active_bookings_and_an_edit_all_unfinished_ones() -> None:
    async def main() -> tuple[set[str], set[str]]:
        world = World()
        newer = booking("over", -20, -10, 2)
        world.informers.bookings.apply(replace(newer, status=replace(newer.status, status="FINISHED")))
        world.woken()
        known = resource(2)
        world.informers.resources.apply_own_write(replace(known, status=replace(known.status, running=1)))
        status = world.woken()
        world.informers.resources.apply(resource(3, 2, warm_up="10s"))
        return status, world.woken()

    assert virtual.run(main()) == ({"active"}, {"active", "soon", "ahead"})


def test_a_change_of_a_resource_reads_no_finished_booking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A team may have tens of thousands of bookings of one Resource."""
    looks, real = 0, Booking.interval

    def interval(self: Booking) -> Any:
        nonlocal looks
        looks += 1
        return real(self)

    async def main() -> list[set[str]]:
        nonlocal looks
        world = World()
        for number in range(1000):
            world.informers.bookings.apply(booking(f"over-{number}", -90 - number, -80))
        world.woken()
        looks = 0
        known = resource(2)
        world.informers.resources.apply_own_write(replace(known, status=replace(known.status, running=1)))
        woken = [world.woken()]
        world.informers.resources.apply(resource(3, 2, warm_up="10s"))
        woken.append(world.woken())
        world.handlers.delay_changed(Key("ns", "res"))
        return [*woken, world.woken()]

    monkeypatch.setattr(Booking, "interval", interval)
    every = {"active", "soon", "ahead"}
    assert virtual.run(main()) == [{"active"}, every, every]
    assert looks < 10


def test_a_delay_enqueues_the_bookings_of_the_next_two_hours() -> None:
    async def main() -> set[str]:
        world = World()
        world.informers.bookings.apply(booking("far", 2 * 3600 + 1, 9000))
        world.woken()
        world.handlers.delay_changed(Key("ns", "res"))
        return world.woken()

    assert virtual.run(main()) == {"active", "soon", "ahead"}


def test_only_bookings_with_notifications_are_enqueued_for_them() -> None:
    async def main() -> list[list[str]]:
        world = World()
        woken = [names(world.handlers.notifications)]
        world.informers.bookings.apply(booking("told", 5, 10, notifications=[ADA]))
        woken.append(names(world.handlers.notifications))
        world.informers.bookings.apply(booking("told", 5, 10, 2))
        woken.append(names(world.handlers.notifications))
        quiet = booking("soon", 60, 95, 2)
        world.informers.bookings.apply(replace(quiet, status=replace(quiet.status, notified=("id",))))
        return [*woken, names(world.handlers.notifications)]

    assert virtual.run(main()) == [[], ["told"], ["told"], ["soon"]]


def test_a_finished_booking_has_no_entry_in_the_queue() -> None:
    async def main() -> tuple[set[str], list[timedelta]]:
        informers, clock = Informers(REGION), VirtualClock()
        handlers = EventHandlers(informers, clock)
        handlers.subscribe()
        items = [booking("over", -20, -10), booking("ahead", 100, 200)]
        informers.bookings.replace(items, Origin.INITIAL)
        environment = fake_environment(informers, clock, statuses={BOOKING: FakeStatus(informers.bookings)})
        reconciler = BookingReconciler(environment)
        controller = Controller("test", handlers.bookings, reconciler.reconcile)
        task = asyncio.ensure_future(controller.run())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        queue = handlers.bookings
        return {key.name for key in queue._entries}, [at - EPOCH for at, _, _ in queue._timers]

    assert virtual.run(main()) == ({"ahead"}, [timedelta(seconds=100)])


def test_the_status_of_a_booking_enqueues_no_other_object() -> None:
    async def main() -> tuple[set[str], list[str]]:
        world = World()
        changed = booking("active", -5, 10, 2, generation=1)
        status = replace(changed.status, status="IN PROGRESS")
        world.informers.bookings.apply(replace(changed, status=status))
        return world.woken(), names(world.handlers.resources)

    assert virtual.run(main()) == ({"active"}, [])
