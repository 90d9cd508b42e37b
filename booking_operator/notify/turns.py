"""Bounds how many messages are on their way to one server, and for how long the next one waits for its turn.

A message that waits has not been sent. So the wait does not count against the time-out of a request, after
which it is unknown whether the message arrived. It is no failure either.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from booking_operator.domain.notification import BusyError

TURN_SECONDS = 30.0
"""Together with the time-out of a channel this is well below the limit of a reconcile."""


@asynccontextmanager
async def turn(free: asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold one of the connections that are free, for the length of the context.

    Raises:
        BusyError: none became free within `TURN_SECONDS`.
    """
    try:
        async with asyncio.timeout(TURN_SECONDS):
            await free.acquire()
    except TimeoutError:
        raise BusyError("the message waits for its turn") from None
    try:
        yield
    finally:
        free.release()
