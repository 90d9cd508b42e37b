"""One control plane for all processes of a test run.

The first process that needs the control plane starts it. The others read the path of its kubeconfig from a
file. Each process holds a shared lock while it uses the control plane. The process that started it waits for
the other locks before it stops it. The system releases the lock of a process that dies, so that nothing waits
for such a process.
"""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from booking_operator.devcluster.playground import control_plane


@contextmanager
def shared_control_plane(directory: Path) -> Iterator[Path]:
    """Yield the kubeconfig of a control plane that has the CRDs of the operator.

    Args:
        directory: the same for all processes of the run, and used for nothing else.
    """
    address = directory / "kubeconfig-path"
    with ExitStack() as started, (directory / "users").open("a") as users:
        with _locked(directory / "starting"):
            if not address.exists():
                plane = started.enter_context(control_plane())
                address.write_text(str(plane.kubeconfig))
                started.callback(_retire, directory, address)
            kubeconfig = Path(address.read_text())
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield kubeconfig
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)


def _retire(directory: Path, address: Path) -> None:
    """Let no further process use the control plane, and wait for those that do."""
    with _locked(directory / "starting"):
        address.unlink()
    with _locked(directory / "users"):
        pass


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
