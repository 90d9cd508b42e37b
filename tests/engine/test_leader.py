import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from booking_operator.engine.leader_election import (
    LeaderElector,
    Lease,
    LeaseTiming,
    ObservedLease,
    SingleReplica,
)
from tests.support import virtual
from tests.support.leases import LEASE, Candidate, LeaseServer, now
from tests.support.virtual import EPOCH

SECONDS = LEASE.lease_duration.total_seconds()
DEADLINE, RETRY = LEASE.renew_deadline.total_seconds(), LEASE.retry_period.total_seconds()


class Pair:
    """Two candidates, the first of which leads."""

    def __init__(self) -> None:
        self.server = LeaseServer()
        self.a, self.b = Candidate("a", self.server), Candidate("b", self.server)

    async def begin(self) -> None:
        self.a.begin()
        await asyncio.sleep(1)
        self.b.begin()
        await asyncio.sleep(10)
        assert self.a.elector.is_leader
        assert not self.b.elector.is_leader

    def overlap(self) -> list[float]:
        """Instants at which one wrote after the other had begun to."""
        first = min(self.b.writes, default=float("inf"))
        return [at for at in self.a.writes if at >= first]


def play(scenario: Callable[[Pair], Awaitable[None]]) -> None:
    async def main() -> None:
        pair = Pair()
        await pair.begin()
        await scenario(pair)
        for candidate in (pair.a, pair.b):
            await candidate.end()

    virtual.run(main())


def test_timing_is_client_gos() -> None:
    assert LeaseTiming(timedelta(seconds=15)).renew_deadline == timedelta(seconds=10)
    assert LeaseTiming(timedelta(seconds=15)).retry_period == timedelta(seconds=2)


def test_the_first_leads_at_once_and_keeps_the_lease() -> None:
    async def scenario(pair: Pair) -> None:
        await asyncio.sleep(600)
        assert pair.a.elector.is_leader
        assert pair.b.writes == []
        assert len(pair.a.writes) > 6000
        lease = pair.server.lease
        assert lease is not None
        assert (lease.holder, lease.seconds, lease.transitions) == ("a", 30, 0)
        assert lease.acquired_at is not None
        assert lease.renewed_at is not None
        assert (lease.renewed_at - lease.acquired_at).total_seconds() > 590
        assert pair.b.elector.leader == "a"

    play(scenario)


def test_a_lease_that_is_given_back_is_taken_over_at_once() -> None:
    async def scenario(pair: Pair) -> None:
        await pair.a.end()
        ended = now()
        await asyncio.sleep(0.1)
        assert pair.b.elector.is_leader
        assert min(pair.b.writes) - ended < 0.05
        assert pair.server.lease is not None
        assert pair.server.lease.transitions == 1
        assert pair.overlap() == []

    play(scenario)


def test_a_lease_that_is_given_back_unheard_is_taken_over_in_time() -> None:
    async def scenario(pair: Pair) -> None:
        pair.b.connection.deaf = True
        await pair.a.end()
        await asyncio.sleep(SECONDS + 0.1)
        assert pair.b.elector.is_leader

    play(scenario)


def test_a_killed_leader_is_followed_within_lease_duration() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.kill()
        killed = now()
        await asyncio.sleep(SECONDS + 0.1)
        assert SECONDS - RETRY - 0.1 < min(pair.b.writes) - killed <= SECONDS + 0.1

    play(scenario)


def test_a_partitioned_leader_ends_before_another_begins_and_follows_later() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.cut = True
        cut = now()
        await asyncio.sleep(SECONDS + 1)
        assert max(pair.a.writes) - cut <= DEADLINE
        assert pair.overlap() == []
        assert min(pair.b.writes) - max(pair.a.writes) > (SECONDS - DEADLINE) / 2
        assert not pair.a.elector.is_leader
        pair.a.connection.cut = False
        await asyncio.sleep(60)
        assert not pair.a.elector.is_leader
        await pair.b.end()
        await asyncio.sleep(SECONDS + 1)
        assert pair.a.elector.is_leader

    play(scenario)


