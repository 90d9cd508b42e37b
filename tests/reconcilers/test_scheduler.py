"""A scheduler on virtual time: hours of bookings, restarts, deletions and refusals."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER
from booking_operator.api.meta import TEMPLATE_ANNOTATION
from booking_operator.engine.controller import Controller
from booking_operator.engine.store import Key
from booking_operator.kube.errors import ApiError
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.scheduler import SchedulerReconciler
from tests.support import virtual
from tests.support.environment import REGION, FakeEvents, FakeStatus, at_text, fake_environment
from tests.support.virtual import EPOCH, VirtualClock

HOUR = 3600
QUOTA_CONFLICT = ApiError(
    409, "HTTP 409: Operation cannot be fulfilled on resourcequotas: modified", reason="Conflict"
)
KEY = Key("ns", "bs")
TIMES = ("resource_name", "user_id", "start_at", "end_at")


class FakeObjects:
    """An API server for Bookings. A written object is in the cache immediately."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.error: ApiError | None = None
        self.room = 1000
        self.attempts = 0
        self.created: list[str] = []
        self.updated: list[Key] = []
        self.adopted: list[str] = []
        self.seconds = 0.0

    async def create(
        self, kind: Any, namespace: str, name: str, spec: Any, *, annotations: Any, owner: Any = None
    ) -> None:
        self.attempts += 1
        if self.error:
            raise self.error
        assert (kind.name, namespace) == ("Booking", "ns")
        if self._world.informers.bookings.get(Key(namespace, name)):
            raise ApiError(409, "HTTP 409: exists", reason="AlreadyExists")
        if sum(1 for _ in self._world.informers.bookings.objects()) >= self.room:
            raise ApiError(403, "HTTP 403: bookings is forbidden: exceeded quota: bookings")
        self.created.append(name)
        self._world.booking(name, spec, annotations, owner[1].metadata.uid)

    async def update(self, _: Any, object_: Any, spec: Any, annotations: Any) -> None:
        meta = object_.metadata
        self.updated.append(Key(meta.namespace, meta.name))
        self._world.booking(meta.name, spec, annotations, meta.controller_uid)

    async def adopt(self, _: Any, object_: Any, owner: Any) -> None:
        if self.error:
            raise self.error
        self.adopted.append(object_.metadata.name)
        if self.seconds:
            await asyncio.sleep(self.seconds)
        spec = {name: getattr(object_.spec, name) for name in TIMES}
        self._world.booking(object_.metadata.name, spec, object_.metadata.annotations, owner[1].metadata.uid)

    async def delete(self, _: Any, object_: Any) -> None:
        self._world.informers.bookings.delete(Key("ns", object_.metadata.name))

    async def set_finalizers(self, *_: Any) -> None:
        raise AssertionError("bookings carry no finalizer, ever")


