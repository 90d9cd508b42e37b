"""The recording of usage: in every replica, written by the leader, over restarts and hand-overs."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from booking_operator.api.kinds import BOOKING, USAGE
from booking_operator.api.usage import UsageStatus
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import Instance, InstanceState, Observation
from booking_operator.domain.usage import UsageAmounts
from booking_operator.engine.store import Key
from booking_operator.kube.client import KubeClient
from booking_operator.kube.errors import ApiError
from booking_operator.reconcilers.usage import (
    UNAVAILABLE_INTERVAL,
    WRITE_INTERVAL,
    UsageReconciler,
)
from booking_operator.reconcilers.usage_recorder import UsageRecorder
from tests.support.environment import REGION, World, at_text
from tests.support.virtual import EPOCH, run

RES = Key("ns", "res")
SCOPE = Scope("", REGION)


class Views:
    """An inventory whose views a test makes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._calls: list[Callable[[Scope], None]] = []
        self._observation: Observation | None = None

    def on_viewed(self, call: Callable[[Scope], None]) -> None:
        self._calls.append(call)

    def observation(self, _: Group) -> Observation | None:
        return self._observation

    def view(self, running: int, existing: int = 2) -> None:
        """Make a view of t3.large instances at the present instant."""
        states = [InstanceState.RUNNING] * running + [InstanceState.STOPPED] * (existing - running)
        instances = tuple(Instance(f"i-{n}", state, sizes=("t3.large",)) for n, state in enumerate(states))
        self._observation = Observation(instances, self._world.clock.now())
        for call in self._calls:
            call(SCOPE)


