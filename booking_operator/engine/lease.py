"""The Lease of a leader election: what it says, what was seen of it, and when it may be taken.

Nothing here waits or reads a clock; `leader` does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Lease:
    """What the Lease says.

    Attributes:
        holder: identity of the leader; empty once it was given back.
        seconds: for how long others wait after a renewal.
        acquired_at: when the holder took it (aware UTC).
        renewed_at: when it last renewed it (aware UTC).
        transitions: how often the holder has changed.
        version: resourceVersion; an update must name it, and fails where it is not the newest.
    """

    holder: str = ""
    seconds: int = 1
    acquired_at: datetime | None = None
    renewed_at: datetime | None = None
    transitions: int = 0
    version: str = ""


class LeaseError(Exception):
    """The API server did not do what was asked of it with the Lease."""


class LeaseConflictError(LeaseError):
    """The Lease is not as it was seen: somebody else has written it."""


class LeaseLock(Protocol):
    """The Lease in the API server. All raise `LeaseError`; nothing is retried."""

    async def get(self) -> Lease | None:
        """As it is now; None where there is none."""
        ...

    async def write(self, lease: Lease) -> Lease:
        """Create it, where `lease.version` is empty, or update that version.

        Raises:
            LeaseConflictError: it is not as it was seen.
        """
        ...

    async def watch(self, see: Callable[[Lease | None], None]) -> None:
        """Have `see` called with each change that is newer than what was read or written, until cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """How long things take, all from LeaseDuration, in client-go's proportions.

    Attributes:
        lease_duration: LeaseDuration: how long others wait after the last renewal that they saw.
    """

    lease_duration: timedelta = timedelta(seconds=30)

    @property
    def seconds(self) -> int:
        """LeaseDuration as the Lease has it, in whole seconds."""
        return math.ceil(self.lease_duration.total_seconds())

    @property
    def renew_deadline(self) -> timedelta:
        """RenewDeadline: how long the leader goes on after its last renewal."""
        return self.lease_duration * 2 / 3

    @property
    def retry_period(self) -> timedelta:
        """RetryPeriod: between two renewals."""
        return self.lease_duration * 2 / 15


@dataclass(slots=True)
class ObservedLease:
    """What a candidate has seen of the Lease, and when, on the monotonic clock in seconds.

    Attributes:
        was_read: whether it was looked at yet.
        lease: as it is, or as it was before it vanished.
        exists: whether it exists.
        changed_at: when it was first seen so.
    """

    was_read: bool = False
    lease: Lease = field(default_factory=Lease)
    exists: bool = False
    changed_at: float = -math.inf

    def observe(self, lease: Lease | None, now: float) -> None:
        """Take what was just seen. One that has vanished, maybe right after a renewal, holds on from now."""
        if lease is None and self.exists:
            self.changed_at = now
        elif lease is not None and lease != self.lease:
            self.lease, self.changed_at = lease, now
        self.was_read, self.exists = True, lease is not None

    def free_at(self, identity: str, timing: LeaseTiming) -> float:
        """When `identity` may take the Lease, on the monotonic clock in seconds.

        Of what the Lease says and what is usual here the longer time counts: who edits it shortens nothing.
        """
        holder = self.lease.holder
        if not holder or (holder == identity and self.exists):
            return -math.inf
        return self.changed_at + max(self.lease.seconds, timing.seconds)
