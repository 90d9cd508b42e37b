"""Credentials in a cluster: token files of the kubelet, STS, and the agent of EKS Pod Identity."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from botocore.exceptions import ClientError, EndpointConnectionError

from booking_operator.cloud.aws.accounts import Account, Accounts
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.credential_renewal import MIN_RENEWAL_INTERVAL
from booking_operator.cloud.driver import CloudError
from booking_operator.domain.group import Scope
from tests.support.aws import AwsProxy, Call
from tests.support.driver_calls import CLOCK, SECONDS, SkewedClock
from tests.support.moto_server import REGION

HERE = Scope("", REGION)
ROLE = "arn:aws:iam::111122223333:role/operator"
KEYS = "[default]\naws_access_key_id = {}\naws_secret_access_key = s\n"
WEB_IDENTITY = "AssumeRoleWithWebIdentity"


def key(call: Call) -> str:
    """The id of the access key that signed the call."""
    match = re.search("Credential=([^/]+)/", call.headers.get("Authorization", ""))
    return match[1] if match else ""


def granted(action: str, access_key: str, expires_at: datetime) -> str:
    """A response of STS with the given credentials."""
    return (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
        f"<AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        f"<SessionToken>t</SessionToken><Expiration>{expires_at.isoformat()}</Expiration></Credentials>"
        f"</{action}Result></{action}Response>"
    )


def write(file: Path, text: str) -> None:
    file.write_text(text)


async def describe(sessions: AwsClients, scope: Scope = HERE) -> None:
    async with asyncio.timeout(SECONDS):
        await (await sessions.ec2(scope)).describe_instances()


async def renewed(sessions: AwsClients) -> None:
    """Wait for the end of the current renewal. Calls do not wait for it."""
    renewal = sessions._credentials[""]._renewal
    assert renewal is not None
    async with asyncio.timeout(SECONDS):
        await renewal


async def failure(sessions: AwsClients, scope: Scope = HERE) -> CloudError:
    with pytest.raises(CloudError) as caught:
        await describe(sessions, scope)
    return caught.value


@pytest.fixture
def _keyless(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in aws.environment():
        if "ACCESS_KEY" in name:
            monkeypatch.delenv(name)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A token file with a trailing newline, as most editors write it."""
    file = tmp_path / "token"
    file.write_text("the-first-token\n")
    return file


