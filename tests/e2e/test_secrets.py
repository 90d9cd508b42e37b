"""Secrets do not appear in logs, Events, statuses or metrics, even at debug level and after failures."""

import asyncio
import json
import socketserver
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from booking_operator.devcluster.process import ChildProcess, free_port
from tests.e2e.conftest import Tenant, soon, until

KEY, SESSION = "hunter2AWSsecretKEY", "hunter2AWSsessionTOKEN"
SMTP, HOOK, BAD_TOKEN = "hunter2SMTPpassword", "hunter2HOOKtoken", "hunter2APIbadTOKEN"
KINDS = "bookings,bookingschedulers,resources,resourcemonitors,events"
BROKEN = f"targets:\n  hook:\n    url: https://{HOOK}: x\n"


class Refusing(BaseHTTPRequestHandler):
    """A webhook that answers with status 500."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(500, "no")

    def log_message(self, *_: Any) -> None:
        pass


class Relay(socketserver.StreamRequestHandler):
    """An SMTP server that refuses every password."""

    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        answers = {
            b"EHLO": b"250-relay\r\n250 AUTH PLAIN LOGIN\r\n",
            b"AUTH": b"535 5.7.8 credentials invalid\r\n",
        }
        for line in self.rfile:
            self.wfile.write(answers.get(line[:4].upper(), b"221 bye\r\n"))


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kubeconfig(tenant: Tenant, path: Path, token: str) -> str:
    """Write the playground's kubeconfig, with `token` if there is one; returns what token is in it."""
    whole = yaml.safe_load(tenant.devcluster.kubeconfig.read_text())
    user = whole["users"][0]["user"]
    used = token or user["token"]
    path.write_text(yaml.safe_dump(whole | {"users": [{**whole["users"][0], "user": {"token": used}}]}))
    return str(used)


def leaked(secrets: Sequence[str], text: str) -> list[str]:
    return [line for line in text.splitlines() if any(secret in line for secret in secrets)]


NOTIFIED = (
    ("webhook", "hook"),
    ("webhook", "nobody-there"),
    ("slack", "chat"),
    ("email", "ada@example.com"),
)


def configuration(port: int) -> dict[str, Any]:
    """Targets with secrets in their URLs, as those of Slack have."""
    url = f"http://127.0.0.1:{port}/services/{HOOK}?token={HOOK}"
    role = "arn:aws:iam::123456789012:role/booking-operator"
    return {
        "targets": {
            "hook": {"type": "webhook", "url": url},
            "nobody-there": {"type": "webhook", "url": f"http://user:{HOOK}@127.0.0.1:1/{HOOK}"},
            "chat": {"type": "slack", "url": url},
        },
        "accounts": {"acme": {"role_arn": role, "external_id": "an-id", "regions": ["eu-central-1"]}},
    }


def environ(tenant: Tenant, relay: int, directory: Path) -> dict[str, str]:
    return {
        **tenant.devcluster.environ,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_SESSION_TOKEN": SESSION,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(relay),
        "SMTP_SENDER": "bookings@example.com",
        "SMTP_USER": "bookings",
        "SMTP_PASSWORD": SMTP,
        "SMTP_SECURITY": "none",
        "KUBECONFIG": str(directory / "kubeconfig"),
        "BOOKING_OPERATOR_CONFIG": str(directory / "config.yaml"),
    }


async def failing(tenant: Tenant, process: ChildProcess, directory: Path, port: int) -> str:
    """Make everything fail that can fail; return the metrics."""
    await until(lambda: "HTTP 401" in process.log.read_text())
    kubeconfig(tenant, directory / "kubeconfig", "")
    await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
    await until(lambda: process.log.read_text().count("notification_failed") >= len(NOTIFIED))
    await until(lambda: tenant.condition("booking", "bk", "Notified")[0] == "False")
    await until(lambda: tenant.condition("resource", "far", "Synced")[0] == "False")
    return await asyncio.to_thread(page, f"http://127.0.0.1:{port}/metrics")


def page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - the URL of the operator
        return str(answer.read().decode())


@pytest.mark.parametrize("format_", ["json", "console"])
async def test_no_secret_is_revealed(tenant: Tenant, tmp_path: Path, format_: str) -> None:
    tenant.resource()
    tenant.resource("far", account="acme", region="eu-west-1")
    tenant.booking("bk", soon(-60), soon(600))
    patch = json.dumps(
        {"spec": {"notifications": [{"type": kind, "recipient": to} for kind, to in NOTIFIED]}}
    )
    tenant.kubectl("patch", "booking", "bk", "--type=merge", "-p", patch)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "booking_operator",
        "run",
        f"--log-format={format_}",
        "--log-level=debug",
    ]
    command += ["-n", tenant.namespace, "--health-probe-bind-address=0"]
    command += [f"--metrics-bind-address=127.0.0.1:{port}"]
    with (
        serving(ThreadingHTTPServer(("127.0.0.1", 0), Refusing)) as hook,
        serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay)) as relay,
    ):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(hook)))
        variables = environ(tenant, relay, tmp_path)
        process = ChildProcess("operator", command, tmp_path / "operator.log", variables)
        kubeconfig(tenant, tmp_path / "kubeconfig", BAD_TOKEN)
        with process:
            exposed = await failing(tenant, process, tmp_path, port)
        (tmp_path / "config.yaml").write_text(BROKEN)
        with process:
            await until(lambda: "startup_failed" in process.log.read_text())
    token = kubeconfig(tenant, tmp_path / "kubeconfig", "")
    secrets = (KEY, SESSION, SMTP, HOOK, BAD_TOKEN, token)
    objects, log = tenant.kubectl("get", KINDS, "-o", "yaml"), process.log.read_text()
    assert leaked(secrets, log + objects + exposed) == []
    for failure in ("TargetRefused", "TargetUnreachable", "SmtpFailed", "535", "RegionNotAllowed"):
        assert failure in log, failure
