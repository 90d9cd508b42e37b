"""The last look before a write leaves: of several replicas, only the one with a live lease may write.

Between a decision and its bytes lie queues, signatures and new connections; and a process can be stopped
anywhere in between, for longer than its lease, and then go on where it was. So the question is asked where
the body is written into the connection, and nothing of the request has been sent before.

What is left is the system call itself, and the way through the network. The time between RenewDeadline and
LeaseDuration is there for that; and the kernel sends again what nobody has acknowledged for a few seconds
only, not for the quarter of an hour that it would.
"""

import socket
from collections.abc import Callable

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

MayWrite = Callable[[], bool]
"""Whether this replica may write at this instant."""


ACK_TIMEOUT_SECONDS = 5
"""How long what was sent may go unacknowledged; then the connection is dead, and what is on its way in it."""
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux, RFC 5482


class FencedError(Exception):
    """A write was held back: the lease is not live."""


class FencedBody(BytesPayload):
    """A body of a request that is only sent while `live()`. aiohttp sends the head together with it."""

    def __init__(self, value: bytes, may_write: MayWrite) -> None:
        super().__init__(value)
        self._may_write = may_write

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send it, or fail the request.

        Raises:
            FencedError: the lease is not live.
        """
        if not self._may_write():
            raise FencedError("this replica does not lead")
        _set_ack_timeout(writer)
        await super().write_with_length(writer, content_length)


def _set_ack_timeout(writer: AbstractStreamWriter) -> None:
    """Have the kernel give up soon what does not arrive."""
    transport = getattr(writer, "transport", None)
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and _USER_TIMEOUT is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, ACK_TIMEOUT_SECONDS * 1000)
