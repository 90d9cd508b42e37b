"""moto and ministack: two independent emulators of AWS."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config

from booking_operator.cloud.aws.tags import APPLICATION_TAG
from booking_operator.devcluster.process import ChildProcess, free_port
from booking_operator.domain.capacity import CAPACITY_TAG
from tests.support.moto_server import REGION

Name = Literal["moto", "ministack"]
_IMAGE = "ami-12c6146b"
_START_SECONDS = 30


@dataclass(frozen=True)
class Emulator:
    """One emulator and its clients."""

    name: Name
    url: str

    def client(self, service: str) -> Any:
        config = Config(retries={"total_max_attempts": 1})
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, config=config, **keys)

    def reset(self) -> None:
        """Delete everything."""
        path = {"moto": "/moto-api/reset", "ministack": "/_ministack/reset"}[self.name]
        with urlopen(Request(self.url + path, method="POST")):  # noqa: S310 - an address on loopback
            pass

    def launch(self, tag: str, n: int = 1) -> list[str]:
        """Launch running instances of a group, each by a call of its own; return their sorted ids."""
        ec2 = self.client("ec2")
        tags = [{"ResourceType": "instance", "Tags": tagged(tag)}]
        size = {"MinCount": 1, "MaxCount": 1, "InstanceType": "m5.large"}
        launched = [ec2.run_instances(ImageId=_IMAGE, TagSpecifications=tags, **size) for _ in range(n)]
        return sorted(reply["Instances"][0]["InstanceId"] for reply in launched)

    def create_database(self, name: str, tag: str, **more: Any) -> str:
        """Create a running DB instance; return its id."""
        size = {"DBInstanceClass": "db.t4g.micro", "AllocatedStorage": 20}
        whole = {"Engine": "postgres", **_LOGIN, **size, "Tags": tagged(tag), **more}
        self.client("rds").create_db_instance(DBInstanceIdentifier=name, **whole)
        return f"db:{name}"

    def create_cluster(self, name: str, tag: str) -> str:
        """Create a running Aurora cluster; return its id."""
        whole = {"Engine": "aurora-postgresql", **_LOGIN, "Tags": tagged(tag)}
        self.client("rds").create_db_cluster(DBClusterIdentifier=name, **whole)
        return f"cluster:{name}"

    def create_scaled_group(self, name: str, tag: str, capacity: str, **tags: str) -> str:
        """Create an Auto Scaling group with a capacity like `1/4/2`; return its id."""
        client = self.client("autoscaling")
        if not client.describe_launch_configurations()["LaunchConfigurations"]:
            client.create_launch_configuration(
                LaunchConfigurationName="machine", ImageId=_IMAGE, InstanceType="m5.large"
            )
        low, high, desired = (int(part) for part in capacity.split("/"))
        client.create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchConfigurationName="machine",
            MinSize=low,
            MaxSize=high,
            DesiredCapacity=desired,
            AvailabilityZones=[f"{REGION}a"],
            Tags=[group_tag(name, key, value) for key, value in {APPLICATION_TAG: tag, **tags}.items()],
        )
        return name

    def create_service(self, name: str, tag: str, desired: int, cluster: str = "main", **more: Any) -> str:
        """Create an ECS service with running tasks; return its id."""
        client = self.client("ecs")
        client.create_cluster(clusterName=cluster)
        client.register_task_definition(family="task", containerDefinitions=[_CONTAINER])
        tags = {APPLICATION_TAG: tag, **more.pop("tags", {})}
        client.create_service(
            cluster=cluster,
            serviceName=name,
            taskDefinition="task",
            desiredCount=desired,
            tags=[{"key": key, "value": value} for key, value in tags.items()],
            **more,
        )
        client.update_service(
            cluster=cluster, service=name, desiredCount=desired
        )  # moto runs tasks only then
        return f"{cluster}/{name}"

    def service(self, id_: str) -> Any:
        """The ECS service as the emulator shows it."""
        cluster, name = id_.split("/")
        (found,) = self.client("ecs").describe_services(cluster=cluster, services=[name], include=["TAGS"])[
            "services"
        ]
        return found

    def service_size(self, id_: str) -> tuple[int, str]:
        """The number of tasks of an ECS service, and the size in its tag."""
        row = self.service(id_)
        return row["desiredCount"], self.service_tags(id_).get(CAPACITY_TAG, "")

    def service_tags(self, id_: str) -> dict[str, str]:
        """The tags of an ECS service."""
        return {tag["key"]: tag["value"] for tag in self.service(id_)["tags"]}

    def add_scalable_target(self, id_: str, minimum: int, maximum: int, **suspended: bool) -> None:
        """Let Application Auto Scaling scale an ECS service, or change the limits of its target."""
        whole: dict[str, Any] = {"MinCapacity": minimum, "MaxCapacity": maximum}
        if suspended:
            whole["SuspendedState"] = suspended
        self.client("application-autoscaling").register_scalable_target(**_target(id_), **whole)

    def delete_scalable_target(self, id_: str) -> None:
        """Delete the scalable target of an ECS service."""
        self.client("application-autoscaling").deregister_scalable_target(**_target(id_))

    def suspended(self, id_: str) -> set[str]:
        """The suspended scaling activities of an ECS service."""
        found = self.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[f"service/{id_}"]
        )
        (target,) = found["ScalableTargets"]
        return {name.removesuffix("Suspended") for name, on in target["SuspendedState"].items() if on}

    def scaled_group(self, name: str) -> Any:
        """The Auto Scaling group as the emulator shows it."""
        found = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        return found["AutoScalingGroups"][0]

    def sizes(self, name: str) -> tuple[str, str]:
        """The size of an Auto Scaling group, and the one in its tag."""
        row = self.scaled_group(name)
        tags = {tag["Key"]: tag["Value"] for tag in row["Tags"]}
        return f"{row['MinSize']}/{row['MaxSize']}/{row['DesiredCapacity']}", tags.get(CAPACITY_TAG, "")


def _target(id_: str) -> dict[str, str]:
    dimension = {"ScalableDimension": "ecs:service:DesiredCount"}
    return {"ServiceNamespace": "ecs", "ResourceId": f"service/{id_}", **dimension}


def group_tag(name: str, key: str, value: str) -> dict[str, Any]:
    """A tag of an Auto Scaling group."""
    whole = {"ResourceId": name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
    return {**whole, "Key": key, "Value": value}


_CONTAINER = {"name": "app", "image": "app:1", "memory": 64, "cpu": 64}
_LOGIN = {"MasterUsername": "root", "MasterUserPassword": "not-a-secret"}


def tagged(tag: str) -> list[dict[str, str]]:
    return [{"Key": APPLICATION_TAG, "Value": tag}]


@contextmanager
def run_ministack(directory: Path) -> Iterator[str]:
    """Run a ministack server on loopback, and yield its URL."""
    port = free_port()
    env = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "MINISTACK_REGION": REGION}
    url = f"http://127.0.0.1:{port}"
    with ChildProcess("ministack", [sys.executable, "-m", "ministack"], directory / "ministack.log", env):
        deadline = time.monotonic() + _START_SECONDS
        while not _ready(url):
            assert time.monotonic() < deadline, (directory / "ministack.log").read_text()
            time.sleep(0.1)
        yield url


def _ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/_ministack/ready") as reply:  # noqa: S310 - an address on loopback
            return bool(reply.status == 200)
    except (URLError, ConnectionError):
        return False