@pytest.fixture
def _service_account(_keyless: None, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a pod on EKS whose ServiceAccount has a role (IRSA)."""
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)


@pytest.mark.usefixtures("_service_account")
async def test_a_service_accounts_role_is_assumed_with_its_token(aws: AwsProxy) -> None:
    async with AwsClients(CLOCK, Accounts(REGION)) as sessions:
        await asyncio.gather(*(describe(sessions) for _ in range(3)))
    [assumed] = aws.calls_of(WEB_IDENTITY)
    assert assumed.params["RoleArn"] == ROLE
    assert assumed.params["WebIdentityToken"] == "the-first-token"
    assert {key(call).startswith("ASIA") for call in aws.calls_of("DescribeInstances")} == {True}


@pytest.mark.usefixtures("_service_account")
async def test_a_service_accounts_role_is_renewed_with_the_current_token(aws: AwsProxy, token: Path) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    aws.fail_raw(WEB_IDENTITY, status=200, body=granted(WEB_IDENTITY, "ASIAFIRST", soon))
    async with AwsClients(CLOCK, Accounts(REGION)) as sessions:
        await describe(sessions)
        write(token, "the-second-token\n")
        await describe(sessions)
    tokens = [call.params["WebIdentityToken"] for call in aws.calls_of(WEB_IDENTITY)]
    assert tokens == ["the-first-token", "the-second-token"]
    first, second = map(key, aws.calls_of("DescribeInstances"))
    assert first == "ASIAFIRST"
    assert second.startswith("ASIA")
    assert second != first


@pytest.mark.usefixtures("_service_account")
async def test_a_token_that_sts_refuses_is_reported(aws: AwsProxy) -> None:
    aws.fail(WEB_IDENTITY, code="InvalidIdentityToken", message="No OpenIDConnect provider found")
    async with AwsClients(CLOCK, Accounts(REGION)) as sessions:
        error = await failure(sessions)
    assert error.reason == "NoCredentials"
    assert "the cluster's OIDC provider in IAM. No OpenIDConnect provider found" in str(error)


@pytest.mark.usefixtures("_service_account")
async def test_a_missing_token_file_is_reported(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
    async with AwsClients(CLOCK, Accounts(REGION)) as sessions:
        error = await failure(sessions)
    assert "/nowhere/token" in str(error)
    assert aws.calls == []


class Agent:
    """The agent of EKS Pod Identity, which returns credentials for a token.

    Attributes:
        tokens: the tokens that it received.
        answers: its answers in order. The last one repeats.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tokens: list[str] = []
        self.answers: list[str] = []

    async def serve(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization", ""))
        text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(text=text)


@asynccontextmanager
async def run_agent() -> AsyncIterator[Agent]:
    agent, app = Agent(), web.Application()
    app.router.add_get("/v1/credentials", agent.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        agent.url = f"http://{host}:{port}/v1/credentials"
        yield agent
    finally:
        await runner.cleanup()


def identity(access_key: str, lives: timedelta = timedelta(hours=6)) -> str:
    expires_at = (datetime.now(UTC) + lives).strftime("%Y-%m-%dT%H:%M:%SZ")
    keys = {"AccessKeyId": access_key, "SecretAccessKey": "s", "Token": "t"}
    return json.dumps(keys | {"AccountId": "111122223333", "Expiration": expires_at})


@pytest.fixture
async def agent(_keyless: None, token: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agent]:
    async with run_agent() as agent:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        yield agent


async def test_pod_identity_is_renewed_with_the_current_token(
    aws: AwsProxy, agent: Agent, token: Path
) -> None:
    # botocore requests credentials a second time if the first ones expire soon.
    agent.answers = [identity("ASIAFIRST", timedelta(seconds=30))] * 2 + [identity("ASIASECOND")]
    async with AwsClients(CLOCK, Accounts(REGION)) as sessions:
        await describe(sessions)
        write(token, "the-second-token\n")
        await describe(sessions)
    assert [key(call) for call in aws.calls] == ["ASIAFIRST", "ASIASECOND"]
    assert (agent.tokens[0], agent.tokens[-1]) == ("the-first-token", "the-second-token")


async def test_an_invalid_answer_of_the_agent_is_reported(aws: AwsProxy, agent: Agent) -> None:
    agent.answers = ["{}"]
    async with AwsClients(CLOCK, Accounts(REGION)) as sessions:
        error = await failure(sessions)
    assert error.reason == "NoCredentials"
    assert "KeyError: 'AccessKeyId'" in str(error)
    assert aws.calls == []


async def test_a_missing_token_file_of_the_agent_is_reported(
    aws: AwsProxy, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nowhere/token")
    async with AwsClients(CLOCK, Accounts(REGION)) as sessions:
        assert "/nowhere/token" in str(await failure(sessions))
    assert (aws.calls, agent.tokens) == ([], [])


async def test_a_token_in_the_environment_is_sent(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "bare")
    agent.answers = [identity("ASIAFIRST")]
    async with AwsClients(CLOCK, Accounts(REGION)) as sessions:
        await describe(sessions)
    assert agent.tokens == ["bare"]


@pytest.mark.usefixtures("_keyless")
async def test_rotated_keys_in_a_file_are_read_again(
    aws: AwsProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, clock = tmp_path / "credentials", SkewedClock()
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write(file, KEYS.format("AKIAFIRST"))
    async with AwsClients(clock, Accounts(REGION)) as sessions:
        await describe(sessions)
        write(file, KEYS.format("AKIASECOND"))
        clock.skew = MIN_RENEWAL_INTERVAL
        aws.fail("DescribeInstances", code="AuthFailure", status=401)
        with pytest.raises(ClientError):
            await describe(sessions)
        await renewed(sessions)
        await describe(sessions)
    assert [key(call) for call in aws.calls] == ["AKIAFIRST", "AKIAFIRST", "AKIASECOND"]


@pytest.mark.usefixtures("_keyless")
async def test_keys_that_sts_refuses_are_read_again(
    aws: AwsProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, clock = tmp_path / "credentials", SkewedClock()
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    accounts = Accounts(REGION, named={"acme": Account(role_arn=ROLE)})
    write(file, KEYS.format("AKIAFIRST"))
    async with AwsClients(clock, accounts) as sessions:
        await describe(sessions)
        write(file, KEYS.format("AKIASECOND"))
        clock.skew = MIN_RENEWAL_INTERVAL
        aws.fail("AssumeRole", code="InvalidClientTokenId", status=403)
        assert (await failure(sessions, Scope("acme", REGION))).reason == "InvalidClientTokenId"
        await renewed(sessions)
        clock.skew += timedelta(seconds=2)
        await describe(sessions, Scope("acme", REGION))
    assert [key(call) for call in aws.calls_of("AssumeRole")] == ["AKIAFIRST", "AKIASECOND"]


async def test_sts_has_an_endpoint_of_its_own(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", aws.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with AwsClients(CLOCK, Accounts(REGION, own_role=ROLE)) as sessions:
        with pytest.raises(EndpointConnectionError):
            await describe(sessions)
    assert [call.action for call in aws.calls] == ["AssumeRole"]
