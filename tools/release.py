"""Builds all files of a release: `tox -e release`. The same commit gives the same bytes.

docs/releasing.md describes the files, and how to publish them.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from booking_operator.devcluster.binaries import find_kubectl
from tools import krew
from tools.archives import normalize
from tools.go_programs import HELM, program
from tools.project import NAME, ROOT, VERSION

CHART = ROOT / "charts" / NAME
BASE_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
CHECKSUMS = "SHA256SUMS"
LICENSES = {"multidict": "Apache-2.0"}
"""The licences of packages whose metadata name them in a form that the bill of materials does not have."""


class ReleaseError(Exception):
    """A file of the release cannot be built. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release.

    Attributes:
        output: the directory of the files.
        repository: the registry and the repository of the image, as `install.yaml` names it.
        base_image: the base of the image.
        buildah: more options of `buildah build`.
        timestamp: the time of all files in archives: that of the commit, in seconds since 1970 (UTC).
        revision: the commit.
    """

    output: Path
    repository: str
    base_image: str
    buildah: Sequence[str]
    timestamp: int
    revision: str

    def build(self) -> list[Path]:
        """Build all files, and return their paths.

        Raises:
            ReleaseError: the directory is not empty, or a command failed.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        if found := sorted(path.name for path in self.output.iterdir()):
            raise ReleaseError(f"{self.output} is not empty; remove {', '.join(found)}")
        wheel, sdist = self._packages()
        files = [wheel, sdist, self._chart(), self._manifest(), self._krew(sdist), *self._bill(wheel)]
        files.append(self._image())
        files.append(self._checksums(files))
        return files

    def _packages(self) -> tuple[Path, Path]:
        """Build the wheel and the source distribution."""
        self._run(sys.executable, "-m", "hatchling", "build", "--directory", str(self.output))
        name = NAME.replace("-", "_")
        return (
            self.output / f"{name}-{VERSION}-py3-none-any.whl",
            self.output / f"{name}-{VERSION}.tar.gz",
        )

    def _chart(self) -> Path:
        """Build the package of the Helm chart, which installs the image of the release."""
        with tempfile.TemporaryDirectory() as name:
            chart = shutil.copytree(CHART, Path(name) / NAME)
            values = chart / "values.yaml"
            text = values.read_text()
            default = f"\n  repository: {NAME}\n"
            if text.count(default) != 1:
                raise ReleaseError(f"{values.name} of the chart does not have one line {default.strip()!r}")
            values.write_text(text.replace(default, f"\n  repository: {self.repository}\n"))
            self._run(str(program("helm", HELM)), "package", str(chart), "--destination", str(self.output))
        return self.output / f"{NAME}-{VERSION}.tgz"

    def _manifest(self) -> Path:
        """Render the kustomization with the image of the release."""
        path = self.output / "install.yaml"
        with tempfile.TemporaryDirectory() as name:
            overlay = {
                "resources": [os.path.relpath(ROOT / "manifests", Path(name).resolve())],
                "images": [{"name": NAME, "newName": self.repository, "newTag": VERSION}],
            }
            (Path(name) / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
            path.write_text(self._run(str(find_kubectl(print)), "kustomize", name))
        return path

    def _krew(self, sdist: Path) -> Path:
        """Write the manifest for krew, which has the checksum of the source distribution."""
        path = self.output / "krew.yaml"
        path.write_text(krew.render(sdist))
        return path

    def _bill(self, wheel: Path) -> Iterator[Path]:
        """Write the software bill of materials, and the licences in it, of what the image contains."""
        bill = self.output / f"{NAME}-{VERSION}.cdx.json"
        with tempfile.TemporaryDirectory() as name:
            venv.create(name, with_pip=True)
            python = f"{name}/bin/python"
            constraints = str(ROOT / "constraints.txt")
            install = ("-m", "pip", "install", "--quiet", "--no-compile", "--constraint", constraints)
            self._run(python, *install, f"{wheel}[operator]")
            # The tools of the environment are no part of the product.
            self._run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", "pip")
            make = ("cyclonedx_py", "environment", "--output-reproducible", "--mc-type=application")
            pyproject = f"--pyproject={ROOT / 'pyproject.toml'}"
            self._run(sys.executable, "-m", *make, pyproject, f"--output-file={bill}", python)
        content = json.loads(bill.read_text())
        bill.write_text(f"{json.dumps(without_paths(content), indent=2)}\n")
        yield bill
        path = self.output / "licenses.md"
        path.write_text(licenses(content))
        yield path

    def _image(self) -> Path:
        """Build the image into an archive in OCI format."""
        path = self.output / f"{NAME}-{VERSION}-image.tar"
        tag = f"{self.repository}:{VERSION}"
        arguments = {"BASE_IMAGE": self.base_image, "VERSION": VERSION, "REVISION": self.revision}
        settings = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        build = ("build", "--no-cache", "--layers=false", f"--timestamp={self.timestamp}", f"--tag={tag}")
        self._run("buildah", *build, *settings, *self.buildah, str(ROOT))
        self._run("buildah", "push", tag, f"oci-archive:{path}:{tag}")
        normalize(path, self.timestamp)
        return path

    def _checksums(self, files: Sequence[Path]) -> Path:
        """Write the checksums, in the format of `sha256sum --check`."""
        path = self.output / CHECKSUMS
        digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        path.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())))
        return path

    def _run(self, *command: str) -> str:
        """Run one command, and return its output."""
        environ = {
            **os.environ,
            "PYTHONHASHSEED": "0",
            "SOURCE_DATE_EPOCH": str(self.timestamp),
            "TZ": "UTC",
        }
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-3000:]
            raise ReleaseError(f"{Path(command[0]).name} {command[1]}: {said}")
        return done.stdout


