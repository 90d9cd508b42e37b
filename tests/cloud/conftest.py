"""moto behind the proxy, and an environment without any other endpoint."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.aws import AwsProxy
from tests.support.moto_server import run_moto


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with run_moto() as url:
        yield url


@pytest.fixture(scope="session")
def ca_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one certificate: the tests use HTTP, and each client would read all of the system."""
    path = tmp_path_factory.mktemp("certificates") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture
def environment(ca_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Changes the environment, which has no profile, session or region of the user any more."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca_bundle))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
async def aws(moto_url: str, environment: pytest.MonkeyPatch) -> AsyncIterator[AwsProxy]:
    async with AwsProxy(moto_url) as proxy:
        for name, value in proxy.environment().items():
            environment.setenv(name, value)
        yield proxy
