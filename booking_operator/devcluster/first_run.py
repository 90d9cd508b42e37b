"""What the first command of the README says before it installs anything.

`toxfile.py` prints it before tox has installed a package, so this module imports only the standard library.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from booking_operator.devcluster.binaries import cache_directory, missing

_COMMAND = "python3 -m tox -e demo"
_CLUSTER = "booking-demo"
"""The name of the cluster in the commands for kind and minikube."""


def introduction(environ: Mapping[str, str]) -> str:
    """Return what the demo does, how long it takes and why, and the faster ways that this machine has.

    Args:
        environ: the environment variables: PATH, HOME, KUBECONFIG, and those of the cache.
    """
    lines = [
        "The demo runs a real kube-apiserver, a fake AWS and the operator on this machine. Bookings start",
        "and stop instances, an Auto Scaling group, an ECS service and a database.",
    ]
    if not missing(environ):
        lines.append("It takes half a minute. The first time, it also installs packages for a minute.")
        return "\n".join(lines)
    lines += [
        "The first run takes 7 to 10 minutes: a minute to install packages, and the rest to compile etcd and",
        "kube-apiserver, which are published as source code. They stay in",
        f"{cache_directory(environ)}. After that, it takes half a minute.",
    ]
    if ways := list(_faster_ways(environ)):
        lines += ["", "You can have it in two minutes, without compiling. Press Ctrl-C, and then:", *ways]
    return "\n".join(lines)


def _faster_ways(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines about each way to a cluster that this machine has."""
    path = environ.get("PATH", "")
    if context := current_context(environ):
        yield "- in the cluster of your kubeconfig. The demo creates the CRDs and a namespace there, and"
        yield "  removes both at its end:"
        yield f"    {_in(context)}"
    docker = shutil.which("docker", path=path) or shutil.which("podman", path=path)
    if shutil.which("kind", path=path) and docker:
        yield "- with kind:"
        yield f"    kind create cluster --name {_CLUSTER} && {_in(f'kind-{_CLUSTER}')}"
    elif docker:
        yield "- Docker is here: install kind (https://kind.sigs.k8s.io), and run this command again"
    if shutil.which("minikube", path=path):
        yield "- with minikube:"
        yield f"    minikube start --profile {_CLUSTER} && {_in(_CLUSTER)}"


def _in(context: str) -> str:
    return f"{_COMMAND} -- --context {context}"


def current_context(environ: Mapping[str, str]) -> str:
    """Return the current context of the kubeconfig; empty without one.

    This reads the first file that names one, as kubectl does. It needs no YAML parser, because the value is a
    scalar at the top.
    """
    default = str(Path(environ.get("HOME", "")) / ".kube" / "config")
    for name in (environ.get("KUBECONFIG") or default).split(":"):
        path = Path(name)
        if name and path.is_file():
            found = re.search(r"^current-context: *[\"']?([^\s\"']+)", path.read_text(), re.MULTILINE)
            if found:
                return found[1]
    return ""
