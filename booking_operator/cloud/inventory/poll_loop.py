"""The loop of a poll: calls what is due, and waits until the next call is due or there is news."""

from asyncio import Event
from collections.abc import Callable
from datetime import datetime

from booking_operator.cloud.instrumentation import unexpected
from booking_operator.cloud.inventory.polling import BACKOFF
from booking_operator.engine.clock import Clock, wait_until
from booking_operator.metrics import CloudMetrics, FailedPart


async def poll(
    call_what_is_due: Callable[[datetime], datetime | None],
    clock: Clock,
    wake: Event,
    metrics: CloudMetrics,
    action: str,
) -> None:
    """Poll until cancelled. An unexpected exception fails one poll, and a back-off follows.

    Args:
        call_what_is_due: starts the calls that are due at an instant, and returns when to check again, both
            in aware UTC. None means: not before `wake` is set.
        clock: the clock.
        wake: set when there may be something to call.
        metrics: counts unexpected exceptions.
        action: the name of the poll in the log.
    """
    failures = 0
    while True:
        wake.clear()
        now = clock.now()
        try:
            next_at = call_what_is_due(now)
            failures = 0
        except Exception as error:  # noqa: BLE001 - a failed poll must not stop the later ones
            failures += 1
            unexpected(metrics, FailedPart.POLL, action, error)
            next_at = now + BACKOFF.after(failures)
        await wait_until(clock, next_at, wake)
