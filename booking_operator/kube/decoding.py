"""Decodes responses of the API server of any size and any nesting depth.

A user with write access to an object controls its managedFields, which no schema prunes. They can be a
megabyte in size and thousands of levels deep. The API server accepts and serves 10,000 levels. The JSON
parser here fails at 200 levels, and then the whole list fails. The models have no managedFields, so this
module removes them from large bodies before it parses these.

The removal runs in slices of less than a millisecond. After each slice it yields to the other tasks of the
event loop.
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

MAX_DEPTH = 32
"""The nesting depth that a model may have. A list of objects with a status needs eight levels."""
LARGE = 2**16
"""Size in bytes from which a single object is parsed without managedFields. A typical object has about 2,000
bytes."""
LARGE_LIST = 2**22
"""The same limit for a list page. A page of 500 typical objects has about 1 MiB."""

Slices: TypeAlias = Generator[None, None, bytes]
"""A generator that pauses after each slice of its work, and returns the resulting body."""

SLICE_BYTES = 2**13
_SLICE_TOKENS = 2**10
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_MANAGED_FIELDS = re.compile(rb'"managedFields"\s*+:\s*+\[')
_BRACKETS = frozenset(b"[]{}")
_OTHERS = bytes(set(range(256)) - _BRACKETS)
_STEPS = bytes(1 if char in b"[{" else 255 for char in range(256))
"""Maps each bracket to its change of depth, as a signed byte: 1 or -1."""


async def decode(adapter: TypeAdapter[T], body: bytes, *, large: int = LARGE) -> T:
    """Parse `body` with the model of `adapter`.

    A body of more than `large` bytes loses its managedFields first.

    Raises:
        ValidationError: the body is not valid JSON, or does not match the model.
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
    """Parse the body of a response with the model of `adapter`.

    Raises:
        ApiError: the body is invalid.
    """
    try:
        return await decode(adapter, body)
    except ValidationError as error:
        raise malformed_error(first_problem(error)) from error


def first_problem(error: ValidationError) -> str:
    """Return the first validation error, without the input."""
    return error.errors(include_url=False, include_input=False)[0]["msg"]


def _unparsed(error: ValidationError) -> bool:
    """Whether the parser found invalid JSON. It also reports JSON that is nested too deep as invalid."""
    return error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid"


async def _in_turns(work: Slices) -> bytes:
    """Run `work`, and yield to the event loop after each slice. Return its result."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            found: bytes = done.value
            return found
        await asyncio.sleep(0)


def without_managed_fields(body: bytes, size: int = SLICE_BYTES) -> Slices:
    """Replace each array named managedFields with null; return `body` itself if there is none.

    The run time is linear in the length of the body for any content. A slice has about `size` bytes.
    """
    kept, copied = [], 0
    while match := _MANAGED_FIELDS.search(body, copied):
        begin = match.end() - 1
        end = yield from _end_of_array(body, begin, size)
        if end < 0:
            break  # the array has no end; the parser reports the error
        kept += [body[copied:begin], b"null"]
        copied = end
        yield
    return b"".join([*kept, body[copied:]]) if kept else body


def _end_of_array(body: bytes, begin: int, size: int) -> Generator[None, None, int]:
    """Return the end of the array that begins at `begin`, or -1 if it has no end.

    For speed, methods of `bytes` and iterators in C count the brackets of a slice. Only the slice that
    contains the end is searched bracket by bracket.
    """
    at, depth, inside = begin + 1, 1, False  # inside: the slice begins in a string
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
    """Return a slice of the body from `begin`, with escapes replaced, and the offset of its end."""
    piece = body[begin : begin + size]
    if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
        piece = body[begin : begin + size + 1]  # do not split an escape
    end = begin + len(piece)
    if b"\\" in piece:
        piece = piece.replace(b"\\\\", b"..").replace(b'\\"', b"..")
    return piece, end


def _lowest(shape: bytes) -> int:
    """Return the lowest depth within some brackets, relative to the depth at their start; 0 or less."""
    return min(accumulate(array("b", shape.translate(_STEPS)), initial=0))


def _end_in(piece: bytes, depth: int, *, inside: bool) -> int:
    """Return the offset at which the depth reaches 0, in a slice without escapes that starts at `depth`."""
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
    """Replace all values below the level `MAX_DEPTH` with null; return `body` itself if there are none."""
    work = flattening(body)
    while True:
        try:
            next(work)
        except StopIteration as done:
            found: bytes = done.value
            return found


def flattening(body: bytes) -> Slices:
    """Do the work of `flattened` in slices."""
    kept, depth, copied = [], 0, 0
    for number, token in enumerate(_TOKEN.finditer(body), 1):
        char = token[0]
        if char in {b"{", b"["}:
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += [body[copied : token.start()], b"null"]
        elif char in {b"}", b"]"}:
            depth -= 1
            if depth == MAX_DEPTH:
                copied = token.end()
        if number % _SLICE_TOKENS == 0:
            yield
    return b"".join([*kept, body[copied:]]) if kept else body
