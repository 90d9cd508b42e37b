"""docs/aws-calls.md names the calls that the operator makes while nothing changes."""

import asyncio
import re

import pytest

from booking_operator.domain.group import Group
from booking_operator.domain.services import SERVICES
from tests.support.aws import AwsProxy
from tests.support.code_blocks import ROOT
from tests.support.driver_calls import CLOCK, observe, open_driver
from tests.support.emulators import Emulator
from tests.support.moto_server import REGION

PAGE = (ROOT / "docs" / "aws-calls.md").read_text()


def documented() -> dict[str, set[str]]:
    section = PAGE.partition("## While nothing changes\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z0-9]+)` \| (.*) \|$", section, re.MULTILINE)
    return {service: set(re.findall(r"`((?:Describe|Get)\w+)`", calls)) for service, calls in rows}


def create(emulator: Emulator, service: str) -> None:
    match service:
        case "ec2":
            emulator.launch("front")
        case "rds":
            emulator.create_database("front", "front")
        case "asg":
            emulator.create_scaled_group("front", "front", "1/1/1")
        case _:
            emulator.create_service("front", "front", 1)


@pytest.mark.parametrize("service", SERVICES)
async def test_the_calls_of_one_minute(aws: AwsProxy, service: str) -> None:
    await asyncio.to_thread(create, Emulator("moto", aws.moto.url), service)
    async with open_driver(CLOCK, service) as driver:
        await observe(driver, Group(service, "", REGION, "front"))
        before = len(aws.calls)
        await observe(driver, Group(service, "", REGION, "front"))
    made = [call.action for call in aws.calls[before:]]
    assert sorted(made) == sorted(documented()[service])
