"""Reads what the API server sends, however deep it is nested.

Whoever may write an object may write its managedFields, which no schema prunes, thousands of levels deep. The
API server takes and serves 10,000; the parser here gives up at 200, and with it all that is in the same list.
"""

import re
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from booking_operator.kube.errors import garbled

T = TypeVar("T")

DEEPEST = 32
"""What a model may have in it; a list of objects with a status needs eight."""
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)


def read(adapter: TypeAdapter[T], body: bytes) -> T:
    """`body` as the model of `adapter`.

    Raises:
        ValidationError: it is no JSON, or none of that model.
    """
    try:
        return adapter.validate_json(body)
    except ValidationError:
        flat = flattened(body)
        if flat is body:
            raise
    return adapter.validate_json(flat)


def read_answer(adapter: TypeAdapter[T], body: bytes) -> T:
    """`body`, which answers a request, as the model of `adapter`.

    Raises:
        ApiError: it is garbled.
    """
    try:
        return read(adapter, body)
    except ValidationError as error:
        raise garbled(complaint(error)) from error


def complaint(error: ValidationError) -> str:
    """What is wrong with it first, without the input."""
    return error.errors(include_url=False)[0]["msg"]


def flattened(body: bytes) -> bytes:
    """The same JSON with null for all that is below the level `DEEPEST`; `body` itself where nothing is."""
    kept, depth, copied = [], 0, 0
    for token in _TOKEN.finditer(body):
        char = token[0]
        if char in {b"{", b"["}:
            depth += 1
            if depth == DEEPEST + 1:
                kept += [body[copied : token.start()], b"null"]
        elif char in {b"}", b"]"}:
            depth -= 1
            if depth == DEEPEST:
                copied = token.end()
    return b"".join([*kept, body[copied:]]) if kept else body
