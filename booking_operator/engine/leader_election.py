"""Leader election by a Lease: of several replicas one works, and the others stand by.

As client-go's `leaderelection`: who holds the Lease renews it; who has seen no renewal for as long as it says
takes it over; the API server's check of versions lets only one of several do so. Times in the Lease are for
people. Nobody compares them with a clock of its own: what counts is for how long no change was seen.

What differs, on purpose:
- a watch reports a Lease that was released, so that a hand-over takes milliseconds;
- a replica that loses the Lease stands by again, with its caches warm, and does not exit;
- leadership ends RenewDeadline after the last renewal was *sent*, by the monotonic clock and by the wall
  clock, whichever is later, so that neither a process that was stopped nor a suspended machine goes on;
- a Lease that vanishes ends leadership, and who saw it held waits as if it were there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import structlog

from booking_operator.engine.clock import Clock
from booking_operator.engine.lease import (
    Lease,
    LeaseConflictError,
    LeaseError,
    LeaseLock,
    LeaseTiming,
    ObservedLease,
)

T = TypeVar("T")

SHUTDOWN_TIMEOUT_SECONDS = 1.0
"""How long what the leader does may take to end; then the Lease is given back, and the fence holds."""
RELEASE_TIMEOUT_SECONDS = 0.8
"""How long giving the Lease back may take: the process is about to end, and is not waited for long."""

Lead = Callable[[], Awaitable[None]]
"""What the leader does, until it is cancelled."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    """When the last renewal was sent, on both clocks: earlier than anybody else can have seen it."""

    monotonic: float
    at: datetime


class SingleReplica:
    """Stands in for an `Elector` where there is no election: it always leads."""

    is_leader = True
    has_rivals = False

    def may_write(self) -> bool:
        """Whether writes may leave at this instant."""
        return True

    async def run(self, lead: Lead) -> None:
        """Lead until cancelled."""
        await lead()


class LeaderElector:
    """One candidate. `live` is what every writer asks right before it writes.

    Attributes:
        identity: its own, which no other candidate has.
        is_leader: whether `lead` is being run.
        has_rivals: whether another may have written before us.
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
        """Identity of who holds the Lease, as far as is known; empty when nobody does."""
        return self._observed.lease.holder if self._observed.exists else ""

    def may_write(self) -> bool:
        """Whether this candidate holds the Lease for certain at this instant."""
        renewal, deadline = self._renewal, self._timing.renew_deadline
        if renewal is None:
            return False
        passed = self._clock.monotonic() - renewal.monotonic
        return passed < deadline.total_seconds() and self._clock.now() - renewal.at < deadline

    async def run(self, lead: Lead) -> None:
        """Stand by, and run `lead` whenever and for as long as the Lease is held; until cancelled.

        When cancelled, the Lease is given back once `lead` has ended.
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
        """The watch reports a change."""
        self._record(lease)
        self._changed.set()

    def _record(self, lease: Lease | None) -> None:
        before = self.leader
        self._observed.observe(lease, self._clock.monotonic())
        if self.leader not in {before, self.identity}:
            self._log.info("leader_is", leader=self.leader or "nobody")

    async def _acquire(self) -> None:
        """Return once the Lease is ours."""
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
                # Look at once, and take it if it is free; a replica that loses again and again asks less
                # often.
                self._observed.was_read, wait = (
                    False,
                    conflicts * self._timing.retry_period.total_seconds() / 4,
                )
                conflicts = min(conflicts + 1, 4)
            except LeaseError as error:
                wait = self._timing.retry_period.total_seconds()
                self._log.warning("lease_failed", error=str(error), retry_in_s=wait)
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
                term = tasks.create_task(_run_forever(lead), name="leader")
                try:
                    reason = await self._renew_until_lost()
                except asyncio.CancelledError:
                    await self._shut_down(term)
                    raise
                self._renewal = None  # what is under way is cancelled only now, and must not write
                raise _LeadershipLostError(reason)  # noqa: TRY301 - raised here to be caught here
        except* _LeadershipLostError as lost:
            self._log.warning("leadership_lost", reason=str(lost.exceptions[0]))
        finally:
            self.is_leader = False

    async def _shut_down(self, term: asyncio.Task[None]) -> None:
        """End in good order: first what the leader does, then the leadership."""
        term.cancel()
        _, late = await asyncio.wait([term], timeout=SHUTDOWN_TIMEOUT_SECONDS)
        if late:
            self._log.error("term_does_not_end", after_s=SHUTDOWN_TIMEOUT_SECONDS)
        await self._release()

    async def _renew_until_lost(self) -> str:
        """Renew until that fails for too long, or another replica holds the Lease; return why."""
        wait = self._timing.retry_period.total_seconds()
        while True:
            self._changed.clear()
            if not self._lost_reason():  # what the watch reported while an answer was awaited
                await self._wait_for_change(min(wait, self._seconds_left()))
            if usurped := self._lost_reason():
                return usurped
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
        """After a conflict, which may be with an own write whose answer was lost; how long to wait then."""
        try:
            self._record(await self._with_timeout(self._lock.get()))
        except LeaseError as error:
            self._log.warning("lease_failed", error=str(error))
            return self._timing.retry_period.total_seconds() / 4
        return 0.0

    def _lost_reason(self) -> str:
        if not self._observed.exists:
            return "the Lease was deleted"
        holder = self._observed.lease.holder
        return "" if holder == self.identity else f"{holder or 'nobody'} holds the Lease"

    async def _write(self, lease: Lease) -> None:
        renewal = _Renewal(self._clock.monotonic(), self._clock.now())
        before, self._write_uncertain = self._write_uncertain, True
        try:
            self._record(await self._with_timeout(self._lock.write(lease)))
        except LeaseConflictError:
            # This one was not taken; one before it, whose answer was lost, may have been.
            self._write_uncertain = before
            raise
        self._write_uncertain, self._renewal = False, renewal

    async def _with_timeout(self, call: Awaitable[T]) -> T:
        """Wait for an answer, but not beyond the end of the leadership, nor half as long as it lasts."""
        timeout = self._timing.renew_deadline.total_seconds() / 2
        if self._renewal is not None:
            timeout = min(timeout, self._seconds_left())
        try:
            async with asyncio.timeout(timeout):
                return await call
        except TimeoutError:
            raise LeaseError(f"no answer within {timeout:.1f} s") from None

    def _seconds_left(self) -> float:
        """For how many seconds we lead yet if nothing is renewed."""
        if self._renewal is None:
            return 0.0
        passed = self._clock.monotonic() - self._renewal.monotonic
        return max(0.0, self._timing.renew_deadline.total_seconds() - passed)

    async def _wait_for_change(self, seconds: float) -> None:
        """Return when the Lease has changed, or after so long."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _release(self) -> None:
        """Give the Lease back, so that others need not wait; a try, no more."""
        sure, self._renewal = self.may_write(), None
        if not (sure or self._write_uncertain):
            return
        self._write_uncertain = True  # who is interrupted once more tries once more
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                await self._clear_holder(self._observed.lease if sure else await self._lock.get())
        except (LeaseError, TimeoutError) as error:
            self._log.warning("lease_not_released", error=str(error) or "no answer")
        self._write_uncertain = False

    async def _clear_holder(self, held: Lease | None) -> None:
        while held is not None and held.holder == self.identity:
            now = self._clock.now()
            try:
                await self._lock.write(replace(held, holder="", seconds=1, acquired_at=now, renewed_at=now))
            except LeaseConflictError:
                held = await self._lock.get()  # a renewal was on its way
            else:
                self._log.info("lease_released")
                return


Election = LeaderElector | SingleReplica


async def _run_forever(lead: Lead) -> None:
    await lead()
    raise RuntimeError("what the leader does has ended by itself")


def _raise_if_cancelled() -> None:
    """A task group that is being left for another reason swallows that its task is to end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _LeadershipLostError(Exception):
    """Ends what the leader does."""
