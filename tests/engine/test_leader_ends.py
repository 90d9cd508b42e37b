"""The election when a replica ends, at any instant."""

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
    """Ask it to end; whether it has after so long."""
    assert candidate.task is not None
    candidate.task.cancel()
    await asyncio.wait([candidate.task], timeout=seconds)
    return candidate.task.done()


@pytest.mark.parametrize("instant", [0.0, 0.004, 0.006, 0.012, 1.0])
def test_a_renewal_on_its_way_does_not_keep_the_lease_from_being_given_back(instant: float) -> None:
    """At each instant: before it is sent, while it is on its way there, or back, and after."""

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
def test_a_lease_that_is_being_taken_is_given_back(instant: float) -> None:
    async def main() -> str:
        server = LeaseServer()
        candidate = Candidate("a", server)
        candidate.connection.reply_seconds = 0.005
        candidate.begin()
        await asyncio.sleep(instant)
        assert await ended(candidate)
        return holder(server)

    assert virtual.run(main()) in {"none", ""}


def test_it_ends_on_demand_while_a_lost_leadership_is_still_ending() -> None:
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


def test_a_term_that_does_not_end_keeps_nobody_from_following() -> None:
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


def test_the_lease_of_another_is_never_given_back() -> None:
    """A write whose answer was lost had no effect, because another was faster."""

    async def main() -> str:
        server = LeaseServer()
        one, two = Candidate("a", server), Candidate("b", server)
        one.connection.seconds = 3
        one.begin()
        await asyncio.sleep(4)  # it has seen that there is none, and its own is on its way
        two.begin()
        await asyncio.sleep(1)
        assert holder(server) == "b"
        assert await ended(one)
        found = holder(server)
        await two.end()
        return found

    assert virtual.run(main()) == "b"


@pytest.mark.parametrize("error", [LeaseError, LeaseConflictError])
def test_who_cannot_take_the_lease_does_not_ask_in_a_hot_loop(error: Callable[[str], LeaseError]) -> None:
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


def test_an_edited_duration_shortens_nothing_and_is_fixed() -> None:
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
        one.connection.cut = True  # and cannot correct it
        await asyncio.sleep(DEADLINE)
        assert two.writes == []
        one.connection.cut = False
        await asyncio.sleep(60)
        found.append(server.lease.seconds)
        for candidate in (one, two):
            await candidate.end()
        return found

    assert virtual.run(main()) == [1, 30]


def test_a_second_signal_while_the_lease_is_being_given_back_changes_nothing() -> None:
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


def test_a_lease_whose_taking_was_not_answered_is_given_back_after_a_conflict_too() -> None:
    async def main() -> str:
        server = LeaseServer()
        candidate = Candidate("a", server)
        candidate.connection.deaf = candidate.connection.reply_lost = True
        candidate.begin()
        await asyncio.sleep(12)  # the first was taken, and given up; the next meets its own
        candidate.connection.reply_lost = False
        candidate.connection.seconds = 0.2
        while holder(server) == "a" and not candidate.elector.is_leader:
            await asyncio.sleep(0.05)
            if now() > 14.7:
                break
        assert await ended(candidate)
        return holder(server)

    assert virtual.run(main()) == ""
