"""Starts and stops a cluster of one node."""

import fcntl
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from booking_operator.devcluster.binaries import find_kubectl, find_or_build, find_or_build_node
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.kubectl import Kubectl
from tests.support.images import Store
from tests.support.node import network
from tests.support.node.kubelet import NODE, controllers, kubelet
from tests.support.node.runtime import PAUSE, Containerd, containerd
from tests.support.node.sweep import sweep

DIRECTORY = Path("/var/lib/booking-operator-cluster")
"""A fixed path, so that the next run finds what a killed run left behind."""
_LOCK = Path("/run/lock/booking-operator-cluster")
_FLAGS = (
    f"--service-cluster-ip-range={network.SERVICES}",
    "--allow-privileged",
    # The name of the node is not in DNS.
    "--kubelet-preferred-address-types=InternalIP",
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster."""

    kubectl: Kubectl
    runtime: Containerd
    logs: Path


@contextmanager
def cluster(images: Store) -> Iterator[Cluster]:
    """A cluster whose node is Ready. A lock allows only one on a machine."""
    binaries, node = find_or_build(print), find_or_build_node(print)
    with ExitStack() as stack:
        stack.enter_context(_terminable())
        lock = stack.enter_context(_LOCK.open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(DIRECTORY)
        DIRECTORY.mkdir(mode=0o700)
        stack.callback(sweep, DIRECTORY)
        logs = DIRECTORY / "logs"
        logs.mkdir()
        networks = stack.enter_context(network.bridge(DIRECTORY))
        runtime = stack.enter_context(containerd(DIRECTORY / "containerd", networks))
        runtime.load(images.program(node.pause, PAUSE))
        plane = stack.enter_context(
            ControlPlane(binaries, _FLAGS, pods=True, address=network.API, port=443, within=DIRECTORY)
        )
        # Without SIGKILL, the API server would wait for open watches.
        stack.callback(plane.stop_apiserver, kill=True)
        kubectl = Kubectl(find_kubectl(print), plane.kubeconfig)
        stack.enter_context(controllers(node, plane, logs))
        agent = stack.enter_context(kubelet(node, plane, runtime, DIRECTORY / "kubelet", logs))
        agent.wait_until(lambda: _node_is_ready(kubectl))
        yield Cluster(kubectl, runtime, logs)


def _node_is_ready(kubectl: Kubectl) -> bool:
    found = kubectl.attempt("get", "node", NODE, "-o", "json")
    if found.returncode != 0:
        return False
    conditions = json.loads(found.stdout)["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM as KeyboardInterrupt, so that context managers stop everything."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
