"""Whatever arrives instead of a response, callers get only known errors."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from booking_operator.api.kinds import BOOKING
from booking_operator.engine.clock import SystemClock
from booking_operator.engine.leader_election import LeaseError
from booking_operator.engine.reflector import EventType, ListWatchError, ResourceExpiredError, WatchEvent
from booking_operator.kube import client as transport
from booking_operator.kube.client import KubeClient
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.kube.lease import KubeLeaseLock
from booking_operator.kube.list_watch import ListWatch
from tests.support import invalid_input

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


class RawServer:
    """Answers each request with raw bytes, which may not be HTTP, and closes the connection."""

    def __init__(self) -> None:
        self.reply = b""
        self.chunks: list[int] = []
        self.sent = 0
        self.endless = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            begin = 0
            for size in (*self.chunks, len(self.reply)):
                writer.write(self.reply[begin : begin + size])
                await writer.drain()
                begin += size
            while self.endless:
                writer.write(self.endless)
                self.sent += len(self.endless)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass  # the client has disconnected
        finally:
            writer.close()


@asynccontextmanager
async def raw(directory: Path) -> AsyncIterator[tuple[RawServer, KubeClient]]:
    made = RawServer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{made.port}"}}],
        "users": [{"name": "u", "user": {"token": "t0"}}],
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    try:
        async with KubeClient(ClusterConfig(str(path)), SystemClock()) as client:
            yield made, client
    finally:
        server.close()


async def watched(client: KubeClient, take: Callable[[WatchEvent[Any]], None] = lambda _: None) -> None:
    async with ListWatch(client, BOOKING).watch("1", 300) as stream:
        async for event in stream:
            take(event)


def read_all(directory: Path, *replies: tuple[bytes, list[int]]) -> None:
    """Watch, list, and read the Lease with each of the replies. Only known errors occur."""

    async def main() -> None:
        async with raw(directory) as (server, client):
            for server.reply, server.chunks in replies:
                for ask in (watched(client), ListWatch(client, BOOKING).list()):
                    with suppress(ListWatchError, ResourceExpiredError):
                        await ask
                with suppress(LeaseError):
                    await KubeLeaseLock(client, "ns", "lease", SystemClock()).get()

    asyncio.run(main())


def line(type_: str, object_: Any) -> bytes:
    return json.dumps({"type": type_, "object": object_}).encode() + b"\n"


ERRORS = st.fixed_dictionaries(
    {},
    optional={"code": invalid_input.VALUES, "message": invalid_input.VALUES, "details": invalid_input.VALUES},
)
METAS = st.fixed_dictionaries(
    {}, optional={"resourceVersion": invalid_input.VALUES, "annotations": invalid_input.VALUES}
)
LINES = st.one_of(
    st.just(line("ADDED", invalid_input.good(BOOKING, "a"))),
    invalid_input.garbled(line("MODIFIED", invalid_input.good(BOOKING, "a"))),
    ERRORS.map(lambda status: line("ERROR", status)),
    METAS.map(lambda meta: line("BOOKMARK", {"metadata": meta})),
    invalid_input.VALUES.map(lambda object_: line("BOOKMARK", object_)),
    invalid_input.TEXTS.map(lambda type_: line(type_, invalid_input.good(BOOKING, "a"))),
    st.sampled_from(
        [b"\n", b"\r\n", b"null\n", b"<html><body>502</body></html>\n", b"\xff\xfe\n", b"[]", b"{}\n"]
    ),
)
BODIES = st.lists(LINES | st.binary(max_size=40), max_size=5).map(b"".join)
HEADERS = st.sampled_from(
    [
        b"",
        b"Content-Encoding: gzip\r\n",
        b"Content-Encoding: deflate\r\n",
        b"Content-Encoding: br\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 10\r\n",
        b"Content-Length: 99999\r\n",
        b"Content-Length: -1\r\n",
        b"Date: yesterday\r\n",
        b"Date: Thu, 01 Jan 99999 00:00:00 GMT\r\n",
        b"X: \xff\r\n",
    ]
)
STATUSES = st.sampled_from(
    [
        b"200 OK",
        b"204 No Content",
        b"301 Moved",
        b"401 No",
        b"410 Gone",
        b"429 Slow",
        b"500 Oops",
        b"700 What",
        b"x",
    ]
)
AFTER = st.sampled_from([b"", b"Retry-After: 7\r\n", b"Retry-After: -1\r\n", b"Retry-After: soon\r\n"])
REPLIES = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda status, more, after, body: b"HTTP/1.1 " + status + b"\r\n" + more + after + b"\r\n" + body,
        STATUSES,
        HEADERS,
        AFTER,
        BODIES,
    ),
    st.builds(lambda more, body: HEAD + more + b"\r\n" + body, HEADERS, BODIES),
)


@settings(
    invalid_input.budget(40),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(replies=st.lists(st.tuples(REPLIES, st.lists(st.integers(1, 60), max_size=4)), min_size=1, max_size=6))
@example(replies=[(HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"{}")[:12], [])])
def test_any_reply_gives_a_result_or_a_known_error(
    tmp_path: Path, replies: list[tuple[bytes, list[int]]]
) -> None:
    read_all(tmp_path, *replies)


@pytest.mark.parametrize("chunk", [b"x" * 65536, b'{"type":"ADDED","object":{"a":"' + b"\\n" * 32768])
async def test_an_endless_line_fails_in_bounded_memory(tmp_path: Path, chunk: bytes) -> None:
    async with raw(tmp_path) as (server, client):
        server.reply, server.endless = HEAD + b"\r\n", chunk
        tracemalloc.start()
        try:
            with pytest.raises(ListWatchError, match="the request to the API server failed"):
                await watched(client)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 30 * 2**20
    assert server.sent < 40 * 2**20


@pytest.mark.parametrize("packed", [False, True])
async def test_an_endless_response_fails_in_bounded_memory(tmp_path: Path, packed: bool) -> None:
    async with raw(tmp_path) as (server, client):
        server.reply, server.endless = HEAD + b"\r\n", b"[" * 65536
        if packed:  # a gigabyte, compressed by a factor of a thousand
            server.reply = HEAD + b"Content-Encoding: gzip\r\n\r\n"
            server.endless = gzip.compress(b"[" * 2**24)
        with pytest.raises(ListWatchError, match="the response exceeds 16 MiB"):
            await ListWatch(client, BOOKING).list()
    assert server.sent < 300 * 2**20


async def test_events_before_a_failure_count(tmp_path: Path) -> None:
    async with raw(tmp_path) as (server, client):
        server.reply = HEAD + b"\r\n" + line("ADDED", invalid_input.good(BOOKING, "a")) + b"<html>\n"
        events: list[WatchEvent[Any]] = []
        with pytest.raises(ListWatchError, match="invalid response"):
            await watched(client, events.append)
    assert [(event.type, event.object and event.object.metadata.name) for event in events] == [
        (EventType.ADDED, "a")
    ]


@pytest.mark.parametrize("seconds", ["7", "86400", "9" * 400, "٣"])
async def test_any_retry_after_header_gives_a_valid_time(tmp_path: Path, seconds: str) -> None:
    async with raw(tmp_path) as (server, client):
        head = b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: "
        server.reply = head + seconds.encode() + b"\r\n\r\n"
        with pytest.raises(ListWatchError) as caught:
            await ListWatch(client, BOOKING).list()
    assert caught.value.retry_after >= 0  # the reflector waits for at most half a minute of it


async def test_no_redirect_is_followed(tmp_path: Path) -> None:
    """Only the API server may get the token."""
    async with raw(tmp_path) as (server, client):
        target = f"http://localhost:{server.port}/"
        server.reply = f"HTTP/1.1 307 Over there\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
        with pytest.raises(ListWatchError, match="HTTP 307"):
            await ListWatch(client, BOOKING).list()


def test_the_largest_response_has_room_for_several_of_the_largest_objects() -> None:
    assert transport.MAX_RESPONSE_BYTES > 7 * 2 * 2**20
