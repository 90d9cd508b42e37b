"""A leadership: what it leaves behind for the next one, and what it reports before it ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from booking_operator.cloud.driver import InventoryListener, Order
from booking_operator.dependencies import Dependencies
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.store import Key
from booking_operator.kube.errors import ApiError
from booking_operator.manager import Manager
from booking_operator.observability.prometheus import Metrics
from booking_operator.settings import Settings
from tests.support import virtual
from tests.support.fakes import FakeDriver, World


class SlowClient:
    """An API server that takes 0.1 s to take an Event, and knows no object whose status is written."""

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
    """A cloud that is looked at when it is asked to be, and says when it has acted."""

    acted: asyncio.Event = field(default_factory=asyncio.Event)

    def set_listener(self, listener: InventoryListener) -> None:
        pass

    def _act(self, verb: str, order: Order, state: InstanceState) -> None:
        super()._act(verb, order, state)
        self.acted.set()


class Ground:
    """Caches with one Resource and one booking that is active, and a cloud, which outlast any term."""

    def __init__(self) -> None:
        self.world = World()
        self.world.booking("bk", -60, 600)
        self.driver = Driver(self.world.clock)
        self.client = SlowClient()
        self.live = True

    @asynccontextmanager
    async def term(self) -> AsyncIterator[Manager]:
        """A term that ends with the context."""
        client: Any = self.client
        drivers: Any = {"ec2": self.driver}
        term = Manager(
            Dependencies(Settings(), client, {}, self.world.clock, Metrics()),
            self.world.informers,
            self.world.consistency,
            drivers,
            lambda: self.live,
        )
        task = asyncio.ensure_future(term.run())
        try:
            yield term
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    async def acted(self) -> None:
        """Wait for the next start or stop."""
        self.driver.acted.clear()
        async with asyncio.timeout(30):
            await self.driver.acted.wait()


def test_what_was_done_is_reported_before_an_orderly_end() -> None:
    async def main() -> list[str]:
        ground = Ground()
        async with ground.term():
            await ground.acted()
            await asyncio.sleep(0.01)
            assert ground.client.events == []
        return ground.client.events

    assert "Started" in virtual.run(main())


def test_who_has_lost_the_lease_ends_at_once() -> None:
    async def main() -> tuple[list[str], timedelta]:
        ground = Ground()
        async with ground.term():
            await ground.acted()
            await asyncio.sleep(0.01)
            ground.live, at = False, ground.world.clock.now()
        return ground.client.events, ground.world.clock.now() - at

    assert virtual.run(main()) == ([], timedelta(0))


def test_a_term_takes_up_what_the_last_one_left() -> None:
    async def main() -> list[str]:
        ground = Ground()
        async with ground.term():
            await ground.acted()
        ground.world.delete_booking("bk")
        async with ground.term():
            await ground.acted()
        return [act.verb for act in ground.driver.acts]

    assert virtual.run(main()) == ["start", "stop"]


def test_nothing_of_a_leadership_is_notified_of_changes_after_its_end() -> None:
    async def main() -> None:
        ground = Ground()
        async with ground.term() as first:
            await ground.acted()
        async with ground.term() as second:
            await asyncio.sleep(1)
            ground.world.booking("other", 1000, 2000)
            key = Key("ns", "other")
            assert key in second.introspect()["controller Booking.queue"]
            assert key not in first.introspect()["controller Booking.queue"]

    virtual.run(main())
