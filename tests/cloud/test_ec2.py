"""The driver with moto: its requests, its actions, and the states that it shows."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from booking_operator.cloud.aws import ec2
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.records import Reading
from booking_operator.cloud.batching.token_bucket import published_limits
from booking_operator.cloud.driver import Action, Operation, Order, Record
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from tests.support.aws import AwsProxy
from tests.support.driver_calls import (
    CLOCK,
    ONE_ACCOUNT,
    SECONDS,
    WEB,
    observe,
    open_driver,
    open_drivers,
    outcomes,
    start,
    stop,
)
from tests.support.inventory import FakeListener
from tests.support.moto_server import REGION


async def test_instances_are_found_by_their_tag(aws: AwsProxy) -> None:
    web = await aws.create_instances("web", 2)
    await aws.create_instances("db", 1, state="running")
    await aws.create_instances(None, 1)
    async with open_driver(CLOCK) as driver:
        assert (await observe(driver)).ids(InstanceState.STOPPED) == tuple(web)
        assert len((await observe(driver, Group("ec2", "", REGION, "db"))).ids(InstanceState.RUNNING)) == 1


async def test_terminated_instances_do_not_count(aws: AwsProxy) -> None:
    kept, gone = await aws.create_instances("web", 2)
    await aws.moto.change("TerminateInstances", [gone])
    async with open_driver(CLOCK) as driver:
        assert [instance.id for instance in (await observe(driver)).instances] == [kept]


async def test_all_pages_are_read(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2, "PAGE", 1)  # MaxResults counts reservations in moto
    ids = sorted([id_ for _ in range(3) for id_ in await aws.create_instances("web", 2)])
    async with open_driver(CLOCK) as driver:
        assert (await observe(driver)).ids(InstanceState.STOPPED) == tuple(ids)
    assert len(aws.calls_of("DescribeInstances")) == 3


async def test_describe_requests_large_pages_of_tagged_instances(aws: AwsProxy) -> None:
    async with open_driver(CLOCK) as driver:
        await observe(driver)
    (call,) = aws.calls_of("DescribeInstances")
    assert call.region == REGION
    assert call.params["MaxResults"] == "1000"
    assert call.params["Filter.1.Name"] == "tag-key"
    assert call.params["Filter.1.Value.1"] == "resource-booking-application"
    states = {value for name, value in call.params.items() if name.startswith("Filter.2.Value.")}
    assert states == {"pending", "running", "stopping", "stopped"}
    assert "booking-operator" in call.headers["User-Agent"]


async def test_start_and_stop_reach_the_instances(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        assert await start(driver, ids) == dict.fromkeys(ids, InstanceState.PENDING)
        assert set((await aws.moto.states()).values()) == {"running"}
        assert await stop(driver, ids) == dict.fromkeys(ids, InstanceState.STOPPING)
        assert set((await aws.moto.states()).values()) == {"stopped"}
    assert [call.action for call in aws.calls] == ["StartInstances", "StopInstances"]
    assert aws.calls[0].instance_ids == tuple(ids)


async def test_an_accepted_start_shows_until_describe_has_caught_up(aws: AwsProxy) -> None:
    aws.stale_seconds = aws.transition_seconds = 3600
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        await start(driver, ids[:1])
        last = driver.inventory.observation(WEB)
        assert last is not None
        assert (last.ids(InstanceState.PENDING), last.ids(InstanceState.STOPPED)) == ((ids[0],), (ids[1],))
        assert (await observe(driver)).ids(InstanceState.PENDING) == (ids[0],)
        aws.stale_seconds = 0
        assert (await observe(driver)).ids(InstanceState.PENDING) == (ids[0],)
        aws.transition_seconds = 0
        assert (await observe(driver)).ids(InstanceState.RUNNING) == (ids[0],)


async def test_tracked_groups_are_notified_of_a_change_by_others(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    changed: asyncio.Queue[Group] = asyncio.Queue()
    async with open_driver(CLOCK) as driver, asyncio.timeout(SECONDS):
        driver.inventory.set_listener(FakeListener(lambda: [WEB], changed.put_nowait))
        assert await changed.get() == WEB
        await aws.moto.change("StartInstances", ids)
        await observe(driver)
        assert await changed.get() == WEB
    assert {call.region for call in aws.calls} == {REGION}


async def test_instances_hibernate_if_they_can_and_stop_otherwise(aws: AwsProxy) -> None:
    plain = await aws.create_instances("web", 1, state="running")
    able = await aws.create_instances("web", 1, state="running", hibernate=True)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        assert await stop(driver, plain + able, hibernate=True) == dict.fromkeys(
            plain + able, InstanceState.STOPPING
        )
    hibernated = {call.instance_ids: call.params["Hibernate"] for call in aws.calls_of("StopInstances")}
    assert hibernated == {tuple(plain): "false", tuple(able): "true"}


async def test_hibernation_that_ec2_refuses_becomes_a_plain_stop(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1, state="running", hibernate=True)
    message = (
        f"The instance can't be hibernated because it was not configured at launch for hibernation: {ids[0]}"
    )
    aws.fail("StopInstances", code="UnsupportedHibernationConfiguration", message=message)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        assert await stop(driver, ids, hibernate=True) == {ids[0]: InstanceState.STOPPING}
    assert [call.params["Hibernate"] for call in aws.calls_of("StopInstances")] == ["true", "false"]


def test_an_instance_with_an_instance_store_root_device_is_never_stopped() -> None:
    tags = [{"Key": "resource-booking-application", "Value": "web"}]
    rows = [
        {"InstanceId": device, "State": {"Name": "running"}, "Tags": tags, "RootDeviceType": device}
        for device in ("ebs", "instance-store")
    ]
    page: Any = {"Reservations": [{"Instances": rows}]}
    obstacles = {
        record.instance.id: record.instance.blocked_reason for record in ec2._records(page, Reading())
    }
    assert obstacles["ebs"] == ""
    assert obstacles["instance-store"] == "cannot be stopped: its root device is an instance store"


@pytest.mark.parametrize(
    ("state", "code", "message", "why"),
    [
        (
            "stopped",
            "Server.InsufficientInstanceCapacity",
            "Server.InsufficientInstanceCapacity: Insufficient capacity",
            "Server.InsufficientInstanceCapacity: Insufficient capacity",
        ),
        (
            "stopped",
            "Client.VolumeLimitExceeded",
            "Too many volumes",
            "Client.VolumeLimitExceeded: Too many volumes",
        ),
        (
            "stopped",
            "Client.UserInitiatedShutdown",
            "Client.UserInitiatedShutdown: User initiated shutdown",
            "",
        ),
        ("stopped", "Client.InstanceInitiatedShutdown", "It was shut down from within", ""),
        ("stopped", "Server.SpotInstanceShutdown", "There is no Spot capacity", ""),
        ("stopped", "", "", ""),
        ("pending", "Client.InternalError", "Client error on launch", ""),
    ],
)
def test_a_failed_start_is_distinguished_from_a_stop(state: str, code: str, message: str, why: str) -> None:
    row = {
        "InstanceId": "i-1",
        "State": {"Name": state},
        "StateReason": {"Code": code, "Message": message},
        "Tags": [{"Key": "resource-booking-application", "Value": "web"}],
    }
    page: Any = {"Reservations": [{"Instances": [row]}]}
    assert [record.failure_reason for record in ec2._records(page, Reading())] == [why]


async def test_type_and_zone_are_read_with_the_view(aws: AwsProxy) -> None:
    await aws.create_instances("web", 1, instance_type="t3.micro", zone=f"{REGION}b")
    async with open_driver(CLOCK) as driver:
        (instance,) = (await observe(driver)).instances
        assert driver.inventory.pool(WEB.scope, instance.id) == f"t3.micro in {REGION}b"


async def test_a_replica_without_the_lease_observes_but_changes_nothing(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 2)
    live = [True]
    async with open_drivers(CLOCK, live=lambda: live[0]) as drivers:
        driver = drivers["ec2"]
        live[0] = False
        assert (await observe(driver)).ids(InstanceState.STOPPED) == tuple(ids)
        failed = asyncio.Event()
        order = Order.of(WEB, ids, CLOCK.now(), on_pending_error=failed.set)
        driver.batcher.start(order)
        async with asyncio.timeout(SECONDS):
            await failed.wait()
        assert aws.calls_of("StartInstances") == []
        live[0] = True
        assert await outcomes(order) == dict.fromkeys(ids, InstanceState.PENDING)
    assert len(aws.calls_of("StartInstances")) == 1


def found(*rows: dict[str, Any]) -> list[Record]:
    """The records of running instances of the group `web`, each with further tags and fields."""
    instances = []
    for number, row in enumerate(rows):
        tags = {"resource-booking-application": "web", **row.pop("tags", {})}
        shown = [{"Key": key, "Value": value} for key, value in tags.items()]
        instances.append({"InstanceId": f"i-{number}", "State": {"Name": "running"}, "Tags": shown, **row})
    page: Any = {"Reservations": [{"Instances": instances}]}
    return list(ec2._records(page, Reading()))


@pytest.mark.parametrize(
    ("tag", "owner"),
    [
        ("aws:autoscaling:groupName", "the Auto Scaling group one"),
        ("aws:ec2spot:fleet-request-id", "the Spot Fleet one"),
        ("aws:elasticmapreduce:job-flow-id", "the EMR cluster one"),
    ],
)
def test_an_instance_that_another_service_manages_is_never_started_or_stopped(tag: str, owner: str) -> None:
    (record,) = found({"tags": {tag: "one"}})
    assert record.instance.blocked_reason == (
        f"belongs to {owner}, which would replace it when it stops; give it the tag "
        "resource-booking-ignore=true, or remove its tag resource-booking-application"
    )


@pytest.mark.parametrize(
    ("value", "true"),
    [
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("true ", True),
        ("false", False),
        ("1", False),
        ("", False),
    ],
)
def test_the_values_of_tags_that_count_as_true(value: str, true: bool) -> None:
    managed, ignored, both = found(
        {"tags": {"resource-booking-managed": value}},
        {"tags": {"resource-booking-ignore": value}},
        {"tags": {"resource-booking-ignore": value, "resource-booking-managed": "true"}},
    )
    assert (managed.managed, managed.left_out) == (true, False)
    assert (ignored.managed, ignored.left_out) == (False, true)
    assert (both.managed, both.left_out) == (not true, true)
    assert ignored.instance.blocked_reason == ("has the tag resource-booking-ignore=true" if true else "")


def test_the_launch_is_when_the_root_volume_was_attached() -> None:
    launched = datetime(2026, 1, 1, 9, tzinfo=UTC)
    root = {"DeviceName": "/dev/xvda", "Ebs": {"AttachTime": launched}}
    data = {"DeviceName": "/dev/sdf", "Ebs": {"AttachTime": launched + timedelta(hours=1)}}
    with_root, without = found(
        {"RootDeviceName": "/dev/xvda", "BlockDeviceMappings": [data, root], "LaunchTime": "ignored"},
        {"RootDeviceName": "/dev/xvda", "BlockDeviceMappings": [data]},
    )
    assert (with_root.instance.launched_at, without.instance.launched_at) == (launched, None)


async def test_status_checks_are_read_by_id(aws: AwsProxy) -> None:
    aws.transitions.check_seconds = 3600
    old = await aws.create_instances("web", 2, state="running")
    new, bad = await aws.create_instances("web", 2)
    aws.transitions.impaired = {bad}
    async with AwsClients(CLOCK, ONE_ACCOUNT) as clients:
        api = ec2.Ec2Api(clients, DescribeLimiter(published_limits, CLOCK))
        await api.perform(WEB.scope, Operation(Action.START), [new, bad])
        found = await api.check(WEB.scope, [*old, new, bad])
        assert await api.check(WEB.scope, []) == {}
    both = "its system status check is initializing and its instance status check is initializing"
    assert found == {
        **dict.fromkeys(old, ""),
        new: f"is not ready: {both}",
        bad: "is not ready: its instance status check is impaired",
    }
    assert len(aws.calls_of("DescribeInstanceStatus")) == 1


async def test_an_instance_that_has_vanished_does_not_hide_the_checks_of_others(aws: AwsProxy) -> None:
    (id_,) = await aws.create_instances("web", 1, state="running")
    gone = "i-0123456789abcdef0"
    async with AwsClients(CLOCK, ONE_ACCOUNT) as clients:
        api = ec2.Ec2Api(clients, DescribeLimiter(published_limits, CLOCK))
        assert await api.check(WEB.scope, [gone, id_]) == {id_: ""}
        assert await api.check(WEB.scope, [gone]) == {}


async def test_an_instance_that_does_not_run_has_no_status_checks(aws: AwsProxy) -> None:
    (id_,) = await aws.create_instances("web", 1)
    async with AwsClients(CLOCK, ONE_ACCOUNT) as clients:
        api = ec2.Ec2Api(clients, DescribeLimiter(published_limits, CLOCK))
        assert await api.check(WEB.scope, [id_]) == {id_: "has no status checks yet"}
