"""The sliced parser of DescribeInstances gives the same result as botocore, and yields to other tasks."""

import asyncio
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import EC2QueryParser

from booking_operator.cloud.aws.describe_parser import SLICE, parse_page

ITEM = """
<item>
  <instanceId>i-{n:017x}</instanceId>
  <instanceState><code>80</code><name>{state}</name></instanceState>
  <blockDeviceMapping><item><deviceName>/dev/sda1</deviceName></item></blockDeviceMapping>
  <stateReason><code>Client.InternalError</code><message>Client error &amp; on launch</message></stateReason>
  <hibernationOptions><configured>{hibernates}</configured></hibernationOptions>
  <tagSet>
    <item><key>resource-booking-application</key><value>web &amp; "more" ü</value></item>
    <item><key>empty</key><value/></item>
  </tagSet>
</item>
"""


def page(*items: str, token: str = "") -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
  <reservationSet><item><reservationId>r-1</reservationId><instancesSet>{"".join(items)}</instancesSet></item>
  </reservationSet>
  {f"<nextToken>{token}</nextToken>" if token else ""}
</DescribeInstancesResponse>""".encode()


def items(n: int) -> list[str]:
    states = ("pending", "running", "stopping", "stopped")
    return [ITEM.format(n=i, state=states[i % 4], hibernates=("false", "true")[i % 2]) for i in range(n)]


async def read(body: bytes, status: int = 200) -> tuple[dict[str, Any], bytes]:
    response: dict[str, Any] = {"status_code": status, "headers": {}, "body": body}
    result: dict[str, Any] = {}
    await parse_page(response_dict=response, customized_response_dict=result, operation_model=None)
    return result, response["body"]


def by_botocore(body: bytes) -> dict[str, Any]:
    model = ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")
    shape = model.operation_model("DescribeInstances").output_shape
    assert shape is not None
    parsed: dict[str, Any] = EC2QueryParser().parse({"status_code": 200, "headers": {}, "body": body}, shape)
    return parsed


async def test_the_result_equals_that_of_botocore() -> None:
    body = page(*items(9), token="next==")
    ours, theirs = (await read(body))[0], by_botocore(body)
    assert ours["NextToken"] == theirs["NextToken"] == "next=="
    for mine, full in zip(
        ours["Reservations"][0]["Instances"], theirs["Reservations"][0]["Instances"], strict=True
    ):
        assert mine["InstanceId"] == full["InstanceId"]
        assert mine["State"]["Name"] == full["State"]["Name"]
        assert mine["HibernationOptions"] == full["HibernationOptions"]
        assert mine["Tags"] == full["Tags"]
        stopped = mine["State"]["Name"] == "stopped"
        assert mine["StateReason"] == (full["StateReason"] if stopped else {})


async def test_botocore_parses_an_empty_body() -> None:
    _, rest = await read(page(*items(1)))
    assert by_botocore(rest).get("Reservations", []) == []


async def test_a_last_page_has_no_token() -> None:
    assert "NextToken" not in (await read(page()))[0]


async def test_botocore_parses_errors_and_garbage() -> None:
    for body, status in ((page(), 503), (b"<html>", 200), (b"", 200), (page()[:-9], 200)):
        assert await read(body, status) == ({}, body)


async def test_other_tasks_run_after_each_slice() -> None:
    body = page(*items(500))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await read(body)
    task.cancel()
    assert turns >= len(body) // SLICE
