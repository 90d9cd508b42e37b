"""One trial: a subject, groups of instances, bookings for them, and the calls that arrived at the proxy.

`run` is the entry point. A `Plan` describes the trial, and a disturbance such as `kill` acts around the first
boundary.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.windows import Arrival, Power, Window, lateness, taken_at
from bench.world import Subject, World, rss_mib
from booking_operator.devcluster.process import ChildProcess

_POLL_SECONDS = 5
_SETTLE_SECONDS = 2
KILL_BEFORE = timedelta(seconds=0.2)
"""How long before the boundary the subject is killed. It is too short for a restart in time."""
END_BEFORE = timedelta(seconds=0.05)
"""How long before the boundary the leader gets SIGTERM, while another replica is on standby."""
LEADER_ELECTION = ("--leader-elect", "--leader-election-namespace={namespace}")
DRAIN_BEFORE = timedelta(seconds=0.05)
"""How long before the boundary other clients use all tokens. The limits allow the next call 0.45 s after the
boundary."""
AWAY_BEFORE, AWAY_AFTER = timedelta(seconds=2), timedelta(seconds=4)
"""The API server is down from `AWAY_BEFORE` before the boundary until `AWAY_AFTER` after it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial. Durations are in seconds."""

    region: str
    groups: Mapping[str, Sequence[str]]
    windows: Sequence[Window]
    arrivals: Sequence[Arrival]

    @property
    def begins_at(self) -> datetime:
        """The start of the first booking."""
        return min(window.start_at for window in self.windows)

    def late(self, action: Power) -> list[float]:
        """The lateness of the first call for each group; infinite without a call before the timeout."""
        late = lateness(self.windows, self.groups, self.arrivals, action)
        return [late.get(window.tag, math.inf) for window in self.windows]

    def calls(self, action: Power) -> int:
        """The number of calls of the action that arrived, refused calls included."""
        return sum(arrival.action == action for arrival in self.arrivals)

    def all_started(self) -> float:
        """Seconds from the first boundary until the last start was accepted; infinite if one is missing."""
        at = taken_at(self.arrivals, "StartInstances")
        ids = [id_ for members in self.groups.values() for id_ in members]
        if any(id_ not in at for id_ in ids):
            return math.inf
        return (max(at[id_] for id_ in ids) - self.begins_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Bout:
    """The objects that a disturbance acts on."""

    world: World
    process: ChildProcess
    region: str
    begins_at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """The description of a trial.

    Attributes:
        groups: the number of groups, each a Resource with one booking.
        windows: makes the bookings, given the groups and the earliest boundary.
        timeout: seconds to wait after the last boundary.
        instances: the number of instances of each group.
        actions: the expected actions, in order of their boundaries.
        running: whether the instances run at the beginning.
        disturb: the disturbance, called after the bookings are created.
        standby: whether a second replica is on standby, with leader election.
    """

    name: str
    groups: int
    windows: Callable[[Sequence[str], datetime], list[Window]]
    timeout: float
    instances: int = 1
    actions: tuple[Power, ...] = ("StartInstances",)
    running: bool = False
    disturb: Callable[[Bout], None] = lambda _: None
    standby: bool = False

    @property
    def lead(self) -> timedelta:
        """The time from the creation of the first booking to the first boundary.

        It is long enough to create all bookings, and for the subject to receive them.
        """
        return timedelta(seconds=10 + self.groups * 0.03)

    def begins_at(self, windows: Sequence[Window]) -> datetime:
        """The first boundary of the first action."""
        return min(window.due_at(self.actions[0]) for window in windows)


def run(world: World, subject: Subject, plan: Plan) -> Trial:
    """Run a trial.

    Raises:
        DevclusterError: the subject does not start.
        RuntimeError: the bookings could not be created in time.
    """
    region, namespace = next(world.regions), f"{plan.name}-{subject.name}"
    tags = [f"{plan.name}-{number:04}" for number in range(plan.groups)]
    state = "running" if plan.running else "stopped"
    groups = world.aws.do("create_groups", tags=tags, n=plan.instances, region=region, state=state)
    world.create_resources(namespace, tags)
    # Running instances need their booking before the subject starts. Otherwise it stops them immediately.
    windows = _book(world, subject, plan, tags) if plan.running else []
    flags = LEADER_ELECTION if plan.standby else ()
    with ExitStack() as stack:
        process = stack.enter_context(world.process(subject, namespace, region, *flags))
        await_log(process, subject.ready)
        if plan.standby:
            standby = world.process(subject, namespace, region, *flags, log="standby")
            await_log(stack.enter_context(standby), "caches_synced")
        windows = windows or _book(world, subject, plan, tags)
        plan.disturb(Bout(world, process, region, plan.begins_at(windows)))
        last = max(window.due_at(action) for window in windows for action in plan.actions)
        sleep_until(last + timedelta(seconds=_SETTLE_SECONDS))
        deadline = last + timedelta(seconds=plan.timeout)
        while True:
            trial = Trial(region, groups, windows, world.aws.arrivals(region))
            if _complete(trial, plan.actions) or datetime.now(UTC) > deadline:
                return trial
            time.sleep(_POLL_SECONDS)


def _book(world: World, subject: Subject, plan: Plan, tags: Sequence[str]) -> list[Window]:
    """Create the bookings ahead of the first boundary."""
    out_of_step = random.Random(plan.name).uniform(0, subject.period)
    windows = plan.windows(tags, datetime.now(UTC) + plan.lead + timedelta(seconds=out_of_step))
    world.book(f"{plan.name}-{subject.name}", windows)
    if datetime.now(UTC) > plan.begins_at(windows) - AWAY_BEFORE:
        raise RuntimeError(f"{plan.name}: creating {len(windows)} bookings took {plan.lead} and more")
    return windows


def _complete(trial: Trial, actions: Sequence[Power]) -> bool:
    if "StartInstances" in actions and math.isinf(trial.all_started()):
        return False
    return all(math.isfinite(max(trial.late(action))) for action in actions)


@dataclass(frozen=True, slots=True)
class Idling:
    """The cost of an idle subject: all calls an hour, Describe calls an hour, and resident memory in MiB."""

    calls: float
    describes: float
    rss_mib: float


def idle(world: World, subject: Subject, groups: int, seconds: float) -> Idling:
    """Run a subject for `seconds` with groups that have no booking."""
    region, namespace = next(world.regions), f"idle-{subject.name}"
    tags = [f"idle-{number:04}" for number in range(groups)]
    world.aws.do("create_groups", tags=tags, n=2, region=region)
    world.create_resources(namespace, tags)
    with world.process(subject, namespace, region) as process:
        await_log(process, subject.ready)
        time.sleep(_POLL_SECONDS)
        before, began = len(world.aws.arrivals(region)), time.monotonic()
        time.sleep(seconds)
        arrived, hours = world.aws.arrivals(region)[before:], (time.monotonic() - began) / 3600
        describes = sum(arrival.action.startswith("Describe") for arrival in arrived)
        return Idling(len(arrived) / hours, describes / hours, rss_mib(process.pid or 0))


def kill(bout: Bout) -> None:
    """Kill the subject right before the boundary, and start it again immediately, as a kubelet does."""
    sleep_until(bout.begins_at - KILL_BEFORE)
    bout.process.stop(kill=True)
    bout.process.start()


def kill_leader(bout: Bout) -> None:
    """Kill the leader right before the boundary. It does not start again."""
    sleep_until(bout.begins_at - KILL_BEFORE)
    bout.process.stop(kill=True)


def end_leader(bout: Bout) -> None:
    """Stop the leader with SIGTERM right before the boundary."""
    sleep_until(bout.begins_at - END_BEFORE)
    bout.process.stop()


def drain(bout: Bout) -> None:
    """Use all tokens of StartInstances right before the boundary, as other clients of the account may do."""
    sleep_until(bout.begins_at - DRAIN_BEFORE)
    bout.world.aws.do("drain", action="StartInstances", region=bout.region)


def take_apiserver_away(bout: Bout) -> None:
    """Kill the API server before the boundary, and start it again after the boundary."""
    sleep_until(bout.begins_at - AWAY_BEFORE)
    bout.world.plane.stop_apiserver(kill=True)
    sleep_until(bout.begins_at + AWAY_AFTER)
    bout.world.plane.start_apiserver()


def await_log(process: ChildProcess, event: str) -> None:
    """Wait until a process has logged an event.

    Raises:
        DevclusterError: the process ends first, or does not log the event within 120 s.
    """
    process.wait_until(lambda: f'"{event}"' in process.log.read_text(), timeout=120)


def sleep_until(instant: datetime) -> None:
    """Sleep until an instant of the wall clock (aware UTC)."""
    time.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))
