"""One trial: a subject, groups of instances, bookings for them, and what arrived at AWS."""

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
"""How long before the boundary the subject is killed: too short to be back in time."""
END_BEFORE = timedelta(seconds=0.05)
"""How long before the boundary the leader gets SIGTERM, while another replica stands by."""
LEADER_ELECTION = ("--leader-elect", "--leader-election-namespace={namespace}")
DRAIN_BEFORE = timedelta(seconds=0.05)
"""How long before the boundary others use up the limits: the next call is allowed 0.45 s after it."""
AWAY_BEFORE, AWAY_AFTER = timedelta(seconds=2), timedelta(seconds=4)
"""From when till when, seen from the boundary, the API server is away."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one. `late` and the like are in seconds."""

    region: str
    groups: Mapping[str, Sequence[str]]
    windows: Sequence[Window]
    arrivals: Sequence[Arrival]

    @property
    def begins_at(self) -> datetime:
        """The first boundary."""
        return min(window.start_at for window in self.windows)

    def late(self, action: Power) -> list[float]:
        """How late each group's first call was; infinite where there was none in the time that was waited."""
        late = lateness(self.windows, self.groups, self.arrivals, action)
        return [late.get(window.tag, math.inf) for window in self.windows]

    def calls(self, action: Power) -> int:
        """How many calls of the action arrived, refused ones included."""
        return sum(arrival.action == action for arrival in self.arrivals)

    def all_started(self) -> float:
        """Seconds from the first boundary until the last instance's start was accepted; infinite if never."""
        at = taken_at(self.arrivals, "StartInstances")
        ids = [id_ for members in self.groups.values() for id_ in members]
        if any(id_ not in at for id_ in ids):
            return math.inf
        return (max(at[id_] for id_ in ids) - self.begins_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Bout:
    """What a disturbance works on."""

    world: World
    process: ChildProcess
    region: str
    begins_at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """How a trial goes.

    Attributes:
        groups: how many, each a Resource with a booking.
        instances: of each group.
        windows: the bookings, given groups and the earliest boundary.
        actions: what is waited for, in order of the boundaries.
        running: whether the instances run at first.
        patience: seconds to wait after the last boundary.
        disturb: what happens meanwhile.
        standby: whether a second replica stands by, and a leader is elected.
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
        """From the first booking's creation to the first boundary: enough to create and to see them all."""
        return timedelta(seconds=10 + self.groups * 0.03)

    def begins_at(self, windows: Sequence[Window]) -> datetime:
        """The first boundary."""
        return min(window.due_at(self.actions[0]) for window in windows)


def run(world: World, subject: Subject, plan: Plan) -> Trial:
    """Carry out a trial.

    Raises:
        DevclusterError: the subject does not start.
        RuntimeError: the bookings could not be created in time.
    """
    region, namespace = next(world.regions), f"{plan.name}-{subject.name}"
    tags = [f"{plan.name}-{number:04}" for number in range(plan.groups)]
    state = "running" if plan.running else "stopped"
    groups = world.aws.do("create_groups", tags=tags, n=plan.instances, region=region, state=state)
    world.create_resources(namespace, tags)
    # What runs must be booked before the subject sees it, or it is stopped at once.
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
    """Create the bookings, a while before the first boundary."""
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
    """What doing nothing costs: calls an hour, all of them and Describes alone, and MiB."""

    calls: float
    describes: float
    rss_mib: float


def idle(world: World, subject: Subject, groups: int, seconds: float) -> Idling:
    """Let a subject idle for so many seconds over groups that nobody has booked."""
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
    """Kill the subject right before the boundary, and start it again at once, as a kubelet does."""
    sleep_until(bout.begins_at - KILL_BEFORE)
    bout.process.stop(kill=True)
    bout.process.start()


def kill_leader(bout: Bout) -> None:
    """Kill the leader right before the boundary, for good."""
    sleep_until(bout.begins_at - KILL_BEFORE)
    bout.process.stop(kill=True)


def end_leader(bout: Bout) -> None:
    """Have the leader end in good order right before the boundary."""
    sleep_until(bout.begins_at - END_BEFORE)
    bout.process.stop()


def drain(bout: Bout) -> None:
    """Have others in the account use up the requests of StartInstances right before the boundary."""
    sleep_until(bout.begins_at - DRAIN_BEFORE)
    bout.world.aws.do("drain", action="StartInstances", region=bout.region)


def take_apiserver_away(bout: Bout) -> None:
    """Kill the API server before the boundary, and bring it back after."""
    sleep_until(bout.begins_at - AWAY_BEFORE)
    bout.world.plane.stop_apiserver(kill=True)
    sleep_until(bout.begins_at + AWAY_AFTER)
    bout.world.plane.start_apiserver()


def await_log(process: ChildProcess, event: str) -> None:
    """Wait until a process has logged an event.

    Raises:
        DevclusterError: it ends before, or does not get there.
    """
    process.wait_until(lambda: f'"{event}"' in process.log.read_text(), timeout=120)


def sleep_until(instant: datetime) -> None:
    """Sleep until an instant of the wall clock (aware UTC)."""
    time.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))
