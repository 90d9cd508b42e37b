"""The target of a fault: etcd, API server, proxy, processes of the operator, AWS, and bookings."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.devcluster.playground import OwnPlayground, Playground, playground
from booking_operator.engine.clock import SystemClock
from booking_operator.kube.client import JSON, MERGE_PATCH, KubeClient
from booking_operator.kube.errors import ApiError
from booking_operator.kube.kubeconfig import ClusterConfig
from tests.chaos.layout import SIZE, TAGS, Edit, Span
from tests.chaos.ledger import Ledger, Version
from tests.e2e.conftest import manifest
from tests.support.aws import AwsProxy
from tests.support.kube_proxy import KubeProxy
from tests.support.kustomize import MANIFESTS, SYSTEM
from tests.support.moto_server import REGION
from tests.support.replicas import Replica, Way, electing, replica

NAMESPACE = "chaos"
PENDING_SECONDS = 0.3
"""The duration of a transition between power states."""
_TAKEN = {"POST": 409, "DELETE": 404}
"""The status of a second attempt if the first one was carried out but its response was lost."""


@dataclass
class World:
    """The servers, processes and clients of a trial.

    Attributes:
        client: a client that bypasses the proxy, for the actions of users.
        ledger: the record of these actions.
        groups: the ids of the instances of each group.
        token_file: the operator's token file, if it uses a ServiceAccount.
        secret: the name of the Secret to which this token is bound.
        starts: the number of starts of processes of the operator.
        snapshots: the times at which the data directory of etcd was copied.
    """

    devcluster: OwnPlayground
    aws: AwsProxy
    proxy: KubeProxy
    client: KubeClient
    replicas: Sequence[Replica]
    groups: dict[str, list[str]]
    directory: Path
    chance: random.Random
    token_file: Path
    secret: str
    ledger: Ledger = field(default_factory=Ledger)
    starts: int = 0
    snapshots: list[datetime] = field(default_factory=list)

    @property
    def replica(self) -> Replica:
        """The only replica, or the first one that was started."""
        return self.replicas[0]

    async def begin(self, one: Replica) -> None:
        """Start a process of the operator, and wait until its caches are synced."""
        self.starts += 1
        await one.ready(60)

    def logged(self, *events: str) -> list[dict[str, Any]]:
        """The entries of certain events in the logs of all processes."""
        return [entry for one in self.replicas for event in events for entry in one.logged(event)]

    async def book(self, spans: Sequence[Span]) -> None:
        """Create bookings."""
        async with asyncio.TaskGroup() as tasks:
            for span in spans:
                tasks.create_task(self._make(span))

    async def edit(self, edits: Sequence[Edit]) -> None:
        """Carry out edits of users during a fault, with retries until the API server accepts them."""
        async with asyncio.TaskGroup() as tasks:
            for edit in edits:
                does = {"make": self._make, "delete": self._delete, "extend": self._extend}
                tasks.create_task(does[edit.do](edit.span))

    async def book_again(self, versions: Sequence[Version]) -> None:
        """Create bookings again that have vanished, as a GitOps tool does."""
        await self.book([Span(item.tag, item.name, item.start, item.end) for item in versions])

    async def objects(self, kind: Kind[Any]) -> list[dict[str, Any]]:
        """All objects of a kind in the API server."""
        listed = json.loads(await self.client.request("GET", kind.path(NAMESPACE)))
        found: list[dict[str, Any]] = listed["items"]
        return found

    async def _make(self, span: Span) -> None:
        times = {"start_at": span.start.isoformat(), "end_at": span.end.isoformat()}
        spec = {"resource_name": span.tag, "user_id": "ada", **times}
        sent = await self._insist("POST", "", manifest(BOOKING.name, span.name, spec))
        self.ledger.made(span.tag, span.name, span.start, span.end, sent)

    async def _extend(self, span: Span) -> None:
        end = {"spec": {"end_at": span.end.isoformat()}}
        sent = await self._insist("PATCH", span.name, end, MERGE_PATCH)
        self.ledger.made(span.tag, span.name, span.start, span.end, sent)

    async def _delete(self, span: Span) -> None:
        self.ledger.gone(span.name, await self._insist("DELETE", span.name, {}))

    async def _insist(
        self, method: str, name: str, body: dict[str, Any], content_type: str = JSON
    ) -> datetime:
        """Retry a request until it succeeds; return the time of the last attempt."""
        path = BOOKING.path(NAMESPACE, name)
        tries = 0
        async with asyncio.timeout(60):
            while True:
                tries, sent = tries + 1, datetime.now(UTC)
                try:
                    await self.client.request(method, path, body=body, content_type=content_type)
                except ApiError as error:
                    if tries > 1 and error.status == _TAKEN.get(method):
                        return sent
                    if error.status not in {0, 429, 500, 503, 504}:
                        raise
                    await asyncio.sleep(0.2)
                else:
                    return sent


def issue_token(devcluster: Playground, file: Path) -> str:
    """Write a token of the operator's ServiceAccount that is bound to a Secret; return the Secret's name.

    The deletion of the Secret revokes the token.
    """
    name = f"token-{time.monotonic_ns()}"
    devcluster.kubectl("create", "secret", "generic", name, "-n", SYSTEM)
    bound = ("--bound-object-kind=Secret", f"--bound-object-name={name}")
    file.write_text(devcluster.kubectl("create", "token", "booking-operator", "-n", SYSTEM, *bound))
    return name


@asynccontextmanager
async def world(
    directory: Path,
    chance: random.Random,
    *,
    apiserver_flags: Sequence[str] = (),
    replicas: int = 1,
    service_account: bool = False,
) -> AsyncIterator[World]:
    """Start all servers, create the groups with stopped instances, and prepare the operator's processes.

    The caller starts the processes with `World.begin`.
    """
    with playground(apiserver_flags) as devcluster:
        devcluster.kubectl("create", "namespace", NAMESPACE)
        token_file, secret = directory / "token", ""
        if service_account:
            devcluster.kubectl("apply", "-k", str(MANIFESTS))
            secret = issue_token(devcluster, token_file)
        async with AsyncExitStack() as stack:
            proxied = AwsProxy(devcluster.moto.url, transition_seconds=PENDING_SECONDS)
            aws = await stack.enter_async_context(proxied)
            groups = await aws.create_groups(TAGS, SIZE)
            proxy = await stack.enter_async_context(KubeProxy(devcluster.control_plane, directory, chance))
            way = Way(proxy.url, proxy.ca_file, token_file if service_account else None)
            flags = electing(NAMESPACE, "30s") if replicas > 1 else ()
            processes = [
                await stack.enter_async_context(
                    replica(devcluster, aws, NAMESPACE, directory, f"replica-{n}", way=way, flags=flags)
                )
                for n in range(replicas)
            ]
            admin = ClusterConfig(str(devcluster.kubeconfig))
            client = await stack.enter_async_context(KubeClient(admin, SystemClock()))
            for tag in TAGS:
                body = manifest(RESOURCE.name, tag, {"type": "ec2", "tag": tag, "region": REGION})
                await client.request("POST", RESOURCE.path(NAMESPACE), body=body)
            stands = World(
                devcluster, aws, proxy, client, processes, groups, directory, chance, token_file, secret
            )
            yield stands
            for one in processes:
                await asyncio.to_thread(one.process.stop)
