"""Container images, built by buildah from Debian packages and this repository, without a registry.

The base image is built locally under the name of the real one, so that the Dockerfile is used unchanged. The
images are kept in the user's cache directory, and rebuilt only if their inputs have changed.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.11-slim-bookworm"
IMAGE = "localhost/booking-operator"
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_SUITE = "bookworm"
_DAYS = 7
"""An older base image is rebuilt, to get Debian's updates."""
_HOURS = 3
_SECONDS = 900
_SOURCES = ("Dockerfile", ".dockerignore", "constraints.txt", "pyproject.toml", "LICENSE")


@dataclass(frozen=True, slots=True)
class Store:
    """An image store that only these tests use."""

    directory: Path

    def buildah(self, *arguments: str, seconds: float = _SECONDS) -> str:
        """Run one buildah command on the store, and return its output.

        Raises:
            AssertionError: the command failed. The message has the end of its stderr.
        """
        command = [
            "buildah",
            f"--root={self.directory / 'storage'}",
            f"--runroot={self.directory / 'run'}",
            "--storage-driver=overlay",
            *arguments,
        ]
        # chroot isolation works without namespaces and cgroups, which a machine may forbid.
        environ = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=environ, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments[:2])}: {done.stderr.strip()[-3000:]}"
        return done.stdout.strip()

    def environ(self) -> dict[str, str]:
        """The environment variables with which other programs run buildah on the store."""
        config = self.directory / "storage.conf"
        paths = f'graphroot = "{self.directory / "storage"}"\nrunroot = "{self.directory / "run"}"\n'
        config.write_text(f'[storage]\ndriver = "overlay"\n{paths}')
        return {"BUILDAH_ISOLATION": "chroot", "CONTAINERS_STORAGE_CONF": str(config)}

    def inspect(self, image: str) -> dict[str, Any]:
        """The configuration of an image, in OCI format."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type=image", image))["OCIv1"]
        return found

    def run(self, container: tuple[str, Path], *command: str) -> str:
        """Run one command in a container as the image's user, and return its output."""
        return self.buildah("run", container[0], "--", *command, seconds=60)

    @contextmanager
    def container(self, image: str) -> Iterator[tuple[str, Path]]:
        """A container of an image: its name, and the mount point of its root file system."""
        name = self.buildah("from", "--pull-never", image)
        try:
            yield name, Path(self.buildah("mount", name))
        finally:
            self.buildah("rm", name)

    def operator(self) -> str:
        """Build the operator's image from the unchanged Dockerfile; return its name."""
        with self._locked():
            inputs = _digest(*_sources(), extra=self._base())
            name = f"{IMAGE}:{inputs}"
            if not self._has(name):
                options = ["--layers", "--pull-never"]
                with pip_settings(self.directory) as volumes:
                    # With a tag of its own, the stage with the dependencies is not pruned.
                    stage = ["--target=build", f"--tag={IMAGE}-build"]
                    self.buildah("build", *options, *volumes, *stage, str(ROOT))
                    self.buildah("build", *options, *volumes, f"--tag={name}", str(ROOT))
                self._forget_others(name)
            return name

    def program(self, path: Path, name: str) -> Path:
        """Create an archive of an image that contains one static program; return its path."""
        with self._locked():
            container = self.buildah("from", "scratch")
            try:
                self.buildah("copy", container, str(path), f"/{path.name}")
                self.buildah("config", f'--entrypoint=["/{path.name}"]', container)
                self.buildah("commit", container, name)
            finally:
                self.buildah("rm", container)
            return self._archived(name, name)

    def archive(self, image: str, name: str) -> Path:
        """Create an archive of an image under another name, for import into containerd; return its path."""
        with self._locked():
            return self._archived(image, name)

    def _archived(self, image: str, name: str) -> Path:
        target = self.directory / f"{name.rpartition('/')[2].replace(':', '-')}.tar"
        target.unlink(missing_ok=True)
        self.buildah("push", image, f"oci-archive:{target}:{name}")
        return target

    def _base(self) -> str:
        """Build the base image if it is missing or old; return its id."""
        if not self._has(BASE) or self._base_is_old():
            archive = self.directory / "base.tar"
            _run("mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", "--quiet", _SUITE, str(archive))
            container = self.buildah("from", "scratch")
            try:
                self.buildah("add", container, str(archive), "/")
                self.buildah("config", f"--label=made-of={_PACKAGES}", container)
                self.buildah("commit", container, BASE)
            finally:
                self.buildah("rm", container)
                archive.unlink(missing_ok=True)
            (self.directory / "base-made").touch()
        return self.buildah("images", "--quiet", BASE)

    def _base_is_old(self) -> bool:
        stamp = self.directory / "base-made"
        if not stamp.exists() or time() - stamp.stat().st_mtime > _DAYS * 86400:
            return True
        return bool(self.inspect(BASE)["config"].get("Labels", {}).get("made-of") != _PACKAGES)

    def _has(self, image: str) -> bool:
        return any(
            image in (found.get("names") or [])
            for found in json.loads(self.buildah("images", "--json") or "null") or []
        )

    def _forget_others(self, kept: str) -> None:
        """Remove builds older than `_HOURS`, with their layers. Another run may use newer ones."""
        for found in json.loads(self.buildah("images", "--json")):
            for name in found.get("names") or []:
                old = time() - found["created"] > _HOURS * 3600
                if name.startswith(f"{IMAGE}:") and name != kept and old:
                    self.buildah("rmi", "--force", name)
        self.buildah("rmi", "--prune", "--force")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def store() -> Store:
    """The image store in the user's cache directory."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Store(base / "booking-operator" / "images")


def _sources() -> list[Path]:
    code = [path for path in (ROOT / "booking_operator").rglob("*") if "__pycache__" not in path.parts]
    return [*(ROOT / name for name in _SOURCES), *sorted(path for path in code if path.is_file())]


def _digest(*paths: Path, extra: str) -> str:
    digest = hashlib.sha256(extra.encode())
    for path in paths:
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def pip_settings(directory: Path) -> Iterator[list[str]]:
    """Volumes that give pip in a build the pip settings of this machine, certificates included."""
    settings, volumes = [], []
    for line in _run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        value = value.strip("'\"")
        if name.endswith((".cert", ".find-links")) and Path(value).exists():
            volumes.append(f"--volume={value}:{value}:ro")
        if not name.endswith(".constraint"):
            settings.append(f"{name.rpartition('.')[2]} = {value}\n")
    config = directory / "pip.conf"
    config.write_text("".join(["[global]\n", *dict.fromkeys(settings)]))
    try:
        yield [*dict.fromkeys(volumes), f"--volume={config}:/etc/pip.conf:ro"]
    finally:
        config.unlink()


def _run(*command: str) -> str:
    program = shutil.which(command[0]) or command[0]
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr.strip()[-2000:]}"
    return done.stdout
