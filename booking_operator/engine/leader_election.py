"""Leader election by a Lease: of several replicas one works, and the others stand by.

As client-go's `leaderelection`: who holds the Lease renews it; who has seen no renewal for as long as it says
takes it over; the API server's check of versions lets only one of several do so. Times in the Lease are for
people. Nobody compares them with a clock of its own: what counts is for how long no change was seen.

What differs, on purpose:
- a watch tells of a Lease that was given back, so that a hand-over takes milliseconds;
- whoever loses the Lease stands by again, with its caches warm, and does not exit;
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
from booking_operator.engine.lease import Lease, LeaseConflictError, LeaseError, Leases, Sight, Timing

T = TypeVar("T")

END_SECONDS = 1.0
"""How long what the leader does may take to end; then the Lease is given back, and the fence holds."""
RELEASE_SECONDS = 0.8
"""How long giving the Lease back may take: the process is about to end, and is not waited for long."""

Lead = Callable[[], Awaitable[None]]
"""What the leader does, until it is cancelled."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    """When the last renewal was sent, on both clocks: earlier than anybody else can have seen it."""

    monotonic: float
    at: datetime


class SoleReplica:
    """Stands in for an `Elector` where there is no election: it always leads."""

    leads = True
    rivals = False

    def live(self) -> bool:
        """Whether writes may leave at this instant."""
        return True

    async def run(self, lead: Lead) -> None:
        """Lead until cancelled."""
        await lead()


class Elector:
    """One candidate. `live` is what every writer asks right before it writes.

    Attributes:
        identity: its own, which no other candidate has.
        leads: whether `lead` is being run.
        rivals: whether another may have written before us.
    """

    rivals = True

    def __init__(self, identity: str, leases: Leases, clock: Clock, timing: Timing | None = None) -> None:
        self.identity = identity
        self.leads = False
        self._leases = leases
        self._clock = clock
        self._timing = timing or Timing()
        self._sight = Sight()
        self._renewal: _Renewal | None = None
        self._unsure = False  # whether a write was sent whose answer is not known
        self._changed = asyncio.Event()
        self._log = structlog.get_logger(identity=identity)

    @property
    def leader(self) -> str:
        """Identity of who holds the Lease, as far as is known; empty when nobody does."""
        return self._sight.lease.holder if self._sight.there else ""

    def live(self) -> bool:
        """Whether this candidate holds the Lease for certain at this instant."""
        renewal, deadline = self._renewal, self._timing.deadline
        if renewal is None:
            return False
        passed = self._clock.monotonic() - renewal.monotonic
        return passed < deadline.total_seconds() and self._clock.now() - renewal.at < deadline

    async def run(self, lead: Lead) -> None:
        """Stand by, and run `lead` whenever and for as long as the Lease is held; until cancelled.

        When cancelled, the Lease is given back once `lead` has ended.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._leases.watch(self._see), name="lease watch")
            try:
                while True:
                    await self._acquire()
                    await self._lead(lead)
                    _honour_cancellation()
            finally:
                await self._release()

    def _see(self, lease: Lease | None) -> None:
        """The watch tells of a change."""
        self._note(lease)
        self._changed.set()

    def _note(self, lease: Lease | None) -> None:
        before = self.leader
        self._sight.see(lease, self._clock.monotonic())
        if self.leader not in {before, self.identity}:
            self._log.info("leader_is", leader=self.leader or "nobody")

    async def _acquire(self) -> None:
        """Return once the Lease is ours."""
        conflicts = 0
        while True:
            self._changed.clear()
            wait = self._timing.retry.total_seconds()
            try:
                if not self._sight.known:
                    self._note(await self._in_time(self._leases.get()))
                wait = self._sight.free_at(self.identity, self._timing) - self._clock.monotonic()
                if wait <= 0:
                    return await self._take()
            except LeaseConflictError:
                # Look at once, and take it if it is free; but whoever loses again and again asks less often.
                self._sight.known, wait = False, conflicts * self._timing.retry.total_seconds() / 4
                conflicts = min(conflicts + 1, 4)
            except LeaseError as error:
                wait = self._timing.retry.total_seconds()
                self._log.warning("lease_failed", error=str(error), retry_in_s=wait)
            await self._woken(wait)

    async def _take(self) -> None:
        before, now = self._sight.lease, self._clock.now()
        mine = Lease(
            holder=self.identity,
            seconds=self._timing.seconds,
            acquired_at=now,
            renewed_at=now,
            transitions=before.transitions + 1 if self._sight.there else 0,
            version=before.version if self._sight.there else "",
        )
        await self._write(mine)

    async def _lead(self, lead: Lead) -> None:
        """Run `lead` until the Lease is lost."""
        self._log.info("leading", lease_s=self._timing.lease.total_seconds())
        self.leads = True
        try:
            async with asyncio.TaskGroup() as tasks:
                term = tasks.create_task(_run_on(lead), name="leader")
                try:
                    reason = await self._keep()
                except asyncio.CancelledError:
                    await self._end(term)
                    raise
                self._renewal = None  # what is under way is cancelled only now, and must not write
                raise _LostError(reason)  # noqa: TRY301 - raised here to be caught here
        except* _LostError as lost:
            self._log.warning("leadership_lost", reason=str(lost.exceptions[0]))
        finally:
            self.leads = False

    async def _end(self, term: asyncio.Task[None]) -> None:
        """End in good order: first what the leader does, then the leadership."""
        term.cancel()
        _, late = await asyncio.wait([term], timeout=END_SECONDS)
        if late:
            self._log.error("term_does_not_end", after_s=END_SECONDS)
        await self._release()

    async def _keep(self) -> str:
        """Renew until that fails for too long, or somebody else holds the Lease; tells why."""
        wait = self._timing.retry.total_seconds()
        while True:
            self._changed.clear()
            if not self._usurped():  # what was told while an answer was awaited
                await self._woken(min(wait, self._left()))
            if usurped := self._usurped():
                return usurped
            if not self.live():
                return "it could not be renewed in time"
            try:
                now, seconds = self._clock.now(), self._timing.seconds
                await self._write(replace(self._sight.lease, renewed_at=now, seconds=seconds))
                wait = self._timing.retry.total_seconds()
            except LeaseConflictError:
                wait = await self._look_again()
            except LeaseError as error:
                wait = self._timing.retry.total_seconds() / 4
                self._log.warning("lease_renewal_failed", error=str(error), left_s=round(self._left(), 3))

    async def _look_again(self) -> float:
        """After a conflict, which may be with an own write whose answer was lost; how long to wait then."""
        try:
            self._note(await self._in_time(self._leases.get()))
        except LeaseError as error:
            self._log.warning("lease_failed", error=str(error))
            return self._timing.retry.total_seconds() / 4
        return 0.0

    def _usurped(self) -> str:
        if not self._sight.there:
            return "the Lease was deleted"
        holder = self._sight.lease.holder
        return "" if holder == self.identity else f"{holder or 'nobody'} holds the Lease"

    async def _write(self, lease: Lease) -> None:
        renewal = _Renewal(self._clock.monotonic(), self._clock.now())
        before, self._unsure = self._unsure, True
        try:
            self._note(await self._in_time(self._leases.write(lease)))
        except LeaseConflictError:
            # This one was not taken; one before it, whose answer was lost, may have been.
            self._unsure = before
            raise
        self._unsure, self._renewal = False, renewal

    async def _in_time(self, call: Awaitable[T]) -> T:
        """Wait for an answer, but not beyond the end of the leadership, nor half as long as it lasts."""
        patience = self._timing.deadline.total_seconds() / 2
        if self._renewal is not None:
            patience = min(patience, self._left())
        try:
            async with asyncio.timeout(patience):
                return await call
        except TimeoutError:
            raise LeaseError(f"no answer within {patience:.1f} s") from None

    def _left(self) -> float:
        """For how many seconds we lead yet if nothing is renewed."""
        if self._renewal is None:
            return 0.0
        passed = self._clock.monotonic() - self._renewal.monotonic
        return max(0.0, self._timing.deadline.total_seconds() - passed)

    async def _woken(self, seconds: float) -> None:
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
        sure, self._renewal = self.live(), None
        if not (sure or self._unsure):
            return
        self._unsure = True  # who is interrupted once more tries once more
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._give_back(self._sight.lease if sure else await self._leases.get())
        except (LeaseError, TimeoutError) as error:
            self._log.warning("lease_not_released", error=str(error) or "no answer")
        self._unsure = False

    async def _give_back(self, held: Lease | None) -> None:
        while held is not None and held.holder == self.identity:
            now = self._clock.now()
            try:
                await self._leases.write(replace(held, holder="", seconds=1, acquired_at=now, renewed_at=now))
            except LeaseConflictError:
                held = await self._leases.get()  # a renewal was on its way
            else:
                self._log.info("lease_released")
                return


Election = Elector | SoleReplica


async def _run_on(lead: Lead) -> None:
    await lead()
    raise RuntimeError("what the leader does has ended by itself")


def _honour_cancellation() -> None:
    """A task group that is being left for another reason swallows that its task is to end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _LostError(Exception):
    """Ends what the leader does."""
