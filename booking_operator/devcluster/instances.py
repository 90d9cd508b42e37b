"""Tagged instances, databases, Auto Scaling groups and ECS services in the fake AWS."""

from collections.abc import Mapping, Sequence
from typing import Any

import boto3

from booking_operator.cloud.aws.tags import APPLICATION_TAG, MANAGED_TAG
from booking_operator.devcluster.moto import CREDENTIALS
from booking_operator.domain.capacity import Capacity, parse_capacity


class Instances:
    """Creates groups of instances, and reads their states."""

    def __init__(self, url: str) -> None:
        self._ec2 = _client("ec2", url)
        self._image = ""

    def create(self, tag: str, count: int) -> list[str]:
        """Launch `count` instances of one group, stop them, and return their ids."""
        self._image = self._image or self._ec2.describe_images()["Images"][0]["ImageId"]
        launched = self._ec2.run_instances(
            ImageId=self._image,
            MinCount=count,
            MaxCount=count,
            TagSpecifications=[{"ResourceType": "instance", "Tags": _tags(tag)}],
        )
        ids = [instance["InstanceId"] for instance in launched["Instances"]]
        self._ec2.stop_instances(InstanceIds=ids)
        return ids

    def start(self, tag: str, count: int | None = None) -> list[str]:
        """Start the first `count` instances of a group, or all of them, as a user would. Return their ids."""
        ids = [instance["InstanceId"] for instance in self._group(tag)][:count]
        self._ec2.start_instances(InstanceIds=ids)
        return ids

    def terminate(self, tag: str) -> None:
        """Terminate all instances of a group."""
        self._ec2.terminate_instances(InstanceIds=[instance["InstanceId"] for instance in self._group(tag)])

    def mark(self, ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """Write tags on instances, as another AWS client would."""
        written = [{"Key": key, "Value": value} for key, value in tags.items()]
        self._ec2.create_tags(Resources=list(ids), Tags=written)

    def tags(self, tag: str) -> list[dict[str, str]]:
        """Return all tags of each instance of one group."""
        return [{item["Key"]: item["Value"] for item in found["Tags"]} for found in self._group(tag)]

    def states(self, tag: str) -> list[str]:
        """Return the power states of one group."""
        return [instance["State"]["Name"] for instance in self._group(tag)]

    def _group(self, tag: str) -> list[dict[str, Any]]:
        found = self._ec2.describe_instances(Filters=[{"Name": f"tag:{APPLICATION_TAG}", "Values": [tag]}])
        return [instance for reservation in found["Reservations"] for instance in reservation["Instances"]]


class Databases:
    """Creates databases of a group, and reads their states."""

    def __init__(self, url: str) -> None:
        self._rds = _client("rds", url)

    def create(self, tag: str, name: str) -> None:
        """Launch one DB instance of a group, and stop it."""
        self._rds.create_db_instance(
            DBInstanceIdentifier=name,
            DBInstanceClass="db.t4g.micro",
            Engine="postgres",
            AllocatedStorage=20,
            MasterUsername="root",
            MasterUserPassword="not-a-secret",
            Tags=_tags(tag),
        )
        self._rds.stop_db_instance(DBInstanceIdentifier=name)

    def start(self, name: str) -> None:
        """Start a DB instance without the operator, as AWS does after seven days."""
        self._rds.start_db_instance(DBInstanceIdentifier=name)

    def state(self, name: str) -> str:
        """Return the RDS status of a DB instance."""
        (found,) = self._rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
        return str(found["DBInstanceStatus"])


class ScaledGroups:
    """Creates Auto Scaling groups, and reads their sizes."""

    def __init__(self, url: str) -> None:
        self._client = _client("autoscaling", url)
        self._ec2 = _client("ec2", url)

    def create(self, tag: str, name: str, capacity: str = "1/4/2") -> None:
        """Create a group that is on, with a size like `min/max/desired`."""
        size = parse_capacity(capacity)
        self._client.create_launch_configuration(
            LaunchConfigurationName=name,
            ImageId=self._ec2.describe_images()["Images"][0]["ImageId"],
            InstanceType="t3.micro",
        )
        whole = {"ResourceId": name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": False}
        self._client.create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchConfigurationName=name,
            MinSize=size.minimum,
            MaxSize=size.maximum,
            DesiredCapacity=size.desired,
            AvailabilityZones=[f"{CREDENTIALS['AWS_REGION']}a"],
            Tags=[{**whole, **item} for item in _tags(tag)],
        )

    def capacity(self, name: str) -> str:
        """Return the size of a group: `min/max/desired`."""
        found = self._group(name)
        return str(Capacity(found["MinSize"], found["MaxSize"], found["DesiredCapacity"]))

    def tags(self, name: str) -> dict[str, str]:
        """Return the tags of a group."""
        return {item["Key"]: item["Value"] for item in self._group(name)["Tags"]}

    def _group(self, name: str) -> dict[str, Any]:
        found = self._client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        return dict(found["AutoScalingGroups"][0])


class Services:
    """Creates ECS services, and reads their sizes. An id is `cluster/service`."""

    def __init__(self, url: str) -> None:
        self._client = _client("ecs", url)
        self._scaling = _client("application-autoscaling", url)

    def create(self, tag: str, id_: str, desired: int = 2, scale: tuple[int, int] | None = None) -> None:
        """Create a service with running tasks.

        Args:
            tag: the group that it belongs to.
            id_: its id.
            desired: its number of tasks.
            scale: the smallest and the largest number of tasks of its scalable target; None without one.
        """
        cluster, name = id_.split("/")
        self._client.create_cluster(clusterName=cluster)
        container = {"name": "app", "image": "app:1", "memory": 64, "cpu": 64}
        self._client.register_task_definition(family=name, containerDefinitions=[container])
        tags = [{"key": tag["Key"], "value": tag["Value"]} for tag in _tags(tag)]
        service = {"cluster": cluster, "serviceName": name, "taskDefinition": name, "tags": tags}
        self._client.create_service(**service, desiredCount=desired, launchType="FARGATE")
        self.resize(id_, desired)  # the fake AWS runs no tasks before
        if scale is not None:
            low, high = scale
            self._scaling.register_scalable_target(**_target(id_), MinCapacity=low, MaxCapacity=high)

    def resize(self, id_: str, desired: int) -> None:
        """Set the number of tasks, as a user would."""
        cluster, name = id_.split("/")
        self._client.update_service(cluster=cluster, service=name, desiredCount=desired)

    def desired(self, id_: str) -> int:
        """Return the number of tasks that a service should run."""
        return int(self._service(id_)["desiredCount"])

    def tags(self, id_: str) -> dict[str, str]:
        """Return the tags of a service."""
        return {item["key"]: item["value"] for item in self._service(id_)["tags"]}

    def suspended(self, id_: str) -> set[bool]:
        """Return whether the scaling activities of a service are suspended: all, none, or some of them."""
        whole = {"ServiceNamespace": "ecs", "ResourceIds": [f"service/{id_}"]}
        (target,) = self._scaling.describe_scalable_targets(**whole)["ScalableTargets"]
        return set(target["SuspendedState"].values())

    def _service(self, id_: str) -> dict[str, Any]:
        cluster, name = id_.split("/")
        found = self._client.describe_services(cluster=cluster, services=[name], include=["TAGS"])
        return dict(found["services"][0])


def _target(id_: str) -> dict[str, str]:
    dimension = {"ScalableDimension": "ecs:service:DesiredCount"}
    return {"ServiceNamespace": "ecs", "ResourceId": f"service/{id_}", **dimension}


def _client(service: str, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=CREDENTIALS["AWS_REGION"],
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def _tags(tag: str) -> list[dict[str, str]]:
    return [{"Key": APPLICATION_TAG, "Value": tag}, {"Key": MANAGED_TAG, "Value": "true"}]
