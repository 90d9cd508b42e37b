"""The results of all trials: the rows of the table, and the reasons why a run is void. Pure."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from bench.table import Row, amount
from bench.trials import Idling, Trial
from bench.windows import Power, quantile

Name = Literal["operator", "poller"]

ONE_TARGET = 0.025
"""Seconds. The p99 of boundaries at random."""
MANY_TARGET = 0.080
"""Seconds. The p99 of boundaries at one instant."""
RESTART_TARGET = 3.0
"""Seconds. A process that is killed right before the boundary needs this time to start and to reconcile."""
DRAINED_TARGET = 2.0
"""Seconds. The request limits allow the next call 0.45 s after the boundary."""
HAND_OVER_TARGET = 1.0
"""Seconds. The time from SIGTERM to the leader until another replica acts."""
LEASE_TARGET = 30.0
"""Seconds. The LeaseDuration."""
PLUGIN_TARGET = 0.150
"""Seconds. People wait for each key that they press."""
VIEW_TARGET, UPDATE_TARGET = 1.0, 0.3
"""Seconds. People wait for the first view, and expect to see a change at once."""
BURST, PER_SECOND = 1000, 2
"""The token bucket of StartInstances: its size in instances, and the refill rate per second."""
LIMIT_TOLERANCE = 1.02


@dataclass(frozen=True, slots=True)
class Scale:
    """The operator with many bookings.

    Attributes:
        rss_mib: resident memory with 50,000 bookings, in MiB.
        reconciled_seconds: the time from the start of the process until 10,000 bookings are reconciled.
    """

    rss_mib: float
    reconciled_seconds: float


@dataclass(frozen=True, slots=True)
class Plugin:
    """Medians of `kubectl booking` in seconds, each from the start of the process to its end.

    Attributes:
        help_seconds: `kubectl-booking --help`.
        usage_seconds: a usage error.
        completion_seconds: the completion of a command.
        names_seconds: the completion of the name of a Resource, which asks the API server through kubectl.
        status_seconds: `kubectl-booking status` with 500 Resources and 5,000 bookings.
    """

    help_seconds: float
    usage_seconds: float
    completion_seconds: float
    names_seconds: float
    status_seconds: float


@dataclass(frozen=True, slots=True)
class Board:
    """Medians of the board in seconds, with 500 Resources and 5,000 bookings.

    Attributes:
        view_seconds: from the navigation until all Resources are drawn.
        update_seconds: from the answer of the API server to a new booking until the booking is drawn.
    """

    view_seconds: float
    update_seconds: float


@dataclass(slots=True)
class Results:
    """The results so far: trials by name of the plan and subject, idle trials by subject."""

    trials: dict[tuple[str, Name], Trial] = field(default_factory=dict)
    idling: dict[Name, Idling] = field(default_factory=dict)
    scale: Scale | None = None
    plugin: Plugin | None = None
    board: Board | None = None

    def of(self, plan: str) -> dict[Name, Trial]:
        """The trials of one plan, by subject."""
        return {name: trial for (planned, name), trial in self.trials.items() if planned == plan}


def rows(results: Results) -> list[Row]:
    """The rows of the table for the available results."""
    return [
        *_random(results.of("random")),
        *_instant(results),
        *_idle(results.idling),
        *_scale(results.scale),
        *_plugin(results.plugin),
        *_board(results.board),
        *_kept(results),
        *_bulk(results.of("bulk")),
    ]


def faults(results: Results) -> list[str]:
    """The reasons why the run is void: the operator sent an action before its boundary, or never."""
    return [
        f"{plan}: {text}"
        for (plan, name), trial in results.trials.items()
        if name == "operator"
        for text in _faults_of(plan, trial)
    ]


def _faults_of(plan: str, trial: Trial) -> Iterator[str]:
    actions: tuple[Power, ...] = ("StartInstances",)
    if plan in {"random", "instant"}:
        actions = ("StartInstances", "StopInstances")
    for action in actions:
        late = trial.late(action)
        if plan == "bulk" and math.isinf(trial.all_started()):
            yield "some instances were not started before the timeout"
        never = sum(math.isinf(value) for value in late)
        if never:
            yield f"{action} was not sent for {never} of {len(late)} groups before the timeout"
        if min(late) < 0:
            yield f"{action} was sent {amount(-min(late), 's')} before the boundary"


def _random(trials: Mapping[Name, Trial]) -> Iterator[Row]:
    if "operator" not in trials:
        return
    n = len(trials["operator"].windows)
    for what, action in _ACTIONS.items():
        title = f"{what}, {n} boundaries at random"
        p50, largest = (42.0, 48.0) if action == "StartInstances" else (37.0, 45.0)
        yield _late(f"{title}: p50", trials, action, 0.5, go=p50)
        yield _late(f"{title}: p99", trials, action, 0.99, target=ONE_TARGET)
        yield _late(f"{title}: max", trials, action, 1.0, go=largest)


def _instant(results: Results) -> Iterator[Row]:
    trials = results.of("instant")
    if "operator" not in trials:
        return
    n = len(trials["operator"].windows)
    for what, action in _ACTIONS.items():
        if action == "StopInstances":
            # A poller takes so long to start them all that its stops are a trial of their own.
            trials = {**results.of("instant-stop"), "operator": trials["operator"]}
        title = f"{what}, {n:,} at one instant"
        # The Go operator was measured with 200 resources, and only its starts.
        p50, largest = (88.0, 142.0) if action == "StartInstances" else (None, None)
        yield _late(f"{title}: p50", trials, action, 0.5, go=p50)
        yield _late(f"{title}: p99", trials, action, 0.99, target=MANY_TARGET)
        yield _late(f"{title}: max", trials, action, 1.0, go=largest)
        yield Row(
            f"{title}: calls",
            "calls",
            trials["operator"].calls(action),
            target=3,
            baseline=float(trials["poller"].calls(action)) if "poller" in trials else None,
        )


_ACTIONS: dict[str, Power] = {"start": "StartInstances", "stop": "StopInstances"}


def _idle(idling: Mapping[Name, Idling]) -> Iterator[Row]:
    if "operator" not in idling:
        return
    ours, baseline = idling["operator"], idling.get("poller")
    describes = baseline.describes if baseline else None
    yield Row("Describe calls, idle, 50 resources", "calls/h", ours.describes, 65, 17_680, describes)
    yield Row("all AWS calls, idle, 50 resources", "calls/h", ours.calls)
    yield Row("memory, idle", "MiB", ours.rss_mib, 130, 45)


def _scale(scale: Scale | None) -> Iterator[Row]:
    if scale is None:
        return
    yield Row("memory, 50,000 bookings", "MiB", scale.rss_mib, 300)
    yield Row("cold start, 10,000 bookings, to all reconciled", "s", scale.reconciled_seconds, 10)


def _plugin(plugin: Plugin | None) -> Iterator[Row]:
    if plugin is None:
        return
    for title, seconds, target in (
        ("kubectl booking --help", plugin.help_seconds, PLUGIN_TARGET),
        ("kubectl booking, a usage error", plugin.usage_seconds, PLUGIN_TARGET),
        ("kubectl booking, completion of a command", plugin.completion_seconds, PLUGIN_TARGET),
        ("kubectl booking, completion of a name", plugin.names_seconds, PLUGIN_TARGET),
        ("kubectl booking status, 5,000 bookings", plugin.status_seconds, None),
    ):
        yield Row(title, "s", seconds, target)


def _board(board: Board | None) -> Iterator[Row]:
    if board is None:
        return
    yield Row("board, first view, 5,000 bookings", "s", board.view_seconds, VIEW_TARGET)
    yield Row("board, update after a watch event", "s", board.update_seconds, UPDATE_TARGET)


def _kept(results: Results) -> Iterator[Row]:
    for plan, title, target, go in (
        ("apiserver", "start while the API server restarts: max", MANY_TARGET, 64.0),
        ("killed", "start after kill -9 right before the boundary: max", RESTART_TARGET, None),
        ("drained", "start while EC2 throttles: max", DRAINED_TARGET, None),
        ("ended", "start while the leader hands over: max", HAND_OVER_TARGET, None),
        ("orphaned", "start after kill -9 of the leader, one stands by: max", LEASE_TARGET, None),
    ):
        if trials := results.of(plan):
            yield _late(title, trials, "StartInstances", 1.0, target=target, go=go)


def _bulk(trials: Mapping[Name, Trial]) -> Iterator[Row]:
    if "operator" not in trials:
        return
    trial = trials["operator"]
    n = sum(map(len, trial.groups.values()))
    bound = max(0.0, (n - BURST) / PER_SECOND)
    title = f"{n:,} starts at one instant, all accepted (limits allow {bound:.0f} s)"
    yield Row(title, "s", trial.all_started(), target=bound * LIMIT_TOLERANCE)


def _late(
    title: str,
    trials: Mapping[Name, Trial],
    action: Power,
    q: float,
    *,
    target: float | None = None,
    go: float | None = None,
) -> Row:
    baseline = quantile(trials["poller"].late(action), q) if "poller" in trials else None
    return Row(title, "s", quantile(trials["operator"].late(action), q), target, go, baseline)
