"""Webhooks with a server that fails, hangs and redirects."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web
from pydantic import SecretStr

from booking_operator.config import Target
from booking_operator.domain.notification import BusyError, DeliveryError, Notification
from booking_operator.notify import turns, webhook
from booking_operator.notify.channels import open_channels
from booking_operator.notify.email import SmtpConfig
from booking_operator.notify.webhook import WebhookChannel, slack_body
from tests.support.virtual import EPOCH, VirtualClock

END = datetime.fromisoformat("2026-01-31T21:00:00+01:00")
NOTICE = Notification("0123abcd", "team", "night", "analytics", "<!channel> & co", END)


class Receiver:
    """An HTTP server whose answers a test sets."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.hang = False
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.visits: list[str] = []
        self.hosts: list[str] = []
        self.retry_after: str | None = None
        self.expected = 0
        self.under_way = self.most = 0
        self.open = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        self.visits.append(request.path)
        self.hosts.append(request.host)
        if self.hang:
            await asyncio.sleep(60)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way >= self.expected:
            self.open.set()
        await self.open.wait()
        self.under_way -= 1
        self.bodies.append(await request.json())
        self.keys.append(request.headers["Idempotency-Key"])
        headers = {"Location": f"{self.url}/elsewhere"}
        if self.retry_after is not None:
            headers["Retry-After"] = self.retry_after
        return web.Response(status=self.status, headers=headers)


@asynccontextmanager
async def receiver(trust: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust).start()
    host, port = runner.addresses[0][:2]
    made.url = f"https://localhost:{port}" if trust else f"http://{host}:{port}"
    try:
        yield made
    finally:
        await runner.cleanup()


def targets(url: str) -> dict[str, Target]:
    hook = {"url": f"{url}/hook?token=secret"}
    return {"ci": Target(type="webhook", **hook), "ops": Target(type="slack", **hook)}


async def deliver(url: str, kind: str = "webhook", recipient: str = "ci") -> None:
    async with open_channels(None, targets(url), VirtualClock()) as channels:
        await channels[kind].deliver(NOTICE, recipient)


async def refused(url: str, kind: str = "webhook", recipient: str = "ci") -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await deliver(url, kind, recipient)
    assert "secret" not in str(caught.value)
    return caught.value


async def test_a_webhook_gets_all_fields() -> None:
    async with receiver() as made:
        await deliver(made.url)
    (body,) = made.bodies
    assert body["event"] == "booking_ending"
    assert body["end_at"] == "2026-01-31T21:00:00+01:00"
    assert (body["namespace"], body["booking"], body["resource"]) == ("team", "night", "analytics")
    assert made.keys == [body["id"]] == ["0123abcd"]


async def test_slack_gets_a_text_without_mentions() -> None:
    async with receiver() as made:
        await deliver(made.url, "slack", "ops")
    assert made.bodies == [slack_body(NOTICE)]
    assert "&lt;!channel&gt; &amp; co" in made.bodies[0]["text"]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 429, 500, 503])
async def test_anything_but_2xx_is_a_failure_and_no_redirect_is_followed(status: int) -> None:
    async with receiver() as made:
        made.status = status
        error = await refused(made.url)
    assert (error.reason, error.retryable) == ("TargetRefused", True)
    assert str(status) in str(error)
    assert made.visits == ["/hook"]


@pytest.mark.parametrize("status", [404, 410])
async def test_a_target_that_does_not_exist_is_not_retried(status: int) -> None:
    async with receiver() as made:
        made.status = status
        error = await refused(made.url)
    assert (error.reason, error.retryable) == ("TargetRefused", False)
    assert f"HTTP {status}" in str(error)
    assert "the operator's configuration" in str(error)
    assert made.url not in str(error)


