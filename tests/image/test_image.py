"""The image that the Dockerfile builds, on a locally built base. It is cached until its inputs change."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from booking_operator.cloud.aws.clients import ClientName
from tests.support.images import BASE, ROOT, Store, store
from tests.support.node.requirements import IMAGES, missing

LARGEST = 60 * 2**20
"""The largest size that the image may add to its base, uncompressed."""
CLIENTS = (*get_args(ClientName), "sts", "sso", "sso-oidc")
_VENV = "opt/booking-operator"

pytestmark = [
    pytest.mark.skipif(bool(missing(IMAGES)), reason=f"to build images, {missing(IMAGES)}"),
    pytest.mark.timeout(600),  # the base image is rebuilt once a week
]


@pytest.fixture(scope="module")
def images() -> Store:
    return store()


@pytest.fixture(scope="module")
def image(images: Store) -> str:
    return images.operator()


@pytest.fixture(scope="module")
def config(images: Store, image: str) -> dict[str, Any]:
    found: dict[str, Any] = images.inspect(image)["config"]
    return found


@pytest.fixture(scope="module")
def container(images: Store, image: str) -> Iterator[tuple[str, Path]]:
    with images.container(image) as made:
        yield made


def test_the_image_runs_the_operator_as_an_unprivileged_user(config: dict[str, Any]) -> None:
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["booking-operator"]
    assert config["Cmd"] == ["run"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}


def test_labels_describe_the_image(config: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "org.opencontainers.image."
    labels = {key.removeprefix(prefix): value for key, value in config["Labels"].items() if prefix in key}
    assert labels["title"] == project["name"]
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["description"]


def test_the_image_has_no_build_tools(container: tuple[str, Path]) -> None:
    _, root = container
    programs = {
        path.name for folder in ("bin", "usr/bin", "usr/local/bin") for path in root.glob(f"{folder}/*")
    }
    programs |= {path.name for path in (root / _VENV / "bin").iterdir()}
    assert "sh" in programs  # the search covers the directories of programs
    assert not [name for name in programs if re.fullmatch(r"(pip|gcc|g\+\+|cc|ld|make)[\d.-]*", name)]
    packages = {path.name for path in root.glob("usr/**/python3*/**/*") if path.is_dir()}
    assert not packages & {"pip", "setuptools", "ensurepip"}


def test_the_build_tool_is_locked(container: tuple[str, Path]) -> None:
    [wheel] = (container[1] / _VENV).glob("lib/*/site-packages/booking_operator-*.dist-info/WHEEL")
    [generator] = re.findall(r"^Generator: (\S+) (\S+)$", wheel.read_text(), re.MULTILINE)
    assert "==".join(generator) in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_image_adds_little_to_its_base(images: Store, container: tuple[str, Path]) -> None:
    _, root = container
    with images.container(BASE) as (_, base):
        added = [
            path.lstat().st_size
            for path in root.rglob("*")
            if not path.is_dir() and not os.path.lexists(base / path.relative_to(root))
        ]
    assert 20 * 2**20 < sum(added) < LARGEST


def test_all_modules_are_compiled(container: tuple[str, Path]) -> None:
    _, root = container
    bare = [
        path
        for path in (root / _VENV).glob("lib/*/site-packages/**/*.py")
        if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))
    ]
    assert bare == []


def test_the_image_runs(images: Store, container: tuple[str, Path]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert images.run(container, "booking-operator", "--version").endswith(f"version {version}")
    assert "--leader-elect" in images.run(container, "booking-operator", "run", "--help")


def test_the_image_has_the_data_of_its_clients(images: Store, container: tuple[str, Path]) -> None:
    """The image leaves out most data of botocore and most modules of kubernetes_asyncio, but not these."""
    assert images.run(container, "python3", "-c", _CLIENTS) == " ".join(CLIENTS)
    cluster = (
        "import booking_operator.operator, booking_operator.kube.kubeconfig, booking_operator.kube.client"
    )
    assert images.run(container, "python3", "-c", cluster) == ""


_CLIENTS = f"""
import asyncio
from aiobotocore.session import AioSession

async def main():
    opened = []
    for service in {CLIENTS}:
        async with AioSession().create_client(service, region_name="eu-west-1") as client:
            opened.append(client.meta.service_model.service_name)
    print(*opened)

asyncio.run(main())
"""
