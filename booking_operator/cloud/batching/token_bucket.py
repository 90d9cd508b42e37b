"""A model of AWS's request limits: when the next call may be sent, and for how many instances.

EC2 keeps up to two token buckets per account, region and action. Each call takes one token from the first
bucket. If the action has a second bucket, the call takes one token per instance from it. If either bucket has
too few tokens, EC2 refuses the whole call with `RequestLimitExceeded`. See
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html.

The page does not say whether a throttled call takes tokens. The model assumes that its instances take none.

All clients in the account draw from the same buckets, so the model is an estimate that throttled calls
correct. `RateLimiter.throttled` describes what happens after a throttled call. The model is pure: each step
returns a new model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import floor

from booking_operator.domain.group import Scope
from booking_operator.engine.clock import in_flight_together

_EPSILON = 1e-6  # tokens; tolerance for rounding errors

INITIAL_PAUSE = timedelta(seconds=0.5)
"""Pause after the first throttled call. It doubles with each throttled call in a row. It starts again after
each halving of the number of instances."""
MAX_PAUSE = timedelta(seconds=15)
MIN_REFILL = timedelta(seconds=1)
"""While more instances wait than there are tokens, a call waits for the refill of this time span. For
StartInstances this makes one call for two instances per second, instead of two calls for one instance
each."""
_MIN_SEARCH_SECONDS = 10  # a search ends at the number of instances that the refill covers in this time
_MAX_TRIES = 3  # after more throttled calls in a row that are too small for a search, the bucket is empty
UNLIMITED = 1_000_000
"""The number of instances that the limits allow if the action has no bucket for instances. It is more than
fits into a call."""


@dataclass(frozen=True, slots=True)
class BucketLimit:
    """One token bucket as AWS publishes it: its size in tokens, and its refill rate in tokens per second."""

    size: float
    rate: float


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The buckets of one action; `instances` is None if AWS counts only calls."""

    requests: BucketLimit
    instances: BucketLimit | None = None


PUBLISHED_LIMITS: Mapping[str, RequestLimits] = {
    "StartInstances": RequestLimits(BucketLimit(5, 2), BucketLimit(1000, 2)),
    "StopInstances": RequestLimits(BucketLimit(50, 5), BucketLimit(1000, 20)),
    "CreateTags": RequestLimits(BucketLimit(100, 10)),
    "DeleteTags": RequestLimits(BucketLimit(100, 10)),
    "DescribeInstances": RequestLimits(BucketLimit(100, 20)),
    "DescribeInstanceStatus": RequestLimits(BucketLimit(50, 10)),
    "UpdateService": RequestLimits(BucketLimit(50, 5)),
    "DescribeServices": RequestLimits(BucketLimit(100, 20)),
    "TagResource": RequestLimits(BucketLimit(20, 10)),
    "UntagResource": RequestLimits(BucketLimit(20, 10)),
}
"""The default limits of EC2 and ECS: DescribeInstances with filters or pagination, DescribeInstanceStatus
without. An account may have higher limits. See
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html for ECS."""
DEFAULT_LIMITS = RequestLimits(BucketLimit(50, 5))
"""For actions without a published limit, such as all of RDS: the EC2 limit for other mutating actions."""


LimitsOf = Callable[[Scope, str], RequestLimits]
"""Returns the limits of an action in a region of an account."""


