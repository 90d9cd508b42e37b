"""The contract of the drivers with AWS, against two independent emulators.

The drivers must work with both. `DIFFERENCES` lists where an emulator answers unlike AWS, according to the
documentation of AWS. If an emulator is corrected, the test of that row fails.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from booking_operator.cloud.aws import auto_scaling, ec2, ecs, rds
from booking_operator.cloud.aws.tags import APPLICATION_TAG
from booking_operator.domain.capacity import CAPACITY_TAG
from booking_operator.domain.group import Group
from booking_operator.domain.instance import InstanceState, Lock, MachineCounts
from tests.support.driver_calls import CLOCK, WEB, lock, observe, open_driver, start, stop
from tests.support.emulators import Emulator, Name, run_ministack
from tests.support.moto_server import REGION

SHOP = Group("rds", "", REGION, "shop")
FRONT = Group("asg", "", REGION, "front")
BACK = Group("ecs", "", REGION, "back")
RUNNING, STOPPED = InstanceState.RUNNING, InstanceState.STOPPED
ADA = Lock("ada", "2026-01-05T10:00:00Z")
GONE = "i-0123456789abcdef0"


@pytest.fixture(scope="session")
def ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture(params=["moto", "ministack"])
def emulator(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch) -> Emulator:
    name: Name = request.param
    found = Emulator(name, request.getfixturevalue(f"{name}_url"))
    found.reset()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    files = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    for variable, value in {"AWS_ENDPOINT_URL": found.url, **keys, **files}.items():
        environment.setenv(variable, value)
    return found


async def states(group: Group, service: str = "ec2") -> dict[str, InstanceState]:
    async with open_driver(CLOCK, service) as driver:
        return {instance.id: instance.state for instance in (await observe(driver, group)).instances}


async def test_instances_are_found_by_their_tag_with_their_states(emulator: Emulator) -> None:
    one, two, three = emulator.launch("web", 3)
    emulator.launch("other")
    client = emulator.client("ec2")
    client.stop_instances(InstanceIds=[two])
    client.terminate_instances(InstanceIds=[three])
    assert await states(WEB) == {one: RUNNING, two: STOPPED}
    async with open_driver(CLOCK) as driver:
        (first, _) = (await observe(driver)).instances
        assert driver.inventory.pool(WEB.scope, one) == f"m5.large in {REGION}a"
        assert first.launched_at is not None


async def test_all_pages_of_instances_are_read(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2, "PAGE", 5)
    ids = emulator.launch("web", 12)
    assert list(await states(WEB)) == ids


async def test_instances_stop_and_start(emulator: Emulator) -> None:
    ids = emulator.launch("web", 2)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        stopped = await stop(driver, ids)
        assert set(stopped.values()) <= {InstanceState.STOPPING, STOPPED}
        assert (await observe(driver)).all_in(STOPPED)
        started = await start(driver, ids)
        assert set(started.values()) <= {InstanceState.PENDING, RUNNING}
        assert (await observe(driver)).all_in(RUNNING)


async def test_an_unknown_instance_is_refused_alone(emulator: Emulator) -> None:
    (good,) = emulator.launch("web")
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        outcome = await stop(driver, [good, GONE])
        assert outcome.pop(GONE) == "InvalidInstanceIDNotFound"
        assert set(outcome) == {good}
        assert (await observe(driver)).all_in(STOPPED)


async def test_lock_tags_are_written_and_removed(emulator: Emulator) -> None:
    ids = emulator.launch("web", 2)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        await lock(driver, ids, ADA)
    async with open_driver(CLOCK) as driver:
        assert [instance.lock for instance in (await observe(driver)).instances] == [ADA, ADA]
        await lock(driver, ids, None)
    async with open_driver(CLOCK) as driver:
        assert [instance.lock for instance in (await observe(driver)).instances] == [None, None]


async def test_databases_and_clusters_are_found_by_their_tag_without_members(emulator: Emulator) -> None:
    emulator.create_database("orders", "shop")
    emulator.create_database("other", "else")
    emulator.create_cluster("orders", "shop")
    member = {"Engine": "aurora-postgresql", "DBInstanceClass": "db.t4g.medium"}
    emulator.create_database("orders-1", "shop", DBClusterIdentifier="orders", **member)
    assert await states(SHOP, "rds") == {"cluster:orders": RUNNING, "db:orders": RUNNING}


async def test_all_pages_of_databases_are_read(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rds, "PAGE", 20)
    for number in range(25):
        emulator.create_database(f"db{number}", "shop")
    assert len(await states(SHOP, "rds")) == 25


async def test_databases_and_clusters_stop_and_start(emulator: Emulator) -> None:
    ids = [emulator.create_cluster("orders", "shop"), emulator.create_database("orders", "shop")]
    async with open_driver(CLOCK, "rds") as driver:
        await observe(driver, SHOP)
        assert await stop(driver, ids, SHOP) == dict.fromkeys(ids, InstanceState.STOPPING)
        assert (await observe(driver, SHOP)).all_in(STOPPED)
        assert await start(driver, ids, SHOP) == dict.fromkeys(ids, InstanceState.PENDING)
        assert (await observe(driver, SHOP)).all_in(RUNNING)


async def test_an_unknown_database_is_refused_alone(emulator: Emulator) -> None:
    good = emulator.create_database("orders", "shop")
    async with open_driver(CLOCK, "rds") as driver:
        await observe(driver, SHOP)
        assert await stop(driver, [good, "db:gone", "cluster:gone"], SHOP) == {
            good: InstanceState.STOPPING,
            "db:gone": "DBInstanceNotFound",
            "cluster:gone": "DBClusterNotFoundFault",
        }


async def test_lock_tags_of_databases_are_written_and_removed(emulator: Emulator) -> None:
    ids = [emulator.create_cluster("orders", "shop"), emulator.create_database("orders", "shop")]
    async with open_driver(CLOCK, "rds") as driver:
        await observe(driver, SHOP)
        await lock(driver, ids, ADA, SHOP)
    async with open_driver(CLOCK, "rds") as driver:
        assert [instance.lock for instance in (await observe(driver, SHOP)).instances] == [ADA, ADA]
        await lock(driver, ids, None, SHOP)
    async with open_driver(CLOCK, "rds") as driver:
        assert [instance.lock for instance in (await observe(driver, SHOP)).instances] == [None, None]


async def test_scaled_groups_are_found_by_their_tag_with_their_machines(emulator: Emulator) -> None:
    emulator.create_scaled_group("web", "front", "1/4/2")
    emulator.create_scaled_group("api", "front", "0/2/0")
    emulator.create_scaled_group("other", "else", "1/1/1")
    async with open_driver(CLOCK, "asg") as driver:
        seen = await observe(driver, FRONT)
    api, web = sorted(seen.instances, key=lambda item: item.id)
    assert (web.state, web.scale, len(web.sizes)) == (RUNNING, MachineCounts(2, 2), 2)
    assert (api.state, api.scale, api.sizes) == (STOPPED, MachineCounts(0, 0), ())
    assert "its size from before is not known" in api.blocked_reason
    assert (seen.machines, seen.machines_running) == (2, 2)


async def test_all_pages_of_scaled_groups_are_read(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_scaling, "PAGE", 2)
    for number in range(5):
        emulator.create_scaled_group(f"web-{number}", "front", "0/1/0")
    assert len(await states(FRONT, "asg")) == 5


async def test_a_scaled_group_stops_and_starts_with_its_size(emulator: Emulator) -> None:
    emulator.create_scaled_group("web", "front", "1/4/2")
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        assert await stop(driver, ["web"], FRONT) == {"web": InstanceState.STOPPING}
        assert emulator.sizes("web") == ("0/0/0", "1/4/2")
    async with open_driver(CLOCK, "asg") as driver:  # as after a restart
        seen = await observe(driver, FRONT)
        assert (seen.machines, seen.machines_running) == (2, 0)
        assert await start(driver, ["web"], FRONT) == {"web": RUNNING}
        assert emulator.sizes("web") == ("1/4/2", "1/4/2")
        assert (await observe(driver, FRONT)).all_ready


async def test_a_size_that_a_user_changes_while_the_group_is_on_is_kept(emulator: Emulator) -> None:
    emulator.create_scaled_group("web", "front", "1/4/2", **{CAPACITY_TAG: "1/2/1"})
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        # The view does not have this change yet.
        size = {"MinSize": 2, "MaxSize": 6, "DesiredCapacity": 3}
        emulator.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName="web", **size)
        await stop(driver, ["web"], FRONT)
        assert emulator.sizes("web") == ("0/0/0", "2/6/3")
        await start(driver, ["web"], FRONT)
        assert emulator.sizes("web") == ("2/6/3", "2/6/3")


async def test_an_unknown_scaled_group_is_refused_alone(emulator: Emulator) -> None:
    emulator.create_scaled_group("web", "front", "1/1/1")
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        stopped = await stop(driver, ["web", "gone"], FRONT)
        assert stopped == {"web": InstanceState.STOPPING, "gone": "GroupNotFound"}


async def test_lock_tags_of_scaled_groups_are_written_and_removed(emulator: Emulator) -> None:
    emulator.create_scaled_group("web", "front", "1/1/1")
    async with open_driver(CLOCK, "asg") as driver:
        await observe(driver, FRONT)
        await lock(driver, ["web"], ADA, FRONT)
    async with open_driver(CLOCK, "asg") as driver:
        assert [instance.lock for instance in (await observe(driver, FRONT)).instances] == [ADA]
        await lock(driver, ["web"], None, FRONT)
    async with open_driver(CLOCK, "asg") as driver:
        assert [instance.lock for instance in (await observe(driver, FRONT)).instances] == [None]


async def test_services_are_found_by_their_tag_with_their_tasks(emulator: Emulator) -> None:
    web = emulator.create_service("web", "back", 2)
    api = emulator.create_service("api", "back", 0, cluster="second")
    emulator.create_service("other", "else", 1)
    async with open_driver(CLOCK, "ecs") as driver:
        seen = {item.id: item for item in (await observe(driver, BACK)).instances}
    assert set(seen) == {web, api}
    assert (seen[web].state, seen[web].machines) == (RUNNING, 2)
    assert (seen[api].state, seen[api].scale, seen[api].sizes) == (STOPPED, MachineCounts(0, 0), ())
    assert "its size from before is not known" in seen[api].blocked_reason


async def test_all_pages_of_services_are_read(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecs, "ARN_PAGE", 2)
    monkeypatch.setattr(ecs, "SERVICE_PAGE", 2)
    for number in range(5):
        emulator.create_service(f"web-{number}", "back", 0)
    assert len(await states(BACK, "ecs")) == 5


# ministack has no scalable targets, as `DIFFERENCES` says.
@pytest.mark.parametrize("emulator", ["moto"], indirect=True)
async def test_a_service_starts_with_its_remembered_size(emulator: Emulator) -> None:
    web = emulator.create_service("web", "back", 0, tags={CAPACITY_TAG: "1/4/2"})
    async with open_driver(CLOCK, "ecs") as driver:
        assert (await observe(driver, BACK)).machines == 2
        assert await start(driver, [web], BACK) == {web: RUNNING}
    assert emulator.service_size(web) == (2, "1/4/2")


@pytest.mark.parametrize("emulator", ["moto"], indirect=True)
async def test_an_unknown_service_is_refused_alone(emulator: Emulator) -> None:
    web = emulator.create_service("web", "back", 0, tags={CAPACITY_TAG: "1/1/1"})
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, BACK)
        started = await start(driver, [web, "main/gone"], BACK)
        assert started == {web: RUNNING, "main/gone": "NotObserved"}


async def test_lock_tags_of_services_are_written_and_removed(emulator: Emulator) -> None:
    web = emulator.create_service("web", "back", 1)
    async with open_driver(CLOCK, "ecs") as driver:
        await observe(driver, BACK)
        await lock(driver, [web], ADA, BACK)
        (instance,) = (await observe(driver, BACK)).instances
        assert instance.lock == ADA
        await lock(driver, [web], None, BACK)
        (instance,) = (await observe(driver, BACK)).instances
        assert instance.lock is None
    assert emulator.service_tags(web) == {APPLICATION_TAG: "back"}


# Where the emulators differ from AWS

_API = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference"
_SCALING_API = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference"
_ECS_API = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference"
_TARGETS_API = "https://docs.aws.amazon.com/autoscaling/application/APIReference"
_RDS_API = "https://docs.aws.amazon.com/AmazonRDS/latest/APIReference"


def code_of(call: Callable[[], object]) -> str:
    """The error code of a call; empty if it succeeds."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def _stop_answer(emulator: Emulator) -> str:
    reply = emulator.client("ec2").stop_instances(InstanceIds=emulator.launch("web"))
    return str(reply["StoppingInstances"][0]["CurrentState"]["Name"])


