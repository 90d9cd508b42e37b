"""The proxy: its additions to moto behave as EC2 does."""

import asyncio
from collections.abc import AsyncIterator
from xml.etree import ElementTree as ET

import aiohttp
import pytest

from tests.support.aws import AwsProxy
from tests.support.moto_server import Moto

FILTERED = {"Filter__1__Name": "tag-key", "Filter__1__Value__1": "resource-booking-application"}


@pytest.fixture
async def client(aws: AwsProxy) -> AsyncIterator[Moto]:
    """Calls AWS through the proxy."""
    async with aiohttp.ClientSession() as http:
        yield Moto(aws.url, http)


def shown(reply: ET.Element) -> dict[str, str]:
    items = reply.iterfind("reservationSet/item/instancesSet/item")
    return {item.findtext("instanceId", ""): item.findtext("instanceState/name", "") for item in items}


async def refused(client: Moto, action: str, *ids: str) -> str:
    with pytest.raises(AssertionError) as caught:
        await client.change(action, ids)
    return str(caught.value)


async def test_limits_refuse_with_503_once_they_are_enforced(aws: AwsProxy, client: Moto) -> None:
    (id_,) = await aws.create_instances("web")
    for _ in range(6):
        await client.change("StartInstances", [id_])
    aws.enforce_limits()
    for _ in range(5):
        await client.change("StartInstances", [id_])
    assert "<Code>RequestLimitExceeded</Code>" in await refused(client, "StartInstances", id_)
    assert [call.status for call in aws.calls_of("StartInstances")] == [200] * 11 + [503]


async def test_a_zone_without_capacity_refuses_the_whole_start(aws: AwsProxy, client: Moto) -> None:
    (here,) = await aws.create_instances("web", instance_type="m5.large", zone="eu-west-1a")
    (other,) = await aws.create_instances("web", instance_type="c5.large", zone="eu-west-1a")
    (there,) = await aws.create_instances("web", instance_type="m5.large", zone="eu-west-1b")
    aws.exhaust("m5.large", "eu-west-1a")
    text = await refused(client, "StartInstances", other, here, there)
    assert "<Code>InsufficientInstanceCapacity</Code>" in text
    assert "sufficient m5.large capacity in the Availability Zone you requested (eu-west-1a)" in text
    assert "or choosing eu-west-1b, eu-west-1c." in text
    assert set((await aws.states()).values()) == {"stopped"}
    await client.change("StartInstances", [other, there])
    aws.replenish("m5.large", "eu-west-1a")
    await client.change("StartInstances", [here])
    assert set((await aws.states()).values()) == {"running"}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("OperationNotPermitted", "may not be stopped. Modify its 'disableApiStop' instance attribute"),
        ("UnsupportedOperation", "associated with a one-time Spot Instance request"),
    ],
)
async def test_an_instance_that_cannot_be_stopped_is_named(
    aws: AwsProxy, client: Moto, code: str, text: str
) -> None:
    good, bad = await aws.create_instances("web", 2, state="running")
    aws.protect([bad], code)
    said = await refused(client, "StopInstances", good, bad)
    assert f"<Code>{code}</Code>" in said
    assert bad in said
    assert text in said
    await client.change("StopInstances", [good])
    await client.change("StartInstances", [good, bad])
    aws.pardon([bad])
    await client.change("StopInstances", [bad])


async def test_protect_refuses_other_error_codes(aws: AwsProxy) -> None:
    with pytest.raises(ValueError, match="code is 'AuthFailure'"):
        aws.protect(["i-1"], "AuthFailure")


async def test_a_curse_names_no_instance(aws: AwsProxy, client: Moto) -> None:
    good, bad = await aws.create_instances("web", 2)
    aws.curse([bad], "StartInstances")
    said = await refused(client, "StartInstances", good, bad)
    assert "<Code>UnsupportedOperation</Code>" in said
    assert good not in said
    assert bad not in said
    await client.change("StopInstances", [bad])
    aws.pardon([bad])
    await client.change("StartInstances", [good, bad])


async def test_a_storm_is_reproducible_with_its_seed(aws: AwsProxy, client: Moto) -> None:
    async def outcomes(seed: int) -> list[str]:
        aws.storm(throttled=0.3, reset=0.2, seed=seed)
        seen = []
        for _ in range(40):
            try:
                await client.call("DescribeInstances")
                seen.append("good")
            except AssertionError:
                seen.append("throttled")
            except aiohttp.ClientError:
                seen.append("reset")
        return seen

    first = await outcomes(1)
    assert first == await outcomes(1) != await outcomes(2)
    assert set(first) == {"good", "throttled", "reset"}
    aws.calm()
    await client.call("DescribeInstances")


async def test_resets_of_a_storm_happen_before_and_after_the_action(aws: AwsProxy, client: Moto) -> None:
    aws.storm(reset=1.0, seed=3)
    states = set()
    for _ in range(12):
        (id_,) = await aws.create_instances("web")
        with pytest.raises(aiohttp.ClientError):
            await client.change("StartInstances", [id_])
        states.add((await aws.states())[id_])
    assert states == {"stopped", "running"}


