"""Replicas of the operator as processes, each with its own wires and its own access key."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml

from booking_operator.devcluster.playground import Playground
from booking_operator.devcluster.process import ChildProcess
from booking_operator.engine.clock import SystemClock
from booking_operator.engine.leader_election import Lease
from booking_operator.kube.client import KubeClient
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.kube.lease import KubeLeaseLock
from tests.support.aws import AwsProxy, Call
from tests.support.json_lines import json_lines
from tests.support.wire import Wire

T = TypeVar("T")


@dataclass
class Replica:
    """One process. `kube` and `cloud` are its wires to the API server and to AWS."""

    name: str
    process: ChildProcess
    kube: Wire
    cloud: Wire

    def holds(self, identity: str) -> bool:
        return identity.startswith(f"{self.name}_")

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in json_lines(self.process.log) if entry["event"] == event]

    def pause(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.signal(signal.SIGCONT)

    async def ready(self, seconds: float = 30) -> None:
        """Start the process, and wait until its caches have synced."""
        before = len(self.logged("caches_synced"))
        self.process.start()

        async def synced() -> bool:
            return len(self.logged("caches_synced")) > before

        await comes_true(synced, seconds)


@dataclass
class Tenure:
    """One leadership of a replica, from the acquireTime of the Lease (aware UTC)."""

    holder: str
    since: datetime


@dataclass
class History:
    """The leaderships of all replicas, in order."""

    tenures: list[Tenure] = field(default_factory=list)
    holder: str = ""

    def see(self, lease: Lease | None) -> None:
        self.holder = lease.holder if lease else ""
        if lease and lease.holder and lease.acquired_at:
            tenure = Tenure(lease.holder, lease.acquired_at)
            if not self.tenures or self.tenures[-1] != tenure:
                self.tenures.append(tenure)

    def strays(self, calls: Sequence[Call], replicas: Sequence[Replica]) -> list[str]:
        """Calls that change something in the cloud, and did not come from the leader of that time."""
        names = {replica.name.upper(): replica for replica in replicas}
        return [
            f"{call.action} by {call.access_key} at {call.at}, when {self.at(call.at)} led"
            for call in calls
            if not call.action.startswith("Describe") and not names[call.access_key].holds(self.at(call.at))
        ]

    def at(self, instant: datetime) -> str:
        """The last holder of the Lease at an instant."""
        before = [tenure.holder for tenure in self.tenures if tenure.since <= instant]
        return before[-1] if before else "nobody"


@dataclass
class Field:
    """Two replicas of one operator, AWS with recorded calls, and the history of the Lease."""

    replicas: tuple[Replica, Replica]
    aws: AwsProxy
    history: History

    def leader(self) -> Replica | None:
        return next((item for item in self.replicas if item.holds(self.history.holder)), None)

    def other(self, replica: Replica) -> Replica:
        return next(item for item in self.replicas if item is not replica)

    async def led(self, *, by: Replica | None = None, seconds: float = 30) -> Replica:
        """Wait until any replica leads, or until `by` leads."""

        async def leads() -> Replica | None:
            found = self.leader()
            return found if by is None or found is by else None

        return await comes_true(leads, seconds)

    def strays(self) -> list[str]:
        return self.history.strays(self.aws.calls, self.replicas)


@asynccontextmanager
async def field_of(
    devcluster: Playground, aws: AwsProxy, namespace: str, directory: Path, lease: str
) -> AsyncIterator[Field]:
    """Two replicas, not yet started, that serve one namespace and hold a Lease of duration `lease` there."""
    async with AsyncExitStack() as stack:
        way = Way(devcluster.server)
        replicas = [
            await stack.enter_async_context(
                replica(
                    devcluster, aws, namespace, directory, name, way=way, flags=electing(namespace, lease)
                )
            )
            for name in ("replica-a", "replica-b")
        ]
        history, clock = History(), SystemClock()
        cluster = ClusterConfig(str(devcluster.kubeconfig))
        client = await stack.enter_async_context(KubeClient(cluster, clock))
        leases = KubeLeaseLock(client, namespace, "booking-operator", clock)
        watching = asyncio.ensure_future(leases.watch(history.see))
        try:
            yield Field((replicas[0], replicas[1]), aws, history)
        finally:
            watching.cancel()
            await asyncio.wait([watching])


async def comes_true(check: Callable[[], Awaitable[T | None]], seconds: float) -> T:
    """Poll `check` until it returns a true value, and return the value."""
    async with asyncio.timeout(seconds):
        while True:
            found = await check()
            if found:
                return found
            await asyncio.sleep(0.01)


def electing(namespace: str, lease: str) -> Sequence[str]:
    """The flags for leader election with a LeaseDuration of `lease`."""
    return ("--leader-elect", f"--lease-duration={lease}", f"--leader-election-namespace={namespace}")


@dataclass(frozen=True)
class Way:
    """The address and credentials of the API server for a replica.

    Attributes:
        url: the URL.
        ca_file: the CA certificates to trust; None for those of the API server.
        token_file: the token; None for the administrator's.
    """

    url: str
    ca_file: Path | None = None
    token_file: Path | None = None


@asynccontextmanager
async def replica(
    devcluster: Playground,
    aws: AwsProxy,
    namespace: str,
    directory: Path,
    name: str,
    *,
    way: Way,
    flags: Sequence[str] = (),
) -> AsyncIterator[Replica]:
    """One process, not yet started, that serves one namespace. Its files are in `directory`."""
    async with Wire(_port(way.url)) as kube, Wire(_port(aws.url)) as cloud:
        environ = devcluster.environ | {
            "KUBECONFIG": str(_kubeconfig(devcluster, directory / f"{name}.kubeconfig", kube, way)),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{cloud.port}",
            "AWS_ACCESS_KEY_ID": name.upper(),
            "POD_NAME": name,
        }
        command = [sys.executable, "-m", "booking_operator", "run", *flags, f"--namespace={namespace}"]
        command += ["--log-format=json", "--metrics-bind-address=0", "--health-probe-bind-address=0"]
        process = ChildProcess(name, command, directory / f"{name}.log", environ)
        try:
            yield Replica(name, process, kube, cloud)
        finally:
            process.stop(kill=True)


def _kubeconfig(devcluster: Playground, path: Path, kube: Wire, way: Way) -> Path:
    config = yaml.safe_load(devcluster.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    cluster["server"] = f"https://127.0.0.1:{kube.port}"
    if way.ca_file is not None:
        cluster["certificate-authority"] = str(way.ca_file)
    if way.token_file is not None:
        config["users"][0]["user"] = {"tokenFile": str(way.token_file)}
    path.write_text(yaml.safe_dump(config))
    return path


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
