"""ListWatch and the client with a scripted HTTP API: all answers of an API server or a proxy."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING
from booking_operator.api.meta import InvalidSpec
from booking_operator.engine.clock import SystemClock
from booking_operator.engine.reflector import EventType, ListWatchError, ResourceExpiredError, WatchEvent
from booking_operator.kube import client as transport
from booking_operator.kube.client import KubeClient
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.kube.list_watch import ListWatch

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def booking(name: str, version: int, **spec: Any) -> dict[str, Any]:
    whole = {
        "resource_name": "r",
        "start_at": "2026-01-01T09:00:00Z",
        "end_at": "2026-01-01T10:00:00Z",
        "user_id": "ada",
    }
    return {
        "apiVersion": BOOKING.api_version,
        "kind": "Booking",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"u-{name}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {**whole, **spec},
    }


def event(type_: str, object_: dict[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": object_}).encode() + b"\n"


BOOKMARK = event(
    "BOOKMARK", {"kind": "Booking", "metadata": {"resourceVersion": "9", "creationTimestamp": None}}
)


@asynccontextmanager
async def serving(handler: Handler, directory: Path) -> AsyncIterator[ListWatch[Booking]]:
    """A ListWatch whose API server answers every request with `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(minimal_kubeconfig(f"http://{host}:{port}")))
    try:
        async with KubeClient(ClusterConfig(str(kubeconfig)), SystemClock()) as client:
            yield ListWatch(client, BOOKING)
    finally:
        await runner.cleanup()


def minimal_kubeconfig(server: str, token: str = "t0") -> dict[str, Any]:  # noqa: S107
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }


def answering(status: int, body: str | bytes, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return handler


def streaming(*chunks: bytes, hang: bool = False, cut: bool = False) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if hang:
            await asyncio.sleep(3600)
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return handler


async def watched(source: ListWatch[Booking]) -> list[WatchEvent[Booking]]:
    async with source.watch("1", 300) as events:
        return [found async for found in events]


async def test_a_list_in_pages(tmp_path: Path) -> None:
    queries: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        queries.append(dict(request.query))
        last = "continue" in request.query
        meta = {"resourceVersion": "7"} | ({} if last else {"continue": "next"})
        return web.json_response({"metadata": meta, "items": [booking("b" if last else "a", 5)]})

    async with serving(handler, tmp_path) as source:
        first = await source.list()
        second = await source.list(first.token)
    assert [item.metadata.name for item in first.items + second.items] == ["a", "b"]
    assert (first.token, second.token, second.resource_version) == ("next", "", "7")
    assert queries == [{"limit": "500"}, {"limit": "500", "continue": "next"}]


async def test_a_watch_reports_changes_and_bookmarks(tmp_path: Path) -> None:
    chunks = (
        event("ADDED", booking("a", 5)),
        BOOKMARK[:20],
        BOOKMARK[20:],
        event("DELETED", booking("a", 8)),
    )
    async with serving(streaming(*chunks), tmp_path) as source:
        events = await watched(source)
    assert [(found.type, found.resource_version) for found in events] == [
        (EventType.ADDED, "5"),
        (EventType.BOOKMARK, "9"),
        (EventType.DELETED, "8"),
    ]


async def test_an_invalid_object_does_not_fail_the_list(tmp_path: Path) -> None:
    items = [booking("good", 1), booking("bad", 2, start_at="soon"), {**booking("none", 3), "spec": None}]
    handler = answering(200, json.dumps({"metadata": {"resourceVersion": "3"}, "items": items}))
    async with serving(handler, tmp_path) as source:
        good, bad, none = (await source.list()).items
    assert good.interval() is not None
    assert isinstance(bad.spec, InvalidSpec)
    assert bad.spec.message.startswith(
        "spec.start_at: 'soon' is not an RFC 3339 date; use a value like 2026-"
    )
    assert isinstance(none.spec, InvalidSpec)


STATUS_410 = {"kind": "Status", "code": 410, "message": "too old resource version: 1 (9)"}
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"


@pytest.mark.parametrize(
    ("handler", "error", "text"),
    [
        (answering(410, json.dumps(STATUS_410)), ResourceExpiredError, "too old"),
        (streaming(event("ERROR", STATUS_410)), ResourceExpiredError, "too old"),
        (answering(429, "slow down", **{"Retry-After": "7"}), ListWatchError, "HTTP 429: slow down"),
        (answering(500, json.dumps({"message": "etcd is away"})), ListWatchError, "HTTP 500: etcd is away"),
        (answering(502, HTML), ListWatchError, "HTTP 502: <html>"),
        (answering(200, HTML), ListWatchError, "invalid response"),
        (streaming(b'{"type":"ADDED","object":{"metada'), ListWatchError, "invalid response"),
        (
            streaming(event("ADDED", booking("a", 5))[:-30], cut=True),
            ListWatchError,
            "the request to the API server failed",
        ),
        (streaming(event("ERROR", {"code": 500, "message": "boom"})), ListWatchError, "boom"),
    ],
)
async def test_errors_of_a_watch(handler: Handler, error: type[Exception], text: str, tmp_path: Path) -> None:
    async with serving(handler, tmp_path) as source:
        with pytest.raises(error, match=text):
            await watched(source)


async def test_retry_after_is_passed_on(tmp_path: Path) -> None:
    async with serving(answering(429, "", **{"Retry-After": "7"}), tmp_path) as source:
        with pytest.raises(ListWatchError) as caught:
            await source.list()
    assert caught.value.retry_after == 7


async def test_an_instant_close_is_an_empty_watch(tmp_path: Path) -> None:
    async with serving(streaming(), tmp_path) as source:
        assert await watched(source) == []


async def test_a_silent_watch_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WATCH_TIMEOUT", aiohttp.ClientTimeout(sock_read=0.2))
    async with serving(streaming(hang=True), tmp_path) as source:
        with pytest.raises(ListWatchError, match="the request to the API server failed"):
            await watched(source)


@pytest.mark.parametrize(
    ("status", "fix"), [(404, "kubectl apply -k manifests/crds"), (403, "grant list and watch")]
)
async def test_a_missing_crd_and_a_refused_permission_name_the_fix(
    status: int, fix: str, tmp_path: Path
) -> None:
    async with serving(answering(status, json.dumps({"message": "no"})), tmp_path) as source:
        with pytest.raises(ListWatchError, match=fix) as caught:
            await source.list()
    assert caught.value.stale_reason


async def test_a_closed_port_is_reported(tmp_path: Path) -> None:
    async with serving(answering(200, ""), tmp_path) as source:
        client = source._client
        client._keyring.current().configuration.host = "http://127.0.0.1:9"
        with pytest.raises(ListWatchError, match="the request to the API server failed"):
            await source.list()


async def test_an_expired_token_is_read_again(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer t1":
            server = f"http://{request.host}"
            (tmp_path / "kubeconfig").write_text(yaml.safe_dump(minimal_kubeconfig(server, "t1\n")))
            return web.json_response({"message": "Unauthorized"}, status=401)
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    async with serving(handler, tmp_path) as source:
        assert (await source.list()).resource_version == "1"


async def test_an_abandoned_watch_closes_its_connection(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event("ADDED", booking("a", 5)))
        try:
            while True:
                await response.write(BOOKMARK)
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    async with serving(handler, tmp_path) as source:
        async with source.watch("1", 300) as events:
            async for _ in events:
                break
        async with asyncio.timeout(10):
            await gone.wait()


async def test_requests_beyond_the_limit_wait_and_none_is_lost(tmp_path: Path) -> None:
    waiting, most, open_ = 0, 0, asyncio.Event()

    async def handler(_: web.Request) -> web.StreamResponse:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        if waiting == transport.MAX_REQUESTS:
            open_.set()
        await open_.wait()
        waiting -= 1
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    async with serving(handler, tmp_path) as source:
        pages = await asyncio.gather(*(source.list() for _ in range(3 * transport.MAX_REQUESTS)))
    assert len(pages) == 3 * transport.MAX_REQUESTS
    assert most == transport.MAX_REQUESTS
