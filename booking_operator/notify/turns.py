"""Limits the number of messages in flight to one server, and the time that a message waits for its turn.

A waiting message has not been sent. The wait therefore does not count against the timeout of a request, and
the end of the wait is not a failed attempt. After the timeout of a request it is unknown whether the message
arrived.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from booking_operator.domain.notification import BusyError

TURN_TIMEOUT_SECONDS = 30.0
"""The maximum wait. Together with the timeout of a channel it is well below the timeout of a reconcile."""


@asynccontextmanager
async def turn(free: asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold one free connection for the length of the context.

    Args:
        free: a semaphore with one permit for each connection.

    Raises:
        BusyError: no connection became free within `TURN_TIMEOUT_SECONDS`.
    """
    try:
        async with asyncio.timeout(TURN_TIMEOUT_SECONDS):
            await free.acquire()
    except TimeoutError:
        raise BusyError("all connections are in use") from None
    try:
        yield
    finally:
        free.release()
