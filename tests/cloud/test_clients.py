"""How clients are opened, shared and closed. These tests send no requests."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import UNSIGNED
from botocore.loaders import JSONFileLoader

from booking_operator.cloud.aws import clients as aws_clients
from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.aws.clients import CALL_TIMEOUT_SECONDS, CONFIG, AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.aws.rds import RdsApi
from booking_operator.cloud.batching.request_queue import MAX_CALLS_IN_FLIGHT
from booking_operator.cloud.batching.token_bucket import published_limits
from booking_operator.cloud.driver import Action, CloudError, api_action
from booking_operator.cloud.service import open_services
from booking_operator.domain.group import Scope
from booking_operator.domain.services import SERVICES
from booking_operator.engine.clock import SystemClock

HERE, THERE = Scope("", "eu-west-1"), Scope("", "us-east-1")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


async def test_concurrent_callers_get_the_same_client(monkeypatch: pytest.MonkeyPatch) -> None:
    get_credentials = AioSession.get_credentials

    async def slow(self: AioSession) -> object:
        await asyncio.sleep(0)
        return await get_credentials(self)

    monkeypatch.setattr(AioSession, "get_credentials", slow)
    async with AwsClients(SystemClock(), Accounts()) as sessions:
        clients = await asyncio.gather(*(sessions.ec2(HERE) for _ in range(3)))
        assert len(set(map(id, clients))) == 1
        assert await sessions.ec2(HERE) is clients[0]


async def test_regions_have_separate_clients_and_share_the_service_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []
    load_file = JSONFileLoader.load_file

    def counted(self: JSONFileLoader, path: str) -> object:
        loaded.append(path)
        return load_file(self, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    aws_clients._loader.cache_clear()
    async with AwsClients(SystemClock(), Accounts()) as sessions:
        here, there = await sessions.ec2(HERE), await sessions.ec2(THERE)
        assert (here.meta.region_name, there.meta.region_name) == (HERE.region, THERE.region)
    assert sum(path.endswith("/service-2") for path in loaded) == 1


class HeldClock(SystemClock):
    """A clock whose sleeps end when a test sets `over`."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.over.wait()


async def test_a_released_client_is_closed_later_and_a_new_one_is_opened() -> None:
    closed, clock = list[str](), HeldClock()
    async with AwsClients(clock, Accounts()) as sessions:
        first = when_closed(await sessions.ec2(HERE), lambda: closed.append("first"))
        when_closed(await sessions.ec2(THERE), lambda: closed.append("other"))
        releasing = asyncio.create_task(sessions.release("ec2", HERE))
        await asyncio.sleep(0)
        second = when_closed(await sessions.ec2(HERE), lambda: closed.append("second"))
        assert second is not first
        assert closed == []
        assert clock.slept[0] > CALL_TIMEOUT_SECONDS  # longer than a call that still uses the first client
        clock.over.set()
        await releasing
        assert closed == ["first"]
        assert not sessions._closing
        assert not sessions._opening
    assert sorted(closed) == ["first", "other", "second"]


async def test_a_client_whose_release_is_cancelled_is_closed_at_the_end() -> None:
    closed: list[str] = []
    async with AwsClients(SystemClock(), Accounts()) as sessions:
        when_closed(await sessions.rds(HERE), lambda: closed.append("it"))
        releasing = asyncio.create_task(sessions.release("rds", HERE))
        await asyncio.sleep(0)
        releasing.cancel()
        await asyncio.wait([releasing])
        assert closed == []
    assert closed == ["it"]


@pytest.mark.parametrize("make", [Ec2Api, RdsApi])
async def test_no_state_is_kept_for_a_released_scope(make: type[Ec2Api | RdsApi]) -> None:
    clock = HeldClock()
    clock.over.set()
    async with AwsClients(clock, Accounts()) as sessions:
        gate = DescribeLimiter(published_limits, clock)
        api = Ec2Api(sessions, gate) if make is Ec2Api else RdsApi(sessions, gate, clock)
        await (sessions.ec2(HERE) if make is Ec2Api else sessions.rds(HERE))
        actions = {name: set(service.describe_calls) for name, service in SERVICES.items()}
        for action in set().union(*actions.values()):
            async with gate.slot(HERE, action), gate.slot(THERE, action):
                pass
        if isinstance(api, RdsApi):
            api._arns[HERE] = {"db:orders": "arn"}
        await api.release(HERE)
        assert not sessions._clients
        left = {action for scope, action in gate._limiters if scope == HERE}
        assert left == set().union(*actions.values()) - set(make.facts.describe_calls)
        assert len(gate._limiters) - len(left) == sum(map(len, actions.values()))
        assert not (isinstance(api, RdsApi) and api._arns)


def when_closed(client: Any, call: Callable[[], None]) -> Any:
    client._endpoint.http_session._exit_stack.callback(call)
    return client


async def test_botocore_makes_one_attempt() -> None:
    async with AwsClients(SystemClock(), Accounts()) as sessions:
        client = await sessions.ec2(HERE)
        assert vars(client.meta.config)["_user_provided_options"]["retries"]["total_max_attempts"] == 1


def test_the_connection_pool_is_larger_than_all_calls_in_flight() -> None:
    connections = vars(CONFIG)["_user_provided_options"]["max_pool_connections"]
    for service in SERVICES.values():
        assert connections > len({api_action(service, action) for action in Action}) * MAX_CALLS_IN_FLIGHT


async def test_sts_clients_of_the_credential_chain_have_the_same_timeouts() -> None:
    sessions = AwsClients(SystemClock(), Accounts())
    unsigned = AioConfig(signature_version=UNSIGNED)  # botocore opens it like this for a web identity
    async with sessions._core().create_client("sts", HERE.region, config=unsigned) as client:
        config = client.meta.config
        assert (config.connect_timeout, config.read_timeout) == (5, 20)
        assert config.signature_version is UNSIGNED
        assert vars(config)["_user_provided_options"]["retries"]["total_max_attempts"] == 1


async def test_a_missing_region_and_an_unknown_account_are_reported_before_a_client_opens() -> None:
    async with AwsClients(SystemClock(), Accounts()) as sessions:
        for scope, reason in ((Scope("", ""), "NoRegion"), (Scope("acme", "eu-west-1"), "UnknownAccount")):
            with pytest.raises(CloudError) as caught:
                await sessions.rds(scope)
            assert caught.value.reason == reason


async def test_each_service_is_served() -> None:
    async with open_services(SystemClock(), Accounts(HERE.region)) as services:
        assert set(services) == set(SERVICES)
