"""A TCP forwarder on loopback that a test can cut."""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK = 65536


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Reset a connection with RST, as after a crash of the peer. Data in flight is lost."""
    if isinstance(transport, asyncio.Transport) and not transport.is_closing():
        at_once = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        transport.abort()


class Wire:
    """A TCP forwarder to one port; an async context manager.

    While it is cut, no data passes and no error occurs, as in a network partition. `fix` resets the
    connections from before, so that data in flight is lost.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._break()

    def cut(self) -> None:
        self._open.clear()

    async def fix(self) -> None:
        await self._break()
        self._open.set()

    async def _break(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            await self._link(reader, writer)
        except* (OSError, asyncio.CancelledError):
            reset(writer.transport)  # reset by one end, or by `_break`
        finally:
            self._links.discard(task)
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, back))
                tasks.create_task(self._pump(there, writer))
        finally:
            back.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            await self._open.wait()
            sink.write(data)
            await sink.drain()
        with suppress(OSError):
            sink.write_eof()
