"""The EC2 calls: it finds instances by tag, and starts and stops them by id."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from sys import intern
from typing import TYPE_CHECKING

from booking_operator.cloud.aws import tags as tagging
from booking_operator.cloud.aws.base import BaseApi
from booking_operator.cloud.aws.errors import clean_message
from booking_operator.cloud.aws.records import Reading
from booking_operator.cloud.aws.tags import (
    APPLICATION_TAG,
    IGNORE_TAG,
    LOCK_TAGS,
    read_lock,
    write_lock,
)
from booking_operator.cloud.driver import (
    TAGGED,
    Action,
    ActionAnswer,
    CloudError,
    Operation,
    Record,
    always,
    api_action,
)
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Instance, InstanceState
from booking_operator.domain.services import SERVICES

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        DescribeInstancesResultTypeDef,
        FilterTypeDef,
        InstanceStateChangeTypeDef,
        InstanceStateTypeDef,
        InstanceStatusTypeDef,
        InstanceTypeDef,
        StateReasonTypeDef,
    )

PAGE = 1000
"""Instances per page: the maximum of EC2."""

_FILTERS: list["FilterTypeDef"] = [
    {"Name": "tag-key", "Values": [APPLICATION_TAG]},
    # Exclude terminated instances, which EC2 shows for an hour.
    {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
]
_KNOWN = frozenset(InstanceState)
_NO_FAILURES = frozenset(
    {
        "Client.InstanceInitiatedShutdown",
        "Client.UserInitiatedHibernate",
        "Client.UserInitiatedShutdown",
        "Server.ScheduledStop",
        "Server.SpotInstanceShutdown",
        "Server.SpotInstanceTermination",
    }
)
"""Reasons for which a running instance was stopped. All other reasons mean that a start failed. See
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html."""


_OWNERS: Mapping[str, str] = {
    "aws:autoscaling:groupName": "the Auto Scaling group {}",
    "aws:ec2spot:fleet-request-id": "the Spot Fleet {}",
    "aws:elasticmapreduce:job-flow-id": "the EMR cluster {}",
}
"""The tags of services that manage instances and replace the ones that stop. The services write the tags. See
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-tagging.html,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-fleet-prerequisites.html and
https://docs.aws.amazon.com/emr/latest/ManagementGuide/emr-plan-tags.html."""


class Ec2Api(BaseApi):
    """The `ServiceApi` of `cloud.driver` for EC2."""

    facts = SERVICES["ec2"]
    client_names = ("ec2",)

    async def describe(self, scope: Scope) -> list[Record]:
        """Return all existing instances of `scope` that have the application tag.

        Raises:
            CloudError: a call failed.
        """
        records, reading = list[Record](), Reading()
        describe = (await self._clients.ec2(scope)).describe_instances
        pages = self._pages(scope, "ec2:DescribeInstances", describe, Filters=_FILTERS, MaxResults=PAGE)
        async for page in pages:
            records.extend(_records(page, reading))
        self._skipped.note(scope, reading)
        return records

    async def check(self, scope: Scope, ids: Collection[str]) -> Mapping[str, str]:
        """Return why running instances are not ready, by id: which of their status checks have not passed.

        An instance that AWS does not know any more is left out of the result.

        Raises:
            CloudError: a call failed.
        """
        client, some = await self._clients.ec2(scope), sorted(ids)
        while some:
            slot = self._describes.slot(scope, "DescribeInstanceStatus")
            try:
                async with slot, self._clients.call("ec2:DescribeInstanceStatus", scope, some):
                    response = await client.describe_instance_status(InstanceIds=some)
            except CloudError as error:
                known = [id_ for id_ in some if id_ not in error.ids]
                if known == some or not error.reason.startswith("InvalidInstanceID"):
                    raise
                some = known
                continue
            rows = (row for row in response.get("InstanceStatuses", ()) if row.get("InstanceId") in some)
            unknown = dict.fromkeys(some, "has no status checks yet")
            return unknown | {row["InstanceId"]: _problem(row) for row in rows}
        return {}

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str], _: Callable[[], bool] = always
    ) -> Mapping[str, ActionAnswer]:
        """Start, stop or tag instances. The result contains those for which EC2 accepted it.

        Raises:
            CloudError: EC2 refused the call, or the response was lost; `ids` are those that EC2 named as the
                cause.
        """
        client = await self._clients.ec2(scope)
        async with self._clients.call(f"ec2:{api_action(self.facts, operation.action)}", scope, ids):
            match operation.action:
                case Action.START:
                    return _answers((await client.start_instances(InstanceIds=ids))["StartingInstances"])
                case Action.TAG if operation.lock:
                    await client.create_tags(Resources=ids, Tags=write_lock(operation.lock))
                case Action.TAG | Action.UNTAG:
                    await client.delete_tags(Resources=ids, Tags=[{"Key": key} for key in LOCK_TAGS])
                case Action.STOP | Action.HIBERNATE:
                    hibernate = operation.action is Action.HIBERNATE
                    stopped = await client.stop_instances(InstanceIds=ids, Hibernate=hibernate)
                    return _answers(stopped["StoppingInstances"])
        return dict.fromkeys(ids, TAGGED)


