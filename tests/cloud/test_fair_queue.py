"""The fair queue: deadlines, batches, and fairness between tenants."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.cloud.batching.batch import Entry
from booking_operator.cloud.batching.fair_queue import GATHER_TIME, FairQueue
from booking_operator.cloud.batching.token_bucket import (
    PUBLISHED_LIMITS,
    BucketLimit,
    RateLimiter,
    RequestLimits,
    TokenBucket,
    full_limiter,
)
from booking_operator.cloud.driver import Action, Operation, Order
from booking_operator.cloud.forecast import simulate
from booking_operator.domain.group import Group
from tests.support.virtual import EPOCH, after

START = PUBLISHED_LIMITS["StartInstances"]
FREE = full_limiter(START, EPOCH)


WEB = Group("ec2", "", "eu-west-1", "web")
OPERATION = Operation(Action.START)


def entry(
    name: str, n: int = 1, *, at: float = 0, tenant: str = "ns", key: str = "start", late: bool = False
) -> Entry:
    """An entry of `n` instances with the deadline `at`; with `late`, it arrived at its deadline."""
    due = after(at)
    order = Order(replace(WEB, tag=name), {}, due, tenant)
    ids = [f"{name}-{number}" for number in range(n)]
    return Entry(order, OPERATION, ids, due, due + GATHER_TIME if late else due, key)


def fair_queue(*entries: Entry, max_batch: int = 1000) -> FairQueue:
    made = FairQueue(max_batch)
    for item in entries:
        made.add(item)
    return made


def name_of(item: Entry) -> str:
    return item.order.group.tag


def names(taken: Sequence[Entry]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in taken:
        found[name_of(item)] = found.get(name_of(item), 0) + len(item.ids)
    return found


def empty(instances: float = 0) -> RateLimiter:
    """A limiter that allows any number of calls, and has tokens for `instances` instances."""
    limits = RequestLimits(BucketLimit(100, 100), BucketLimit(1000, 2))
    return RateLimiter(
        TokenBucket(limits.requests, 100, EPOCH), TokenBucket(BucketLimit(1000, 2), instances, EPOCH)
    )


def test_entries_leave_together_at_their_deadline_and_not_before() -> None:
    made = fair_queue(entry("a", 2, at=1), entry("b", 3, at=1), entry("later", at=2))
    assert made.take(EPOCH, FREE) == []
    assert made.next_at(EPOCH, FREE) == after(1)
    assert made.take(after(0.999999), FREE) == []
    assert names(made.take(after(1), FREE)) == {"a": 2, "b": 3}
    assert made.next_at(after(1), FREE) == after(2)


def test_late_entries_wait_for_the_gather_time() -> None:
    made = fair_queue(entry("a", late=True), entry("b", at=0.03, late=True))
    assert made.take(EPOCH, FREE) == []
    assert made.next_at(EPOCH, FREE) == min(EPOCH + GATHER_TIME, after(0.03))
    assert names(made.take(EPOCH + GATHER_TIME, FREE)) == {"a": 1, "b": 1}


def test_a_call_includes_entries_that_still_gather() -> None:
    made = fair_queue(entry("late", late=True), entry("planned", at=0.01))
    assert names(made.take(after(0.01), FREE)) == {"late": 1, "planned": 1}


def test_entries_with_different_call_keys_leave_in_separate_calls() -> None:
    made = fair_queue(entry("a"), entry("h", key="hibernate"), entry("b"))
    assert names(made.take(EPOCH, FREE)) == {"a": 1, "b": 1}
    assert names(made.take(EPOCH, FREE)) == {"h": 1}


def test_no_call_exceeds_the_batch_size() -> None:
    made = fair_queue(entry("a", 7), entry("b", 7), max_batch=10)
    assert [names(made.take(EPOCH, FREE)) for _ in range(3)] == [{"a": 7, "b": 3}, {"b": 4}, {}]


def test_an_entry_without_instances_is_ignored() -> None:
    made = fair_queue(entry("a", 0))
    assert made.next_at(EPOCH, FREE) is None
    assert list(made) == []


def test_the_earliest_deadline_of_a_tenant_goes_first() -> None:
    made = fair_queue(entry("new", 5, at=5), entry("old", 5, at=1))
    assert names(made.take(after(6), empty(-12 + 6))) == {"old": 5, "new": 1}


def test_a_burst_of_one_tenant_does_not_delay_another() -> None:
    made = fair_queue(entry("burst", 2000, tenant="a"), entry("single", 2, at=0.5, tenant="b"))
    limiter = FREE
    assert names(made.take(EPOCH, limiter)) == {"burst": 1000}
    limiter = limiter.sent(1000, EPOCH)
    leaves = {name_of(item): at for at, items in simulate(made, limiter, EPOCH) for item in items}
    assert leaves["single"] <= after(3)
    assert leaves["burst"] >= after(500)


def test_an_idle_tenant_accrues_no_credit() -> None:
    made = fair_queue(entry("a", 100, tenant="a"))
    made.take(EPOCH, empty(50))
    made.add(entry("b", 100, at=1, tenant="b"))
    assert names(made.take(after(1), empty(40 - 2))) == {"a": 20, "b": 20}


def test_turns_continue_across_calls() -> None:
    made = fair_queue(entry("a", 9, tenant="a"), entry("b", 9, tenant="b"), entry("c", 9, tenant="c"))
    served = {"a": 0, "b": 0, "c": 0}
    for _ in range(6):
        for name, n in names(made.take(EPOCH, empty(2))).items():
            served[name] += n
    assert served == {"a": 4, "b": 4, "c": 4}


def test_entries_that_are_not_kept_are_dropped() -> None:
    made = fair_queue(entry("a"), entry("b", at=5), entry("c"))
    made.take(EPOCH, empty(0))
    made.keep(lambda item: name_of(item) == "c")
    assert [name_of(item) for item in made] == ["c"]
    assert names(made.take(after(9), FREE)) == {"c": 1}


def test_a_forecast_has_no_side_effects_and_is_accurate() -> None:
    made = fair_queue(entry("a", 1500, tenant="a"), entry("b", 600, at=3, tenant="b"))
    forecast = [(at, names(items)) for at, items in simulate(made, FREE, EPOCH)]
    assert len(list(made)) == 2
    limiter, now, real = FREE, EPOCH, []
    while (instant := made.next_at(now, limiter)) is not None:
        if taken := made.take(now, limiter):
            real.append((now, names(taken)))
            limiter = limiter.sent(sum(len(item.ids) for item in taken), now)
        else:
            now = instant
    assert real == forecast
    assert sum(sum(found.values()) for _, found in real) == 2100


def test_two_thousand_starts_take_as_long_as_the_buckets_require() -> None:
    made = fair_queue(*(entry(str(number), 2, tenant=f"ns{number % 7}") for number in range(1000)))
    last = max(at for at, _ in simulate(made, FREE, EPOCH))
    assert (last - EPOCH).total_seconds() <= 500 * 1.002


_ENTRIES = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 20), st.sampled_from("abc"), st.sampled_from(["x", "y"])),
    max_size=25,
)


@given(_ENTRIES, st.integers(0, 60), st.integers(1, 50))
def test_every_instance_leaves_once_and_not_early(
    entries: list[tuple[int, int, str, str]], tokens: int, max_batch: int
) -> None:
    items = [
        entry(str(number), n, at=at, tenant=tenant, key=key)
        for number, (n, at, tenant, key) in enumerate(entries)
    ]
    gone: list[str] = []
    before = EPOCH
    for at, taken in simulate(fair_queue(*items, max_batch=max_batch), empty(tokens), EPOCH):
        assert at >= before
        assert sum(len(item.ids) for item in taken) <= max_batch
        assert len({item.call_key for item in taken}) == 1
        assert all(item.due_at <= at for item in taken)
        gone += [id_ for item in taken for id_ in item.ids]
        before = at
    assert sorted(gone) == sorted(id_ for item in items for id_ in item.ids)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(1, 100))
def test_waiting_tenants_get_equal_shares(sizes: list[int], room: int) -> None:
    made = fair_queue(*(entry(str(number), n, tenant=str(number)) for number, n in enumerate(sizes)))
    got = names(made.take(EPOCH, empty(room)))
    for number, n in enumerate(sizes):
        mine = got.get(str(number), 0)
        if mine < n and got:
            assert max(got.values()) <= mine + 1
