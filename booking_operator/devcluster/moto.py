"""A fake AWS on loopback: the moto server, in a separate process."""

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from booking_operator import extras
from booking_operator.devcluster.process import ChildProcess

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-central-1",
}
"""The environment variables that its clients need in addition to AWS_ENDPOINT_URL."""

_RUNNING_ON = re.compile(r"Running on (http://127\.0\.0\.1:\d+)\s")


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
        log = self._directory / "moto.log"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]  # any free port
        server = ChildProcess("moto", command, log)
        with self._stack:
            self._stack.enter_context(server)
            [self.url] = server.wait_until(lambda: _RUNNING_ON.findall(log.read_text()))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self._stack.close()
