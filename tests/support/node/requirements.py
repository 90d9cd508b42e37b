"""The programs that the machine must provide, and how to install them."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

CNI = Path("/usr/lib/cni")
IMAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "newuidmap": "uidmap"}
"""Programs that build images, with their Debian packages."""
NODES = {"containerd": "containerd", "ctr": "containerd", "runc": "runc", "ip": "iproute2"}
"""Programs that run pods, with their Debian packages."""


def missing(programs: Mapping[str, str], *, root: bool | None = None) -> str:
    """What is missing and how to fix it; an empty string if nothing is missing."""
    if sys.platform != "linux":
        return "it takes a Linux machine"
    packages = {package for name, package in programs.items() if shutil.which(name) is None}
    if "runc" in programs and not (CNI / "bridge").exists():
        packages.add("containernetworking-plugins")
    lacks = [] if (os.geteuid() == 0 if root is None else root) else ["run it as root"]
    lacks += [f"apt-get install {' '.join(sorted(packages))}"] if packages else []
    return ", and ".join(lacks)
