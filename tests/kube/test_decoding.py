"""Decoding of large and deep objects: all are decoded, and the event loop continues in between."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING
from booking_operator.kube.decoding import LARGE, SLICE_BYTES, decode, without_managed_fields
from tests.support import invalid_input, virtual

LARGEST = 1_400_000
"""In bytes. The API server accepts objects of up to 1.5 MiB."""


def nested(levels: int) -> str:
    return '{"f:a":' * levels + "{}" + "}" * levels


def filled(item: str) -> str:
    """An array with as many items as the largest object may contain."""
    return "[" + ",".join([item] * (LARGEST // (len(item) + 1))) + "]"


SHAPES = {
    "9,000 levels": filled(f'{{"fieldsV1":{nested(9000)}}}'),
    "250 levels": filled(f'{{"fieldsV1":{nested(250)}}}'),
    "250 levels without names": filled('{"":' * 250 + "{}" + "}" * 250),
    "many fields": '[{"fieldsV1":{' + ",".join(f'"f:{n}":{{}}' for n in range(LARGEST // 13)) + "}}]",
    "many arrays": filled("[]"),
    "backslashes": f'[{nested(250)},"' + "\\\\" * (LARGEST // 2) + '"]',
}


def stored(managed_fields: str) -> bytes:
    object_ = invalid_input.good(BOOKING, "a")
    object_["metadata"]["managedFields"] = "here"
    return json.dumps(object_).replace('"here"', managed_fields).encode()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_event_loop_runs_after_each_slice_of_a_large_object(shape: str) -> None:
    body, turns, done = stored(shape), 0, False

    async def others() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> Booking:
        nonlocal done
        task = asyncio.ensure_future(others())
        found = await decode(BOOKING.adapter, body)
        done = True
        await task
        return found

    found = virtual.run(main())
    assert found == virtual.run(decode(BOOKING.adapter, stored("[]")))
    assert turns > len(body) / SLICE_BYTES - 2


def lean(body: bytes, size: int = SLICE_BYTES) -> tuple[bytes, int]:
    """The body without managedFields, and the number of slices."""
    work, slices = without_managed_fields(body, size), 1
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value, slices
        slices += 1


VALUES = st.recursive(
    st.integers()
    | st.none()
    | st.text(max_size=9)
    | st.sampled_from(['"]}\\"[{', "\\", '\\"', "]", "managedFields"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=9) | st.sampled_from(["managedFields", "\\", '"']), inner, max_size=4
        )
    ),
    max_leaves=30,
)


@given(VALUES, st.integers(0, 40), st.integers(1, 60), st.booleans())
@example([{"managedFields": ["\\" * 9, {"a": "]"}], "b": 1}], 0, 4, True)
@example([{"managedFields": []}], 0, 1, False)
@example([{"a": '"managedFields":['}], 0, 1, True)
def test_only_managed_fields_are_removed(value: Any, levels: int, size: int, compact: bool) -> None:
    def cut(item: Any) -> Any:
        if isinstance(item, list):
            return [cut(inner) for inner in item]
        if not isinstance(item, dict):
            return item
        return {
            key: None if key == "managedFields" and isinstance(inner, list) else cut(inner)
            for key, inner in item.items()
        }

    for level in range(levels):
        value = [value] if level % 2 else {"managedFields" if level % 6 else "x": value}
    body = json.dumps(value, separators=(",", ":") if compact else None).encode()
    found, slices = lean(body, size)
    assert json.loads(found) == cut(value)
    assert (found is body) == (cut(value) == value)
    assert slices <= len(body) / size + 1 + body.count(b"managedFields")


@pytest.mark.parametrize("end", [b"", b"]", b"}", b'"', b'"]', b"\\", b"[" * 300])
def test_the_parser_refuses_unterminated_managed_fields(end: bytes) -> None:
    body = b'{"metadata":{"name":"a","managedFields":[{"a":"' + b"x" * LARGE + end
    assert lean(body)[0] is body
    with pytest.raises(ValidationError, match="json_invalid"):
        virtual.run(decode(BOOKING.adapter, body))


@pytest.mark.parametrize("size", [10, LARGE])
def test_other_parts_that_are_too_deep_are_removed(size: int) -> None:
    deep = '{"a": {"x": "' + "y" * size + '", "b": ' + nested(1000) + "}}"
    found = virtual.run(decode(TypeAdapter(dict[str, Any]), deep.encode()))
    assert found["a"]["x"] == "y" * size


def test_garbage_of_any_length_is_an_error() -> None:
    for body in (b"", b"<html>", b"x" * 2 * LARGE, b"[" * 100, b"[" * 2 * LARGE, b'["' + b"\\" * LARGE):
        with pytest.raises(ValidationError):
            virtual.run(decode(BOOKING.adapter, body))