def test_an_api_server_that_restarts_ends_no_leadership() -> None:
    async def scenario(pair: Pair) -> None:
        for candidate in (pair.a, pair.b):
            candidate.connection.refused = True
        await asyncio.sleep(DEADLINE - RETRY - 0.5)
        for candidate in (pair.a, pair.b):
            candidate.connection.refused = False
        await asyncio.sleep(120)
        assert len(pair.a.terms) == 0
        assert pair.b.writes == []
        assert all(later - earlier < 0.2 for earlier, later in pairwise(pair.a.writes))

    play(scenario)


def test_a_lost_reply_is_no_lost_lease() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.reply_lost = True
        await asyncio.sleep(RETRY + 1)
        pair.a.connection.reply_lost = False
        await asyncio.sleep(120)
        assert pair.a.terms == []
        assert pair.b.writes == []

    play(scenario)


def test_replies_that_are_all_lost_end_it_and_the_candidate_finds_itself_the_holder() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.reply_lost = True
        await asyncio.sleep(DEADLINE + 15)
        assert len(pair.a.terms) == 1
        pair.a.connection.reply_lost = False
        await asyncio.sleep(2 * SECONDS)
        assert pair.a.elector.is_leader != pair.b.elector.is_leader

    play(scenario)


def test_a_lease_that_is_deleted_ends_leadership_at_once_for_as_long_as_it_would_have_lasted() -> None:
    async def scenario(pair: Pair) -> None:
        pair.server.delete()
        await asyncio.sleep(0.001)
        assert not pair.a.elector.may_write()
        await asyncio.sleep(SECONDS - 0.1)
        assert not pair.a.elector.is_leader
        await asyncio.sleep(0.2)
        assert pair.a.elector.is_leader != pair.b.elector.is_leader

    play(scenario)


def test_a_lease_that_is_deleted_while_a_renewal_fails_ends_leadership_at_once() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.refused, pair.a.connection.seconds = True, 3.0
        await asyncio.sleep(3)  # a renewal is on its way, for a second yet
        pair.server.delete()
        await asyncio.sleep(0.5)
        assert pair.a.elector.is_leader
        await asyncio.sleep(1)
        assert not pair.a.elector.is_leader

    play(scenario)


def test_who_saw_the_lease_held_waits_although_it_was_deleted() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.cut = True
        await asyncio.sleep(5)
        pair.server.delete()
        await asyncio.sleep(SECONDS - 0.1)
        assert not pair.b.elector.is_leader
        await asyncio.sleep(0.2)
        assert pair.b.elector.is_leader
        assert pair.overlap() == []

    play(scenario)


def test_a_lease_that_somebody_else_has_written_ends_leadership_at_once() -> None:
    async def scenario(pair: Pair) -> None:
        assert pair.server.lease is not None
        pair.server.write(Lease("mallory", 30, version=pair.server.lease.version))
        await asyncio.sleep(0.001)
        assert not pair.a.elector.may_write()
        await asyncio.sleep(0.1)
        assert not pair.a.elector.is_leader
        assert pair.a.elector.leader == "mallory"

    play(scenario)


@pytest.mark.parametrize("step", [timedelta(minutes=1), timedelta(days=1)])
def test_a_wall_clock_set_forward_ends_the_lease_until_it_is_renewed(step: timedelta) -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.clock.skew += step
        assert not pair.a.elector.may_write()
        await asyncio.sleep(RETRY + 0.1)
        assert pair.a.elector.is_leader
        assert pair.b.writes == []

    play(scenario)


def test_a_wall_clock_set_back_prolongs_nothing() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.cut = True
        cut = now()
        pair.a.clock.skew -= timedelta(hours=1)
        await asyncio.sleep(SECONDS)
        assert max(pair.a.writes) - cut <= DEADLINE

    play(scenario)


