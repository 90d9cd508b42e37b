"""EC2 Auto Scaling with moto behind the proxy: each class of failure, and calls that end in between."""

import asyncio

import pytest

from booking_operator.cloud.aws import auto_scaling
from booking_operator.cloud.aws.tags import APPLICATION_TAG
from booking_operator.domain.capacity import CAPACITY_TAG
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState
from tests.support.aws import AwsProxy
from tests.support.driver_calls import CLOCK, failure_of, observe, open_driver, start, stop
from tests.support.emulators import Emulator
from tests.support.moto_server import REGION

FRONT = Group("asg", "", REGION, "front")
RESIZE, DESCRIBE, REMEMBER = "UpdateAutoScalingGroup", "DescribeAutoScalingGroups", "CreateOrUpdateTags"
SCHEDULED, REFRESHES = "DescribeScheduledActions", "DescribeInstanceRefreshes"
RUNNING, STOPPING = InstanceState.RUNNING, InstanceState.STOPPING


class Groups:
    """The Auto Scaling groups in moto, past the proxy."""

    def __init__(self, aws: AwsProxy) -> None:
        self._emulator = Emulator("moto", aws.moto.url)

    async def create(self, name: str, capacity: str = "1/4/2", **tags: str) -> None:
        await asyncio.to_thread(self._emulator.create_scaled_group, name, "front", capacity, **tags)

    async def resize(self, name: str, low: int, high: int, desired: int) -> None:
        """Set the size of a group, as a user would."""
        update = self._emulator.client("autoscaling").update_auto_scaling_group
        size = {"MinSize": low, "MaxSize": high, "DesiredCapacity": desired}
        await asyncio.to_thread(lambda: update(AutoScalingGroupName=name, **size))

    async def sizes(self, name: str) -> tuple[str, str]:
        """The size of a group, and the one in its tag."""
        return await asyncio.to_thread(self._emulator.sizes, name)


@pytest.fixture
def groups(aws: AwsProxy) -> Groups:
    return Groups(aws)


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("Throttling", 400, "RequestLimitExceeded"),
        ("InternalFailure", 500, "InternalFailure"),
        ("ResourceContention", 400, "ResourceContention"),
    ],
)
async def test_a_call_that_is_throttled_or_fails_in_aws_is_repeated(
    aws: AwsProxy, groups: Groups, code: str, status: int, reason: str
) -> None:
    await groups.create("web")
    await groups.create("api")
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        aws.fail(RESIZE, code=code, status=status, message="try later")
        stopped = await stop(driver, ["web", "api"], FRONT)
    failed = [name for name, state in stopped.items() if state != STOPPING]
    # A refusal concerns one group, and its next attempt is later. All else is repeated at once.
    assert [stopped[name] for name in failed] == ([reason] if code == "ResourceContention" else [])
    for name in set(stopped) - set(failed):
        assert await groups.sizes(name) == ("0/0/0", "1/4/2")


async def test_a_missing_permission_is_named_and_concerns_no_other_call(
    aws: AwsProxy, groups: Groups
) -> None:
    await groups.create("web")
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        text = "User is not authorized to perform: autoscaling:CreateOrUpdateTags"
        aws.fail(REMEMBER, code="AccessDenied", status=403, message=text)
        assert await stop(driver, ["web"], FRONT) == {"web": "UnauthorizedOperation"}
    assert await groups.sizes("web") == ("1/4/2", "")  # without its tag, a group is not scaled down


async def test_credentials_that_expired_fail_the_view(aws: AwsProxy, groups: Groups) -> None:
    await groups.create("web")
    async with open_driver(CLOCK, "asg") as driver:
        aws.fail(DESCRIBE, code="ExpiredToken", status=403, message="The security token has expired")
        assert (await failure_of(driver, FRONT)).reason == "ExpiredCredentials"


@pytest.mark.parametrize("action", [DESCRIBE, REMEMBER, RESIZE])
@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
async def test_a_connection_that_breaks_at_any_call_of_a_stop_loses_no_size(
    aws: AwsProxy, groups: Groups, action: str, lost: bool
) -> None:
    await groups.create("web")
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        (aws.lose_reply if lost else aws.drop)(action)
        await stop(driver, ["web"], FRONT)
    async with open_driver(CLOCK, "asg") as driver:  # as after a crash
        seen = await observe(driver, FRONT)
        if seen.stoppable():
            await stop(driver, ["web"], FRONT)
        assert await groups.sizes("web") == ("0/0/0", "1/4/2")
        await observe(driver, FRONT)
        await start(driver, ["web"], FRONT)
        assert (await groups.sizes("web"))[0] == "1/4/2"


async def test_a_group_that_is_off_already_keeps_what_it_remembers(aws: AwsProxy, groups: Groups) -> None:
    await groups.create("web", "0/4/0", **{CAPACITY_TAG: "1/4/2"})
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        assert await stop(driver, ["web"], FRONT) == {"web": STOPPING}
    assert await groups.sizes("web") == ("0/0/0", "1/4/2")
    assert aws.calls_of(REMEMBER) == []


async def test_a_group_that_a_policy_emptied_remembers_its_machines_from_before(
    groups: Groups,
) -> None:
    await groups.create("web", "0/10/0", **{CAPACITY_TAG: "0/4/4"})
    async with open_driver(CLOCK, "asg") as driver:
        assert (await observe(driver, FRONT)).stoppable() == ("web",)
        assert await stop(driver, ["web"], FRONT) == {"web": STOPPING}
        assert await groups.sizes("web") == ("0/0/0", "0/10/4")
        await start(driver, ["web"], FRONT)
    assert await groups.sizes("web") == ("0/10/4", "0/10/4")


