"""AWS clients: one per service, region and account.

They open at first use and close on release or at the end.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.loaders import Loader

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.aws.credential_renewal import RenewedCredentials, open_credentials
from booking_operator.cloud.aws.describe_parser import parse_page
from booking_operator.cloud.aws.errors import translate_errors
from booking_operator.cloud.batching.request_queue import MAX_CALLS_IN_FLIGHT
from booking_operator.cloud.instrumentation import measured
from booking_operator.domain.group import Scope
from booking_operator.engine.clock import Clock
from booking_operator.engine.clock_skew import ClockSkewMonitor
from booking_operator.engine.fence import FencedBody, MayWrite
from booking_operator.metrics import NO_METRICS, CloudMetrics

if TYPE_CHECKING:
    from types_aiobotocore_application_autoscaling import ApplicationAutoScalingClient
    from types_aiobotocore_autoscaling import AutoScalingClient
    from types_aiobotocore_ec2 import EC2Client
    from types_aiobotocore_ecs import ECSClient
    from types_aiobotocore_rds import RDSClient
    from types_aiobotocore_resourcegroupstaggingapi import ResourceGroupsTaggingAPIClient

_CONNECTIONS = 4 * MAX_CALLS_IN_FLIGHT + 2
"""Pool size of one client: for all calls of its four request queues, for one Describe, and for one cancelled
call that has not released its connection. So no call waits for a connection."""
CALL_TIMEOUT_SECONDS = 60.0
"""Default timeout of one call, after the credentials are available. The timeouts of the client are per read.
A response that arrives very slowly would never time out, and all callers would wait for it."""
CLOSE_DELAY_SECONDS = 2 * CALL_TIMEOUT_SECONDS
"""How long a released client stays open for calls that already use it."""
CONFIG = AioConfig(
    # aiobotocore passes these two as `sock_connect` and `sock_read` to aiohttp. Neither includes the wait for
    # a free connection, so a call in the queue of the pool does not time out.
    connect_timeout=5,
    read_timeout=20,
    # These settings disable the retries of botocore. The request queues retry, because they know the
    # priorities.
    retries={"max_attempts": 0, "mode": "standard"},
    max_pool_connections=_CONNECTIONS,
    tcp_keepalive=True,
    user_agent_extra="booking-operator",
)


ClientName = Literal[
    "application-autoscaling", "autoscaling", "ec2", "ecs", "rds", "resourcegroupstaggingapi"
]
"""The names of botocore's clients."""

_READS = ("Describe", "Get", "List")
"""The beginnings of the names of the API actions that change nothing. A standby replica may call them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A client, and the exit stack that closes it."""

    client: Any
    closes: AsyncExitStack


