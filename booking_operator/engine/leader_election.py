"""Leader election by a Lease: one of several replicas leads, and the others stand by.

The rules are those of client-go's `leaderelection`. The holder renews the Lease. A candidate that has seen no
renewal for LeaseDuration takes the Lease. The API server's version check lets only one candidate succeed.
Each candidate measures on its own monotonic clock how long it has seen no change. It never compares its clock
with the times in the Lease, which are for people.

The differences from client-go:
- A watch reports the release of the Lease, so that a hand-over takes milliseconds.
- A replica that loses the Lease stands by again with warm caches, and does not exit.
- Leadership ends RenewDeadline after the last renewal was *sent*, on the monotonic or on the wall clock,
  whichever reaches it first. So neither a paused process nor a suspended machine continues to lead.
- The deletion of the Lease ends leadership. A candidate that has seen a holder waits as if the Lease existed.

`manager` runs the controllers as `lead`. `may_write` is the fence that each write passes.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import structlog

from booking_operator.engine.clock import Clock

T = TypeVar("T")

SHUTDOWN_TIMEOUT_SECONDS = 1.0
"""Shutdown grace period of `lead`. After it the Lease is released anyway; the fence blocks late writes."""
RELEASE_TIMEOUT_SECONDS = 0.8
"""Timeout of the release of the Lease. It is short because the process is about to end."""

Lead = Callable[[], Awaitable[None]]
"""The work of the leader. It runs until it is cancelled."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The content of the Lease.

    Attributes:
        holder: the identity of the leader; empty after a release.
        seconds: how long other candidates wait after a renewal.
        acquired_at: when the holder took the Lease (aware UTC).
        renewed_at: when the holder last renewed the Lease (aware UTC).
        transitions: how often the holder has changed.
        version: the resourceVersion; an update fails if it is not the newest.
    """

    holder: str = ""
    seconds: int = 1
    acquired_at: datetime | None = None
    renewed_at: datetime | None = None
    transitions: int = 0
    version: str = ""


class LeaseError(Exception):
    """The API server did not read or write the Lease."""


class LeaseConflictError(LeaseError):
    """Another client has written the Lease since it was read."""


class LeaseLock(Protocol):
    """The Lease in the API server. Each method raises `LeaseError`, and none retries."""

    async def get(self) -> Lease | None:
        """Return the current Lease; None if it does not exist."""
        ...

    async def write(self, lease: Lease) -> Lease:
        """Create the Lease if `lease.version` is empty; otherwise update that version.

        Raises:
            LeaseConflictError: the version is not the newest.
        """
        ...

    async def watch(self, on_change: Callable[[Lease | None], None]) -> None:
        """Call `on_change` for each change newer than the last read or write; run until cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """The durations of an election. All follow from LeaseDuration, in the proportions of client-go.

    Attributes:
        lease_duration: LeaseDuration: how long candidates wait after the last renewal that they saw.
    """

    lease_duration: timedelta = timedelta(seconds=30)

    @property
    def seconds(self) -> int:
        """LeaseDuration in whole seconds, as the Lease stores it."""
        return math.ceil(self.lease_duration.total_seconds())

    @property
    def renew_deadline(self) -> timedelta:
        """RenewDeadline: how long the leader continues after its last renewal."""
        return self.lease_duration * 2 / 3

    @property
    def retry_period(self) -> timedelta:
        """RetryPeriod: the time between two renewals."""
        return self.lease_duration * 2 / 15


@dataclass(slots=True)
class ObservedLease:
    """The Lease as one candidate has last seen it. Times are monotonic, in seconds.

    Attributes:
        was_read: whether the candidate has read the Lease.
        lease: the last content, which stays after a deletion.
        exists: whether the Lease exists.
        changed_at: when the candidate first saw this content.
    """

    was_read: bool = False
    lease: Lease = field(default_factory=Lease)
    exists: bool = False
    changed_at: float = -math.inf

    def observe(self, lease: Lease | None, now: float) -> None:
        """Record a read or a watch event.

        A deletion counts as a renewal at `now`: the holder may have renewed the Lease right before it.
        """
        if lease is None and self.exists:
            self.changed_at = now
        elif lease is not None and lease != self.lease:
            self.lease, self.changed_at = lease, now
        self.was_read, self.exists = True, lease is not None

    def free_at(self, identity: str, timing: LeaseTiming) -> float:
        """Return when `identity` may take the Lease.

        The longer of the duration in the Lease and the configured one counts, so that an edit of the Lease
        cannot shorten the wait.
        """
        holder = self.lease.holder
        if not holder or (holder == identity and self.exists):
            return -math.inf
        return self.changed_at + max(self.lease.seconds, timing.seconds)


