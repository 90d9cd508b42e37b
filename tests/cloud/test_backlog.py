"""Which of what waits goes next: deadlines, company, turns."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.cloud.batching.fair_queue import GATHER_TIME, Backlog, Parcel, simulate
from booking_operator.cloud.batching.token_bucket import (
    PUBLISHED_LIMITS,
    BucketLimit,
    RateLimiter,
    RequestLimits,
    TokenBucket,
    full_limiter,
)
from tests.support.virtual import EPOCH

START = PUBLISHED_LIMITS["StartInstances"]
FREE = full_limiter(START, EPOCH)


def after(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def parcel(
    name: str, n: int = 1, *, at: float = 0, tenant: str = "ns", load: str = "start", late: bool = False
) -> Parcel[str]:
    """`n` instances that were announced for `at`, or with `late` came then."""
    due = after(at)
    ids = [f"{name}-{number}" for number in range(n)]
    return Parcel(name, ids, tenant, due, due, due + GATHER_TIME if late else due, load)


def backlog(*parcels: Parcel[str], most: int = 1000) -> Backlog[str]:
    made: Backlog[str] = Backlog(most)
    for item in parcels:
        made.add(item)
    return made


def names(taken: Sequence[Parcel[str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in taken:
        found[item.payload] = found.get(item.payload, 0) + len(item.ids)
    return found


def empty(instances: float = 0) -> RateLimiter:
    """Calls are free, and so many instances may be named."""
    limits = RequestLimits(BucketLimit(100, 100), BucketLimit(1000, 2))
    return RateLimiter(
        TokenBucket(limits.requests, 100, EPOCH), TokenBucket(BucketLimit(1000, 2), instances, EPOCH)
    )


def test_what_was_announced_leaves_together_at_its_deadline_and_not_before() -> None:
    made = backlog(parcel("a", 2, at=1), parcel("b", 3, at=1), parcel("later", at=2))
    assert made.take(EPOCH, FREE) == []
    assert made.next_at(EPOCH, FREE) == after(1)
    assert made.take(after(0.999999), FREE) == []
    assert names(made.take(after(1), FREE)) == {"a": 2, "b": 3}
    assert made.next_at(after(1), FREE) == after(2)


def test_what_is_late_waits_a_moment_for_company() -> None:
    made = backlog(parcel("a", late=True), parcel("b", at=0.03, late=True))
    assert made.take(EPOCH, FREE) == []
    assert made.next_at(EPOCH, FREE) == min(EPOCH + GATHER_TIME, after(0.03))
    assert names(made.take(EPOCH + GATHER_TIME, FREE)) == {"a": 1, "b": 1}


def test_a_call_that_leaves_anyway_takes_along_what_still_waits_for_company() -> None:
    made = backlog(parcel("late", late=True), parcel("planned", at=0.01))
    assert names(made.take(after(0.01), FREE)) == {"late": 1, "planned": 1}


def test_what_may_not_travel_together_goes_apart() -> None:
    made = backlog(parcel("a"), parcel("h", load="hibernate"), parcel("b"))
    assert names(made.take(EPOCH, FREE)) == {"a": 1, "b": 1}
    assert names(made.take(EPOCH, FREE)) == {"h": 1}


def test_no_call_is_larger_than_the_most() -> None:
    made = backlog(parcel("a", 7), parcel("b", 7), most=10)
    assert [names(made.take(EPOCH, FREE)) for _ in range(3)] == [{"a": 7, "b": 3}, {"b": 4}, {}]


def test_nothing_waits_for_nothing() -> None:
    made = backlog(parcel("a", 0))
    assert made.next_at(EPOCH, FREE) is None
    assert list(made) == []


def test_of_one_tenant_the_earliest_deadline_goes_first() -> None:
    made = backlog(parcel("new", 5, at=5), parcel("old", 5, at=1))
    assert names(made.take(after(6), empty(-12 + 6))) == {"old": 5, "new": 1}


def test_a_burst_of_one_tenant_does_not_keep_another_waiting() -> None:
    made = backlog(parcel("burst", 2000, tenant="a"), parcel("single", 2, at=0.5, tenant="b"))
    throttle = FREE
    assert names(made.take(EPOCH, throttle)) == {"burst": 1000}
    throttle = throttle.sent(1000, EPOCH)
    leaves = {item.payload: at for at, items in simulate(made, throttle, EPOCH) for item in items}
    assert leaves["single"] <= after(3)
    assert leaves["burst"] >= after(500)


def test_a_tenant_that_joins_late_has_no_turns_saved_up() -> None:
    made = backlog(parcel("a", 100, tenant="a"))
    made.take(EPOCH, empty(50))
    made.add(parcel("b", 100, at=1, tenant="b"))
    assert names(made.take(after(1), empty(40 - 2))) == {"a": 20, "b": 20}


def test_turns_go_on_where_they_stood() -> None:
    made = backlog(parcel("a", 9, tenant="a"), parcel("b", 9, tenant="b"), parcel("c", 9, tenant="c"))
    served = {"a": 0, "b": 0, "c": 0}
    for _ in range(6):
        for name, n in names(made.take(EPOCH, empty(2))).items():
            served[name] += n
    assert served == {"a": 4, "b": 4, "c": 4}


def test_what_is_not_wanted_any_more_is_left_out() -> None:
    made = backlog(parcel("a"), parcel("b", at=5), parcel("c"))
    made.take(EPOCH, empty(0))
    made.keep(lambda item: item.payload == "c")
    assert [item.payload for item in made] == ["c"]
    assert names(made.take(after(9), FREE)) == {"c": 1}


def test_a_forecast_changes_nothing_and_comes_true() -> None:
    made = backlog(parcel("a", 1500, tenant="a"), parcel("b", 600, at=3, tenant="b"))
    forecast = [(at, names(items)) for at, items in simulate(made, FREE, EPOCH)]
    assert len(list(made)) == 2
    throttle, now, real = FREE, EPOCH, []
    while (instant := made.next_at(now, throttle)) is not None:
        if taken := made.take(now, throttle):
            real.append((now, names(taken)))
            throttle = throttle.sent(sum(len(item.ids) for item in taken), now)
        else:
            now = instant
    assert real == forecast
    assert sum(sum(found.values()) for _, found in real) == 2100


def test_two_thousand_starts_end_when_the_buckets_allow() -> None:
    made = backlog(*(parcel(str(number), 2, tenant=f"ns{number % 7}") for number in range(1000)))
    last = max(at for at, _ in simulate(made, FREE, EPOCH))
    assert (last - EPOCH).total_seconds() <= 500 * 1.002


_PARCELS = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 20), st.sampled_from("abc"), st.sampled_from(["x", "y"])),
    max_size=25,
)


@given(_PARCELS, st.integers(0, 60), st.integers(1, 50))
def test_everything_leaves_once_and_nothing_early(
    parcels: list[tuple[int, int, str, str]], tokens: int, most: int
) -> None:
    items = [
        parcel(str(number), n, at=at, tenant=tenant, load=load)
        for number, (n, at, tenant, load) in enumerate(parcels)
    ]
    gone: list[str] = []
    before = EPOCH
    for at, taken in simulate(backlog(*items, most=most), empty(tokens), EPOCH):
        assert at >= before
        assert sum(len(item.ids) for item in taken) <= most
        assert len({item.load for item in taken}) == 1
        assert all(item.due_at <= at for item in taken)
        gone += [id_ for item in taken for id_ in item.ids]
        before = at
    assert sorted(gone) == sorted(id_ for item in items for id_ in item.ids)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(1, 100))
def test_no_tenant_gets_more_than_another_that_still_waits(sizes: list[int], room: int) -> None:
    made = backlog(*(parcel(str(number), n, tenant=str(number)) for number, n in enumerate(sizes)))
    got = names(made.take(EPOCH, empty(room)))
    for number, n in enumerate(sizes):
        mine = got.get(str(number), 0)
        if mine < n and got:
            assert max(got.values()) <= mine + 1
