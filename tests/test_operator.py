"""The operator as a whole, in memory: the behaviour of a replica that takes over."""

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.driver import InventoryListener
from booking_operator.config import Settings
from booking_operator.dependencies import Dependencies
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.introspection import Contents
from booking_operator.engine.leader_election import Lead
from booking_operator.engine.store import Key
from booking_operator.gc_tuning import GcTuning, ProcessGcTuning
from booking_operator.kube.errors import ApiError
from booking_operator.observability.prometheus import Metrics
from booking_operator.observability.sources import Sources
from booking_operator.operator import Operator
from tests.support import virtual
from tests.support.environment import REGION, FakeDriver, at_text
from tests.support.virtual import VirtualClock


class Cluster:
    """A `KubeClient` of an API server whose lists are current, and whose watches send nothing."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {"resources": [], "bookings": []}
        self.version = 1
        self.silent = False

    def add(self, plural: str, name: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> None:
        self.version += 1
        meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(self.version)}
        self.objects[plural].append(
            {"metadata": meta | {"generation": 1}, "spec": spec, "status": status or {}}
        )

    def book(self, name: str, start: float, end: float) -> None:
        spec = {"resource_name": "res", "user_id": "ada", "start_at": at_text(start), "end_at": at_text(end)}
        self.add("bookings", name, spec)

    async def request(self, method: str, path: str, **_: Any) -> bytes:
        await asyncio.sleep(3600 if self.silent else 0.01)
        if method != "GET":
            raise ApiError(404, "not here")
        if "customresourcedefinitions" in path or ("/namespaces/ns" in path and path.endswith("/ns")):
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


class RecordedGc:
    """A garbage collector that records its calls with the monotonic time in seconds."""

    def __init__(self, clock: VirtualClock) -> None:
        self.calls: list[tuple[str, int]] = []
        self._clock = clock

    def freeze(self) -> None:
        self._record("freeze")

    def freeze_young(self) -> None:
        self._record("freeze young")

    def collect_all(self) -> None:
        self._record("collect all")

    def _record(self, call: str) -> None:
        self.calls.append((call, round(self._clock.monotonic())))


def operating(
    cluster: Cluster,
    cloud: Cloud,
    election: Election,
    clock: VirtualClock,
    garbage_collector: GcTuning | None = None,
) -> Operator:
    client: Any = cluster
    services: Any = {"ec2": cloud}
    votes: Any = election
    settings, sources = Settings(region=REGION), Sources(Accounts(REGION))
    gc_tuning = garbage_collector or RecordedGc(clock)
    dependencies = Dependencies(settings, client, {}, clock, Metrics(), gc_tuning)
    return Operator(dependencies, services, votes, sources)


async def taken_over(bookings: Sequence[tuple[float, float]], state: InstanceState) -> list[str]:
    """The actions of a standby that has seen no change since its start, and takes over after 10 s."""
    clock, cluster, election = VirtualClock(), Cluster(), Election()
    cloud = Cloud(clock, instances={"i-1": state})
    cluster.add("resources", "res", {"tag": "web", "region": REGION})
    operator = operating(cluster, cloud, election, clock)
    task = asyncio.ensure_future(operator.run(asyncio.Event()))
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


async def collections(status: dict[str, Any]) -> list[tuple[str, int]]:
    """The calls of the garbage collector while a leadership is lost after 5 s."""
    clock, cluster = VirtualClock(), Cluster()
    cluster.add("resources", "res", {"tag": "web", "region": REGION}, status)
    recorded = RecordedGc(clock)
    cloud = Cloud(clock, instances={"i-1": InstanceState.STOPPED})
    task = asyncio.ensure_future(operating(cluster, cloud, Fickle(), clock, recorded).run(asyncio.Event()))
    began = round(clock.monotonic())
    await asyncio.sleep(60)
    task.cancel()
    await asyncio.wait([task])
    return [(call, second - began) for call, second in recorded.calls]


def test_a_lost_leadership_is_garbage_collected_10_seconds_later() -> None:
    calls = virtual.run(collections({}))
    assert calls == [("freeze", 0), ("freeze young", 0), ("freeze young", 5), ("collect all", 15)]


class UsageCluster(Cluster):
    """An API server that has no Usage yet, and records the statuses of those that are written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[dict[str, Any]] = []

    async def request(self, method: str, path: str, *, body: Any = None, **more: Any) -> bytes:
        if "/usages" not in path or path.endswith("v1/usages"):
            return await super().request(method, path, **more)
        await asyncio.sleep(3600 if self.silent else 0.01)
        if method == "GET":
            raise ApiError(404, "there is no such Usage", reason="NotFound")
        if method == "PATCH":
            self.written.append(body["status"])
        metadata = {"name": "res-2026-01", "namespace": "ns", "uid": "u", "resourceVersion": "7"}
        return json.dumps(
            {"metadata": metadata, "spec": {"resource_name": "res", "month": "2026-01"}}
        ).encode()