def _start_terminated(emulator: Emulator) -> str:
    client, ids = emulator.client("ec2"), emulator.launch("web")
    client.terminate_instances(InstanceIds=ids)
    return code_of(lambda: client.start_instances(InstanceIds=ids))


def _tag_unknown(emulator: Emulator) -> str:
    tags = [{"Key": "Name", "Value": "web"}]
    return code_of(lambda: emulator.client("ec2").create_tags(Resources=[GONE], Tags=tags))


def _first_page(emulator: Emulator) -> int:
    emulator.launch("web", 7)
    reply = emulator.client("ec2").describe_instances(MaxResults=5)
    return sum(len(reservation["Instances"]) for reservation in reply["Reservations"])


def _first_page_of_one_launch(emulator: Emulator) -> int:
    client = emulator.client("ec2")
    client.run_instances(ImageId="ami-12c6146b", MinCount=7, MaxCount=7)
    reply = client.describe_instances(MaxResults=5)
    return sum(len(reservation["Instances"]) for reservation in reply["Reservations"])


def _machine_size(emulator: Emulator) -> str:
    name = emulator.create_scaled_group("web", "front", "1/1/1")
    return str(emulator.scaled_group(name)["Instances"][0].get("InstanceType", ""))


def _scalable_targets(emulator: Emulator) -> str:
    describe = emulator.client("application-autoscaling").describe_scalable_targets
    return code_of(lambda: describe(ServiceNamespace="ecs"))


