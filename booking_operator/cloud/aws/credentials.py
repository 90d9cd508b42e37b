"""The sources of credentials: botocore's credential chain for the operator's own, and STS for a role.

Each load reads the environment and all files again. `credential_renewal` decides when to load.
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
"""The session name that CloudTrail shows for the actions of the operator in a role."""

Source = AioCredentials | AioRefreshableCredentials
Load = Callable[[], Awaitable[Source]]
"""Loads credentials. Credentials of STS may be fetched only at first use."""


async def load_own(make: Callable[[], AioSession], region: str) -> Source:
    """Load the operator's own credentials by botocore's chain, in its order.

    Args:
        make: creates a session, which reads the configuration files.
        region: the region whose STS is used; empty for the region of environment or profile.

    Raises:
        NoCredentialsError: no provider in the chain has credentials.
        Exception: any other error of botocore; `cloud.aws.errors.translate_errors` translates it.
    """
    session = make()
    chain = create_credential_resolver(session, region_name=region or None)
    # Both kinds of token file may end in a newline, which editors and `kubectl create secret` keep. botocore
    # sends the one token with the newline, and rejects the other.
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
    """An STS client that signs with the credentials of `session`. An async context manager.

    All roles share one client, because opening a client takes longer than a call and blocks the event loop.

    Args:
        session: creates the client.
        region: the region whose STS is used; empty for the region of environment or profile.
        connections: the maximum number of calls in flight.
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
        """Assume the role of the account for one hour.

        The keys of the result are those that botocore expects.
        """
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
    """Return the credentials of the account's role, fetched at first use; `clock` determines their expiry."""
    return AioDeferredRefreshableCredentials(
        refresh_using=partial(sts.assume, account), method="assume-role", time_fetcher=clock.now
    )


def _creator(session: AioSession, region: str) -> Any:
    """Return a function that opens a client.

    Its type is Any, because the stubs describe synchronous clients.
    """
    return partial(session.create_client, region_name=region or None)


class _TokenFile(FileWebIdentityTokenLoader):
    """Reads the token that the kubelet stores in a file, and replaces before it expires."""

    def __call__(self) -> str:
        return str(super().__call__()).strip()


def _with_container_token(environ: dict[str, str]) -> dict[str, str]:
    """Return the environment with the EKS pod identity token itself, instead of the path of its file."""
    path = environ.get(AioContainerProvider.ENV_VAR_AUTH_TOKEN_FILE)
    if path is None:
        return environ
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return environ  # botocore reports the error if no earlier source has credentials
    del environ[AioContainerProvider.ENV_VAR_AUTH_TOKEN_FILE]
    return environ | {AioContainerProvider.ENV_VAR_AUTH_TOKEN: token}
