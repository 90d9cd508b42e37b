"""Child processes that never outlive their parent."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Self

from booking_operator.devcluster.errors import DevclusterError

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02
_TAIL_LINES = 15


class ChildProcess:
    """A program with its output in a log file. A context manager that stops it."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._env = None if env is None else {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C at the terminal is ours to handle."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                # Only async-signal-safe calls are made there: prctl, getppid, _exit.
                preexec_fn=_die_with_parent() if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    def stop(self, *, kill: bool = False, patience: float = 10) -> None:
        """Stop it by SIGTERM; by SIGKILL at once if `kill`, or if it lives after `patience` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP. It must run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        self._process.send_signal(number)

    def wait_until(self, ready: Callable[[], bool], patience: float = 60) -> None:
        """Wait until `ready`.

        Raises:
            DevclusterError: it has ended, or is not ready after `patience` seconds; with the end of its log.
        """
        deadline = monotonic() + patience
        while not ready():
            if self._process is None or self._process.poll() is not None:
                raise DevclusterError(f"{self.name} ended at its start; {self._tail()}")
            if monotonic() > deadline:
                raise DevclusterError(f"{self.name} is not ready after {patience:.0f} s; {self._tail()}")
            sleep(_POLL_SECONDS)

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "its log ends so:\n" + "\n".join(lines)


def free_port() -> int:
    """A loopback TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> Callable[[], None]:
    """For the child, before it becomes the program: have the kernel kill it when its parent dies, however."""
    libc, parent = ctypes.CDLL(None), os.getpid()

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return arrange
