"""Keeps sequential calls, such as the pages of a Describe, within the request limits of their action."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from booking_operator.cloud.batching.token_bucket import LimitsOf, RateLimiter, full_limiter
from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.group import Scope
from booking_operator.engine.clock import Clock

_STEP_SECONDS = 1.0


class DescribeLimiter:
    """Delays calls until the token buckets of their action allow them."""

    def __init__(self, limits: LimitsOf, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._limiters: dict[tuple[Scope, str], RateLimiter] = {}

    def forget(self, scope: Scope, *actions: str) -> None:
        """Drop the buckets of these actions in a scope; the next call starts with full ones.

        No such call may be in flight.
        """
        for action in actions:
            self._limiters.pop((scope, action), None)

    @asynccontextmanager
    async def slot(self, scope: Scope, action: str) -> AsyncIterator[None]:
        """Wait for a token, then allow the single call in the context.

        A throttled call corrects the model.
        """
        key = scope, action
        now = self._clock.now()
        if key not in self._limiters:
            self._limiters[key] = full_limiter(self._limits(scope, action), now)
        while not (limiter := self._limiters[key].refilled(now)).available(now):
            self._limiters[key] = limiter
            # Sleep in short steps, because the clock may be set back during the wait.
            wait = limiter.ready_at(1, now) - now
            await self._clock.sleep(min(wait.total_seconds(), _STEP_SECONDS))
            now = self._clock.now()
        sent_at = now
        self._limiters[key] = self._limiters[key].sent(1, sent_at)
        try:
            yield
        except CloudError as error:
            if error.kind is FailureKind.THROTTLED:
                self._limiters[key] = self._limiters[key].throttled(1, self._clock.now(), sent_at=sent_at)
            raise
        self._limiters[key] = self._limiters[key].accepted(1, self._clock.now(), sent_at=sent_at)
