"""The bridge that pods are on, and its CNI configuration."""

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
"""The node as pods see it: what they shall reach on it listens here."""
HARDWARE = "02:00:0a:58:00:01"
"""The bridge's own address. Without one it takes that of a port and changes it when that pod goes; the others
then do not reach the node until their neighbour entries expire, up to half a minute later."""
SERVICES = "10.88.1.0/24"
API = "10.88.1.1"
"""The first address of `SERVICES`, which pods get as the address of the API server; without a kube-proxy it
has to be the API server's own."""


@contextmanager
def bridge(state: Path) -> Iterator[Path]:
    """A bridge with both addresses; yields the directory of its CNI configuration."""
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
    """Remove the bridge, if it is there."""
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
