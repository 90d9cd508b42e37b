"""Parses the pages of DescribeInstances in slices, and reads only the necessary fields.

A page of 1,000 instances has at least 3 MB of XML. botocore parses it in one step, which blocks the event
loop for half a second and delays starts. In slices, the loop is blocked for at most a millisecond. The whole
takes a sixth of the time, because no full element tree is built.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

SLICE = 16 * 1024
"""Bytes of XML between two yields to the event loop; about half a millisecond."""

_OK = 200
_EMPTY_RESPONSE = b"<DescribeInstancesResponse/>"


async def parse_page(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Parse a page in place of botocore; a handler of its event `before-parse.ec2.DescribeInstances`.

    The result has the shape of botocore's result, with fewer fields. Invalid XML is left to botocore, which
    raises a suitable error.
    """
    if response_dict["status_code"] != _OK:
        return
    try:
        page = await _parse(response_dict["body"])
    except ParseError:
        return
    customized_response_dict.update(page)
    response_dict["body"] = _EMPTY_RESPONSE


async def _parse(body: bytes) -> dict[str, Any]:
    instances: list[dict[str, Any]] = []
    page: dict[str, Any] = {"Reservations": [{"Instances": instances}]}
    parser: XMLPullParser[Any] = XMLPullParser(events=("end",))
    for start in range(0, len(body), SLICE):
        parser.feed(body[start : start + SLICE])
        for _, element in cast("Iterator[tuple[str, Element]]", parser.read_events()):
            if element.tag.endswith("nextToken") and element.text:
                page["NextToken"] = element.text
            elif element.tag.endswith("item") and element.find("{*}instanceState") is not None:
                instances.append(_instance(element))
                element.clear()
        await asyncio.sleep(0)
    parser.close()
    return page


def _instance(item: Element) -> dict[str, Any]:
    """Parse one instance, in the shape of botocore's result.

    See https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html.
    """
    state = item.findtext("{*}instanceState/{*}name")
    hibernates = item.findtext("{*}hibernationOptions/{*}configured") == "true"
    return {
        "InstanceId": item.findtext("{*}instanceId"),
        "State": {"Name": state},
        "StateReason": _reason(item) if state == "stopped" else {},
        "HibernationOptions": {"Configured": hibernates},
        "InstanceType": item.findtext("{*}instanceType", ""),
        "Placement": {"AvailabilityZone": item.findtext("{*}placement/{*}availabilityZone", "")},
        "RootDeviceType": item.findtext("{*}rootDeviceType", ""),
        "RootDeviceName": item.findtext("{*}rootDeviceName", ""),
        "BlockDeviceMappings": [_device(device) for device in item.iterfind("{*}blockDeviceMapping/{*}item")],
        "Tags": [
            {"Key": tag.findtext("{*}key", ""), "Value": tag.findtext("{*}value", "")}
            for tag in item.iterfind("{*}tagSet/{*}item")
        ],
    }


def _device(item: Element) -> dict[str, Any]:
    attached = item.findtext("{*}ebs/{*}attachTime")
    ebs = {"AttachTime": _instant(attached)} if attached else {}
    return {"DeviceName": item.findtext("{*}deviceName", ""), "Ebs": ebs}


def _instant(text: str) -> datetime | None:
    """Parse a time of AWS; None if it is not readable, because one instance must not fail the page."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def _reason(item: Element) -> dict[str, str]:
    """Return the state reason."""
    return {
        "Code": item.findtext("{*}stateReason/{*}code", ""),
        "Message": item.findtext("{*}stateReason/{*}message", ""),
    }
