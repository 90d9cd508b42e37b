"""The transport: every request to the API server goes through here, each with timeouts."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from booking_operator.engine.clock import Clock
from booking_operator.engine.clock_skew import ClockSkewMonitor
from booking_operator.engine.fence import FencedBody, MayWrite
from booking_operator.kube.auth import Credentials, CredentialStore
from booking_operator.kube.errors import ResponseTooLargeError, error_from_response, unreachable_error
from booking_operator.kube.http_session import open_session
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.metrics import NO_METRICS, KubeMetrics

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
_OK = range(200, 300)
_UNAUTHORIZED = 401

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5, sock_connect=5)
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=80)
"""Bookmarks come about once a minute, so a watch that is silent for longer is dead."""

MAX_REQUESTS = 64
"""How many requests are under way at a time; watches have connections besides these. The time that aiohttp
gives a connection includes the wait for a free one, so without this a flood of requests fails as if the API
server could not be reached."""
RESERVED = 8
"""How many of `REQUESTS` are for reads alone. Decisions wait for reads: a list, or the CRD before a stop that
was not foreseen. Writes report decisions, and there may be thousands of them at once."""

MAX_RESPONSE_BYTES = 2**24
"""In bytes, of an answer that is kept in memory whole. 500 objects of a usual size are 1 MiB; but a user who
may write objects can make each of them 1.5 MiB large, and memory has a limit."""

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Query = ()
    body: dict[str, Any] | None = None
    content_type: str = JSON
    limit: aiohttp.ClientTimeout = REQUEST_TIMEOUT


class KubeClient:
    """One connection pool to one API server. An async context manager.

    Requests with a body, which are those that write, are only sent while `live()`.
    """

    def __init__(
        self,
        config: ClusterConfig,
        clock: Clock,
        may_write: MayWrite = lambda: True,
        *,
        metrics: KubeMetrics = NO_METRICS,
    ) -> None:
        self._keyring = CredentialStore(config, clock)
        self._clock = clock
        self._may_write = may_write
        self.skew = ClockSkewMonitor("the API server")
        self._http: aiohttp.ClientSession | None = None
        self._metrics = metrics
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._turns_of_writes = asyncio.Semaphore(MAX_REQUESTS - RESERVED)

    async def __aenter__(self) -> Self:
        """Load the configuration and open the pool.

        Raises:
            ConfigError: there is no usable configuration, or it names certificates that are not.
        """
        credentials = await self._keyring.open()
        self._http = open_session(credentials.configuration)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool."""
        if self._http is not None:
            await self._http.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: dict[str, Any] | None = None,
        content_type: str = JSON,
    ) -> bytes:
        """Send one request and return the body of a 2xx answer.

        Raises:
            ApiError: there was no answer within 30 s of its turn, or another one.
            TooLongError: there is more of it than `LONGEST_ANSWER`.
        """
        request = _Request(method, path, query, body, content_type)
        async with self._turn(request), self._open(request) as response:
            try:
                return await _read_body(response)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise unreachable_error(error) from error

    @asynccontextmanager
    async def _turn(self, request: _Request) -> AsyncIterator[None]:
        """Wait until the request may be sent, and count it as under way for the length of the context."""
        async with AsyncExitStack() as turns:
            if request.method != "GET":
                await turns.enter_async_context(self._turns_of_writes)
            await turns.enter_async_context(self._slots)
            yield

    @asynccontextmanager
    async def stream(self, path: str, query: Query) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a GET whose answer is read line by line, and which may last.

        Raises:
            ApiError: no 2xx answer; or, while reading, the connection broke or was silent for 80 s.
        """
        async with (
            self._open(_Request("GET", path, query, limit=WATCH_TIMEOUT)) as response,
            aclosing(_lines(response)) as lines,
        ):
            yield lines

    @asynccontextmanager
    async def _open(self, request: _Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with status 2xx."""
        try:
            response = await self._send_authenticated(request)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable_error(error) from error
        async with response:
            if response.status not in _OK:
                pause = response.headers.get("Retry-After")
                raise error_from_response(response.status, await _read_error(response), pause)
            try:
                yield response
            finally:
                _abort_unread(response)

    async def _send_authenticated(self, request: _Request) -> aiohttp.ClientResponse:
        """An answer of any status. A refused request is tried once more, if there are other credentials."""
        used = self._keyring.current()
        try:
            response = await self._send(request, used)
        except aiohttp.ClientConnectorCertificateError:
            renewed = await self._keyring.renew(used, "the API server's certificate is not trusted")
            if renewed is used:
                raise
            return await self._send(request, renewed)
        if response.status == _UNAUTHORIZED:
            renewed = await self._keyring.renew(used, "the API server answered 401")
            if renewed is not used:
                response.release()
                return await self._send(request, renewed)
        return response

    async def _send(self, request: _Request, credentials: Credentials) -> aiohttp.ClientResponse:
        if self._http is None:
            raise RuntimeError("KubeClient is used outside its context")
        configuration, sent_at, began = credentials.configuration, self._clock.now(), self._clock.monotonic()
        verb = "WATCH" if request.limit is WATCH_TIMEOUT else request.method
        try:
            response = await self._http.request(
                request.method,
                f"{configuration.host}{request.path}",
                params=request.query,
                headers=_headers(request, credentials),
                data=self._fenced(request.body),
                timeout=request.limit,
                ssl=credentials.ssl_context,
                server_hostname=configuration.tls_server_name,
                proxy_headers=configuration.proxy_headers,
                allow_redirects=False,  # the token is for the API server alone
            )
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._metrics.requested(verb, "error", self._clock.monotonic() - began)
            raise
        self._metrics.requested(verb, str(response.status), self._clock.monotonic() - began)
        self.skew.record(response.headers.get("Date"), sent_at, self._clock.now())
        self._metrics.api_skewed(self.skew.current)
        return response

    def _fenced(self, body: dict[str, Any] | None) -> FencedBody | None:
        return None if body is None else FencedBody(json.dumps(body).encode(), self._may_write)


def _headers(request: _Request, credentials: Credentials) -> dict[str, str]:
    headers = {"Accept": JSON, "Content-Type": request.content_type, "User-Agent": "booking-operator"}
    authorization = credentials.authorization
    return headers | {"Authorization": authorization} if authorization else headers


def _abort_unread(response: aiohttp.ClientResponse) -> None:
    """Cut the connection of an answer that was not read to its end, as a watch never is.

    To close TLS in good order takes the server's reply, which a loop that is about to end does not wait for.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        async for line in response.content:
            if line.strip():
                yield line
    except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ValueError) as error:
        # A line without an end is an HttpProcessingError or a ValueError, as aiohttp's version has it.
        raise unreachable_error(error) from error


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_RESPONSE_BYTES:
            raise ResponseTooLargeError(f"the API server answers more than {MAX_RESPONSE_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.read(65536)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return b"the answer broke off"
