"""Minimal objects for tests of the engine."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class FakeMeta:
    name: str
    namespace: str = "ns"
    uid: str = "u1"
    resource_version: str = "1"
    generation: int = 1
    deletion_timestamp: datetime | None = None


@dataclass(frozen=True)
class Thing:
    metadata: FakeMeta
    status: str = ""
    spec: str = ""
    labels: tuple[str, ...] = field(default=())


def thing(name: str, version: int = 1, status: str = "", uid: str = "u1", generation: int = 1) -> Thing:
    return Thing(FakeMeta(name, uid=uid, resource_version=str(version), generation=generation), status)
