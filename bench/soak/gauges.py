"""Samples of the operator every few seconds, from the kernel and from the metrics of the operator."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from booking_operator.observability import catalogue

EVERY_SECONDS = 5.0
_MIB_OF_KIB = 1 / 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """The operator at one instant.

    Attributes:
        seconds: the time since the beginning of the run.
        rss_mib, uss_mib: resident memory, and the part of it that no other process shares.
        cpu_seconds: CPU time so far.
        tasks: tasks of the event loop.
        objects: objects in the caches.
        keys: keys that the work queues hold.
        depth: keys that are ready and wait for a worker.
        series: lines of the metrics.
        aws_calls, reconciles, terms: totals so far; `terms` counts leaderships.
    """

    seconds: float
    rss_mib: float
    uss_mib: float
    cpu_seconds: float
    tasks: float
    fds: float
    threads: float
    objects: float
    keys: float
    depth: float
    series: float
    aws_calls: float
    reconciles: float
    terms: float


async def samples(pid: int, metrics_url: str) -> AsyncIterator[Sample]:
    """Yield a sample every `EVERY_SECONDS`.

    Raises:
        aiohttp.ClientError: the operator does not answer.
    """
    loop, timeout = asyncio.get_running_loop(), aiohttp.ClientTimeout(total=30)
    began = at = loop.time()
    async with aiohttp.ClientSession(timeout=timeout) as http:
        while True:
            await asyncio.sleep(at - loop.time())
            async with http.get(metrics_url) as answer:
                answer.raise_for_status()
                text = await answer.text()
            yield read(at - began, text, pid)
            at += EVERY_SECONDS


def read(seconds: float, text: str, pid: int) -> Sample:
    """A sample from /proc and from the text of the metrics."""
    totals = _totals(text)
    rollup, status = _kernel(pid, "smaps_rollup"), _kernel(pid, "status")
    return Sample(
        seconds=seconds,
        rss_mib=rollup["Rss"] * _MIB_OF_KIB,
        uss_mib=(rollup["Private_Clean"] + rollup["Private_Dirty"]) * _MIB_OF_KIB,
        cpu_seconds=totals["process_cpu_seconds_total"],
        tasks=totals[catalogue.TASKS.name],
        fds=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=status["Threads"],
        objects=totals[catalogue.CACHE_OBJECTS.name],
        keys=totals.get(catalogue.QUEUE_KEYS.name, 0),
        depth=totals.get(catalogue.QUEUE_DEPTH.name, 0),
        series=sum(not line.startswith("#") for line in text.splitlines()),
        aws_calls=totals.get(catalogue.AWS_CALLS.name, 0),
        reconciles=totals.get(catalogue.RECONCILES.name, 0),
        terms=totals[catalogue.LEADER_TRANSITIONS.name],
    )


def _totals(text: str) -> dict[str, float]:
    """The sum of each metric over all of its labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def _kernel(pid: int, file: str) -> dict[str, int]:
    """The numbers of a file in /proc/PID, by name."""
    return dict(_numbers(Path(f"/proc/{pid}/{file}").read_text().splitlines()))


def _numbers(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[1].isdecimal():
            yield words[0].rstrip(":"), int(words[1])
