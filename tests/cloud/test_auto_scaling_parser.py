"""How rows of DescribeAutoScalingGroups are read."""

from typing import Any

import pytest

from booking_operator.cloud.aws.auto_scaling_parser import ScaledGroup, read_group
from booking_operator.domain.capacity import CAPACITY_TAG, Capacity
from booking_operator.domain.instance import InstanceState, Lock, MachineCounts

RUNNING, STOPPED, STOPPING = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.STOPPING


def row(capacity: str = "1/4/2", *machines: str, **tags: str) -> Any:
    """A row with machines in the given states of their lifecycle."""
    low, high, desired = (int(part) for part in capacity.split("/"))
    whole = {"resource-booking-application": "front", **{key.replace("_", "-"): tags[key] for key in tags}}
    return {
        "AutoScalingGroupName": "web",
        "MinSize": low,
        "MaxSize": high,
        "DesiredCapacity": desired,
        "Instances": [{"InstanceType": "m5.large", "LifecycleState": state} for state in machines],
        "Tags": [{"Key": key, "Value": value} for key, value in whole.items()],
    }


def read(found: Any) -> ScaledGroup:
    group = read_group(found)
    assert group is not None
    return group


@pytest.mark.parametrize(
    ("found", "state", "scale"),
    [
        (row("1/4/2", "InService", "InService"), RUNNING, MachineCounts(2, 2)),
        (row("1/4/2", "InService", "Pending:Wait"), RUNNING, MachineCounts(2, 1)),
        (row("1/4/2"), RUNNING, MachineCounts(2, 0)),
        (row("1/4/1", "InService", "Terminating"), RUNNING, MachineCounts(1, 1)),
        (row("0/0/0", "Terminating:Wait", resource_booking_capacity="1/4/2"), STOPPING, MachineCounts(2, 0)),
        (row("0/0/0", resource_booking_capacity="1/4/2"), STOPPED, MachineCounts(2, 0)),
        (row("0/4/0"), STOPPED, MachineCounts(0, 0)),
        (row("0/0/0", resource_booking_capacity="nonsense"), STOPPED, MachineCounts(0, 0)),
    ],
)
def test_the_state_and_the_machines_of_a_group(
    found: Any, state: InstanceState, scale: MachineCounts
) -> None:
    instance = read(found).record.instance
    assert (instance.state, instance.scale) == (state, scale)
    assert len(instance.sizes) == len(found["Instances"])


def test_the_tags_of_a_group() -> None:
    lock = {"resource_booking_locked_by": "ada", "resource_booking_locked_until": "2026-01-05T10:00:00Z"}
    found = read(row("0/0/0", resource_booking_capacity="1/4/2", resource_booking_managed="true", **lock))
    assert (found.capacity, found.remembered) == (Capacity(0, 0, 0), Capacity(1, 4, 2))
    assert found.record.tag == "front"
    assert found.record.managed
    assert found.record.instance.lock == Lock("ada", "2026-01-05T10:00:00Z")


@pytest.mark.parametrize(
    "found",
    [
        row() | {"Tags": []},
        row() | {"Status": "Delete in progress"},
    ],
)
def test_a_group_that_is_not_the_operators_or_is_being_deleted_is_left_out(found: Any) -> None:
    assert read_group(found) is None


def suspended(found: Any, *processes: str) -> Any:
    return found | {"SuspendedProcesses": [{"ProcessName": process} for process in processes]}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (row(), ""),
        (row("0/0/0", resource_booking_capacity="1/4/2"), ""),
        (row("0/0/0"), "has the size 0, and its size from before is not known; set its size once"),
        (
            row("0/0/0", resource_booking_capacity="2/1/1"),
            f"has the size 0, and its tag {CAPACITY_TAG} is not valid: desired in '2/1/1' is not between",
        ),
        (suspended(row(), "Launch", "AZRebalance"), ""),
        (suspended(row(), "Terminate"), "has the suspended process Terminate; resume it"),
        (
            suspended(row("0/0/0", resource_booking_capacity="1/4/2"), "Launch"),
            "has the suspended process Launch; resume it",
        ),
        (
            row(**{"eks:nodegroup_name": "blue"}),
            "belongs to the EKS node group blue, which sets its size; scale the node group instead",
        ),
        (row(resource_booking_ignore="true"), "has the tag resource-booking-ignore=true"),
    ],
)
def test_why_a_group_is_not_switched(found: Any, reason: str) -> None:
    record = read(found).record
    assert record.instance.blocked_reason.startswith(reason)
    assert bool(record.instance.blocked_reason) == bool(reason)
    assert record.left_out == ("ignore" in reason)
