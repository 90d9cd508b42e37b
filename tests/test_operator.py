"""The operator as a whole, in memory: the behaviour of a replica that takes over."""

import asyncio
import json
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.driver import InventoryListener
from booking_operator.dependencies import Dependencies
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.introspection import Contents
from booking_operator.engine.leader_election import Lead
from booking_operator.engine.store import Key
from booking_operator.kube.errors import ApiError
from booking_operator.observability.prometheus import Metrics
from booking_operator.observability.sources import Sources
from booking_operator.operator import Operator
from booking_operator.settings import Settings
from tests.support import virtual
from tests.support.fakes import REGION, FakeDriver, at_text
from tests.support.virtual import VirtualClock


class Cluster:
    """A `KubeClient` of an API server whose lists are current, and whose watches send nothing."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {"resources": [], "bookings": []}
        self.version = 1

    def add(self, plural: str, name: str, spec: dict[str, Any]) -> None:
        self.version += 1
        meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(self.version)}
        self.objects[plural].append({"metadata": meta | {"generation": 1}, "spec": spec})

    def book(self, name: str, start: float, end: float) -> None:
        spec = {"resource_name": "res", "user_id": "ada", "start_at": at_text(start), "end_at": at_text(end)}
        self.add("bookings", name, spec)

    async def request(self, method: str, path: str, **_: Any) -> bytes:
        await asyncio.sleep(0.01)
        if method != "GET":
            raise ApiError(404, "not here")
        if "customresourcedefinitions" in path:
            return b'{"metadata": {}}'
        items = self.objects.get(path.rpartition("/")[2], [])
        return json.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": items}).encode()

    @asynccontextmanager
    async def stream(self, *_: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        async def silence() -> AsyncIterator[bytes]:
            await asyncio.Future()
            yield b""

        yield silence()


class Cloud(FakeDriver):
    """A service and its driver in one object."""

    def set_listener(self, listener: InventoryListener) -> None:
        pass

    def introspect(self) -> Contents:
        return {}

    def driver(self, _: asyncio.TaskGroup) -> "Cloud":
        return self


class Election:
    """An election that is won when a test sets `won`."""

    is_leader, leader, has_rivals = False, "", True

    def __init__(self) -> None:
        self.won = asyncio.Event()

    def may_write(self) -> bool:
        return self.won.is_set()

    async def run(self, lead: Lead) -> None:
        await self.won.wait()
        await lead()


class Fickle(Election):
    """An election that is lost briefly, 5 s after it was won."""

    async def run(self, lead: Lead) -> None:
        self.won.set()
        await self._for_a_while(lead)
        await lead()

    async def _for_a_while(self, lead: Lead) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await lead()


class Tangled(Cloud):
    """A driver in a reference cycle, so that only the garbage collector frees it."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.itself = self


class Clouds(Cloud):
    """A service that creates a driver for each leadership.

    Attributes:
        drivers: weak references to the drivers, in order.
    """

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.drivers: list[weakref.ref[Cloud]] = []

    def driver(self, _: asyncio.TaskGroup) -> Cloud:
        made = Tangled(self.clock)
        self.drivers.append(weakref.ref(made))
        return made


def operating(cluster: Cluster, cloud: Cloud, election: Election, clock: VirtualClock) -> Operator:
    client: Any = cluster
    services: Any = {"ec2": cloud}
    votes: Any = election
    settings, sources = Settings(region=REGION), Sources(Accounts(REGION))
    return Operator(Dependencies(settings, client, {}, clock, Metrics()), services, votes, sources)


async def taken_over(bookings: Sequence[tuple[float, float]], state: InstanceState) -> list[str]:
    """The actions of a standby that has seen no change since its start, and takes over after 10 s."""
    clock, cluster, election = VirtualClock(), Cluster(), Election()
    cloud = Cloud(clock, instances={"i-1": state})
    cluster.add("resources", "res", {"tag": "web", "region": REGION})
    operator = operating(cluster, cloud, election, clock)
    task = asyncio.ensure_future(operator.run())
    await asyncio.sleep(5)
    for number, (start, end) in enumerate(bookings):
        cluster.book(f"bk{number}", start, end)
    await asyncio.sleep(5)
    election.won.set()
    await asyncio.sleep(20)
    task.cancel()
    await asyncio.wait([task])
    return [act.verb for act in cloud.acts]


def test_a_new_leader_does_not_stop_instances_of_an_unseen_booking() -> None:
    assert virtual.run(taken_over([(0, 600)], InstanceState.RUNNING)) == []


def test_a_new_leader_stops_instances_without_a_booking() -> None:
    assert virtual.run(taken_over([(300, 600)], InstanceState.RUNNING)) == ["stop"]


def test_a_new_leader_starts_instances_of_an_unseen_booking() -> None:
    assert virtual.run(taken_over([(0, 600)], InstanceState.STOPPED)) == ["start"]


def test_a_lost_leadership_is_garbage_collected() -> None:
    """Each leadership has a driver of its own in a reference cycle, as the parts of a leadership are."""

    async def main() -> list[bool]:
        clock, cluster = VirtualClock(), Cluster()
        clouds = Clouds(clock)
        task = asyncio.ensure_future(operating(cluster, clouds, Fickle(), clock).run())
        await asyncio.sleep(8)
        assert [driver() is not None for driver in clouds.drivers] == [True, True]
        await asyncio.sleep(60)
        held = [driver() is not None for driver in clouds.drivers]
        task.cancel()
        await asyncio.wait([task])
        return held

    assert virtual.run(main()) == [False, True]


def sizes(operator: Operator) -> Mapping[str, int]:
    return {name: len(keys) for name, keys in operator.introspect().items()}


def test_the_state_of_an_operator_is_introspected() -> None:
    async def main() -> tuple[Mapping[str, int], Mapping[str, int]]:
        clock, cluster, election = VirtualClock(), Cluster(), Election()
        cluster.add("resources", "res", {"tag": "web", "region": REGION})
        cluster.book("bk", 300, 600)
        operator = operating(cluster, Cloud(clock), election, clock)
        task = asyncio.ensure_future(operator.run())
        await asyncio.sleep(5)
        before = sizes(operator)
        election.won.set()
        await asyncio.sleep(5)
        assert set(operator.introspect()["controller Booking.queue"]) == {Key("ns", "bk")}
        after = sizes(operator)
        task.cancel()
        await asyncio.wait([task])
        return before, after

    standing_by, leading = virtual.run(main())
    assert (standing_by["store of bookings.objects"], standing_by["informers.timelines"]) == (1, 1)
    assert "orders.placed" not in standing_by
    assert (leading["orders.placed"], leading["resources.triggers"]) == (0, 1)
