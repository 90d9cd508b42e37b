"""`kube.client.KubeClient` over a simulated link, with the same timeouts, errors and fence.

Each request passes through `send` or `watch`. Mutations override these two.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from booking_operator.kube.client import JSON, Query
from booking_operator.kube.errors import ApiError
from tests.sim.kernel import Kernel
from tests.sim.kube import Request, SimKube
from tests.sim.network import Link, NoReplyError, NotSentError, Stream

REQUEST_SECONDS = 30
"""Timeout of a request."""
SILENCE_SECONDS = 80
"""Timeout of a watch that receives nothing."""


class SimKubeClient:
    """The operator's client of the simulated API server.

    Attributes:
        kube: the server.
    """

    def __init__(
        self, kernel: Kernel, kube: SimKube, link: Link, may_write: Callable[[], bool] = lambda: True
    ) -> None:
        self._kernel = kernel
        self.kube = kube
        self._link = link
        self._may_write = may_write

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: dict[str, Any] | None = None,
        content_type: str = JSON,  # noqa: ARG002 - a patch is a merge patch here
    ) -> bytes:
        """Send one request and return the body of the response; raises `ApiError`."""
        return await self.send(Request(self._link.process.name, method, path, dict(query), body))

    async def send(self, request: Request) -> bytes:
        """Send one request and return the body of the response; raises `ApiError`."""
        if request.body is not None and not self._may_write():
            raise ApiError(0, "the request to the API server failed: this replica is not the leader")
        return await self._call(lambda: self.kube.serve(request))

    async def _call(self, serve: Callable[[], bytes]) -> bytes:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self._link.call(serve)
        except (TimeoutError, NotSentError, NoReplyError) as error:
            raise ApiError(0, f"the request to the API server failed: {error}") from error

    @asynccontextmanager
    async def stream(self, path: str, query: Query) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; raises `ApiError`, also while the caller reads."""
        async with self.watch(Request(self._link.process.name, "WATCH", path, dict(query))) as lines:
            yield lines

    @asynccontextmanager
    async def watch(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; raises `ApiError`, also while the caller reads."""
        lines: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        stream = Stream(self._kernel, self._link, lines.put_nowait)
        try:

            def serve() -> bytes:
                self.kube.watch(stream, request)
                return b""

            await self._call(serve)
            async with aclosing(_read(lines)) as received:
                yield received
        finally:
            stream.close()


async def _read(lines: "asyncio.Queue[bytes | Exception | None]") -> AsyncGenerator[bytes, None]:
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                line = await lines.get()
        except TimeoutError as error:
            raise ApiError(0, "the request to the API server failed: it was silent for 80 s") from error
        if isinstance(line, Exception):
            raise ApiError(0, f"the request to the API server failed: {line}") from line
        if line is None:
            return
        yield line
