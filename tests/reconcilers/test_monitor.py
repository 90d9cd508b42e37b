"""A monitor on virtual time: its polls, the Resources that it creates, and those that it leaves alone."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from booking_operator.api.kinds import BOOKING, RESOURCE, RESOURCE_MONITOR
from booking_operator.api.monitor import name_template
from booking_operator.cloud.driver import CloudError, Record
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.cloud.service import Driver
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Instance, InstanceState
from booking_operator.domain.naming import name_candidates
from booking_operator.engine.controller import Controller
from booking_operator.engine.store import Key
from booking_operator.kube.errors import ApiError
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.monitor import MonitorReconciler
from tests.support import virtual
from tests.support.environment import (
    REGION,
    FakeConsistency,
    FakeEvents,
    FakeStatus,
    at_text,
    fake_environment,
)
from tests.support.virtual import EPOCH, VirtualClock

DENIED = CloudError("UnauthorizedOperation", "ec2:DescribeInstances", retryable=False)


class FakeObjects:
    """An API server for Resources. A created object is in the cache after `seconds`, or immediately."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.error: ApiError | None = None
        self.refused: set[str] = set()
        self.seconds = 0.0
        self.deleted: list[str] = []

    async def create(
        self, kind: Any, namespace: str, name: str, spec: Any, *, annotations: Any, owner: Any = None
    ) -> None:
        await asyncio.sleep(self.seconds)
        if self.error or namespace in self.refused:
            raise self.error or ApiError(403, "HTTP 403: forbidden")
        assert (kind.name, owner) == ("Resource", None)
        apply = partial(self._world.resource, name, dict(annotations), namespace, **spec)
        if self.seconds:
            asyncio.get_running_loop().call_later(self.seconds, apply)
        else:
            apply()

    async def delete(self, _: Any, object_: Any) -> None:
        self.deleted.append(object_.metadata.name)
        self._world.informers.resources.delete(Key("ns", object_.metadata.name))

    async def update(self, *_: Any) -> None:
        raise AssertionError("a monitor edits nothing")

    set_finalizers = update


