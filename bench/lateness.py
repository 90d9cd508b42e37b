"""How late starts and stops leave, what idling costs, and how soon the operator is ready.

Runs the operator as a process against a real kube-apiserver and a fake AWS that records when each request
arrived. Arrival is what is measured: it comes after signing and sending, so it is never earlier than "left".

    tox -e bench                     50 resources over a minute, then a minute of idling
    tox -e bench -- --resources 10 --spread 15 --idle 15
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3

from booking_operator.api import crd
from booking_operator.cloud.tags import APPLICATION_TAG
from booking_operator.devcluster.binaries import find_kubectl, find_or_build
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.kubectl import Kubectl
from booking_operator.devcluster.moto import MotoServer
from booking_operator.devcluster.process import ChildProcess

ROOT = Path(__file__).parent.parent
REGION = "eu-west-1"
INSTANCES = 2
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Window:
    """When one group is to be started and stopped."""

    tag: str
    start_at: datetime
    end_at: datetime


@contextmanager
def recording_aws() -> Iterator[tuple[str, str]]:
    """The recording proxy and moto; yields both URLs.

    Each has a process of its own: moto takes tens of milliseconds for a Describe, and the proxy would note
    late what arrives meanwhile.
    """
    with tempfile.TemporaryDirectory() as directory, MotoServer(Path(directory)) as moto:
        command = [
            sys.executable,
            "-m",
            "tests.support.aws_process",
            "--moto-url",
            moto.url,
            "--transition-seconds",
            "1",
        ]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield json.loads(process.stdout.readline() if process.stdout else "")["url"], moto.url
            finally:
                process.terminate()


def calls(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/-/calls", timeout=30) as answer:  # noqa: S310
        recorded: list[dict[str, Any]] = json.load(answer)
    return recorded


def create_groups(moto: str, tags: Sequence[str]) -> dict[str, str]:
    """Stopped instances for each group; returns the group of each instance."""
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    ec2: Any = boto3.client("ec2", endpoint_url=moto, region_name=REGION, **keys)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    groups: dict[str, str] = {}
    for tag in tags:
        spec = [{"ResourceType": "instance", "Tags": [{"Key": APPLICATION_TAG, "Value": tag}]}]
        launched = ec2.run_instances(
            ImageId=image, MinCount=INSTANCES, MaxCount=INSTANCES, TagSpecifications=spec
        )
        groups |= {instance["InstanceId"]: tag for instance in launched["Instances"]}
    ec2.stop_instances(InstanceIds=list(groups))
    return groups


def manifests(windows: Sequence[Window]) -> str:
    api = {"apiVersion": "manager.kotaico.de/v1"}
    items: list[dict[str, Any]] = []
    for window in windows:
        times = {"start_at": window.start_at.isoformat(), "end_at": window.end_at.isoformat()}
        spec = {"resource_name": window.tag, "user_id": "bench", **times}
        items.append(
            api | {"kind": "Resource", "metadata": {"name": window.tag}, "spec": {"tag": window.tag}}
        )
        items.append(api | {"kind": "Booking", "metadata": {"name": window.tag}, "spec": spec})
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def lateness(
    windows: Sequence[Window], groups: dict[str, str], recorded: Sequence[dict[str, Any]]
) -> dict[str, list[float]]:
    """Milliseconds from each boundary to the arrival of the first call for its group."""
    late: dict[str, list[float]] = {}
    for action, boundary in (("StartInstances", "start_at"), ("StopInstances", "end_at")):
        arrivals: dict[str, datetime] = {}
        for call in (call for call in recorded if call["action"] == action):
            for tag in {groups[id_] for id_ in call["instance_ids"]}:
                arrivals.setdefault(tag, datetime.fromisoformat(call["at"]))
        late[action] = [
            (arrivals[window.tag] - getattr(window, boundary)).total_seconds() * 1000
            for window in windows
            if window.tag in arrivals
        ]
    return late


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    late: dict[str, list[float]]
    calls_an_hour: float
    cpu_percent: float
    ready_seconds: float
    rss_mib: float

    @property
    def complete(self) -> bool:
        """Whether nothing left early."""
        return all(values and min(values) >= 0 for values in self.late.values())


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def spread(options: argparse.Namespace, tags: Sequence[str]) -> list[Window]:
    """One window for each group, at random, so as not to be in step with anything; the same in each run."""
    first, chance = datetime.now(UTC) + timedelta(seconds=15), random.Random(0)
    offsets = sorted(chance.uniform(0, options.spread) for _ in tags)
    starts = [first + timedelta(seconds=offset) for offset in offsets]
    length = timedelta(seconds=options.spread / 2 + 5)
    return [Window(tag, start, start + length) for tag, start in zip(tags, starts, strict=True)]


def measure(
    options: argparse.Namespace, url: str, moto: str, plane: ControlPlane, directory: Path
) -> Figures:
    call = Kubectl(find_kubectl(print), plane.kubeconfig)
    crd.write(directory / "crds")
    call("apply", "-f", str(directory / "crds"))
    call("wait", "--for=condition=Established", "-f", str(directory / "crds"))
    tags = [f"group-{number:03}" for number in range(options.resources)]
    groups = create_groups(moto, tags)
    windows = spread(options, tags)
    call("apply", "-f", "-", stdin=manifests(windows))
    environ = {
        "KUBECONFIG": str(plane.kubeconfig),
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    command = [sys.executable, "-m", "booking_operator", "run", "--log-format=json"]
    began = time.monotonic()
    with ChildProcess("operator", command, directory / "operator.log", environ) as operator:
        operator.wait_until(lambda: "first_plans_made" in operator.log.read_text())
        ready = time.monotonic() - began
        time.sleep(max(0.0, (windows[-1].end_at - datetime.now(UTC)).total_seconds()) + 5)
        recorded, pid = calls(url), operator.pid or 0
        cpu, idle_from = cpu_seconds(pid), time.monotonic()
        time.sleep(options.idle)
        idle = time.monotonic() - idle_from
        return Figures(
            late=lateness(windows, groups, recorded),
            calls_an_hour=(len(calls(url)) - len(recorded)) * 3600 / idle,
            cpu_percent=(cpu_seconds(pid) - cpu) / idle * 100,
            ready_seconds=ready,
            rss_mib=rss_mib(pid),
        )


def show(options: argparse.Namespace, figures: Figures) -> None:
    print(f"\n{options.resources} resources of {INSTANCES} instances, spread over {options.spread:.0f} s\n")
    print(f"{'':<34}{'n':>5}{'min':>9}{'p50':>9}{'p99':>9}{'max':>9}   target")
    for action, late in figures.late.items():
        row = (min(late), statistics.median(late), quantile(late, 0.99), max(late))
        shown = "".join(f"{value:>9.1f}" for value in row)
        print(f"{action + ' arrives after, ms':<34}{len(late):>5}{shown}   p99 <= 25, never < 0")
    print()
    for name, value, target in (
        ("AWS calls an hour, idle", f"{figures.calls_an_hour:.0f}", "<= 65"),
        ("CPU, idle", f"{figures.cpu_percent:.2f} %", "near 0"),
        ("first plans made after the start, s", f"{figures.ready_seconds:.2f}", "<= 3"),
        ("RSS, idle, MiB", f"{figures.rss_mib:.0f}", "<= 150"),
    ):
        print(f"{name:<38}{value:>19}{'':>18}   {target}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resources", type=int, default=50)
    parser.add_argument(
        "--spread", type=float, default=60, help="seconds that the boundaries are spread over"
    )
    parser.add_argument("--idle", type=float, default=60, help="seconds of idling that are measured")
    options = parser.parse_args()
    binaries = find_or_build(print)
    with (
        recording_aws() as (url, moto),
        ControlPlane(binaries) as plane,
        tempfile.TemporaryDirectory() as directory,
    ):
        figures = measure(options, url, moto, plane, Path(directory))
    show(options, figures)
    all_seen = all(len(late) == options.resources for late in figures.late.values())
    return 0 if all_seen and figures.complete else 1


if __name__ == "__main__":
    sys.exit(main())
