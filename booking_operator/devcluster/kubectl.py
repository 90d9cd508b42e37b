"""Runs kubectl as a user would."""

import subprocess
from pathlib import Path
from typing import BinaryIO

from booking_operator.devcluster.errors import DevclusterError

_TIMEOUT_SECONDS = 60


class Kubectl:
    """Runs kubectl with one kubeconfig.

    Attributes:
        program: the path of kubectl.
        kubeconfig: the path of the kubeconfig.
    """

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self.program = program
        self.kubeconfig = kubeconfig
        self._command = [str(program), "--kubeconfig", str(kubeconfig)]

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run one command and return its standard output.

        Raises:
            DevclusterError: kubectl failed; the message contains its standard error.
        """
        result = self.attempt(*arguments, stdin=stdin)
        if result.returncode != 0:
            raise DevclusterError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout

    def attempt(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run one command and return its result, even if it fails.

        Ctrl-C in the terminal does not reach it: the caller decides what ends.
        """
        return subprocess.run(
            [*self._command, *arguments],
            start_new_session=True,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )

    def start(self, *arguments: str, to: BinaryIO) -> "subprocess.Popen[bytes]":
        """Start one command that continues to run, with its output in `to`. The caller stops it."""
        return subprocess.Popen([*self._command, *arguments], stdin=subprocess.DEVNULL, stdout=to)
