"""The command `kubectl booking board` without the page: the redirect file, and the idle time."""

import asyncio
import stat

from booking_operator.board.server import BoardServer
from booking_operator.cli.kubectl.board import redirect_file
from tests.board.test_server import board
from tests.support.virtual import VirtualClock, run


def test_only_the_user_can_read_the_address() -> None:
    with redirect_file("http://127.0.0.1:1/#secret") as file:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert "url=http://127.0.0.1:1/#secret" in file.read_text()
    assert not file.exists()
    assert not file.parent.exists()


def test_a_server_counts_the_time_without_a_request() -> None:
    async def main() -> float:
        server = BoardServer(None, VirtualClock())  # type: ignore[arg-type]
        await asyncio.sleep(12 * 3600)
        return server.idle_seconds

    assert run(main()) == 12 * 3600


async def test_an_open_page_is_not_idle() -> None:
    async with board() as page:
        url = f"http://{page.rules.host}/api/events"
        async with page.http.get(url, headers=page.headers) as stream:
            await stream.content.readuntil(b"\n\n")
            assert page.server.idle_seconds == 0
