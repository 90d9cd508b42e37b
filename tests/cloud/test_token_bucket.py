"""The rate limiter, which models the request limits of AWS, and learns from throttled calls."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.cloud.batching.token_bucket import (
    DEFAULT_LIMITS,
    MAX_PAUSE,
    PUBLISHED_LIMITS,
    UNLIMITED,
    BucketLimit,
    RateLimiter,
    RequestLimits,
    TokenBucket,
    full_limiter,
)
from tests.support.virtual import EPOCH, after

START = PUBLISHED_LIMITS["StartInstances"]


def drained(limits: RequestLimits = START) -> RateLimiter:
    """A limiter with two empty buckets."""
    return RateLimiter(
        TokenBucket(limits.requests, 0, EPOCH), TokenBucket(limits.instances or limits.requests, 0, EPOCH)
    )


def test_a_full_bucket_allows_a_thousand_starts_at_once() -> None:
    throttle = full_limiter(START, EPOCH)
    assert throttle.available(EPOCH) == 1000
    throttle = throttle.sent(1000, EPOCH)
    assert throttle.available(EPOCH) == 0
    assert throttle.ready_at(2, EPOCH) == after(1.000001)
    assert throttle.available(after(1.000001)) == 2


def test_calls_have_a_bucket_of_their_own() -> None:
    throttle = full_limiter(START, EPOCH)
    for _ in range(5):
        assert throttle.available(EPOCH) > 0
        throttle = throttle.sent(1, EPOCH)
    assert throttle.available(EPOCH) == 0
    assert throttle.available(throttle.ready_at(1, EPOCH)) > 0
    assert throttle.ready_at(1, EPOCH) - EPOCH == timedelta(seconds=0.5, microseconds=1)


def test_an_action_without_a_bucket_for_instances_takes_any_number() -> None:
    assert full_limiter(DEFAULT_LIMITS, EPOCH).available(EPOCH) == UNLIMITED
    assert full_limiter(DEFAULT_LIMITS, EPOCH).min_call_size == UNLIMITED


def test_the_minimum_call_size_is_the_refill_of_one_second() -> None:
    assert full_limiter(START, EPOCH).min_call_size == 2
    assert full_limiter(PUBLISHED_LIMITS["StopInstances"], EPOCH).min_call_size == 20


def test_a_call_larger_than_the_bucket_is_ready_when_the_bucket_is_full() -> None:
    limits = RequestLimits(BucketLimit(5, 2), BucketLimit(10, 1))
    assert drained(limits).ready_at(1000, EPOCH) - EPOCH == timedelta(seconds=10, microseconds=1)


def test_a_clock_set_back_refills_nothing_until_it_advances() -> None:
    throttle = drained()
    earlier = after(-3600)
    assert throttle.available(earlier) == 0
    assert throttle.ready_at(1, earlier) == earlier + timedelta(seconds=0.5, microseconds=1)
    assert throttle.sent(0, earlier).available(earlier + timedelta(seconds=2)) > 0


def test_a_refill_while_a_call_is_in_flight_does_not_count_for_a_full_bucket() -> None:
    throttle = full_limiter(START, EPOCH).sent(300, EPOCH).accepted(300, after(10), sent_at=EPOCH)
    assert throttle.available(after(10)) == 700
    assert throttle.requests.refilled(after(10)).level == 4


@pytest.mark.parametrize("seconds", [1, 10, 60])
@pytest.mark.parametrize("action", sorted(PUBLISHED_LIMITS))
def test_the_duration_of_a_call_does_not_delay_the_next_one(action: str, seconds: float) -> None:
    throttle = (
        full_limiter(PUBLISHED_LIMITS[action], EPOCH)
        .sent(1, EPOCH)
        .accepted(1, after(seconds), sent_at=EPOCH)
    )
    assert throttle.ready_at(1, after(seconds)) == after(seconds)


def test_all_calls_in_flight_have_taken_their_tokens() -> None:
    throttle = (
        full_limiter(START, EPOCH).sent(300, EPOCH).sent(200, after(1)).accepted(300, after(3), sent_at=EPOCH)
    )
    assert throttle.available(after(3)) == 500


# --- refusals


def test_a_first_throttling_is_attributed_to_requests_and_returns_instance_tokens() -> None:
    throttle = full_limiter(START, EPOCH).sent(1000, EPOCH).throttled(1000, EPOCH, sent_at=EPOCH)
    assert throttle.available(EPOCH) == 0
    ready = throttle.ready_at(1000, EPOCH)
    assert ready == after(0.500001)
    assert throttle.available(ready) == 1000


def test_a_second_throttling_in_a_row_halves_the_next_call() -> None:
    throttle = full_limiter(START, EPOCH)
    for seconds in (0, 1):
        throttle = throttle.sent(1000, after(seconds)).throttled(1000, after(seconds), sent_at=after(seconds))
    assert throttle.available(after(3)) == 500 + 4


def test_an_accepted_size_is_allowed_again() -> None:
    throttle = full_limiter(START, EPOCH)
    for seconds in (0, 1):
        throttle = throttle.sent(1000, after(seconds)).throttled(1000, after(seconds), sent_at=after(seconds))
    throttle = throttle.sent(500, after(3)).accepted(500, after(3), sent_at=after(3))
    assert throttle.available(after(4)) >= 500


def test_the_back_off_of_a_single_throttled_instance_grows_up_to_a_maximum() -> None:
    throttle, now, pauses = full_limiter(START, EPOCH), EPOCH, []
    for _ in range(9):
        throttle = throttle.sent(1, now).throttled(1, now, sent_at=now)
        ready = throttle.ready_at(1, now)
        pauses.append((ready - now).total_seconds())
        now = ready
    assert pauses[:4] == pytest.approx([0.5, 1, 2, 4], abs=0.01)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(MAX_PAUSE.total_seconds(), abs=0.01)
    assert throttle.sent(1, now).accepted(1, now, sent_at=now).throttles == 0


def test_calls_in_flight_together_are_throttled_once() -> None:
    throttle = full_limiter(START, EPOCH)
    for _ in range(5):
        throttle = throttle.sent(10, EPOCH)
    for number in range(5):
        throttle = throttle.throttled(10, after(0.2 + 0.01 * number), sent_at=EPOCH)
    assert throttle.throttles == 1
    assert throttle.ready_at(1, after(0.3)) == after(0.700001)
    assert throttle.available(after(1)) == 1000
    throttle = throttle.sent(10, after(1)).throttled(10, after(1.2), sent_at=after(1))
    assert throttle.throttles == 2


def test_a_call_that_was_sent_before_a_throttled_one_does_not_end_the_pause() -> None:
    throttle = full_limiter(START, EPOCH)
    for now in (EPOCH, after(2)):
        throttle = throttle.sent(10, now).sent(10, now).throttled(10, now, sent_at=now)
    throttle = throttle.accepted(10, after(2.1), sent_at=after(2))
    assert throttle.throttles == 2
    assert throttle.ready_at(1, after(2.1)) == after(3.000001)
    throttle = throttle.sent(10, after(3)).accepted(10, after(3.1), sent_at=after(3))
    assert throttle.throttles == 0


def test_a_small_throttled_call_does_not_end_the_search_for_a_large_one() -> None:
    throttle = full_limiter(START, EPOCH)
    for seconds in (0, 1):
        throttle = throttle.sent(1000, after(seconds)).throttled(1000, after(seconds), sent_at=after(seconds))
    throttle = throttle.sent(10, after(3)).throttled(10, after(3), sent_at=after(3))
    assert throttle.available(after(4)) >= 500


def test_a_search_for_few_instances_ends_with_an_empty_bucket() -> None:
    throttle = full_limiter(START, EPOCH)
    for seconds, size in ((0, 60), (2, 60), (4, 30)):
        now = after(seconds)
        throttle = throttle.sent(size, now).throttled(size, now, sent_at=now)
    assert throttle.available(after(5)) == 2


def test_calls_that_are_throttled_with_a_capped_one_return_no_tokens() -> None:
    throttle = full_limiter(START, EPOCH)
    for seconds in (0, 2, 4):
        now = after(seconds)
        throttle = throttle.sent(10, now).throttled(10, now, sent_at=now)
    now = after(9)
    throttle = throttle.sent(10, now).sent(10, now)
    throttle = throttle.throttled(10, now, sent_at=now).throttled(10, now, sent_at=now)
    assert throttle.available(after(9 + 5)) == 10


def test_the_refill_continues_after_the_clock_was_set_back() -> None:
    throttle = full_limiter(START, EPOCH).sent(10, EPOCH).throttled(10, EPOCH, sent_at=EPOCH)
    earlier = after(-3600)
    throttle = throttle.refilled(earlier)
    assert throttle.ready_at(10, earlier) == earlier + timedelta(seconds=0.5, microseconds=1)
    assert throttle.available(earlier + timedelta(seconds=1)) >= 10


def test_a_clock_set_back_ends_the_pause() -> None:
    throttle = full_limiter(START, EPOCH).sent(10, EPOCH).throttled(10, EPOCH, sent_at=EPOCH)
    earlier = after(-3600)
    assert throttle.ready_at(10, earlier) == earlier + timedelta(seconds=0.5, microseconds=1)
    throttle = throttle.sent(10, earlier).throttled(10, earlier, sent_at=earlier)
    assert throttle.throttles == 2


def test_an_old_search_does_not_limit_a_bucket_that_is_full_again() -> None:
    throttle = full_limiter(START, EPOCH)
    for seconds in (0, 1, 2):
        throttle = throttle.sent(1000, after(seconds)).throttled(1000, after(seconds), sent_at=after(seconds))
    throttle = throttle.sent(250, after(5)).accepted(250, after(5), sent_at=after(5))
    later = 15 * 3600
    throttle = throttle.sent(1, after(later)).throttled(1, after(later), sent_at=after(later))
    assert throttle.available(after(later + 1)) == 1000


def test_a_bucket_smaller_than_the_refill_of_one_second() -> None:
    limits = RequestLimits(BucketLimit(5, 2), BucketLimit(10, 20))
    assert full_limiter(limits, EPOCH).min_call_size == 10


class Account:
    """The buckets of AWS, from which other clients have taken tokens."""

    def __init__(self, instances: float) -> None:
        self.requests, self.instances, self.at = 5.0, instances, 0.0

    def call(self, instances: int, at: float) -> bool:
        elapsed, self.at = at - self.at, at
        self.requests = min(5.0, self.requests + 2 * elapsed)
        self.instances = min(1000.0, self.instances + 2 * elapsed)
        if self.requests < 1 or self.instances < instances:
            return False
        self.requests -= 1
        self.instances -= instances
        return True


@given(st.integers(0, 1000), st.integers(1, 1200))
def test_the_total_wait_is_close_to_the_minimum_of_aws(left: int, wanted: int) -> None:
    """Whatever tokens other clients have taken, only the search for the remaining size takes extra time."""
    account, throttle, now, open_, refused = Account(left), full_limiter(START, EPOCH), EPOCH, wanted, 0
    while open_:
        least = min(open_, throttle.min_call_size)
        if throttle.available(now) < least:
            now = throttle.ready_at(least, now)
            continue
        size = min(throttle.available(now), open_)
        throttle = throttle.sent(size, now)
        if account.call(size, (now - EPOCH).total_seconds()):
            open_ -= size
            throttle = throttle.accepted(size, now, sent_at=now)
        else:
            refused += 1
            throttle = throttle.throttled(size, now, sent_at=now)
    bound = max(0, wanted - left) / 2
    assert (now - EPOCH).total_seconds() <= bound + 30
    assert refused <= 12


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 400), st.floats(0, 60), st.floats(0, 1)), max_size=30)
)
def test_a_single_client_of_the_limiter_is_never_throttled(
    steps: list[tuple[float, int, float, float]],
) -> None:
    """AWS may take the tokens at any time between the call and its answer."""
    account, throttle, now = Account(1000), full_limiter(START, EPOCH), EPOCH
    for pause, size, seconds, share in steps:
        now += timedelta(seconds=pause)
        ready = throttle.ready_at(size, now)
        # The limiter rounds by a microsecond, and the clock of AWS is independent. The test adds the
        # difference.
        now = ready + timedelta(microseconds=10)
        assert throttle.available(now) >= size
        throttle = throttle.sent(size, now)
        assert account.call(size, (now - EPOCH).total_seconds() + share * seconds)
        sent_at, now = now, now + timedelta(seconds=seconds)
        throttle = throttle.accepted(size, now, sent_at=sent_at)