async def metering(
    cluster: UsageCluster, clock: VirtualClock, election: Election
) -> tuple[asyncio.Future[None], asyncio.Event]:
    """A leader that has metered three seconds and written nothing, and the event that ends it."""
    cloud, stopping = Cloud(clock, instances={"i-1": InstanceState.STOPPED}), asyncio.Event()
    task = asyncio.ensure_future(operating(cluster, cloud, election, clock).run(stopping))
    election.won.set()
    await asyncio.sleep(2)
    cloud.look_again()
    await asyncio.sleep(3)
    cloud.look_again()
    return task, stopping


def test_an_orderly_end_writes_the_usage_at_once() -> None:
    async def main() -> list[dict[str, Any]]:
        clock, cluster, election = VirtualClock(), UsageCluster(), Election()
        cluster.add("resources", "res", {"tag": "web", "region": REGION})
        cluster.book("bk", 0, 600)
        task, stopping = await metering(cluster, clock, election)
        await asyncio.sleep(1)
        assert cluster.written == []
        stopping.set()
        await task
        return cluster.written

    [status] = virtual.run(main())
    assert (status["capacity"], status["running"], status["booked"]) == (3, 3, 3)


def test_a_standby_ends_at_once() -> None:
    async def main() -> None:
        clock, stopping = VirtualClock(), asyncio.Event()
        task = asyncio.ensure_future(operating(Cluster(), Cloud(clock), Election(), clock).run(stopping))
        await asyncio.sleep(5)
        began = clock.monotonic()
        stopping.set()
        await task
        assert clock.monotonic() == began

    virtual.run(main())


def test_an_end_waits_two_seconds_for_an_api_server_that_does_not_answer() -> None:
    async def main() -> float:
        clock, cluster, election = VirtualClock(), UsageCluster(), Election()
        cluster.add("resources", "res", {"tag": "web", "region": REGION})
        task, stopping = await metering(cluster, clock, election)
        cluster.silent = True
        began = clock.monotonic()
        stopping.set()
        await task
        return clock.monotonic() - began

    assert virtual.run(main()) < 3


def test_a_boundary_delays_the_garbage_collection() -> None:
    """The collection is due at second 15. It runs right after the boundary, which is at second 16."""
    calls = virtual.run(collections({"next_change_at": at_text(16)}))
    assert calls[-1] == ("collect all", 16)


class Cycle:
    """A reference cycle, as the parts of a leadership form. Only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_only_a_full_collection_frees_frozen_objects() -> None:
    collector, cycle = ProcessGcTuning(), Cycle()
    reference = weakref.ref(cycle)
    try:
        collector.freeze()
        del cycle
        gc.collect()
        assert reference() is not None
        collector.collect_all()
        assert reference() is None
    finally:
        gc.unfreeze()


def sizes(operator: Operator) -> Mapping[str, int]:
    return {name: len(keys) for name, keys in operator.introspect().items()}


def test_the_state_of_an_operator_is_introspected() -> None:
    async def main() -> tuple[Mapping[str, int], Mapping[str, int]]:
        clock, cluster, election = VirtualClock(), Cluster(), Election()
        cluster.add("resources", "res", {"tag": "web", "region": REGION})
        cluster.book("bk", 300, 600)
        operator = operating(cluster, Cloud(clock), election, clock)
        task = asyncio.ensure_future(operator.run(asyncio.Event()))
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
