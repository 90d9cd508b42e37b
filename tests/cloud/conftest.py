"""moto behind the proxy, and an environment without any other endpoint."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.aws import AwsProxy
from tests.support.moto_server import run_moto


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with run_moto() as url:
        yield url


@pytest.fixture
async def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsProxy]:
    async with AwsProxy(moto_url) as proxy:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield proxy
