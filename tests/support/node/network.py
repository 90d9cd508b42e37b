"""The bridge for the network of the pods, and its CNI configuration."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.node.requirements import CNI

BRIDGE = "booking0"
NETWORK = "booking-operator"
PODS = "10.88.0.0/24"
GATEWAY = "10.88.0.1"
"""The address of the node for pods. Services of the node that pods use listen here."""
HARDWARE = "02:00:0a:58:00:01"
"""The MAC address of the bridge. Without a fixed one, the bridge has the address of a port, and changes it
when the pod of that port stops. Other pods then cannot reach the node until their neighbour entries
expire, up to half a minute later."""
SERVICES = "10.88.1.0/24"
API = "10.88.1.1"
"""The first address of `SERVICES`, which pods use as the address of the API server. There is no kube-proxy,
so the API server has to listen on this address."""


@contextmanager
def bridge(state: Path) -> Iterator[Path]:
    """Create a bridge with both addresses; yield the directory of its CNI configuration."""
    remove()
    _ip("link", "add", BRIDGE, "address", HARDWARE, "type", "bridge")
    try:
        _ip("address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        _ip("address", "add", f"{API}/32", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        yield _configuration(state)
    finally:
        remove()


def remove() -> None:
    """Remove the bridge if it exists."""
    if Path("/sys/class/net", BRIDGE).exists():
        _ip("link", "delete", BRIDGE)


def _configuration(state: Path) -> Path:
    ipam = {
        "type": "host-local",
        "dataDir": str(state / "addresses"),
        "ranges": [[{"subnet": PODS, "gateway": GATEWAY}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugin = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "ipam": ipam}
    directory = state / "cni"
    directory.mkdir()
    content = {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [plugin]}
    (directory / "10-bridge.conflist").write_text(json.dumps(content))
    assert (CNI / "bridge").exists()
    return directory


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