async def test_calls_of_one_account_fail_while_it_is_down(aws: AwsProxy, client: Moto) -> None:
    role = {"RoleArn": "arn:aws:iam::210987654321:role/operator", "RoleSessionName": "test"}
    reply = await client.call("AssumeRole", **role)
    key = reply.findtext(".//AccessKeyId", "")
    await aws.create_instances("web", account="210987654321")
    assert len(shown(await client.call("DescribeInstances", key=key))) == 1
    assert aws.calls[-1].account == "210987654321"
    aws.down("210987654321")
    assert shown(await client.call("DescribeInstances")) == {}
    with pytest.raises(AssertionError, match="Unavailable"):
        await client.call("DescribeInstances", key=key)
    aws.down("210987654321", "reset")
    with pytest.raises(aiohttp.ClientError):
        await client.call("DescribeInstances", key=key)
    aws.down(key, "hang")
    aws.up("210987654321")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.call("DescribeInstances", key=key)
    aws.up(key)
    await client.call("DescribeInstances", key=key)


async def test_a_cached_describe_equals_that_of_moto(aws: AwsProxy, client: Moto) -> None:
    ids = await aws.create_instances("web", 3, note="a<b&c")
    await aws.create_instances(None, 1)
    plain = await client.call("DescribeInstances", **FILTERED, MaxResults="1000")
    aws.cached = True
    cached = await client.call("DescribeInstances", **FILTERED, MaxResults="1000")
    assert shown(cached) == shown(plain) == dict.fromkeys(ids, "stopped")
    assert described(cached) == described(plain)


def described(reply: ET.Element) -> dict[str, list[bytes]]:
    """All properties of each instance, sorted."""
    found = {}
    for item in reply.iterfind("reservationSet/item/instancesSet/item"):
        parts = [ET.tostring(ET.fromstring(ET.tostring(child).strip())) for child in item]  # noqa: S314
        found[item.findtext("instanceId", "")] = sorted(part for part in parts if b"tagSet" not in part)
        found[item.findtext("instanceId", "")] += sorted(map(ET.tostring, item.iterfind("tagSet/item")))
    return found


async def test_a_cached_describe_follows_actions(aws: AwsProxy, client: Moto) -> None:
    aws.cached = True
    first, second = ids = await aws.create_instances("web", 2)
    assert shown(await client.call("DescribeInstances")) == dict.fromkeys(ids, "stopped")
    aws.transition_seconds = 3600
    await client.change("StartInstances", [first])
    assert shown(await client.call("DescribeInstances")) == {first: "pending", second: "stopped"}
    aws.transition_seconds = 0
    assert shown(await client.call("DescribeInstances")) == {first: "running", second: "stopped"}
    await aws.moto.change("StartInstances", [second])
    assert shown(await client.call("DescribeInstances")) == dict.fromkeys(ids, "running")
    await client.change("TerminateInstances", [second])
    assert shown(await client.call("DescribeInstances")) == {first: "running", second: "terminated"}
    (third,) = await aws.create_instances("db", 1)
    assert third in shown(await client.call("DescribeInstances"))


async def test_a_cached_describe_filters_and_pages(aws: AwsProxy, client: Moto) -> None:
    aws.cached = True
    ids = await aws.create_instances("web", 7)
    await aws.create_instances("db", 1, state="running")
    web = {"Filter__1__Name": "tag:resource-booking-application", "Filter__1__Value__1": "web"}
    pages = [await client.call("DescribeInstances", MaxResults="5", **web)]
    token = pages[0].findtext("nextToken", "")
    pages.append(await client.call("DescribeInstances", MaxResults="5", NextToken=token, **web))
    assert [len(shown(page)) for page in pages] == [5, 2]
    assert {id_ for page in pages for id_ in shown(page)} == set(ids)
    assert pages[1].find("nextToken") is None
    running = {"Filter__1__Name": "instance-state-name", "Filter__1__Value__1": "running"}
    assert set(shown(await client.call("DescribeInstances", **running)).values()) == {"running"}
    assert set(shown(await client.call("DescribeInstances", InstanceId__1=ids[0]))) == {ids[0]}
    wild = {"Filter__1__Name": "tag-key", "Filter__1__Value__1": "resource-*"}
    assert len(shown(await client.call("DescribeInstances", **wild))) == 8


async def test_a_cached_describe_shows_tags(aws: AwsProxy, client: Moto) -> None:
    aws.cached = True
    (id_,) = await aws.create_instances("web")

    async def tags() -> dict[str, str]:
        found = (await client.call("DescribeInstances")).iterfind(".//tagSet/item")
        return {tag.findtext("key", ""): tag.findtext("value", "") for tag in found}

    before = await tags()
    await client.call("CreateTags", ResourceId__1=id_, Tag__1__Key="a", Tag__1__Value="1")
    assert await tags() == before | {"a": "1"}
    await client.call("DeleteTags", ResourceId__1=id_, Tag__1__Key="a", Tag__1__Value="2")
    assert await tags() == before | {"a": "1"}
    await client.call("DeleteTags", ResourceId__1=id_, Tag__1__Key="a")
    assert await tags() == before
