"""Measure the operator and a poller, and print one table; see docs/bench.md.

A full run takes about half an hour. `--quick` leaves out 2,000 starts, which take as long as the request
limits of EC2 require:

    python -m tox -e bench -- --quick --json bench.json --svg bench/results
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import board, plots, plugin, report, scale
from bench.report import Name, Results, Scale
from bench.table import as_json, shown
from bench.trials import Plan, drain, end_leader, idle, kill, kill_leader, run, take_apiserver_away
from bench.windows import Power, at_once, at_random, until
from bench.world import OPERATOR, POLLER, Subject, World, world

SUBJECTS: dict[Name, Subject] = {"operator": OPERATOR, "poller": POLLER}
BOTH: tuple[Power, ...] = ("StartInstances", "StopInstances")
IDLE_RESOURCES = 50
FEW = 5


class Run:
    """Runs all trials in order, and collects their results."""

    def __init__(self, stands: World, options: argparse.Namespace) -> None:
        self._world = stands
        self._options = options
        self.results = Results()

    def all(self) -> None:
        """Run the trials of the operator one after the other, then the slow trials side by side."""
        boundaries, each = self._options.boundaries, self._options.every
        spread = partial(at_random, spread=boundaries * each)
        random = Plan("random", boundaries, spread, timeout=90, actions=BOTH)
        many = self._options.at_once
        instant = Plan("instant", many, partial(at_once, length=40), timeout=30, actions=BOTH)
        killed = Plan("killed", FEW, at_once, timeout=90, disturb=kill)
        drained = Plan("drained", FEW, at_once, timeout=90, disturb=drain)
        away = Plan("apiserver", FEW, at_once, timeout=90, disturb=take_apiserver_away)
        ended = Plan("ended", FEW, at_once, timeout=90, disturb=end_leader, standby=True)
        orphaned = Plan("orphaned", FEW, at_once, timeout=90, disturb=kill_leader, standby=True)
        for plan in (random, instant, killed, drained, away, ended, orphaned):
            self._trial(plan, "operator")
        for plan in (random, away):
            self._trial(plan, "poller")
        self._side_by_side(killed, drained)

    def _side_by_side(self, *kept: Plan) -> None:
        seconds, many = self._options.timeout, self._options.at_once
        slow = (
            *kept,
            Plan("instant", many, at_once, timeout=seconds),
            Plan("instant-stop", many, until, timeout=seconds, actions=("StopInstances",), running=True),
        )
        long: list[Callable[[], None]] = [
            partial(self._idle, "operator", self._options.idle),
            partial(self._idle, "poller", 60),
            *(partial(self._trial, plan, "poller") for plan in slow),
        ]
        if not self._options.quick:
            bulk = Plan("bulk", 400, at_once, timeout=600, instances=5)
            long.insert(0, partial(self._trial, bulk, "operator"))
        with ThreadPoolExecutor(len(long)) as pool:
            for future in [pool.submit(work) for work in long]:
                future.result()

    def _trial(self, plan: Plan, name: Name) -> None:
        _tell(f"{plan.name}: {name}")
        self.results.trials[plan.name, name] = run(self._world, SUBJECTS[name], plan)
        _tell(f"{plan.name}: {name}: done")

    def _idle(self, name: Name, seconds: float) -> None:
        _tell(f"idle: {name}")
        self.results.idling[name] = idle(self._world, SUBJECTS[name], IDLE_RESOURCES, seconds)
        _tell(f"idle: {name}: done")


def _scale() -> Scale:
    """Measure the operator with many bookings that already have a status, as after a restart.

    Each of the two measurements has a cluster of its own.
    """
    _tell("50,000 bookings")
    many = scale.measure(50_000, 2_000, first_run=False)
    _tell("10,000 bookings")
    few = scale.measure(10_000, 400, first_run=False)
    return Scale(many.restart.rss_mib, few.restart.reconciled_seconds)


def _tell(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def _draw(directory: Path, results: Results) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    late = {name: trial.late("StartInstances") for name, trial in results.of("random").items()}
    plots.lateness(directory / "lateness.svg", late, report.ONE_TARGET)
    plots.calls(directory / "calls.svg", results.of("instant"))
    if bulk := results.of("bulk").get("operator"):
        plots.starts(directory / "starts.svg", bulk, report.BURST, report.PER_SECOND)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="leave out 2,000 starts at one instant")
    parser.add_argument(
        "--boundaries", type=int, default=100, help="resources in the trial with boundaries at random"
    )
    parser.add_argument(
        "--every", type=float, default=1.0, help="seconds between two of these boundaries, on average"
    )
    parser.add_argument("--at-once", type=int, default=1000, help="resources in the trial at one instant")
    parser.add_argument("--idle", type=float, default=300, help="seconds of the idle trial of the operator")
    parser.add_argument(
        "--timeout", type=float, default=650, help="seconds to wait for the poller's last call"
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file as JSON")
    parser.add_argument("--svg", type=Path, help="draw pictures into this directory")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    with world() as stands:
        everything = Run(stands, options)
        everything.all()
    everything.results.scale = _scale()
    _tell("kubectl booking")
    everything.results.plugin = plugin.measure()
    everything.results.board = board.measure()
    rows, faults = report.rows(everything.results), report.faults(everything.results)
    machine = (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d %H:%M}Z"
    )
    print(f"\n{machine}\n\n{shown(rows)}\n")
    for fault in faults:
        print(f"VOID: {fault}")
    if options.json:
        found = {"machine": machine, "rows": as_json(rows), "void": faults}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if options.svg:
        _draw(options.svg, everything.results)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
