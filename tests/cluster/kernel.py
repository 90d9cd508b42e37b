"""What the kernel knows of a pod's container."""

from pathlib import Path
from typing import Any

_CGROUPS = Path("/sys/fs/cgroup")


def processes(pod: dict[str, Any]) -> list[int]:
    """Its process ids, as the machine counts them."""
    return [int(line) for line in (_group(pod) / "cgroup.procs").read_text().split()]


def memory(pod: dict[str, Any]) -> tuple[int, int]:
    """What it uses that the kernel cannot take back, and its limit, in bytes."""
    group = _group(pod)
    entries = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    second = (group / "memory.max").exists()  # control groups, version 2
    used, limit = ("anon", "memory.max") if second else ("rss", "memory.limit_in_bytes")
    return int(entries[used]), int((group / limit).read_text())


def _group(pod: dict[str, Any]) -> Path:
    """Where its control group is, of several hierarchies that which counts its memory."""
    (status,) = pod["status"]["containerStatuses"]
    name = Path("k8s.io", status["containerID"].removeprefix("containerd://"))
    first = _CGROUPS / "memory" / name
    return first if first.is_dir() else _CGROUPS / name