def _problem(row: "InstanceStatusTypeDef") -> str:
    """Return which of the two status checks have not passed; empty if both have.

    See https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceStatusSummary.html.
    """
    found = {"system": row.get("SystemStatus", {}), "instance": row.get("InstanceStatus", {})}
    open_ = [(name, check.get("Status", "missing")) for name, check in found.items()]
    parts = [f"its {name} status check is {status}" for name, status in open_ if status != "ok"]
    return f"is not ready: {' and '.join(parts)}" if parts else ""


def _records(page: "DescribeInstancesResultTypeDef", reading: Reading) -> Iterable[Record]:
    for reservation in page.get("Reservations", ()):
        for instance in reservation.get("Instances", ()):
            record = reading.read(instance, _record, "InstanceId")
            if record is not None:
                yield record


def _record(instance: "InstanceTypeDef") -> Record | None:
    """Parse one instance; return None if it has no application tag or no relevant state.

    Raises:
        Exception: the instance is invalid.
    """
    tags = tagging.to_dict(instance.get("Tags", ()))
    state = _state(instance.get("State"))
    if state is None or not tags.get(APPLICATION_TAG):
        return None
    if not instance["InstanceId"]:
        raise ValueError("InstanceId is missing")
    ignored = tagging.ignored_reason(tags)
    return Record(
        tag=tags[APPLICATION_TAG],
        instance=Instance(
            instance["InstanceId"],
            state,
            ignored or _obstacle(instance) or _managed_elsewhere(tags),
            read_lock(tags),
            launched_at=_launched_at(instance),
            sizes=(intern(instance.get("InstanceType", "")),),
        ),
        pool=_pool(instance),
        hibernates=instance.get("HibernationOptions", {}).get("Configured", False),
        managed=tagging.asks_for_resource(tags),
        left_out=bool(ignored),
        failure_reason=_failure(instance.get("StateReason", {})) if state is InstanceState.STOPPED else "",
    )


def _obstacle(instance: "InstanceTypeDef") -> str:
    """Return why EC2 can never stop an instance; empty if it can.

    See https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Stop_Start.html.
    """
    if instance.get("RootDeviceType") == "instance-store":
        return "cannot be stopped: its root device is an instance store"
    return ""


def _managed_elsewhere(tags: Mapping[str, str]) -> str:
    """Return which other service of AWS manages an instance; empty if none does."""
    for key, owner in _OWNERS.items():
        if name := tags.get(key):
            return (
                f"belongs to {owner.format(name)}, which would replace it when it stops; give it the tag "
                f"{IGNORE_TAG}=true, or remove its tag {APPLICATION_TAG}"
            )
    return ""


def _launched_at(instance: "InstanceTypeDef") -> datetime | None:
    """Return when the root volume was attached. `LaunchTime` is the last start, so it is of no use here."""
    root = instance.get("RootDeviceName")
    for device in instance.get("BlockDeviceMappings", ()):
        if root and device.get("DeviceName") == root:
            return device.get("Ebs", {}).get("AttachTime")
    return None


def _failure(why: "StateReasonTypeDef") -> str:
    """Return the state reason of a failed start; its message usually begins with the code."""
    code, message = why.get("Code", ""), why.get("Message", "")
    if code in _NO_FAILURES or not code.startswith(("Client.", "Server.")):
        return ""
    return clean_message(message if message.startswith(code) else f"{code}: {message}")


def _pool(instance: "InstanceTypeDef") -> str:
    zone = instance.get("Placement", {}).get("AvailabilityZone", "")
    return f"{instance['InstanceType']} in {zone}" if zone and instance.get("InstanceType") else ""


def _answers(changes: Iterable["InstanceStateChangeTypeDef"]) -> dict[str, ActionAnswer]:
    """Return the states of the instances that exist. A terminated instance is neither started nor stopped.

    An entry without an id is ignored.
    """
    answers = {}
    for change in changes:
        id_, now = change.get("InstanceId"), _state(change.get("CurrentState"))
        if id_ and now is not None:
            answers[id_] = ActionAnswer(before=_state(change.get("PreviousState")), now=now)
    return answers


def _state(shown: "InstanceStateTypeDef | None") -> InstanceState | None:
    """Convert an EC2 state; return None for terminated and terminating instances."""
    name = (shown or {}).get("Name")
    return InstanceState(name) if name in _KNOWN else None
