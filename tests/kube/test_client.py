"""The client: request limits, connections, and the fence of a replica that does not lead."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from booking_operator.api.kinds import KINDS
from booking_operator.engine.clock import SystemClock
from booking_operator.kube import client as transport
from booking_operator.kube.client import KubeClient
from booking_operator.kube.errors import ApiError
from booking_operator.kube.http_session import CONNECTIONS
from booking_operator.kube.kubeconfig import ClusterConfig


class Server:
    """Accepts and records all requests. It holds back methods in `holds` until `held` is set."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.held: asyncio.Event | None = None
        self.holds = {"PATCH"}
        self.under_way = 0
        self.expected = 0
        self.full = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request.method)
        self.under_way += 1
        if self.under_way == self.expected:
            self.full.set()
        if self.held and request.method in self.holds:
            await self.held.wait()
        self.under_way -= 1
        return web.json_response({})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server, app = Server(), web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config: dict[str, Any] = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "mine"}}],
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    yield server
    await runner.cleanup()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_only_the_leader_sends_writes(
    server: Server, tmp_path: Path, method: str, *, live: bool
) -> None:
    cluster = ClusterConfig(str(tmp_path / "kubeconfig"))
    async with KubeClient(cluster, SystemClock(), lambda: live) as client:
        await client.request("GET", "/api")
        if live:
            await client.request(method, "/api", body={"kind": "Lease"})
        else:
            with pytest.raises(ApiError, match="is not the leader"):
                await client.request(method, "/api", body={"kind": "Lease"})
    assert server.requests == (["GET", method] if live else ["GET"])


async def test_reads_do_not_wait_for_writes(server: Server, tmp_path: Path) -> None:
    cluster, server.held = ClusterConfig(str(tmp_path / "kubeconfig")), asyncio.Event()
    server.expected = transport.MAX_REQUESTS - transport.RESERVED
    async with KubeClient(cluster, SystemClock()) as client, asyncio.TaskGroup() as tasks:
        for _ in range(2000):
            tasks.create_task(client.request("PATCH", "/api", body={}))
        async with asyncio.timeout(20):
            await server.full.wait()
            await asyncio.gather(*(client.request("GET", "/api") for _ in range(3 * transport.RESERVED)))
            assert server.requests.count("PATCH") == server.expected
            server.held.set()
    assert server.requests.count("PATCH") == 2000


async def test_the_pool_has_a_connection_for_all_requests_in_flight(server: Server, tmp_path: Path) -> None:
    """In aiohttp, the timeout of a request includes the wait for a connection from the pool."""
    watches = len(KINDS)
    assert transport.MAX_REQUESTS + watches <= CONNECTIONS
    cluster, server.held = ClusterConfig(str(tmp_path / "kubeconfig")), asyncio.Event()
    server.holds, server.expected = {"GET"}, transport.MAX_REQUESTS + watches
    async with KubeClient(cluster, SystemClock()) as client, asyncio.TaskGroup() as tasks:
        for _ in range(watches):
            tasks.create_task(streamed(client))
        for _ in range(transport.MAX_REQUESTS):
            tasks.create_task(client.request("GET", "/api"))
        async with asyncio.timeout(20):
            await server.full.wait()
        server.held.set()


async def streamed(client: KubeClient) -> None:
    async with client.stream("/api", ()) as lines:
        async for _ in lines:
            pass


async def test_the_namespace_is_that_of_the_pod_or_of_the_context(server: Server, tmp_path: Path) -> None:
    file = str(tmp_path / "kubeconfig")
    assert ClusterConfig(file, environ={"POD_NAMESPACE": "pod"}).namespace() == "pod"
    assert ClusterConfig(file, environ={}).namespace() == "mine"
    assert ClusterConfig(file, "test", environ={}).namespace() == "mine"
    assert ClusterConfig(str(tmp_path / "none"), environ={}).namespace() == "default"
    assert server.requests == []
