"""What a process of the operator holds: looked through from its root, so that no part need be known."""

import gc
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from booking_operator.engine.store import Key
from tests.sim.aws import SimAws
from tests.sim.kernel import Kernel, Process
from tests.sim.kube import SimKube

_OUTSIDE = (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    Kernel,
    ModuleType,
    Process,
    SimAws,
    SimKube,
    bytes,
    float,
    int,
    str,
    type,
)
"""What belongs to the world, or to all processes."""


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
            parts: list[Any] = [cell for cell in item.__closure__ or ()]
        else:
            parts = gc.get_referents(item)
        for part in parts:
            if id(part) not in seen and not isinstance(part, _OUTSIDE):
                seen.add(id(part))
                waiting.append((item if not isinstance(item, dict) else owner, part))


def _name(owner: object, item: object) -> str:
    fields: dict[str, object] = getattr(owner, "__dict__", {})
    field = next((name for name, value in fields.items() if value is item), "")
    return f"{type(owner).__name__}.{field}"
