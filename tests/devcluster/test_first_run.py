"""What the first command says before it installs anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from booking_operator.devcluster.binaries import cache_directory
from booking_operator.devcluster.first_run import current_context, introduction

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    return {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}


def program(environ: dict[str, str], *names: str) -> None:
    for name in names:
        path = Path(environ["PATH"]) / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o700)


def kubeconfig(environ: dict[str, str], context: str) -> None:
    path = Path(environ["HOME"]) / ".kube" / "config"
    path.parent.mkdir()
    path.write_text(f'apiVersion: v1\ncurrent-context: "{context}"\nkind: Config\n')


def test_a_bare_machine_has_no_faster_way(environ: dict[str, str]) -> None:
    said = introduction(environ)
    assert "7 to 10 minutes" in said
    assert "published as source code" in said
    assert str(cache_directory(environ)) in said
    assert "--context" not in said


def test_programs_in_the_cache_need_no_build(environ: dict[str, str]) -> None:
    program(environ, "etcd", "kube-apiserver")
    kubeconfig(environ, "prod")
    said = introduction(environ)
    assert "half a minute" in said
    assert "minutes" not in said
    assert "--context" not in said


def test_a_kubeconfig_is_a_faster_way(environ: dict[str, str]) -> None:
    kubeconfig(environ, "prod-eu")
    assert "python3 -m tox -e demo -- --context prod-eu" in introduction(environ)


def test_kind_needs_docker(environ: dict[str, str]) -> None:
    program(environ, "kind")
    assert "kind create cluster" not in introduction(environ)
    program(environ, "docker")
    assert (
        "kind create cluster --name booking-demo && python3 -m tox -e demo -- --context kind-booking-demo"
        in (introduction(environ))
    )


def test_docker_alone_leads_to_kind(environ: dict[str, str]) -> None:
    program(environ, "docker")
    assert "install kind" in introduction(environ)


def test_minikube_is_a_faster_way(environ: dict[str, str]) -> None:
    program(environ, "minikube")
    assert "minikube start --profile booking-demo && python3 -m tox -e demo -- --context booking-demo" in (
        introduction(environ)
    )


def test_the_current_context_is_that_of_the_first_file_with_one(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "one").write_text("kind: Config\n")
    (tmp_path / "two").write_text("current-context: second\n")
    environ["KUBECONFIG"] = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"
    assert current_context(environ) == "second"


def test_a_kubeconfig_without_a_context_is_no_way(environ: dict[str, str]) -> None:
    kubeconfig(environ, "")
    assert current_context(environ) == ""


def test_only_the_standard_library_is_imported() -> None:
    """tox imports the module in its own environment, which has none of the dependencies."""
    script = "import booking_operator.devcluster.first_run, sys; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in shown.stdout.split()}
    assert loaded & {"click", "yaml", "pydantic", "aiohttp", "structlog"} == set()
