"""containerd with its own root directory, state directory and socket."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from booking_operator.devcluster.process import ChildProcess
from tests.support.node.requirements import CNI

PAUSE = "booking-operator.invalid/pause:1"
_SECONDS = 120
_CONFIG = """\
version = 2
root = "{state}/root"
state = "{state}/state"

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{state}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# A machine may lack CAP_SYS_RESOURCE, which lowering a score needs, and AppArmor's tools.
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{networks}"
"""


@dataclass(frozen=True, slots=True)
class Containerd:
    """A running containerd."""

    socket: Path

    def load(self, archive: Path) -> None:
        """Import the images of an archive.

        Raises:
            AssertionError: containerd refuses the archive. The message has its stderr.
        """
        self._ctr("image", "import", str(archive))

    def _ctr(self, *arguments: str) -> str:
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
        return done.stdout


@contextmanager
def containerd(state: Path, networks: Path) -> Iterator[Containerd]:
    """Run containerd until the end of the block. `sweep` removes containers that still run then."""
    state.mkdir()
    socket, config = state / "containerd.sock", state / "config.toml"
    config.write_text(
        _CONFIG.format(
            state=state, socket=socket, pause=PAUSE, snapshotter="overlayfs", cni=CNI, networks=networks
        )
    )
    command = ["containerd", "--config", str(config)]
    with ChildProcess("containerd", command, state / "containerd.log") as process:
        runtime = Containerd(socket)
        process.wait_until(lambda: _answers(socket))
        yield runtime


def _answers(socket: Path) -> bool:
    command = ["ctr", "--address", str(socket), "--connect-timeout", "1s", "version"]
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
