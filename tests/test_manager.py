"""A leadership: what it leaves for the next one, and the Events that it sends before it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from booking_operator.cloud.driver import InventoryListener, Order
from booking_operator.config import Settings
from booking_operator.dependencies import Dependencies
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.store import Key
from booking_operator.kube.errors import ApiError
from booking_operator.manager import Manager
from booking_operator.observability.prometheus import Metrics
from booking_operator.reconcilers.usage_recorder import UsageRecorder
from tests.support import virtual
from tests.support.environment import FakeDriver, World


class SlowClient:
    """An API server that needs 0.1 s for an Event, and returns 404 for all status writes."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> bytes:
        await asyncio.sleep(0.1)
        if method == "POST" and path.endswith("/events"):
            self.events.append(body["reason"])
            return b"{}"
        if method == "GET":
            return json.dumps({"metadata": {}}).encode()
        raise ApiError(404, "gone")


@dataclass
class Driver(FakeDriver):
    """A cloud that signals each action."""

    acted: asyncio.Event = field(default_factory=asyncio.Event)

    def set_listener(self, listener: InventoryListener) -> None:
        pass

    def _act(self, verb: str, order: Order, state: InstanceState) -> None:
        super()._act(verb, order, state)
        self.acted.set()


class Harness:
    """Caches with one Resource and one active booking, and a cloud. They outlive all leaderships."""

    def __init__(self) -> None:
        self.world = World()
        self.world.booking("bk", -60, 600)
        self.driver = Driver(self.world.clock)
        self.client = SlowClient()
        self.live = True

    @asynccontextmanager
    async def manager(self) -> AsyncIterator[Manager]:
        """A manager for a leadership that ends with the context."""
        client: Any = self.client
        drivers: Any = {"ec2": self.driver}
        manager = Manager(
            Dependencies(Settings(), client, {}, self.world.clock, Metrics()),
            self.world.informers,
            self.world.consistency,
            drivers,
            UsageRecorder(self.world.informers, {}, self.world.clock),
            may_write=lambda: self.live,
        )
        task = asyncio.ensure_future(manager.run())
        try:
            yield manager
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    async def acted(self) -> None:
        """Wait for the next start or stop."""
        self.driver.acted.clear()
        async with asyncio.timeout(30):
            await self.driver.acted.wait()


def test_events_are_sent_before_an_orderly_end() -> None:
    async def main() -> list[str]:
        harness = Harness()
        async with harness.manager():
            await harness.acted()
            await asyncio.sleep(0.01)
            assert harness.client.events == []
        return harness.client.events

    assert "Started" in virtual.run(main())


def test_a_leadership_without_the_lease_ends_immediately() -> None:
    async def main() -> tuple[list[str], timedelta]:
        harness = Harness()
        async with harness.manager():
            await harness.acted()
            await asyncio.sleep(0.01)
            harness.live, at = False, harness.world.clock.now()
        return harness.client.events, harness.world.clock.now() - at

    assert virtual.run(main()) == ([], timedelta(0))


def test_a_leadership_continues_where_the_last_one_ended() -> None:
    async def main() -> list[str]:
        harness = Harness()
        async with harness.manager():
            await harness.acted()
        harness.world.delete_booking("bk")
        async with harness.manager():
            await harness.acted()
        return [act.verb for act in harness.driver.acts]

    assert virtual.run(main()) == ["start", "stop"]


def test_a_finished_leadership_is_not_notified_of_changes() -> None:
    async def main() -> None:
        harness = Harness()
        async with harness.manager() as first:
            await harness.acted()
        async with harness.manager() as second:
            await asyncio.sleep(1)
            harness.world.booking("other", 1000, 2000)
            key = Key("ns", "other")
            assert key in second.introspect()["controller Booking.queue"]
            assert key not in first.introspect()["controller Booking.queue"]

    virtual.run(main())
