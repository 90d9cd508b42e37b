"""The command `board`: a page in the browser that shows the bookings and changes them."""

import asyncio
import os
import signal
import tempfile
import webbrowser
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from socket import socket

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.board.access import LocalAccess
from booking_operator.board.board import Board, BoardUser
from booking_operator.board.security import AccessRules, new_token
from booking_operator.board.server import BoardServer
from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import Options
from booking_operator.cli.kubectl.session import Session, open_session
from booking_operator.client.cluster import Permission, forbidden
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.live import LiveObjects, live_objects
from booking_operator.observability.bind_address import BindAddress

LOOPBACK = "127.0.0.1"
OPENING = "Opening the browser."
MAX_IDLE_SECONDS = 12 * 3600.0
_IDLE_CHECK_SECONDS = 60.0


async def board(options: Options, console: Console, *, port: int, read_only: bool, browser: bool) -> int:
    """Serve the page until it is interrupted, or idle for 12 hours."""
    async with open_session(options, console) as session, _live(session) as (live, scope):
        user = BoardUser(
            name=await session.user(),
            context=session.context,
            namespace=session.default_namespace,
            scope=scope,
            zone=session.zone,
            access=options.access,
            read_only=read_only,
        )
        server = BoardServer(live, session.clock)
        listening = _listen(port)
        rules = AccessRules(f"{LOOPBACK}:{listening.getsockname()[1]}", new_token(), read_only)
        access = LocalAccess(rules, Board(session.cluster, live, user, session.clock))
        # Ctrl-C and SIGTERM both end the command in order, so that the file with the token is removed.
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, partial(os.kill, os.getpid(), signal.SIGINT)
        )
        async with server.serve(listening, access):
            console.out(f"The board is at {rules.address}")
            with redirect_file(rules.address) as file:
                opens = browser and graphical_browser()
                if opens:
                    console.note(OPENING)
                console.note("Press Ctrl-C to stop it.")
                if opens:
                    await asyncio.to_thread(webbrowser.open, file.as_uri())
                while server.idle_seconds < MAX_IDLE_SECONDS:
                    await session.clock.sleep(_IDLE_CHECK_SECONDS)
            console.note("The board has not been used for 12 hours, so it ends.")
    return ExitCode.DONE


def graphical_browser() -> bool:
    """Whether the user has chosen a browser by BROWSER, or the machine has one that needs no terminal."""
    try:
        return type(webbrowser.get()) is not webbrowser.GenericBrowser or bool(os.environ.get("BROWSER"))
    except webbrowser.Error:
        return False


def _listen(port: int) -> socket:
    try:
        return BindAddress(LOOPBACK, port).listen()
    except OSError as error:
        text = f"cannot listen on port {port}: {error.strerror}"
        raise CommandError(text, hint="leave out --port") from error


@asynccontextmanager
async def _live(session: Session) -> AsyncIterator[tuple[LiveObjects, str]]:
    """Follow the objects of all namespaces; without the permission, those of the namespace of the command."""
    scope = session.options.namespace
    if not scope:
        needed = [Permission("list", kind, "") for kind in (RESOURCE, BOOKING)]
        allowed = await session.cluster.allowed(needed)
        missing = [permission for permission in needed if not allowed[permission]]
        if missing:
            scope = session.default_namespace
            session.console.note(f"note: {forbidden(missing[0])}, so the board shows namespace {scope} only")
    async with live_objects(session.cluster, scope, RESOURCE, BOOKING) as live:
        yield live, scope


@contextmanager
def redirect_file(url: str) -> Iterator[Path]:
    """Write a page that leads to an address, which only the user can read. It is removed at the end.

    The address has the token, and other users of the machine see command lines, such as that of a browser.
    """
    with tempfile.TemporaryDirectory(prefix="booking-board-") as directory:  # with mode 0700
        file = Path(directory) / "board.html"
        file.touch(mode=0o600)
        file.write_text(
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={url}">'
        )
        yield file
