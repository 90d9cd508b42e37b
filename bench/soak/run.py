"""One run: start all processes, let users and faults act, and take samples."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from bench.soak import fleet
from bench.soak.faults import SYSTEM, Credentials, Fault, calendar, sleep_until, strike
from bench.soak.fleet import Script, script, tags
from bench.soak.gauges import Sample, samples
from bench.soak.lateness import Kept, kept, strays
from bench.soak.users import NAMESPACE, Users, hook
from bench.trials import await_log
from bench.world import OPERATOR, World, connected
from booking_operator.devcluster.instances import Databases, Instances
from booking_operator.devcluster.moto import CREDENTIALS
from booking_operator.devcluster.process import ChildProcess
from tests.support.json_lines import json_lines
from tests.support.wire import Wire

PREPARED_IN = timedelta(seconds=75)
"""The time before the beginning of the run in which the fleet is created and the operator starts."""
_DRAIN_TIME = timedelta(seconds=20)
_REGION = CREDENTIALS["AWS_REGION"]
_TELL_EVERY = 12
_FLAGS = (
    "--leader-elect",
    f"--leader-election-namespace={SYSTEM}",
    "--metrics-bind-address=127.0.0.1:0",
    "--health-probe-bind-address=127.0.0.1:0",
)

Tell = Callable[[str], None]


@dataclass(slots=True)
class Record:
    """The result of a run, as saved in a file.

    Attributes:
        machine: the machine and the date.
        seconds: the duration of the run.
        faults: name, begin and end of each fault; seconds from the beginning of the run.
        notifications: the number of notifications that the webhook received.
        errors: the number of log events of the levels error and critical, by event.
    """

    machine: str
    seconds: float
    faults: list[tuple[str, float, float]]
    samples: list[Sample] = field(default_factory=list)
    boundaries: list[Kept] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    notifications: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record that `write` wrote."""
        whole: dict[str, Any] = json.loads(path.read_text())
        whole["samples"] = [Sample(**item) for item in whole["samples"]]
        whole["boundaries"] = [Kept(**item) for item in whole["boundaries"]]
        return cls(**whole)


class Run:
    """One run of the operator with one fleet. The same seed gives the same script."""

    def __init__(self, world: World, seconds: float, seed: int, machine: str, tell: Tell) -> None:
        self._world = world
        self._seconds = seconds
        self._seed = seed
        self._tell = tell
        self._record = Record(machine, seconds, [])
        self._groups: dict[str, list[str]] = {}

    async def run(self) -> Record:
        """Run everything.

        Raises:
            DevclusterError: a process does not start.
            RuntimeError: the preparation took longer than `PREPARED_IN`.
        """
        await asyncio.to_thread(self._make_groups)
        begin = datetime.now(UTC) + PREPARED_IN
        end = begin + timedelta(seconds=self._seconds)
        story, faults = script(begin, end, self._seed), list(calendar(begin, end))
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(connected(self._world.plane))
            listens = await stack.enter_async_context(hook())
            wire = await stack.enter_async_context(Wire(urlsplit(self._world.plane.url).port or 0))
            credentials = await asyncio.to_thread(Credentials, self._world, wire.port)
            users = Users(http, Instances(self._world.aws.url), self._groups)
            await users.prepare(story.standing)
            process = self._process(credentials, listens.url)
            process.start()
            stack.push_async_callback(asyncio.to_thread, process.stop)
            await asyncio.to_thread(await_log, process, "all_reconciled")
            if datetime.now(UTC) > begin:
                raise RuntimeError(f"the preparation took longer than {PREPARED_IN}")
            await sleep_until(begin)
            self._tell("the run begins")
            async with asyncio.TaskGroup() as tasks:
                going_on = (
                    tasks.create_task(self._sample(process)),
                    tasks.create_task(users.sweep()),
                    tasks.create_task(credentials.rotate(begin)),
                    tasks.create_task(strike(faults, self._world.aws, wire)),
                )
                await users.act(story.deeds)
                await sleep_until(end)
                for task in going_on:
                    task.cancel()
            await asyncio.sleep(_DRAIN_TIME.total_seconds())
        self._conclude(story, faults, begin)
        self._record.notifications, self._record.errors = listens.received, _errors(process.log)
        return self._record

    def _make_groups(self) -> None:
        aws = self._world.aws
        for kind, n, size in (
            ("team", fleet.RESOURCES, fleet.SIZE),
            ("cron", fleet.CRONS, 1),
            ("office", 1, 1),
            ("guest", fleet.GUESTS, 1),
        ):
            self._groups |= aws.do("create_groups", tags=tags(kind, n), n=size, region=_REGION)
        for tag in tags("db", fleet.DATABASES):
            Databases(aws.url).create(tag, tag)
        self._world.kubectl("create", "namespace", NAMESPACE)

    def _process(self, credentials: Credentials, hook_url: str) -> ChildProcess:
        config = self._world.directory / "config.yaml"
        config.write_text(yaml.safe_dump({"targets": {fleet.TARGET: {"type": "webhook", "url": hook_url}}}))
        flags = (*_FLAGS, f"--config={config}")
        return self._world.process(OPERATOR, NAMESPACE, _REGION, *flags, kubeconfig=credentials.kubeconfig)

    async def _sample(self, process: ChildProcess) -> None:
        url, taken = _metrics_url(process.log), self._record.samples
        async for sample in samples(process.pid or 0, url):
            taken.append(sample)
            if len(taken) % _TELL_EVERY == 1:
                self._tell(
                    f"{sample.seconds / 60:.0f} min: {sample.rss_mib:.1f} MiB, {sample.tasks:.0f} tasks, "
                    f"{sample.fds:.0f} descriptors, {sample.objects:.0f} objects, {sample.keys:.0f} keys, "
                    f"{sample.aws_calls:.0f} calls, term {sample.terms:.0f}"
                )

    def _conclude(self, story: Script, faults: Sequence[Fault], begin: datetime) -> None:
        end = begin + timedelta(seconds=self._seconds)
        arrivals, record = self._world.aws.arrivals(_REGION), self._record
        record.boundaries = kept(story.boundaries, self._groups, arrivals, faults, begin)
        record.strays = strays(story.boundaries, self._groups, arrivals, end)
        record.faults = [
            (fault.kind.name, (fault.begin - begin).total_seconds(), (fault.end - begin).total_seconds())
            for fault in faults
        ]


def _metrics_url(log: Path) -> str:
    (port,) = (entry["port"] for entry in json_lines(log) if entry["event"] == "metrics_server_started")
    return f"http://127.0.0.1:{port}/metrics"


def _errors(log: Path) -> dict[str, int]:
    severe = (entry["event"] for entry in json_lines(log) if entry["level"] in {"error", "critical"})
    return dict(Counter(severe))
