"""The users of the cluster during the run. They change objects, and receive notifications by a webhook."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from bench.soak.faults import sleep_until
from bench.soak.fleet import Deed
from bench.world import create, manifest
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER
from booking_operator.devcluster.instances import Instances

NAMESPACE = "soak"
_SWEEP_SECONDS = 15.0
_NOT_FOUND = 404
_WRITERS = 16
_MERGE = {"Content-Type": "application/merge-patch+json"}
_REFUSED_OF = 10


class Users:
    """Carries out the actions of the script at their times."""

    def __init__(
        self, http: aiohttp.ClientSession, instances: Instances, groups: Mapping[str, Sequence[str]]
    ) -> None:
        self._http = http
        self._instances = instances
        self._groups = groups
        self._free = asyncio.Semaphore(_WRITERS)

    async def prepare(self, deeds: Iterable[Deed]) -> None:
        """Carry out all actions at once."""
        async with asyncio.TaskGroup() as tasks:
            for deed in deeds:
                tasks.create_task(self._do(deed))

    async def act(self, deeds: Iterable[Deed]) -> None:
        """Carry out each action at its time. The actions are in order."""
        async with asyncio.TaskGroup() as tasks:
            for deed in deeds:
                await sleep_until(deed.at)
                tasks.create_task(self._do(deed))

    async def sweep(self) -> None:
        """Delete bookings whose scheduler is gone, as the garbage collector of a complete cluster does."""
        while True:
            there = {item["metadata"]["uid"] for item in await self._list(BOOKING_SCHEDULER.path(NAMESPACE))}
            for item in await self._list(BOOKING.path(NAMESPACE)):
                owners = {owner["uid"] for owner in item["metadata"].get("ownerReferences", ())}
                if owners - there:
                    await self._delete(f"{BOOKING.path(NAMESPACE)}/{item['metadata']['name']}")
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _do(self, deed: Deed) -> None:
        async with self._free:
            if deed.kind is None:
                await asyncio.to_thread(self._instances.mark, self._groups[deed.name], deed.spec)
                return
            path = deed.kind.path(NAMESPACE)
            if deed.verb == "create":
                await create(self._http, path, manifest(deed.kind, deed.name, deed.spec))
            elif deed.verb == "patch":
                patch = {"spec": dict(deed.spec)}
                async with self._http.patch(f"{path}/{deed.name}", json=patch, headers=_MERGE) as answer:
                    answer.raise_for_status()
            else:
                await self._delete(f"{path}/{deed.name}")

    async def _delete(self, path: str) -> None:
        async with self._http.delete(path) as answer:
            if answer.status != _NOT_FOUND:
                answer.raise_for_status()

    async def _list(self, path: str) -> list[dict[str, Any]]:
        async with self._http.get(path) as answer:
            answer.raise_for_status()
            items: list[dict[str, Any]] = (await answer.json())["items"]
            return items


class Hook:
    """A webhook server that refuses one message in ten with status 503.

    Attributes:
        url: the URL of the server.
        received: the number of accepted messages.
    """

    def __init__(self) -> None:
        self.url = ""
        self.received = 0
        self._asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self._asked += 1
        if self._asked % _REFUSED_OF == 0:
            return web.Response(status=503)
        self.received += 1
        return web.Response()


@asynccontextmanager
async def hook() -> AsyncIterator[Hook]:
    """A webhook server on loopback."""
    found, app = Hook(), web.Application()
    app.router.add_post("/", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        found.url = f"http://{host}:{port}/"
        yield found
    finally:
        await runner.cleanup()
