"""ECS with moto behind the proxy: each class of failure, and calls that end in between."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from booking_operator.cloud.aws import ecs, scalable_targets
from booking_operator.cloud.aws.scalable_targets import ALL, SUSPENDED_TAG
from booking_operator.domain.capacity import CAPACITY_TAG
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from tests.support.aws import AwsProxy
from tests.support.driver_calls import CLOCK, failure_of, observe, open_driver, start, stop
from tests.support.emulators import Emulator
from tests.support.moto_server import REGION

FRONT = Group("ecs", "", REGION, "front")
TAGGED, DESCRIBE, RESIZE = "GetResources", "DescribeServices", "UpdateService"
REMEMBER, FORGET = "TagResource", "UntagResource"
TARGETS, SUSPEND = "DescribeScalableTargets", "RegisterScalableTarget"
RUNNING, STOPPING = InstanceState.RUNNING, InstanceState.STOPPING
SOME = frozenset({"DynamicScalingIn"})
"""What a user has suspended."""


class Services:
    """The ECS services in moto, past the proxy."""

    def __init__(self, aws: AwsProxy) -> None:
        self._emulator = Emulator("moto", aws.moto.url)

    async def create(
        self, name: str, desired: int = 2, *, scaled: bool = False, minimum: int = 1, **more: Any
    ) -> str:
        id_ = await asyncio.to_thread(self._emulator.create_service, name, "front", desired, **more)
        if scaled:
            add = self._emulator.add_scalable_target
            await asyncio.to_thread(add, id_, minimum, 4, DynamicScalingInSuspended=True)
        return id_

    async def size(self, id_: str) -> tuple[int, str]:
        """The number of tasks of a service, and the size in its tag."""
        return await asyncio.to_thread(self._emulator.service_size, id_)

    async def resize(self, id_: str, desired: int) -> None:
        cluster, name = id_.split("/")
        update = self._emulator.client("ecs").update_service
        await asyncio.to_thread(lambda: update(cluster=cluster, service=name, desiredCount=desired))

    async def suspended(self, id_: str) -> set[str]:
        return await asyncio.to_thread(self._emulator.suspended, id_)

    async def tags(self, id_: str) -> dict[str, str]:
        return await asyncio.to_thread(self._emulator.service_tags, id_)

    async def limit(self, id_: str, minimum: int, maximum: int) -> None:
        """Set the limits of the scalable target, as a scheduled action would."""
        await asyncio.to_thread(self._emulator.add_scalable_target, id_, minimum, maximum)

    async def delete_target(self, id_: str) -> None:
        await asyncio.to_thread(self._emulator.delete_scalable_target, id_)


@pytest.fixture
def services(aws: AwsProxy) -> Services:
    return Services(aws)


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("ThrottlingException", 400, "RequestLimitExceeded"),
        ("ServerException", 500, "ServerException"),
        ("InvalidParameterException", 400, "InvalidParameterException"),
    ],
)
async def test_a_call_that_is_throttled_or_fails_in_aws_is_repeated(
    aws: AwsProxy, services: Services, code: str, status: int, reason: str
) -> None:
    ids = [await services.create("web"), await services.create("api")]
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        aws.fail(RESIZE, code=code, status=status, message="try later")
        stopped = await stop(driver, ids, FRONT)
    failed = [name for name, state in stopped.items() if state != STOPPING]
    # A refusal concerns one service, and its next attempt is later. All else is repeated at once.
    refused = code == "InvalidParameterException"
    assert [stopped[name] for name in failed] == ([reason] if refused else [])
    for name in set(stopped) - set(failed):
        assert await services.size(name) == (0, "2/2/2")


@pytest.mark.parametrize(
    ("action", "permission"),
    [
        (REMEMBER, "ecs:TagResource"),
        (TARGETS, "application-autoscaling:DescribeScalableTargets"),
        (SUSPEND, "application-autoscaling:RegisterScalableTarget"),
    ],
)
async def test_a_missing_permission_is_named_before_a_service_is_scaled_down(
    aws: AwsProxy, services: Services, action: str, permission: str
) -> None:
    web = await services.create("web", scaled=True)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        text = f"User is not authorized to perform: {permission}"
        aws.fail(action, code="AccessDeniedException", status=400, message=text)
        assert await stop(driver, [web], FRONT) == {web: "UnauthorizedOperation"}
    assert (await services.size(web))[0] == 2


async def test_a_missing_permission_of_a_describe_is_named(aws: AwsProxy, services: Services) -> None:
    await services.create("web")
    async with open_driver(CLOCK, "ecs") as driver:
        text = "User is not authorized to perform: tag:GetResources"
        aws.fail(TAGGED, code="AccessDeniedException", status=400, message=text)
        failure = await failure_of(driver, FRONT)
    assert failure.reason == "UnauthorizedOperation"
    assert "AWS does not permit tag:GetResources" in str(failure)


async def test_credentials_that_expired_fail_the_view(aws: AwsProxy, services: Services) -> None:
    await services.create("web")
    async with open_driver(CLOCK, "ecs") as driver:
        aws.fail(DESCRIBE, code="ExpiredTokenException", status=400, message="The security token has expired")
        assert (await failure_of(driver, FRONT)).reason == "ExpiredCredentials"


async def assert_restored(services: Services, web: str, next_: str) -> None:
    """Check, as after a crash, that a stop, if it is next, and a start find what users have set."""
    async with open_driver(CLOCK, "ecs") as driver:
        seen = await observe(driver, FRONT)
        if next_ == "stop":
            if seen.stoppable():
                await stop(driver, [web], FRONT)
            assert await services.size(web) == (0, "1/4/2")
            assert await services.suspended(web) == ALL
        if (await observe(driver, FRONT)).startable():
            await start(driver, [web], FRONT)
        assert (await services.size(web))[0] == 2
        assert await services.suspended(web) == SOME
        assert SUSPENDED_TAG not in await services.tags(web)


async def broken(aws: AwsProxy, action: str, work: Coroutine[Any, Any, Any], *, lost: bool) -> None:
    """Begin `work` while each connection of one call breaks, before AWS acts or after it."""
    (aws.lose_reply if lost else aws.drop)(action, times=9)  # more often than the driver tries
    await asyncio.wait([asyncio.create_task(work)], timeout=0.5)


@pytest.mark.parametrize("action", [DESCRIBE, TARGETS, REMEMBER, SUSPEND, RESIZE])
@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("next_", ["stop", "start"])
async def test_a_connection_that_breaks_at_any_call_of_a_stop_loses_nothing(
    aws: AwsProxy, services: Services, action: str, lost: bool, next_: str
) -> None:
    web = await services.create("web", scaled=True)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        await broken(aws, action, stop(driver, [web], FRONT), lost=lost)
    aws.clear_scripted()
    await assert_restored(services, web, next_)


@pytest.mark.parametrize("action", [RESIZE, SUSPEND, FORGET])
@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("next_", ["stop", "start"])
async def test_a_connection_that_breaks_at_any_call_of_a_start_loses_nothing(
    aws: AwsProxy, services: Services, action: str, lost: bool, next_: str
) -> None:
    web = await services.create("web", scaled=True)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        await stop(driver, [web], FRONT)
        await broken(aws, action, start(driver, [web], FRONT), lost=lost)
    aws.clear_scripted()
    await assert_restored(services, web, next_)


async def test_a_service_that_a_user_scaled_up_while_it_was_off_gets_its_scaling_back(
    services: Services,
) -> None:
    web = await services.create("web", scaled=True)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        await stop(driver, [web], FRONT)
        await services.resize(web, 3)
        assert (await observe(driver, FRONT)).startable() == (web,)
        await start(driver, [web], FRONT)
        assert await services.size(web) == (3, "1/4/2")
        assert await services.suspended(web) == SOME
        assert (await observe(driver, FRONT)).startable() == ()


async def test_a_size_that_aws_has_raised_to_the_minimum_is_not_remembered(
    services: Services,
) -> None:
    """Any change of a scalable target, for example by Terraform, raises the size of its service."""
    web = await services.create("web", 3, scaled=True)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        await stop(driver, [web], FRONT)
        await services.resize(web, 1)
        await observe(driver, FRONT)
        await stop(driver, [web], FRONT)
        assert await services.size(web) == (0, "1/4/3")
        await services.resize(web, 1)
        await observe(driver, FRONT)
        await start(driver, [web], FRONT)
        assert await services.size(web) == (3, "1/4/3")
        assert await services.suspended(web) == SOME


async def test_limits_that_a_scheduled_action_has_set_to_zero_are_restored(
    aws: AwsProxy, services: Services
) -> None:
    """While the service is off, the scheduled action that would raise them is suspended."""
    web = await services.create("web", scaled=True)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        await stop(driver, [web], FRONT)
        await services.limit(web, 0, 0)
        await observe(driver, FRONT)
        aws.calls.clear()
        assert await start(driver, [web], FRONT) == {web: RUNNING}
    assert (await services.size(web))[0] == 2
    assert await services.suspended(web) == SOME
    (call,) = aws.calls_of(SUSPEND)
    assert (call.params["MinCapacity"], call.params["MaxCapacity"]) == ("1", "4")


async def test_a_stop_waits_for_the_end_of_a_start_that_was_cancelled(
    aws: AwsProxy, services: Services
) -> None:
    web = await services.create("web", scaled=True)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        await stop(driver, [web], FRONT)
        gate = aws.hold(SUSPEND)
        starting = asyncio.create_task(start(driver, [web], FRONT))
        await aws.arrived(SUSPEND, 2)
        stopping = asyncio.create_task(stop(driver, [web], FRONT))
        await asyncio.sleep(0.1)
        assert len(aws.calls_of(RESIZE)) == 2  # that of the first stop, and that of the start
        gate.set()
        await starting
        await stopping
    assert await services.size(web) == (0, "1/4/2")
    assert await services.suspended(web) == ALL
    assert (await services.tags(web))[SUSPENDED_TAG] == "DynamicScalingIn"


async def test_a_scalable_target_that_was_deleted_meanwhile_does_not_prevent_the_start(
    services: Services,
) -> None:
    web = await services.create("web", scaled=True)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        await stop(driver, [web], FRONT)
        await services.delete_target(web)
        await observe(driver, FRONT)
        assert await start(driver, [web], FRONT) == {web: RUNNING}
    assert (await services.size(web))[0] == 2
    assert SUSPENDED_TAG not in await services.tags(web)


async def test_a_service_that_a_policy_scaled_to_zero_is_left_so_until_it_is_stopped(
    services: Services,
) -> None:
    web = await services.create("web", scaled=True, minimum=0)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        await stop(driver, [web], FRONT)
        await start(driver, [web], FRONT)
        await services.resize(web, 0)
        seen = await observe(driver, FRONT)
        assert (seen.startable(), seen.all_ready, seen.machines) == ((), True, 0)
        await stop(driver, [web], FRONT)
        assert await services.size(web) == (0, "0/4/2")
        assert await services.suspended(web) == ALL
        await observe(driver, FRONT)
        await start(driver, [web], FRONT)
        assert await services.size(web) == (2, "0/4/2")
        assert await services.suspended(web) == SOME


async def test_a_service_whose_size_is_not_known_is_not_started(aws: AwsProxy, services: Services) -> None:
    web = await services.create("web", 0)
    async with open_driver(CLOCK, "ecs") as driver:
        seen = await observe(driver, FRONT)
        assert seen.startable() == ()
        assert await start(driver, [web], FRONT) == {web: "SizeUnknown"}
    assert aws.calls_of(RESIZE) == []


async def test_a_second_stop_writes_the_same_tags_not_again(aws: AwsProxy, services: Services) -> None:
    web = await services.create("web")
    async with open_driver(CLOCK, "ecs") as driver:
        for _ in range(2):
            await observe(driver, FRONT)
            await stop(driver, [web], FRONT)
            await start(driver, [web], FRONT)
    assert len(aws.calls_of(REMEMBER)) == 1
    assert aws.calls_of(FORGET) == []


async def test_a_deleted_cluster_hides_no_other_one(services: Services, aws: AwsProxy) -> None:
    """The tagging API shows services of deleted clusters for a while."""
    await services.create("web", cluster="old")
    api = await services.create("api", cluster="new")
    aws.fail(DESCRIBE, code="ClusterNotFoundException", message="Cluster not found.")
    async with open_driver(CLOCK, "ecs") as driver:
        assert [instance.id for instance in (await observe(driver, FRONT)).instances] == [api]
    assert [call.status for call in aws.calls_of(DESCRIBE)] == [400, 200]


async def test_all_pages_are_read(aws: AwsProxy, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecs, "ARN_PAGE", 2)
    monkeypatch.setattr(ecs, "SERVICE_PAGE", 2)
    ids = sorted([await services.create(f"web-{number}") for number in range(5)])
    async with open_driver(CLOCK, "ecs") as driver:
        assert sorted(item.id for item in (await observe(driver, FRONT)).instances) == ids
    assert [len(aws.calls_of(action)) for action in (TAGGED, DESCRIBE)] == [3, 3]


async def test_the_calls_of_idle_services(aws: AwsProxy, services: Services) -> None:
    """One call finds a hundred services, and one shows ten of a cluster."""
    for number in range(11):
        await services.create(f"web-{number}")
    async with open_driver(CLOCK, "ecs") as driver:
        assert (await observe(driver, FRONT)).machines == 22
    assert [call.action for call in aws.calls] == [TAGGED, DESCRIBE, DESCRIBE]


async def test_tasks_that_start_or_stop_are_shown(aws: AwsProxy, services: Services) -> None:
    web = await services.create("web")
    api = await services.create("api", 0, tags={CAPACITY_TAG: "1/1/1"})
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, FRONT)
        aws.transition_seconds = 3600
        await stop(driver, [web], FRONT)
        await start(driver, [api], FRONT)
        seen = {item.id: item for item in (await observe(driver, FRONT)).instances}
        assert (seen[web].state, seen[web].machines_running) == (STOPPING, 2)
        assert (seen[api].state, seen[api].machines_running, seen[api].ready) == (RUNNING, 0, False)
        aws.transition_seconds = 0
        seen = {item.id: item for item in (await observe(driver, FRONT)).instances}
        assert (seen[web].state, seen[web].machines_running) == (InstanceState.STOPPED, 0)
        assert (seen[api].state, seen[api].machines_running, seen[api].ready) == (RUNNING, 1, True)


async def test_all_scalable_targets_are_read(
    aws: AwsProxy, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read for services that a policy may have emptied."""
    monkeypatch.setattr(scalable_targets, "PAGE", 2)
    ids = [await services.create(f"web-{n}", 0, tags={CAPACITY_TAG: "0/4/2"}) for n in range(5)]
    for id_ in ids:
        await services.limit(id_, 0, 4)
    async with open_driver(CLOCK, "ecs") as driver:
        assert sorted((await observe(driver, FRONT)).stoppable()) == sorted(ids)
    assert len(aws.calls_of(TARGETS)) == 3
