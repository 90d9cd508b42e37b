"""Tokens and certificates that are replaced while the operator runs."""

import asyncio
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from aiohttp import web
from kubernetes_asyncio.client.configuration import Configuration
from structlog.testing import capture_logs

from booking_operator.engine.clock import SystemClock
from booking_operator.kube.auth import LOAD_TIMEOUT_SECONDS, CredentialStore
from booking_operator.kube.client import KubeClient
from booking_operator.kube.errors import ApiError
from booking_operator.kube.kubeconfig import ClusterAccess, ClusterConfig, ConfigError
from tests.kube.test_list_watch import minimal_kubeconfig
from tests.support import virtual
from tests.support.virtual import VirtualClock


class Leaping(SystemClock):
    """The system clock, which a test can set forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Guard:
    """An API server that accepts clients with one of `tokens`. Its stream continues until a test ends it."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = set(tokens)
        self.seen: list[str] = []
        self.peers: list[Any] = []  # the client address of each request
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.seen.append(token)
        self.peers.append(request.transport and request.transport.get_extra_info("peername"))
        if token not in self.tokens:
            return web.json_response({"message": "Unauthorized"}, status=401)
        if request.path != "/stream":
            return web.json_response({})
        response = web.StreamResponse()
        await response.prepare(request)
        while line := await self.lines.get():
            await response.write(line)
        return response

    @asynccontextmanager
    async def served(self, context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[int]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
        try:
            yield port
        finally:
            await runner.cleanup()


def kubeconfig(directory: Path, server: str, user: dict[str, Any], **cluster: str) -> ClusterConfig:
    whole = minimal_kubeconfig(server)
    whole["users"][0]["user"] = user
    whole["clusters"][0]["cluster"] |= cluster
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(whole))
    return ClusterConfig(str(path))


def certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def pod(directory: Path, port: int) -> ClusterConfig:
    """The configuration of a pod: two files, and the address of the API server in the environment."""
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
    return ClusterConfig(environ=environ, service_account=directory)


@pytest.fixture
def guard() -> Guard:
    return Guard("t0")


