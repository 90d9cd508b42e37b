"""The environment of the benchmarks: a real kube-apiserver, and a fake AWS with the request limits of EC2.

Each of them is a process of its own.
"""

import asyncio
import json
import os
import ssl
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.windows import Arrival, Window
from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.devcluster.binaries import find_kubectl
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.kubectl import Kubectl
from booking_operator.devcluster.moto import MotoServer
from booking_operator.devcluster.playground import control_plane
from booking_operator.devcluster.process import ChildProcess

TRANSITION_SECONDS = 1.0
"""How long an instance is `pending` or `stopping`, in seconds."""
_WRITERS = 16
_AGAIN = 429  # the API server does not serve the kind yet
# AWS counts its limits by region, so each trial has a region of its own.
_REGIONS = (
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-central-1",
    "eu-north-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "sa-east-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
)
_ROOT = Path(__file__).parent.parent


class Aws:
    """A client of the proxy process: reads the recorded calls, and changes the behaviour of the proxy."""

    def __init__(self, url: str) -> None:
        self.url = url

    def arrivals(self, region: str) -> list[Arrival]:
        """All calls to a region, in order of arrival."""
        with urllib.request.urlopen(f"{self.url}/-/calls?region={region}", timeout=60) as answer:  # noqa: S310
            return [Arrival.of(recorded) for recorded in json.load(answer)]

    def do(self, name: str, **arguments: Any) -> Any:
        """Run an operation of the proxy; see `tests.support.aws_process`."""
        data = json.dumps(arguments).encode()
        with urllib.request.urlopen(f"{self.url}/-/{name}", data, timeout=600) as answer:  # noqa: S310
            return json.load(answer)


@dataclass(frozen=True, slots=True)
class Subject:
    """A program under measurement: it starts and stops instances according to bookings.

    Attributes:
        command: the command line; `{namespace}` and `{region}` are filled in.
        ready: the log event after which the program is ready.
        period: the polling interval in seconds. Boundaries get a random offset within it.
    """

    name: str
    command: tuple[str, ...]
    ready: str
    period: float = 0.0


OPERATOR = Subject(
    "operator",
    (
        sys.executable,
        "-m",
        "booking_operator",
        "run",
        "--log-format=json",
        "-n",
        "{namespace}",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=0",
    ),
    ready="resources_reconciled",
)
POLLER = Subject(
    "poller",
    (sys.executable, "-m", "bench.poller", "--namespace", "{namespace}", "--region", "{region}"),
    ready="bookings_read",
    period=60.0,
)


@dataclass(frozen=True, slots=True)
class World:
    """The processes and clients that exist during a benchmark."""

    plane: ControlPlane
    kubectl: Kubectl
    aws: Aws
    directory: Path
    regions: Iterator[str] = field(default_factory=lambda: iter(_REGIONS))

    def create_resources(self, namespace: str, tags: Iterable[str]) -> None:
        """Create a namespace with a Resource for each group."""
        self.kubectl("create", "namespace", namespace)
        asyncio.run(self._post(namespace, [(RESOURCE, tag, {"tag": tag}) for tag in tags]))

    def book(self, namespace: str, windows: Iterable[Window]) -> None:
        """Create a Booking for each window."""
        asyncio.run(self._post(namespace, [(BOOKING, window.tag, _booking(window)) for window in windows]))

    def process(
        self,
        subject: Subject,
        namespace: str,
        region: str,
        *flags: str,
        log: str = "log",
        kubeconfig: Path | None = None,
    ) -> ChildProcess:
        """The subject as a process that serves one namespace and one region. The caller starts it.

        Without `kubeconfig`, the process has the rights of an administrator.
        """
        command = (*subject.command, *flags)
        filled = [part.format(namespace=namespace, region=region) for part in command]
        environ = {
            "KUBECONFIG": str(kubeconfig or self.plane.kubeconfig),
            "AWS_ENDPOINT_URL": self.aws.url,
            "AWS_REGION": region,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "PYTHONPATH": str(_ROOT),
        }
        file = self.directory / f"{namespace}.{log}"
        return ChildProcess(f"{subject.name} in {namespace}", filled, file, environ)

    async def _post(self, namespace: str, objects: Iterable[tuple[Kind[Any], str, dict[str, Any]]]) -> None:
        waiting = iter(objects)
        async with connected(self.plane) as http, asyncio.TaskGroup() as writers:

            async def write() -> None:
                for kind, name, spec in waiting:
                    await create(http, kind.path(namespace), manifest(kind, name, spec))

            for _ in range(_WRITERS):
                writers.create_task(write())


@contextmanager
def world() -> Iterator[World]:
    """Start all processes, and stop them at the end.

    Raises:
        DevclusterError: a program is missing, or does not start.
    """
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="booking-operator-bench-")
        directory = Path(stack.enter_context(temporary))
        moto = stack.enter_context(MotoServer(directory))
        aws = stack.enter_context(_proxy(moto.url, directory))
        plane = stack.enter_context(control_plane())
        yield World(plane, Kubectl(find_kubectl(print), plane.kubeconfig), aws, directory)


@contextmanager
def _proxy(moto_url: str, directory: Path) -> Iterator[Aws]:
    command = [sys.executable, "-m", "tests.support.aws_process", "--moto-url", moto_url]
    command += ["--limits", "--cached", "--transition-seconds", str(TRANSITION_SECONDS)]
    log = directory / "proxy.log"
    with ChildProcess("proxy", command, log, {"PYTHONPATH": str(_ROOT)}) as proxy:
        proxy.wait_until(lambda: "moto_url" in log.read_text())
        yield Aws(json.loads(log.read_text().splitlines()[-1])["url"])


def connected(plane: ControlPlane) -> aiohttp.ClientSession:
    """An HTTP session with an API server, as an administrator. URLs are paths on the server."""
    trust = ssl.create_default_context(cafile=str(plane.ca_file))
    connector = aiohttp.TCPConnector(ssl=trust, limit=_WRITERS)
    return aiohttp.ClientSession(
        plane.url, connector=connector, headers={"Authorization": f"Bearer {plane.token}"}
    )


async def create(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    """Create an object, and retry while the API server does not serve its kind yet."""
    while True:
        async with http.post(path, json=body) as answer:
            if answer.status != _AGAIN:
                answer.raise_for_status()
                return
        await asyncio.sleep(1)


def _booking(window: Window) -> dict[str, Any]:
    times = {"start_at": window.start_at.isoformat(), "end_at": window.end_at.isoformat()}
    return {"resource_name": window.tag, "user_id": "bench", **times}


def manifest(kind: Kind[Any], name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """An object as a user writes it."""
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}, "spec": spec}


def rss_mib(pid: int) -> float:
    """The resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
