"""Removes everything that any run of a cluster left behind. Each part contains the name of its directory."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

from tests.support.node import network

_LOGS = Path("/var/log/containers")
"""Links to container logs. The kubelet creates them here, regardless of the location of the logs."""
_NETWORKS = Path("/var/lib/cni/results")
"""The cache of libcni for each container. Some files remain after the container is deleted."""
_CGROUPS = Path("/sys/fs/cgroup")
_PROGRAMS = frozenset(
    {
        "containerd",
        "containerd-shim-runc-v2",
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "runc",
    }
)
"""The programs of a cluster. A program that only reads a file in the directory, such as a log, is not one of
them."""
_TIMEOUT_SECONDS = 10.0


def sweep(directory: Path) -> None:
    """Kill all processes of `directory`, unmount its mounts, and remove the directory and the bridge."""
    deadline = monotonic() + _TIMEOUT_SECONDS
    groups: set[Path] = set()
    while found := list(_processes(directory)):
        assert monotonic() < deadline, f"processes {found} of {directory} do not end"
        for pid in found:
            groups |= set(_cgroups(pid))
            _kill(pid)
        sleep(0.05)
    for group in groups:  # runc removes them unless it was killed
        if group.is_dir():
            group.rmdir()
    for point in sorted(_mounts(Path("/proc/self/mountinfo"), directory), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=True, capture_output=True, timeout=30)
    for link in _LOGS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(directory):
            link.unlink()
    for result in _NETWORKS.glob("*"):
        if f"{directory}/" in result.read_text():
            result.unlink()
    network.remove()
    shutil.rmtree(directory, ignore_errors=True)


def _processes(directory: Path) -> Iterator[int]:
    """Programs with the directory in their arguments, and processes in containers of the cluster."""
    own = _namespace(Path("/proc/self"))
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        if pid == os.getpid():
            continue
        try:
            arguments = process.joinpath("cmdline").read_text(errors="replace").split("\0")
            contained = _namespace(process) != own and _mounts(process / "mountinfo", directory, deep=True)
        except OSError:
            continue
        ours = Path(arguments[0]).name in _PROGRAMS
        if contained or (ours and any(_within(argument, directory) for argument in arguments)):
            yield pid


def _within(argument: str, directory: Path) -> bool:
    return argument.rpartition("=")[2].removeprefix("unix://").startswith(f"{directory}/")


def _namespace(process: Path) -> str:
    return str((process / "ns" / "mnt").readlink())


def _mounts(table: Path, directory: Path, *, deep: bool = False) -> list[str]:
    """Mount points under `directory`; with `deep`, all entries of the table that name the directory."""
    lines = table.read_text(errors="replace").splitlines()
    if deep:
        return [line for line in lines if f"{directory}/" in line]
    return [point for line in lines if (point := line.split()[4]).startswith(f"{directory}/")]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _cgroups(pid: int) -> Iterator[Path]:
    """The control groups of a container process; none for other processes."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        path = line.split(":", 2)[2].lstrip("/")
        if path.startswith("k8s.io/"):  # containerd's namespace
            yield from (hierarchy / path for hierarchy in (_CGROUPS, *_CGROUPS.iterdir()))
