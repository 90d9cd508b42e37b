"""How rows of DescribeAutoScalingGroups are read."""

from datetime import UTC, datetime
from typing import Any

import pytest

from booking_operator.cloud.aws.auto_scaling_parser import (
    ScaledGroup,
    read_group,
    with_refreshes,
    with_scheduled_actions,
)
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
        (row("0/4/0", resource_booking_capacity="0/4/2"), RUNNING, MachineCounts(0, 0)),
        (row("0/4/0", resource_booking_capacity="1/4/2"), STOPPED, MachineCounts(2, 0)),
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


def test_a_warm_pool_is_a_remark() -> None:
    remark = "has a warm pool of 2 machines, which it keeps while it is off"
    assert read(row() | {"WarmPoolSize": 2}).record.instance.remarks == (remark,)
    assert read(row() | {"WarmPoolSize": 0}).record.instance.remarks == ()


def test_a_suspended_launch_explains_missing_machines() -> None:
    found = row("1/4/2", "InService") | {"SuspendedProcesses": [{"ProcessName": "Launch"}]}
    instance = read(found).record.instance
    assert (instance.blocked_reason, instance.ready) == ("", False)
    assert instance.unready_reason == "has the suspended process Launch; resume it"
    assert read(row("1/4/2", "InService")).record.instance.unready_reason == ""


@pytest.mark.parametrize(
    ("action", "when"),
    [
        ({"Recurrence": "0 20 * * *"}, "by the schedule '0 20 * * *' in UTC"),
        (
            {"Recurrence": "0 20 * * *", "TimeZone": "Europe/Berlin"},
            "by the schedule '0 20 * * *' in Europe/Berlin",
        ),
        ({"StartTime": datetime(2026, 1, 5, 20, tzinfo=UTC)}, "at 2026-01-05T20:00:00Z"),
        ({}, "once"),
    ],
)
def test_scheduled_actions_are_remarks(action: Any, when: str) -> None:
    own: Any = {"AutoScalingGroupName": "web", "ScheduledActionName": "night", **action}
    other = own | {"AutoScalingGroupName": "api"}
    found = with_scheduled_actions(read(row()), [other, own])
    assert found.record.instance.remarks == (f"has the scheduled action night, which sets its size {when}",)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("InProgress", "has an instance refresh in progress, which is 40 % complete"),
        ("Pending", "has an instance refresh in progress, which is 40 % complete"),
        ("Successful", ""),
        ("Failed", ""),
    ],
)
def test_only_a_refresh_in_progress_explains_missing_machines(status: str, reason: str) -> None:
    rows: Any = [{"Status": status, "PercentageComplete": 40}]
    assert with_refreshes(read(row("1/4/2")), rows).record.instance.unready_reason == reason
    assert with_refreshes(read(row("1/4/2")), []).record.instance.unready_reason == ""
