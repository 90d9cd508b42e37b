"""How clients are opened and shared. Nothing is sent here."""

import asyncio

import pytest
from aiobotocore.session import AioSession
from botocore.loaders import JSONFileLoader

from booking_operator.cloud.driver import CloudError, Scope
from booking_operator.cloud.session import Sessions
from tests.support.driving import CLOCK

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


async def test_all_who_ask_at_once_get_the_same_client(monkeypatch: pytest.MonkeyPatch) -> None:
    get_credentials = AioSession.get_credentials

    async def slow(self: AioSession) -> object:
        await asyncio.sleep(0)
        return await get_credentials(self)

    monkeypatch.setattr(AioSession, "get_credentials", slow)
    async with Sessions(CLOCK) as sessions:
        clients = await asyncio.gather(*(sessions.ec2(HERE) for _ in range(3)))
        assert len(set(map(id, clients))) == 1
        assert await sessions.ec2(HERE) is clients[0]


async def test_regions_have_clients_of_their_own_and_share_the_description(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []
    load_file = JSONFileLoader.load_file

    def counted(self: JSONFileLoader, path: str) -> object:
        loaded.append(path)
        return load_file(self, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    async with Sessions(CLOCK) as sessions:
        here, there = await sessions.ec2(HERE), await sessions.ec2(THERE)
        assert (here.meta.region_name, there.meta.region_name) == (HERE.region, THERE.region)
    assert sum(path.endswith("/service-2") for path in loaded) == 1


async def test_one_attempt_is_made_and_no_more() -> None:
    async with Sessions(CLOCK) as sessions:
        client = await sessions.ec2(HERE)
        assert vars(client.meta.config)["_user_provided_options"]["retries"]["total_max_attempts"] == 1


async def test_a_client_opened_in_vain_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with Sessions(CLOCK) as sessions:
        with pytest.raises(CloudError, match="AWS_ACCESS_KEY_ID"):
            await sessions.ec2(HERE)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        await sessions.ec2(HERE)