def without_paths(bill: Mapping[str, Any]) -> dict[str, Any]:
    """Return a bill of materials without what differs from machine to machine: the places of files."""
    return {**bill, "components": [_without_paths(component) for component in bill["components"]]}


def _without_paths(component: Mapping[str, Any]) -> dict[str, Any]:
    references = component.get("externalReferences", [])
    public = [item for item in references if re.match(r"https?://", item["url"])]
    return {**component, "externalReferences": public}


def licenses(bill: Mapping[str, Any]) -> str:
    """Return the licences of all components of a bill of materials, as a Markdown table.

    Raises:
        ReleaseError: a component has no licence.
    """
    rows = [f"| {item['name']} | {item['version']} | {_license(item)} |" for item in bill["components"]]
    head = [f"# Licences of what {NAME} {VERSION} contains", "", "| package | version | licence |"]
    return "\n".join([*head, "| --- | --- | --- |", *sorted(rows, key=str.lower)]) + "\n"


def _license(component: Mapping[str, Any]) -> str:
    """Return the SPDX expression of a component, or without one the names of its licences."""
    stated = component.get("licenses", [])
    ids = [item.get("expression") or item["license"].get("id") for item in stated]
    names = [item["license"].get("name", "").rpartition(" :: ")[2] for item in stated if "license" in item]
    found = list(dict.fromkeys(filter(None, ids))) or list(dict.fromkeys(filter(None, names)))
    if not found and component["name"] not in LICENSES:
        text = f"{component['name']} {component['version']} does not state its licence; add it to LICENSES"
        raise ReleaseError(text)
    return "; ".join(found) or LICENSES[component["name"]]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


@click.command()
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "dist")
@click.option("--repository", default=NAME, help="The registry and the repository of the image.")
@click.option("--base-image", default=BASE_IMAGE, show_default=True)
@click.option("--buildah", multiple=True, help="One more option of `buildah build`.")
@click.option("--allow-changes", is_flag=True, help="Build although the work tree has changes.")
def main(
    output: Path, repository: str, base_image: str, buildah: Sequence[str], *, allow_changes: bool
) -> None:
    """Build all files of a release from the present commit."""
    try:
        if not allow_changes:
            _check_committed()
        timestamp, revision = int(_git("log", "-1", "--format=%ct")), _git("rev-parse", "HEAD")
        release = Release(output.resolve(), repository, base_image, buildah, timestamp, revision)
        for path in release.build():
            click.echo(path)
    except ReleaseError as error:
        raise click.ClickException(str(error)) from error


def _check_committed() -> None:
    if changes := _git("status", "--porcelain"):
        raise ReleaseError(f"the work tree has changes; commit them, or give --allow-changes:\n{changes}")


if __name__ == "__main__":
    main()
