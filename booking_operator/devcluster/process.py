"""Child processes that end with their parent, and signal handlers for an orderly shutdown."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import BinaryIO, NoReturn, Self, TypeVar

from booking_operator.devcluster.errors import DevclusterError

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02
_TAIL_LINES = 15
_TICK_SECONDS = 15.0
_GROUP_EXIT_TIMEOUT_SECONDS = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(
    command: Sequence[str],
    *,
    tick: Callable[[float], None],
    every: float = _TICK_SECONDS,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stderr: BinaryIO | int = subprocess.PIPE,
) -> "subprocess.CompletedProcess[str]":
    """Run a program in a new session, and wait for its end.

    If an exception such as KeyboardInterrupt interrupts the call, the program and all its child processes are
    killed. Ctrl-C at the terminal does not reach them directly.

    Args:
        command: the program and its arguments.
        tick: called periodically with the seconds since the start. If it raises, the program is killed.
        every: seconds between two calls of `tick`.
        env: the environment of the program; by default that of this process.
        cwd: the working directory of the program.
        stderr: the file for its standard error; by default the result contains it.
    """
    began = monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        env=env,
        cwd=cwd,
        start_new_session=True,
        # The function makes only async-signal-safe calls: prctl, getppid, _exit.
        preexec_fn=_die_with_parent() if sys.platform == "linux" else None,  # noqa: PLW1509
    ) as process:
        try:
            while True:
                try:
                    output, errors = process.communicate(timeout=every)
                except subprocess.TimeoutExpired:
                    tick(monotonic() - began)
                else:
                    return subprocess.CompletedProcess(command, process.returncode, output, errors)
        except BaseException:
            _kill_group(process)
            raise


def _kill_group(process: "subprocess.Popen[str]") -> None:
    """Kill a session leader and its process group, and wait until all processes have ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # The caller may remove the files of these processes only after their end. An init process reaps them.
    # Some containers have no init process, so the wait has a deadline.
    deadline = monotonic() + _GROUP_EXIT_TIMEOUT_SECONDS
    with suppress(ProcessLookupError):
        while monotonic() < deadline:
            os.killpg(process.pid, 0)
            sleep(_POLL_SECONDS)


def interrupt_once() -> None:
    """Make the first SIGTERM or SIGINT raise KeyboardInterrupt, and ignore all later ones.

    One Ctrl-C may arrive several times: from the terminal, and from tox or make, which forward it. The later
    ones must not interrupt the clean-up. SIGINT is handled even if the shell ignores it, as for background
    jobs.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Apply `interrupt_once` in the context, then restore the previous handlers.

    If `interrupt_once` applies already, this is a no-op.
    """
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    if _interrupt in previous.values():
        yield
        return
    interrupt_once()
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    # With SIG_IGN, Python would print a message about the second of two simultaneous signals.
    for number in _SIGNALS:
        signal.signal(number, _ignore)
    raise KeyboardInterrupt


def _ignore(_: int, __: FrameType | None) -> None:
    """Ignore the signal."""


class ChildProcess:
    """A program whose output goes to a log file, as a context manager that stops it."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._env = None if env is None else {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the program."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the program."""
        self.stop()

    @property
    def pid(self) -> int | None:
        """The process id while the program runs, else None."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the program in a new session, so that Ctrl-C reaches only this process."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                # The function makes only async-signal-safe calls: prctl, getppid, _exit.
                preexec_fn=_die_with_parent() if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    def stop(self, *, kill: bool = False, timeout: float = 10) -> None:
        """Stop the program with SIGTERM. Send SIGKILL after `timeout` seconds, or immediately if `kill`."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def signal(self, number: int) -> None:
        """Send a signal such as SIGSTOP to the running program."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        self._process.send_signal(number)

    def wait_until(self, ready: Callable[[], T], timeout: float = 60) -> T:
        """Wait until `ready` returns a true value, and return the value.

        Raises:
            DevclusterError: the program has ended, or is not ready after `timeout` seconds. The message
                contains the end of its log.
        """
        deadline = monotonic() + timeout
        while not (found := ready()):
            if self._process is None or self._process.poll() is not None:
                raise DevclusterError(f"{self.name} exited during startup. {self._tail()}")
            if monotonic() > deadline:
                raise DevclusterError(f"{self.name} is not ready after {timeout:.0f} s. {self._tail()}")
            sleep(_POLL_SECONDS)
        return found

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "End of its log:\n" + "\n".join(lines)


def free_port() -> int:
    """Return a loopback TCP port that is currently free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether a process listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> Callable[[], None]:
    """Return a function for the child to call before exec: the kernel then kills it when its parent ends."""
    libc, parent = ctypes.CDLL(None), os.getpid()

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return arrange
