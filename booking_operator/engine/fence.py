"""The last look before a write leaves: of several replicas, only the one with a live lease may write.

Between a decision and its bytes lie queues, signatures and new connections; and a process can be stopped
anywhere in between, for longer than its lease, and then go on where it was. So the question is asked where
the body is written into the connection, and nothing of the request has been sent before.

What is left is the system call itself, and the way through the network. The time between RenewDeadline and
LeaseDuration is there for that.
"""

from collections.abc import Callable

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

Live = Callable[[], bool]
"""Whether this replica may write at this instant."""


class FencedError(Exception):
    """A write was held back: the lease is not live."""


class FencedBody(BytesPayload):
    """A body of a request that is only sent while `live()`. aiohttp sends the head together with it."""

    def __init__(self, value: bytes, live: Live) -> None:
        super().__init__(value)
        self._live = live

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send it, or fail the request.

        Raises:
            FencedError: the lease is not live.
        """
        if not self._live():
            raise FencedError("this replica does not lead")
        await super().write_with_length(writer, content_length)