class Api:
    """The Usage objects of an API server."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.errors: list[ApiError] = []
        self._version = 0

    async def request(self, method: str, path: str, *, body: Any = None, query: Any = (), **_: Any) -> bytes:
        self.requests.append(method)
        if method == "GET" and path.endswith("/usages"):
            return json.dumps({"metadata": {}, "items": self._listed(dict(query)["labelSelector"])}).encode()
        if self.errors:
            raise self.errors.pop(0)
        name = (
            path.split("/usages/")[1].removesuffix("/status")
            if "/usages/" in path
            else body["metadata"]["name"]
        )
        self._version += 1
        if method == "POST":
            metadata = body["metadata"] | {"namespace": "ns", "resourceVersion": str(self._version)}
            self.objects[name] = body | {"metadata": metadata}
            return json.dumps(self.objects[name]).encode()
        found = self.objects.get(name)
        if found is None:
            raise ApiError(404, "not found", reason="NotFound")
        if method == "DELETE":
            del self.objects[name]
        elif method == "PATCH":
            if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                raise ApiError(409, "conflict", reason="Conflict")
            found["status"] = body["status"]
            found["metadata"]["resourceVersion"] = str(self._version)
        return json.dumps(found).encode()

    def _listed(self, selector: str) -> list[dict[str, Any]]:
        kept = selector.partition("notin (")[2].rstrip(")").split(", ")
        return [item for item in self.objects.values() if item["spec"]["month"] not in kept]

    def status(self, name: str = "res-2026-01") -> UsageStatus:
        return USAGE.adapter.validate_python(self.objects[name]).status


class Replica:
    """One replica of the operator: its meters, and while it leads, its writer."""

    def __init__(self, world: World, views: Views, api: Api) -> None:
        inventories: Any = {"ec2": views}
        self.recorder = UsageRecorder(world.informers, inventories, world.clock)
        self.recorded: list[UsageAmounts] = []
        self.writer = UsageReconciler(
            cast("KubeClient", api),
            self.recorder,
            world.informers,
            world.clock,
            recorded=self.recorded.append,
        )
        self.changed: list[Key] = []
        self.recorder.on_changed(self.changed.append)


class Stage:
    """A Resource, an API server, and any number of replicas."""

    def __init__(self) -> None:
        self.world, self.api = World(), Api()
        self.views = Views(self.world)

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[Replica]:
        made = Replica(self.world, self.views, self.api)
        task = asyncio.ensure_future(made.recorder.run())
        await asyncio.sleep(0)
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def watch(self, seconds: float, running: int) -> None:
        """Make a view now and after each minute."""
        self.views.view(running)
        for _ in range(round(seconds / 60)):
            await asyncio.sleep(60)
            self.views.view(running)
        await settle()


async def settle() -> None:
    """Let the recorders do their work."""
    for _ in range(10):
        await asyncio.sleep(0)


def create_again(world: World) -> None:
    """Create the Resource again, now."""
    world.resource()
    made = world.informers.resources.get(RES)
    assert made is not None
    meta: Any = made.metadata
    metadata = replace(meta, creation_timestamp=world.clock.now(), resource_version="99999")
    world.informers.resources.apply(replace(made, metadata=metadata))


def test_a_required_resource_is_booked_until_the_instant_at_which_it_is_not_required_any_more() -> None:
    async def main() -> UsageStatus:
        stage = Stage()
        stage.world.resource("app", tag="app", requires=["res"])
        spec = {"resource_name": "app", "user_id": "ada", "start_at": at_text(60), "end_at": at_text(3600)}
        meta = stage.world._meta("bk", 1)
        booking = BOOKING.adapter.validate_python({"metadata": meta, "spec": spec})
        stage.world.informers.bookings.apply(booking)
        async with stage.replica() as replica:
            await stage.watch(60, running=2)
            await asyncio.sleep(30)
            stage.world.resource("app", tag="app")
            await asyncio.sleep(30)
            stage.views.view(2)
            await settle()
            await replica.writer.reconcile(RES)
            return stage.api.status()

    assert run(main()).booked == 2 * 30


def test_an_hour_of_a_booking() -> None:
    async def main() -> UsageStatus:
        stage = Stage()
        stage.world.booking("bk", 600, 1800)
        async with stage.replica() as replica:
            await stage.watch(600, running=0)
            await stage.watch(1200, running=2)
            await stage.watch(1800, running=0)
            await replica.writer.reconcile(RES)
            return stage.api.status()

    status = run(main())
    assert (status.capacity, status.running, status.booked, status.saved) == (7200, 2400, 2400, 4800)
    assert (status.unbooked, status.missing, status.unobserved) == (0, 0, 0)
    assert [(item.user_id, item.size, item.seconds) for item in status.charged] == [("ada", "t3.large", 2400)]
    assert status.observed_until == "2026-01-01T10:00:00Z"


def test_a_deleted_booking_counts_until_its_deletion() -> None:
    async def main() -> UsageStatus:
        stage = Stage()
        stage.world.booking("bk", 0, 3600)
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            await asyncio.sleep(30)
            stage.world.delete_booking("bk")
            await settle()
            await asyncio.sleep(30)
            await stage.watch(60, running=2)
            await replica.writer.reconcile(RES)
            return stage.api.status()

    status = run(main())
    assert (status.booked, status.unbooked, status.running) == (1260, 180, 1440)


def test_a_hand_over_loses_and_repeats_no_time() -> None:
    async def main() -> UsageStatus:
        stage = Stage()
        async with stage.replica() as leader, stage.replica() as standby:
            await stage.watch(1800, running=1)
            await leader.writer.reconcile(RES)
            assert stage.api.status().running == 1800
            await stage.watch(1800, running=2)
            await standby.writer.reconcile(RES)
            return stage.api.status()

    status = run(main())
    assert (status.capacity, status.running, status.unobserved) == (7200, 1800 + 3600, 0)


def test_the_time_of_a_restart_is_unobserved() -> None:
    async def main() -> UsageStatus:
        stage = Stage()
        async with stage.replica() as first:
            await stage.watch(600, running=2)
            await first.writer.reconcile(RES)
        await asyncio.sleep(120)
        async with stage.replica() as second:
            await stage.watch(600, running=2)
            await second.writer.reconcile(RES)
        return stage.api.status()

    status = run(main())
    assert (status.capacity, status.running, status.unobserved) == (2640, 2400, 240)


def test_a_conflict_is_resolved_by_reading_again() -> None:
    async def main() -> UsageStatus:
        stage = Stage()
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            await replica.writer.reconcile(RES)
            stage.api.objects["res-2026-01"]["metadata"]["resourceVersion"] = "999"
            await stage.watch(600, running=2)
            assert (await replica.writer.reconcile(RES)).failed
            assert not (await replica.writer.reconcile(RES)).failed
            return stage.api.status()

    assert run(main()).running == 2400


def test_a_deleted_usage_is_created_again() -> None:
    async def main() -> UsageStatus:
        stage = Stage()
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            await replica.writer.reconcile(RES)
            del stage.api.objects["res-2026-01"]
            await stage.watch(600, running=2)
            assert (await replica.writer.reconcile(RES)).failed
            assert not (await replica.writer.reconcile(RES)).failed
            return stage.api.status()

    assert run(main()).running == 2400  # the meter remembers two hours


def test_a_change_is_written_soon_and_no_change_once_an_hour() -> None:
    async def main() -> None:
        stage = Stage()
        async with stage.replica() as replica:
            await stage.watch(3600, running=0)
            assert replica.changed == [RES]  # the first view
            result = await replica.writer.reconcile(RES)
            assert result.next_at == stage.world.clock.now() + WRITE_INTERVAL
            stage.world.booking("bk", 7200, 9000)  # a later booking changes nothing now
            await stage.watch(600, running=0)
            assert replica.changed == [RES]
            await stage.watch(60, running=1)
            assert replica.changed == [RES, RES]

    run(main())


@pytest.mark.parametrize("status", [403, 404])
def test_a_missing_crd_or_permission_is_tried_again_later(status: int) -> None:
    async def main() -> None:
        stage = Stage()
        stage.api.errors = [ApiError(status, "refused")]
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            result = await replica.writer.reconcile(RES)
            assert result.next_at == stage.world.clock.now() + UNAVAILABLE_INTERVAL
            await replica.writer.reconcile(RES)
            assert stage.api.status().running == 1200

    run(main())


def test_the_last_time_of_a_deleted_resource_is_written() -> None:
    async def main() -> None:
        stage = Stage()
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            stage.world.delete_resource()
            assert replica.changed[-1] == RES
            await replica.writer.reconcile(RES)
            assert stage.api.status().running == 1200
            assert replica.recorder.metered() == []

    run(main())


def test_a_deleted_resource_is_forgotten_if_its_usage_cannot_be_written() -> None:
    async def main() -> None:
        stage = Stage()
        stage.api.errors = [ApiError(404, "the kind is not served")]
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            stage.world.delete_resource()
            assert (await replica.writer.reconcile(RES)).next_at is None
            assert replica.recorder.metered() == []

    run(main())


def test_a_former_leader_forgets_what_was_deleted_before_its_last_write() -> None:
    async def main() -> None:
        stage = Stage()
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            stage.world.delete_resource()
            assert replica.recorder.metered() == [RES]
            replica.recorder.on_changed(None)
            assert replica.recorder.metered() == []

    run(main())


def test_an_outage_over_the_end_of_a_month_is_unobserved_in_both_months() -> None:
    """The last write was 2 h before the end of the month, and the next observation is 1 h after it."""

    async def main() -> tuple[UsageStatus, UsageStatus]:
        stage = Stage()
        await asyncio.sleep((datetime(2026, 1, 31, 21, 50, tzinfo=UTC) - EPOCH).total_seconds())
        async with stage.replica() as first:
            await stage.watch(600, running=2)
            await first.writer.reconcile(RES)
        await asyncio.sleep(3 * 3600)
        async with stage.replica() as second:
            await stage.watch(600, running=2)
            await second.writer.reconcile(RES)
        return stage.api.status(), stage.api.status("res-2026-02")

    january, february = run(main())
    assert (january.capacity, january.running, january.unobserved) == (1200 + 4 * 3600, 1200, 4 * 3600)
    assert (february.capacity, february.running, february.unobserved) == (1200 + 7200, 1200, 7200)
    assert january.observed_until == "2026-02-01T00:00:00Z"


def test_the_time_before_a_resource_was_created_again_does_not_count() -> None:
    async def main() -> UsageStatus:
        stage = Stage()
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            await replica.writer.reconcile(RES)
            stage.world.delete_resource()
            await replica.writer.reconcile(RES)
            await asyncio.sleep(7200)
            create_again(stage.world)
            await asyncio.sleep(60)
            await stage.watch(600, running=2)
            await replica.writer.reconcile(RES)
            return stage.api.status()

    status = run(main())
    assert (status.running, status.unobserved) == (2400, 120)


def test_each_write_reports_what_it_has_added() -> None:
    async def main() -> list[UsageAmounts]:
        stage = Stage()
        async with stage.replica() as replica:
            await stage.watch(600, running=2)
            await replica.writer.reconcile(RES)
            await stage.watch(600, running=1)
            await replica.writer.reconcile(RES)
            await replica.writer.reconcile(RES)  # nothing was observed since
            return replica.recorded

    first, second = run(main())
    assert (first.capacity, first.running) == (1200, 1200)
    assert (second.capacity, second.running, second.unbooked) == (1200, 600, 600)


def test_usage_is_kept_for_13_months() -> None:
    async def main() -> set[str]:
        stage = Stage()
        for month in ("2024-11", "2024-12", "2025-12"):
            metadata = {"name": f"old-{month}", "namespace": "ns", "resourceVersion": "1"}
            spec = {"resource_name": "old", "month": month}
            stage.api.objects[f"old-{month}"] = {"metadata": metadata, "spec": spec}
        async with stage.replica() as replica:
            await stage.watch(60, running=0)
            await replica.writer.reconcile(RES)
            await replica.writer.reconcile(RES)
        # The list of old objects, once, the Usage itself, and that of the month before.
        assert stage.api.requests.count("GET") == 3
        return set(stage.api.objects)

    assert run(main()) == {"old-2024-12", "old-2025-12", "res-2026-01"}
