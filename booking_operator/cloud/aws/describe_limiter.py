"""Keeps calls that are made one at a time, as Describe's pages are, within the limits of their action."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from booking_operator.cloud.batching.token_bucket import LimitsOf, RateLimiter, full_limiter
from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.group import Scope
from booking_operator.engine.clock import Clock

_STEP_SECONDS = 1.0


class DescribeLimiter:
    """Lets calls pass one after the other, as the buckets of their action allow."""

    def __init__(self, limits: LimitsOf, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._throttles: dict[tuple[Scope, str], RateLimiter] = {}

    def forget(self, scope: Scope, *actions: str) -> None:
        """Start with full buckets when these actions are next called in a scope. No call may be under way."""
        for action in actions:
            self._throttles.pop((scope, action), None)

    @asynccontextmanager
    async def slot(self, scope: Scope, action: str) -> AsyncIterator[None]:
        """Wait for a token, then let the one call inside pass; a refusal of it is taken note of."""
        key = scope, action
        now = self._clock.now()
        if key not in self._throttles:
            self._throttles[key] = full_limiter(self._limits(scope, action), now)
        while not self._throttles[key].available(now):
            # In short steps, since the clock may be set back meanwhile.
            wait = self._throttles[key].ready_at(1, now) - now
            await self._clock.sleep(min(wait.total_seconds(), _STEP_SECONDS))
            now = self._clock.now()
        self._throttles[key] = self._throttles[key].sent(1, now)
        try:
            yield
        except CloudError as error:
            if error.kind is FailureKind.THROTTLED:
                self._throttles[key] = self._throttles[key].throttled(1, self._clock.now())
            raise
        self._throttles[key] = self._throttles[key].accepted(1, self._clock.now())
