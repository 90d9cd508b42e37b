"""AWS for pods: moto behind the recording proxy, on the bridge of the node."""

import json
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from booking_operator.devcluster.process import ChildProcess
from tests.support.moto_server import REGION
from tests.support.node.network import GATEWAY

TRANSITION_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Aws:
    """A client of the running proxy."""

    url: str

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables of the operator that are not secret."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}

    def create(self, tag: str, n: int, account: str = "") -> list[str]:
        """Create a group of stopped instances; return their ids."""
        ids: list[str] = self._post("create_instances", tag=tag, n=n, account=account)
        return ids

    def states(self, ids: Sequence[str]) -> list[str]:
        """The states of the instances."""
        states: dict[str, str] = self._post("states")
        return [states[id_] for id_ in ids]

    def accepted(self, action: str, ids: Sequence[str]) -> list[datetime]:
        """The arrival times of accepted calls of `action` for any of the instances."""
        return [
            datetime.fromisoformat(call["at"])
            for call in self._get("calls")
            if call["action"] == action and call["status"] == 200 and set(call["instance_ids"]) & set(ids)
        ]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/-/{path}", timeout=20) as reply:  # noqa: S310
            return json.load(reply)

    def _post(self, path: str, **given: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/-/{path}",
            json.dumps(given).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310
            return json.load(reply)


@contextmanager
def aws(logs: Path) -> Iterator[Aws]:
    """A proxy in a separate process, until the end of the block."""
    module = [sys.executable, "-m", "tests.support.aws_process", f"--host={GATEWAY}"]
    command = [*module, f"--transition-seconds={TRANSITION_SECONDS}"]
    with ChildProcess("AWS", command, logs / "aws.log") as process:
        [ready] = process.wait_until(
            lambda: [line for line in process.log.read_text().splitlines() if "moto_url" in line]
        )
        yield Aws(json.loads(ready)["url"])
