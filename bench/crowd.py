"""Measure how a namespace with very many bookings affects another namespace: memory and lateness.

The script fills etcd with bookings of one namespace ("crowd"), all for one Resource, and starts the operator.
A second namespace ("neighbour") then books a Resource of its own several times. In the first round the crowd
does not change. In the second round, 1,000 more bookings of the crowd are created before each start of the
neighbour, and begin with it.

    python -m bench.crowd                        100,000 bookings; four minutes
    python -m bench.crowd --bookings 1000
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.population import fill, objects, stored
from bench.scale import READY_TIMEOUT_SECONDS, cluster, logged, memory_mib
from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.devcluster.binaries import find_kubectl
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.instances import Instances
from booking_operator.devcluster.kubectl import Kubectl
from booking_operator.devcluster.moto import CREDENTIALS
from booking_operator.devcluster.process import ChildProcess
from booking_operator.domain.formatting import format_utc

NEIGHBOUR, CROWD = "neighbour", "group-00000"
STARTS, APART, LENGTH = 8, timedelta(seconds=6), timedelta(seconds=3)
BURST = 1000


@dataclass(frozen=True)
class Figures:
    """The results: memory in MiB, and the neighbour's lateness in seconds for each start.

    Attributes:
        bookings: the number of bookings of the crowd.
        rss_mib: resident memory when all objects are reconciled.
        peak_mib: the largest resident memory of the whole run.
        still: the lateness while the crowd does not change.
        stirred: the lateness while the crowd creates bookings.
    """

    bookings: int
    rss_mib: float
    peak_mib: float
    still: list[float]
    stirred: list[float]


def neighbour(call: Kubectl) -> None:
    """Create the neighbour's namespace and its Resource."""
    call("create", "namespace", NEIGHBOUR)
    spec = {"type": "ec2", "tag": NEIGHBOUR}
    call("-n", NEIGHBOUR, "apply", "-f", "-", stdin=json.dumps(_object(RESOURCE, NEIGHBOUR, spec)))


def book(call: Kubectl, starts: list[datetime]) -> None:
    """Create bookings of the neighbour that begin at `starts`."""
    items = []
    for start in starts:
        times = {"start_at": format_utc(start), "end_at": format_utc(start + LENGTH)}
        spec = {"resource_name": NEIGHBOUR, "user_id": "ada"} | times
        items.append(_object(BOOKING, f"at-{start:%H%M%S}", spec))
    whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    call("-n", NEIGHBOUR, "apply", "-f", "-", stdin=whole)


def _object(kind: Kind[Any], name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}, "spec": spec}


def burst(start: datetime) -> Iterator[tuple[Kind[Any], dict[str, Any]]]:
    """Generate bookings of the crowd that all begin at `start`."""
    times = {"start_at": format_utc(start), "end_at": format_utc(start + timedelta(hours=1))}
    spec = {"resource_name": CROWD, "user_id": "mallory"} | times
    for number in range(BURST):
        name = f"burst-{start:%H%M%S}-{number:04}"
        yield BOOKING, stored(BOOKING, name, spec, datetime.now(UTC), settled=False)


def lateness(log: Path, starts: list[datetime]) -> list[float]:
    """The time in seconds from each of `starts` until AWS accepted the start of the neighbour's instance.

    The value is infinite if AWS accepted no start before the end of the booking.
    """
    accepted = [
        datetime.fromisoformat(line["timestamp"])
        for line in map(json.loads, log.read_text().splitlines())
        if line["event"] == "instances_start_accepted" and NEIGHBOUR in line["tags"]
    ]
    found = []
    for start in starts:
        first = next((at for at in accepted if start <= at < start + LENGTH), None)
        found.append((first - start).total_seconds() if first else float("inf"))
    return found


def run(plane: ControlPlane, call: Kubectl, log: Path, *, stir: bool) -> list[float]:
    """Create the neighbour's bookings, and with `stir` also those of the crowd, and return the lateness."""
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=10)
    starts = [begin + number * APART for number in range(STARTS)]
    book(call, starts)
    for start in starts:
        if stir:
            asyncio.run(fill(plane, burst(start)))
        time.sleep(max(0.0, (start - datetime.now(UTC)).total_seconds()))
    time.sleep((LENGTH + timedelta(seconds=2)).total_seconds())
    return lateness(log, starts)


def measure(bookings: int) -> Figures:
    """Run the measurement on a new cluster."""
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as (plane, moto):
        directory, now = Path(name), datetime.now(UTC).replace(microsecond=0)
        call, instances = Kubectl(find_kubectl(print), plane.kubeconfig), Instances(moto.url)
        for tag in (CROWD, NEIGHBOUR):
            instances.create(tag, 1)
        neighbour(call)
        made = (
            (kind, stored(kind, name, spec, now, settled=True))
            for kind, name, spec in objects(bookings, 1, now)
        )
        asyncio.run(fill(plane, made))
        environ = {"KUBECONFIG": str(plane.kubeconfig), "AWS_ENDPOINT_URL": moto.url, **CREDENTIALS}
        command = [sys.executable, "-m", "booking_operator", "run", "--log-format=json"]
        command += ["--metrics-bind-address=0", "--health-probe-bind-address=0"]
        log = directory / "operator.log"
        with ChildProcess("operator", command, log, environ) as operator:
            operator.wait_until(lambda: logged(log, "all_reconciled") is not None, READY_TIMEOUT_SECONDS)
            memory = memory_mib(operator.pid or 0)
            still = run(plane, call, log, stir=False)
            stirred = run(plane, call, log, stir=True)
            peak = memory_mib(operator.pid or 0)["VmHWM"]
        return Figures(bookings, memory["VmRSS"], peak, still, stirred)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bookings", type=int, default=100_000)
    found = measure(parser.parse_args().bookings)
    print(f"\n{found.bookings} bookings in one namespace: {found.rss_mib:.0f} MiB, peak {found.peak_mib:.0f}")
    for name, late in (("does not change", found.still), ("creates bookings", found.stirred)):
        print(
            f"the neighbour's starts while the crowd {name}: {sorted(late)[len(late) // 2]:.2f} s late",
            end="",
        )
        print(f" (median of {len(late)}), {max(late):.2f} s at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