def _resize_daemon(emulator: Emulator) -> str:
    emulator.create_service("web", "back", 0, schedulingStrategy="DAEMON")
    update = emulator.client("ecs").update_service
    return code_of(lambda: update(cluster="main", service="web", desiredCount=2))


def _hibernation_shown(emulator: Emulator) -> bool:
    hibernates = {"HibernationOptions": {"Configured": True}}
    launch = emulator.client("ec2").run_instances
    reply = launch(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, InstanceType="m5.large", **hibernates)
    return bool(reply["Instances"][0].get("HibernationOptions", {}).get("Configured", False))


def _stop_stopped_database(emulator: Emulator) -> str:
    client = emulator.client("rds")
    emulator.create_database("orders", "shop")
    client.stop_db_instance(DBInstanceIdentifier="orders")
    return code_of(lambda: client.stop_db_instance(DBInstanceIdentifier="orders"))


def _stop_member(emulator: Emulator) -> str:
    emulator.create_cluster("orders", "shop")
    member = {"Engine": "aurora-postgresql", "DBInstanceClass": "db.t4g.medium"}
    emulator.create_database("orders-1", "shop", DBClusterIdentifier="orders", **member)
    client = emulator.client("rds")
    return code_of(lambda: client.stop_db_instance(DBInstanceIdentifier="orders-1"))


