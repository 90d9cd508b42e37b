"""AWS on loopback: moto, behind a proxy that adds what moto lacks and records what was asked.

moto has no transitions, no throttling and no read lag, and never loses a reply; a test needs each of them at
will. Use it on the loop of the test::

    async with AwsProxy() as aws:
        aws.transition_seconds = 0.5
        ids = await aws.create_instances("web", 2)
        aws.fail("StartInstances", code="RequestLimitExceeded")
        ...  # a driver opened with aws.environment() in os.environ
        assert aws.calls_of("StartInstances")[0].instance_ids == tuple(ids)

or, where its work must not slow what is measured, as a process of its own::

    python -m tests.support.aws --transition-seconds 2

which prints its URL and moto's as JSON, and serves what it recorded under `/-/calls`. Instances are then
created by `Moto(moto_url, http)`.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from aiohttp import ClientSession, web

from tests.support.moto_server import Moto, run_moto
from tests.support.transitions import Transitions


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived: at `at` on the wall clock (UTC), at `monotonic` on the monotonic one (s)."""

    action: str
    region: str
    params: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    monotonic: float = field(default_factory=time.monotonic)

    @property
    def instance_ids(self) -> tuple[str, ...]:
        return tuple(value for name, value in self.params.items() if name.startswith("InstanceId."))


@dataclass(frozen=True, slots=True)
class _Fault:
    """What becomes of one request instead of a good reply."""

    kind: Literal["refuse", "drop", "lose"]
    status: int = 0
    body: str = ""


