"""Measure memory and cold start with many objects, in a real API server.

The script fills etcd with bookings and Resources, and starts the operator as a process three times: with a
few objects; with all of them, without a status, which the operator has to write; and once more, as after a
restart. A start is complete when the operator logs that all objects are reconciled. The script then reads
each object and checks that its status has the current generation.

    python -m bench.scale                                        10,000 bookings, 400 resources
    python -m bench.scale --bookings 50000 --resources 2000
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp

from bench.population import NAMESPACE, fill, objects, stored
from bench.world import connected
from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.instances import Instances
from booking_operator.devcluster.moto import CREDENTIALS, MotoServer
from booking_operator.devcluster.playground import control_plane
from booking_operator.devcluster.process import ChildProcess

FEW = 3
GROUPS = 400
"""The number of Resources that have an instance. moto needs a millisecond for each in each Describe, on the
same cores."""
READY_TIMEOUT_SECONDS = 1800
SETTLE_SECONDS = 5
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Start:
    """One start of the operator.

    Attributes:
        plans_seconds: the time from the start of the process until every Resource was reconciled once.
        reconciled_seconds: the time from the start of the process until all objects were reconciled, and all
            changes written.
        cpu_seconds: the CPU time of the process until then, user and system.
        rss_mib: resident memory, `SETTLE_SECONDS` later.
        peak_mib: the peak of resident memory.
    """

    plans_seconds: float
    reconciled_seconds: float
    cpu_seconds: float
    rss_mib: float
    peak_mib: float


@dataclass(frozen=True)
class Figures:
    """The results: starts with a few objects, with all objects for the first time, and as a restart."""

    bookings: int
    resources: int
    idle: Start
    first: Start
    restart: Start


class Api:
    """Reads the API server."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def unreconciled(self, kind: Kind[Any]) -> int:
        """The number of objects without a status, or with a status of an older generation."""
        found, token = 0, ""
        while True:
            query = {"limit": "500", "continue": token} if token else {"limit": "500"}
            async with self._http.get(kind.path(NAMESPACE), params=query) as answer:
                answer.raise_for_status()
                page: dict[str, Any] = await answer.json()
            found += len(
                [
                    item
                    for item in page["items"]
                    if item.get("status", {}).get("observedGeneration") != item["metadata"]["generation"]
                ]
            )
            token = page["metadata"].get("continue", "")
            if not token:
                return found


@contextmanager
def cluster(directory: Path) -> Iterator[tuple[ControlPlane, MotoServer]]:
    """An API server with the CRDs of the operator, and a fake AWS."""
    with MotoServer(directory) as moto, control_plane() as plane:
        yield plane, moto


async def check(plane: ControlPlane) -> None:
    """Check that every object is reconciled.

    Raises:
        RuntimeError: objects are not reconciled, although the operator logged that all are.
    """
    async with connected(plane) as http:
        left = {kind.plural: await Api(http).unreconciled(kind) for kind in (RESOURCE, BOOKING)}
    if any(left.values()):
        raise RuntimeError(f"the operator says that all is reconciled, but these are not: {left}")


def start(plane: ControlPlane, moto: MotoServer, directory: Path, name: str) -> Start:
    """Start the operator, wait until all objects are reconciled, wait `SETTLE_SECONDS`, and stop it."""
    environ = {"KUBECONFIG": str(plane.kubeconfig), "AWS_ENDPOINT_URL": moto.url, **CREDENTIALS}
    command = [sys.executable, "-m", "booking_operator", "run", "--log-format=json"]
    command += ["--metrics-bind-address=0", "--health-probe-bind-address=0"]
    began, log = datetime.now(UTC), directory / f"{name}.log"
    with ChildProcess("operator", command, log, environ) as operator:
        operator.wait_until(lambda: logged(log, "all_reconciled") is not None, READY_TIMEOUT_SECONDS)
        pid = operator.pid or 0
        cpu = cpu_seconds(pid)
        time.sleep(SETTLE_SECONDS)
        memory = memory_mib(pid)
    asyncio.run(check(plane))
    return Start(
        plans_seconds=(seen(log, "resources_reconciled") - began).total_seconds(),
        reconciled_seconds=(seen(log, "all_reconciled") - began).total_seconds(),
        cpu_seconds=cpu,
        rss_mib=memory["VmRSS"],
        peak_mib=memory["VmHWM"],
    )


def logged(log: Path, event: str) -> datetime | None:
    """The time at which the operator first logged `event`."""
    for line in log.read_text().splitlines():
        if line.endswith("}") and f'"{event}"' in line:
            return datetime.fromisoformat(json.loads(line)["timestamp"])
    return None


def seen(log: Path, event: str) -> datetime:
    at = logged(log, event)
    if at is None:
        raise RuntimeError(f"the operator's log has no {event}")
    return at


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int) -> Mapping[str, float]:
    """The memory values of /proc/PID/status, such as VmRSS and VmHWM, in MiB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines if words[-1] == "kB"}


def measure(bookings: int, resources: int, *, first_run: bool = True) -> Figures:
    """Measure all starts on a new cluster.

    Without `first_run`, the bookings in etcd already have their status. It takes minutes to patch 50,000
    bookings.
    """
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as (plane, moto):
        directory, now = Path(name), datetime.now(UTC).replace(microsecond=0)
        instances = Instances(moto.url)
        for number in range(min(resources, GROUPS)):
            instances.create(f"group-{number:05}", 1)
        waiting = (
            (kind, stored(kind, name, spec, now, settled=not first_run))
            for kind, name, spec in objects(bookings, resources, now)
        )
        asyncio.run(fill(plane, islice(waiting, FEW)))
        idle = start(plane, moto, directory, "idle")
        asyncio.run(fill(plane, waiting))
        first = start(plane, moto, directory, "first")
        restart = start(plane, moto, directory, "restart")
        return Figures(bookings, resources, idle, first, restart)


def show(figures: Figures) -> None:
    print(f"\n{figures.bookings} bookings, {figures.resources} resources\n")
    columns = ("plans made, s", "reconciled, s", "CPU until then, s", "RSS, MiB", "peak, MiB")
    print(f"{'':<24}" + "".join(f"{column:>18}" for column in columns))
    for name, row in (
        (f"{FEW} resources", figures.idle),
        ("first run over all", figures.first),
        ("restart", figures.restart),
    ):
        print(f"{name:<24}" + "".join(f"{value:>18.1f}" for value in islice(asdict(row).values(), 5)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bookings", type=int, default=10_000)
    parser.add_argument("--resources", type=int, default=400)
    parser.add_argument(
        "--settled",
        action="store_true",
        help="create the bookings with their status, so that there is no first run",
    )
    options = parser.parse_args()
    show(measure(options.bookings, options.resources, first_run=not options.settled))
    return 0


if __name__ == "__main__":
    sys.exit(main())
