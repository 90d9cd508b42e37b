"""The HTTP server of the board: the page, its files, and the requests of the page."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

from aiohttp import web

from booking_operator.board.board import Answer, Board
from booking_operator.board.requests import RequestError
from booking_operator.board.security import HEADERS, AccessRules
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.engine.clock import Clock

LOOPBACK = "127.0.0.1"
HEARTBEAT_SECONDS = 15.0
"""How often an event stream sends something. The page reports a lost connection after 35 s of silence."""
QUIET_SECONDS = 0.1
"""The shortest time between two events of a stream, so that a burst of changes is one event."""
SHUTDOWN_SECONDS = 1.0
MAX_BODY = 16 * 1024
PAGE = "/static/board.html"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_STATUSES = {
    ExitCode.USAGE: 400,
    ExitCode.FORBIDDEN: 403,
    ExitCode.NOT_FOUND: 404,
    ExitCode.CHANGED: 409,
    ExitCode.IMPOSSIBLE: 422,
}
_FAILED = 502
"""The status of an error of the API server."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class BoardAddress:
    """Where a board is served. The token is in the fragment of its address, which browsers do not send."""

    host: str
    token: str

    @property
    def url(self) -> str:
        """The address of the page, with the token."""
        return f"http://{self.host}/#{self.token}"


class BoardServer:
    """The server of one board.

    Args:
        board: the board.
        clock: the clock.
    """

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self._used_at = clock.monotonic()
        self._streams = 0
        self._files = dict(_static_files())

    @property
    def idle_seconds(self) -> float:
        """For how long no page has been open and nothing was requested."""
        return 0.0 if self._streams else self._clock.monotonic() - self._used_at

    @asynccontextmanager
    async def serve(self, token: str, *, read_only: bool, port: int = 0) -> AsyncIterator[BoardAddress]:
        """Serve the board on loopback for the length of the context.

        Args:
            token: the token of the page.
            read_only: whether to refuse changes.
            port: the port; 0 for any free one.

        Raises:
            OSError: the port is in use.
        """
        application = web.Application(client_max_size=MAX_BODY)
        application.on_response_prepare.append(_add_headers)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        rules: list[AccessRules] = []  # the port is known after the server has started
        application.router.add_route("*", "/{path:.*}", partial(self._handle, rules))
        await runner.setup()
        try:
            site = web.TCPSite(runner, LOOPBACK, port)
            await site.start()
            bound = runner.addresses[0][1]
            address = BoardAddress(f"{LOOPBACK}:{bound}", token)
            rules.append(AccessRules(address.host, token, read_only))
            yield address
        finally:
            await runner.cleanup()

    async def _handle(self, rules: list[AccessRules], request: web.Request) -> web.StreamResponse:
        refusal = rules[0].refusal(request.method, request.path, request.headers)
        if refusal is not None:
            return web.json_response({"error": refusal.reason}, status=refusal.status)
        self._used_at = self._clock.monotonic()
        file = self._files.get(PAGE if request.path == "/" else request.path)
        if file is not None:
            return file.response()
        if request.path == "/api/events":
            return await self._stream(request)
        try:
            return await self._answer(request)
        except web.HTTPException as error:  # such as a body that is too large
            return web.json_response({"error": error.reason}, status=error.status)
        except RequestError as error:
            found = {"error": str(error), "hint": error.hint, "field": error.field}
            return web.json_response(found, status=400)
        except CommandError as error:
            found = {"error": str(error), "hint": error.hint}
            return web.json_response(found, status=_STATUSES.get(error.code, _FAILED))

    async def _answer(self, request: web.Request) -> web.Response:
        """Answer a read or a write of the page. The names are fixed: the board is no proxy."""
        board, name = self._board, request.path.removeprefix("/api/")
        if request.method == "POST":
            writes: dict[str, Callable[[Mapping[str, Any]], Awaitable[Answer]]] = {
                "book": board.book,
                "extend": board.extend,
                "release": board.release,
            }
            if name in writes:
                return web.json_response(await writes[name](await _body(request)))
        elif name == "session":
            return web.json_response(board.session())
        else:
            reads: dict[str, Callable[[Mapping[str, str]], Answer]] = {
                "timeline": board.timeline,
                "agenda": board.agenda,
                "preview": board.preview,
            }
            slow: dict[str, Callable[[Mapping[str, str]], Awaitable[Answer]]] = {
                "explain": board.explain,
                "usage": board.usage,
            }
            if name in reads:
                return web.json_response(reads[name](request.query))
            if name in slow:
                return web.json_response(await slow[name](request.query))
        return web.json_response({"error": f"there is no {request.method} {request.path}"}, status=404)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Send an event for each change, and a heartbeat otherwise, until the page goes away."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        changes, event = self._board.live.changes, "changed"
        self._streams += 1
        try:
            while True:
                known = changes.number
                await stream.write(f"event: {event}\ndata: {known}\n\n".encode())
                await self._clock.sleep(QUIET_SECONDS)
                due = self._board.seconds_to_boundary()
                number = await changes.wait(known, min(HEARTBEAT_SECONDS, due))
                event = "changed" if number > known or due <= HEARTBEAT_SECONDS else "beat"
        except ConnectionError:
            return stream  # the page was closed
        finally:
            self._streams -= 1
            self._used_at = self._clock.monotonic()


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.text())
    except ValueError:
        raise RequestError("body", "the body is not JSON") from None
    if not isinstance(found, dict):
        raise RequestError("body", "the body must be a JSON object")
    return found


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str

    def response(self) -> web.Response:
        return web.Response(body=self.body, content_type=self.content_type, charset="utf-8")


def _static_files() -> list[tuple[str, _File]]:
    """Return the files of the page by the path of their URL."""
    folder = resources.files("booking_operator.board") / "static"
    return [
        (f"/static/{item.name}", _File(item.read_bytes(), _TYPES[f".{item.name.rpartition('.')[2]}"]))
        for item in folder.iterdir()
    ]
