"""The kernel's view of a pod's container."""

from pathlib import Path
from typing import Any

_CGROUPS = Path("/sys/fs/cgroup")


def processes(pod: dict[str, Any]) -> list[int]:
    """The process ids of the container in the PID namespace of the machine."""
    return [int(line) for line in (_group(pod) / "cgroup.procs").read_text().split()]


def memory(pod: dict[str, Any]) -> tuple[int, int]:
    """The memory of the container that the kernel cannot reclaim, and its limit, in bytes."""
    group = _group(pod)
    entries = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    second = (group / "memory.max").exists()  # control groups, version 2
    used, limit = ("anon", "memory.max") if second else ("rss", "memory.limit_in_bytes")
    return int(entries[used]), int((group / limit).read_text())


def _group(pod: dict[str, Any]) -> Path:
    """The control group of the container; for cgroup v1, the one of the memory controller."""
    (status,) = pod["status"]["containerStatuses"]
    name = Path("k8s.io", status["containerID"].removeprefix("containerd://"))
    first = _CGROUPS / "memory" / name
    return first if first.is_dir() else _CGROUPS / name
