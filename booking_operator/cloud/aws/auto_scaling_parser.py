"""Reads the rows of DescribeAutoScalingGroups.

See https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AutoScalingGroup.html.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from sys import intern
from typing import TYPE_CHECKING, Any

from booking_operator.cloud.aws import tags as tagging
from booking_operator.cloud.aws.tags import APPLICATION_TAG, read_lock
from booking_operator.cloud.driver import Record
from booking_operator.domain.capacity import CAPACITY_TAG, OFF, Capacity, off_reason, remembered_capacity
from booking_operator.domain.formatting import format_second
from booking_operator.domain.instance import Instance, InstanceState, MachineCounts

if TYPE_CHECKING:
    from types_aiobotocore_autoscaling.type_defs import (
        AutoScalingGroupTypeDef,
        InstanceRefreshTypeDef,
        ScheduledUpdateGroupActionTypeDef,
    )

_IN_SERVICE = "InService"
_SUSPENDED = "has the suspended process {}; resume it"
_REFRESHING = ("Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking")
"""The states of an instance refresh that has not ended."""
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

    @property
    def is_unready(self) -> bool:
        """Whether it is on, and machines are missing."""
        instance = self.record.instance
        return instance.state is InstanceState.RUNNING and not instance.ready and not self.record.left_out

    @property
    def capacity_to_remember(self) -> Capacity | None:
        """The size to restore after a stop; None if no size with machines is known.

        A group that a scaling policy has emptied gets its number of machines from before.
        """
        low, high = self.capacity.minimum, self.capacity.maximum
        if not self.capacity.is_off:
            return self.capacity
        if self.remembered is None or self.remembered.minimum > 0 or high == 0:
            return self.remembered
        return Capacity(low, high, min(max(self.remembered.desired, low, 1), high))


def read_group(row: "AutoScalingGroupTypeDef") -> ScaledGroup | None:
    """Parse one group; return None if it has no application tag or is being deleted.

    Raises:
        Exception: the group is invalid.
    """
    tags = tagging.to_dict(row.get("Tags", ()))
    if not tags.get(APPLICATION_TAG) or row.get("Status"):  # only a group that is being deleted has a status
        return None
    capacity = Capacity(row["MinSize"], row["MaxSize"], row["DesiredCapacity"])
    remembered = remembered_capacity(tags.get(CAPACITY_TAG))
    machines = row.get("Instances", ())
    in_service = sum(machine.get("LifecycleState") == _IN_SERVICE for machine in machines)
    state = _state(capacity, len(machines), remembered)
    desired = remembered.desired if remembered and state is not InstanceState.RUNNING else capacity.desired
    ignored = tagging.ignored_reason(tags)
    instance = Instance(
        row["AutoScalingGroupName"],
        state,
        lock=read_lock(tags),
        launched_at=row.get("CreatedTime"),
        sizes=tuple(intern(machine.get("InstanceType", "")) for machine in machines),
        scale=MachineCounts(desired, in_service),
        unready_reason=_launches_suspended(row) if in_service < capacity.desired else "",
        remarks=_remarks(row),
    )
    blocked = ignored or _managed_elsewhere(tags) or _obstacle(row, instance.state, tags)
    record = Record(
        tag=tags[APPLICATION_TAG],
        instance=replace(instance, blocked_reason=blocked),
        managed=tagging.asks_for_resource(tags),
        left_out=bool(ignored),
    )
    return ScaledGroup(record, capacity, remembered)


def _state(capacity: Capacity, machines: int, remembered: Capacity | None) -> InstanceState:
    """Return the power state. A group that is on counts as running before its machines are in service.

    The operator sets all three numbers to 0. If `desired` is 0 and users allow that, a scaling policy has
    scaled the group down while it was on.
    """
    idle = capacity != OFF and remembered is not None and remembered.minimum == 0
    if not capacity.is_off or idle:
        return InstanceState.RUNNING
    return InstanceState.STOPPING if machines else InstanceState.STOPPED


def with_scheduled_actions(
    group: ScaledGroup, rows: Iterable["ScheduledUpdateGroupActionTypeDef"]
) -> ScaledGroup:
    """Return the group with remarks about those of the scheduled actions that change its size."""
    own = [row for row in rows if row["AutoScalingGroupName"] == group.record.instance.id]
    texts = (
        f"has the scheduled action {row['ScheduledActionName']}, which sets its size {_when(row)}"
        for row in sorted(own, key=lambda row: row["ScheduledActionName"])
    )
    return _with_instance(group, remarks=(*group.record.instance.remarks, *texts))


def with_refreshes(group: ScaledGroup, rows: Iterable["InstanceRefreshTypeDef"]) -> ScaledGroup:
    """Return the group with the instance refresh that explains why machines are missing."""
    for row in rows:
        if row.get("Status") in _REFRESHING:
            text = (
                f"has an instance refresh in progress, which is {row.get('PercentageComplete', 0)} % complete"
            )
            return _with_instance(group, unready_reason=text)
    return group


def _with_instance(group: ScaledGroup, **changes: Any) -> ScaledGroup:
    record = replace(group.record, instance=replace(group.record.instance, **changes))
    return replace(group, record=record)


def _when(row: "ScheduledUpdateGroupActionTypeDef") -> str:
    if recurrence := row.get("Recurrence"):
        return f"by the schedule {recurrence!r} in {row.get('TimeZone') or 'UTC'}"
    start = row.get("StartTime")
    return f"at {format_second(start)}" if start is not None else "once"


def _remarks(row: "AutoScalingGroupTypeDef") -> tuple[str, ...]:
    """Return what users should know of a group: its warm pool costs money also while it is off."""
    size = row.get("WarmPoolSize", 0)
    return (f"has a warm pool of {size} machines, which it keeps while it is off",) if size else ()


def _launches_suspended(row: "AutoScalingGroupTypeDef") -> str:
    return _SUSPENDED.format("Launch") if "Launch" in _suspended_processes(row) else ""


def _suspended_processes(row: "AutoScalingGroupTypeDef") -> set[str]:
    return {item.get("ProcessName", "") for item in row.get("SuspendedProcesses", ())}


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
    if needed in _suspended_processes(row):
        return _SUSPENDED.format(needed)
    return off_reason(tags.get(CAPACITY_TAG)) if state is not InstanceState.RUNNING else ""
