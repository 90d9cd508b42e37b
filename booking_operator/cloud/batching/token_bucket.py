"""AWS's request limits as a model: when the next call may leave, and for how many instances.

EC2 keeps two token buckets per account, region and action: each call takes one token from the first, and
one per instance from the second, where the action has one. A call that finds either too empty is refused
whole with `RequestLimitExceeded`, and takes nothing. See
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html.

Everybody in the account draws from the same buckets, so the model is a guess that refusals correct. It is
pure: each step returns the model after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import floor

from booking_operator.domain.group import Scope

_EPSILON = 1e-6  # tokens; sums of fractions of a second do not come out even

INITIAL_PAUSE = timedelta(seconds=0.5)
"""After a refusal; twice as long after each further one in a row that no smaller call can explain."""
MAX_PAUSE = timedelta(seconds=15)
MIN_REFILL = timedelta(seconds=1)
"""While there is more to do than there are tokens, a call waits for what this span refills: one call for two
instances each second, and not one for each every half."""
_MIN_SEARCH_SECONDS = 10  # seconds of refilling
_MAX_TRIES = 3  # for a call that is smaller than that
UNLIMITED = 1_000_000
"""Instances in a call of an action that has no bucket for them."""


@dataclass(frozen=True, slots=True)
class BucketLimit:
    """One token bucket as AWS publishes it: how many tokens it holds, and how many come back each second."""

    size: float
    rate: float


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The buckets of one action; `instances` is None where only calls are counted."""

    requests: BucketLimit
    instances: BucketLimit | None = None


PUBLISHED_LIMITS: Mapping[str, RequestLimits] = {
    "StartInstances": RequestLimits(BucketLimit(5, 2), BucketLimit(1000, 2)),
    "StopInstances": RequestLimits(BucketLimit(50, 5), BucketLimit(1000, 20)),
    "CreateTags": RequestLimits(BucketLimit(100, 10)),
    "DeleteTags": RequestLimits(BucketLimit(100, 10)),
    "DescribeInstances": RequestLimits(BucketLimit(100, 20)),
}
"""What EC2 grants by default; DescribeInstances with filters or pages. An account may have more."""
DEFAULT_LIMITS = RequestLimits(BucketLimit(50, 5))
"""For actions without a published limit, as all of RDS: what EC2 grants to changes in general."""


LimitsOf = Callable[[Scope, str], RequestLimits]
"""The limits of an action in a region of an account."""