class AwsClients:
    """The clients of all accounts, as an async context manager. Open clients close with it.

    Each account has one session, so that its regions share credentials and their renewal. All sessions share
    one loader, because the EC2 service model alone takes 18 MiB and a fifth of a second to load. Requests
    that change anything are only sent while `may_write()` is true.
    """

    def __init__(
        self,
        clock: Clock,
        accounts: Accounts,
        may_write: MayWrite = lambda: True,
        *,
        metrics: CloudMetrics = NO_METRICS,
        call_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> None:
        self._call_seconds = call_seconds
        self.skew = ClockSkewMonitor("AWS")
        self._metrics = metrics
        self._clock = clock
        self._may_write = may_write
        self._accounts = accounts
        self._credentials: Mapping[str, RenewedCredentials] = {}
        self._sessions: dict[str, aioboto3.Session] = {}
        self._clients: dict[tuple[str, Scope], _Opened] = {}
        self._closing: set[AsyncExitStack] = set()
        self._opening: defaultdict[tuple[str, Scope], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        opening = open_credentials(self._accounts, self._core, self._clock, metrics=self._metrics)
        self._credentials = await self._stack.enter_async_context(opening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = AsyncExitStack()
        closing.push_async_exit(self._stack)  # closes last: the clients sign with the credentials
        for stack in (*self._closing, *(opened.closes for opened in self._clients.values())):
            closing.push_async_exit(stack)
        self._clients.clear()
        await closing.__aexit__(kind, error, trace)

    async def ec2(self, scope: Scope) -> "EC2Client":
        """Return the EC2 client for `scope`. If it is open, this does not wait.

        If the account has no credentials, the calls of the client raise `CloudError`.

        Raises:
            CloudError: the account or the region does not exist, or the account is not configured for the
                region.
        """
        return cast("EC2Client", await self._client("ec2", scope))

    async def rds(self, scope: Scope) -> "RDSClient":
        """Return the RDS client for `scope`, as `ec2` does for EC2."""
        return cast("RDSClient", await self._client("rds", scope))

    async def autoscaling(self, scope: Scope) -> "AutoScalingClient":
        """Return the client of EC2 Auto Scaling for `scope`, as `ec2` does for EC2."""
        return cast("AutoScalingClient", await self._client("autoscaling", scope))

    async def ecs(self, scope: Scope) -> "ECSClient":
        """Return the client of ECS for `scope`, as `ec2` does for EC2."""
        return cast("ECSClient", await self._client("ecs", scope))

    async def application_autoscaling(self, scope: Scope) -> "ApplicationAutoScalingClient":
        """Return the client of Application Auto Scaling for `scope`, as `ec2` does for EC2."""
        return cast("ApplicationAutoScalingClient", await self._client("application-autoscaling", scope))

    async def tagging(self, scope: Scope) -> "ResourceGroupsTaggingAPIClient":
        """Return the client of the Resource Groups Tagging API for `scope`, as `ec2` does for EC2."""
        return cast("ResourceGroupsTaggingAPIClient", await self._client("resourcegroupstaggingapi", scope))

    async def release(self, service: ClientName, scope: Scope) -> None:
        """Close an unused client after `CLOSE_DELAY_SECONDS`; a later call opens another.

        Each EC2 client takes more than a megabyte, and tenants may name any AWS region.
        """
        opened = self._clients.pop((service, scope), None)
        if opened is not None:
            self._closing.add(opened.closes)
            await self._clock.sleep(CLOSE_DELAY_SECONDS)
            await opened.closes.aclose()
            self._closing.remove(opened.closes)

    async def ready(self, service: ClientName, scope: Scope) -> None:
        """Open the client of a service and load the credentials of its account.

        Raises:
            CloudError: the account or the region does not exist, or there are no credentials.
        """
        await self._client(service, scope)
        await self.credentials(scope.account)

    async def credentials(self, account: str) -> None:
        """Ensure valid credentials of an account. If they are loaded, this does not wait.

        Raises:
            CloudError: there are no credentials, or AWS refuses to issue them.
        """
        await self._credentials[account].get_frozen_credentials()

    @asynccontextmanager
    async def call(self, permission: str, scope: Scope, ids: Collection[str] = ()) -> AsyncIterator[None]:
        """Make the single call in the context: with credentials, a timeout, and a measurement.

        The timeout begins when the credentials are loaded.

        Args:
            permission: the call in the form of an IAM permission, such as `ec2:StartInstances`.
            scope: the scope of the call.
            ids: the instances of the call.

        Raises:
            CloudError: the call failed.
        """
        with (
            measured(self._metrics, self._clock, permission, scope),
            translate_errors(permission, ids, clocks=self.skew),
        ):
            await self.credentials(scope.account)
            async with asyncio.timeout(self._call_seconds):
                yield

    async def _client(self, service: ClientName, scope: Scope) -> Any:
        opened = self._clients.get((service, scope))
        if opened is None:
            self._accounts.check_scope(scope)
            async with self._opening[service, scope]:
                opened = self._clients.get((service, scope)) or await self._open(service, scope)
            # Callers that wait for the lock keep their own reference to it.
            self._opening.pop((service, scope), None)
        return opened.client

    async def _open(self, service: ClientName, scope: Scope) -> "_Opened":
        session, stack = self._session(scope.account), AsyncExitStack()
        with translate_errors("OpenClient"):
            opening: Any = session.client(service, region_name=scope.region or None)
            client = await stack.enter_async_context(opening)
        client.meta.events.register("before-call", self._stamp)
        client.meta.events.register("before-send", self._fence)
        client.meta.events.register("after-call", self._note_date)
        if service == "ec2":
            # aiobotocore awaits async handlers, but its type stubs do not allow them.
            client.meta.events.register("before-parse.ec2.DescribeInstances", parse_page)
        opened = self._clients[service, scope] = _Opened(client, stack)
        return opened

    def _stamp(self, context: dict[str, Any], **_: object) -> None:
        """Record when a request was made; a handler of the botocore event `before-call`."""
        context["made_at"] = self._clock.now()

    def _fence(self, request: Any, event_name: str, **_: object) -> None:
        """Send a writing request only while `may_write()` is true; a handler of `before-send`."""
        operation = event_name.rpartition(".")[2]
        if not operation.startswith(_READS):
            body = request.body
            request.body = FencedBody(body.encode() if isinstance(body, str) else body, self._may_write)

    def _note_date(self, parsed: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        """Measure the clock skew from a response, including errors; a handler of `after-call`."""
        headers = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self.skew.record(headers.get("date"), context["made_at"], self._clock.now())
        self._metrics.aws_skewed(self.skew.current)

    def _session(self, account: str) -> aioboto3.Session:
        session = self._sessions.get(account)
        if session is None:
            core = self._core()
            self._credentials[account].sign_for(core)
            session = self._sessions[account] = aioboto3.Session(botocore_session=core)
        return session

    def _core(self) -> AioSession:
        """Return a session with botocore's credential chain, the shared loader and `CONFIG`."""
        core = AioSession()
        core.register_component("data_loader", _loader())
        core.set_default_client_config(CONFIG)
        return core


@cache
def _loader() -> Loader:
    loader: Loader = AioSession().get_component("data_loader")
    return loader


def default_region() -> str:
    """Return the region of the environment or the profile; empty if there is none.

    botocore reads only AWS_DEFAULT_REGION. Other SDKs and EKS use AWS_REGION, so that has precedence.
    """
    return os.environ.get("AWS_REGION") or aioboto3.Session().region_name or ""
