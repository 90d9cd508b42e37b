"""A Lease in an API server in memory, and candidates for it, each with its own connection."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from booking_operator.engine.leader_election import (
    LeaderElector,
    Lease,
    LeaseConflictError,
    LeaseError,
    LeaseTiming,
)
from tests.support.virtual import VirtualClock

LEASE = LeaseTiming(timedelta(seconds=30))


class LeaseServer:
    """Keeps one Lease with optimistic concurrency, as the API server does.

    A write must name the current version, and creates a new one.
    """

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.version = 0
        self.watchers: list[Callable[[Lease | None], None]] = []

    def write(self, lease: Lease) -> Lease:
        if lease.version != (self.lease.version if self.lease else ""):
            raise LeaseConflictError("not as it was seen")
        self.version += 1
        self.lease = replace(lease, version=str(self.version))
        self.notify()
        return self.lease

    def delete(self) -> None:
        self.lease = None
        self.notify()

    def notify(self) -> None:
        for see in self.watchers:
            see(self.lease)


@dataclass
class Connection:
    """`engine.lease.Leases` of one candidate. Each fault lasts until a test unsets it.

    Attributes:
        server: the server at the other end.
        cut: requests get no answer, and the watch reports nothing.
        refused: requests fail immediately.
        deaf: the watch reports nothing.
        reply_lost: writes are carried out, but their responses are lost.
    """

    server: LeaseServer
    cut: bool = False
    refused: bool = False
    deaf: bool = False
    reply_lost: bool = False
    seconds: float = 0.005
    reply_seconds: float = 0.0

    async def get(self) -> Lease | None:
        await self._pass()
        return self.server.lease

    async def write(self, lease: Lease) -> Lease:
        await self._pass()
        written = self.server.write(lease)
        if self.reply_lost:
            await Future()
        await asyncio.sleep(self.reply_seconds)
        return written

    async def watch(self, see: Callable[[Lease | None], None]) -> None:
        def forward(lease: Lease | None) -> None:
            if not (self.cut or self.deaf):
                see(lease)

        self.server.watchers.append(forward)
        try:
            await Future()
        finally:
            self.server.watchers.remove(forward)

    async def _pass(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.refused:
            raise LeaseError("refused")
        if self.cut:
            await Future()


@dataclass
class Candidate:
    """An elector, and a writer that writes ten times a second while it may."""

    name: str
    server: LeaseServer
    clock: VirtualClock = field(default_factory=VirtualClock)
    timing: LeaseTiming = LEASE

    def __post_init__(self) -> None:
        self.connection = Connection(self.server)
        self.elector = LeaderElector(self.name, self.connection, self.clock, self.timing)
        self.writes: list[float] = []
        self.terms: list[tuple[float, float]] = []
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.task = asyncio.ensure_future(self.elector.run(self.lead))

    async def end(self) -> None:
        """Cancel the elector, as SIGTERM does."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    def kill(self) -> None:
        """Cancel the elector without a connection, as SIGKILL does, so that it cannot release the Lease."""
        self.connection.cut = True
        assert self.task is not None
        self.task.cancel()

    async def lead(self) -> None:
        began = now()
        try:
            while True:
                if self.elector.may_write():
                    self.writes.append(now())
                await asyncio.sleep(0.1)
        finally:
            self.terms.append((began, now()))


def now() -> float:
    """The virtual time in seconds."""
    return round(asyncio.get_running_loop().time(), 3)