def _first_page_of_databases(emulator: Emulator) -> int:
    for number in range(21):
        emulator.create_database(f"db{number}", "shop")
    return len(emulator.client("rds").describe_db_instances(MaxRecords=20)["DBInstances"])


@dataclass(frozen=True)
class Difference:
    """One answer that at least one emulator gives unlike AWS.

    Attributes:
        ask: asks an emulator, and returns its answer.
        aws: the answer of AWS.
        source: the page of AWS that says so.
        wrong: the emulators whose answer is wrong.
    """

    ask: Callable[[Emulator], Any]
    aws: Any
    source: str
    wrong: tuple[Name, ...]


DIFFERENCES: dict[str, Difference] = {
    "Application Auto Scaling exists": Difference(
        _scalable_targets, "", f"{_TARGETS_API}/API_DescribeScalableTargets.html", ("ministack",)
    ),
    "a daemon service has no desired count": Difference(
        _resize_daemon,
        "InvalidParameterException",
        f"{_ECS_API}/API_UpdateService.html",
        ("moto", "ministack"),
    ),
    "the answer to a stop shows the transition": Difference(
        _stop_answer, "stopping", f"{_API}/API_StopInstances.html", ("ministack",)
    ),
    "a terminated instance cannot be started": Difference(
        _start_terminated,
        "IncorrectInstanceState",
        f"{_API}/errors-overview.html",
        ("moto", "ministack"),
    ),
    "an unknown instance cannot be tagged": Difference(
        _tag_unknown, "InvalidInstanceID.NotFound", f"{_API}/errors-overview.html", ("moto", "ministack")
    ),
    "MaxResults limits the instances of a page": Difference(
        _first_page, 5, f"{_API}/API_DescribeInstances.html", ("ministack",)
    ),
    "MaxResults limits the instances of a page, also of one reservation": Difference(
        _first_page_of_one_launch, 5, f"{_API}/API_DescribeInstances.html", ("moto", "ministack")
    ),
    "an instance shows that it can hibernate": Difference(
        _hibernation_shown, True, f"{_API}/API_Instance.html", ("ministack",)
    ),
    "a machine of a scaled group shows its size": Difference(
        _machine_size, "m5.large", f"{_SCALING_API}/API_Instance.html", ("ministack",)
    ),
    "a stopped database cannot be stopped": Difference(
        _stop_stopped_database,
        "InvalidDBInstanceState",
        f"{_RDS_API}/API_StopDBInstance.html",
        ("ministack",),
    ),
    "a member of a cluster cannot be stopped alone": Difference(
        # The code is from https://github.com/aws-solutions/instance-scheduler-on-aws/issues/208
        _stop_member,
        "InvalidParameterCombination",
        f"{_RDS_API}/API_StopDBInstance.html",
        ("moto", "ministack"),
    ),
    "MaxRecords limits the databases of a page": Difference(
        _first_page_of_databases, 20, f"{_RDS_API}/API_DescribeDBInstances.html", ("ministack",)
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_which_emulator_is_wrong(emulator: Emulator, name: str) -> None:
    difference = DIFFERENCES[name]
    assert (difference.ask(emulator) != difference.aws) is (emulator.name in difference.wrong)
