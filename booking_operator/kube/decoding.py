"""Reads what the API server sends, however large it is and however deep it is nested.

A user who may write an object may write its managedFields, which no schema prunes: a megabyte of them,
thousands of levels deep. The API server takes and serves 10,000 levels. The parser here fails at 200, and
with it all that is in the same list. No model has managedFields. A large object is parsed without them.

That is done in slices of less than a millisecond each, and the other tasks of the event loop get a turn after
each slice.
"""

import asyncio
import re
from array import array
from collections.abc import Generator
from itertools import accumulate
from typing import TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError

from booking_operator.kube.errors import malformed_error

T = TypeVar("T")

DEEPEST = 32
"""What a model may have in it; a list of objects with a status needs eight."""
LARGE = 2**16
"""In bytes. An object of a usual size has some 2,000, and is parsed as it is."""
LARGE_LIST = 2**22
"""The same of a page of 500 objects, which has about 1 MiB."""

Slices: TypeAlias = Generator[None, None, bytes]
"""Work on a body that pauses after each slice, and returns the body that comes of it."""

SLICE_BYTES = 2**13
_SLICE_TOKENS = 2**10
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_MANAGED_FIELDS = re.compile(rb'"managedFields"\s*+:\s*+\[')
_BRACKETS = frozenset(b"[]{}")
_OTHERS = bytes(set(range(256)) - _BRACKETS)
_STEPS = bytes(1 if char in b"[{" else 255 for char in range(256))
"""What a bracket adds to the depth, as a signed byte: 1 or -1."""


async def decode(adapter: TypeAdapter[T], body: bytes, *, large: int = LARGE) -> T:
    """`body` as the model of `adapter`; of a body of more than `large` bytes without its managedFields.

    Raises:
        ValidationError: it is no JSON, or none of that model.
    """
    if len(body) <= large:
        try:
            return adapter.validate_json(body)
        except ValidationError as error:
            if not _unparsed(error):
                raise
    lean = await _in_turns(without_managed_fields(body))
    try:
        return adapter.validate_json(lean)
    except ValidationError as error:
        if not _unparsed(error):
            raise
        flat = await _in_turns(flattening(lean))
        if flat is lean:
            raise
    return adapter.validate_json(flat)


async def decode_response(adapter: TypeAdapter[T], body: bytes) -> T:
    """`body`, which answers a request, as the model of `adapter`.

    Raises:
        ApiError: it is garbled.
    """
    try:
        return await decode(adapter, body)
    except ValidationError as error:
        raise malformed_error(first_problem(error)) from error


def first_problem(error: ValidationError) -> str:
    """What is wrong with it first, without the input."""
    return error.errors(include_url=False, include_input=False)[0]["msg"]


def _unparsed(error: ValidationError) -> bool:
    """Whether it is no JSON to the parser, because it is too deep, or really so."""
    return error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid"


async def _in_turns(work: Slices) -> bytes:
    """The result of `work`, with a turn for the other tasks of the event loop after each slice."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            found: bytes = done.value
            return found
        await asyncio.sleep(0)


def without_managed_fields(body: bytes, size: int = SLICE_BYTES) -> Slices:
    """The same JSON with null for each array that is named managedFields; `body` itself where none is.

    The work grows with the length of the body alone, whatever is in it. A slice has about `size` bytes.
    """
    kept, copied = [], 0
    while match := _MANAGED_FIELDS.search(body, copied):
        begin = match.end() - 1
        end = yield from _end_of_array(body, begin, size)
        if end < 0:
            break  # it is cut off, or garbled: the parser says so
        kept += [body[copied:begin], b"null"]
        copied = end
        yield
    return b"".join([*kept, body[copied:]]) if kept else body


def _end_of_array(body: bytes, begin: int, size: int) -> Generator[None, None, int]:
    """Where the array that begins at `begin` ends; negative where it does not.

    The brackets of a slice are counted by methods of `bytes` and by iterators that run in C. Only the slice
    that has the end in it is looked through bracket by bracket.
    """
    at, depth, inside = begin + 1, 1, False  # whether a slice begins inside a string
    while at < len(body):
        piece, end = _slice(body, at, size)
        parts = piece.split(b'"')
        shape = b"".join(parts[inside::2]).translate(None, _OTHERS)
        closing = shape.count(b"]") + shape.count(b"}")
        if depth <= closing and _lowest(shape) + depth <= 0:
            return at + _end_in(piece, depth, inside=inside)
        depth += len(shape) - 2 * closing
        inside ^= len(parts) % 2 == 0
        at = end
        yield
    return -1


def _slice(body: bytes, begin: int, size: int) -> tuple[bytes, int]:
    """Some of the body from `begin` on, with escapes made unrecognizable, and where it ends."""
    piece = body[begin : begin + size]
    if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
        piece = body[begin : begin + size + 1]  # no escape is cut into two
    end = begin + len(piece)
    if b"\\" in piece:
        piece = piece.replace(b"\\\\", b"..").replace(b'\\"', b"..")
    return piece, end


def _lowest(shape: bytes) -> int:
    """How far below the depth at its begin some brackets reach; 0 or less."""
    return min(accumulate(array("b", shape.translate(_STEPS)), initial=0))


def _end_in(piece: bytes, depth: int, *, inside: bool) -> int:
    """Where, in a slice without escapes that begins in that depth, the depth comes to be 0."""
    begin = piece.find(b'"') + 1 if inside else 0
    for token in _TOKEN.finditer(piece, begin):
        if token[0] in {b"{", b"["}:
            depth += 1
        elif token[0] in {b"}", b"]"}:
            depth -= 1
            if depth == 0:
                return token.end()
    raise ValueError("the depth comes to be 0 in this slice")


def flattened(body: bytes) -> bytes:
    """The same JSON with null for all that is below the level `DEEPEST`; `body` itself where nothing is."""
    work = flattening(body)
    while True:
        try:
            next(work)
        except StopIteration as done:
            found: bytes = done.value
            return found


def flattening(body: bytes) -> Slices:
    """`flattened` in slices."""
    kept, depth, copied = [], 0, 0
    for number, token in enumerate(_TOKEN.finditer(body), 1):
        char = token[0]
        if char in {b"{", b"["}:
            depth += 1
            if depth == DEEPEST + 1:
                kept += [body[copied : token.start()], b"null"]
        elif char in {b"}", b"]"}:
            depth -= 1
            if depth == DEEPEST:
                copied = token.end()
        if number % _SLICE_TOKENS == 0:
            yield
    return b"".join([*kept, body[copied:]]) if kept else body
