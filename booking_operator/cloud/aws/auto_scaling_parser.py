"""Reads the rows of DescribeAutoScalingGroups.

See https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AutoScalingGroup.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from sys import intern
from typing import TYPE_CHECKING

from booking_operator.cloud.aws import tags as tagging
from booking_operator.cloud.aws.tags import APPLICATION_TAG, read_lock
from booking_operator.cloud.driver import Record
from booking_operator.domain.capacity import CAPACITY_TAG, Capacity, off_reason, parse_capacity
from booking_operator.domain.instance import Instance, InstanceState, MachineCounts

if TYPE_CHECKING:
    from types_aiobotocore_autoscaling.type_defs import AutoScalingGroupTypeDef

_IN_SERVICE = "InService"
_NODE_GROUP_TAG = "eks:nodegroup-name"
"""EKS writes this tag on the groups of its managed node groups. See
https://docs.aws.amazon.com/eks/latest/userguide/managed-node-groups.html."""


@dataclass(frozen=True, slots=True)
class ScaledGroup:
    """One Auto Scaling group.

    Attributes:
        record: the group, as the inventory shows it.
        capacity: its present size.
        remembered: the size in its tag; None without a valid tag.
    """

    record: Record
    capacity: Capacity
    remembered: Capacity | None


def read_group(row: "AutoScalingGroupTypeDef") -> ScaledGroup | None:
    """Parse one group; return None if it has no application tag or is being deleted.

    Raises:
        Exception: the group is invalid.
    """
    tags = tagging.to_dict(row.get("Tags", ()))
    if not tags.get(APPLICATION_TAG) or row.get("Status"):  # only a group that is being deleted has a status
        return None
    capacity = Capacity(row["MinSize"], row["MaxSize"], row["DesiredCapacity"])
    remembered = _remembered(tags)
    machines = row.get("Instances", ())
    in_service = sum(machine.get("LifecycleState") == _IN_SERVICE for machine in machines)
    desired = capacity.desired or (remembered.desired if remembered else 0)
    ignored = tagging.ignored_reason(tags)
    instance = Instance(
        row["AutoScalingGroupName"],
        _state(capacity, len(machines)),
        lock=read_lock(tags),
        launched_at=row.get("CreatedTime"),
        sizes=tuple(intern(machine.get("InstanceType", "")) for machine in machines),
        scale=MachineCounts(desired, in_service),
    )
    blocked = ignored or _managed_elsewhere(tags) or _obstacle(row, instance.state, tags)
    record = Record(
        tag=tags[APPLICATION_TAG],
        instance=replace(instance, blocked_reason=blocked),
        managed=tagging.asks_for_resource(tags),
        left_out=bool(ignored),
    )
    return ScaledGroup(record, capacity, remembered)


def _remembered(tags: Mapping[str, str]) -> Capacity | None:
    try:
        return parse_capacity(tags.get(CAPACITY_TAG, ""))
    except ValueError:  # `off_reason` says what is wrong
        return None


def _state(capacity: Capacity, machines: int) -> InstanceState:
    """Return the power state. A group that is on counts as running before its machines are in service."""
    if not capacity.is_off:
        return InstanceState.RUNNING
    return InstanceState.STOPPING if machines else InstanceState.STOPPED


def _managed_elsewhere(tags: Mapping[str, str]) -> str:
    """Return which other service of AWS sets the size of a group; empty if none does."""
    if name := tags.get(_NODE_GROUP_TAG):
        return (
            f"belongs to the EKS node group {name}, which sets its size; scale the node group instead, and "
            f"remove the tag {APPLICATION_TAG}"
        )
    return ""


def _obstacle(row: "AutoScalingGroupTypeDef", state: InstanceState, tags: Mapping[str, str]) -> str:
    """Return why the group cannot be switched on or off now; empty if it can."""
    needed = "Terminate" if state is InstanceState.RUNNING else "Launch"
    suspended = {item.get("ProcessName") for item in row.get("SuspendedProcesses", ())}
    if needed in suspended:
        return f"has the suspended process {needed}; resume it"
    return off_reason(tags.get(CAPACITY_TAG)) if state is not InstanceState.RUNNING else ""
