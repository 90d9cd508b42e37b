"""AWS clients: one per account and region, opened once, closed together.

Retries are off: what to repeat, when, and what else meanwhile, is decided by the callers.
"""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, Self

import aioboto3
from aiobotocore.config import AioConfig

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 20
KEEPALIVE_SECONDS = 75
"""Longer than the idle polls are apart, so that a boundary finds a connection that is open already."""


class Scope(NamedTuple):
    """One account's instances in one region: what one client, and one Describe, can see."""

    account: str
    region: str


def default_region() -> str:
    """Region of the environment or of the AWS profile; empty where there is none."""
    return aioboto3.Session().region_name or ""


class Clients:
    """An async context manager over all open clients."""

    def __init__(self) -> None:
        self._session = aioboto3.Session()
        self._stack = AsyncExitStack()
        self._ec2: dict[Scope, EC2Client] = {}
        self._config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=32,
            user_agent_extra="booking-operator",
            connector_args={"keepalive_timeout": KEEPALIVE_SECONDS},
        )

    async def __aenter__(self) -> Self:
        """Open nothing yet: clients come with their first use."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all clients."""
        await self._stack.aclose()

    async def ec2(self, scope: Scope) -> "EC2Client":
        """The EC2 client of a scope."""
        client = self._ec2.get(scope)
        if client is None:
            opened = self._session.client("ec2", region_name=scope.region, config=self._config)
            client = self._ec2[scope] = await self._stack.enter_async_context(opened)
        return client
