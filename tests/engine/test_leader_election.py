"""Leader election in normal operation, and with every kind of failure."""

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
    """Two candidates. The first one leads."""

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
        """The times at which the first candidate wrote after the second had begun to write."""
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


def test_timing_equals_that_of_client_go() -> None:
    assert LeaseTiming(timedelta(seconds=15)).renew_deadline == timedelta(seconds=10)
    assert LeaseTiming(timedelta(seconds=15)).retry_period == timedelta(seconds=2)


def test_the_first_candidate_leads_immediately_and_keeps_the_lease() -> None:
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


def test_a_released_lease_is_taken_over_immediately() -> None:
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


def test_a_released_lease_is_taken_over_even_if_the_watch_misses_it() -> None:
    async def scenario(pair: Pair) -> None:
        pair.b.connection.deaf = True
        await pair.a.end()
        await asyncio.sleep(SECONDS + 0.1)
        assert pair.b.elector.is_leader

    play(scenario)


def test_a_killed_leader_is_replaced_within_lease_duration() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.kill()
        killed = now()
        await asyncio.sleep(SECONDS + 0.1)
        assert SECONDS - RETRY - 0.1 < min(pair.b.writes) - killed <= SECONDS + 0.1

    play(scenario)


def test_a_partitioned_leader_stops_before_another_starts_and_can_lead_again() -> None:
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


def test_a_restart_of_the_api_server_ends_no_leadership() -> None:
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


def test_a_lost_reply_to_a_renewal_keeps_the_lease() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.reply_lost = True
        await asyncio.sleep(RETRY + 1)
        pair.a.connection.reply_lost = False
        await asyncio.sleep(120)
        assert pair.a.terms == []
        assert pair.b.writes == []

    play(scenario)


def test_when_all_replies_are_lost_leadership_ends_and_one_candidate_leads_later() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.reply_lost = True
        await asyncio.sleep(DEADLINE + 15)
        assert len(pair.a.terms) == 1
        pair.a.connection.reply_lost = False
        await asyncio.sleep(2 * SECONDS)
        assert pair.a.elector.is_leader != pair.b.elector.is_leader

    play(scenario)


def test_a_deleted_lease_ends_leadership_and_is_retaken_after_lease_duration() -> None:
    async def scenario(pair: Pair) -> None:
        pair.server.delete()
        await asyncio.sleep(0.001)
        assert not pair.a.elector.may_write()
        await asyncio.sleep(SECONDS - 0.1)
        assert not pair.a.elector.is_leader
        await asyncio.sleep(0.2)
        assert pair.a.elector.is_leader != pair.b.elector.is_leader

    play(scenario)


def test_a_lease_deleted_during_a_failing_renewal_ends_leadership() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.refused, pair.a.connection.seconds = True, 3.0
        await asyncio.sleep(3)  # a renewal is in flight, for another second
        pair.server.delete()
        await asyncio.sleep(0.5)
        assert pair.a.elector.is_leader
        await asyncio.sleep(1)
        assert not pair.a.elector.is_leader

    play(scenario)


def test_a_candidate_that_saw_the_holder_waits_although_the_lease_was_deleted() -> None:
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


def test_a_lease_written_by_another_identity_ends_leadership_immediately() -> None:
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


def test_a_wall_clock_set_back_does_not_extend_the_lease() -> None:
    async def scenario(pair: Pair) -> None:
        pair.a.connection.cut = True
        cut = now()
        pair.a.clock.skew -= timedelta(hours=1)
        await asyncio.sleep(SECONDS)
        assert max(pair.a.writes) - cut <= DEADLINE

    play(scenario)


def test_the_leaders_work_ends_before_the_lease_is_released() -> None:
    async def main() -> list[str]:
        server, holders = LeaseServer(), []
        candidate = Candidate("a", server)

        async def lead() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.3)
                holders.append(server.lease.holder if server.lease else "")

        task = asyncio.ensure_future(candidate.elector.run(lead))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return [*holders, server.lease.holder if server.lease else "none"]

    assert virtual.run(main()) == ["a", ""]


def test_an_error_of_the_leaders_work_releases_the_lease_and_is_raised() -> None:
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


def test_shutdown_does_not_wait_for_an_unreachable_api_server() -> None:
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


def test_only_one_of_many_candidates_leads_with_random_faults() -> None:
    """Leaderships of different candidates do not overlap, whenever their connections fail."""

    async def main(seed: int) -> int:
        chance, server = random.Random(seed), LeaseServer()
        candidates = [Candidate(name, server) for name in "abcd"]
        for candidate in candidates:
            candidate.begin()
        # Only once. A second deletion, while a candidate cannot see the Lease, would remove the lock.
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
            # A writer writes every 0.1 s, and no other candidate writes in between.
            assert name == other or name != again or later - at > 0.2, (seed, at, name, other)
        return sum(name != other for (_, name), (_, other) in pairwise(writes))

    assert sum(virtual.run(main(seed)) for seed in range(20)) > 20


def test_a_candidate_may_take_a_lease_that_it_has_never_seen() -> None:
    observed = ObservedLease()
    assert observed.free_at("a", LEASE) < 0
    observed.observe(Lease("b", 30), 100)
    assert observed.free_at("a", LEASE) == 130
    assert observed.free_at("b", LEASE) < 100
    observed.observe(None, 120)
    observed.observe(None, 125)
    assert observed.free_at("a", LEASE) == 150
    observed.observe(Lease("", 1), 125)
    assert observed.free_at("a", LEASE) < 125


def test_without_an_election_there_is_always_a_leader() -> None:
    async def main() -> list[bool]:
        found = []

        async def lead() -> None:
            found.append(True)

        replica = SingleReplica()
        await replica.run(lead)
        return [*found, replica.may_write()]

    assert virtual.run(main()) == [True, True]


def test_the_times_in_a_lease_do_not_matter() -> None:
    """A candidate waits for LeaseDuration since its own observation, whatever the times in the Lease."""

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


def test_a_candidate_has_a_leader_elector() -> None:
    assert isinstance(Candidate("a", LeaseServer()).elector, LeaderElector)
