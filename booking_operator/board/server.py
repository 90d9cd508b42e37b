"""The HTTP server of the board: the page, its files, and the requests of the page."""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib import resources
from typing import Any, Protocol

from aiohttp import ETag, hdrs, web
from pydantic_core import to_json

from booking_operator.board.board import Answer, Board, seconds_to_boundary
from booking_operator.board.feeds import Feeds
from booking_operator.board.requests import RequestError
from booking_operator.board.security import HEADERS, Refusal
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.feeds import FEED_PATH, FEED_SUFFIX
from booking_operator.client.live import LiveObjects
from booking_operator.engine.clock import Clock

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
READS: Mapping[str, Callable[[Board, Mapping[str, str]], Awaitable[Answer]]] = {
    "agenda": Board.agenda,
    "explain": Board.explain,
    "preview": Board.preview,
    "session": Board.session,
    "timeline": Board.timeline,
    "usage": Board.usage,
}
WRITES: Mapping[str, Callable[[Board, Mapping[str, Any]], Awaitable[Answer]]] = {
    "book": Board.book,
    "extend": Board.extend,
    "release": Board.release,
}


_PROBES = frozenset({"/healthz", "/readyz"})
_NOBODY = Refusal(401, "the board does not know who you are; sign in again: reload the page")


class Access(Protocol):
    """Decides which requests are answered, and as whose board."""

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request is refused for all users; None if it is not."""
        ...

    async def board(self, headers: Mapping[str, str]) -> Board | None:
        """Return the board of the user who sends a request; None if the request names no user.

        Raises:
            CommandError: the API server does not answer.
        """
        ...


class BoardServer:
    """The server of the board.

    Args:
        live: the objects that the board shows.
        clock: the clock.
        feeds: the calendar feeds; None for none.
    """

    def __init__(self, live: LiveObjects, clock: Clock, feeds: Feeds | None = None) -> None:
        self._live = live
        self._feeds = feeds
        self._clock = clock
        self._used_at = clock.monotonic()
        self._streams = 0
        self._files = dict(_static_files())

    @property
    def idle_seconds(self) -> float:
        """For how long no page has been open and nothing was requested."""
        return 0.0 if self._streams else self._clock.monotonic() - self._used_at

    @asynccontextmanager
    async def serve(self, listening: socket.socket, access: Access) -> AsyncIterator[None]:
        """Serve the board for the length of the context.

        Args:
            listening: the socket, which is closed at the end.
            access: decides which requests are answered.
        """
        application = web.Application(client_max_size=MAX_BODY)
        application.on_response_prepare.append(_add_headers)
        # An access log would have the secret addresses of the calendar feeds.
        runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS
        )
        application.router.add_route("*", "/{path:.*}", partial(self._handle, access))
        await runner.setup()
        try:
            await web.SockSite(runner, listening).start()
            yield
        finally:
            await runner.cleanup()
            listening.close()

    async def _handle(self, access: Access, request: web.Request) -> web.StreamResponse:
        refusal = access.refusal(request.method, request.path, request.headers)
        if refusal is not None:
            return _refused(refusal)
        self._used_at = self._clock.monotonic()
        file = self._files.get(PAGE if request.path == "/" else request.path)
        if file is not None:
            return file.response()
        if request.path in _PROBES:
            return self._probe(request.path)
        try:
            if request.path.startswith(FEED_PATH):
                return await self._feed(request)
            return await self._answer(access, request)
        except web.HTTPException as error:  # such as a body that is too large
            return web.json_response({"error": error.reason}, status=error.status)
        except RequestError as error:
            found = {"error": str(error), "hint": error.hint, "field": error.field}
            return web.json_response(found, status=400)
        except CommandError as error:
            found = {"error": str(error), "hint": error.hint}
            return web.json_response(found, status=_STATUSES.get(error.code, _FAILED))

    def _probe(self, path: str) -> web.Response:
        """Answer a probe of Kubernetes. The board is ready when it has read all objects once."""
        ready = path == "/healthz" or self._live.synced
        text = "ok" if ready else "the API server has not answered yet"
        return web.Response(text=text, status=200 if ready else 503)

    async def _feed(self, request: web.Request) -> web.Response:
        """Answer a calendar program. An unknown and a revoked address get the same answer."""
        token = request.path.removeprefix(FEED_PATH).removesuffix(FEED_SUFFIX)
        body = await self._feeds.calendar(token) if self._feeds is not None else None
        if body is None:
            return web.json_response({"error": "there is no such calendar"}, status=404)
        tag = ETag(sha256(body).hexdigest()[:32])
        answer = web.Response(content_type="text/calendar", charset="utf-8")
        answer.headers["Cache-Control"] = "private, no-cache"
        answer.etag = tag
        # A proxy that compresses makes the tag of a calendar program a weak one.
        if any(given.value in {tag.value, "*"} for given in request.if_none_match or ()):
            answer.set_status(304)
        else:
            answer.body = body
        return answer

    async def _answer(self, access: Access, request: web.Request) -> web.StreamResponse:
        """Answer a read or a write of the page. The names are fixed: the board is no proxy."""
        board, name = await access.board(request.headers), request.path.removeprefix("/api/")
        if board is None:
            return _refused(_NOBODY)
        if name == "events" and request.method == hdrs.METH_GET:
            return await self._stream(access, request, await board.namespace(request.query))
        if request.method == hdrs.METH_POST and name in WRITES:
            return _json(await WRITES[name](board, await _body(request)))
        if request.method == hdrs.METH_GET and name in READS:
            return _json(await READS[name](board, request.query))
        return web.json_response({"error": f"there is no {request.method} {request.path}"}, status=404)

    async def _stream(self, access: Access, request: web.Request, namespace: str) -> web.StreamResponse:
        """Send an event for each change in a namespace, or a heartbeat, until the page goes away.

        The first event says which version of the views the server knows. The stream ends when the user may no
        longer see the namespace.
        """
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        changes, event = self._live.changes, "known"
        self._streams += 1
        may_follow = True
        try:
            while may_follow:
                known = changes.number(namespace)
                await stream.write(f"event: {event}\ndata: {known}\n\n".encode())
                await self._clock.sleep(QUIET_SECONDS)
                event = await self._next_event(namespace, known)
                may_follow = await _may_follow(access, request)
        except ConnectionError:
            pass  # the page was closed
        finally:
            self._streams -= 1
            self._used_at = self._clock.monotonic()
        return stream

    async def _next_event(self, namespace: str, known: int) -> str:
        """Wait for the next event of a stream: `changed` if a view may look different now, else `beat`.

        Args:
            namespace: the namespace of the stream.
            known: the number of changes that the page knows.
        """
        due = seconds_to_boundary(self._live, self._clock.now(), namespace)
        number = await self._live.changes.wait(known, min(HEARTBEAT_SECONDS, due), namespace)
        return "changed" if number > known or due <= HEARTBEAT_SECONDS else "beat"


async def _may_follow(access: Access, request: web.Request) -> bool:
    """Whether the user of a stream may still see its namespace."""
    try:
        board = await access.board(request.headers)
        return board is not None and bool(await board.namespace(request.query))
    except CommandError:
        return False  # the page asks again, and gets the error


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.text())
    except ValueError:
        raise RequestError("body", "the body is not JSON") from None
    if not isinstance(found, dict):
        raise RequestError("body", "the body must be a JSON object")
    return found


def _json(answer: Answer) -> web.Response:
    return web.Response(body=to_json(answer), content_type="application/json", charset="utf-8")


def _refused(refusal: Refusal) -> web.Response:
    return web.json_response({"error": refusal.reason}, status=refusal.status)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


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
