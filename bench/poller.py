"""The baseline: a model of an operator that polls.

One loop reads all bookings every 60 s and computes which Resources are booked at that instant. Another loop
checks all Resources every 15 s, one after the other: it calls DescribeInstances twice, and then starts or
stops the instances with one call if their state is wrong. The SDK makes at most three attempts for a
throttled call, as that of Go does. After that, the next cycle tries again.

    python -m bench.poller --namespace team --region eu-west-1
"""

import argparse
import asyncio
import json
import os
import ssl
import sys
from asyncio import TaskGroup
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import aioboto3
import aiohttp
import yaml
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.cloud.aws.tags import APPLICATION_TAG

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client

BOOKINGS_EVERY = timedelta(seconds=60)
RESOURCES_EVERY = timedelta(seconds=15)
AGAIN_SECONDS = 1.0
"""The delay after a failed read of the API server. client-go uses the same delay while the API server starts.
"""
CONFIG = AioConfig(retries={"mode": "standard", "max_attempts": 3}, read_timeout=20, connect_timeout=5)


def booked(bookings: Iterable[Mapping[str, Any]], now: datetime) -> frozenset[str]:
    """The names of the Resources that have a booking at `now` (aware UTC)."""
    specs = [booking["spec"] for booking in bookings]
    return frozenset(
        spec["resource_name"]
        for spec in specs
        if datetime.fromisoformat(spec["start_at"]) <= now < datetime.fromisoformat(spec["end_at"])
    )


def change(states: Mapping[str, str], *, wanted: bool) -> tuple[Literal["start", "stop"], list[str]]:
    """The action for a Resource, and the ids of those of its instances that need it."""
    wrong = "stopped" if wanted else "running"
    return "start" if wanted else "stop", [id_ for id_, state in states.items() if state == wrong]


class Poller:
    """Runs both loops."""

    def __init__(self, http: aiohttp.ClientSession, ec2: "EC2Client", namespace: str) -> None:
        self._http = http
        self._ec2 = ec2
        self._namespace = namespace
        self._tags: Collection[str] = ()
        self._booked: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Poll until cancelled."""
        async with TaskGroup() as tasks:
            tasks.create_task(self._read_bookings())
            tasks.create_task(self._go_round())

    async def _read_bookings(self) -> None:
        while True:
            try:
                resources = await self._list(RESOURCE.path(self._namespace))
                bookings = await self._list(BOOKING.path(self._namespace))
            except (aiohttp.ClientError, TimeoutError) as error:
                _say("list_failed", str(error))
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self._tags = [resource["spec"]["tag"] for resource in resources]
                self._booked = booked(bookings, datetime.now(UTC))
                _say("bookings_read")
                await asyncio.sleep(BOOKINGS_EVERY.total_seconds())

    async def _list(self, path: str) -> list[dict[str, Any]]:
        async with self._http.get(path) as reply:
            reply.raise_for_status()
            items: list[dict[str, Any]] = (await reply.json())["items"]
            return items

    async def _go_round(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            again_at = loop.time() + RESOURCES_EVERY.total_seconds()
            for tag in self._tags:
                try:
                    await self._reconcile(tag)
                except (ClientError, BotoCoreError) as error:
                    _say("call_failed", str(error))
            await asyncio.sleep(again_at - loop.time())

    async def _reconcile(self, tag: str) -> None:
        # the first call models the one that such an operator makes to count its instances
        await self._states(tag)
        verb, ids = change(await self._states(tag), wanted=tag in self._booked)
        if ids and verb == "start":
            await self._ec2.start_instances(InstanceIds=ids)
        elif ids:
            await self._ec2.stop_instances(InstanceIds=ids)

    async def _states(self, tag: str) -> dict[str, str]:
        found = await self._ec2.describe_instances(
            Filters=[{"Name": f"tag:{APPLICATION_TAG}", "Values": [tag]}]
        )
        return {
            instance["InstanceId"]: instance["State"]["Name"]
            for reservation in found["Reservations"]
            for instance in reservation["Instances"]
        }


def _say(event: str, text: str = "") -> None:
    at = datetime.now(UTC).isoformat()
    sys.stdout.write(json.dumps({"event": event, "text": text, "timestamp": at}) + "\n")
    sys.stdout.flush()


def _connected() -> aiohttp.ClientSession:
    """A client of the API server in KUBECONFIG. It uses a CA certificate file and a token."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
    return aiohttp.ClientSession(
        cluster["server"],
        connector=aiohttp.TCPConnector(ssl=trust),
        headers={"Authorization": f"Bearer {user['token']}"},
        timeout=aiohttp.ClientTimeout(total=30),
    )


async def _main(namespace: str, region: str) -> None:
    session = aioboto3.Session()
    async with _connected() as http, session.client("ec2", region_name=region, config=CONFIG) as ec2:
        await Poller(http, ec2, namespace).run()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--region", required=True)
    options = parser.parse_args()
    asyncio.run(_main(options.namespace, options.region))


if __name__ == "__main__":
    main()
