"""The status and conditions of a booking over its life, on virtual time."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.meta import Condition
from booking_operator.api.resource import ResourceStatus
from booking_operator.engine.controller import Controller
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import WorkQueue
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.informers import Informers
from tests.support import virtual
from tests.support.environment import FakeEvents, FakeStatus, at_text, fake_environment
from tests.support.virtual import VirtualClock

KEY = Key("ns", "bk")
Seen = list[tuple[float, str, dict[str, tuple[str, str]]]]


def meta(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": "ns", "uid": f"u-{name}", "resourceVersion": "1", "generation": 3}


class World:
    def __init__(self, **spec: Any) -> None:
        self.informers = Informers("eu-west-1")
        self.status = FakeStatus(self.informers.bookings)
        self.events = FakeEvents()
        self.queue: WorkQueue[Key] = WorkQueue(VirtualClock())
        environment = fake_environment(
            self.informers, VirtualClock(), statuses={BOOKING: self.status}, events=self.events
        )
        self.reconciler = BookingReconciler(environment)
        whole = {"resource_name": "res", "user_id": "ada", "start_at": at_text(10), "end_at": at_text(20)}
        self.informers.bookings.apply(
            BOOKING.adapter.validate_python({"metadata": meta("bk"), "spec": whole | spec})
        )
        self.queue.add(KEY)

    def resource(self, status: ResourceStatus, name: str = "res", **spec: Any) -> None:
        made = RESOURCE.adapter.validate_python({"metadata": meta(name), "spec": {"tag": "web", **spec}})
        self.informers.resources.apply(replace(made, status=status))

    @property
    def booking(self) -> Booking:
        found = self.informers.bookings.get(KEY)
        assert found is not None
        return found

    def conditions(self) -> dict[str, tuple[str, str]]:
        return {
            condition.type: (condition.status, condition.reason)
            for condition in self.booking.status.conditions
        }

    async def watch(self, *instants: float) -> Seen:
        """The status and the conditions shortly after each instant."""
        seen: Seen = []
        task = asyncio.ensure_future(Controller("test", self.queue, self.reconciler.reconcile).run())
        for instant in instants:
            await asyncio.sleep(instant + 0.001 - asyncio.get_running_loop().time())
            seen.append((instant, self.booking.status.status, self.conditions()))
        task.cancel()
        await asyncio.wait([task])
        return seen


RUNNING = ResourceStatus(instances=2, running=2, status="RUNNING")


def test_the_status_changes_at_the_boundaries() -> None:
    async def main() -> Seen:
        world = World()
        world.resource(RUNNING)
        return await world.watch(0, 9.99, 10, 19.99, 20, 30)

    seen = virtual.run(main())
    assert [status for _, status, _ in seen] == [
        "SCHEDULED",
        "SCHEDULED",
        "IN PROGRESS",
        "IN PROGRESS",
        "FINISHED",
        "FINISHED",
    ]
    assert seen[1][2]["HoldsLock"] == ("False", "Scheduled")
    assert seen[2][2]["HoldsLock"] == ("True", "Holder")
    assert seen[2][2]["Ready"] == ("True", "Running")
    assert seen[5][2]["HoldsLock"] == ("False", "Finished")
    assert "Ready" not in seen[5][2]


def test_there_is_one_status_write_per_phase() -> None:
    async def main() -> int:
        world = World()
        world.resource(RUNNING)
        await world.watch(100)
        return world.status.writes

    assert virtual.run(main()) == 3


def test_warm_up_gives_the_lock_before_the_start() -> None:
    async def main() -> Seen:
        world = World()
        world.resource(RUNNING, warm_up="5s")
        return await world.watch(4.99, 5)

    before, during = virtual.run(main())
    assert before[2]["HoldsLock"] == ("False", "Scheduled")
    assert (during[1], during[2]["HoldsLock"], during[2]["Ready"]) == (
        "SCHEDULED",
        ("True", "Holder"),
        ("True", "Running"),
    )


def why(reason: str, **status: Any) -> ResourceStatus:
    ready = Condition(type="Ready", status="False", reason=reason, message="Because of it.")
    return ResourceStatus(instances=2, conditions=(ready,), **status)


@pytest.mark.parametrize("reason", ["Suspended", "DryRun", "Blocked"])
def test_the_ready_condition_of_the_resource_is_copied(reason: str) -> None:
    async def main() -> Booking:
        world = World()
        world.resource(why(reason, locked_until=at_text(20)))
        await world.watch(10)
        return world.booking

    (ready,) = (item for item in virtual.run(main()).status.conditions if item.type == "Ready")
    message = "0 of 2 instances are running. Because of it."
    assert (ready.status, ready.reason, ready.message) == ("False", reason, message)


def test_a_reason_from_before_the_booking_is_not_copied() -> None:
    async def main() -> tuple[Seen, list[tuple[str, str]]]:
        world = World()
        world.resource(why("Blocked"))
        return await world.watch(10), world.events.recorded

    seen, events = virtual.run(main())
    assert seen[0][2]["Ready"] == ("False", "Starting")
    assert events == []


@pytest.mark.parametrize("spec", [{"type": "gcp"}, {}])
def test_an_invalid_resource_gives_no_lock(spec: dict[str, str]) -> None:
    async def main() -> Seen:
        world = World()
        world.resource(ResourceStatus(), name="elder")
        world.resource(RUNNING, **spec)
        return await world.watch(10)

    ((_, _, conditions),) = virtual.run(main())
    assert conditions["HoldsLock"] == conditions["Ready"] == ("False", "ResourceInvalid")


def test_a_missing_resource_is_reported_once_and_not_for_finished_bookings() -> None:
    async def main(end: float) -> list[tuple[str, str]]:
        world = World(start_at=at_text(-10), end_at=at_text(end))
        await world.watch(1)
        world.queue.add(KEY)
        await world.watch(2)
        return world.events.recorded

    assert virtual.run(main(50)) == [("Booking", "ResourceNotFound")]
    assert virtual.run(main(-5)) == []


def test_an_invalid_spec_is_reported() -> None:
    async def main() -> tuple[Seen, list[tuple[str, str]]]:
        world = World(start_at="soon")
        return await world.watch(1, 100), world.events.recorded

    seen, events = virtual.run(main())
    assert seen[1][2] == {
        "Valid": ("False", "InvalidSpec"),
        "Ready": ("False", "InvalidSpec"),
        "Stalled": ("True", "InvalidSpec"),
    }
    assert events == [("Booking", "InvalidSpec")]


def test_the_generation_is_observed() -> None:
    async def main() -> Booking:
        world = World()
        await world.watch(1)
        return world.booking

    status = virtual.run(main()).status
    assert status.observed_generation == 3
    assert {condition.observed_generation for condition in status.conditions} == {3}
