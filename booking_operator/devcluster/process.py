"""Child processes that never outlive their parent, and signals that end this process in an orderly way."""

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
from typing import BinaryIO, NoReturn, Self

from booking_operator.devcluster.errors import DevclusterError

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02
_TAIL_LINES = 15
_TICK_SECONDS = 15.0
_GROUP_SECONDS = 2.0
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
    """Run a program to its end, in a session of its own.

    If an exception interrupts the call, KeyboardInterrupt for example, the program and all processes that it
    started are killed. Ctrl-C at the terminal does not reach them directly.

    Args:
        command: the program and its arguments.
        tick: is called again and again with the seconds since the start. An exception of it ends the program.
        every: seconds between two calls of `tick`.
        env: the environment of the program; by default that of this process.
        cwd: the directory that it runs in.
        stderr: the file that takes its standard error; by default the result has it.
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
        # Only async-signal-safe calls are made there: prctl, getppid, _exit.
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
    """Kill a leader of a session and its group, and wait for the end of all of them."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Files that the others write can be removed only after their end. An init process reaps them, which some
    # containers do not have: there the wait ends by its deadline.
    deadline = monotonic() + _GROUP_SECONDS
    with suppress(ProcessLookupError):
        while monotonic() < deadline:
            os.killpg(process.pid, 0)
            sleep(_POLL_SECONDS)


def interrupt_once() -> None:
    """Have the first SIGTERM or SIGINT raise KeyboardInterrupt, and all later ones do nothing.

    One Ctrl-C arrives several times: from the terminal, and from tox or make, which pass it on. The clean-up
    that the first one starts must not be interrupted by the others. SIGINT is handled even where a shell
    has it ignored, as it is for background jobs.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Apply `interrupt_once`, and restore the previous handlers at the end of the block.

    It changes nothing where `interrupt_once` applies already.
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
    # Not SIG_IGN: of two signals that arrive together, Python would print that it ignores the second one.
    for number in _SIGNALS:
        signal.signal(number, _ignore)
    raise KeyboardInterrupt


def _ignore(_: int, __: FrameType | None) -> None:
    """Handle a signal by doing nothing."""


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

    def stop(self, *, kill: bool = False, timeout: float = 10) -> None:
        """Stop it by SIGTERM; by SIGKILL at once if `kill`, or if it lives after `patience` seconds."""
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
        """Send it a signal, such as SIGSTOP. It must run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        self._process.send_signal(number)

    def wait_until(self, ready: Callable[[], bool], timeout: float = 60) -> None:
        """Wait until `ready`.

        Raises:
            DevclusterError: it has ended, or is not ready after `patience` seconds; with the end of its log.
        """
        deadline = monotonic() + timeout
        while not ready():
            if self._process is None or self._process.poll() is not None:
                raise DevclusterError(f"{self.name} ended at its start; {self._tail()}")
            if monotonic() > deadline:
                raise DevclusterError(f"{self.name} is not ready after {timeout:.0f} s; {self._tail()}")
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
