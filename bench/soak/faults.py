"""The faults of a run, which repeat every five minutes, and the credentials of the operator, which expire."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from bench.world import Aws, World
from tests.support.wire import Wire

SYSTEM = "booking-operator-system"
EVERY = timedelta(minutes=5)
TOKEN_LIVES = timedelta(minutes=10)
"""The shortest lifetime that the API server grants. The token is replaced after half of it."""
_BEFORE = timedelta(seconds=2)
"""A request that is sent this long before a fault may still be affected by it."""
_MANIFESTS = Path(__file__).parents[2] / "manifests"


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault: its offset within each five minutes, and its duration.

    Attributes:
        after: how long after the end of the fault boundaries may still be late because of it.
    """

    name: str
    at: timedelta
    lasts: timedelta
    after: timedelta = timedelta(0)


STORM = Kind("AWS throttles and resets", timedelta(seconds=60), timedelta(seconds=20), timedelta(seconds=5))
CUT = Kind("API server cut off", timedelta(seconds=130), timedelta(seconds=5))
LOST = Kind("Lease lost, a new term", timedelta(seconds=215), timedelta(seconds=25), timedelta(seconds=15))
KINDS = (STORM, CUT, LOST)
ROTATION_AT = timedelta(seconds=180)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; aware UTC."""

    kind: Kind
    begin: datetime
    end: datetime

    def hits(self, at: datetime) -> bool:
        """Whether a boundary at `at` may be late because of the fault."""
        return self.begin - _BEFORE <= at < self.end + self.kind.after


def calendar(begin: datetime, end: datetime) -> Iterator[Fault]:
    """All faults of a run, in order. A fault that would not end before the end of the run is left out.

    The Lease is lost in the first half only. The second half is one leadership, so that leaks of a leadership
    accumulate.
    """
    middle = begin + (end - begin) / 2
    for turn in range(1 + int((end - begin) / EVERY)):
        for kind in KINDS:
            at = begin + turn * EVERY + kind.at
            if at + kind.lasts + kind.after < (middle if kind is LOST else end):
                yield Fault(kind, at, at + kind.lasts)


async def strike(faults: Iterable[Fault], aws: Aws, wire: Wire) -> None:
    """Cause each fault at its time."""
    for number, fault in enumerate(faults):
        await sleep_until(fault.begin)
        if fault.kind is STORM:
            await asyncio.to_thread(aws.do, "storm", throttled=0.3, reset=0.05, seed=number)
            await sleep_until(fault.end)
            await asyncio.to_thread(aws.do, "calm")
        else:
            wire.cut()
            await sleep_until(fault.end)
            await wire.fix()


class Credentials:
    """A kubeconfig of the operator's ServiceAccount, with a token in a file, as in a pod."""

    def __init__(self, world: World, port: int) -> None:
        self._world = world
        self._token = world.directory / "token"
        self.kubeconfig = world.directory / "operator.kubeconfig"
        whole: dict[str, Any] = yaml.safe_load(world.plane.kubeconfig.read_text())
        whole["users"][0]["user"] = {"tokenFile": str(self._token)}
        whole["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        self.kubeconfig.write_text(yaml.safe_dump(whole))
        world.kubectl("apply", "-k", str(_MANIFESTS))
        self.renew()

    def renew(self) -> None:
        """Create a token, and write it into the token file."""
        lives = f"--duration={TOKEN_LIVES.total_seconds():.0f}s"
        token = self._world.kubectl("create", "token", "booking-operator", "-n", SYSTEM, lives)
        self._token.write_text(token)

    async def rotate(self, begin: datetime) -> None:
        """Renew the token every five minutes, until cancelled."""
        await every(EVERY, begin + ROTATION_AT, lambda: asyncio.to_thread(self.renew))


async def every(period: timedelta, first: datetime, do: Callable[[], Awaitable[None]]) -> None:
    """Call `do` at `first` and then once per period, until cancelled."""
    at = first
    while True:
        await sleep_until(at)
        await do()
        at += period


async def sleep_until(at: datetime) -> None:
    """Sleep until an instant of the wall clock (aware UTC)."""
    await asyncio.sleep(max(0.0, (at - datetime.now(UTC)).total_seconds()))
