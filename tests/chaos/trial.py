"""One trial: a fault strikes a world several times, and all that can be measured of it is."""

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
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
"""By when after the last booking all must be as it should be."""
QUIET_SECONDS = 3.0
QUIET_READS = 20
"""Requests of all kinds that are no loop in that time."""


@dataclass(slots=True)
class Result:
    """What became of one fault.

    Attributes:
        times: how often it struck.
        calm: how long after the last boundary all was as it should be (s).
        problems: what must not be.
    """

    fault: str
    times: int
    score: Score
    calm: float
    problems: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """What is never to be, however noisy the machine."""
        return [*self.score.violations, *(f"lost: {item}" for item in self.score.lost), *self.problems]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def try_out(faults: Sequence[Fault], rounds: int, directory: Path) -> list[Result]:
    """Let faults strike one world in turn, `rounds` times each, and judge them one by one."""
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
    """Wait until all is as it should be with nothing booked; what is not, in the end."""
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
    told = status.get("status"), status.get("locked_by", ""), status.get("next_change_at", "")
    return told == ("STOPPED", "", "") and conditions.get("Ready") == "True"


async def _loops(stands: World) -> list[str]:
    """What is still done while there is nothing to do."""
    await asyncio.sleep(1)
    since = datetime.now(UTC)
    await asyncio.sleep(QUIET_SECONDS)
    asked = [item for item in stands.proxy.asked if item.at >= since]
    writes = [f"{item.method} {item.path}" for item in asked if item.writes]
    writes += [
        call.action
        for call in stands.aws.calls
        if call.at >= since and not call.action.startswith("Describe")
    ]
    loops = [f"{len(asked)} requests to the API server at rest"] if len(asked) > QUIET_READS else []
    return loops + [f"written at rest: {write}" for write in writes]


def _traces(fault: Fault, stands: World) -> list[str]:
    """What the operator's logs say."""
    found = [f"the operator has not felt it: no {event}" for event in fault.felt if not stands.logged(event)]
    if len(stands.logged("caches_synced")) != stands.starts:
        found.append("a replica has restarted by itself")
    for one in stands.replicas:
        log = one.process.log.read_text()
        if "Traceback" in log or '"level": "error"' in log:
            found.append(f"errors in the log of {one.name}: {log[-5000:]}")
    return found
