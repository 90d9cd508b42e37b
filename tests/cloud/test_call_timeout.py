"""The timeout of a call begins when the call can be sent, not while it waits. On virtual time."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from aiobotocore.httpsession import AIOHTTPSession

from booking_operator.cloud.aws.accounts import Account, Accounts
from booking_operator.cloud.aws.clients import CALL_TIMEOUT_SECONDS, CONFIG, AwsClients
from booking_operator.cloud.aws.credential_renewal import (
    RENEWAL_TIMEOUT,
    RenewedCredentials,
    open_credentials,
)
from booking_operator.cloud.aws.credentials import Source
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.aws.rds import RdsApi
from booking_operator.cloud.batching.token_bucket import published_limits
from booking_operator.cloud.driver import CloudError
from booking_operator.domain.group import Scope
from tests.support.virtual import EPOCH, VirtualClock, play, run

HERE = Scope("acme", "eu-west-1")


class SlowSessions(AwsClients):
    """Sessions whose credentials take most of the timeout of a call. Together with a call they exceed it."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock, Accounts(HERE.region))
        self.signed = asyncio.Event()

    async def credentials(self, _: str) -> None:
        if not self.signed.is_set():
            await asyncio.sleep(CALL_TIMEOUT_SECONDS - 10)
            self.signed.set()

    async def _answer(self, **_: Any) -> Any:
        await self.credentials("")  # botocore does this while it signs
        await asyncio.sleep(20)
        return {"Reservations": [], "DBClusters": [], "DBInstances": []}

    async def ec2(self, _: Scope) -> Any:
        return SimpleNamespace(describe_instances=self._answer)

    async def rds(self, _: Scope) -> Any:
        return SimpleNamespace(describe_db_clusters=self._answer, describe_db_instances=self._answer)


@pytest.mark.parametrize("make", [Ec2Api, RdsApi])
def test_the_timeout_of_a_describe_begins_after_the_wait_for_credentials(
    make: type[Ec2Api | RdsApi],
) -> None:
    async def main() -> None:
        clock = VirtualClock()
        sessions, limiter = SlowSessions(clock), DescribeLimiter(published_limits, clock)
        api = Ec2Api(sessions, limiter) if make is Ec2Api else RdsApi(sessions, limiter, clock)
        assert await api.describe(HERE) == []

    run(main())


def test_the_timeout_of_a_role_begins_after_the_wait_for_the_own_credentials() -> None:
    order: list[tuple[str, float]] = []

    def loads(name: str, seconds: float) -> Callable[[], Any]:
        async def load() -> Source:
            await asyncio.sleep(seconds)
            order.append((name, asyncio.get_running_loop().time()))
            return AioCredentials(name, "secret")

        return load

    def make(tasks: TaskGroup) -> RenewedCredentials:
        clock, longest = VirtualClock(), RENEWAL_TIMEOUT.total_seconds()
        own = RenewedCredentials("Own", "GetCredentials", loads("own", longest - 5), clock, tasks)
        role = loads("role", 10)

        async def load() -> Source:
            await own.get_frozen_credentials()  # botocore does this while it signs
            return cast("Source", await role())

        return RenewedCredentials("Account 'acme'", "sts:AssumeRole", load, clock, tasks, by=own)

    async def scenario(credentials: RenewedCredentials) -> None:
        assert (await credentials.get_frozen_credentials()).access_key == "role"
        assert order == [("own", 25), ("role", 35)]

    play(make, scenario)


def test_a_role_fails_with_the_error_of_the_own_credentials() -> None:
    def make(tasks: TaskGroup) -> RenewedCredentials:
        async def fail() -> Source:
            raise CloudError("NoCredentials", "there are none")

        clock = VirtualClock()
        own = RenewedCredentials("Own", "GetCredentials", fail, clock, tasks)
        return RenewedCredentials("Account 'acme'", "sts:AssumeRole", fail, clock, tasks, by=own)

    async def scenario(credentials: RenewedCredentials) -> None:
        with pytest.raises(CloudError) as caught:
            await credentials.get_frozen_credentials()
        assert str(caught.value) == "Account 'acme': Own: there are none"

    play(make, scenario)


class StsSession:
    """A session whose STS client makes one slow call at a time on each of its connections."""

    def register_component(self, *_: Any) -> None:
        """Do nothing."""

    def register(self, *_: Any) -> None:
        """Do nothing."""

    @asynccontextmanager
    async def create_client(self, _: str, config: AioConfig, **__: Any) -> Any:
        pool = asyncio.Semaphore(vars(config)["_user_provided_options"]["max_pool_connections"])

        async def assume_role(**_: Any) -> Any:
            async with pool:
                await asyncio.sleep(RENEWAL_TIMEOUT.total_seconds() - 5)
            keys = {"AccessKeyId": "key", "SecretAccessKey": "secret", "SessionToken": "token"}
            return {"Credentials": {**keys, "Expiration": EPOCH + timedelta(hours=1)}}

        yield SimpleNamespace(assume_role=assume_role)


def test_no_account_waits_for_the_connection_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, value)
    role = Account(role_arn="arn:aws:iam::210987654321:role/booking-operator")
    accounts = Accounts(HERE.region, named={f"a{number}": role for number in range(300)})

    async def main() -> None:
        session = StsSession()
        opened = open_credentials(accounts, lambda: cast("Any", session), VirtualClock())
        async with opened as credentials:
            own = credentials[""]
            own._load = loaded
            keys = await asyncio.gather(
                *(item.get_frozen_credentials() for name, item in credentials.items() if name)
            )
        assert {key.access_key for key in keys} == {"key"}
        assert asyncio.get_running_loop().time() < RENEWAL_TIMEOUT.total_seconds()

    async def loaded() -> Source:
        return AioCredentials("own", "secret")

    run(main())


def test_client_timeouts_do_not_include_the_wait_for_a_connection() -> None:
    """In aiohttp, `connect` and `total` include it. aiobotocore sets `sock_connect` and `sock_read`."""
    options = vars(CONFIG)["_user_provided_options"]
    make: Any = AIOHTTPSession
    timeout = make(timeout=(options["connect_timeout"], options["read_timeout"]))._timeout
    assert (timeout.total, timeout.connect) == (None, None)
    assert (timeout.sock_connect, timeout.sock_read) == (5, 20)