def published_limits(_: Scope, action: str) -> RequestLimits:
    """The limits that AWS grants everybody."""
    return PUBLISHED_LIMITS.get(action, DEFAULT_LIMITS)


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """One bucket that held `level` tokens at the instant `at` (aware UTC).

    Attributes:
        unanswered: tokens that were drawn since the last answer, or since it was full.
    """

    limit: BucketLimit
    level: float
    at: datetime
    unanswered: float = 0

    def refilled(self, now: datetime) -> "TokenBucket":
        """The same at `now`. A clock that was set back refills nothing, and goes on from there."""
        elapsed = max(0.0, (now - self.at).total_seconds())
        return replace(self, level=min(self.limit.size, self.level + self.limit.rate * elapsed), at=now)

    def available_at(self, tokens: float, now: datetime) -> datetime:
        """When it will hold `tokens`, of which it can hold at most its size."""
        missing = min(tokens, self.limit.size) - self.refilled(now).level
        if missing <= _EPSILON:
            return now
        return now + timedelta(seconds=missing / self.limit.rate)

    def adjusted(self, tokens: float, now: datetime) -> "TokenBucket":
        """The same with so many tokens more, or less."""
        refilled = self.refilled(now)
        return replace(refilled, level=min(self.limit.size, refilled.level + tokens))

    def drawn(self, tokens: float, now: datetime) -> "TokenBucket":
        """The same after a call has left that takes so many tokens."""
        full = self.refilled(now).level >= self.limit.size - _EPSILON
        return replace(self.adjusted(-tokens, now), unanswered=tokens + (0 if full else self.unanswered))

    def restored(self, tokens: float, now: datetime) -> "TokenBucket":
        """The same after so many tokens of a call will not be drawn."""
        return replace(self.adjusted(tokens, now), unanswered=max(0, self.unanswered - tokens))

    def answered(self, now: datetime) -> "TokenBucket":
        """The same after the answer to a call, or when there will be none.

        AWS drew from its own bucket some time between call and answer. If that was full by then, it had lost
        what ours was refilled with meanwhile: so no more is counted than is left of a full one.
        """
        return self.capped(self.limit.size - self.unanswered, now).settled()

    def capped(self, tokens: float, now: datetime) -> "TokenBucket":
        """The same, corrected to hold no more than `tokens`."""
        refilled = self.refilled(now)
        return replace(refilled, level=min(refilled.level, tokens))

    def settled(self) -> "TokenBucket":
        """The same after a call has drawn nothing."""
        return replace(self, unanswered=0)


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """The buckets of one action in one region of one account, as far as is known.

    Attributes:
        requests: tokens for calls.
        instances: tokens for instances; None where the action does not count them.
        throttles: how many calls in a row were refused without a smaller one being tried.
        not_before: when the pause after the last refusal is over.
        ceiling: more instances than that were refused, while how many are left is being searched for.
    """

    requests: TokenBucket
    instances: TokenBucket | None
    throttles: int = 0
    not_before: datetime | None = None
    ceiling: int | None = None

    @property
    def min_call_size(self) -> int:
        """For how many instances a call is made at least while more than that wait."""
        if self.instances is None:
            return UNLIMITED
        limit = self.instances.limit
        return max(1, floor(min(limit.rate * MIN_REFILL.total_seconds(), limit.size)))

    def available(self, now: datetime) -> int:
        """For how many instances one call may be made now; 0 where none may be made at all."""
        if self._paused(now) or self.requests.refilled(now).level < 1 - _EPSILON:
            return 0
        if self.instances is None:
            return UNLIMITED
        return max(0, floor(self.instances.refilled(now).level + _EPSILON))

    def ready_at(self, instances: int, now: datetime) -> datetime:
        """When one call for so many instances may be made; for more than ever fit, when as many as do."""
        ready = max(self.requests.available_at(1, now), self.not_before or now)
        if self.instances is not None:
            ready = max(ready, self.instances.available_at(instances, now))
        # Rounded up to the resolution of a datetime, so that there is room at that very instant.
        return ready if ready == now else ready + timedelta(microseconds=1)

    def sent(self, instances: int, now: datetime) -> "RateLimiter":
        """After a call has left."""
        left = self.instances.drawn(instances, now) if self.instances else None
        return replace(self, requests=self.requests.drawn(1, now), instances=left)

    def refunded(self, instances: int, now: datetime) -> "RateLimiter":
        """After a call failed without anything being done: its instances have taken no token.

        That is a guess, which AWS does not confirm. To be wrong costs a refusal; the other way round a lost
        connection at nine o'clock would keep a thousand instances waiting for eight minutes.
        """
        known = self.instances.adjusted(instances, now).settled() if self.instances else None
        return replace(self, requests=self.requests.settled(), instances=known)

    def cancelled(self, instances: int, now: datetime, *, whole: bool) -> "RateLimiter":
        """After so many instances of a call were taken out before it left; the `whole` of it never leaves."""
        left = self.instances.restored(instances, now) if self.instances else None
        return replace(self, requests=self.requests.restored(whole, now), instances=left)

    def answered(self, now: datetime) -> "RateLimiter":
        """After a call was answered, or its answer lost: whatever AWS has drawn for it, it has by now."""
        known = self.instances.answered(now) if self.instances else None
        return replace(self, requests=self.requests.answered(now), instances=known)

    def accepted(self, instances: int, now: datetime) -> "RateLimiter":
        """After a call was let through, whatever else became of it."""
        answered, ceiling = self.answered(now), self._ceiling_at(now)
        known = answered.instances
        if known is not None and ceiling is not None:
            # What was accepted once may be accepted again; otherwise there is another refusal.
            likely = min(instances, ceiling)
            known = known.adjusted(max(0.0, likely - known.refilled(now).level), now)
        return RateLimiter(answered.requests, known, ceiling=ceiling)

    def throttled(self, instances: int, now: datetime) -> "RateLimiter":
        """After a call was refused for the rate.

        AWS does not say which bucket was too empty. The first refusal is attributed to that of the calls. A
        second in a row is attributed to that of the instances, and begins a search for what is left of them:
        of each call that is refused half as many are tried next, until what might be left is not worth the
        search. A call for few instances is tried some more before, as it is.
        """
        refusals, known, ceiling = self.throttles + 1, self.instances, self._ceiling_at(now)
        pause = min(INITIAL_PAUSE * (1 << min(refusals - 1, 16)), MAX_PAUSE)
        if known is not None:
            known = known.adjusted(instances, now).settled()  # a refused call takes nothing
            half = min(instances, ceiling or instances) // 2
            if (refusals > 1 or ceiling) and half > _MIN_SEARCH_SECONDS * self.min_call_size:
                known, ceiling, refusals = known.capped(half, now), half, 0
            elif refusals > _MAX_TRIES or ceiling:
                # As good as empty: from here on what is refilled is all there is.
                known, ceiling = known.capped(0, now), None
        requests = self.requests.capped(0, now).settled()
        return RateLimiter(requests, known, refusals, now + pause, ceiling)

    def _ceiling_at(self, now: datetime) -> int | None:
        """The ceiling, as long as it says more than the time that has passed since it was found."""
        if self.ceiling is None or self.instances is None:
            return None
        return self.ceiling if self.instances.refilled(now).level < self.ceiling else None

    def _paused(self, now: datetime) -> bool:
        # A pause that ends later than it can dates from before the clock was set back.
        return self.not_before is not None and now < self.not_before <= now + MAX_PAUSE


def full_limiter(limits: RequestLimits, now: datetime) -> RateLimiter:
    """Buckets that nobody has drawn from lately."""
    of_instances = limits.instances
    return RateLimiter(
        requests=TokenBucket(limits.requests, limits.requests.size, now),
        instances=TokenBucket(of_instances, of_instances.size, now) if of_instances else None,
    )
