"""The transport to the API server: all requests of the operator go through it, each with timeouts."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

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
JSON_PATCH = "application/json-patch+json"
_OK = range(200, 300)
_UNAUTHORIZED = 401

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5, sock_connect=5)
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=80)
"""The API server sends a bookmark about once a minute, so a watch that is silent for longer has failed."""

MAX_REQUESTS = 64
"""Maximum number of requests in flight; watches use connections in addition. The connect timeout of aiohttp
includes the wait for a free connection. Without this limit a burst of requests would fail as if the API
server were unreachable."""
RESERVED = 8
"""How many of `MAX_REQUESTS` are reserved for reads. Decisions wait for reads: a list, or the read of the CRD
before an unplanned stop. Writes report decisions, and there may be thousands at the same time."""

MAX_RESPONSE_BYTES = 2**24
"""Maximum size of a response that is held in memory as a whole, in bytes. 500 typical objects have 1 MiB. But
a user with write access can make each object 1.5 MiB large, and memory is limited."""

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Query = ()
    body: Any = None
    content_type: str = JSON
    limit: aiohttp.ClientTimeout = REQUEST_TIMEOUT


class KubeClient:
    """A connection pool to one API server, as an async context manager.

    Requests with a body are writes. They are only sent while `may_write()` is true. `headers` are sent with
    each request, such as those of an impersonation.
    """

    def __init__(
        self,
        config: ClusterConfig,
        clock: Clock,
        may_write: MayWrite = lambda: True,
        *,
        headers: Query = (("User-Agent", "booking-operator"),),
        metrics: KubeMetrics = NO_METRICS,
    ) -> None:
        self._headers = headers
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
            ConfigError: there is no usable configuration, or its certificates are unusable.
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
        body: Any = None,
        content_type: str = JSON,
    ) -> bytes:
        """Send one request and return the body of the 2xx response.

        Raises:
            ApiError: there was no response within 30 s of sending, or the response is not 2xx.
            ResponseTooLargeError: the body exceeds `MAX_RESPONSE_BYTES`.
        """
        request = _Request(method, path, query, body, content_type)
        async with self._turn(request), self._open(request) as response:
            try:
                return await _read_body(response)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise unreachable_error(error) from error

    @asynccontextmanager
    async def _turn(self, request: _Request) -> AsyncIterator[None]:
        """Wait for a free slot, and hold it while the request is in flight."""
        async with AsyncExitStack() as turns:
            if request.method != "GET":
                await turns.enter_async_context(self._turns_of_writes)
            await turns.enter_async_context(self._slots)
            yield

    @asynccontextmanager
    async def stream(self, path: str, query: Query) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a GET and read the response line by line, as for a watch.

        Raises:
            ApiError: the response is not 2xx, the connection failed, or the server was silent for 80 s.
        """
        async with (
            self._open(_Request("GET", path, query, limit=WATCH_TIMEOUT)) as response,
            aclosing(_lines(response)) as lines,
        ):
            yield lines

    @asynccontextmanager
    async def _open(self, request: _Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield its 2xx response."""
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
        """Return a response of any status.

        After a 401 or an untrusted certificate, the request is retried once if newer credentials exist.
        """
        used = self._keyring.current()
        try:
            response = await self._send(request, used)
        except aiohttp.ClientConnectorCertificateError:
            renewed = await self._keyring.renew(used, "the API server's certificate is not trusted")
            if renewed is used:
                raise
            return await self._send(request, renewed)
        if response.status == _UNAUTHORIZED:
            renewed = await self._keyring.renew(used, "the API server responded with 401 Unauthorized")
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
                headers=self._headers_of(request, credentials),
                data=self._fenced(request.body),
                timeout=request.limit,
                ssl=credentials.ssl_context,
                server_hostname=configuration.tls_server_name,
                proxy_headers=configuration.proxy_headers,
                allow_redirects=False,  # a redirect would send the token to another server
            )
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._metrics.requested(verb, "error", self._clock.monotonic() - began)
            raise
        self._metrics.requested(verb, str(response.status), self._clock.monotonic() - began)
        self.skew.record(response.headers.get("Date"), sent_at, self._clock.now())
        self._metrics.api_skewed(self.skew.current)
        return response

    def _fenced(self, body: Any) -> FencedBody | None:
        return None if body is None else FencedBody(json.dumps(body).encode(), self._may_write)

    def _headers_of(self, request: _Request, credentials: Credentials) -> CIMultiDict[str]:
        headers = CIMultiDict([("Accept", JSON), ("Content-Type", request.content_type), *self._headers])
        if credentials.authorization:
            headers["Authorization"] = credentials.authorization
        return headers


def _abort_unread(response: aiohttp.ClientResponse) -> None:
    """Abort the connection of a response that was not read to its end, such as a watch.

    An orderly TLS shutdown waits for the server's reply. A loop that is about to end does not wait for it.
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
        # aiohttp raises HttpProcessingError or ValueError for a line that is too long, depending on its
        # version.
        raise unreachable_error(error) from error


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_RESPONSE_BYTES:
            raise ResponseTooLargeError(f"the response exceeds {MAX_RESPONSE_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.read(65536)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return b"the response is incomplete"
