"""A proxy in front of the API server that terminates TLS, injects faults, and records requests."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
from aiohttp import ClientError, ClientResponse, ClientSession, TCPConnector, web

from booking_operator.devcluster.controlplane import ControlPlane
from tests.support.kube_faults import GARBAGE, KubeFault, cut
from tests.support.wire import reset

_PASSED_ON = ("Content-Type", "Date", "Retry-After")
_LONGEST_LINE = 2**21


@dataclass(frozen=True, slots=True)
class ProxiedRequest:
    """One request, with the time of its arrival (aware UTC)."""

    at: datetime
    method: str
    path: str
    watch: bool

    @property
    def writes(self) -> bool:
        """Whether the request changes an object. A renewal of the Lease does not count."""
        return self.method != "GET" and "/leases" not in self.path


class KubeProxy:
    """A proxy; an async context manager. A test may change its fault at any time.

    Attributes:
        url: the URL of the proxy.
        ca_file: the CA of the proxy's certificate.
        requests: all requests, in order of arrival.
        struck: the number of requests, responses and watches that a fault affected.
    """

    def __init__(self, plane: ControlPlane, directory: Path, chance: random.Random) -> None:
        self.url = ""
        self.ca_file = directory / "proxy-ca.crt"
        self.requests: list[ProxiedRequest] = []
        self.struck = 0
        self._plane = plane
        self._chance = chance
        self._fault: KubeFault | None = None
        self._silenced: set[int] = set()
        self._watches: dict[int, web.Request] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        trust = ssl.create_default_context(cafile=str(self._plane.ca_file))
        connector = TCPConnector(limit=0, ssl=trust)
        session = ClientSession(self._plane.url, connector=connector, read_bufsize=_LONGEST_LINE)
        self._http = await self._stack.enter_async_context(session)
        app = web.Application(client_max_size=4 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # A client that disconnects cancels its request, as with a direct connection.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._identity()).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.break_all()
        await self._stack.aclose()

    def strike(self, fault: KubeFault) -> None:
        """Apply a fault to all requests from now on."""
        self._fault = fault
        self._silenced = set(self._watches)
        if fault.breaks_open_ones:
            self.struck += len(self._watches)
            self.break_all()

    def calm(self) -> None:
        """End the fault. Connections that it broke stay broken."""
        self._fault = None

    def break_all(self) -> None:
        """Reset the connections of all watches."""
        for request in self._watches.values():
            _reset(request)

    def _identity(self) -> ssl.SSLContext:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        return context

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "true"
        self.requests.append(ProxiedRequest(datetime.now(UTC), request.method, request.path, watch))
        fault, late = self._fault, False
        match fault:
            case KubeFault(kind="refuse"):
                return self._refused(fault)
            case KubeFault(kind="reset"):
                self.struck += 1
                late = self._chance.random() < 0.5
                if watch or not late:
                    return _reset(request)
            case KubeFault(kind="delay"):
                self.struck += 1
                await asyncio.sleep(self._chance.uniform(*fault.seconds))
        try:
            reply = await self._forwarded(request, self._watched if watch else self._answered)
        except (ClientError, OSError):  # the API server is down, or one side has disconnected
            return _reset(request)
        return _reset(request) if late else reply

    async def _forwarded(
        self,
        request: web.Request,
        passed_on: Callable[[web.Request, ClientResponse], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        headers = {
            name: request.headers[name]
            for name in ("Accept", "Authorization", "Content-Type", "User-Agent")
            if name in request.headers
        }
        body = await request.read()
        async with self._http.request(
            request.method, request.rel_url, data=body, headers=headers, timeout=None
        ) as answer:
            return await passed_on(request, answer)

    async def _answered(self, request: web.Request, answer: ClientResponse) -> web.StreamResponse:
        body = await answer.read()
        reply = web.StreamResponse(status=answer.status, headers=_headers(answer))
        match self._fault:
            case KubeFault(kind="truncate"):
                self.struck += 1
                reply.content_length = len(body)
                await reply.prepare(request)
                await reply.write(cut(body, self._chance))
                return _broken_off(request)
            case KubeFault(kind="garble"):
                self.struck += 1
                body = cut(body, self._chance) + GARBAGE
        return web.Response(status=answer.status, headers=_headers(answer), body=body)

    async def _watched(self, request: web.Request, answer: ClientResponse) -> web.StreamResponse:
        if answer.status != 200:
            return await self._answered(request, answer)
        reply = web.StreamResponse(headers=_headers(answer))
        await reply.prepare(request)
        self._watches[id(request)] = request
        try:
            async for line in answer.content:
                if not await self._forward_event(request, reply, line):
                    return _broken_off(request)
        finally:
            del self._watches[id(request)]
        return reply

    async def _forward_event(self, request: web.Request, reply: web.StreamResponse, line: bytes) -> bool:
        """Forward one event; return whether the watch continues."""
        fault = self._fault
        if fault is not None and fault.kind == "silence" and id(request) not in self._silenced:
            fault = None
        self.struck += fault is not None
        match fault:
            case KubeFault(kind="delay"):
                await asyncio.sleep(self._chance.uniform(*fault.seconds))
            case KubeFault(kind="silence"):
                await asyncio.Event().wait()  # until the client disconnects
            case KubeFault(kind="truncate"):
                await reply.write(cut(line, self._chance))
                return False
            case KubeFault(kind="garble"):
                line = cut(line, self._chance) + GARBAGE
        await reply.write(line)
        return True

    def _refused(self, fault: KubeFault) -> web.Response:
        self.struck += 1
        refusal = self._chance.choice(fault.refusals)
        headers = {"Content-Type": refusal.content_type, **refusal.headers}
        return web.Response(status=refusal.status, body=refusal.body, headers=headers)


def _headers(answer: ClientResponse) -> dict[str, str]:
    return {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}


def _reset(request: web.Request) -> web.Response:
    reset(request.transport)
    return web.Response()


def _broken_off(request: web.Request) -> web.Response:
    """Close a connection with FIN, so that data already written arrives."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
