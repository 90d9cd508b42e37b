"""`kube.client.KubeClient` over a simulated link: the same timeouts, the same errors, the same fence.

Mutations override `send` and `watch`, through which every request passes.
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
SILENCE_SECONDS = 80


class SimKubeClient:
    """What the operator sends its requests with.

    Attributes:
        kube: the server.
    """

    def __init__(
        self, kernel: Kernel, kube: SimKube, link: Link, live: Callable[[], bool] = lambda: True
    ) -> None:
        self._kernel = kernel
        self.kube = kube
        self._link = link
        self._live = live

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: dict[str, Any] | None = None,
        content_type: str = JSON,  # noqa: ARG002 - a patch is a merge patch here
    ) -> bytes:
        """Send one request and return the body of the answer; raises `ApiError`."""
        return await self.send(Request(self._link.process.name, method, path, dict(query), body))

    async def send(self, request: Request) -> bytes:
        """Send one request and return the body of the answer; raises `ApiError`."""
        if request.body is not None and not self._live():
            raise ApiError(0, "the request to the API server failed: this replica is not the leader")
        return await self._sent(lambda: self.kube.serve(request))

    async def _sent(self, serve: Callable[[], bytes]) -> bytes:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self._link.call(serve)
        except (TimeoutError, NotSentError, NoReplyError) as error:
            raise ApiError(0, f"the request to the API server failed: {error}") from error

    @asynccontextmanager
    async def stream(self, path: str, query: Query) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; raises `ApiError`, also while it is read."""
        async with self.watch(Request(self._link.process.name, "WATCH", path, dict(query))) as lines:
            yield lines

    @asynccontextmanager
    async def watch(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch; raises `ApiError`, also while it is read."""
        lines: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        stream = Stream(self._kernel, self._link, lines.put_nowait)
        try:

            def serve() -> bytes:
                self.kube.watch(stream, request)
                return b""

            await self._sent(serve)
            async with aclosing(_read(lines)) as reading:
                yield reading
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