class World:
    """One scheduler `ns/bs` and its bookings."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.clock = VirtualClock()
        self.informers = Informers(REGION)
        self.status = FakeStatus(self.informers.schedulers)
        self.events, self.objects = FakeEvents(), FakeObjects(self)
        self._tasks = tasks
        self._version = 1
        self._subscribed = False
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        handlers = EventHandlers(self.informers, self.clock)
        handlers.subscribe()
        environment = fake_environment(
            self.informers,
            self.clock,
            statuses={BOOKING_SCHEDULER: self.status},
            events=self.events,
            objects=self.objects,
        )
        reconciler = SchedulerReconciler(environment)
        handlers.schedulers.add(KEY)
        controller = Controller("schedulers", handlers.schedulers, reconciler.reconcile)
        self._running = self._tasks.create_task(controller.run())

    def stop(self) -> None:
        assert self._running is not None
        self._running.cancel()

    def scheduler(self, schedule: str = "0 * * * *", *, fresh: bool = False, **spec: Any) -> None:
        """Create or update the scheduler. Unless it is `fresh`, it has created all bookings until now."""
        found = self.informers.schedulers.get(KEY)
        template = {"resource_name": "res", "user_id": "ada"}
        whole = {"schedule": schedule, "duration": 20, "bookingTemplate": template, "horizon": "0s", **spec}
        whole = {field: value for field, value in whole.items() if value is not None}
        metadata = self._meta("bs", found.metadata.generation + 1 if found else 1)
        made: Any = BOOKING_SCHEDULER.adapter.validate_python({"metadata": metadata, "spec": whole})
        status = (
            made.status if fresh else replace(made.status, observed_generation=1, scheduled_until=self._now())
        )
        self.informers.schedulers.apply(replace(made, status=found.status if found else status))

    def booking(self, name: str, spec: Any, annotations: Any, owner: str, *, namespace: str = "ns") -> None:
        metadata = {
            **self._meta(name, 1),
            "namespace": namespace,
            "annotations": dict(annotations),
            "ownerReferences": [{"uid": owner, "controller": True}] if owner else [],
        }
        self.informers.bookings.apply(BOOKING.adapter.validate_python({"metadata": metadata, "spec": spec}))

    def _meta(self, name: str, generation: int) -> dict[str, Any]:
        self._version += 1000
        return {
            "name": name,
            "namespace": "ns",
            "uid": f"u-{name}",
            "resourceVersion": str(self._version),
            "generation": generation,
            "creationTimestamp": self._now(),
        }

    def _now(self) -> str:
        return at_text((self.clock.now() - EPOCH).total_seconds())

    def starts(self) -> list[float]:
        """Starts of all bookings, in hours after the epoch."""
        intervals = [booking.interval() for booking in self.informers.bookings.objects()]
        found = [(interval.start_at - EPOCH).total_seconds() / HOUR for interval in intervals if interval]
        return sorted(found)

    def condition(self, type_: str) -> tuple[str, str]:
        found: Any = self.informers.schedulers.get(KEY)
        matching = [item for item in found.status.conditions if item.type == type_]
        return (matching[0].status, matching[0].reason) if matching else ("", "")

    def message(self, type_: str) -> str:
        found: Any = self.informers.schedulers.get(KEY)
        return str(next(item.message for item in found.status.conditions if item.type == type_))


def play(scenario: Callable[[World], Awaitable[None]]) -> None:
    virtual.play(World, scenario)


def test_the_next_booking_exists_and_three_finished_ones_are_kept() -> None:
    async def scenario(world: World) -> None:
        world.scheduler()
        world.start()
        await asyncio.sleep(10 * HOUR + 30 * 60)
        assert world.starts() == [8, 9, 10, 11]
        assert len(world.objects.created) == 11
        assert world.condition("Ready") == ("True", "Synced")
        found: Any = world.informers.schedulers.get(KEY)
        assert found.status.next == at_text(11 * HOUR)

    play(scenario)


def test_a_booking_deleted_in_progress_stays_deleted_after_a_restart() -> None:
    async def scenario(world: World) -> None:
        world.scheduler()
        world.start()
        await asyncio.sleep(2 * HOUR + 60)
        (running,) = [item for item in world.objects.created if item.endswith("1100")]
        world.informers.bookings.delete(Key("ns", running))
        await asyncio.sleep(60)
        assert world.starts() == [1, 3]
        world.stop()
        world.start()
        await asyncio.sleep(60)
        assert world.starts() == [1, 3]

    play(scenario)


@pytest.mark.parametrize("text", ["soon", "3000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"])
def test_an_invalid_status_does_not_prevent_bookings(text: str) -> None:
    async def scenario(world: World) -> None:
        world.scheduler()
        world.start()
        await asyncio.sleep(60)
        world.stop()
        found: Any = world.informers.schedulers.get(KEY)
        metadata = replace(found.metadata, resource_version="999999")
        garbled = replace(found.status, scheduled_until=text)
        world.informers.schedulers.apply(replace(found, metadata=metadata, status=garbled))
        world.informers.bookings.delete(Key("ns", world.objects.created[0]))
        world.start()
        await asyncio.sleep(60)
        assert world.starts() == [1]
        assert world.condition("Ready") == ("True", "Synced")

    play(scenario)


def test_a_booking_deleted_before_its_start_is_created_again() -> None:
    async def scenario(world: World) -> None:
        world.scheduler()
        world.start()
        await asyncio.sleep(60)
        world.informers.bookings.delete(Key("ns", world.objects.created[0]))
        await asyncio.sleep(60)
        assert world.starts() == [1]

    play(scenario)


def test_a_missed_booking_is_created_if_it_is_still_in_progress() -> None:
    async def scenario(world: World) -> None:
        world.scheduler()
        world.start()
        await asyncio.sleep(60)
        world.stop()
        await asyncio.sleep(3 * HOUR + 10 * 60)  # down from 0:01 to 3:11
        world.start()
        await asyncio.sleep(60)
        assert world.starts() == [1, 3, 4]

    play(scenario)


def test_a_new_scheduler_creates_the_booking_in_progress_and_an_edited_one_does_not() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(10 * 60)
        world.scheduler(duration=50, fresh=True)
        world.start()
        await asyncio.sleep(60)
        assert world.starts() == [0, 1]
        await asyncio.sleep(2 * HOUR)
        world.scheduler("30 * * * *", duration=59)
        await asyncio.sleep(60)
        assert world.starts() == [0, 1, 2, 2.5]

    play(scenario)


def test_an_edit_changes_the_next_booking_but_not_the_one_in_progress() -> None:
    async def scenario(world: World) -> None:
        world.scheduler()
        world.start()
        await asyncio.sleep(HOUR + 60)
        world.scheduler(duration=45)
        await asyncio.sleep(60)
        intervals: list[Any] = [booking.interval() for booking in world.informers.bookings.objects()]
        lengths = [
            round((interval.end_at - interval.start_at).total_seconds() / 60) for interval in intervals
        ]
        assert sorted(lengths) == [20, 45]

    play(scenario)


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (
            'bookings.manager.kotaico.de is forbidden: User "operator" cannot create resource "bookings"',
            "grant this permission to the operator's ServiceAccount.",
        ),
        (
            "bookings \"bs\" is forbidden: ValidatingAdmissionPolicy 'bounds' denied request: no",
            "'bounds' denied request: no; the operator retries.",
        ),
        (
            "unable to create new content in namespace ns because it is being terminated",
            "it is being terminated; the operator retries.",
        ),
    ],
)
def test_a_refused_creation_is_reported_with_the_fix_and_retried(words: str, fix: str) -> None:
    async def scenario(world: World) -> None:
        world.objects.error = ApiError(403, f"HTTP 403: {words}")
        world.scheduler()
        world.start()
        await asyncio.sleep(60)
        assert world.condition("Synced") == ("False", "Forbidden")
        assert world.message("Synced").endswith(fix)
        assert ("BookingScheduler", "Forbidden") in world.events.recorded
        world.objects.error = None
        await asyncio.sleep(90)
        assert world.starts() == [1]
        assert world.condition("Synced") == ("True", "Synced")

    play(scenario)


def test_a_quota_conflict_delays_a_booking_but_loses_none() -> None:
    """The API server answers 409, as it does if a booking of that name exists."""

    async def scenario(world: World) -> None:
        world.objects.error = QUOTA_CONFLICT
        # back to back, so that no other event triggers a reconcile
        world.scheduler("0 10 * * *", duration=1440)
        world.start()
        await asyncio.sleep(0.1)
        assert world.condition("Synced") == ("False", "Conflict")
        world.objects.error = None
        await asyncio.sleep(60)
        assert world.starts() == [1]
        assert world.condition("Synced") == ("True", "Synced")
        await asyncio.sleep(HOUR - 60 - 1)
        world.objects.error = QUOTA_CONFLICT
        await asyncio.sleep(2)
        world.objects.error = None
        await asyncio.sleep(60)
        assert world.starts() == [1, 25]

    play(scenario)


def test_a_booking_that_already_exists_is_no_failure() -> None:
    async def scenario(world: World) -> None:
        world.objects.error = ApiError(409, "HTTP 409: already exists", reason="AlreadyExists")
        world.scheduler()
        world.start()
        await asyncio.sleep(10)
        assert world.condition("Synced") == ("True", "Synced")
        assert world.events.recorded == []
        assert world.objects.attempts == 1

    play(scenario)


def test_an_exhausted_quota_is_reported_and_a_booking_in_progress_is_created_late() -> None:
    async def scenario(world: World) -> None:
        world.objects.room = 3
        world.scheduler(horizon="12h", duration=50)
        world.start()
        await asyncio.sleep(0.1)
        assert world.starts() == [1, 2, 3]
        assert world.condition("Synced") == ("False", "QuotaExceeded")
        # One refusal at first, and another one after its own bookings are in the cache. The other nine are
        # not tried.
        assert world.objects.attempts == 5
        # The next booking is deleted, and another user takes its place in the quota, so it is missing when it
        # begins.
        world.objects.room = 0
        world.informers.bookings.delete(Key("ns", world.objects.created[0]))
        await asyncio.sleep(HOUR + 10 * 60)
        assert world.starts() == [2, 3]
        world.objects.room = 1000
        await asyncio.sleep(90)
        assert world.starts()[:3] == [1, 2, 3]
        assert world.condition("Synced") == ("True", "Synced")

    play(scenario)


@pytest.mark.parametrize("taken", [False, True])
def test_a_booking_deleted_in_progress_stays_deleted_while_another_is_refused(taken: bool) -> None:
    async def scenario(world: World) -> None:
        world.objects.room = 1000 if taken else 3
        if taken:
            world.booking("bs-202601011700", {"resource_name": "res"}, {}, "another")
        world.scheduler(horizon="12h", duration=50, keep_finished=0)
        world.start()
        await asyncio.sleep(HOUR + 10 * 60)
        assert world.condition("Synced") == ("False", "NameTaken" if taken else "QuotaExceeded")
        world.informers.bookings.delete(Key("ns", "bs-202601011000"))
        await asyncio.sleep(5 * 60)
        assert world.objects.created.count("bs-202601011000") == 1
        assert min(world.starts()) == 2

    play(scenario)


def restored(start: float, user: str = "ada") -> dict[str, str]:
    """The spec of a booking of the scheduler; `start` is in hours."""
    times = {"start_at": at_text(start * HOUR), "end_at": at_text(start * HOUR + 1200)}
    return {"resource_name": "res", "user_id": user, **times}


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_bookings_that_were_restored_from_a_backup_are_adopted(seconds: float) -> None:
    """A backup has no ownerReferences and no status. The cache may see the adoption late."""

    async def scenario(world: World) -> None:
        world.objects.seconds = seconds
        annotations = {TEMPLATE_ANNOTATION: "any"}
        for start, name in ((-24, "bs-202512310900"), (0, "bs-202601010900"), (1, "bs-202601011000")):
            world.booking(name, restored(start), annotations, "")
        world.scheduler(horizon="2h", fresh=True)
        world.start()
        await asyncio.sleep(60)
        assert sorted(world.objects.adopted) == ["bs-202512310900", "bs-202601010900", "bs-202601011000"]
        assert world.objects.created == ["bs-202601011100"]
        assert world.condition("Synced") == ("True", "Synced")

    play(scenario)


@pytest.mark.parametrize(
    ("name", "user", "annotated"),
    [
        ("bs-202601011000", "eve", True),
        ("bs-202601011000", "ada", False),
        ("other-202601011000", "ada", True),
    ],
)
def test_bookings_that_are_not_the_schedulers_own_are_not_adopted(
    name: str, user: str, annotated: bool
) -> None:
    async def scenario(world: World) -> None:
        annotations = {TEMPLATE_ANNOTATION: "any"} if annotated else {}
        world.booking(name, restored(1, user), annotations, "")
        world.scheduler()
        world.start()
        await asyncio.sleep(60)
        assert world.objects.adopted == []
        taken = name.startswith("bs-")
        assert world.condition("Synced") == (("False", "NameTaken") if taken else ("True", "Synced"))

    play(scenario)


def test_an_interval_of_seconds_has_a_booking_for_each_occurrence() -> None:
    async def scenario(world: World) -> None:
        world.scheduler("@every 90s", duration=1, horizon="5m")
        world.start()
        await asyncio.sleep(1)
        assert world.objects.created == ["bs-20260101090130", "bs-202601010903", "bs-20260101090430"]
        await asyncio.sleep(600)
        assert len(world.objects.created) == len(set(world.objects.created)) == 10
        world.scheduler("@every 2m", duration=1, horizon="5m")
        await asyncio.sleep(1)
        assert min(world.starts()) * HOUR >= 0
        assert sum(start * HOUR > 601 for start in world.starts()) == 2

    play(scenario)


def test_a_booking_of_another_namespace_is_never_adopted() -> None:
    async def scenario(world: World) -> None:
        spec = {
            "resource_name": "x",
            "user_id": "eve",
            "start_at": at_text(HOUR),
            "end_at": at_text(2 * HOUR),
        }
        world.booking("bs-202601011000", spec, {}, "u-bs", namespace="evil")
        world.scheduler()
        world.start()
        await asyncio.sleep(60)
        assert world.objects.created == ["bs-202601011000"]
        assert world.objects.updated == []

    play(scenario)


@pytest.mark.parametrize(("late", "made"), [(30, [1.0, 25.0]), (5 * 60, [25.0])])
def test_an_edit_right_before_a_start_counts_although_it_is_processed_later(
    late: float, made: list[float]
) -> None:
    async def scenario(world: World) -> None:
        world.scheduler("0 10 * * *", duration=480, suspend=True)
        world.start()
        await asyncio.sleep(HOUR - 20)
        world.stop()
        world.scheduler("0 10 * * *", duration=480, suspend=False)
        await asyncio.sleep(20 + late)
        world.start()
        await asyncio.sleep(60)
        assert world.starts() == made

    play(scenario)


def test_a_booking_that_a_user_moved_earlier_is_not_created_again() -> None:
    async def scenario(world: World) -> None:
        world.scheduler("0 12 * * *", duration=60, keep_finished=0)
        world.start()
        await asyncio.sleep(60)
        (made,) = world.informers.bookings.objects()
        spec = {
            "resource_name": "res",
            "user_id": "ada",
            "start_at": at_text(HOUR),
            "end_at": at_text(2 * HOUR),
        }
        world.booking(made.metadata.name, spec, made.metadata.annotations, "u-bs")
        await asyncio.sleep(3 * HOUR)
        assert world.objects.created == ["bs-202601011200", "bs-202601021200"]

    play(scenario)


def test_an_invalid_schedule_is_reported() -> None:
    async def scenario(world: World) -> None:
        world.scheduler("61 * * * *")
        world.start()
        await asyncio.sleep(60)
        assert world.condition("Valid") == ("False", "InvalidSpec")
        assert not world.objects.created

    play(scenario)


def test_without_changes_there_are_no_writes() -> None:
    async def scenario(world: World) -> None:
        world.scheduler("0 9 1 * *")
        world.start()
        await asyncio.sleep(60)
        writes = world.status.writes
        await asyncio.sleep(24 * HOUR)
        assert world.status.writes == writes

    play(scenario)


def spec_of(**spec: Any) -> Any:
    template = {"resource_name": "res", "user_id": "ada"}
    whole = {"schedule": "0 9 * * *", "duration": 60, "bookingTemplate": template, **spec}
    whole = {field: value for field, value in whole.items() if value is not None}
    metadata = {"name": "bs", "namespace": "ns", "uid": "u"}
    made: Any = BOOKING_SCHEDULER.adapter.validate_python({"metadata": metadata, "spec": whole})
    return made.spec


def test_no_booking_starts_on_the_days_of_a_range() -> None:
    spec = spec_of(except_dates=["2026-12-24/2026-12-27", "2026-12-29"])
    found = islice(spec.recurrence().after(datetime(2026, 12, 23, tzinfo=UTC)), 4)
    assert [f"{start:%m-%d}" for start in found] == ["12-23", "12-28", "12-30", "12-31"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-12-24/soon", "'2026-12-24/soon' is not a date or a range of dates; use a value like"),
        ("2026-12-24/2026-12-23", "must end on its first day or later, and have at most 366 days"),
        ("2026-12-24/2028-12-24", "must end on its first day or later, and have at most 366 days"),
    ],
)
def test_an_invalid_range_of_dates_is_refused(text: str, words: str) -> None:
    message = spec_of(except_dates=[text]).message
    assert words in message
    assert "except_dates" in message


def test_bookings_end_by_their_end_schedule() -> None:
    async def scenario(world: World) -> None:
        world.scheduler("0 * * * *", duration=None, end_schedule="20 */2 * * *", horizon="2h")
        world.start()
        await asyncio.sleep(1)
        intervals: list[Any] = [booking.interval() for booking in world.informers.bookings.objects()]
        spans = {
            (interval.start_at.hour, interval.end_at.hour, interval.end_at.minute) for interval in intervals
        }
        assert spans == {(10, 10, 20), (11, 12, 20)}

    play(scenario)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"end_schedule": "0 18 * * *"}, "set either duration or end_schedule, and not both"),
        ({"duration": None}, "set either duration or end_schedule, and not both"),
        (
            {"duration": None, "end_schedule": "0 25 * * *"},
            "end_schedule '0 25 * * *' is not a valid",
        ),
    ],
)
def test_an_invalid_end_is_refused(spec: dict[str, Any], words: str) -> None:
    assert words in spec_of(**spec).message
