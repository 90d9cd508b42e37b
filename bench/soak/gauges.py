"""What is read of the operator every few seconds: from the kernel, and from its own metrics."""

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
    """The operator at one moment.

    Attributes:
        seconds: since the beginning of the run.
        rss_mib, uss_mib: memory it holds, and that part of it which it shares with nobody.
        cpu_seconds: what it has computed so far.
        tasks: of its event loop.
        objects: in its caches.
        keys: that its work queues know.
        depth: of these, those that are ready and wait.
        series: lines of its metrics.
        aws_calls, reconciles, terms: so far.
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
    """One every few seconds, for as long as it is asked for.

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
    """A sample of a process, and of the text of its metrics."""
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
    """Each metric's sum over all of its labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def _kernel(pid: int, file: str) -> dict[str, int]:
    """The numbers of a file in /proc, by their name."""
    return dict(_numbers(Path(f"/proc/{pid}/{file}").read_text().splitlines()))


def _numbers(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[1].isdecimal():
            yield words[0].rstrip(":"), int(words[1])
