"""Faults of the API server, and of the connection to it. No I/O."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

TOO_MANY = b'{"kind":"Status","apiVersion":"v1","status":"Failure","code":429,"message":"too many requests"}'
BROKEN = b'{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,"message":"leader changed"}'
HTML = b"<html><body><h1>503 Service Unavailable</h1></body></html>"
GARBAGE = b'\x00\xff</html>{"type":"ADDED","object":[]}\n'


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KubeFault:
    """A fault that affects requests, responses, and watches.

    - `delay` delays each response and each watch event by a random time within `seconds`.
    - `reset` resets the connection, in half of the cases after the request was carried out.
    - `truncate` closes the connection in the middle of a response or event.
    - `garble` replaces the second half of a response or event by garbage.
    - `refuse` resets open watches, and answers with one of `refusals`.
    - `silence` keeps open watches open, and sends no events on them.
    """

    kind: Literal["delay", "reset", "truncate", "garble", "refuse", "silence"]
    seconds: tuple[float, float] = (0.0, 0.0)
    refusals: Sequence[Refusal] = ()

    @property
    def breaks_open_ones(self) -> bool:
        """Whether the fault resets open watches when it begins. Otherwise it would not affect them."""
        return self.kind in {"reset", "refuse"}


def too_many(retry_after: int | None = None) -> KubeFault:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return KubeFault("refuse", refusals=[Refusal(429, TOO_MANY, headers=headers)])


def broken() -> KubeFault:
    return KubeFault("refuse", refusals=[Refusal(500, BROKEN), Refusal(503, HTML, "text/html")])


def cut(text: bytes, chance: random.Random) -> bytes:
    """A random prefix of a text, neither empty nor complete."""
    return text[: chance.randrange(1, max(len(text) - 1, 2))]
