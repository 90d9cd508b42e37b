"""The files of a release: two builds give the same bytes, and each file works."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.helm import helm
from tests.support.images import BASE, Store, pip_settings, store
from tests.support.node.requirements import IMAGES, missing
from tools.project import NAME, ROOT, VERSION

pytestmark = [pytest.mark.release, pytest.mark.timeout(600)]

REPOSITORY = "registry.example.com/booking-operator"
WHEEL = f"booking_operator-{VERSION}-py3-none-any.whl"


def build(output: Path, *options: str, environ: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "tools.release", "--allow-changes", f"--output={output}"]
    done = subprocess.run(
        [*command, f"--repository={REPOSITORY}", *options],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def images() -> Store:
    if lack := missing(IMAGES):
        pytest.fail(f"to build images, {lack}")
    return store()


@pytest.fixture(scope="session")
def two(images: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of two builds."""
    helm("version")
    images.operator()  # makes the base image
    one, other = (tmp_path_factory.mktemp("dist") for _ in range(2))
    with pip_settings(images.directory) as volumes:
        options = [
            f"--base-image={BASE}",
            "--buildah=--pull-never",
            *(f"--buildah={item}" for item in volumes),
        ]
        for output in (one, other):
            build(output, *options, environ=images.environ())
    return one, other


@pytest.fixture(scope="session")
def files(two: tuple[Path, Path]) -> Path:
    return two[0]


@pytest.fixture(scope="session")
def image(images: Store, files: Path) -> str:
    """The image in the archive, in the store of the tests."""
    return images.buildah("pull", "--quiet", f"oci-archive:{files / f'{NAME}-{VERSION}-image.tar'}")


def test_two_builds_give_the_same_bytes(two: tuple[Path, Path]) -> None:
    one, other = ({path.name: digest(path) for path in directory.iterdir()} for directory in two)
    assert one == other
    assert sorted(one) == sorted(
        [
            WHEEL,
            f"booking_operator-{VERSION}.tar.gz",
            f"{NAME}-{VERSION}-image.tar",
            f"{NAME}-{VERSION}.cdx.json",
            f"{NAME}-{VERSION}.tgz",
            "SHA256SUMS",
            "install.yaml",
            "krew.yaml",
            "licenses.md",
        ]
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_checksums_are_those_of_the_files(files: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=files, capture_output=True, text=True, check=True)
    assert len(checked.stdout.splitlines()) == len(list(files.iterdir())) - 1


def test_the_documentation_lists_the_files(files: Path) -> None:
    page = (ROOT / "docs" / "releasing.md").read_text()
    names = [path.name.replace(VERSION, "0.1.0") for path in files.iterdir()]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_wheel_runs_in_a_fresh_environment(files: Path, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    install = ("-m", "pip", "install", "--quiet", *constraints, f"{files / WHEEL}[operator]")
    subprocess.run([str(python), *install], check=True)
    assert said(tmp_path / "bin" / NAME, "--version") == f"{NAME}, version {VERSION}"
    assert said(tmp_path / "bin" / "kubectl-booking", "--version") == f"kubectl booking, version {VERSION}"
    assert "CustomResourceDefinition" in said(python, "-m", "booking_operator", "crds")


def said(program: Path, *arguments: str) -> str:
    """The output of a program that runs outside of the checkout."""
    done = subprocess.run(
        [str(program), *arguments], cwd="/", env={}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_image_runs_from_its_archive(images: Store, image: str) -> None:
    labels = images.inspect(image)["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert len(labels["org.opencontainers.image.revision"]) == 40
    with images.container(image) as container:
        assert images.run(container, NAME, "--version") == f"booking-operator, version {VERSION}"


def test_the_chart_renders_from_its_package(files: Path) -> None:
    rendered = helm("template", NAME, str(files / f"{NAME}-{VERSION}.tgz"))
    items = [item for item in yaml.safe_load_all(rendered) if item]
    assert [item["kind"] for item in items].count("CustomResourceDefinition") == 6
    assert image_in(items) == f"{REPOSITORY}:{VERSION}"


def image_in(items: list[dict[str, Any]]) -> str:
    """The image of the only Deployment."""
    [deployment] = [item for item in items if item["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def test_the_manifest_names_the_image(files: Path) -> None:
    items = list(yaml.safe_load_all((files / "install.yaml").read_text()))
    assert image_in(items) == f"{REPOSITORY}:{VERSION}"


def bill(files: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files / f"{NAME}-{VERSION}.cdx.json").read_text())
    return found


def test_the_bill_of_materials_has_the_packages_of_the_image(images: Store, image: str, files: Path) -> None:
    listed = {(item["name"].lower().replace("_", "-"), item["version"]) for item in bill(files)["components"]}
    script = (
        "from importlib.metadata import distributions\n"
        "print(*(f\"{d.name.lower().replace('_', '-')}={d.version}\" for d in distributions()))"
    )
    with images.container(image) as container:
        installed = images.run(container, "/opt/booking-operator/bin/python3", "-c", script).split()
    assert {f"{name}={version}" for name, version in listed} | {f"{NAME}={VERSION}"} == set(installed)


def test_no_file_names_a_path_of_this_machine(files: Path) -> None:
    for name in (f"{NAME}-{VERSION}.cdx.json", "install.yaml", "krew.yaml", "licenses.md"):
        text = (files / name).read_text()
        assert str(ROOT) not in text
        assert "file://" not in text


def test_each_licence_is_listed(files: Path) -> None:
    rows = [line for line in (files / "licenses.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(bill(files)["components"])


def test_the_source_distribution_installs_the_operator(files: Path) -> None:
    with tarfile.open(files / f"booking_operator-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"charts/booking-operator/Chart.yaml", "manifests/kustomization.yaml", "LICENSE"} <= names


def test_files_of_an_earlier_release_are_refused(tmp_path: Path) -> None:
    (tmp_path / "booking_operator-0.0.9.tar.gz").touch()
    command = [sys.executable, "-m", "tools.release", "--allow-changes", f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is not empty; remove booking_operator-0.0.9.tar.gz" in done.stderr


def test_a_work_tree_with_changes_is_refused(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    (checkout / "new").touch()
    command = [sys.executable, "-m", "tools.release", f"--output={tmp_path / 'dist'}"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the work tree has changes; commit them, or give --allow-changes:\n?? new" in done.stderr
    assert not (tmp_path / "dist").exists()
