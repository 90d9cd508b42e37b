"""A machine that has Python and nothing else, for the commands of the README.

PATH is a directory of symbolic links to Python, a shell and coreutils. HOME, the caches and the directory for
temporary files are new and empty. From the environment of the tests, the machine takes only the configuration
of package registries: index, proxy, and certificates.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from time import monotonic

from tests.support.code_blocks import code_blocks

ROOT = Path(__file__).parents[2]
ABSENT = ("docker", "etcd", "gcc", "git", "go", "kube-apiserver", "kubectl", "node", "podman", "uv")
PROGRAMS = (
    *(
        "cat",
        "chmod",
        "cp",
        "cut",
        "date",
        "dirname",
        "env",
        "expr",
        "head",
        "id",
        "ln",
        "ls",
        "mkdir",
        "mktemp",
    ),
    *(
        "mv",
        "pwd",
        "readlink",
        "rm",
        "rmdir",
        "sh",
        "sleep",
        "sort",
        "tail",
        "touch",
        "tr",
        "true",
        "uname",
        "wc",
    ),
)
REGISTRY_CONFIGURATION = (
    *("PIP_*", "*_PROXY", "*_proxy", "NETRC"),
    *(
        "GOAUTH",
        "GOENV",
        "GOFLAGS",
        "GOINSECURE",
        "GONOPROXY",
        "GONOSUMDB",
        "GOPRIVATE",
        "GOPROXY",
        "GOSUMDB",
    ),
    *("SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
"""Patterns of the variables that are passed on."""
INSTALLATION_OPTIONS = (
    "PIP_CACHE_DIR",
    "PIP_CONSTRAINT",
    "PIP_PREFIX",
    "PIP_REQUIRE*",
    "PIP_TARGET",
    "PIP_USER",
)
"""Variables that match `REGISTRY_CONFIGURATION`, but set what to install and where. A new machine does not
have them."""
USER_CONFIGURATION = {
    "GOENV": ("go/env",),
    "NETRC": ("../.netrc",),
    "PIP_CONFIG_FILE": ("pip/pip.conf", "../.pip/pip.conf"),
}
"""Files in a user's configuration directory that the clients read, and the variables that name these files.
"""


class Machine:
    """A machine. Its checkout, HOME, caches and temporary files are in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.checkout = directory / "checkout"
        self.home = directory / "home"
        self.cache = directory / "cache"
        self.temporary = directory / "tmp"
        self.programs = directory / "bin"
        for path in (self.checkout, self.home, self.cache, self.temporary, self.programs):
            path.mkdir()
        for name in PROGRAMS:
            if found := shutil.which(name):
                (self.programs / name).symlink_to(found)
        python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
        (self.programs / "python3").symlink_to(python.resolve())
        self._check_out()

    def environ(self, venv: Path) -> dict[str, str]:
        """The environment of all commands, with a virtual environment first in PATH."""
        return {
            **registry_configuration(os.environ),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": f"{venv / 'bin'}:{self.programs}",
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.cache),
        }

    def venv(self, name: str) -> Path:
        """Create a virtual environment that has pip and nothing else."""
        venv = self.directory / name
        self.check(venv, f"python3 -m venv {venv}")
        return venv

    def check(self, venv: Path, line: str, *, fails: bool = False) -> str:
        """Run a shell command line to its end, and return its output."""
        with self.command(venv, line) as command:
            code = command.wait(600)
        assert (code != 0) == fails, command.output
        return command.output

    @contextmanager
    def command(self, venv: Path, line: str) -> Iterator["Command"]:
        """Start a shell command line in the checkout. At the end of the block, kill what still runs."""
        command = Command(line, self.checkout, self.environ(venv))
        try:
            yield command
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            command.close()

    def processes(self) -> dict[int, str]:
        """The command lines of all processes of the machine, by process id, without zombies."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if f"HOME={self.home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def programs_present(self) -> list[str]:
        """The programs in `ABSENT` that the machine has."""
        return [name for name in ABSENT if shutil.which(name, path=str(self.programs))]

    def remove(self) -> None:
        """Remove the directory. Go makes the directories of its module cache read-only."""
        for directory, _, _ in os.walk(self.directory):
            Path(directory).chmod(0o700)
        shutil.rmtree(self.directory)

    def _check_out(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.checkout / name)


class Command:
    """A shell command line in a process group of its own, as in a terminal."""

    def __init__(self, line: str, directory: Path, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [shutil.which("sh", path=environ["PATH"]) or "sh", "-c", line],
            cwd=directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            # A background job of a shell ignores SIGINT, and its children inherit that.
            preexec_fn=_default_sigint,  # noqa: PLW1509
        )
        self._began = monotonic()
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """The output so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout: float) -> None:
        """Wait until a line of the output matches."""

        def seen() -> bool:
            return bool(re.search(pattern, "".join(self._lines), re.MULTILINE)) or not self._reader.is_alive()

        with self._changed:
            assert self._changed.wait_for(seen, timeout), "".join(self._lines)
        assert re.search(pattern, self.output, re.MULTILINE), (
            f"it ended before it printed {pattern}:\n{self.output}"
        )

    def wait(self, timeout: float) -> int:
        """Wait until the process ends, and return its exit code."""
        code = self._process.wait(timeout)
        self._reader.join(10)
        self._show(f"exit code {code}\n")
        return code

    def interrupt(self) -> None:
        """Send SIGINT to the process group, as a terminal does for Ctrl-C."""
        self._show("^C\n")
        os.killpg(self._process.pid, signal.SIGINT)

    def close(self) -> None:
        """Wait for the end of the process, after all processes were killed."""
        self._process.wait(10)
        self._reader.join(10)

    def _show(self, line: str) -> None:
        """Print a line with the seconds since the start, for people who watch the tests."""
        sys.stdout.write(f"{monotonic() - self._began:6.1f}  {line}")
        sys.stdout.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._show(line)
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def readme_commands() -> list[str]:
    """The two commands of the README, unchanged."""
    shell = [block for block in code_blocks("README.md", "Two commands") if block.language == "shell"]
    return [line for block in shell for line in block.text.splitlines()]


def registry_configuration(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables for clients of package registries, with the paths of the user's configuration files."""
    passed = {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, pattern) for pattern in REGISTRY_CONFIGURATION)
        and not any(fnmatchcase(name, pattern) for pattern in INSTALLATION_OPTIONS)
    }
    directory = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for name, paths in USER_CONFIGURATION.items():
        present = [directory / path for path in paths if (directory / path).is_file()]
        if present and name not in passed:
            passed[name] = str(present[0].resolve())
    return passed


def _default_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
