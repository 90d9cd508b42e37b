"""The last check before a write leaves the process: only the replica with a live Lease may write.

Queues, request signing and new connections delay a write after its decision. The process can also be paused
for longer than its Lease and then continue. So the check runs when aiohttp writes the request body to the
connection, before any byte of the request is sent.

The remaining delay is the system call and the network. The time between RenewDeadline and LeaseDuration
covers it. TCP_USER_TIMEOUT limits how long the kernel retransmits unacknowledged data: a few seconds instead
of the Linux default of about 15 minutes.
"""

import socket
from collections.abc import Callable

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

MayWrite = Callable[[], bool]
"""Return whether this replica may write now."""


ACK_TIMEOUT_SECONDS = 5
"""How long sent data may stay unacknowledged. Then the kernel closes the connection and drops the data."""
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux, RFC 5482


class FencedError(Exception):
    """A write was blocked because this replica has no live Lease."""


class FencedBody(BytesPayload):
    """A request body that is sent only if `may_write()` is true.

    aiohttp sends the request head together with it.
    """

    def __init__(self, value: bytes, may_write: MayWrite) -> None:
        super().__init__(value)
        self._may_write = may_write

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send the body, or fail the request.

        Raises:
            FencedError: this replica has no live Lease.
        """
        if not self._may_write():
            raise FencedError("this replica is not the leader")
        _set_ack_timeout(writer)
        await super().write_with_length(writer, content_length)


def _set_ack_timeout(writer: AbstractStreamWriter) -> None:
    """Limit how long the kernel retransmits unacknowledged data."""
    transport = getattr(writer, "transport", None)
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and _USER_TIMEOUT is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, ACK_TIMEOUT_SECONDS * 1000)
