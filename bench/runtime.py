"""Measure what two settings of the Python runtime gain: `python -m bench.runtime`.

The first setting is in `kube/__init__.py`: it imports kubernetes_asyncio without its generated modules.
The second one is in `gc_tuning.py`: the threshold of the garbage collector, and the exemption of the caches.
Each sample is a process of its own. The samples with and without a setting alternate, so that a busy machine
affects both.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any

from bench.population import objects, stored
from booking_operator.api.kinds import BOOKING
from booking_operator.gc_tuning import GC_THRESHOLD, ProcessGcTuning
from booking_operator.reconcilers.informers import Informers

_IMPORT = """
import json, sys, time
began = time.perf_counter()
if sys.argv[1] == "without":
    import kubernetes_asyncio.client
import booking_operator.operator
seconds = time.perf_counter() - began
[rss] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")]
print(json.dumps({"import, ms": seconds * 1000, "resident memory, MiB": int(rss) / 1024}))
"""


def load(bookings: int, *, tuned: bool) -> Mapping[str, float]:
    """Fill the caches with bookings, then collect once; return the durations in milliseconds."""
    now = datetime.now(UTC)
    bodies = [
        stored(kind, name, spec, now, settled=True) for kind, name, spec in objects(bookings, 2_000, now)
    ]
    texts = [json.dumps(body) for body in bodies if body["kind"] == BOOKING.name]
    del bodies
    gc.collect()
    if tuned:
        gc.set_threshold(GC_THRESHOLD)
    pauses: list[float] = []
    began = 0.0

    def observe(phase: str, _: Mapping[str, Any]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            pauses.append((time.perf_counter() - began) * 1000)

    gc.callbacks.append(observe)
    informers, start = Informers("eu-west-1"), time.perf_counter()
    for text in texts:
        informers.bookings.apply(BOOKING.adapter.validate_json(text))
    loaded = (time.perf_counter() - start) * 1000
    during = list(pauses)
    if tuned:
        ProcessGcTuning().freeze()
    pauses.clear()
    gc.collect()
    return {
        "first list, ms": loaded,
        "first list, longest pause, ms": max(during),
        "first list, all pauses, ms": sum(during),
        "full collection afterwards, ms": pauses[-1],
    }


def _sampled(command: list[str]) -> Mapping[str, float]:
    run = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True)
    sample: Mapping[str, float] = json.loads(run.stdout)
    return sample


def _compare(name: str, commands: Mapping[str, list[str]], samples: int) -> None:
    found: dict[str, list[Mapping[str, float]]] = {variant: [] for variant in commands}
    for _ in range(samples):
        for variant, command in commands.items():
            found[variant].append(_sampled(command))
    for figure in found["with"][0]:
        without, tuned = (median(one[figure] for one in found[variant]) for variant in ("without", "with"))
        print(f"| {name} | {figure} | {without:,.1f} | {tuned:,.1f} | {tuned / without:.2f} |")


def main() -> None:
    """Print one row for each figure: the median without the setting, with it, and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench.runtime", description=__doc__)
    parser.add_argument("--samples", type=int, default=9, help="processes for each variant")
    parser.add_argument("--bookings", type=int, default=50_000, help="bookings in the caches")
    parser.add_argument("--load", choices=["with", "without"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(load(options.bookings, tuned=options.load == "with")))
        return
    print("| setting | figure | without | with | ratio |\n|---|---|---:|---:|---:|")
    variants = ("without", "with")
    imports = {variant: ["-c", _IMPORT, variant] for variant in variants}
    _compare("import of kubernetes_asyncio", imports, options.samples)
    loads = {
        variant: ["-m", "bench.runtime", f"--load={variant}", f"--bookings={options.bookings}"]
        for variant in variants
    }
    _compare("garbage collector", loads, options.samples)


if __name__ == "__main__":
    main()
