"""Who holds a Resource, as all its active bookings ask: always the same as when it is worked out anew."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import Resource, ResourceSpec, ad_hoc_claim
from booking_operator.domain.booking import Booking
from booking_operator.domain.booking_timeline import Agenda
from booking_operator.engine.store import Key
from booking_operator.engine.workqueue import Result, WorkQueue
from booking_operator.reconcilers.event_handlers import Wakes
from booking_operator.reconcilers.informers import Caches
from tests.support.fakes import at_text
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


class Scene:
    """Bookings of one Resource, and the clock."""

    def __init__(self) -> None:
        self.caches = Caches("eu-west-1")
        self.at = EPOCH
        self._number = 0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, _: float) -> None:
        raise AssertionError("nobody waits here")

    def asked(self) -> Booking | None:
        """Who holds the Resource, as its active bookings are told."""
        found = self.caches.resources.get(RES)
        return self.caches.holder(found, self.at) if found and self.active() else None

    def active(self) -> set[str]:
        claims = [booking.claim() for booking in self.caches.bookings_of(RES)]
        return {claim.name for claim in claims if claim is not None and claim.active(self.at)}

    def book(self, name: str, start: int, length: int) -> None:
        self._number += 1
        times = {"start_at": at_text(start), "end_at": at_text(start + length)}
        spec = {"resource_name": "res", "user_id": name} | times
        whole = {"metadata": meta(name, self._number) | {"generation": self._number}, "spec": spec}
        self.caches.bookings.apply(BOOKING.adapter.validate_python(whole))

    def delete(self, name: str) -> None:
        self.caches.bookings.delete(Key("ns", name))

    def status(self, name: str) -> None:
        known = self.caches.bookings.get(Key("ns", name))
        if known is not None:
            self.caches.bookings.wrote(known)

    def resource(self, warm_up: str, uid: str, until: int) -> None:
        self._number += 1
        spec = {"tag": "web", "warm_up": warm_up, "booked_by": "hoc", "booked_until": at_text(until)}
        whole = {"metadata": meta("res", self._number, uid) | {"creationTimestamp": at_text(5)}, "spec": spec}
        self.caches.resources.apply(RESOURCE.adapter.validate_python(whole))

    def claims(self, resource: Resource) -> list[Booking]:
        """All valid bookings of a Resource, from the objects themselves."""
        claims = [booking.claim() for booking in self.caches.bookings_of(RES)]
        if isinstance(resource.spec, ResourceSpec):
            claims.append(ad_hoc_claim(resource, resource.spec))
        return [claim for claim in claims if claim is not None]

    def release(self) -> None:
        self.caches.resources.delete(RES)

    def move(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)


@given(STEPS)
def test_the_holder_is_always_the_one_that_the_bookings_say(steps: list[tuple[Any, ...]]) -> None:
    scene = Scene()
    for name, *arguments in steps:
        getattr(scene, name)(*arguments)
        resource = scene.caches.resources.get(RES)
        if resource is None:
            assert not scene.caches._held
            continue
        expected = Agenda(scene.claims(resource)).moment(scene.at, resource.warm_up).holder
        assert scene.caches.holder(resource, scene.at) == expected
        assert sorted(map(repr, scene.caches.claims(resource))) == sorted(map(repr, scene.claims(resource)))


@given(STEPS)
def test_whenever_the_holder_changes_all_who_are_active_are_woken(steps: list[tuple[Any, ...]]) -> None:
    """The steps that change bookings; what changes with time, each booking wakes for by itself."""
    scene = Scene()
    wakes = Wakes(scene.caches, scene)
    scene.resource("0s", "u1", 0)
    wakes.subscribe()
    for name, *arguments in steps:
        if name in {"resource", "release"}:
            continue
        before = scene.asked()
        drained(wakes.bookings)
        getattr(scene, name)(*arguments)
        woken = drained(wakes.bookings)
        if name == "move":
            continue
        after = scene.asked()
        if before != after:
            assert scene.active() <= woken


def drained(queue: WorkQueue[Key]) -> set[str]:
    found = set()
    while keys := queue.take():
        for key in keys:
            found.add(key.name)
            queue.done(key, Result())
    return found


def test_it_is_worked_out_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, asked = Scene(), 0
    scene.resource("0s", "u1", 0)
    for name in "abcd":
        scene.book(name, 0, 30)
    found = scene.caches.resources.get(RES)
    assert found is not None
    real = scene.caches.claims

    def claims(resource: Resource) -> Agenda:
        nonlocal asked
        asked += 1
        return real(resource)

    monkeypatch.setattr(scene.caches, "claims", claims)
    for second in range(5):
        scene.caches.holder(found, scene.at + timedelta(seconds=second))
    assert asked == 1
