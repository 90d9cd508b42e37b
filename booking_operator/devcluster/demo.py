"""`booking-operator demo`: bookings start and stop instances through a real kube-apiserver, live.

Exit code 0 means that it was seen: every booking went SCHEDULED -> IN PROGRESS -> FINISHED, every group of
instances STOPPED -> RUNNING -> STOPPED, and each start and stop is known to the millisecond.
"""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from time import monotonic, sleep

import click
import yaml

from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.playground import Playground, playground, tell
from booking_operator.devcluster.process import ChildProcess

_READY_SECONDS = 20.0
_AHEAD_SECONDS = 4
_LONG_SECONDS = 6
_PATIENCE_SECONDS = 40.0
_FRAME_SECONDS = 0.4
_HISTORIES = {
    "bookings": ["SCHEDULED", "IN PROGRESS", "FINISHED"],
    "resources": ["STOPPED", "RUNNING", "STOPPED"],
}
_MOST_LATE_MS = 1000.0


@dataclass(frozen=True, slots=True)
class _Show:
    """One group with one booking."""

    tag: str
    instances: int
    user: str
    start_at: datetime
    end_at: datetime

    def manifests(self) -> str:
        resource = _manifest(
            "Resource", self.tag, {"type": "ec2", "tag": self.tag, "booked_by": "", "booked_until": ""}
        )
        times = {"start_at": _rfc3339(self.start_at), "end_at": _rfc3339(self.end_at)}
        booking = _manifest(
            "Booking", f"{self.tag}-demo", {"resource_name": self.tag, **times, "user_id": self.user}
        )
        return yaml.safe_dump_all([resource, booking], sort_keys=False)


@dataclass(slots=True)
class _Seen:
    """Which states each object went through, as `kubectl` showed them."""

    histories: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def look(self, ground: Playground) -> None:
        for kind in _HISTORIES:
            for item in json.loads(ground.kubectl("get", kind, "-o", "json"))["items"]:
                status = item.get("status", {}).get("status", "")
                self.histories.setdefault((kind, item["metadata"]["name"]), []).append(status)

    def steps(self, kind: str, name: str) -> list[str]:
        """The states without repetitions, and without the moment in which instances are on their way."""
        states = self.histories.get((kind, name), [])
        return [state for state, _ in groupby(state for state in states if state not in {"", "PENDING"})]


def run(*, keep_logs: bool = False) -> int:
    """Run the demo and return its exit code."""
    try:
        with playground() as ground:
            try:
                return _perform(ground)
            finally:
                if keep_logs:
                    _keep(ground)
    except DevclusterError as error:
        tell(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        tell("Stopped; nothing is left behind.")
        return 130


def _perform(ground: Playground) -> int:
    command = [sys.executable, "-m", "booking_operator", "run", "--log-format", "json"]
    for tag, count in (("analytics", 2), ("reporting", 1)):
        ground.instances.create(tag, count)
    log = ground.directory / "operator.log"
    operator = ChildProcess("the operator", command, log, ground.environ)
    with operator:
        operator.wait_until(lambda: "caches_synced" in log.read_text(), _READY_SECONDS)
        first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=_AHEAD_SECONDS)
        shows = [
            _Show("analytics", 2, "ada", first, first + timedelta(seconds=_LONG_SECONDS)),
            _Show(
                "reporting",
                1,
                "grace",
                first + timedelta(seconds=2),
                first + timedelta(seconds=_LONG_SECONDS + 3),
            ),
        ]
        for show in shows:
            ground.kubectl("apply", "-f", "-", stdin=show.manifests())
        seen = _watch(ground, shows)
    return _verdict(shows, seen, log)


def _watch(ground: Playground, shows: Sequence[_Show]) -> _Seen:
    """Show the live table until everything has happened, or should have."""
    seen, lines = _Seen(), 0
    deadline = monotonic() + _PATIENCE_SECONDS
    while monotonic() < deadline:
        seen.look(ground)
        table = ground.kubectl("get", "resources,bookings").rstrip()
        lines = _draw(f"{datetime.now(UTC):%H:%M:%S}  kubectl get resources,bookings\n\n{table}", lines)
        if not _missing(shows, seen):
            break
        sleep(_FRAME_SECONDS)
    click.echo()
    return seen


def _draw(text: str, previous: int) -> int:
    """Draw over the previous frame on a terminal, below it elsewhere; returns how many lines it took."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(line[:width] for line in text.splitlines())
        click.echo(f"\x1b[{previous}F\x1b[0J" if previous else "", nl=False)
    click.echo(text)
    return len(text.splitlines())


def _missing(shows: Sequence[_Show], seen: _Seen) -> list[str]:
    """What has not been seen yet, a line each."""
    missing = []
    for show in shows:
        for kind, name in (("bookings", f"{show.tag}-demo"), ("resources", show.tag)):
            steps, wanted = seen.steps(kind, name), _HISTORIES[kind]
            if steps != wanted:
                missing.append(f"{kind}/{name}: expected {' -> '.join(wanted)}, saw {' -> '.join(steps)}")
    return missing


def _verdict(shows: Sequence[_Show], seen: _Seen, log: Path) -> int:
    """Print how late each action left and was accepted; 1 when anything did not happen."""
    failures = _missing(shows, seen)
    accepted = [json.loads(line) for line in log.read_text().splitlines() if '_accepted"' in line]
    click.echo(f"{'GROUP':<12}{'ACTION':<8}{'BOUNDARY':<22}{'ACCEPTED AFTER':>14}")
    for show in shows:
        for action, boundary in (("start", show.start_at), ("stop", show.end_at)):
            times = [
                datetime.fromisoformat(entry["timestamp"])
                for entry in accepted
                if (entry["event"], entry["tag"]) == (f"instances_{action}_accepted", show.tag)
            ]
            late = [(at - boundary).total_seconds() * 1000 for at in times]
            if len(late) != 1 or not 0 <= late[0] <= _MOST_LATE_MS:
                failures.append(
                    f"{action} {show.tag}: expected once, soon after the boundary; was {late} ms after"
                )
            shown = ", ".join(f"{ms:.1f} ms" for ms in late) or "never"
            click.echo(f"{show.tag:<12}{action:<8}{_rfc3339(boundary):<22}{shown:>14}")
    for failure in failures:
        tell(f"demo: {failure}")
    return 1 if failures else 0


def _keep(ground: Playground) -> None:
    kept = Path(f"booking-operator-logs-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    kept.mkdir()
    for directory in (ground.directory, ground.control_plane.directory):
        for log in directory.glob("*.log"):
            shutil.copy(log, kept)
    tell(f"The logs are in {kept}.")


def _manifest(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "manager.kotaico.de/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _rfc3339(instant: datetime) -> str:
    return re.sub(r"\+00:00$", "Z", instant.isoformat())