class World:
    """One monitor `ns/rm` with a real inventory, whose cloud records its calls."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.clock = VirtualClock()
        self.informers = Informers(REGION)
        self.handlers = EventHandlers(self.informers, self.clock)
        self.handlers.subscribe()
        self.asking: set[str] = {"web"}
        self.calls: list[float] = []
        self.error: CloudError | None = None
        self.inventory = Inventory(self.describe, self.clock, tasks)
        driver = Driver(self.inventory, None, None)  # type: ignore[arg-type]
        self.status = FakeStatus(self.informers.monitors)
        self.events, self.consistency, self.objects = FakeEvents(), FakeConsistency(), FakeObjects(self)
        environment = fake_environment(
            self.informers,
            self.clock,
            drivers={"ec2": driver},
            statuses={RESOURCE_MONITOR: self.status},
            events=self.events,
            objects=self.objects,
            consistency=self.consistency,
        )
        reconciler = MonitorReconciler(environment)
        driver.inventory.set_listener(self.handlers.inventory_listener("ec2"))
        tasks.create_task(self.inventory.poll())
        tasks.create_task(Controller("monitors", self.handlers.monitors, reconciler.reconcile).run())
        self._version = 1

    async def describe(self, _: Scope) -> list[Record]:
        self.calls.append(self.second())
        if self.error:
            raise self.error
        return [Record(tag, Instance(f"i-{tag}", InstanceState.STOPPED), managed=True) for tag in self.asking]

    def second(self) -> float:
        return round((self.clock.now() - EPOCH).total_seconds(), 1)

    def monitor(self, namespace: str = "ns", **spec: Any) -> None:
        found = self.informers.monitors.get(Key(namespace, "rm"))
        generation = found.metadata.generation + 1 if found else 1
        whole = {"metadata": self._meta("rm", generation, namespace), "spec": {"type": "ec2", **spec}}
        self.informers.monitors.apply(RESOURCE_MONITOR.adapter.validate_python(whole))

    def resource(
        self, name: str, annotations: dict[str, str] | None = None, namespace: str = "ns", **spec: Any
    ) -> None:
        metadata = {**self._meta(name, 1, namespace), "annotations": annotations or {}}
        self.informers.resources.apply(RESOURCE.adapter.validate_python({"metadata": metadata, "spec": spec}))

    def booking(self, resource: str, end: float) -> None:
        times = {"start_at": at_text(0), "end_at": at_text(end)}
        spec = {"resource_name": resource, "user_id": "ada", **times}
        whole = {"metadata": self._meta("bk", 1), "spec": spec}
        self.informers.bookings.apply(BOOKING.adapter.validate_python(whole))

    def _meta(self, name: str, generation: int, namespace: str = "ns") -> dict[str, Any]:
        self._version += 1000
        return {
            "name": name,
            "namespace": namespace,
            "uid": f"u-{name}-{self._version if name != 'rm' else 0}",
            "resourceVersion": str(self._version),
            "generation": generation,
            "creationTimestamp": at_text(self.second()),
        }

    def resources(self) -> set[str]:
        return {resource.metadata.name for resource in self.informers.resources.objects()}

    def synced(self) -> tuple[str, str]:
        monitor = self.informers.monitors.get(Key("ns", "rm"))
        assert monitor is not None
        found = [item for item in monitor.status.conditions if item.type == "Synced"]
        return (found[0].status, found[0].reason) if found else ("", "")


def play(scenario: Callable[[World], Awaitable[None]]) -> None:
    virtual.play(World, scenario)


def test_a_group_gets_a_resource_immediately_and_a_new_group_within_the_interval() -> None:
    async def scenario(world: World) -> None:
        world.monitor()
        await asyncio.sleep(0.1)
        assert world.resources() == {"web"}
        await asyncio.sleep(100)
        world.asking.add("db")
        await asyncio.sleep(120)
        assert world.resources() == {"web", "db"}
        assert world.synced() == ("True", "Synced")

    play(scenario)


def test_a_monitor_causes_no_calls_in_addition_to_those_of_resources() -> None:
    async def scenario(world: World) -> None:
        world.asking = set()
        world.monitor()
        await asyncio.sleep(3600)
        assert 29 <= len(world.calls) <= 31
        world.resource("other", type="ec2", tag="other")
        before = len(world.calls)
        await asyncio.sleep(3600)
        with_resource = len(world.calls) - before
        assert with_resource <= 61  # as many calls as the Resource causes without a monitor

    play(scenario)


def test_a_short_interval_is_used_in_addition_to_resources() -> None:
    async def scenario(world: World) -> None:
        world.monitor(interval="10s")
        await asyncio.sleep(95)
        world.asking.add("db")
        await asyncio.sleep(10)
        assert "db" in world.resources()

    play(scenario)


def test_the_status_is_written_once_an_interval() -> None:
    async def scenario(world: World) -> None:
        world.monitor()
        await asyncio.sleep(1200)
        assert world.status.writes <= 11

    play(scenario)


def test_a_deleted_resource_is_created_again_and_an_edited_one_stays() -> None:
    async def scenario(world: World) -> None:
        world.monitor()
        await asyncio.sleep(1)
        world.resource("web", type="ec2", tag="web", unbooked="Leave")
        world.informers.resources.delete(Key("ns", "web"))
        await asyncio.sleep(0.1)
        assert world.resources() == {"web"}
        world.resource("web", type="ec2", tag="web", unbooked="Leave")
        await asyncio.sleep(300)
        (resource,) = world.informers.resources.objects()
        assert getattr(resource.spec, "unbooked", "") == "Leave"

    play(scenario)


def test_pruning_waits_for_bookings_and_fresh_data_and_keeps_resources_of_others() -> None:
    async def scenario(world: World) -> None:
        world.resource("mine", type="ec2", tag="mine")
        world.monitor(prune=True)
        await asyncio.sleep(1)
        assert world.resources() == {"mine", "web"}
        world.booking("web", end=300)
        world.asking = set()
        await asyncio.sleep(280)
        assert world.resources() == {"mine", "web"}
        world.consistency.stale = "a list failed"
        await asyncio.sleep(200)
        assert world.resources() == {"mine", "web"}
        world.consistency.stale = ""
        await asyncio.sleep(130)
        assert world.resources() == {"mine"}
        assert world.objects.deleted == ["web"]

    play(scenario)


def test_pruning_needs_a_confirmation_by_the_api_server() -> None:
    """A booking that vanishes with its CRD is gone from the cache before a list fails."""

    async def scenario(world: World) -> None:
        world.monitor(prune=True)
        world.booking("web", end=7200)
        await asyncio.sleep(1)
        world.asking = set()
        await asyncio.sleep(299)
        assert (world.resources(), world.consistency.confirmations) == ({"web"}, 0)
        world.consistency.unconfirmed = "the CustomResourceDefinition is being deleted"
        world.informers.bookings.delete(Key("ns", "bk"))
        await asyncio.sleep(300)
        assert world.resources() == {"web"}
        assert 1 < world.consistency.confirmations < 5
        world.consistency.unconfirmed, world.consistency.confirm_seconds = "", 60  # the confirmation hangs
        await asyncio.sleep(300)
        assert world.resources() == {"web"}
        world.consistency.confirm_seconds = 0
        await asyncio.sleep(300)
        assert world.resources() == set()

    play(scenario)


async def _booked(world: World) -> None:
    world.booking("web", end=7200)


async def _asking_again(world: World) -> None:
    world.asking = {"web"}
    await asyncio.sleep(1)
    await world.inventory.refresh(Scope("", REGION), world.clock.now())


async def _deleted(world: World) -> None:
    world.informers.resources.delete(Key("ns", "web"))


@pytest.mark.parametrize("meanwhile", [_booked, _asking_again, _deleted])
def test_changes_during_the_confirmation_prevent_pruning(
    meanwhile: Callable[[World], Awaitable[None]],
) -> None:
    async def scenario(world: World) -> None:
        async def confirm(**_: bool) -> str:
            world.consistency.confirmations += 1
            await meanwhile(world)
            return ""

        world.consistency.confirm = confirm  # type: ignore[method-assign]
        world.monitor(prune=True)
        await asyncio.sleep(1)
        world.asking = set()
        await asyncio.sleep(119)
        assert world.consistency.confirmations == 1
        assert world.objects.deleted == []

    play(scenario)


def test_without_prune_nothing_is_deleted() -> None:
    async def scenario(world: World) -> None:
        world.monitor()
        await asyncio.sleep(1)
        world.asking = set()
        await asyncio.sleep(600)
        assert world.resources() == {"web"}

    play(scenario)


def test_a_cloud_error_is_reported_and_nothing_is_pruned() -> None:
    async def scenario(world: World) -> None:
        world.monitor(prune=True)
        await asyncio.sleep(1)
        world.error = DENIED
        await asyncio.sleep(400)
        assert world.synced() == ("False", "UnauthorizedOperation")
        assert world.resources() == {"web"}
        world.error = None
        await asyncio.sleep(130)
        assert world.synced() == ("True", "Synced")

    play(scenario)


def test_a_refused_creation_is_reported_and_retried() -> None:
    async def scenario(world: World) -> None:
        world.objects.error = ApiError(403, "HTTP 403: forbidden")
        world.monitor()
        await asyncio.sleep(1)
        assert world.synced() == ("False", "Forbidden")
        assert ("ResourceMonitor", "Forbidden") in world.events.recorded
        world.objects.error = None
        await asyncio.sleep(60)
        assert world.resources() == {"web"}

    play(scenario)


def test_only_one_of_two_monitors_of_a_scope_creates_a_resource() -> None:
    async def scenario(world: World) -> None:
        world.objects.seconds = 0.02
        for namespace in ("a", "b"):
            world.monitor(namespace)
        await asyncio.sleep(300)
        world.asking |= {"db", "cache"}
        await asyncio.sleep(300)
        assert sorted(item.metadata.name for item in world.informers.resources.objects()) == [
            "cache",
            "db",
            "web",
        ]

    play(scenario)


def test_a_second_monitor_creates_a_resource_that_the_first_may_not_create() -> None:
    async def scenario(world: World) -> None:
        world.objects.seconds, world.objects.refused = 0.02, {"a"}
        for namespace in ("a", "b"):
            world.monitor(namespace)
        await asyncio.sleep(300)
        assert [item.metadata.namespace for item in world.informers.resources.objects()] == ["b"]

    play(scenario)


@pytest.mark.parametrize("change", ["deleted", "garbled"])
def test_a_deleted_or_invalid_monitor_does_not_block_another(change: str) -> None:
    async def scenario(world: World) -> None:
        world.objects.seconds = 1
        world.monitor("a")
        await asyncio.sleep(0.5)
        if change == "deleted":
            world.informers.monitors.delete(Key("a", "rm"))
        else:
            world.monitor("a", interval="soon")
        await asyncio.sleep(3)
        world.informers.resources.delete(Key("a", "web"))
        world.monitor("b")
        await asyncio.sleep(5)
        assert [item.metadata.namespace for item in world.informers.resources.objects()] == ["b"]

    play(scenario)


def test_the_interval_of_a_monitor_is_the_polling_period_of_its_scope() -> None:
    async def scenario(world: World) -> None:
        world.monitor(interval="30s")
        periods = world.handlers.inventory_listener("ec2").polling_periods()
        assert periods == {Scope("", REGION): timedelta(seconds=30)}
        assert world.handlers.inventory_listener("rds").polling_periods() == {}
        await asyncio.sleep(0)

    play(scenario)


def test_tags_that_differ_only_by_case_or_blanks_are_reported() -> None:
    async def scenario(world: World) -> None:
        world.asking = {"web", "Web "}
        world.monitor()
        await asyncio.sleep(1)
        found: Any = world.informers.monitors.get(Key("ns", "rm"))
        ready = next(condition for condition in found.status.conditions if condition.type == "Ready")
        assert (ready.status, ready.reason) == ("True", "Synced")
        assert "These tags differ only by case or blanks: 'Web ' and 'web'" in ready.message

    play(scenario)


@pytest.mark.parametrize(
    ("type_", "template", "name"), [("ec2", "", "web"), ("rds", "", "rds.web"), ("rds", "{tag}", "web")]
)
def test_the_default_name_of_a_resource(type_: str, template: str, name: str) -> None:
    spec: Any = {"type": type_, "name_template": template}
    made: Any = RESOURCE_MONITOR.adapter.validate_python(
        {"metadata": {"name": "rm", "namespace": "ns", "uid": "u"}, "spec": spec}
    )
    group = {"type": type_, "tag": "web", "region": "", "account": ""}
    assert next(name_candidates(name_template(made.spec), group)) == name
