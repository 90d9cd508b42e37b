"""Programs for tests and releases, built once from published Go modules into the cache of the devcluster."""

import os
import subprocess
import tempfile
from pathlib import Path

from booking_operator.devcluster.binaries import cache_directory, find_go, locked
from booking_operator.devcluster.gobuild import environ

HELM = "helm.sh/helm/v4/cmd/helm@v4.3.2"
OAUTH2_PROXY = "github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6"
_BUILD_SECONDS = 1200


def version(package: str) -> str:
    """Return the version in `package`, such as `v4.3.2`."""
    return package.partition("@")[2]


def program(name: str, package: str) -> Path:
    """Return the program `name` of a main package with its version, such as `HELM`. Build it if necessary."""
    cache = cache_directory()
    target = cache / f"{name}-{version(package)}"
    if not target.exists():
        with locked(cache, print):
            if not target.exists():
                _build(name, package, target)
    return target


def _build(name: str, package: str, target: Path) -> None:
    go = find_go(target.parent, print, os.environ)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        subprocess.run(
            [str(go), "install", "-trimpath", package],
            env=environ(go) | {"GOBIN": directory},
            check=True,
            timeout=_BUILD_SECONDS,
        )
        (Path(directory) / name).replace(target)
