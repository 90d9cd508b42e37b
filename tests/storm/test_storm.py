"""Ten minutes in which AWS fails in every way, against a real API server: `tox -e storm`.

AWS throttles nearly one call in three, and resets one connection in twenty, before or after the call was
carried out. Describe shows states that are five seconds old. One account is down. Hundreds of bookings begin
and end. At the end, each group must be in the booked state, and no instance may have been stopped inside an
active booking.
"""

import asyncio
import json
import os
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from booking_operator.devcluster.playground import Playground, playground
from booking_operator.devcluster.process import ChildProcess
from tests.e2e.conftest import manifest, until
from tests.support.aws import AwsProxy, Call
from tests.support.aws_call import ON_ITS_WAY
from tests.support.moto_server import REGION

SECONDS = float(os.environ.get("STORM_SECONDS", "600"))
GROUPS, SIZE = 40, 3
DOWN_GROUPS = 8
ACCOUNT = "210987654321"
CONFIG = f"""
accounts:
  fragile: {{role_arn: 'arn:aws:iam::{ACCOUNT}:role/booking-operator'}}
"""


@dataclass(frozen=True)
class Span:
    """A booking of one group. The last one of each group may end after the storm."""

    tag: str
    start: datetime
    end: datetime


def spans(chance: random.Random, tag: str, begin: datetime) -> Iterator[Span]:
    """Consecutive bookings, with gaps, back to back, and overlapping."""
    at, end = begin, begin + timedelta(seconds=SECONDS)
    while at < end - timedelta(seconds=40):
        until_ = at + timedelta(seconds=chance.uniform(15, 60))
        yield Span(tag, at, until_)
        at = until_ + timedelta(seconds=chance.choice((0, chance.uniform(10, 40), -chance.uniform(1, 10))))
    if chance.random() < 0.5:
        yield Span(tag, end - timedelta(seconds=20), end + timedelta(hours=1))


def active(bookings: Sequence[Span], at: datetime) -> bool:
    return any(span.start <= at < span.end for span in bookings)


def book(devcluster: Playground, tags: Sequence[str], booked: dict[str, list[Span]], **spec: str) -> None:
    items = []
    for tag in tags:
        items.append(manifest("Resource", tag, {"tag": tag, "region": REGION, **spec}))
        for number, span in enumerate(booked[tag]):
            times = {"start_at": span.start.isoformat(), "end_at": span.end.isoformat()}
            items.append(
                manifest("Booking", f"{tag}-{number}", {"resource_name": tag, "user_id": "ada", **times})
            )
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    devcluster.kubectl("apply", "-f", "-", stdin=json.dumps(whole))


def violations(calls: Sequence[Call], groups: dict[str, str], booked: dict[str, list[Span]]) -> list[str]:
    """Stops that arrived, accepted or refused, for an instance that was booked then and shortly before."""
    found = []
    for call in calls:
        if call.action != "StopInstances":
            continue
        for id_ in call.instance_ids:
            tag = groups[id_]
            if active(booked[tag], call.at) and active(booked[tag], call.at - ON_ITS_WAY):
                found.append(f"{id_} of {tag} at {call.at.isoformat()}")
    return found


@pytest.mark.storm
@pytest.mark.timeout(SECONDS + 600)
async def test_each_group_is_as_booked_after_the_storm_and_no_booked_instance_was_stopped(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    chance = random.Random(6)
    with playground() as devcluster:
        async with AwsProxy(devcluster.moto.url, transition_seconds=4, stale_seconds=5) as aws:
            groups: dict[str, str] = {}
            own = [f"own-{number:02}" for number in range(GROUPS)]
            down = [f"down-{number:02}" for number in range(DOWN_GROUPS)]
            for tags, account in ((own, ""), (down, ACCOUNT)):
                for tag in tags:
                    created = await aws.moto.of(account).create_instances(tag, SIZE, region=REGION)
                    groups |= dict.fromkeys(created, tag)
            begin = datetime.now(UTC) + timedelta(seconds=20)
            booked = {tag: list(spans(chance, tag, begin)) for tag in (*own, *down)}
            book(devcluster, own, booked)
            book(devcluster, down, booked, account="fragile")
            aws.enforce_limits()
            environ = devcluster.environ | {
                "AWS_ENDPOINT_URL": aws.url,
                "BOOKING_OPERATOR_CONFIG": str(config),
            }
            command = [sys.executable, "-m", "booking_operator", "run", "--log-format=json", "-n", "default"]
            command += ["--metrics-bind-address=0", "--health-probe-bind-address=0"]
            with ChildProcess("operator", command, tmp_path / "operator.log", environ) as process:
                await until(lambda: "resources_reconciled" in process.log.read_text(), 60)
                aws.storm(throttled=0.3, reset=0.05, seed=6)
                aws.down(ACCOUNT)
                await asyncio.sleep(SECONDS)
                aws.calm()
                aws.up(ACCOUNT)
                await settled(aws, groups, booked)
    assert violations(aws.calls, groups, booked) == []
    tell(aws.calls)


async def settled(aws: AwsProxy, groups: dict[str, str], booked: dict[str, list[Span]]) -> None:
    """Wait until every instance is in the booked state."""
    deadline = asyncio.get_running_loop().time() + 120
    while True:
        states = {**await aws.states(), **await aws.states(account=ACCOUNT)}
        now = datetime.now(UTC)
        wrong = {
            id_: states[id_]
            for id_, tag in groups.items()
            if states[id_] != ("running" if active(booked[tag], now) else "stopped")
        }
        if not wrong:
            return
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"not as booked after two minutes of calm: {wrong}")
        await asyncio.sleep(1)


def tell(calls: Sequence[Call]) -> None:
    """Print the number of calls of each action, and how many of them were answered."""
    counted: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for call in calls:
        counted[call.action][0] += 1
        counted[call.action][1] += call.status == 200
    for action, (arrived, answered) in sorted(counted.items()):
        print(f"{action}: {arrived} calls, {answered} answered")  # noqa: T201