@dataclass(frozen=True, slots=True)
class _Renewal:
    """When the last renewal was sent, on both clocks. Every other replica sees it later."""

    monotonic: float
    at: datetime


class SingleReplica:
    """The elector where leader election is off: it always leads."""

    is_leader = True
    has_rivals = False

    def may_write(self) -> bool:
        """Whether a write may leave now: always."""
        return True

    async def run(self, lead: Lead) -> None:
        """Lead until cancelled."""
        await lead()


class LeaderElector:
    """One candidate of an election.

    Attributes:
        identity: the unique identity of this candidate.
        is_leader: whether `lead` runs.
        has_rivals: whether another replica may have written before this one.
    """

    has_rivals = True

    def __init__(
        self, identity: str, leases: LeaseLock, clock: Clock, timing: LeaseTiming | None = None
    ) -> None:
        self.identity = identity
        self.is_leader = False
        self._lock = leases
        self._clock = clock
        self._timing = timing or LeaseTiming()
        self._observed = ObservedLease()
        self._renewal: _Renewal | None = None
        self._write_uncertain = False  # whether a write was sent whose answer is not known
        self._changed = asyncio.Event()
        self._log = structlog.get_logger(identity=identity)

    @property
    def leader(self) -> str:
        """The identity of the holder that was last seen; empty if the Lease has no holder."""
        return self._observed.lease.holder if self._observed.exists else ""

    def may_write(self) -> bool:
        """Whether a write may leave now, because this candidate certainly holds the Lease."""
        renewal, deadline = self._renewal, self._timing.renew_deadline
        if renewal is None:
            return False
        passed = self._clock.monotonic() - renewal.monotonic
        return passed < deadline.total_seconds() and self._clock.now() - renewal.at < deadline

    async def run(self, lead: Lead) -> None:
        """Stand by, and run `lead` while this candidate holds the Lease; repeat until cancelled.

        A cancellation first ends `lead` and then releases the Lease.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lock.watch(self._on_change), name="lease watch")
            try:
                while True:
                    await self._acquire()
                    await self._lead(lead)
                    _raise_if_cancelled()
            finally:
                await self._release()

    def _on_change(self, lease: Lease | None) -> None:
        """Handle an event of the watch."""
        self._record(lease)
        self._changed.set()

    def _record(self, lease: Lease | None) -> None:
        before = self.leader
        self._observed.observe(lease, self._clock.monotonic())
        if self.leader not in {before, self.identity}:
            self._log.info("new_leader_observed", leader=self.leader or "none")

    async def _acquire(self) -> None:
        """Return when this candidate has taken the Lease."""
        conflicts = 0
        while True:
            self._changed.clear()
            wait = self._timing.retry_period.total_seconds()
            try:
                if not self._observed.was_read:
                    self._record(await self._with_timeout(self._lock.get()))
                wait = self._observed.free_at(self.identity, self._timing) - self._clock.monotonic()
                if wait <= 0:
                    return await self._take_over()
            except LeaseConflictError:
                # The first conflict is followed by a read at once. Further ones back off.
                self._observed.was_read = False
                wait = conflicts * self._timing.retry_period.total_seconds() / 4
                conflicts = min(conflicts + 1, 4)
            except LeaseError as error:
                wait = self._timing.retry_period.total_seconds()
                self._log.warning("lease_acquisition_failed", error=str(error), retry_in_s=wait)
            await self._wait_for_change(wait)

    async def _take_over(self) -> None:
        before, now = self._observed.lease, self._clock.now()
        mine = Lease(
            holder=self.identity,
            seconds=self._timing.seconds,
            acquired_at=now,
            renewed_at=now,
            transitions=before.transitions + 1 if self._observed.exists else 0,
            version=before.version if self._observed.exists else "",
        )
        await self._write(mine)

    async def _lead(self, lead: Lead) -> None:
        """Run `lead` until the Lease is lost."""
        self._log.info("leading", lease_s=self._timing.lease_duration.total_seconds())
        self.is_leader = True
        try:
            async with asyncio.TaskGroup() as tasks:
                leading = tasks.create_task(_run_forever(lead), name="leader")
                try:
                    reason = await self._renew_until_lost()
                except asyncio.CancelledError:
                    await self._shut_down(leading)
                    raise
                self._renewal = None  # `lead` is cancelled after this, and must not write until then
                raise _LeadershipLostError(reason)  # noqa: TRY301 - raised here to be caught here
        except* _LeadershipLostError as lost:
            self._log.warning("leadership_lost", reason=str(lost.exceptions[0]))
        finally:
            self.is_leader = False

    async def _shut_down(self, leading: asyncio.Task[None]) -> None:
        """Cancel `lead`, wait for its end, then release the Lease."""
        leading.cancel()
        _, late = await asyncio.wait([leading], timeout=SHUTDOWN_TIMEOUT_SECONDS)
        if late:
            self._log.error("leader_shutdown_timed_out", after_s=SHUTDOWN_TIMEOUT_SECONDS)
        await self._release()

    async def _renew_until_lost(self) -> str:
        """Renew until the Lease is lost or RenewDeadline has passed; return the reason."""
        wait = self._timing.retry_period.total_seconds()
        while True:
            self._changed.clear()
            if not self._lost_reason():  # the watch may have reported a change during the last write
                await self._wait_for_change(min(wait, self._seconds_left()))
            if lost := self._lost_reason():
                return lost
            if not self.may_write():
                return "it could not be renewed in time"
            try:
                now, seconds = self._clock.now(), self._timing.seconds
                await self._write(replace(self._observed.lease, renewed_at=now, seconds=seconds))
                wait = self._timing.retry_period.total_seconds()
            except LeaseConflictError:
                wait = await self._read_again()
            except LeaseError as error:
                wait = self._timing.retry_period.total_seconds() / 4
                self._log.warning(
                    "lease_renewal_failed", error=str(error), left_s=round(self._seconds_left(), 3)
                )

    async def _read_again(self) -> float:
        """Read the Lease after a conflict; return how many seconds to wait before the next renewal.

        The conflict may be with an earlier write of this candidate whose answer was lost.
        """
        try:
            self._record(await self._with_timeout(self._lock.get()))
        except LeaseError as error:
            self._log.warning("lease_read_failed", error=str(error))
            return self._timing.retry_period.total_seconds() / 4
        return 0.0

    def _lost_reason(self) -> str:
        if not self._observed.exists:
            return "the Lease was deleted"
        holder = self._observed.lease.holder
        return "" if holder == self.identity else f"{holder or 'no replica'} holds the Lease"

    async def _write(self, lease: Lease) -> None:
        renewal = _Renewal(self._clock.monotonic(), self._clock.now())
        before, self._write_uncertain = self._write_uncertain, True
        try:
            self._record(await self._with_timeout(self._lock.write(lease)))
        except LeaseConflictError:
            # This write had no effect. An earlier one whose answer was lost may have had one.
            self._write_uncertain = before
            raise
        self._write_uncertain, self._renewal = False, renewal

    async def _with_timeout(self, call: Awaitable[T]) -> T:
        """Wait for an answer at most until the leadership ends, and at most half of RenewDeadline."""
        timeout = self._timing.renew_deadline.total_seconds() / 2
        if self._renewal is not None:
            timeout = min(timeout, self._seconds_left())
        try:
            async with asyncio.timeout(timeout):
                return await call
        except TimeoutError:
            raise LeaseError(f"no response within {timeout:.1f} s") from None

    def _seconds_left(self) -> float:
        """How many seconds the leadership lasts without another renewal."""
        if self._renewal is None:
            return 0.0
        passed = self._clock.monotonic() - self._renewal.monotonic
        return max(0.0, self._timing.renew_deadline.total_seconds() - passed)

    async def _wait_for_change(self, seconds: float) -> None:
        """Return at the next change of the Lease, or after `seconds`."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _release(self) -> None:
        """Try once to release the Lease, so that other candidates need not wait for its expiry."""
        certain, self._renewal = self.may_write(), None
        if not (certain or self._write_uncertain):
            return
        self._write_uncertain = True  # a cancellation during the release leads to another try
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                await self._clear_holder(self._observed.lease if certain else await self._lock.get())
        except (LeaseError, TimeoutError) as error:
            self._log.warning("lease_not_released", error=str(error) or "no response")
        self._write_uncertain = False

    async def _clear_holder(self, held: Lease | None) -> None:
        while held is not None and held.holder == self.identity:
            now = self._clock.now()
            try:
                await self._lock.write(replace(held, holder="", seconds=1, acquired_at=now, renewed_at=now))
            except LeaseConflictError:
                held = await self._lock.get()  # a renewal was in flight
            else:
                self._log.info("lease_released")
                return


Election = LeaderElector | SingleReplica


async def _run_forever(lead: Lead) -> None:
    await lead()
    raise RuntimeError("the work of the leader ended without being cancelled")


def _raise_if_cancelled() -> None:
    """Raise a cancellation that a TaskGroup has swallowed, because it left for another reason."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _LeadershipLostError(Exception):
    """Leaves the TaskGroup that runs `lead`."""
