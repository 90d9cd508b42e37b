"""Whatever is stored, each object is decoded, and none affects another."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, KINDS, RESOURCE, Kind
from booking_operator.api.meta import InvalidSpec, describe_errors
from booking_operator.api.resource import Resource, ResourceSpec, ad_hoc_interval, power_policy
from booking_operator.api.scheduler import BookingScheduler, BookingSchedulerSpec
from booking_operator.engine.reflector import ListWatchError
from booking_operator.engine.store import key_of
from booking_operator.kube.client import KubeClient, Query
from booking_operator.kube.decoding import MAX_DEPTH, flattened
from booking_operator.kube.errors import ResponseTooLargeError
from booking_operator.kube.list_watch import PAGE_SIZE, ListWatch
from booking_operator.observability.object_counts import ObjectCounts
from booking_operator.reconcilers.informers import Informers
from tests.support import invalid_input, virtual
from tests.support.virtual import EPOCH


class Wire:
    """A client whose answers a test sets."""

    def __init__(self, answer: bytes = b"", lines: Sequence[bytes] = ()) -> None:
        self.answer = answer
        self.lines = lines
        self.queries: list[dict[str, str]] = []

    async def request(self, *_: str, query: Query) -> bytes:
        self.queries.append(dict(query))
        return self.answer

    @asynccontextmanager
    async def stream(self, _: str, __: Query) -> AsyncIterator[AsyncIterator[bytes]]:
        async def lines() -> AsyncIterator[bytes]:
            for line in self.lines:
                yield line

        yield lines()


def source(kind: Kind[Any], wire: Wire) -> ListWatch[Any]:
    return ListWatch(cast("KubeClient", wire), kind)


def listed(kind: Kind[Any], answer: bytes) -> list[Any]:
    return virtual.run(source(kind, Wire(answer)).list()).items


def watched(kind: Kind[Any], *lines: bytes) -> list[Any]:
    async def main() -> list[Any]:
        async with source(kind, Wire(lines=lines)).watch("1", 300) as events:
            return [event async for event in events]

    return virtual.run(main())


def use(object_: Any) -> None:
    """Call everything that reconcilers and metrics read from an object."""
    informers = Informers("eu-west-1")
    counts = ObjectCounts(informers)
    if isinstance(object_, Booking):
        informers.bookings.apply(object_)
        assert object_.interval() is None or object_.resource_name
    elif isinstance(object_, Resource):
        informers.resources.apply(object_)
        assert object_.warm_up.total_seconds() <= 24 * 3600
        assert object_.status.next_change is None or object_.status.next_change.tzinfo
        assert all(since.tzinfo for since in counts.unready_since().values())
        if isinstance(object_.spec, ResourceSpec):
            ad_hoc_interval(object_, object_.spec)
            power_policy(object_.spec, object_.status, EPOCH, dry_run=False)
    elif isinstance(object_, BookingScheduler) and isinstance(object_.spec, BookingSchedulerSpec):
        object_.spec.recurrence()
        object_.spec.template_hash()


@invalid_input.budget(150)
@given(st.data(), invalid_input.kinds)
def test_a_malformed_object_is_decoded_and_affects_no_other(data: st.DataObject, kind: Kind[Any]) -> None:
    before, bad, after = listed(
        kind,
        invalid_input.page(
            invalid_input.good(kind, "a"),
            data.draw(invalid_input.stored(kind, "mad")),
            invalid_input.good(kind, "z"),
        ),
    )
    assert not isinstance(before.spec, InvalidSpec)
    assert not isinstance(after.spec, InvalidSpec)
    assert key_of(bad) == ("ns", "mad")
    assert isinstance(bad.spec, InvalidSpec | kind.spec)
    assert isinstance(bad.status, kind.status)
    if isinstance(bad.spec, InvalidSpec):
        assert 0 < len(bad.spec.message) < 4000
    use(bad)


@invalid_input.budget(75)
@given(st.data(), invalid_input.kinds)
def test_a_mad_event_is_decoded_like_a_list(data: st.DataObject, kind: Kind[Any]) -> None:
    bad = data.draw(invalid_input.stored(kind, "mad"))
    (event,) = watched(kind, json.dumps({"type": "MODIFIED", "object": bad}).encode())
    assert event.object == listed(kind, invalid_input.page(bad))[0]


@invalid_input.budget(75)
@given(invalid_input.kinds, st.lists(invalid_input.CONDITIONS, min_size=1, max_size=3))
def test_conditions_of_other_writers_do_no_harm(kind: Kind[Any], conditions: list[Any]) -> None:
    (item,) = listed(
        kind, invalid_input.page(invalid_input.good(kind, "a") | {"status": {"conditions": conditions}})
    )
    assert len(item.status.conditions) == len(conditions)
    use(item)


def nested(levels: int) -> str:
    return '{"f:a":' * levels + "{}" + "}" * levels


@pytest.mark.parametrize("levels", [10, 250, 9000])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_managed_fields_as_deep_as_the_api_server_accepts_them(kind: Kind[Any], levels: int) -> None:
    deep = invalid_input.good(kind, "deep")
    deep["metadata"]["managedFields"] = [{"fieldsV1": "here"}]
    answer = invalid_input.page(invalid_input.good(kind, "a"), deep).replace(
        b'"here"', nested(levels).encode()
    )
    assert [item.metadata.name for item in listed(kind, answer)] == ["a", "deep"]
    line = json.dumps({"type": "ADDED", "object": deep}).replace('"here"', nested(levels)).encode()
    (event,) = watched(kind, line)
    assert event.object.spec == listed(kind, answer)[1].spec


DEEP = st.recursive(
    invalid_input.SCALARS.filter(lambda value: value == value) | st.just('"]}\\"[{'),  # noqa: PLR0124 - NaN is not itself
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(invalid_input.TEXTS, inner, max_size=3),
    max_leaves=30,
)


@given(DEEP, st.integers(0, 80))
@example({"a": '[[\\"', "b": [1]}, 40)
def test_only_parts_that_are_too_deep_are_removed(value: Any, levels: int) -> None:
    def cut(item: Any, depth: int) -> Any:
        if not isinstance(item, list | dict):
            return item
        if depth > MAX_DEPTH:
            return None
        if isinstance(item, list):
            return [cut(inner, depth + 1) for inner in item]
        return {key: cut(inner, depth + 1) for key, inner in item.items()}

    for level in range(levels):
        value = [value] if level % 2 else {"x": value}
    body = json.dumps(value).encode()
    flat = flattened(body)
    assert json.loads(flat) == cut(value, 1)
    assert (flat is body) == (cut(value, 1) == value)


def test_a_very_long_text_is_read_in_linear_time() -> None:
    assert flattened(b'["' + b'\\"' * 2_000_000) == b'["' + b'\\"' * 2_000_000


@invalid_input.budget(150)
@given(st.data(), invalid_input.kinds)
def test_a_garbled_list_is_refused_or_decoded(data: st.DataObject, kind: Kind[Any]) -> None:
    whole = invalid_input.page(invalid_input.good(kind, "a"), invalid_input.good(kind, "b"))
    try:
        found = listed(kind, data.draw(invalid_input.garbled(whole)))
    except ListWatchError:
        return
    for item in found:
        use(item)


@invalid_input.budget(150)
@given(st.data(), invalid_input.kinds)
def test_a_garbled_event_is_refused_or_decoded(data: st.DataObject, kind: Kind[Any]) -> None:
    whole = json.dumps({"type": "ADDED", "object": invalid_input.good(kind, "a")}).encode()
    try:
        found = watched(kind, data.draw(invalid_input.garbled(whole)))
    except ListWatchError:
        return
    for event in found:
        use(event.object)


DURATIONS = (
    st.sampled_from(["", "0s", "90s", "31m", "24h", "999999h", "999999h" * 4000, "soon"])
    | invalid_input.TEXTS
)


@invalid_input.budget(50)
@given(DURATIONS)
def test_an_invalid_measured_warm_up_is_within_bounds(text: str) -> None:
    """Other users may write a status, and bookings may begin in the year 1970."""
    learns = invalid_input.good(RESOURCE, "a") | {"status": {"warm_up": text}}
    learns["spec"] = learns["spec"] | {"warm_up": "auto"}
    (item,) = listed(RESOURCE, invalid_input.page(learns))
    assert 0 <= item.warm_up.total_seconds() <= 30 * 60


@pytest.mark.parametrize("field", ["creationTimestamp", "deletionTimestamp"])
def test_an_instant_without_an_offset_is_refused(field: str) -> None:
    """It cannot be compared with instants that have one."""
    naive = invalid_input.good(RESOURCE, "a")
    naive["metadata"][field] = "2026-01-01T00:00:00"
    with pytest.raises(ListWatchError, match="timezone"):
        listed(RESOURCE, invalid_input.page(naive))


class Heavy(Wire):
    """Answers lists of large objects. An answer has room for at most `fits` of them."""

    def __init__(self, fits: int, objects: int) -> None:
        super().__init__()
        self.fits = fits
        self.objects = objects

    async def request(self, *_: str, query: Query) -> bytes:
        options = dict(query)
        self.queries.append(options)
        limit, begin = int(options["limit"]), int(options.get("continue", "0"))
        end = min(begin + limit, self.objects)
        if end - begin > self.fits:
            raise ResponseTooLargeError("more than fits")
        found = [invalid_input.good(BOOKING, f"b{number}") for number in range(begin, end)]
        token = {"continue": str(end)} if end < self.objects else {}
        return json.dumps({"metadata": {"resourceVersion": "9"} | token, "items": found}).encode()


@pytest.mark.parametrize(("fits", "objects"), [(500, 1200), (7, 60), (1, 20)])
def test_pages_are_as_small_as_large_objects_need(fits: int, objects: int) -> None:
    wire = Heavy(fits, objects)

    async def main() -> list[str]:
        lists, token, names = source(BOOKING, wire), "", []
        while True:
            page = await lists.list(token)
            names += [item.metadata.name for item in page.items]
            token = page.token
            if not token:
                return names

    assert virtual.run(main()) == [f"b{number}" for number in range(objects)]
    assert len(wire.queries) <= 5 + 4 * objects / min(fits, PAGE_SIZE)


def test_one_object_that_is_too_large_fails_without_a_loop() -> None:
    wire = Heavy(0, 1)
    with pytest.raises(ListWatchError, match="more than fits"):
        virtual.run(source(BOOKING, wire).list())
    assert len(wire.queries) < 6


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_little_of_a_large_object_is_kept(kind: Kind[Any]) -> None:
    """The finalizers of a Resource are an exception: to set one, the operator must write them all."""
    large = invalid_input.good(kind, "a")
    large["metadata"] |= {
        "annotations": {f"manager.kotaico.de/{number}": "x" * 1000 for number in range(200)}
        | {"manager.kotaico.de/template": "x" * 200_000},
        "labels": {f"label-{number}": "x" * 63 for number in range(10_000)},
        "ownerReferences": [
            {"uid": str(number), "name": "x" * 200, "controller": number == 7} for number in range(5000)
        ],
    }
    if kind is not RESOURCE:
        large["metadata"]["finalizers"] = [f"example.com/{number}" for number in range(40_000)]
    (item,) = listed(kind, invalid_input.page(large))
    assert item.metadata.controller_uid == "7"
    assert len(repr(item)) < 2500


@pytest.mark.parametrize(
    "spec",
    [
        {"notifications": [{"type": 1}] * 50_000},
        {"start_at": "2" * 1_000_000, "end_at": "3" * 1_000_000},
        {str(number): number for number in range(50_000)},
        {"tag": "web", "warm_up": "999999h" * 100_000},
    ],
    ids=["many notifications", "long dates", "unknown fields", "a duration beyond all time"],
)
def test_a_message_is_short_however_many_errors_there_are(spec: dict[str, Any]) -> None:
    kind = RESOURCE if "tag" in spec else BOOKING
    (item,) = listed(kind, invalid_input.page({"metadata": invalid_input.meta("a"), "spec": spec}))
    assert isinstance(item.spec, InvalidSpec)
    assert item.spec.message.startswith("spec.")
    assert len(item.spec.message) < 4000


def test_errors_beyond_the_limit_are_counted() -> None:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - only this test needs it

    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[int]).validate_python(["x"] * 25)
    assert describe_errors(caught.value, "spec").endswith("; and 15 more")