def published_limits(_: Scope, action: str) -> RequestLimits:
    """Return the default limits of AWS."""
    return PUBLISHED_LIMITS.get(action, DEFAULT_LIMITS)


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """One bucket that held `level` tokens at the instant `at` (aware UTC).

    Attributes:
        in_flight: tokens that calls have drawn since the last response, or since the bucket was full.
    """

    limit: BucketLimit
    level: float
    at: datetime
    in_flight: float = 0

    def refilled(self, now: datetime) -> "TokenBucket":
        """Return the bucket at `now`. A clock that was set back adds no tokens."""
        elapsed = max(0.0, (now - self.at).total_seconds())
        return replace(self, level=min(self.limit.size, self.level + self.limit.rate * elapsed), at=now)

    def available_at(self, tokens: float, now: datetime) -> datetime:
        """Return when the bucket will hold `tokens`, or its size if that is less."""
        missing = min(tokens, self.limit.size) - self.refilled(now).level
        if missing <= _EPSILON:
            return now
        return now + timedelta(seconds=missing / self.limit.rate)

    def adjusted(self, tokens: float, now: datetime) -> "TokenBucket":
        """Return the bucket with `tokens` added; a negative number removes them."""
        refilled = self.refilled(now)
        return replace(refilled, level=min(self.limit.size, refilled.level + tokens))

    def drawn(self, tokens: float, now: datetime) -> "TokenBucket":
        """Return the bucket after a call that takes `tokens` was sent."""
        full = self.refilled(now).level >= self.limit.size - _EPSILON
        return replace(self.adjusted(-tokens, now), in_flight=tokens + (0 if full else self.in_flight))

    def restored(self, tokens: float, now: datetime) -> "TokenBucket":
        """Return the bucket after `tokens` of a call will not be drawn."""
        return replace(self.adjusted(tokens, now), in_flight=max(0, self.in_flight - tokens))

    def answered(self, now: datetime) -> "TokenBucket":
        """Return the bucket after the response to a call, or after the response was lost.

        AWS drew the tokens at an unknown time between the call and the response. A full bucket does not
        refill. If the bucket of AWS was full until AWS drew the tokens, the model has counted a refill that
        did not happen. So the level is capped at the size less the tokens in flight.
        """
        return self.capped(self.limit.size - self.in_flight, now).settled()

    def capped(self, tokens: float, now: datetime) -> "TokenBucket":
        """Return the bucket with at most `tokens`."""
        refilled = self.refilled(now)
        return replace(refilled, level=min(refilled.level, tokens))

    def settled(self) -> "TokenBucket":
        """Return the bucket without tokens in flight."""
        return replace(self, in_flight=0)


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """The estimated buckets of one action in one region of one account.

    Attributes:
        requests: tokens for calls.
        instances: tokens for instances; None if the action does not count instances.
        throttles: the number of throttled calls in a row. It is 0 after a halving of the number of instances.
        throttled_at: when the last of them was answered (aware UTC).
        capped: whether the last of them lowered the level of the bucket for instances. Then calls that were
            throttled together with it return no tokens.
        not_before: the end of the pause after the last throttled call (aware UTC).
        ceiling: an upper bound for the available instance tokens, while their number is searched; otherwise
            None.
    """

    requests: TokenBucket
    instances: TokenBucket | None
    throttles: int = 0
    throttled_at: datetime | None = None
    capped: bool = False
    not_before: datetime | None = None
    ceiling: int | None = None

    @property
    def min_call_size(self) -> int:
        """The smallest number of instances in a call while more of them wait.

        It is `UNLIMITED` if the action has no bucket for instances: then a call takes all that wait.
        """
        if self.instances is None:
            return UNLIMITED
        limit = self.instances.limit
        return max(1, floor(min(limit.rate * MIN_REFILL.total_seconds(), limit.size)))

    def refilled(self, now: datetime) -> "RateLimiter":
        """Return the model at `now`. If the clock was set back, the refill continues from `now`."""
        known = self.instances.refilled(now) if self.instances else None
        return replace(self, requests=self.requests.refilled(now), instances=known)

    def available(self, now: datetime) -> int:
        """Return the maximum number of instances for a call at `now`; 0 if no call is allowed."""
        if self._paused(now) or self.requests.refilled(now).level < 1 - _EPSILON:
            return 0
        if self.instances is None:
            return UNLIMITED
        return max(0, floor(self.instances.refilled(now).level + _EPSILON))

    def ready_at(self, instances: int, now: datetime) -> datetime:
        """Return when a call for `instances` is allowed, or for as many as the bucket can hold."""
        ready = self.requests.available_at(1, now)
        if self.not_before is not None and self._paused(now):
            ready = max(ready, self.not_before)
        if self.instances is not None:
            ready = max(ready, self.instances.available_at(instances, now))
        # Round up to the resolution of a datetime, so that the tokens exist at that instant.
        return ready if ready == now else ready + timedelta(microseconds=1)

    def sent(self, instances: int, now: datetime) -> "RateLimiter":
        """Return the model after a call was sent."""
        left = self.instances.drawn(instances, now) if self.instances else None
        return replace(self, requests=self.requests.drawn(1, now), instances=left)

    def refunded(self, instances: int, now: datetime) -> "RateLimiter":
        """Return the model after a call failed without effect: its instances took no tokens.

        AWS does not document this. If it is wrong, one call is throttled. The opposite
        error is worse: one lost connection at a common start time would delay a thousand instances by eight
        minutes.
        """
        known = self.instances.adjusted(instances, now).settled() if self.instances else None
        return replace(self, requests=self.requests.settled(), instances=known)

    def cancelled(self, instances: int, now: datetime, *, whole: bool) -> "RateLimiter":
        """Return the model after `instances` were removed from an unsent call.

        `whole` is True if no instance remains, so that the call is not sent.
        """
        left = self.instances.restored(instances, now) if self.instances else None
        return replace(self, requests=self.requests.restored(whole, now), instances=left)

    def answered(self, now: datetime) -> "RateLimiter":
        """Return the model after a response, or after the response was lost.

        AWS has drawn all tokens of the call by then.
        """
        known = self.instances.answered(now) if self.instances else None
        return replace(self, requests=self.requests.answered(now), instances=known)

    def accepted(self, instances: int, now: datetime, *, sent_at: datetime) -> "RateLimiter":
        """Return the model after AWS let a call through its limits, whatever its result.

        The call ends the pause, unless it was sent before the last throttled call was answered.

        Args:
            instances: the number of instances that took a token.
            now: when the call was answered (aware UTC).
            sent_at: when the call was sent (aware UTC).
        """
        answered = self.answered(now)
        if in_flight_together(sent_at, self.throttled_at, now):
            return answered
        ceiling, known = self._ceiling_at(now), answered.instances
        if known is not None and ceiling is not None:
            # AWS will probably accept a call of the same size again. If not, the throttled call corrects the
            # model.
            likely = min(instances, ceiling)
            known = known.adjusted(max(0.0, likely - known.refilled(now).level), now)
        return RateLimiter(answered.requests, known, ceiling=ceiling)

    def throttled(self, instances: int, now: datetime, *, sent_at: datetime) -> "RateLimiter":
        """Return the model after a throttled call.

        AWS does not report which bucket was empty. After the first throttled call, only the bucket for calls
        counts as empty, so the next call follows after a pause.

        After the second throttled call in a row, the bucket for instances may be the reason. If the call is
        large enough, a search for the level of this bucket starts. The next call has half as many instances.
        Each further throttled call of about this size halves them again. When few instances are left, the
        search ends, and the bucket for instances counts as empty. If the call is too small for a search, this
        bucket counts as empty after more than `_MAX_TRIES` throttled calls in a row.

        Calls in flight together are often throttled together. Only the first of their answers counts.

        Args:
            instances: the number of instances in the call.
            now: when the call was answered (aware UTC).
            sent_at: when the call was sent (aware UTC).
        """
        if in_flight_together(sent_at, self.throttled_at, now):
            return self.refunded(0 if self.capped else instances, now)
        throttles, known, ceiling = self.throttles + 1, self.instances, self._ceiling_at(now)
        capped = False
        pause = min(INITIAL_PAUSE * (1 << min(throttles - 1, 16)), MAX_PAUSE)
        if known is not None:
            known = known.adjusted(instances, now).settled()
            # A call of less than half of the ceiling is not a step of the search.
            searching = ceiling is not None and 2 * instances > ceiling
            half = min(instances, ceiling or instances) // 2
            if (throttles > 1 or searching) and half > _MIN_SEARCH_SECONDS * self.min_call_size:
                known, ceiling, throttles, capped = known.capped(half, now), half, 0, True
            elif throttles > _MAX_TRIES or searching:
                # Treat the bucket as empty: only the refill is available from now on.
                known, ceiling, capped = known.capped(0, now), None, True
        requests = self.requests.capped(0, now).settled()
        return RateLimiter(requests, known, throttles, now, capped, now + pause, ceiling)

    def _ceiling_at(self, now: datetime) -> int | None:
        """Return the ceiling until the refill has reached it, then None."""
        if self.ceiling is None or self.instances is None:
            return None
        return self.ceiling if self.instances.refilled(now).level < self.ceiling else None

    def _paused(self, now: datetime) -> bool:
        # A pause that ends later than `MAX_PAUSE` from now is from before the clock was set back.
        return self.not_before is not None and now < self.not_before <= now + MAX_PAUSE


def full_limiter(limits: RequestLimits, now: datetime) -> RateLimiter:
    """Return a model with full buckets."""
    of_instances = limits.instances
    return RateLimiter(
        requests=TokenBucket(limits.requests, limits.requests.size, now),
        instances=TokenBucket(of_instances, of_instances.size, now) if of_instances else None,
    )
