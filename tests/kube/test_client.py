"""The transport: what a replica that does not lead may ask of the API server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from booking_operator.engine.clock import SystemClock
from booking_operator.kube.client import KubeClient
from booking_operator.kube.config import ClusterConfig
from booking_operator.kube.errors import ApiError


class Server:
    """Says yes to everything, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.method)
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
async def test_what_writes_is_sent_only_by_who_leads(
    server: Server, tmp_path: Path, method: str, *, live: bool
) -> None:
    cluster = ClusterConfig(str(tmp_path / "kubeconfig"))
    async with KubeClient(cluster, SystemClock(), lambda: live) as client:
        await client.request("GET", "/api")
        if live:
            await client.request(method, "/api", body={"kind": "Lease"})
        else:
            with pytest.raises(ApiError, match="does not lead"):
                await client.request(method, "/api", body={"kind": "Lease"})
    assert server.asked == (["GET", method] if live else ["GET"])


async def test_the_namespace_is_that_of_the_pod_or_of_the_context(server: Server, tmp_path: Path) -> None:
    file = str(tmp_path / "kubeconfig")
    assert ClusterConfig(file, environ={"POD_NAMESPACE": "pod"}).namespace() == "pod"
    assert ClusterConfig(file, environ={}).namespace() == "mine"
    assert ClusterConfig(file, "test", environ={}).namespace() == "mine"
    assert ClusterConfig(str(tmp_path / "none"), environ={}).namespace() == "default"
    assert server.asked == []
