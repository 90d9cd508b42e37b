"""Answers DescribeInstances in place of moto, from replies that moto gave for each account and region.

The proxy uses it for thousands of instances, because moto is slow. An action that `Fleet` cannot follow drops
the cached fleet, and the next Describe loads it from moto again.
"""

import asyncio
from asyncio import Lock
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from xml.etree import ElementTree as ET

from tests.support.aws_fleet import Fleet

Load = Callable[[str, str], Awaitable[list[ET.Element]]]
"""Reads all instances of an account and region from moto."""


class Cache:
    """The cached fleets of all accounts and regions."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._fleets: dict[tuple[str, str], Fleet] = {}
        self._locks: defaultdict[tuple[str, str], Lock] = defaultdict(Lock)
        self._forgotten = 0

    def forget(self, account: str, region: str) -> None:
        """Drop the fleet of a region, so that the next Describe reads it from moto."""
        self._fleets.pop((account, region), None)
        self._forgotten += 1

    async def describe(
        self, account: str, region: str, params: Mapping[str, str], shown: Callable[[str, str], str]
    ) -> bytes | None:
        """The reply of EC2 to a Describe; see `Fleet.describe`."""
        fleet = await self.fleet(account, region)
        # Runs in a thread. It takes milliseconds, and would delay the time stamps of other calls.
        return await asyncio.to_thread(fleet.describe, params, shown)

    def follow(self, account: str, region: str, action: str, params: Mapping[str, str]) -> None:
        """Update the cached fleet after moto has carried out a call."""
        fleet = self._fleets.get((account, region))
        if not action.startswith("Describe") and (fleet is None or not fleet.took(action, params)):
            self.forget(account, region)

    async def fleet(self, account: str, region: str) -> Fleet:
        """The fleet of a region. One caller loads it from moto, and concurrent callers wait.

        It is loaded again if it was dropped during the load.
        """
        key = (account, region)
        async with self._locks[key]:
            while (fleet := self._fleets.get(key)) is None:
                before = self._forgotten
                loaded = await asyncio.to_thread(Fleet.of, await self._load(account, region))
                if before == self._forgotten:
                    self._fleets[key] = loaded
        return fleet
