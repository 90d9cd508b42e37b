"""`booking-operator demo`: all four kinds start and stop instances through a real kube-apiserver.

Four ResourceMonitors find one group of each type: instances, a database, an Auto Scaling group, and an ECS
service. The operator switches the last two off, because nobody has booked them. A Booking books each of them
and the database. The user of the database gets a mail about the end. A BookingScheduler books the instances
once an hour. The demo then moves that booking forward, so that the user does not have to wait.

Exit code 0 means that the demo observed all of this: every booking went SCHEDULED -> IN PROGRESS -> FINISHED,
and every group STOPPED -> RUNNING -> STOPPED. The mail arrived, and each start and stop was accepted in time.
"""

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import click
import yaml

from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.mailbox import Mailbox
from booking_operator.devcluster.playground import OwnPlayground, Playground, borrowed_playground, playground
from booking_operator.devcluster.prepare import tell
from booking_operator.devcluster.process import ChildProcess
from booking_operator.domain.formatting import format_rfc3339
from booking_operator.domain.services import SERVICES

_READY_TIMEOUT_SECONDS = 20.0
_START_DELAY = timedelta(seconds=4)
_BOOKING_DURATION = timedelta(seconds=6)
_WATCH_TIMEOUT_SECONDS = 40.0
_FRAME_SECONDS = 0.4
_HISTORIES = {
    "bookings": ["SCHEDULED", "IN PROGRESS", "FINISHED"],
    "resources": ["STOPPED", "RUNNING", "STOPPED"],
}
_BOARD_STARTED, _BOARD_OPENS = "Press Ctrl-C to stop it.", "Opening the browser."
_MAX_LATENESS_MS = 1000.0

T = TypeVar("T")


_DATABASE = "rds.reporting"
"""The Resource that the monitor of databases creates for the group `reporting`."""
_SCALED = {"asg.website": "website", "ecs.checkout": "checkout"}
"""The Resources that the monitors of Auto Scaling groups and ECS services create, each with its group."""


@dataclass(frozen=True, slots=True)
class _Show:
    """One Resource with one booking."""

    resource: str
    tag: str
    booking: str
    start_at: datetime
    end_at: datetime


@dataclass(slots=True)
class _Seen:
    """The states of each object over time, as `kubectl` shows them."""

    histories: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def look(self, ground: Playground) -> None:
        for kind in _HISTORIES:
            for item in _items(ground, kind):
                status = item.get("status", {}).get("status", "")
                self.histories.setdefault((kind, item["metadata"]["name"]), []).append(status)

    def steps(self, kind: str, name: str) -> list[str]:
        """Return the states without repetitions, and without PENDING."""
        states = self.histories.get((kind, name), [])
        return [state for state, _ in groupby(state for state in states if state not in {"", "PENDING"})]


