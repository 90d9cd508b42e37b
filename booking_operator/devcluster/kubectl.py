"""kubectl, called as a user would call it."""

import subprocess
from pathlib import Path

from booking_operator.devcluster.errors import DevclusterError

_SECONDS = 60


class Kubectl:
    """Runs kubectl against one kubeconfig."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self._program = program
        self._kubeconfig = kubeconfig

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run one command and return what it printed.

        Raises:
            DevclusterError: kubectl failed; with what it said.
        """
        result = self.attempt(*arguments, stdin=stdin)
        if result.returncode != 0:
            raise DevclusterError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout

    def attempt(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run one command, whatever becomes of it."""
        return subprocess.run(
            [str(self._program), "--kubeconfig", str(self._kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
