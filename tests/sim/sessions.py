"""`cloud.aws.clients.Sessions` over simulated links.

The clients respond like those of botocore.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from botocore.exceptions import EndpointConnectionError, HTTPClientError, ReadTimeoutError

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.aws.clients import CALL_TIMEOUT_SECONDS
from booking_operator.cloud.aws.errors import translate_errors
from booking_operator.cloud.aws.scalable_targets import ACTIVITIES
from booking_operator.cloud.instrumentation import measured
from booking_operator.domain.group import Scope
from booking_operator.engine.clock import Clock
from booking_operator.metrics import NO_METRICS, CloudMetrics
from tests.sim.aws import READS, Machine, SimAws, rds_state
from tests.sim.kernel import Kernel
from tests.sim.network import Link, NoReplyError, NotSentError

Written = Mapping[str, str] | tuple[str, ...] | str | None
"""What a call writes: tags, the keys of tags to remove, a size, or scaling activities to suspend."""
READ_SECONDS = 20
"""Read timeout of a call."""
_URL = "https://aws.invalid"
_SERVICE_ARN = "arn:aws:ecs:eu-west-1:1:service/"


class SimSessions:
    """The clients of all accounts."""

    def __init__(
        self,
        kernel: Kernel,
        aws: SimAws,
        link: Link,
        clock: Clock,
        accounts: Accounts,
        live: Callable[[], bool],
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        self._kernel = kernel
        self._aws = aws
        self._link = link
        self._clock = clock
        self._accounts = accounts
        self._live = live
        self._metrics = metrics

    async def ec2(self, scope: Scope) -> "SimEc2":
        """Return the client of EC2; raises `CloudError` for an unknown account."""
        self._accounts.check_scope(scope)
        return SimEc2(self, scope)

    async def rds(self, scope: Scope) -> "SimRds":
        """Return the client of RDS; raises `CloudError` for an unknown account."""
        self._accounts.check_scope(scope)
        return SimRds(self, scope)

    async def autoscaling(self, scope: Scope) -> "SimAutoScaling":
        """Return the client of Auto Scaling; raises `CloudError` for an unknown account."""
        self._accounts.check_scope(scope)
        return SimAutoScaling(self, scope)

    async def ecs(self, scope: Scope) -> "SimEcs":
        """Return the client of ECS; raises `CloudError` for an unknown account."""
        self._accounts.check_scope(scope)
        return SimEcs(self, scope)

    async def tagging(self, scope: Scope) -> "SimTagging":
        """Return the client of the tagging API; raises `CloudError` for an unknown account."""
        self._accounts.check_scope(scope)
        return SimTagging(self, scope)

    async def application_autoscaling(self, scope: Scope) -> "SimScalableTargets":
        """Return the client of Application Auto Scaling; raises `CloudError` for an unknown account."""
        self._accounts.check_scope(scope)
        return SimScalableTargets(self, scope)

    async def ready(self, _service: str, scope: Scope) -> None:
        """Raise `CloudError` if the account is unknown."""
        self._accounts.check_scope(scope)

    async def release(self, _service: str, _scope: Scope) -> None:
        """Do nothing: there is no connection to close."""

    @asynccontextmanager
    async def call(self, permission: str, scope: Scope, ids: Collection[str] = ()) -> AsyncIterator[None]:
        """Measure a call and translate its errors into `CloudError`."""
        with measured(self._metrics, self._clock, permission, scope), translate_errors(permission, ids):
            async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                yield

    async def send(self, action: str, scope: Scope, ids: Sequence[str] = (), lock: Written = None) -> Any:
        """Send one call and return the response; raises the exceptions of botocore."""
        if not (action.startswith(READS) or self._live()):
            raise HTTPClientError(error="this replica is not the leader")
        sent_at, client = self._kernel.now, self._link.process.name
        serve = self._aws.serve
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._link.call(lambda: serve(client, sent_at, action, scope, ids, lock))
        except TimeoutError:
            raise ReadTimeoutError(endpoint_url=_URL) from None
        except NotSentError as error:
            raise EndpointConnectionError(endpoint_url=_URL) from error
        except NoReplyError as error:
            raise HTTPClientError(error=error) from error


def _lock_tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


class SimEc2:
    """The client of EC2."""

    def __init__(self, sessions: SimSessions, scope: Scope) -> None:
        self._send, self._scope = sessions.send, scope

    async def describe_instances(self, **_: Any) -> dict[str, Any]:
        found = await self._send("DescribeInstances", self._scope)
        instances = [
            {
                "InstanceId": machine.id,
                "State": {"Name": state},
                "InstanceType": machine.pool.partition(" in ")[0],
                "Placement": {"AvailabilityZone": machine.pool.partition(" in ")[2]},
                "Tags": [{"Key": key, "Value": value} for key, value in machine.tags.items()],
            }
            for machine, state in found
        ]
        return {"Reservations": [{"Instances": instances}]}

    async def describe_instance_status(self, InstanceIds: Sequence[str]) -> dict[str, Any]:  # noqa: N803
        found = await self._send("DescribeInstanceStatus", self._scope, tuple(InstanceIds))
        rows = []
        for id_, passed in found:
            check = {"Status": "ok" if passed else "initializing"}
            rows.append({"InstanceId": id_, "SystemStatus": check, "InstanceStatus": check})
        return {"InstanceStatuses": rows}

    async def start_instances(self, InstanceIds: Sequence[str]) -> dict[str, Any]:  # noqa: N803
        answers = await self._send("StartInstances", self._scope, tuple(InstanceIds))
        return {"StartingInstances": _changes(answers)}

    async def stop_instances(self, InstanceIds: Sequence[str], Hibernate: bool) -> dict[str, Any]:  # noqa: N803
        del Hibernate
        answers = await self._send("StopInstances", self._scope, tuple(InstanceIds))
        return {"StoppingInstances": _changes(answers)}

    async def create_tags(self, Resources: Sequence[str], Tags: Any) -> None:  # noqa: N803
        await self._send("CreateTags", self._scope, tuple(Resources), _lock_tags(Tags))

    async def delete_tags(self, Resources: Sequence[str], Tags: Any) -> None:  # noqa: N803
        del Tags
        await self._send("DeleteTags", self._scope, tuple(Resources))


def _changes(answers: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"InstanceId": id_, "PreviousState": {"Name": before}, "CurrentState": {"Name": now}}
        for id_, (before, now) in answers.items()
    ]


class SimRds:
    """The client of RDS. There are no DB clusters."""

    def __init__(self, sessions: SimSessions, scope: Scope) -> None:
        self._send, self._scope = sessions.send, scope

    async def describe_db_clusters(self, **_: Any) -> dict[str, Any]:
        await self._send("DescribeDBClusters", self._scope)
        return {"DBClusters": []}

    async def describe_db_instances(self, **_: Any) -> dict[str, Any]:
        found = await self._send("DescribeDBInstances", self._scope)
        rows = [
            {
                "DBInstanceIdentifier": machine.id[3:],
                "DBInstanceArn": f"arn:aws:rds:eu-west-1:1:{machine.id}",
                "DBInstanceStatus": rds_state(state),
                "TagList": [{"Key": key, "Value": value} for key, value in machine.tags.items()],
            }
            for machine, state in found
        ]
        return {"DBInstances": rows}

    async def start_db_instance(self, DBInstanceIdentifier: str) -> None:  # noqa: N803
        await self._send("StartDBInstance", self._scope, (f"db:{DBInstanceIdentifier}",))

    async def stop_db_instance(self, DBInstanceIdentifier: str) -> None:  # noqa: N803
        await self._send("StopDBInstance", self._scope, (f"db:{DBInstanceIdentifier}",))

    async def add_tags_to_resource(self, ResourceName: str, Tags: Any) -> None:  # noqa: N803
        await self._send("AddTagsToResource", self._scope, (_id(ResourceName),), _lock_tags(Tags))

    async def remove_tags_from_resource(self, ResourceName: str, TagKeys: Any) -> None:  # noqa: N803
        del TagKeys
        await self._send("RemoveTagsFromResource", self._scope, (_id(ResourceName),))


_LIFECYCLES = {"pending": "Pending", "running": "InService", "stopping": "Terminating"}


class SimAutoScaling:
    """The client of Auto Scaling."""

    def __init__(self, sessions: SimSessions, scope: Scope) -> None:
        self._send, self._scope = sessions.send, scope

    async def describe_auto_scaling_groups(
        self,
        AutoScalingGroupNames: Sequence[str] = (),  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        found = await self._send("DescribeAutoScalingGroups", self._scope, tuple(AutoScalingGroupNames))
        return {"AutoScalingGroups": [_group_row(machine, state) for machine, state in found]}

    async def describe_scheduled_actions(self, **_: Any) -> dict[str, Any]:
        return {"ScheduledUpdateGroupActions": []}

    async def describe_instance_refreshes(self, **_: Any) -> dict[str, Any]:
        return {"InstanceRefreshes": []}

    async def update_auto_scaling_group(
        self,
        AutoScalingGroupName: str,  # noqa: N803
        MinSize: int,  # noqa: N803
        MaxSize: int,  # noqa: N803
        DesiredCapacity: int,  # noqa: N803
    ) -> None:
        size = f"{MinSize}/{MaxSize}/{DesiredCapacity}"
        await self._send("UpdateAutoScalingGroup", self._scope, (AutoScalingGroupName,), size)

    async def create_or_update_tags(self, Tags: Any) -> None:  # noqa: N803
        ids = tuple({tag["ResourceId"]: None for tag in Tags})
        await self._send("CreateOrUpdateTags", self._scope, ids, _lock_tags(Tags))

    async def delete_tags(self, Tags: Any) -> None:  # noqa: N803
        await self._send("DeleteTags", self._scope, tuple({tag["ResourceId"]: None for tag in Tags}))


def _group_row(machine: Machine, state: str) -> dict[str, Any]:
    """The row of a group with one machine. Its size may be newer than the state."""
    low, high, desired = (int(part) for part in machine.capacity.split("/"))
    machine_row = {"InstanceType": "m5.large", "LifecycleState": _LIFECYCLES.get(state, "")}
    return {
        "AutoScalingGroupName": machine.id,
        "MinSize": low,
        "MaxSize": high,
        "DesiredCapacity": desired,
        "Instances": [machine_row] if state in _LIFECYCLES else [],
        "Tags": [{"Key": key, "Value": value} for key, value in machine.tags.items()],
    }


class SimTagging:
    """The client of the tagging API. It shows ECS services."""

    def __init__(self, sessions: SimSessions, scope: Scope) -> None:
        self._send, self._scope = sessions.send, scope

    async def get_resources(self, **_: Any) -> dict[str, Any]:
        found = await self._send("GetResources", self._scope)
        return {
            "ResourceTagMappingList": [{"ResourceARN": _SERVICE_ARN + machine.id} for machine, _ in found]
        }


class SimEcs:
    """The client of ECS."""

    def __init__(self, sessions: SimSessions, scope: Scope) -> None:
        self._send, self._scope = sessions.send, scope

    async def describe_services(self, services: Sequence[str], **_: Any) -> dict[str, Any]:
        found = await self._send("DescribeServices", self._scope, tuple(map(_service_id, services)))
        return {"services": [_service_row(machine, state) for machine, state in found]}

    async def update_service(self, service: str, desiredCount: int, **_: Any) -> None:  # noqa: N803
        await self._send("UpdateService", self._scope, (_service_id(service),), str(desiredCount))

    async def tag_resource(self, resourceArn: str, tags: Any) -> None:  # noqa: N803
        written = {tag["key"]: tag["value"] for tag in tags}
        await self._send("TagResource", self._scope, (_service_id(resourceArn),), written)

    async def untag_resource(self, resourceArn: str, tagKeys: Sequence[str]) -> None:  # noqa: N803
        await self._send("UntagResource", self._scope, (_service_id(resourceArn),), tuple(tagKeys))


class SimScalableTargets:
    """The client of Application Auto Scaling."""

    def __init__(self, sessions: SimSessions, scope: Scope) -> None:
        self._send, self._scope = sessions.send, scope

    async def describe_scalable_targets(self, ResourceIds: Sequence[str], **_: Any) -> dict[str, Any]:  # noqa: N803
        ids = tuple(id_.removeprefix("service/") for id_ in ResourceIds)
        found = await self._send("DescribeScalableTargets", self._scope, ids)
        return {
            "ScalableTargets": [_target_row(machine) for machine, _ in found if machine.suspended is not None]
        }

    async def register_scalable_target(
        self,
        ResourceId: str,  # noqa: N803
        SuspendedState: Mapping[str, bool],  # noqa: N803
        **_: Any,
    ) -> None:
        suspended = " ".join(name.removesuffix("Suspended") for name, on in SuspendedState.items() if on)
        ids = (ResourceId.removeprefix("service/"),)
        await self._send("RegisterScalableTarget", self._scope, ids, suspended)


def _service_row(machine: Machine, state: str) -> dict[str, Any]:
    """The row of a service with one task. Its size may be newer than the state."""
    desired = int(machine.capacity.rpartition("/")[2])
    return {
        "serviceArn": _SERVICE_ARN + machine.id,
        "status": "INACTIVE" if state == "terminated" else "ACTIVE",
        "desiredCount": desired,
        "runningCount": int(state == "running"),
        "pendingCount": int(state == "pending"),
        "launchType": "FARGATE",
        "tags": [{"key": key, "value": value} for key, value in machine.tags.items()],
    }


def _target_row(machine: Machine) -> dict[str, Any]:
    low, high, _ = machine.wanted_capacity.split("/")
    suspended = machine.suspended or frozenset()
    return {
        "ResourceId": f"service/{machine.id}",
        "MinCapacity": int(low),
        "MaxCapacity": int(high),
        "SuspendedState": {f"{name}Suspended": name in suspended for name in ACTIVITIES},
    }


def _service_id(arn: str) -> str:
    return arn.removeprefix(_SERVICE_ARN)


def _id(arn: str) -> str:
    return arn.partition(":rds:eu-west-1:1:")[2]