class SetClock(VirtualClock):
    """A clock that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def now(self) -> datetime:
        return self.epoch + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed


def after(seconds: float) -> str:
    return format_datetime(EPOCH + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        ("86400", 300),
        ("9" * 400, 300),
        (after(90), 90),
        (after(86400), 300),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 300),
        (after(90).replace("GMT", "-0000"), 90),
    ],
)
async def test_retry_after_is_respected(status: int, retry_after: str, seconds: float) -> None:
    clock = SetClock()
    async with receiver() as made, open_channels(None, targets(made.url), clock) as channels:
        made.status, made.retry_after = status, retry_after
        with pytest.raises(DeliveryError) as caught:
            await channels["webhook"].deliver(NOTICE, "ci")
        assert (caught.value.reason, caught.value.retryable) == ("TargetRefused", True)
        assert caught.value.retry_at == EPOCH + timedelta(seconds=seconds)
        made.status, clock.passed = 200, seconds - 1
        with pytest.raises(BusyError) as busy:
            await channels["webhook"].deliver(NOTICE, "ci")
        assert busy.value.retry_at == EPOCH + timedelta(seconds=seconds)
        await channels["slack"].deliver(NOTICE, "ops")
        assert len(made.visits) == 2
        clock.passed = seconds
        await channels["webhook"].deliver(NOTICE, "ci")
        assert len(made.visits) == 3


@pytest.mark.parametrize(
    ("status", "retry_after"),
    [
        (429, "soon"),
        (429, "-1"),
        (429, "0"),
        (503, after(-5)),
        (429, "1.5"),
        (429, "\u0663"),
        (500, "7"),
        (429, ""),
    ],
)
async def test_an_invalid_retry_after_leaves_the_delay_to_the_back_off(status: int, retry_after: str) -> None:
    async with receiver() as made, open_channels(None, targets(made.url), SetClock()) as channels:
        made.status, made.retry_after = status, retry_after
        for _ in range(2):
            with pytest.raises(DeliveryError) as caught:
                await channels["webhook"].deliver(NOTICE, "ci")
            assert (caught.value.reason, caught.value.retry_at) == ("TargetRefused", None)
        assert len(made.visits) == 2


async def test_posts_to_one_target_wait_for_their_turn_and_not_in_the_pool() -> None:
    """In aiohttp, the wait for a connection of the pool counts towards the timeout of the post."""
    async with receiver() as made, open_channels(None, targets(made.url), VirtualClock()) as channels:
        made.expected = webhook.CONNECTIONS
        async with asyncio.TaskGroup() as tasks:
            for _ in range(10 * webhook.CONNECTIONS):
                tasks.create_task(channels["webhook"].deliver(NOTICE, "ci"))
    assert (made.most, len(made.bodies)) == (webhook.CONNECTIONS, 10 * webhook.CONNECTIONS)


async def test_a_hanging_target_takes_no_connections_of_others() -> None:
    async with receiver() as made:
        many = {str(number): targets(made.url)["ci"] for number in range(20)}
        made.expected = len(many) * webhook.CONNECTIONS
        async with open_channels(None, many, VirtualClock()) as channels, asyncio.TaskGroup() as tasks:
            for name in many:
                for _ in range(webhook.CONNECTIONS):
                    tasks.create_task(channels["webhook"].deliver(NOTICE, name))
    assert made.most == made.expected


async def test_a_post_without_a_turn_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_TIMEOUT_SECONDS", 0.05)
    async with receiver() as made, open_channels(None, targets(made.url), VirtualClock()) as channels:
        made.expected = 1000
        async with asyncio.TaskGroup() as tasks:
            for _ in range(webhook.CONNECTIONS):
                tasks.create_task(channels["webhook"].deliver(NOTICE, "ci"))
            await asyncio.sleep(0)
            with pytest.raises(BusyError):
                await channels["webhook"].deliver(NOTICE, "ci")
            made.open.set()
    assert len(made.visits) == webhook.CONNECTIONS


async def test_a_hanging_target_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    async with receiver() as made:
        made.hang = True
        error = await refused(made.url)
    assert error.reason == "TargetUnreachable"


async def test_an_unreachable_target_is_reported_without_its_url() -> None:
    assert (await refused("http://127.0.0.1:1")).reason == "TargetUnreachable"


@pytest.mark.parametrize("host", ["hooks..example.com", f"{'a' * 64}.example.com"])
async def test_an_invalid_host_is_reported_without_its_url(host: str) -> None:
    """The configuration file refuses such a host, but it may still come from elsewhere."""
    url = SecretStr(f"https://{host}/hook?token=secret")
    async with aiohttp.ClientSession() as http:
        found = {"ci": Target.model_construct(type="webhook", url=url)}
        channel = WebhookChannel("webhook", found, http, VirtualClock())
        with pytest.raises(DeliveryError) as caught:
            await channel.deliver(NOTICE, "ci")
    assert (caught.value.reason, caught.value.retryable) == ("TargetUnreachable", True)
    # From Python 3.13 on, it is a UnicodeEncodeError.
    assert re.fullmatch("ci: the request failed: Unicode(Encode)?Error", str(caught.value))


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize(("kind", "recipient"), [("webhook", "ci"), ("slack", "ops")])
async def test_a_target_is_reached_through_the_proxy_of_the_environment(
    kind: str, recipient: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as proxy, receiver() as direct:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        await deliver("http://hooks.invalid", kind, recipient)
        assert (proxy.hosts, len(proxy.bodies)) == (["hooks.invalid"], 1)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        await deliver(direct.url, kind, recipient)
        assert (len(proxy.bodies), len(direct.bodies)) == (1, 1)


@pytest.mark.usefixtures("_no_proxies")
async def test_the_refusal_of_a_proxy_tunnel_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        host, port = proxy.sockets[0].getsockname()
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}:{port}")
        assert (await refused("https://hooks.invalid")).reason == "TargetUnreachable"
    assert lines == [b"CONNECT hooks.invalid:443 HTTP/1.1\r\n"]


@pytest.mark.parametrize("recipient", ["http://169.254.169.254/", "other", "ops", ""])
async def test_only_configured_targets_of_the_kind_are_called(recipient: str) -> None:
    async with receiver() as made:
        error = await refused(made.url, "webhook", recipient)
    assert (error.reason, error.retryable) == ("UnknownTarget", False)
    assert not made.visits


async def test_mail_is_a_channel_if_a_server_is_configured() -> None:
    async with open_channels(None, {}, VirtualClock()) as channels:
        assert set(channels) == {"webhook", "slack"}
    async with open_channels(SmtpConfig("h", "a@example.com"), {}, VirtualClock()) as channels:
        assert set(channels) == {"webhook", "slack", "email"}


async def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(trust)
    async with receiver(trust) as made:
        assert (await refused(made.url)).reason == "TargetUnreachable"
    assert not made.visits


async def test_an_endless_response_is_not_read() -> None:
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()  # the client has disconnected

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        await deliver(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert sent < 50 * 2**20


@pytest.mark.parametrize(
    "recipient",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://kubernetes.default.svc/api",
        "http://127.0.0.1:8080/metrics",
        "ci\n",
        "ci/../ops",
        "",
    ],
)
async def test_a_tenant_can_name_a_target_but_not_an_address(recipient: str) -> None:
    async with receiver() as made:
        assert (await refused(made.url, recipient=recipient)).reason == "UnknownTarget"
    assert not made.visits
