"""One trial: a fault strikes a world several times, and the result is scored."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

from booking_operator.api.kinds import BOOKING, RESOURCE
from tests.chaos.faults import Fault
from tests.chaos.layout import LEAD, layout
from tests.chaos.score import Bound, Score, score
from tests.chaos.world import World, world
from tests.e2e.conftest import at, soon

SEED = int(os.environ.get("CHAOS_SEED", "8"))
CALM_SECONDS = 20.0
"""The time after the last booking within which everything must be in its final state."""
QUIET_SECONDS = 3.0
QUIET_READS = 20
"""The number of requests in `QUIET_SECONDS` that is normal. More requests would be a busy loop."""


@dataclass(slots=True)
class Result:
    """The result of one fault.

    Attributes:
        times: the number of rounds.
        calm: the time in seconds from the last boundary until everything was in its final state.
        problems: other errors.
    """

    fault: str
    times: int
    score: Score
    calm: float
    problems: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """Everything that must not occur, even on a slow machine."""
        return [*self.score.violations, *(f"lost: {item}" for item in self.score.lost), *self.problems]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def try_out(faults: Sequence[Fault], rounds: int, directory: Path) -> list[Result]:
    """Let faults strike one world one after the other, `rounds` times each, and score each of them."""
    chance = random.Random(SEED)
    first = faults[0]
    async with world(
        directory,
        chance,
        apiserver_flags=first.apiserver_flags,
        replicas=first.replicas,
        service_account=first.service_account,
    ) as stands:
        for one in stands.replicas:
            await stands.begin(one)
        return [await _try_out(fault, rounds, stands) for fault in faults]


async def _try_out(fault: Fault, rounds: int, stands: World) -> Result:
    calls, times = len(stands.aws.calls), fault.rounds or rounds
    stands.ledger.versions.clear()
    for number in range(times):
        await _round(fault, f"{fault_id(fault)}-{number}", stands)
    began = datetime.now(UTC)
    problems = await _calm(stands)
    calm = (datetime.now(UTC) - began).total_seconds()
    problems += await _loops(stands)
    problems += _traces(fault, stands)
    bound = Bound(booked=fault.late, edited=fault.seconds + fault.settle)
    found = score(stands.ledger, stands.groups, stands.aws.calls[calls:], bound)
    return Result(fault.name, times, found, calm, problems)


def fault_id(fault: Fault) -> str:
    return fault.name.lower().replace(",", "").replace(" ", "-")


async def _round(fault: Fault, number: str, stands: World) -> None:
    begin = soon(LEAD)
    plan = layout(
        stands.chance, number, begin, fault.seconds, fault.settle, dead=fault.dead, quiet=fault.quiet
    )
    await stands.book(plan.spans)
    if fault.prepare:
        await fault.prepare(stands)
    if fault.edits == "before":
        await at(begin - timedelta(seconds=1))
        await stands.edit(plan.edits)
    await at(begin)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fault.strike(stands, fault.seconds))
        if fault.edits == "during":
            await at(plan.edited())
            await stands.edit(plan.edits)
    await at(plan.over)


async def _calm(stands: World) -> list[str]:
    """Wait until everything is in its final state without bookings; return the remaining differences."""
    deadline = soon(CALM_SECONDS)
    while wrong := await _wrong(stands):
        if datetime.now(UTC) > deadline:
            return wrong
        await asyncio.sleep(0.1)
    return []


async def _wrong(stands: World) -> list[str]:
    states = await stands.aws.states()
    bookings, resources = await stands.objects(BOOKING), await stands.objects(RESOURCE)
    due = {version.name for version in stands.ledger.present()}
    had = {item["metadata"]["name"] for item in bookings}
    return [
        *(f"{id_} is {state}" for id_, state in states.items() if state != "stopped"),
        *(f"booking {name} is missing" for name in due - had),
        *(
            f"booking {item['metadata']['name']}: {item.get('status')}"
            for item in bookings
            if item.get("status", {}).get("status") != "FINISHED"
        ),
        *(
            f"resource {item['metadata']['name']}: {item.get('status')}"
            for item in resources
            if not _at_rest(item.get("status", {}))
        ),
    ]


def _at_rest(status: dict[str, Any]) -> bool:
    conditions = {item["type"]: item["status"] for item in status.get("conditions", [])}
    shown = status.get("status"), status.get("locked_by", ""), status.get("next_change_at", "")
    return shown == ("STOPPED", "", "") and conditions.get("Ready") == "True"


async def _loops(stands: World) -> list[str]:
    """Writes, and an excessive number of requests, while there is nothing to do.

    The operator writes each Usage once, ten seconds after the last change.
    """
    await asyncio.sleep(1)
    since = datetime.now(UTC)
    await asyncio.sleep(QUIET_SECONDS)
    requests = [item for item in stands.proxy.requests if item.at >= since]
    written = Counter(f"{item.method} {item.path}" for item in requests if item.writes)
    writes = [write for write, times in written.items() if "/usages" not in write or times > _allowed(write)]
    writes += [
        call.action
        for call in stands.aws.calls
        if call.at >= since and not call.action.startswith("Describe")
    ]
    loops = [f"{len(requests)} requests to the API server at rest"] if len(requests) > QUIET_READS else []
    return loops + [f"written at rest: {write}" for write in writes]


def _allowed(write: str) -> float:
    """Return how often a Usage may be written. All Usages of a namespace are created at the same path."""
    return inf if write.startswith("POST") else 1


def _traces(fault: Fault, stands: World) -> list[str]:
    """Errors, restarts and missing log events, according to the operator's logs."""
    found = [f"the operator has not felt it: no {event}" for event in fault.felt if not stands.logged(event)]
    if len(stands.logged("caches_synced")) != stands.starts:
        found.append("a replica has restarted by itself")
    for one in stands.replicas:
        log = one.process.log.read_text()
        if "Traceback" in log or '"level": "error"' in log:
            found.append(f"errors in the log of {one.name}: {log[-5000:]}")
    return found
