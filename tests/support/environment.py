"""The environment of a reconciler: in memory, and on virtual time."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.api.resource import Resource, ResourceStatus
from booking_operator.cloud.driver import CloudError, Demand, InventoryListener, Order
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import Instance, InstanceState, Lock, Observation, StatusCheck
from booking_operator.engine.controller import Controller
from booking_operator.engine.store import Key, Object, key_of
from booking_operator.engine.workqueue import WorkQueue
from booking_operator.kube.cache_consistency import CacheConsistency
from booking_operator.kube.errors import ApiError
from booking_operator.kube.status import WriteResult
from booking_operator.reconcilers.delays import DelayController
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.lock_tags import LockTagsReconciler
from booking_operator.reconcilers.resource.orders import Late, ResourceOrders, ignore_lateness
from booking_operator.reconcilers.resource.reconciler import ResourceReconciler
from tests.support.virtual import EPOCH, VirtualClock

REGION = "eu-west-1"


@dataclass(frozen=True)
class Act:
    """One start or stop that the cloud received, `at` seconds after the epoch."""

    verb: str
    ids: tuple[str, ...]
    at: float


@dataclass
class FakeChecks:
    """The status checks that a test has set."""

    driver: "FakeDriver"

    def of(self, _: Scope) -> dict[str, StatusCheck]:
        return self.driver.status_checks

    def failure(self, _: Scope) -> CloudError | None:
        return self.driver.check_error


@dataclass
class FakeDriver:
    """A cloud with one group. It carries out actions immediately, unless a test sets delays or errors."""

    clock: VirtualClock
    instances: dict[str, InstanceState] = field(
        default_factory=lambda: {"i-1": InstanceState.STOPPED, "i-2": InstanceState.STOPPED}
    )
    acts: list[Act] = field(default_factory=list)
    observed: int = 0
    observe_error: CloudError | None = None
    act_error: CloudError | None = None
    hang: bool = False
    queue_seconds: float = 0.0
    boot_seconds: float = 0.0
    shutdown_seconds: float = 0.0
    changed: Callable[[], None] = lambda: None
    view: Observation | None = None
    locks: dict[str, Lock | None] = field(default_factory=dict)
    locked: list[tuple[tuple[str, ...], Lock | None, float]] = field(default_factory=list)
    lock_error: CloudError | None = None
    lock_seconds: float = 0.0
    lock_pace: float = 0.0
    view_seconds: float = 0.05
    viewers: list[Callable[[Scope], None]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)  # other fields of all instances
    status_checks: dict[str, StatusCheck] = field(default_factory=dict)
    check_error: CloudError | None = None

    @property
    def inventory(self) -> "FakeDriver":
        return self

    def on_viewed(self, call: Callable[[Scope], None]) -> None:
        self.viewers.append(call)

    def look_again(self) -> None:
        """View the instances as they are now."""
        self.view = self.look(self.clock.now())
        for call in self.viewers:
            call(Scope("", REGION))

    @property
    def batcher(self) -> "FakeDriver":
        return self

    @property
    def checks(self) -> "FakeChecks":
        return FakeChecks(self)

    def observation(self, _: Group) -> Observation | None:
        return self.view

    def failure(self, _: Scope) -> CloudError | None:
        return self.observe_error

    def managed_tags(self, _: Scope) -> frozenset[str]:
        raise AssertionError("only monitors ask for it")

    async def refresh(self, _: Scope, since: datetime) -> datetime:
        if self.view is not None and self.view.at >= since:
            return self.view.at
        self.observed += 1
        at = self.clock.now()
        await asyncio.sleep(3600 if self.hang else self.view_seconds)
        if self.observe_error:
            raise self.observe_error
        self.view = self.look(at)
        return at

    def look(self, at: datetime) -> Observation:
        return Observation(
            tuple(
                Instance(id_, state, lock=self.locks.get(id_), **self.more)
                for id_, state in self.instances.items()
            ),
            at,
        )

    def _second(self) -> float:
        return round((self.clock.now() - EPOCH).total_seconds(), 3)

    def start(self, order: Order) -> None:
        self._at_deadline(order, lambda: self._act("start", order, InstanceState.RUNNING))

    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        verb = "hibernate" if hibernate else "stop"
        self._at_deadline(order, lambda: self._act(verb, order, InstanceState.STOPPED))

    def _at_deadline(self, order: Order, act: Callable[[], None]) -> None:
        wait = (order.deadline - self.clock.now()).total_seconds() + self.queue_seconds
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, act)
        else:
            act()

    def _act(self, verb: str, order: Order, state: InstanceState) -> None:
        if not order.still_valid():
            order.cancel()
        ids = order.pending
        if not ids:
            return
        self.acts.append(Act(verb, tuple(ids), self._second()))
        for id_ in ids:
            if self.act_error:
                order.futures[id_].set_exception(self.act_error)
                continue
            starts = state is InstanceState.RUNNING
            seconds = self.boot_seconds if starts else self.shutdown_seconds
            on_its_way = InstanceState.PENDING if starts else InstanceState.STOPPING
            self.instances[id_] = on_its_way if seconds else state
            order.accept({id_: state})
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self._show, id_, state)
        if self.view is not None and not self.act_error:
            self.view = self.look(self.view.at)

    def _show(self, id_: str, state: InstanceState) -> None:
        self.instances[id_] = state
        self.view = self.look(self.clock.now())
        self.changed()

    def set_lock_tags(self, order: Order, lock: Lock | None) -> None:
        self.locked.append((tuple(order.pending), lock, self._second()))
        if self.lock_pace:
            for number, id_ in enumerate(order.pending, 1):
                asyncio.get_running_loop().call_later(self.lock_pace * number, self._lock, order, lock, id_)
        elif self.lock_seconds:
            asyncio.get_running_loop().call_later(self.lock_seconds, self._lock, order, lock)
        else:
            self._lock(order, lock)

    def _lock(self, order: Order, lock: Lock | None, only: str = "") -> None:
        if not order.still_valid():
            order.cancel()
        for id_ in order.pending:
            if only not in {"", id_}:
                continue
            if self.lock_error:
                order.futures[id_].set_exception(self.lock_error)
                continue
            self.locks[id_] = lock
            order.futures[id_].set_result(None)
        if self.view is not None:
            self.view = self.look(self.view.at)

    async def expected(self, orders: Collection[Order]) -> Mapping[Order, datetime]:
        wait = timedelta(seconds=self.queue_seconds)
        return {order: order.deadline + wait for order in orders if order.pending}

    async def forecast(self, demands: Sequence[Demand]) -> Sequence[datetime]:
        return [demand.at + timedelta(seconds=self.queue_seconds) for demand in demands]

    def set_listener(self, _: InventoryListener) -> None:
        raise AssertionError("reconcilers do not track")


class FakeObjects:
    """Writes finalizers into the store immediately, and records them. It creates no objects."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.error: ApiError | None = None
        self.finalizers: list[tuple[str, ...]] = []
        self.seconds = 0.0

    async def create(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nothing is created here")

    update = delete = create

    async def set_finalizers(self, _: Kind[Any], object_: Any, finalizers: Sequence[str]) -> None:
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        self.finalizers.append(tuple(finalizers))
        known = self._store.get(key_of(object_))
        if known.metadata.deletion_timestamp and not finalizers:
            self._store.delete(key_of(object_))
            return
        version = str(int(known.metadata.resource_version) + 1)
        metadata = replace(known.metadata, finalizers=tuple(finalizers), resource_version=version)
        self._store.apply_own_write(replace(known, metadata=metadata))


class FakeStatus:
    """Writes a status into the store immediately. While `away` is set, `write` sleeps for an hour."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.away = False
        self.seconds = 0.0
        self.writes = 0
        self.log: list[str] = []

    def current(self, object_: Any) -> Any:
        found = self._store.get(key_of(object_))
        return (found or object_).status

    def set(self, object_: Any, status: Any) -> None:
        found = self._store.get(key_of(object_))
        if found is None or found.status == status:
            return
        self.writes += 1
        version = str(int(found.metadata.resource_version) + 1)
        metadata = replace(found.metadata, resource_version=version)
        self._store.apply_own_write(replace(found, status=status, metadata=metadata))

    async def write(self, object_: Any, status: Any) -> WriteResult:
        if status != self.current(object_):
            self.log.append("write")
        await asyncio.sleep(3600 if self.away else self.seconds)
        self.set(object_, status)
        return WriteResult.WRITTEN


@dataclass
class FakeEvents:
    """Records the reasons of Events and the kinds of their objects."""

    recorded: list[tuple[str, str]] = field(default_factory=list)

    def normal(self, kind: Kind[Any], _: Object, reason: str, __: str, ___: str) -> None:
        self.recorded.append((kind.name, reason))

    def warning(self, kind: Kind[Any], _: Object, reason: str, __: str, ___: str) -> None:
        self.recorded.append((kind.name, reason))


@dataclass
class FakeConsistency(CacheConsistency):
    """Reports stale data as a test sets it."""

    stale: str = ""
    unconfirmed: str = ""
    confirmations: int = 0
    confirmed_required: bool = False
    confirm_seconds: float = 0.0
    vanishing: str = ""

    @override
    def stale_reason(self) -> str:
        return self.stale

    @override
    async def confirm(self, *, required: bool = False) -> str:
        self.confirmations += 1
        self.confirmed_required = required
        await asyncio.sleep(self.confirm_seconds)
        return self.stale or self.unconfirmed

    @override
    async def confirm_namespace(self, namespace: str) -> str:
        return f"the namespace {namespace} is being deleted" if namespace == self.vanishing else ""


def fake_environment(
    informers: Informers,
    clock: VirtualClock,
    *,
    dry_run: bool = False,
    deletion_grace: timedelta = timedelta(0),
    lock_tags: bool = True,
    **fakes: Any,
) -> Environment:
    """An environment. Other keyword arguments replace its default fakes."""
    collaborators: dict[str, Any] = {
        "drivers": {},
        "statuses": {},
        "events": FakeEvents(),
        "objects": None,
        "consistency": FakeConsistency(),
    }
    return Environment(
        informers,
        clock=clock,
        dry_run=dry_run,
        deletion_grace=deletion_grace,
        lock_tags=lock_tags,
        **(collaborators | fakes),
    )


class World:
    """One Resource `ns/res` for the group `web`, its bookings, and the reconciler under test."""

    def __init__(
        self,
        *,
        dry_run: bool = False,
        deletion_grace: float = 0,
        writes_lock_tags: bool = True,
        late: Late = ignore_lateness,
        took_over: float = -3600,
        **spec: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.informers = Informers(REGION)
        self.driver = FakeDriver(self.clock)
        self.status = FakeStatus(self.informers.resources)
        self.events = FakeEvents()
        self.consistency = FakeConsistency()
        self.queue: WorkQueue[Key] = WorkQueue(self.clock)
        self.objects = FakeObjects(self.informers.resources)
        self.lock_tag_queue: WorkQueue[Key] = WorkQueue(self.clock)
        self.driver.changed = self.wake
        self.environment = fake_environment(
            self.informers,
            self.clock,
            drivers={"ec2": self.driver},
            statuses={RESOURCE: self.status},
            events=self.events,
            objects=self.objects,
            consistency=self.consistency,
            dry_run=dry_run,
            deletion_grace=timedelta(seconds=deletion_grace),
            lock_tags=writes_lock_tags,
        )
        self.lock_tags = LockTagsReconciler(self.environment, self.lock_tag_queue, self.queue.add)
        self.orders = ResourceOrders(self.environment, self.queue.add, late)
        self.delays = DelayController(self.environment, self.orders.open_orders, self.queue.add)
        self.reconciler = ResourceReconciler(
            self.environment,
            self.orders,
            self.lock_tags,
            self.delays,
            took_over_at=EPOCH + timedelta(seconds=took_over),
        )
        self._versions = 1
        self.resource(**spec)

    def resource(self, name: str = "res", **spec: Any) -> None:
        """Create or update a Resource."""
        known = self.informers.resources.get(Key("ns", name))
        generation = known.metadata.generation + 1 if known else 1
        whole = {"metadata": self._meta(name, generation), "spec": {"tag": "web", **spec}}
        made: Resource = RESOURCE.adapter.validate_python(whole)
        self.informers.resources.apply(replace(made, status=known.status) if known else made)
        self.queue.add(Key("ns", name))

    def booking(self, name: str, start: float, end: float, user: str = "ada") -> None:
        """Create or update a booking; `start` and `end` are seconds after the epoch."""
        spec = {"resource_name": "res", "user_id": user, "start_at": at_text(start), "end_at": at_text(end)}
        made: Booking = BOOKING.adapter.validate_python({"metadata": self._meta(name, 1), "spec": spec})
        self.informers.bookings.apply(made)
        self.queue.add(Key("ns", "res"))

    def delete_booking(self, name: str) -> None:
        self.informers.bookings.delete(Key("ns", name))
        self.queue.add(Key("ns", "res"))

    def delete_resource(self) -> None:
        """Delete the Resource. With a finalizer, it gets a deletionTimestamp and remains."""
        found: Any = self.informers.resources.get(Key("ns", "res"))
        if not found.metadata.finalizers:
            self.informers.resources.delete(Key("ns", "res"))
            self.wake()
            return
        metadata = replace(found.metadata, deletion_timestamp=self.clock.now(), resource_version="999999")
        self.informers.resources.apply(replace(found, metadata=metadata))
        self.wake()

    def wake(self) -> None:
        self.queue.add(Key("ns", "res"))

    def _meta(self, name: str, generation: int) -> dict[str, Any]:
        self._versions += 1000
        created = format_utc(EPOCH)
        return {
            "name": name,
            "namespace": "ns",
            "uid": f"u-{name}",
            "resourceVersion": str(self._versions),
            "generation": generation,
            "creationTimestamp": created,
        }

    def shown(self, name: str = "res") -> ResourceStatus:
        """The status of a Resource."""
        found = self.informers.resources.get(Key("ns", name))
        assert found is not None
        return found.status

    def conditions(self, name: str = "res") -> dict[str, tuple[str, str]]:
        return {
            condition.type: (condition.status, condition.reason) for condition in self.shown(name).conditions
        }

    async def run(self, seconds: float) -> None:
        """Run the controllers for `seconds`."""
        controller = Controller("test", self.queue, self.reconciler.reconcile)
        lock_tags = Controller("locks", self.lock_tag_queue, self.lock_tags.reconcile)
        tasks = [asyncio.ensure_future(item.run()) for item in (controller, lock_tags, self.delays)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def at_text(seconds: float) -> str:
    """The instant `seconds` after the epoch, in RFC 3339."""
    return format_utc(datetime.fromtimestamp(EPOCH.timestamp() + seconds, tz=EPOCH.tzinfo))
