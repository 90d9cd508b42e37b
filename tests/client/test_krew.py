"""The manifest for krew, and the launcher that krew installs."""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KREW = ROOT / "manifests" / "krew"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PROJECT["project"]["version"]


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """A source distribution with the files that matter to krew, in the places where hatchling puts them."""
    path = tmp_path / f"booking_operator-{VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
            archive.add(ROOT / name, f"booking_operator-{VERSION}/{name}")
    return path


def manifest_of(sdist: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.krew", str(sdist)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    manifest: dict[str, Any] = yaml.safe_load(done.stdout)
    return manifest


def test_krew_finds_the_launcher_in_the_source_distribution(sdist: Path, tmp_path: Path) -> None:
    spec = manifest_of(sdist)["spec"]
    [platform] = spec["platforms"]
    assert spec["version"] == f"v{VERSION}"
    assert len(spec["shortDescription"]) <= 50
    assert platform["uri"].endswith(f"/{sdist.name}")
    assert platform["sha256"] == hashlib.sha256(sdist.read_bytes()).hexdigest()
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    installed = [Path(tmp_path / "unpacked" / item["from"]) for item in platform["files"]]
    assert [path.name for path in installed] == ["kubectl-booking", "LICENSE"]
    assert platform["bin"] == installed[0].name
    assert os.access(installed[0], os.X_OK)


def test_another_file_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.krew", str(tmp_path / "other.tar.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert "other.tar.gz is not like booking_operator-0.1.0.tar.gz" in done.stderr


def launched(directory: Path, *programs: str) -> "subprocess.CompletedProcess[str]":
    for name in programs:
        (directory / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (directory / name).chmod(0o755)
    command = ["/bin/sh", str(KREW / "kubectl-booking"), "when", "fri 18:00"]
    environ = {"PATH": str(directory)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("programs", "line"),
    [
        (("uvx", "pipx"), "uvx --quiet --from booking-operator=={} kubectl-booking when fri 18:00"),
        (("pipx",), "pipx run --quiet --spec booking-operator=={} kubectl-booking when fri 18:00"),
    ],
)
def test_the_launcher_runs_the_plugin(programs: tuple[str, ...], line: str, tmp_path: Path) -> None:
    assert launched(tmp_path, *programs).stdout == f"{line.format(VERSION)}\n"


def test_without_uv_and_pipx_the_launcher_says_how_to_go_on(tmp_path: Path) -> None:
    done = launched(tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: kubectl booking needs uv or pipx, .*\nhint: install uv .*pip install booking-operator==.*\n",
        done.stderr,
    )
