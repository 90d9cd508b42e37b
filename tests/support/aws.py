"""AWS on loopback: moto, behind a proxy that adds what moto lacks and records all requests.

moto has no transitions, no request limits and no eventual consistency, and it never fails. Tests need all of
these on demand. Use the proxy in the event loop of the test::

    async with AwsProxy() as aws:
        aws.transition_seconds = 0.5
        aws.enforce_limits()
        ids = await aws.create_instances("web", 2)
        aws.fail("StartInstances", code="RequestLimitExceeded")
        ...  # a driver opened with aws.environment() in os.environ
        assert aws.calls_of("StartInstances")[0].instance_ids == tuple(ids)

`aws_faults.Faults` has the other faults. `aws_process` runs the proxy in a separate process, so that its work
does not slow down a measurement.
"""

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

from aiohttp import ClientSession, web

from tests.support.aws_answers import to_json, to_xml
from tests.support.aws_cache import Cache
from tests.support.aws_call import Call
from tests.support.aws_errors import is_json
from tests.support.aws_faults import Fault, Faults, Place, refusal, throttled
from tests.support.aws_limits import Limits, counted_as
from tests.support.moto_server import ACCOUNT, REGION, Moto, run_moto
from tests.support.transitions import Transitions

__all__ = ["AwsProxy", "Call"]