def test_what_the_leader_does_is_over_before_the_lease_is_given_back() -> None:
    async def main() -> list[str]:
        server, told = LeaseServer(), []
        candidate = Candidate("a", server)

        async def lead() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.3)
                told.append(server.lease.holder if server.lease else "")

        task = asyncio.ensure_future(candidate.elector.run(lead))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return [*told, server.lease.holder if server.lease else "none"]

    assert virtual.run(main()) == ["a", ""]


def test_an_error_of_what_the_leader_does_gives_the_lease_back_and_is_raised() -> None:
    async def main() -> tuple[str, bool]:
        server = LeaseServer()

        async def lead() -> None:
            raise ValueError("a bug")

        error = None
        try:
            await Candidate("a", server).elector.run(lead)
        except* ValueError as group:
            error = group
        return server.lease.holder if server.lease else "none", error is not None

    assert virtual.run(main()) == ("", True)


def test_an_unreachable_api_server_at_the_end_is_not_waited_for() -> None:
    async def main() -> float:
        server = LeaseServer()
        candidate = Candidate("a", server)
        candidate.begin()
        await asyncio.sleep(1)
        candidate.connection.cut = True
        began = now()
        await candidate.end()
        return now() - began

    assert virtual.run(main()) < 1


def test_of_many_candidates_one_leads_whatever_fails() -> None:
    """Terms of different candidates never overlap, at whatever instants connections fail."""

    async def main(seed: int) -> int:
        chance, server = random.Random(seed), LeaseServer()
        candidates = [Candidate(name, server) for name in "abcd"]
        for candidate in candidates:
            candidate.begin()
        # Once: to delete it twice while some cannot see that is to take the lock away.
        deleted = chance.randrange(60)
        for number in range(60):
            connection = chance.choice(candidates).connection
            fault = chance.choice(("cut", "refused", "deaf", "reply_lost"))
            setattr(connection, fault, not getattr(connection, fault))
            if number == deleted:
                server.delete()
            await asyncio.sleep(chance.uniform(0, 20))
        for candidate in candidates:
            await candidate.end()
        writes = sorted((at, candidate.name) for candidate in candidates for at in candidate.writes)
        for (at, name), (_, other), (later, again) in zip(writes, writes[1:], writes[2:], strict=False):
            # A writer writes every 0.1 s: no other one does in between.
            assert name == other or name != again or later - at > 0.2, (seed, at, name, other)
        return sum(name != other for (_, name), (_, other) in pairwise(writes))

    assert sum(virtual.run(main(seed)) for seed in range(60)) > 60


def test_a_candidate_that_has_seen_nothing_may_take_what_is_not_there() -> None:
    sight = ObservedLease()
    assert sight.free_at("a", LEASE) < 0
    sight.observe(Lease("b", 30), 100)
    assert sight.free_at("a", LEASE) == 130
    assert sight.free_at("b", LEASE) < 100
    sight.observe(None, 120)
    sight.observe(None, 125)
    assert sight.free_at("a", LEASE) == 150
    sight.observe(Lease("", 1), 125)
    assert sight.free_at("a", LEASE) < 125


def test_without_an_election_there_is_always_a_leader() -> None:
    async def main() -> list[bool]:
        found = []

        async def lead() -> None:
            found.append(True)

        replica = SingleReplica()
        await replica.run(lead)
        return [*found, replica.may_write()]

    assert virtual.run(main()) == [True, True]


def test_it_reads_the_time_of_a_lease_as_text_for_people_only() -> None:
    """A Lease whose times lie years ahead or behind is waited for as long as any other."""

    async def main() -> float:
        server = LeaseServer()
        ahead = EPOCH + timedelta(days=3650)
        server.write(Lease("gone", 30, acquired_at=ahead, renewed_at=ahead))
        candidate = Candidate("a", server)
        candidate.begin()
        await asyncio.sleep(SECONDS + 1)
        await candidate.end()
        return min(candidate.writes)

    assert SECONDS <= virtual.run(main()) < SECONDS + 0.5


def test_the_elector_is_distinguished_by_its_identity() -> None:
    assert isinstance(Candidate("a", LeaseServer()).elector, LeaderElector)
