"""The fence: a connection sends nothing if the Lease ended before the request was written."""

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from booking_operator.engine.fence import FencedBody


class Server:
    """Accepts connections, and keeps all received bytes."""

    def __init__(self) -> None:
        self.received = b""
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            self.received += data
            if b"payload" in self.received:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        await writer.wait_closed()
        self.closed.set()


@pytest.mark.parametrize("live", [True, False])
async def test_a_request_is_sent_whole_or_not_at_all(*, live: bool) -> None:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    body = FencedBody(b"payload", lambda: live)
    async with listening, asyncio.timeout(20):
        async with aiohttp.ClientSession() as session:
            if live:
                async with session.post(url, data=body) as answer:
                    assert await answer.text() == "ok"
            else:
                with pytest.raises(aiohttp.ClientConnectionError, match="this replica is not the leader"):
                    await session.post(url, data=body)
        await server.closed.wait()
    assert server.received.startswith(b"POST / ") is live
    assert server.received.endswith(b"payload") is live
    assert bool(server.received) is live


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_unacknowledged_data_times_out_soon() -> None:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening, asyncio.timeout(20):
        _, stream = await asyncio.open_connection("127.0.0.1", listening.sockets[0].getsockname()[1])

        class Writer:
            transport = stream.transport

            async def write(self, data: bytes) -> None:
                stream.write(data)

        writer: Any = Writer()
        await FencedBody(b"payload", lambda: True).write_with_length(writer, None)
        connection = stream.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
        stream.close()
        await server.closed.wait()


async def test_the_fence_is_checked_after_the_connection_is_open() -> None:
    """The Lease may end while the connection is being opened, which may take long."""
    server, answers = Server(), [True]
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    trace = aiohttp.TraceConfig()

    async def opened(*_: object) -> None:
        answers[0] = False

    trace.on_connection_create_end.append(opened)
    async with listening, asyncio.timeout(20):
        async with aiohttp.ClientSession(trace_configs=[trace]) as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.post(url, data=FencedBody(b"payload", lambda: answers[0]))
        await server.closed.wait()
    assert server.received == b""
