"""AWS clients: one per region and account, opened at first use, closed when released or at the end."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
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
from booking_operator.cloud.aws.request_limits import CONNECTIONS
from booking_operator.cloud.instrumentation import measured
from booking_operator.domain.group import Scope
from booking_operator.engine.clock import Clock
from booking_operator.engine.clock_skew import ClockSkewMonitor
from booking_operator.engine.fence import FencedBody, MayWrite
from booking_operator.metrics import NO_METRICS, CloudMetrics

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client
    from types_aiobotocore_rds import RDSClient

CALL_SECONDS = 60.0
"""For one call, from when the credentials are at hand that it is signed with. The client's own time-outs are
per read, so a reply that trickles would never end, and all callers would wait for that view."""
CLOSING_SECONDS = 2 * CALL_SECONDS
"""How long a client that is released stays open, for a call that has taken it before."""
CONFIG = AioConfig(
    # aiobotocore makes these two the `sock_connect` and `sock_read` of aiohttp. Neither of them counts how
    # long a call waits for a connection that is in use, so a call that merely queues does not time out.
    connect_timeout=5,
    read_timeout=20,
    # Of this pair botocore makes one attempt in all: retries are ours, who know what is urgent.
    retries={"max_attempts": 0, "mode": "standard"},
    max_pool_connections=CONNECTIONS,
    tcp_keepalive=True,
    user_agent_extra="booking-operator",
)


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A client, and what closes it."""

    client: Any
    closes: AsyncExitStack


class AwsClients:
    """The clients of all accounts. An async context manager; open clients end with it.

    One session per account, so that the regions of an account share credentials and their renewal; one loader
    for all, because the description of EC2 alone takes 18 MiB and a fifth of a second to read. What changes
    anything is sent only while `live()`.
    """

    def __init__(
        self,
        clock: Clock,
        accounts: Accounts,
        may_write: MayWrite = lambda: True,
        *,
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        self.skew = ClockSkewMonitor("AWS")
        self._metrics = metrics
        self._clock = clock
        self._may_write = may_write
        self._accounts = accounts
        self._loader: Loader | None = None
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
        closing.push_async_exit(self._stack)  # first in, last out: clients sign with the credentials
        for stack in (*self._closing, *(opened.closes for opened in self._clients.values())):
            closing.push_async_exit(stack)
        self._clients.clear()
        await closing.__aexit__(kind, error, trace)

    async def ec2(self, scope: Scope) -> "EC2Client":
        """The client of EC2 for `scope`; without waiting when it is open already.

        What it is asked raises `CloudError` itself where the account has no credentials.

        Raises:
            CloudError: there is no such account, it is not for that region, or there is no region.
        """
        return cast("EC2Client", await self._client("ec2", scope))

    async def rds(self, scope: Scope) -> "RDSClient":
        """The client of RDS for `scope`, as `ec2` is that of EC2."""
        return cast("RDSClient", await self._client("rds", scope))

    async def release(self, service: Literal["ec2", "rds"], scope: Scope) -> None:
        """Close a client that is not needed any more, after `CLOSING_SECONDS`; a later call opens another.

        Each client of EC2 takes more than a megabyte, and tenants may name any region of AWS.
        """
        opened = self._clients.pop((service, scope), None)
        if opened is not None:
            self._closing.add(opened.closes)
            await self._clock.sleep(CLOSING_SECONDS)
            await opened.closes.aclose()
            self._closing.remove(opened.closes)

    async def credentials(self, account: str) -> None:
        """Have good credentials of an account at hand; without waiting when there are.

        Raises:
            CloudError: there are none, or AWS gives none.
        """
        await self._credentials[account].get_frozen_credentials()

    @contextmanager
    def call(self, permission: str, scope: Scope, ids: Collection[str] = ()) -> Iterator[None]:
        """Have the one call that is made inside measured, and its failure come out as `CloudError`.

        Args:
            permission: what is called, in the form of an IAM permission, like `ec2:StartInstances`.
            scope: where it is called.
            ids: the instances it is called for.

        Raises:
            CloudError: the call failed.
        """
        with (
            measured(self._metrics, self._clock, permission, scope),
            translate_errors(permission, ids, clocks=self.skew),
        ):
            yield

    async def _client(self, service: Literal["ec2", "rds"], scope: Scope) -> Any:
        opened = self._clients.get((service, scope))
        if opened is None:
            self._accounts.check_scope(scope)
            async with self._opening[service, scope]:
                opened = self._clients.get((service, scope)) or await self._open(service, scope)
            # Callers that still wait for the lock hold it themselves.
            self._opening.pop((service, scope), None)
        return opened.client

    async def _open(self, service: Literal["ec2", "rds"], scope: Scope) -> "_Opened":
        session, stack = self._session(scope.account), AsyncExitStack()
        with translate_errors("OpenClient"):
            opening: Any = session.client(service, region_name=scope.region or None)
            client = await stack.enter_async_context(opening)
        client.meta.events.register("before-call", self._stamp)
        client.meta.events.register("before-send", self._fence)
        client.meta.events.register("after-call", self._note_date)
        if service == "ec2":
            # aiobotocore awaits handlers; its stubs repeat botocore's, which does not.
            client.meta.events.register("before-parse.ec2.DescribeInstances", parse_page)
        opened = self._clients[service, scope] = _Opened(client, stack)
        return opened

    def _stamp(self, context: dict[str, Any], **_: object) -> None:
        """Remember when a request was made; a handler of botocore's event `before-call`."""
        context["made_at"] = self._clock.now()

    def _fence(self, request: Any, event_name: str, **_: object) -> None:
        """Send what is no mere look only while we may write; a handler of `before-send`."""
        operation = event_name.rpartition(".")[2]
        if not operation.startswith("Describe"):
            body = request.body
            request.body = FencedBody(body.encode() if isinstance(body, str) else body, self._may_write)

    def _note_date(self, parsed: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        """Compare clocks by a reply, also one that is an error; a handler of `after-call`."""
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
        """A session with botocore's own chain of credentials; its clients of STS keep the same time-outs."""
        core = AioSession()
        if self._loader is None:
            self._loader = core.get_component("data_loader")
        core.register_component("data_loader", self._loader)
        core.set_default_client_config(CONFIG)
        return core


def default_region() -> str:
    """The region that environment or profile name; empty where they name none.

    botocore knows AWS_DEFAULT_REGION alone; AWS_REGION is what other SDKs and EKS set.
    """
    return os.environ.get("AWS_REGION") or aioboto3.Session().region_name or ""
