"""Control of the proxy over HTTP, as in a benchmark."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.aws import AwsProxy
from tests.support.aws_process import Control
from tests.support.moto_server import Moto


class Steered:
    """A proxy, and a client of its control routes."""

    def __init__(self, aws: AwsProxy, http: aiohttp.ClientSession) -> None:
        self.client = Moto(aws.url, http)
        self._url = aws.url
        self._http = http

    async def calls(self, since: int = 0) -> list[dict[str, Any]]:
        async with self._http.get(f"{self._url}/-/calls?since={since}") as reply:
            found: list[dict[str, Any]] = await reply.json()
        return found

    async def do(self, name: str, **arguments: Any) -> Any:
        async with self._http.post(f"{self._url}/-/{name}", json=arguments) as reply:
            return await reply.json() if reply.status == 200 else await reply.text()


@pytest.fixture
async def steered(moto_url: str) -> AsyncIterator[Steered]:
    aws = AwsProxy(moto_url)
    Control(aws)
    async with aws, aiohttp.ClientSession() as http:
        yield Steered(aws, http)


async def test_operations_and_recorded_calls(steered: Steered) -> None:
    await steered.do("set", cached=True, transition_seconds=3600)
    ids = await steered.do("create_instances", tag="web", n=2)
    await steered.do("fail", action="StartInstances")
    with pytest.raises(AssertionError, match="RequestLimitExceeded"):
        await steered.client.change("StartInstances", ids)
    await steered.client.change("StartInstances", ids)
    assert await steered.do("states") == dict.fromkeys(ids, "running")
    (refused, taken) = await steered.calls()
    assert (refused["status"], taken["status"]) == (503, 200)
    assert taken["instance_ids"] == ids
    assert await steered.calls(since=1) == [taken]


async def test_many_groups_from_one_launch(steered: Steered) -> None:
    groups = await steered.do("create_groups", tags=["web", "db"], n=2, region="us-east-1")
    assert [len(ids) for ids in groups.values()] == [2, 2]
    filters = {"Filter__1__Name": "tag:resource-booking-application", "Filter__1__Value__1": "db"}
    reply = await steered.client.call("DescribeInstances", "us-east-1", **filters)
    assert sorted(id_.text or "" for id_ in reply.iterfind(".//instanceId")) == groups["db"]
    assert len(await steered.calls()) == 1


async def test_drain_over_http(steered: Steered) -> None:
    ids = await steered.do("create_instances", tag="web")
    await steered.do("enforce_limits")
    await steered.do("drain", action="StartInstances")
    with pytest.raises(AssertionError, match="RequestLimitExceeded"):
        await steered.client.change("StartInstances", ids)


async def test_invalid_operations_are_reported(steered: Steered) -> None:
    assert "there is no 'rain'; there are calm," in await steered.do("rain")
    assert "there is no setting 'colour'; there are cached," in await steered.do("set", colour="red")
    assert "storm: " in await steered.do("storm", wind=9)
    assert "protect: code is 'x'" in await steered.do("protect", ids=[], code="x")
