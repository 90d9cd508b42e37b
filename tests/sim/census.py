"""What a process of the operator holds: looked through from its root, so that no part need be known."""

import gc
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from booking_operator.engine.store import Key

_OUTSIDE = (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    ModuleType,
    bytes,
    float,
    int,
    str,
    type,
)
_ELSEWHERE = ("structlog", "tests.sim")
"""Modules of what belongs to the world, or to all processes."""


def keyed(root: object) -> Iterator[tuple[str, Key]]:
    """Keys of objects by which anything is kept, each with what keeps it, as far as that can be told."""
    seen = {id(root)}
    waiting: list[tuple[object, object]] = [(root, root)]
    while waiting:
        owner, item = waiting.pop()
        if isinstance(item, dict):
            for key in item:
                if isinstance(key, Key):
                    yield _name(owner, item), key
        if isinstance(item, FunctionType):
            parts: list[Any] = list(item.__closure__ or ())
        else:
            parts = gc.get_referents(item)
        for part in parts:
            if id(part) not in seen and not isinstance(part, _OUTSIDE) and not _elsewhere(part):
                seen.add(id(part))
                waiting.append((item if not isinstance(item, dict) else owner, part))


def _elsewhere(part: object) -> bool:
    return type(part).__module__.startswith(_ELSEWHERE)


def _name(owner: object, item: object) -> str:
    fields: dict[str, object] = getattr(owner, "__dict__", {})
    field = next((name for name, value in fields.items() if value is item), "")
    return f"{type(owner).__name__}.{field}"
