"""What the API server, or the way to it, can do instead of answering well. No I/O."""

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
    """An answer in place of the right one."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KubeFault:
    """What becomes of requests, of their answers, and of watches.

    `delay` lets each answer and each event of a watch wait for a time within `seconds`; `reset` breaks the
    connection, half of the time after the request was carried out; `truncate` breaks it in the middle of an
    answer or event; `garble` puts garbage in place of the second half; `refuse` breaks what is open, and
    answers with one of `refusals`; `silence` lets the watches that are open stay so and send nothing.
    """

    kind: Literal["delay", "reset", "truncate", "garble", "refuse", "silence"]
    seconds: tuple[float, float] = (0.0, 0.0)
    refusals: Sequence[Refusal] = ()

    @property
    def breaks_open_ones(self) -> bool:
        """Whether the watches that are open when it begins are broken: else they would not be touched."""
        return self.kind in {"reset", "refuse"}


def too_many(retry_after: int | None = None) -> KubeFault:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return KubeFault("refuse", refusals=[Refusal(429, TOO_MANY, headers=headers)])


def broken() -> KubeFault:
    return KubeFault("refuse", refusals=[Refusal(500, BROKEN), Refusal(503, HTML, "text/html")])


def cut(text: bytes, chance: random.Random) -> bytes:
    """The beginning of a text that is not empty, and not all of it."""
    return text[: chance.randrange(1, max(len(text) - 1, 2))]
