"""Measure how fast `kubectl booking` answers: help, a usage error, completion, and `status`.

python -m bench.plugin
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.population import NAMESPACE, fill, objects, stored
from bench.report import Plugin
from booking_operator.devcluster.binaries import find_kubectl
from booking_operator.devcluster.playground import control_plane

RUNS = 21
FEW_RUNS = 5
BOOKINGS, RESOURCES = 5_000, 500


def measure() -> Plugin:
    """Measure the installed scripts, against an API server with many bookings."""
    scripts = Path(sys.executable).parent
    booking, complete = str(scripts / "kubectl-booking"), str(scripts / "kubectl_complete-booking")
    with control_plane() as plane, tempfile.TemporaryDirectory() as directory:
        now = datetime.now(UTC)
        made = objects(BOOKINGS, RESOURCES, now)
        asyncio.run(
            fill(plane, ((kind, stored(kind, name, spec, now, settled=True)) for kind, name, spec in made))
        )
        kubectl = find_kubectl(print)
        environ = {
            **os.environ,
            "HOME": directory,
            "KUBECONFIG": str(plane.kubeconfig),
            "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
        }
        return Plugin(
            help_seconds=_median([booking, "--help"], environ),
            usage_seconds=_median([booking, "book", "x", "--to", "17.00"], environ, code=2),
            completion_seconds=_median([complete, "bo"], environ),
            names_seconds=_median([complete, "book", "-n", NAMESPACE, ""], environ, FEW_RUNS),
            status_seconds=_median([booking, "status", "-n", NAMESPACE], environ, FEW_RUNS),
        )


def _median(command: Sequence[str], environ: Mapping[str, str], runs: int = RUNS, code: int = 0) -> float:
    """Return the median of the run times in seconds. The first run fills the caches and does not count."""
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - began)
        if done.returncode != code:
            raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}: {done.stderr}")
    return statistics.median(times[1:])


def main() -> None:
    found = measure()
    print(f"help                  {found.help_seconds * 1000:.0f} ms")
    print(f"usage error           {found.usage_seconds * 1000:.0f} ms")
    print(f"completion            {found.completion_seconds * 1000:.0f} ms")
    print(f"completion of names   {found.names_seconds * 1000:.0f} ms")
    print(f"status, 5,000 bookings  {found.status_seconds * 1000:.0f} ms")


if __name__ == "__main__":
    main()