def run(*, context: str = "", keep_logs: bool = False) -> int:
    """Run the demo and return its exit code.

    Args:
        context: a context of the user's kubeconfig, in whose cluster the demo runs; empty for a control plane
            of its own.
        keep_logs: whether to copy the logs of all processes into the present directory.
    """
    try:
        with borrowed_playground(context) if context else playground() as ground:
            try:
                return _perform(ground)
            finally:
                if keep_logs:
                    _keep(ground)
    except DevclusterError as error:
        tell(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        tell("Stopped. No processes or temporary files remain.")
        return 130


def next_steps(directory: Path) -> str:
    """Return what to type after the demo.

    Args:
        directory: the directory of the installed programs.
    """
    with suppress(ValueError):
        directory = directory.relative_to(Path.cwd())
    return f"""What to type next:

    {directory}/booking-operator devcluster
        the same servers, for commands of your own
    {directory}/kubectl-booking --help
        book, extend and release, and see why a machine does not run
    helm upgrade --install booking-operator charts/booking-operator --create-namespace \\
      --namespace booking-operator-system --set image.repository=REGISTRY/booking-operator
        install the operator in your cluster; docs/install.md has the details
"""


def _perform(ground: Playground) -> int:
    command = [sys.executable, "-m", "booking_operator", "run", "--log-format=json", "--notify-before=3s"]
    command += ["--metrics-bind-address=0", "--health-probe-bind-address=0"]
    command += ["--namespace", ground.namespace] if ground.namespace else []
    ground.instances.create("analytics", 2)
    ground.databases.create("reporting", "reporting-db")
    ground.scaled_groups.create("website", "website", "1/4/2")
    ground.services.create("checkout", "main/checkout", 3, scale=(2, 6))
    log = ground.directory / "operator.log"
    with Mailbox() as mailbox:
        operator = ChildProcess("the operator", command, log, ground.environ | mailbox.environ)
        with operator:
            operator.wait_until(lambda: "caches_synced" in log.read_text(), _READY_TIMEOUT_SECONDS)
            with _board(ground) as is_open:
                shows = _book(ground)
                seen = _watch(ground, shows)
                code = _verdict(shows, seen, log, mailbox)
                click.echo(f"\n{next_steps(Path(sys.executable).parent)}")
                if is_open:
                    tell("The board stays open in the browser. Press Ctrl-C to end the demo.")
                    with suppress(KeyboardInterrupt):
                        signal.pause()
                return code


@contextmanager
def _board(ground: Playground) -> Iterator[bool]:
    """Serve the board for the length of the context, and print its address.

    On a terminal of a machine with a browser, it opens there. Yields whether it did.
    """
    command = [sys.executable, "-m", "booking_operator.cli.kubectl.main", "board"]
    command.append("--browser" if sys.stdout.isatty() else "--no-browser")
    log = ground.directory / "board.log"
    with ChildProcess("the board", command, log, ground.environ) as board:
        board.wait_until(lambda: _BOARD_STARTED in log.read_text(), _READY_TIMEOUT_SECONDS)
        lines = log.read_text().splitlines()
        tell(next(line for line in lines if line.startswith("The board is at ")))
        yield _BOARD_OPENS in lines


def _book(ground: Playground) -> list[_Show]:
    """Wait until all groups are found and off, then book them with Bookings and with a BookingScheduler."""
    tell("Creating four ResourceMonitors. They create a Resource for each tagged group.")
    for service in SERVICES:
        _apply(ground, "ResourceMonitor", service, {"type": service})
    names = ("analytics", _DATABASE, *_SCALED)
    _until(lambda: _statuses(ground), dict.fromkeys(names, "STOPPED"))
    tell(f"Found {', '.join(sorted(names))}. Creating Bookings, and a BookingScheduler for every hour.")
    start = datetime.now(UTC).replace(microsecond=0) + _START_DELAY
    shows = [
        _Show(resource, tag, f"{tag}-demo", start, start + _BOOKING_DURATION)
        for resource, tag in {_DATABASE: "reporting", **_SCALED}.items()
    ]
    for show in shows:
        times = {"start_at": format_rfc3339(show.start_at), "end_at": format_rfc3339(show.end_at)}
        told = [{"type": "email", "recipient": "grace@example.com"}] if show.resource == _DATABASE else []
        spec = {"resource_name": show.resource, **times, "user_id": "grace", "notifications": told}
        _apply(ground, "Booking", show.booking, spec)
    booked = {show.booking for show in shows}
    template = {"resource_name": "analytics", "user_id": "ada"}
    # Half an hour from now, so that no occurrence is in progress.
    schedule = f"{(start.minute + 30) % 60} * * * *"
    every = {"schedule": schedule, "duration": 1, "horizon": "0s", "bookingTemplate": template}
    _apply(ground, "BookingScheduler", "analytics", every)
    made = _until(lambda: [item for item in _items(ground, "bookings") if _name(item) not in booked])[0]
    start = datetime.now(UTC).replace(microsecond=0) + _START_DELAY
    scheduled = _Show("analytics", "analytics", _name(made), start, start + _BOOKING_DURATION)
    times = {"start_at": format_rfc3339(scheduled.start_at), "end_at": format_rfc3339(scheduled.end_at)}
    patch = json.dumps({"spec": times})
    ground.kubectl("patch", "booking", scheduled.booking, "--type=merge", "--patch", patch)
    return [*shows, scheduled]


def _watch(ground: Playground, shows: Sequence[_Show]) -> _Seen:
    """Show the live table until all expected states were observed, or until the timeout."""
    seen, lines = _Seen(), 0
    deadline = monotonic() + _WATCH_TIMEOUT_SECONDS
    while monotonic() < deadline:
        seen.look(ground)
        table = ground.kubectl("get", "rm,bs,resources,bookings").rstrip()
        lines = _draw(f"{datetime.now(UTC):%H:%M:%S}  kubectl get rm,bs,resources,bookings\n\n{table}", lines)
        if not _missing(shows, seen):
            break
        sleep(_FRAME_SECONDS)
    click.echo()
    return seen


def _draw(text: str, previous: int) -> int:
    """Replace the previous frame on a terminal, else print below it. Return the number of lines."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(line[:width] for line in text.splitlines())
        click.echo(f"\x1b[{previous}F\x1b[0J" if previous else "", nl=False)
    click.echo(text)
    return len(text.splitlines())


def _missing(shows: Sequence[_Show], seen: _Seen) -> list[str]:
    """Return the expected states that were not observed, one line each."""
    missing = []
    for show in shows:
        for kind, name in (("bookings", show.booking), ("resources", show.resource)):
            steps, wanted = seen.steps(kind, name), _HISTORIES[kind]
            if steps != wanted:
                missing.append(f"{kind}/{name}: expected {' -> '.join(wanted)}, saw {' -> '.join(steps)}")
    return missing


def _verdict(shows: Sequence[_Show], seen: _Seen, log: Path, mailbox: Mailbox) -> int:
    """Print the mail, and the delay of each action. Return 1 if anything is missing or late, else 0."""
    failures = _missing(shows, seen)
    if len(mailbox.mails) != 1:
        failures.append(f"email: expected 1, received {len(mailbox.mails)}")
    for mail in mailbox.mails:
        click.echo(f"Received email:\n\n{_indented(mail.as_string())}\n")
    accepted = [json.loads(line) for line in log.read_text().splitlines() if '_accepted"' in line]
    click.echo(f"{'RESOURCE':<15}{'ACTION':<8}{'BOUNDARY':<22}{'ACCEPTED AFTER':>14}")
    for show in shows:
        for action, boundary in (("start", show.start_at), ("stop", show.end_at)):
            times = [
                datetime.fromisoformat(entry["timestamp"])
                for entry in accepted
                if entry["event"] == f"instances_{action}_accepted" and show.tag in entry["tags"]
            ]
            # Before its booking, a scaled group was stopped because nobody had booked it.
            late = [
                (at - boundary).total_seconds() * 1000 for at in times if at > show.start_at - _START_DELAY
            ]
            if len(late) != 1 or not 0 <= late[0] <= _MAX_LATENESS_MS:
                failures.append(
                    f"{action} {show.tag}: expected 1 call at most {_MAX_LATENESS_MS:.0f} ms late, saw {late}"
                )
            shown = ", ".join(f"{ms:.1f} ms" for ms in late) or "never"
            click.echo(f"{show.resource:<15}{action:<8}{format_rfc3339(boundary):<22}{shown:>14}")
    for failure in failures:
        tell(f"demo: {failure}")
    return 1 if failures else 0


def _keep(ground: Playground) -> None:
    kept = Path(f"booking-operator-logs-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    kept.mkdir()
    own = [ground.control_plane.directory] if isinstance(ground, OwnPlayground) else []
    for directory in (ground.directory, *own):
        for log in directory.glob("*.log"):
            shutil.copy(log, kept)
    tell(f"Logs saved to {kept}.")


def _until(look: Callable[[], T], wanted: T | None = None) -> T:
    """Poll `look` until it returns `wanted`, or without `wanted` a true value.

    Raises:
        DevclusterError: the timeout has passed.
    """
    deadline = monotonic() + _READY_TIMEOUT_SECONDS
    while True:
        found = look()
        if found == wanted if wanted is not None else found:
            return found
        if monotonic() > deadline:
            raise DevclusterError(f"timed out after {_READY_TIMEOUT_SECONDS:.0f} s; last result: {found!r}")
        sleep(_FRAME_SECONDS / 4)


def _items(ground: Playground, kind: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(ground.kubectl("get", kind, "-o", "json"))["items"]
    return items


def _statuses(ground: Playground) -> dict[str, str]:
    return {_name(item): item.get("status", {}).get("status", "") for item in _items(ground, "resources")}


def _name(item: dict[str, Any]) -> str:
    return str(item["metadata"]["name"])


def _apply(ground: Playground, kind: str, name: str, spec: dict[str, Any]) -> None:
    manifest = {"apiVersion": "manager.kotaico.de/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    ground.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest, sort_keys=False))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.strip().splitlines())