class AwsProxy:
    """A proxy before moto; an async context manager. All settings may be changed at any time.

    Attributes:
        url: where it listens, for AWS_ENDPOINT_URL.
        moto: what lies behind it.
        calls: all requests to AWS services, in order of arrival.
        transition_seconds: how long a started instance is `pending`, a stopped one `stopping`.
        stale_seconds: how long after a start or stop a Describe still shows the state before.
    """

    def __init__(
        self,
        moto_url: str | None = None,
        *,
        port: int = 0,
        transition_seconds: float = 0.0,
        stale_seconds: float = 0.0,
    ) -> None:
        """Prepare it before a moto that listens at `moto_url`, or before one of its own."""
        self.url = ""
        self.moto: Moto
        self.calls: list[Call] = []
        self._transitions = Transitions(transition_seconds, stale_seconds)
        self._moto_url = moto_url
        self._port = port
        self._stack = AsyncExitStack()
        self._faults: defaultdict[str, deque[_Fault]] = defaultdict(deque)
        self._delays: dict[str, float] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._arrival = asyncio.Condition()

    async def __aenter__(self) -> Self:
        if self._moto_url is None:
            self._moto_url = self._stack.enter_context(run_moto())
        self._http = await self._stack.enter_async_context(ClientSession())
        self.moto = Moto(self._moto_url, self._http)
        await self.moto.reset()
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/-/calls", self._serve_calls)
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for gate in self._gates.values():
            gate.set()
        await self._stack.__aexit__(kind, error, trace)

    @property
    def transition_seconds(self) -> float:
        return self._transitions.seconds

    @transition_seconds.setter
    def transition_seconds(self, seconds: float) -> None:
        self._transitions.seconds = seconds

    @property
    def stale_seconds(self) -> float:
        return self._transitions.stale_seconds

    @stale_seconds.setter
    def stale_seconds(self, seconds: float) -> None:
        self._transitions.stale_seconds = seconds

    def environment(self) -> dict[str, str]:
        """Environment variables that make botocore speak to it, and to nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    async def create_instances(self, tag: str | None, n: int = 1, **options: Any) -> list[str]:
        """Create instances as `Moto.create_instances` does."""
        return await self.moto.create_instances(tag, n, **options)

    def calls_of(self, action: str) -> list[Call]:
        """The recorded requests of one action."""
        return [call for call in self.calls if call.action == action]

    async def arrived(self, action: str, n: int = 1) -> list[Call]:
        """Wait until `n` requests of the action have arrived in all; the caller sets a deadline."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.calls_of(action)) >= n)
        return self.calls_of(action)

    def fail(
        self,
        action: str,
        *,
        times: int = 1,
        code: str = "RequestLimitExceeded",
        message: str = "Request limit exceeded.",
        status: int | None = None,
    ) -> None:
        """Refuse the next `times` requests of the action with an error in the form of its service."""
        server_side = code in {"RequestLimitExceeded", "InternalError", "Unavailable"}
        service = "rds" if "DB" in action or "Role" in action else "ec2"
        fault = _Fault("refuse", status or (503 if server_side else 400), _error(code, message, service))
        self._faults[action].extend([fault] * times)

    def fail_raw(self, action: str, *, status: int, body: str, times: int = 1) -> None:
        """Answer the next `times` requests of the action with whatever `body`."""
        self._faults[action].extend([_Fault("refuse", status, body)] * times)

    def drop(self, action: str, *, times: int = 1) -> None:
        """Reset the connection of the next `times` requests of the action; AWS does not get to see them."""
        self._faults[action].extend([_Fault("drop")] * times)

    def lose_reply(self, action: str, *, times: int = 1) -> None:
        """Carry out the next `times` requests of the action, then reset the connection."""
        self._faults[action].extend([_Fault("lose")] * times)

    def delay(self, action: str, seconds: float) -> None:
        """Have each reply to the action take that long from now on, after it was carried out."""
        self._delays[action] = seconds

    def hold(self, action: str) -> asyncio.Event:
        """Hold back each reply to the action, after it was carried out, until the event returned is set."""
        gate = self._gates[action] = asyncio.Event()
        return gate

    async def _serve_calls(self, _: web.Request) -> web.Response:
        calls = [asdict(call) | {"at": call.at.isoformat(), "headers": None} for call in self.calls]
        return web.json_response(calls)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        if "Action" not in params:
            return await self._forward(request, body)
        call = Call(params.pop("Action"), _region(request), params, dict(request.headers))
        self.calls.append(call)
        async with self._arrival:
            self._arrival.notify_all()
        faults = self._faults[call.action]
        fault = faults.popleft() if faults else None
        if fault is not None and fault.kind != "lose":
            return _cut(request) if fault.kind == "drop" else _refusal(fault.status, fault.body)
        refusal = self._transitions.refusal(call.action, call.instance_ids)
        if refusal is not None:
            return _refusal(400, _error("IncorrectInstanceState", refusal))
        reply = await self._forward(request, body)
        if reply.status == 200 and isinstance(reply.body, bytes):
            # In a thread: a long Describe must not make what arrives meanwhile seem late.
            reply.body = await asyncio.to_thread(self._transitions.distort, call.action, reply.body)
        await asyncio.sleep(self._delays.get(call.action, 0))
        if call.action in self._gates:
            await self._gates[call.action].wait()
        return _cut(request) if fault is not None else reply

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        url = f"{self._moto_url}{request.path_qs}"
        async with self._http.request(request.method, url, data=body, headers=headers) as reply:
            content = reply.headers.get("Content-Type", "text/xml")
            return web.Response(
                status=reply.status, body=await reply.read(), headers={"Content-Type": content}
            )


def _region(request: web.Request) -> str:
    match = re.search(r"Credential=[^/]+/\d+/([^/]+)/", request.headers.get("Authorization", ""))
    return match[1] if match else ""


def _error(code: str, message: str, service: str = "ec2") -> str:
    if service == "rds":
        return (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(code)}</Code>"
            f"<Message>{escape(message)}</Message></Error><RequestId>REQUEST-ID</RequestId></ErrorResponse>"
        )
    return (
        f"<Response><Errors><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        "</Error></Errors><RequestID>REQUEST-ID</RequestID></Response>"
    )


def _refusal(status: int, body: str) -> web.Response:
    body = body.replace("REQUEST-ID", f"{time.monotonic_ns():x}")
    return web.Response(status=status, text=body, content_type="text/xml")


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _run(options: argparse.Namespace) -> None:
    async with AwsProxy(
        options.moto_url,
        port=options.port,
        transition_seconds=options.transition_seconds,
        stale_seconds=options.stale_seconds,
    ) as aws:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        sys.stdout.write(json.dumps({"url": aws.url, "moto_url": aws.moto.url}) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.aws")
    parser.add_argument("--moto-url", help="where moto listens; default: one in this process")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--transition-seconds", type=float, default=0.0)
    parser.add_argument("--stale-seconds", type=float, default=0.0)
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