class AwsProxy(Faults):
    """A proxy in front of moto; an async context manager. A test may change all settings at any time.

    Attributes:
        url: the URL of the proxy, for AWS_ENDPOINT_URL.
        moto: a client of moto that bypasses the proxy.
        app: the HTTP routes. Routes may be added before the proxy starts.
        calls: all requests to AWS services, in order of arrival.
        limits: the request limits to enforce; None for none.
        cached: whether the proxy answers DescribeInstances in place of moto, for thousands of instances; see
            `aws_fleet`.
    """

    def __init__(
        self,
        moto_url: str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        transition_seconds: float = 0.0,
        stale_seconds: float = 0.0,
        cached: bool = False,
    ) -> None:
        """Prepare a proxy for the moto at `moto_url`, or for a new one."""
        super().__init__()
        self.url = ""
        self.moto: Moto
        self.app = web.Application(client_max_size=64 * 2**20)
        self.calls: list[Call] = []
        self.limits: Limits | None = None
        self.cached = cached
        self._transitions = Transitions(transition_seconds, stale_seconds)
        self._moto_url = moto_url
        self._host = host
        self._port = port
        self._stack = AsyncExitStack()
        self._delays: dict[str, float] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._closing = asyncio.Event()
        self._arrival = asyncio.Condition()
        self._accounts: dict[str, str] = {}
        self._cache = Cache(self._load)
        self._answers: dict[str, bytes] = {}

    async def __aenter__(self) -> Self:
        if self._moto_url is None:
            self._moto_url = self._stack.enter_context(run_moto())
        self._http = await self._stack.enter_async_context(ClientSession())
        self.moto = Moto(self._moto_url, self._http, self._cache.forget)
        await self.moto.reset()
        self.app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self._host, self._port)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for gate in self._gates.values():
            gate.set()
        await self._stack.__aexit__(kind, error, trace)

    @property
    def transitions(self) -> Transitions:
        """The transitions between power states, and the status checks."""
        return self._transitions

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
        """Environment variables that make botocore use the proxy, and no other endpoint."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    async def create_instances(self, tag: str | None, n: int = 1, **options: Any) -> list[str]:
        """Create instances as `Moto.create_instances` does, and record their types and zones."""
        options = {"region": REGION, "instance_type": "m5.large"} | options
        options["zone"] = options.get("zone") or f"{options['region']}a"
        ids = await self.moto.create_instances(tag, n, **options)
        self.places |= dict.fromkeys(ids, Place(options["instance_type"], options["zone"]))
        return ids

    async def create_groups(self, tags: Sequence[str], n: int = 1, **options: Any) -> dict[str, list[str]]:
        """Create many groups as `Moto.create_groups` does."""
        groups = await self.moto.create_groups(tags, n, **options)
        if self.cached:
            # Load now. Later, moto may be busy, and the first Describe would wait.
            await self._cache.fleet(ACCOUNT, options.get("region", REGION))
        return groups

    async def states(self, region: str = REGION, account: str = "") -> dict[str, str]:
        """The real states of all instances, by id."""
        return await self.moto.states(region, account)

    def enforce_limits(self) -> None:
        """Enforce the published request limits of EC2 from now on. All buckets start full."""
        self.limits = Limits()

    def drain(self, action: str, region: str = REGION, account: str = ACCOUNT) -> None:
        """Take all tokens for requests of an action, as other clients of the account may do."""
        if self.limits is not None:
            self.limits.drain(account, region, action, time.monotonic())

    def answer(self, service: str, action: str, answer: Mapping[str, Any]) -> None:
        """Answer each request of an action with `answer`, in the form of the AWS CLI, in place of moto."""
        to_body = to_json if is_json(action) else to_xml
        self._answers[action] = to_body(service, action, answer)

    def calls_of(self, action: str) -> list[Call]:
        """The recorded requests of one action."""
        return [call for call in self.calls if call.action == action]

    async def arrived(self, action: str, n: int = 1) -> list[Call]:
        """Wait until `n` requests of the action have arrived in total. The caller sets a timeout."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.calls_of(action)) >= n)
        return self.calls_of(action)

    def delay(self, action: str, seconds: float) -> None:
        """Delay each reply to the action by `seconds` from now on, after the action was carried out."""
        self._delays[action] = seconds

    def hold(self, action: str) -> asyncio.Event:
        """Hold back each reply to the action, after it was carried out, until the returned event is set."""
        gate = self._gates[action] = asyncio.Event()
        return gate

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        at, monotonic = datetime.now(UTC), time.monotonic()
        params = _params(request, body)
        if "Action" not in params:
            return await self._forward(request, body)
        call = self._recorded(request, params, at, monotonic)
        async with self._arrival:
            self._arrival.notify_all()
        fault = self._fault(call)
        if fault is not None and fault.kind == "hang":
            await self._closing.wait()
        if fault is not None and fault.kind != "lose":
            return _faulty(call, request, fault)
        reply = await self._carried_out(call, request, body)
        await asyncio.sleep(self._delays.get(call.action, 0))
        if call.action in self._gates:
            await self._gates[call.action].wait()
        call.status = reply.status
        return _cut(request) if fault is not None else reply

    def _recorded(self, request: web.Request, params: dict[str, str], at: datetime, monotonic: float) -> Call:
        key, region, service = _credentials(request)
        call = Call(
            action=params.pop("Action"),
            service=service,
            region=region,
            access_key=key,
            account=self._accounts.get(key, ACCOUNT),
            params=params,
            headers=dict(request.headers),
            at=at,
            monotonic=monotonic,
        )
        self.calls.append(call)
        return call

    def _fault(self, call: Call) -> Fault | None:
        """The fault of the call. The order is: faults of the connection, request limits, parameters."""
        fault = self.at_the_door(call)
        if fault is not None and fault.kind != "lose":
            return fault
        if self.limits is not None:
            counted = counted_as(call.action, call.params)
            n = len(call.instance_ids)
            if not self.limits.admits(call.account, call.region, counted, n, call.monotonic):
                return throttled(call.action)
        wrong_state = self._transitions.refusal(call.action, call.instance_ids)
        if wrong_state is not None:
            return refusal("IncorrectInstanceState", wrong_state, call.action)
        return self.on_merit(call) or fault

    async def _carried_out(self, call: Call, request: web.Request, body: bytes) -> web.Response:
        if (answer := self._answers.get(call.action)) is not None:
            return web.Response(body=answer, content_type=_content_type(call.action))
        where = (call.account, call.region)
        if self.cached and call.action == "DescribeInstances":
            known = await self._cache.describe(*where, call.params, self._transitions.shown)
            if known is not None:
                return web.Response(body=known, content_type="text/xml")
        if call.action == "UpdateAutoScalingGroup" and "DesiredCapacity" in call.params:
            name, desired = call.params["AutoScalingGroupName"], int(call.params["DesiredCapacity"])
            self._transitions.resize(name, desired)
        reply = await self._forward(request, body)
        if reply.status != 200 or not isinstance(reply.body, bytes):
            return reply
        # Runs in a thread, so that a long Describe does not delay the time stamps of other calls.
        reply.body = await asyncio.to_thread(self._transitions.distort, call.action, reply.body)
        if call.service == "ec2":
            self._cache.follow(*where, call.action, call.params)
        if call.action.startswith("AssumeRole"):
            key = ET.fromstring(reply.body).findtext(".//{*}AccessKeyId", "")  # noqa: S314 - moto's own reply
            self._accounts[key] = call.params["RoleArn"].split(":")[4]
        return reply

    async def _load(self, account: str, region: str) -> list[ET.Element]:
        return await self.moto.pages(region, account)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        url = f"{self._moto_url}{request.path_qs}"
        async with self._http.request(request.method, url, data=body, headers=headers) as reply:
            content = reply.headers.get("Content-Type", "text/xml")
            return web.Response(
                status=reply.status, body=await reply.read(), headers={"Content-Type": content}
            )


def _credentials(request: web.Request) -> tuple[str, str, str]:
    """Access key, region and service of a request. AssumeRoleWithWebIdentity has no signature."""
    match = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", request.headers.get("Authorization", ""))
    return (match[1], match[2], match[3]) if match else ("", "", "")


def _params(request: web.Request, body: bytes) -> dict[str, str]:
    """The parameters of a request, with its action as `Action`. Those of JSON that are no text stay JSON."""
    _, _, action = request.headers.get("X-Amz-Target", "").rpartition(".")
    if not action:
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    given = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in json.loads(body).items()
    }
    return given | {"Action": action}


def _content_type(action: str) -> str:
    return "application/x-amz-json-1.1" if is_json(action) else "text/xml"


def _faulty(call: Call, request: web.Request, fault: Fault) -> web.Response:
    if fault.kind != "refuse":
        return _cut(request)
    call.status = fault.status
    body = fault.body.replace("REQUEST-ID", f"{time.monotonic_ns():x}")
    return web.Response(status=fault.status, text=body, content_type=_content_type(call.action))


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
