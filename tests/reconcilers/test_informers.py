"""The cached holder of a Resource always equals the computed one."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import Resource, ResourceSpec, ad_hoc_interval
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import Result, WorkQueue
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from tests.support.environment import at_text
from tests.support.virtual import EPOCH

RES = Key("ns", "res")
SECONDS = st.integers(0, 60)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("book"), st.sampled_from("abcd"), SECONDS, st.integers(1, 60)),
        st.tuples(st.just("delete"), st.sampled_from("abcd")),
        st.tuples(st.just("status"), st.sampled_from("abcd")),
        st.tuples(
            st.just("resource"), st.sampled_from(["0s", "10s"]), st.sampled_from(["u1", "u2"]), SECONDS
        ),
        st.tuples(st.just("release")),
        st.tuples(st.just("move"), st.integers(-5, 30)),
    ),
    max_size=30,
)


def meta(name: str, number: int, uid: str = "") -> dict[str, Any]:
    return {"name": name, "namespace": "ns", "uid": uid or f"u-{name}", "resourceVersion": str(number)}


class Harness:
    """The bookings of one Resource, and the clock."""

    def __init__(self) -> None:
        self.informers = Informers("eu-west-1")
        self.at = EPOCH
        self._number = 0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, _: float) -> None:
        raise AssertionError("nobody waits here")

    def current_holder(self) -> BookingInterval | None:
        """The holder of the Resource, as its active bookings get it; None without an active booking."""
        found = self.informers.resources.get(RES)
        return self.informers.holder(found, self.at) if found and self.active() else None

    def active(self) -> set[str]:
        intervals = [booking.interval() for booking in self.informers.bookings.objects()]
        return {
            interval.name for interval in intervals if interval is not None and interval.is_active(self.at)
        }

    def holder_is_known(self, seconds: float) -> bool:
        """Whether the holder is cached for an instant some seconds ahead."""
        return self.informers.holder_is_known(RES, self.at + timedelta(seconds=seconds))

    def book(self, name: str, start: int, length: int) -> None:
        self._number += 1
        times = {"start_at": at_text(start), "end_at": at_text(start + length)}
        spec = {"resource_name": "res", "user_id": name} | times
        whole = {"metadata": meta(name, self._number) | {"generation": self._number}, "spec": spec}
        self.informers.bookings.apply(BOOKING.adapter.validate_python(whole))

    def delete(self, name: str) -> None:
        self.informers.bookings.delete(Key("ns", name))

    def status(self, name: str) -> None:
        known = self.informers.bookings.get(Key("ns", name))
        if known is not None:
            self.informers.bookings.apply_own_write(known)

    def resource(self, warm_up: str, uid: str, until: int) -> None:
        self._number += 1
        spec = {"tag": "web", "warm_up": warm_up, "booked_by": "hoc", "booked_until": at_text(until)}
        whole = {"metadata": meta("res", self._number, uid) | {"creationTimestamp": at_text(5)}, "spec": spec}
        self.informers.resources.apply(RESOURCE.adapter.validate_python(whole))

    def intervals(self, resource: Resource) -> list[BookingInterval]:
        """All valid bookings of a Resource, computed from the objects."""
        intervals = [booking.interval() for booking in self.informers.bookings.objects()]
        if isinstance(resource.spec, ResourceSpec):
            intervals.append(ad_hoc_interval(resource, resource.spec))
        return [interval for interval in intervals if interval is not None]

    def release(self) -> None:
        self.informers.resources.delete(RES)

    def move(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)


@given(STEPS)
def test_the_cached_holder_equals_the_computed_one(steps: list[tuple[Any, ...]]) -> None:
    harness = Harness()
    for name, *arguments in steps:
        getattr(harness, name)(*arguments)
        resource = harness.informers.resources.get(RES)
        if resource is None:
            assert not harness.informers.introspect()["holders"]
            continue
        expected = BookingTimeline(harness.intervals(resource)).state_at(harness.at, resource.warm_up).holder
        assert harness.informers.holder(resource, harness.at) == expected
        assert sorted(map(repr, harness.informers.timeline(resource))) == sorted(
            map(repr, harness.intervals(resource))
        )


@given(STEPS)
def test_a_change_of_the_holder_enqueues_all_active_bookings(steps: list[tuple[Any, ...]]) -> None:
    """For steps that change bookings. Each booking has its own timers for changes over time."""
    harness = Harness()
    handlers = EventHandlers(harness.informers, harness)
    harness.resource("0s", "u1", 0)
    handlers.subscribe()
    for name, *arguments in steps:
        if name in {"resource", "release"}:
            continue
        before = harness.current_holder()
        drained(handlers.bookings)
        getattr(harness, name)(*arguments)
        woken = drained(handlers.bookings)
        if name == "move":
            continue
        after = harness.current_holder()
        if before != after:
            assert harness.active() <= woken


def drained(queue: WorkQueue[Key]) -> set[str]:
    found = set()
    while keys := queue.try_get():
        for key in keys:
            found.add(key.name)
            queue.done(key, Result())
    return found


def test_the_holder_stays_known_until_a_booking_can_change_it() -> None:
    """Callers get the cached holder, so that many active bookings cost one computation."""
    harness = Harness()
    harness.resource("0s", "u1", 0)
    for name in "abcd":
        harness.book(name, 0, 30)
    found = harness.informers.resources.get(RES)
    assert found is not None
    assert not harness.holder_is_known(0)
    holder = harness.informers.holder(found, harness.at)
    assert holder is not None
    assert [second for second in range(40) if harness.holder_is_known(second)] == list(range(30))
    harness.book("later", 40, 10)
    assert harness.holder_is_known(0)
    harness.delete(holder.name)
    assert not harness.holder_is_known(0)
