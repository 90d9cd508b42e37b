"""A fake AWS on loopback: the moto server, in a separate process."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from booking_operator import extras
from booking_operator.devcluster.process import ChildProcess, free_port, listens

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-central-1",
}
"""The environment variables that its clients need in addition to AWS_ENDPOINT_URL."""


class MotoServer:
    """One server, as a synchronous context manager. Its log is in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.url = ""

    def __enter__(self) -> Self:
        """Start the server and wait until it listens.

        Raises:
            DevclusterError: moto is not installed, or does not start.
        """
        extras.require("demo")
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = ChildProcess("moto", command, self._directory / "moto.log")
        with self._stack:
            self._stack.enter_context(server)
            server.wait_until(lambda: listens(port))
            self._stack = self._stack.pop_all()
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self._stack.close()