async def test_a_token_file_is_read_again_each_minute_and_streams_continue(
    guard: Guard, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("t0\n")
    clock = Leaping()
    async with (
        guard.served(),
        KubeClient(kubeconfig(tmp_path, guard.url, {"tokenFile": "token"}), clock) as client,
        client.stream("/stream", ()) as lines,
    ):
        guard.tokens.add("t1")
        (tmp_path / "token").write_text("t1\n")
        await client.request("GET", "/")
        clock.ahead = 59
        await client.request("GET", "/")
        clock.ahead = 61
        await client.request("GET", "/")
        guard.lines.put_nowait(b"still here\n")
        assert await anext(lines) == b"still here\n"
        guard.lines.put_nowait(b"")
    assert guard.seen == ["t0", "t0", "t0", "t1"]


async def test_connections_are_reused_with_a_new_token_but_not_with_a_new_ca(
    guard: Guard, tmp_path: Path
) -> None:
    (one, other), clock = (trustme.CA(), trustme.CA()), Leaping()
    (tmp_path / "token").write_text("t0")
    one.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    guard.tokens.add("t1")
    connections: list[object] = []

    async def ask(client: KubeClient) -> None:
        await client.request("GET", "/")
        connections.append(guard.peers[-1])

    async with guard.served(certified(one)) as port, KubeClient(pod(tmp_path, port), clock) as client:
        await ask(client)
        (tmp_path / "token").write_text("t1")
        clock.ahead = 61
        await ask(client)
        (tmp_path / "ca.crt").write_bytes(one.cert_pem.bytes() + other.cert_pem.bytes())
        clock.ahead = 122
        await ask(client)
    assert guard.seen == ["t0", "t1", "t1"]
    first, second, third = connections
    assert first == second != third


async def test_a_refused_token_is_read_again_immediately(guard: Guard, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0")
    async with (
        guard.served(),
        KubeClient(kubeconfig(tmp_path, guard.url, {"tokenFile": "token"}), Leaping()) as client,
    ):
        guard.tokens = {"t1"}
        with pytest.raises(ApiError, match="401"):
            await client.request("GET", "/")
        (tmp_path / "token").write_text("t1")
        await client.request("GET", "/")
    # If the token in the file has not changed, the request is not sent again.
    assert guard.seen == ["t0", "t0", "t1"]


@pytest.mark.parametrize("broken", ["", None])
async def test_an_empty_or_missing_token_file_keeps_the_old_token(
    guard: Guard, tmp_path: Path, broken: str | None
) -> None:
    file = tmp_path / "token"
    file.write_text("t0")
    clock = Leaping()
    async with (
        guard.served(),
        KubeClient(kubeconfig(tmp_path, guard.url, {"tokenFile": "token"}), clock) as client,
    ):
        file.unlink() if broken is None else file.write_text(broken)
        clock.ahead = 61
        await client.request("GET", "/")
        guard.tokens = {"t1"}
        with pytest.raises(ApiError, match="401"):
            await client.request("GET", "/")
        file.write_text("t1")
        clock.ahead = 122
        await client.request("GET", "/")


async def test_a_plugin_runs_once_for_all_refused_requests_and_may_fail(guard: Guard, tmp_path: Path) -> None:
    runs, token = tmp_path / "runs", tmp_path / "token"
    plugin = tmp_path / "plugin"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    plugin.write_text(
        f"#!{sys.executable}\nimport json\nopen({str(runs)!r}, 'a').write('x')\n"
        f"token = open({str(token)!r}).read()\n"
        f"print(json.dumps({answer!r} | {{'status': {{'token': token}}}}))\n"
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    token.write_text("t0")
    user = {"exec": {"apiVersion": answer["apiVersion"], "command": str(plugin)}}
    async with guard.served(), KubeClient(kubeconfig(tmp_path, guard.url, user), Leaping()) as client:
        guard.tokens = {"t1"}
        token.unlink()
        with pytest.raises(ApiError, match="401"):
            await client.request("GET", "/")
        token.write_text("t1")
        runs.write_text("")
        await asyncio.gather(*(client.request("GET", "/") for _ in range(5)))
    assert runs.read_text() == "x"


def test_a_hanging_plugin_times_out_and_is_reported() -> None:
    class Plugged(ClusterConfig):
        hangs = False

        async def load(self) -> ClusterAccess:
            if self.hangs:
                await asyncio.Future[Any]()
            return ClusterAccess(Configuration())

    async def main() -> float:
        config = Plugged()
        keyring = CredentialStore(config, VirtualClock())
        used = await keyring.open()
        config.hangs = True
        with capture_logs() as logs:
            assert await keyring.renew(used, "the API server responded with 401 Unauthorized") is used
        assert [entry["event"] for entry in logs] == ["credentials_reload_failed"]
        with pytest.raises(ConfigError, match="exec plugin or OIDC"):
            await keyring.open()
        return asyncio.get_running_loop().time()

    assert virtual.run(main()) == 2 * LOAD_TIMEOUT_SECONDS


@pytest.mark.parametrize("first_both", [True, False], ids=["the old one with it first", "replaced at once"])
async def test_a_new_ca_is_trusted_once_it_is_in_the_file(tmp_path: Path, first_both: bool) -> None:
    guard, old, new = Guard("t0"), trustme.CA(), trustme.CA()
    (tmp_path / "token").write_text("t0")
    file, clock = tmp_path / "ca.crt", Leaping()
    file.write_bytes(old.cert_pem.bytes())
    async with AsyncExitStack() as stack:
        before = await stack.enter_async_context(AsyncExitStack())
        port = await before.enter_async_context(guard.served(certified(old)))
        client = await stack.enter_async_context(KubeClient(pod(tmp_path, port), clock))
        async with client.stream("/stream", ()) as lines:
            if first_both:
                file.write_bytes(old.cert_pem.bytes() + new.cert_pem.bytes())
                clock.ahead = 61
            await client.request("GET", "/")
            guard.lines.put_nowait(b"still here\n")
            assert await anext(lines) == b"still here\n"
            guard.lines.put_nowait(b"")
        await before.aclose()
        await stack.enter_async_context(guard.served(certified(new), port))
        if not first_both:
            with pytest.raises(ApiError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.request("GET", "/")
            file.write_bytes(new.cert_pem.bytes())
        await client.request("GET", "/")
    assert set(guard.seen) == {"t0"}


async def test_an_invalid_ca_file_keeps_the_old_ca(tmp_path: Path) -> None:
    guard, authority, clock = Guard("t0"), trustme.CA(), Leaping()
    (tmp_path / "token").write_text("t0")
    (tmp_path / "ca.crt").write_bytes(authority.cert_pem.bytes())
    async with guard.served(certified(authority)) as port, KubeClient(pod(tmp_path, port), clock) as client:
        (tmp_path / "ca.crt").write_text("half of a cert")
        clock.ahead = 61
        await client.request("GET", "/")
    assert guard.seen == ["t0"]


async def test_a_missing_file_of_a_pod_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the pod's ServiceAccount: Service token file does not exist"):
        await pod(tmp_path, 443).load()


def test_the_namespace_comes_from_the_environment_or_the_file(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("team-a")
    assert pod(tmp_path, 443).namespace() == "team-a"
    environ = {"POD_NAMESPACE": "team-b"}
    assert ClusterConfig(environ=environ, service_account=tmp_path).namespace() == "team-b"