async def test_a_size_that_a_user_sets_shortly_before_a_start_is_kept(groups: Groups) -> None:
    await groups.create("web")
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        await stop(driver, ["web"], FRONT)
        await groups.resize("web", 2, 6, 3)
        assert await start(driver, ["web"], FRONT) == {"web": RUNNING}
    assert await groups.sizes("web") == ("2/6/3", "1/4/2")


async def test_only_some_refreshes_are_read_in_one_describe(
    aws: AwsProxy, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_scaling, "MAX_REFRESHES", 2)
    names = [f"web-{number}" for number in range(3)]
    for name in names:
        await groups.create(name)
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        await stop(driver, names, FRONT)
        aws.transition_seconds = 3600
        await start(driver, names, FRONT)
        aws.calls.clear()
        assert not (await observe(driver, FRONT)).all_ready
    assert len(aws.calls_of(REFRESHES)) == 2


async def test_a_group_whose_size_is_not_known_is_not_started(aws: AwsProxy, groups: Groups) -> None:
    await groups.create("web", "0/4/0")
    async with open_driver(CLOCK, "asg") as driver:
        seen = await observe(driver, FRONT)
        assert seen.startable() == ()
        assert await start(driver, ["web"], FRONT) == {"web": "SizeUnknown"}
    assert aws.calls_of(RESIZE) == []


async def test_a_second_stop_writes_the_same_size_not_again(aws: AwsProxy, groups: Groups) -> None:
    await groups.create("web", **{CAPACITY_TAG: "1/4/2"})
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        await stop(driver, ["web"], FRONT)
    assert aws.calls_of(REMEMBER) == []
    assert await groups.sizes("web") == ("0/0/0", "1/4/2")


async def test_the_calls_of_idle_groups(aws: AwsProxy, groups: Groups) -> None:
    """One call shows a hundred groups."""
    for number in range(3):
        await groups.create(f"web-{number}")
    async with open_driver(CLOCK, "asg") as driver:
        assert (await observe(driver, FRONT)).machines == 6
    assert [call.action for call in aws.calls] == [DESCRIBE, SCHEDULED]


NIGHT = {"AutoScalingGroupName": "web", "ScheduledActionName": "night", "Recurrence": "0 20 * * *"}


async def test_what_else_changes_the_size_of_a_group_is_reported(aws: AwsProxy, groups: Groups) -> None:
    await groups.create("web")
    await groups.create("api")
    aws.answer("autoscaling", SCHEDULED, {"ScheduledUpdateGroupActions": [NIGHT]})
    async with open_driver(CLOCK, "asg") as driver:
        seen = {item.id: item.remarks for item in (await observe(driver, FRONT)).instances}
    text = "has the scheduled action night, which sets its size by the schedule '0 20 * * *' in UTC"
    assert seen == {"web": (text,), "api": ()}


def show_missing(aws: AwsProxy, name: str) -> None:
    """Answer each Describe with a group of which one machine of two is missing."""
    group = {
        "AutoScalingGroupName": name,
        "MinSize": 1,
        "MaxSize": 4,
        "DesiredCapacity": 2,
        "DefaultCooldown": 300,
        "AvailabilityZones": [f"{REGION}a"],
        "HealthCheckType": "EC2",
        "CreatedTime": "2026-01-05T10:00:00Z",
        "Instances": [],
        "Tags": [{"Key": APPLICATION_TAG, "Value": "front"}],
    }
    aws.answer("autoscaling", DESCRIBE, {"AutoScalingGroups": [group]})


async def test_an_instance_refresh_explains_missing_machines(aws: AwsProxy) -> None:
    show_missing(aws, "web")
    refresh = {"AutoScalingGroupName": "web", "Status": "InProgress", "PercentageComplete": 40}
    aws.answer("autoscaling", REFRESHES, {"InstanceRefreshes": [refresh]})
    async with open_driver(CLOCK, "asg") as driver:
        seen = {item.id: item.unready_reason for item in (await observe(driver, FRONT)).instances}
    text = "has an instance refresh in progress, which is 40 % complete"
    assert seen == {"web": text}
    assert [call.params["AutoScalingGroupName"] for call in aws.calls_of(REFRESHES)] == ["web"]


async def test_without_the_permission_for_explanations_groups_are_found(aws: AwsProxy) -> None:
    show_missing(aws, "web")
    async with open_driver(CLOCK, "asg") as driver:
        for action in (SCHEDULED, REFRESHES):
            aws.fail(action, code="AccessDenied", status=403, message="not authorized")
        (instance,) = (await observe(driver, FRONT)).instances
    assert (instance.remarks, instance.unready_reason, instance.ready) == ((), "", False)


async def test_machines_that_start_or_stop_are_shown(aws: AwsProxy, groups: Groups) -> None:
    await groups.create("web")
    await groups.create("api", "0/0/0", **{CAPACITY_TAG: "1/1/1"})
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        aws.transition_seconds = 3600
        await stop(driver, ["web"], FRONT)
        await start(driver, ["api"], FRONT)
        seen = {item.id: item for item in (await observe(driver, FRONT)).instances}
        assert (seen["web"].state, len(seen["web"].sizes)) == (STOPPING, 2)
        assert (seen["api"].state, seen["api"].machines_running, seen["api"].ready) == (RUNNING, 0, False)
        aws.transition_seconds = 0
        seen = {item.id: item for item in (await observe(driver, FRONT)).instances}
        assert (seen["web"].state, seen["web"].sizes) == (InstanceState.STOPPED, ())
        assert (seen["api"].state, seen["api"].machines_running, seen["api"].ready) == (RUNNING, 1, True)
