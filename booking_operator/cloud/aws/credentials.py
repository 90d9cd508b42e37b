"""Where credentials come from: the operator's own from botocore's chain, those of a role from STS.

Each load reads everything again, environment and files included; `credential_renewal` decides when to load.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleWithWebIdentityProvider,
    AioContainerProvider,
    AioCredentials,
    AioDeferredRefreshableCredentials,
    AioRefreshableCredentials,
    create_credential_resolver,
)
from aiobotocore.session import AioSession
from botocore.exceptions import NoCredentialsError
from botocore.utils import FileWebIdentityTokenLoader

from booking_operator.cloud.aws.accounts import Account
from booking_operator.engine.clock import Clock

ROLE_SESSION_NAME = "booking-operator"
"""Under which CloudTrail shows what the operator does in a role."""

Source = AioCredentials | AioRefreshableCredentials
Load = Callable[[], Awaitable[Source]]
"""Loads credentials; those of STS may be fetched only once they are asked for."""


async def load_own(make: Callable[[], AioSession], region: str) -> Source:
    """The operator's own credentials, by botocore's chain, in botocore's order.

    Args:
        make: makes a session, which reads the configuration files.
        region: whose STS is asked; empty for the one of environment or profile.

    Raises:
        NoCredentialsError: nothing in the chain has any.
        Exception: whatever botocore has against them; `cloud.aws.errors.translated` knows it.
    """
    session = make()
    chain = create_credential_resolver(session, region_name=region or None)
    # Both kinds of token file may end in a newline, as editors and `kubectl create secret` leave it there.
    # botocore sends it with the one, and refuses to send the other.
    web_identity = AioAssumeRoleWithWebIdentityProvider(
        load_config=lambda: session.full_config,
        client_creator=_creator(session, region),
        profile_name=session.profile or "default",
        token_loader_cls=_TokenFile,
    )
    chain.insert_before(web_identity.METHOD, web_identity)
    container = AioContainerProvider(environ=_with_container_token(dict(os.environ)))
    chain.insert_before(container.METHOD, container)
    source = await chain.load_credentials()
    if source is None:
        raise NoCredentialsError
    return source


class Sts:
    """STS, asked with what `session` signs with. An async context manager; its client ends with it.

    One client for all roles: to open one takes longer than to ask, and nothing else runs meanwhile.

    Args:
        session: makes the client.
        region: whose STS is asked; empty for the one of environment or profile.
        connections: how many calls can be under way at once.
    """

    def __init__(self, session: AioSession, region: str, *, connections: int) -> None:
        self._session = session
        self._region = region
        self._config = AioConfig(max_pool_connections=connections)
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def assume(self, account: Account) -> dict[str, str]:
        """Credentials of the account's role for an hour, by the names that botocore renews them with."""
        async with self._opening:
            if self._client is None:
                opening: Any = _creator(self._session, self._region)("sts", config=self._config)
                self._client = await self._stack.enter_async_context(opening)
        wanted = {"RoleArn": account.role_arn, "RoleSessionName": ROLE_SESSION_NAME}
        if account.external_id:
            wanted["ExternalId"] = account.external_id
        given = (await self._client.assume_role(**wanted))["Credentials"]
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }


async def load_role(account: Account, sts: Sts, clock: Clock) -> Source:
    """Credentials of the account's role, loaded at first use; `clock` decides when they expire."""
    return AioDeferredRefreshableCredentials(
        refresh_using=partial(sts.assume, account), method="assume-role", time_fetcher=clock.now
    )


def _creator(session: AioSession, region: str) -> Any:
    """What opens a client; the stubs repeat botocore's, whose clients open without waiting."""
    return partial(session.create_client, region_name=region or None)


class _TokenFile(FileWebIdentityTokenLoader):
    """The token that the kubelet keeps in a file, and replaces there before it expires."""

    def __call__(self) -> str:
        return str(super().__call__()).strip()


def _with_container_token(environ: dict[str, str]) -> dict[str, str]:
    """The environment with the token of EKS pod identity itself, in place of the path of its file."""
    path = environ.get(AioContainerProvider.ENV_VAR_AUTH_TOKEN_FILE)
    if path is None:
        return environ
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return environ  # botocore reports it if it is needed: other sources come first
    del environ[AioContainerProvider.ENV_VAR_AUTH_TOKEN_FILE]
    return environ | {AioContainerProvider.ENV_VAR_AUTH_TOKEN: token}
