"""Answers Describes of EC2 in moto's place, from what moto has answered for each region."""

import asyncio
from asyncio import Lock
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from xml.etree import ElementTree as ET

from tests.support.aws_fleet import Fleet

Load = Callable[[str, str], Awaitable[list[ET.Element]]]
"""Asks moto for all instances of an account and region."""


class Cache:
    """The fleets of all accounts and regions."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._fleets: dict[tuple[str, str], Fleet] = {}
        self._locks: defaultdict[tuple[str, str], Lock] = defaultdict(Lock)
        self._forgotten = 0

    def forget(self, account: str, region: str) -> None:
        """Ask moto again for the instances of a region, at the next Describe."""
        self._fleets.pop((account, region), None)
        self._forgotten += 1

    async def describe(
        self, account: str, region: str, params: Mapping[str, str], shown: Callable[[str, str], str]
    ) -> bytes | None:
        """EC2's reply, as `Fleet.describe` makes it."""
        fleet = await self.fleet(account, region)
        # In a thread: it takes milliseconds, and what arrives meanwhile must not seem late.
        return await asyncio.to_thread(fleet.describe, params, shown)

    def follow(self, account: str, region: str, action: str, params: Mapping[str, str]) -> None:
        """Change what is known by a call that moto has carried out."""
        fleet = self._fleets.get((account, region))
        if not action.startswith("Describe") and (fleet is None or not fleet.took(action, params)):
            self.forget(account, region)

    async def fleet(self, account: str, region: str) -> Fleet:
        """One asks moto, and all who come meanwhile wait for that; again if it changed while it was asked."""
        key = (account, region)
        async with self._locks[key]:
            while (fleet := self._fleets.get(key)) is None:
                before = self._forgotten
                loaded = await asyncio.to_thread(Fleet.of, await self._load(account, region))
                if before == self._forgotten:
                    self._fleets[key] = loaded
        return fleet
