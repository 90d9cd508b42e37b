"""Leader election when a replica shuts down, at any instant."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from booking_operator.engine.leader_election import LeaseConflictError, LeaseError
from tests.support import virtual
from tests.support.leases import LEASE, Candidate, LeaseServer, now

RETRY = LEASE.retry_period.total_seconds()
DEADLINE = LEASE.renew_deadline.total_seconds()


def holder(server: LeaseServer) -> str:
    return server.lease.holder if server.lease else "none"


async def ended(candidate: Candidate, seconds: float = 5) -> bool:
    """Cancel the candidate; return whether it is done within `seconds`."""
    assert candidate.task is not None
    candidate.task.cancel()
    await asyncio.wait([candidate.task], timeout=seconds)
    return candidate.task.done()


@pytest.mark.parametrize("instant", [0.0, 0.004, 0.006, 0.012, 1.0])
def test_the_lease_is_released_while_a_renewal_is_in_flight(instant: float) -> None:
    """Shutdown before the request, while the request or the response is in flight, and after it."""

    async def main() -> str:
        server = LeaseServer()
        candidate = Candidate("a", server)
        candidate.connection.reply_seconds = 0.005
        candidate.begin()
        await asyncio.sleep(3 * 0.005 + RETRY + instant)
        assert holder(server) == "a"
        assert await ended(candidate)
        return holder(server)

    assert virtual.run(main()) == ""


@pytest.mark.parametrize("instant", [0.002, 0.008, 0.013])
def test_a_lease_is_released_while_it_is_being_acquired(instant: float) -> None:
    async def main() -> str:
        server = LeaseServer()
        candidate = Candidate("a", server)
        candidate.connection.reply_seconds = 0.005
        candidate.begin()
        await asyncio.sleep(instant)
        assert await ended(candidate)
        return holder(server)

    assert virtual.run(main()) in {"none", ""}


def test_shutdown_while_a_lost_leadership_is_still_ending() -> None:
    async def main() -> list[bool]:
        server = LeaseServer()
        candidate, begun = Candidate("a", server), []

        async def lead() -> None:
            begun.append(now())
            try:
                await asyncio.Future()
            finally:
                await asyncio.sleep(2)

        candidate.task = asyncio.ensure_future(candidate.elector.run(lead))
        await asyncio.sleep(1)
        candidate.connection.cut = True
        await asyncio.sleep(DEADLINE + 1)
        assert not candidate.elector.may_write()
        candidate.connection.cut = False
        return [await ended(candidate), len(begun) == 1]

    assert virtual.run(main()) == [True, True]


def test_a_leadership_that_does_not_end_still_releases_the_lease() -> None:
    async def main() -> tuple[str, bool, bool]:
        server = LeaseServer()
        candidate, stuck = Candidate("a", server), asyncio.Event()

        async def lead() -> None:
            while not stuck.is_set():
                with suppress(asyncio.CancelledError):
                    await stuck.wait()
            raise asyncio.CancelledError

        candidate.task = asyncio.ensure_future(candidate.elector.run(lead))
        await asyncio.sleep(1)
        over = await ended(candidate, 1.5)
        found = holder(server), over, candidate.elector.may_write()
        stuck.set()
        await asyncio.wait([candidate.task])
        return found

    assert virtual.run(main()) == ("", False, False)


def test_the_lease_of_another_candidate_is_never_released() -> None:
    """A write without an answer had no effect, because another candidate was faster."""

    async def main() -> str:
        server = LeaseServer()
        one, two = Candidate("a", server), Candidate("b", server)
        one.connection.seconds = 3
        one.begin()
        await asyncio.sleep(4)  # it has seen that there is no Lease, and its own write is in flight
        two.begin()
        await asyncio.sleep(1)
        assert holder(server) == "b"
        assert await ended(one)
        found = holder(server)
        await two.end()
        return found

    assert virtual.run(main()) == "b"


@pytest.mark.parametrize("error", [LeaseError, LeaseConflictError])
def test_failed_attempts_to_acquire_the_lease_are_no_hot_loop(error: Callable[[str], LeaseError]) -> None:
    async def main() -> int:
        server, tries = LeaseServer(), []

        def refuse(_: object) -> None:
            tries.append(now())
            raise error("no such namespace")

        server.write = refuse  # type: ignore[assignment,method-assign]
        candidate = Candidate("a", server)
        candidate.begin()
        await asyncio.sleep(60)
        await candidate.end()
        return len(tries)

    assert 10 < virtual.run(main()) < 25


def test_an_edited_lease_duration_has_no_effect_and_is_corrected() -> None:
    async def main() -> list[int]:
        server = LeaseServer()
        one, two = Candidate("a", server), Candidate("b", server)
        one.begin()
        await asyncio.sleep(1)
        two.begin()
        await asyncio.sleep(1)
        assert server.lease is not None
        found = []
        server.write(replace(server.lease, seconds=1))
        found.append(server.lease.seconds)
        one.connection.cut = True  # it cannot correct the Lease
        await asyncio.sleep(DEADLINE)
        assert two.writes == []
        one.connection.cut = False
        await asyncio.sleep(60)
        found.append(server.lease.seconds)
        for candidate in (one, two):
            await candidate.end()
        return found

    assert virtual.run(main()) == [1, 30]


def test_a_second_signal_during_the_release_has_no_effect() -> None:
    async def main() -> str:
        server = LeaseServer()
        candidate = Candidate("a", server)
        candidate.begin()
        await asyncio.sleep(1)
        assert candidate.task is not None
        candidate.task.cancel()
        await asyncio.sleep(0.002)
        assert await ended(candidate)
        return holder(server)

    assert virtual.run(main()) == ""


def test_a_lease_acquired_with_a_lost_reply_is_released_after_a_conflict() -> None:
    async def main() -> str:
        server = LeaseServer()
        candidate = Candidate("a", server)
        candidate.connection.deaf = candidate.connection.reply_lost = True
        candidate.begin()
        # the first write succeeded but its reply was lost; the next one conflicts with it
        await asyncio.sleep(12)
        candidate.connection.reply_lost = False
        candidate.connection.seconds = 0.2
        while holder(server) == "a" and not candidate.elector.is_leader:
            await asyncio.sleep(0.05)
            if now() > 14.7:
                break
        assert await ended(candidate)
        return holder(server)

    assert virtual.run(main()) == ""
