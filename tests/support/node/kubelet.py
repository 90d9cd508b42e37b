"""The kubelet, the controller manager and the scheduler."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from booking_operator.devcluster.binaries import NodeBinaries
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.process import ChildProcess, free_port
from tests.support.node.network import GATEWAY
from tests.support.node.runtime import Containerd

NODE = "n1"


@contextmanager
def controllers(binaries: NodeBinaries, plane: ControlPlane, logs: Path) -> Iterator[None]:
    """The controller manager and the scheduler, which create pods and assign them to the node."""
    common = [f"--kubeconfig={plane.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"]
    manager = [
        str(binaries.kube_controller_manager),
        *common,
        f"--secure-port={free_port()}",
        f"--service-account-private-key-file={plane.directory / 'sa.key'}",
        f"--root-ca-file={plane.ca_file}",
    ]
    scheduler = [str(binaries.kube_scheduler), *common, f"--secure-port={free_port()}"]
    with ExitStack() as stack:
        for command in (manager, scheduler):
            name = Path(command[0]).name
            stack.enter_context(ChildProcess(name, command, logs / f"{name}.log"))
        yield


@contextmanager
def kubelet(
    binaries: NodeBinaries, plane: ControlPlane, runtime: Containerd, state: Path, logs: Path
) -> Iterator[ChildProcess]:
    """The kubelet of the node `NODE`."""
    state.mkdir()
    config = state / "config.yaml"
    config.write_text(yaml.safe_dump(_configuration(runtime, state)))
    command = [
        str(binaries.kubelet),
        f"--config={config}",
        f"--kubeconfig={plane.kubeconfig}",
        f"--root-dir={state / 'root'}",
        f"--cert-dir={state / 'certificates'}",
        f"--hostname-override={NODE}",
        f"--node-ip={GATEWAY}",
    ]
    with ChildProcess("kubelet", command, logs / "kubelet.log") as process:
        yield process


def _configuration(runtime: Containerd, state: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{runtime.socket}",
        # It listens on the bridge, which only the API server and pods can reach. The API server sends no
        # client certificate.
        "address": GATEWAY,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "healthzPort": 0,
        "podLogsDir": str(state / "logs"),
        "volumePluginDir": str(state / "plugins"),
        # The machine may have cgroup v1 or v2, and may lack CAP_SYS_RESOURCE and /dev/kmsg.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        # Without this, the node reports no ephemeral storage, and pods that request some stay Pending.
        "localStorageCapacityIsolation": True,
        "oomScoreAdj": 0,
        "featureGates": {"KubeletInUserNamespace": True},
        # The tests must not depend on the free disk space and memory of the machine.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [],
        "nodeStatusUpdateFrequency": "2s",
    }
