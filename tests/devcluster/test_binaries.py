"""Where programs are looked for, and errors when they are missing."""

import fcntl
import threading
from pathlib import Path

import pytest

from booking_operator.devcluster import binaries, gobuild
from booking_operator.devcluster.errors import DevclusterError


def program(path: Path, script: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def go(directory: Path, script: str) -> Path:
    """A Go toolchain that passes the version check, and then runs a script."""
    check = """
        case "$*" in
          version) echo "go version go1.26.6 linux/amd64"; exit ;;
          "tool compile -V") echo "compile version go1.26.6"; exit ;;
        esac
    """
    return program(directory / "go", check + script)


def both(directory: Path) -> Path:
    for name in ("etcd", "kube-apiserver"):
        program(directory / name)
    return directory


def quiet(_: str) -> None:
    """Ignore progress messages."""


def test_assets_take_precedence_over_path_and_path_over_the_cache(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "PATH": ""}
    cache = both(binaries.cache_directory(environ))
    assert binaries.find_or_build(quiet, environ).etcd == cache / "etcd"
    environ["PATH"] = str(both(tmp_path / "path"))
    assert binaries.find_or_build(quiet, environ).etcd == tmp_path / "path" / "etcd"
    environ["KUBEBUILDER_ASSETS"] = str(both(tmp_path / "assets"))
    assert binaries.find_or_build(quiet, environ).etcd == tmp_path / "assets" / "etcd"


def test_the_cache_is_keyed_by_versions() -> None:
    name = binaries.cache_directory({"XDG_CACHE_HOME": "/x"}).name
    assert gobuild.KUBERNETES in name
    assert gobuild.ETCD in name


def test_a_failing_go_is_reported_with_its_output_and_leaves_no_program(tmp_path: Path) -> None:
    go(tmp_path / "bin", "echo 'no space left on device' >&2; exit 1")
    environ = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "PATH": str(tmp_path / "bin")}
    with pytest.raises(DevclusterError, match=r"(?s)`go mod init` failed.*build\.log.*no space left"):
        binaries.find_or_build(quiet, environ)
    left = {path.name for path in binaries.cache_directory(environ).iterdir()}
    assert left == {"lock", "build.log"}


def test_a_failed_build_leaves_no_incomplete_program(tmp_path: Path) -> None:
    script = """
        case "$*" in
          "mod download"*) echo '{"GoMod": "x"}' ;;
          "mod edit -json"*) echo '{}' ;;
          build*) for last; do :; done; shift 5; touch "$1"; exit 1 ;;
        esac
    """
    go(tmp_path / "bin", script)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    lines: list[str] = []
    with pytest.raises(DevclusterError, match="`go build -trimpath` failed"):
        binaries.find_or_build(lines.append, environ)
    assert not list(binaries.cache_directory(environ).glob("etcd*"))
    assert any("once" in line for line in lines)


def test_only_missing_programs_of_a_node_are_built(tmp_path: Path) -> None:
    script = """
        case "$*" in
          "mod download"*) echo '{"GoMod": "x"}' ;;
          "mod edit -json"*) echo '{}' ;;
          build*) shift 5; echo "$2" >> "$BUILT"; touch "$1"; chmod +x "$1" ;;
        esac
    """
    built = tmp_path / "built"
    go(tmp_path / "bin", f"BUILT={built}\n{script}")
    environ = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    cache = binaries.cache_directory(environ)
    program(cache / "kubelet")
    lines: list[str] = []
    found = binaries.find_or_build_node(lines.append, environ)
    assert found == binaries.find_or_build_node(lines.append, environ)
    assert found == binaries.NodeBinaries(
        cache / "kube-controller-manager", cache / "kube-scheduler", cache / "kubelet", cache / "pause"
    )
    assert built.read_text().split() == [
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "./pause",
    ]


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "PATH": ""}
    cache = binaries.cache_directory(environ)
    cache.mkdir(parents=True)
    lines: list[str] = []
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Event()

        def progress(line: str) -> None:
            lines.append(line)
            waiting.set()

        found: list[binaries.Binaries] = []
        second = threading.Thread(target=lambda: found.append(binaries.find_or_build(progress, environ)))
        second.start()
        assert waiting.wait(10)
        both(cache)
        fcntl.flock(lock, fcntl.LOCK_UN)
        second.join(10)
    assert found == [binaries.Binaries(cache / "etcd", cache / "kube-apiserver")]
    assert lines == ["Waiting for another process that builds the same programs"]


def test_kubectl_comes_from_path(tmp_path: Path) -> None:
    program(tmp_path / "kubectl")
    environ = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "PATH": str(tmp_path)}
    assert binaries.find_kubectl(quiet, environ) == tmp_path / "kubectl"
