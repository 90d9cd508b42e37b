"""How rows of DescribeServices are read."""

from typing import Any

import pytest

from booking_operator.cloud.aws.ecs_parser import EcsService, cluster_of, read_service
from booking_operator.cloud.aws.scalable_targets import (
    ALL,
    ScalableTarget,
    format_suspended,
    parse_suspended,
)
from booking_operator.domain.capacity import CAPACITY_TAG, Capacity
from booking_operator.domain.instance import InstanceState, Lock, MachineCounts

RUNNING, STOPPED, STOPPING = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.STOPPING
ARN = "arn:aws:ecs:eu-west-1:123456789012:service/main/api"


def row(desired: int = 2, running: int = 0, pending: int = 0, **tags: Any) -> Any:
    """A row of a service with these numbers of tasks."""
    whole = {"resource-booking-application": "front", **{key.replace("_", "-"): tags[key] for key in tags}}
    return {
        "serviceArn": ARN,
        "status": "ACTIVE",
        "desiredCount": desired,
        "runningCount": running,
        "pendingCount": pending,
        "launchType": "FARGATE",
        "schedulingStrategy": "REPLICA",
        "tags": [{"key": key, "value": value} for key, value in whole.items()],
    }


def read(found: Any) -> EcsService:
    service = read_service(found)
    assert service is not None
    return service


@pytest.mark.parametrize(
    ("found", "state", "scale"),
    [
        (row(2, 2), RUNNING, MachineCounts(2, 2)),
        (row(2, 3), RUNNING, MachineCounts(2, 3)),
        (row(2, 0, 2), RUNNING, MachineCounts(2, 0)),
        (row(0, 2, resource_booking_capacity="2/2/2"), STOPPING, MachineCounts(2, 2)),
        (row(0, 0, 1, resource_booking_capacity="2/2/2"), STOPPING, MachineCounts(2, 0)),
        (row(0, resource_booking_capacity="1/4/2"), STOPPED, MachineCounts(2, 0)),
        (row(0), STOPPED, MachineCounts(0, 0)),
        (row(0, resource_booking_capacity="nonsense"), STOPPED, MachineCounts(0, 0)),
    ],
)
def test_the_state_and_the_tasks_of_a_service(found: Any, state: InstanceState, scale: MachineCounts) -> None:
    instance = read(found).record.instance
    assert (instance.id, instance.state, instance.scale) == ("main/api", state, scale)
    assert instance.sizes == ("FARGATE",) * found["runningCount"]


def test_the_tags_of_a_service() -> None:
    lock: Any = {"resource_booking_locked_by": "ada", "resource_booking_locked_until": "2026-01-05T10:00:00Z"}
    found = read(row(0, resource_booking_capacity="1/4/2", resource_booking_managed="true", **lock))
    assert (found.desired, found.remembered, found.suspended_before) == (0, Capacity(1, 4, 2), None)
    assert (found.record.tag, found.record.managed) == ("front", True)
    assert found.record.instance.lock == Lock("ada", "2026-01-05T10:00:00Z")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedulingStrategy": "DAEMON"}, "is a daemon service"),
        ({"desiredCount": 0}, "its size from before is not known; set its size once"),
        ({"desiredCount": 0, "tags": {"resource-booking-capacity": "0/1"}}, "'0/1' is not a capacity"),
        ({}, ""),
    ],
)
def test_why_a_service_cannot_be_switched(changes: dict[str, Any], expected: str) -> None:
    found = row()
    found["tags"] += [{"key": key, "value": value} for key, value in changes.pop("tags", {}).items()]
    blocked = read(found | changes).record.instance.blocked_reason
    assert expected in blocked
    assert bool(blocked) == bool(expected)


def test_a_service_that_the_tags_exclude_is_left_out() -> None:
    found = read(row(resource_booking_ignore="true"))
    assert (found.record.left_out, found.record.managed) == (True, False)


@pytest.mark.parametrize("status", ["DRAINING", "INACTIVE"])
def test_a_service_that_is_being_deleted_does_not_exist(status: str) -> None:
    assert read_service(row() | {"status": status}) is None
    untagged: Any = {**row(), "tags": []}
    assert read_service(untagged) is None


@pytest.mark.parametrize(
    ("strategy", "platform"),
    [
        (
            [{"capacityProvider": "FARGATE", "base": 1}, {"capacityProvider": "FARGATE_SPOT", "weight": 4}],
            "FARGATE_SPOT",
        ),
        ([], "FARGATE"),
        (None, "FARGATE"),
    ],
)
def test_the_size_of_a_task_is_its_capacity_provider(strategy: Any, platform: str) -> None:
    assert read(row(2, 1) | {"capacityProviderStrategy": strategy}).record.instance.sizes == (platform,)


PRIMARY = {"status": "PRIMARY", "rolloutState": "COMPLETED"}
NO_PLACE = (
    "(service api) was unable to place a task because no container instance met all of its requirements."
)


@pytest.mark.parametrize(
    ("deployment", "event", "reason"),
    [
        ({}, "", ""),
        ({"rolloutState": "IN_PROGRESS"}, "", "has a deployment in progress"),
        (
            {"rolloutState": "IN_PROGRESS", "failedTasks": 3},
            "",
            "has a deployment in progress, of which 3 tasks have failed",
        ),
        (
            {"rolloutState": "FAILED", "rolloutStateReason": "tasks failed to start."},
            "",
            "has a deployment that failed: tasks failed to start.",
        ),
        ({"status": "ACTIVE", "rolloutState": "IN_PROGRESS"}, "", ""),
        ({}, f"{NO_PLACE}. The closest matching is container-instance 5e9d.", f"reports: {NO_PLACE}"),
        ({}, "(service api) has reached a steady state.", ""),
    ],
)
def test_why_tasks_are_missing(deployment: dict[str, Any], event: str, reason: str) -> None:
    found = row(2, 1) | {"deployments": [PRIMARY | deployment], "events": [{"message": event}]}
    assert read(found).record.instance.unready_reason == reason
    assert read(found | {"runningCount": 2}).record.instance.unready_reason == ""


def test_a_running_service_with_the_tag_of_suspended_scaling_can_be_started_again() -> None:
    instance = read(row(2, 2, resource_booking_suspended="none")).record.instance
    assert (instance.state, instance.can_start) == (RUNNING, True)
    off = read(row(0, resource_booking_suspended="none", resource_booking_capacity="2/2/2")).record.instance
    assert (off.start_incomplete, off.can_start) == (False, True)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:ecs:eu-west-1:123456789012:service/api",
        "arn:aws:ecs:eu-west-1:123456789012:cluster/main",
        "nonsense",
    ],
)
def test_an_arn_without_a_cluster_is_refused(arn: str) -> None:
    assert cluster_of(ARN) == "main"
    with pytest.raises(ValueError, match="does not have the form"):
        cluster_of(arn)


@pytest.mark.parametrize(
    ("target", "remembered"),
    [
        (None, Capacity(2, 2, 2)),
        (ScalableTarget(1, 4), Capacity(1, 4, 2)),
        (ScalableTarget(3, 4), Capacity(2, 4, 2)),
        (ScalableTarget(0, 1), Capacity(0, 2, 2)),
    ],
)
def test_the_size_to_remember_is_always_a_valid_one(
    target: ScalableTarget | None, remembered: Capacity
) -> None:
    assert read(row(2)).with_target(target).tags_to_stop()[CAPACITY_TAG] == str(remembered)


@pytest.mark.parametrize(
    ("desired", "restored"), [(1, 2), (2, 2), (3, 3), (9, 4)], ids=["below", "least", "between", "above"]
)
def test_a_start_keeps_within_limits_that_were_changed_meanwhile(desired: int, restored: int) -> None:
    remembered = Capacity(0, 9, desired)
    assert ScalableTarget(2, 4).within(remembered) == restored
    assert ScalableTarget(0, 0).within(remembered) == desired


@pytest.mark.parametrize("activities", [frozenset(), {"DynamicScalingIn"}, ALL])
def test_the_value_of_the_tag_can_be_read_again(activities: frozenset[str]) -> None:
    assert parse_suspended(format_suspended(activities)) == activities
    assert format_suspended(()) == "none"


NO_SCALE_OUT = ScalableTarget(0, 4, frozenset({"DynamicScalingOut"}))
OFF_TAGS: Any = {"resource_booking_capacity": "1/8/5", "resource_booking_suspended": "none"}


@pytest.mark.parametrize(
    ("desired", "target", "started", "remembered"),
    [
        (0, ScalableTarget(1, 8, ALL), 5, None),
        (1, ScalableTarget(1, 8, ALL), 5, None),  # Application Auto Scaling has raised it
        (3, ScalableTarget(1, 8, ALL), 3, "1/8/3"),  # a user has set it
        (1, ScalableTarget(1, 8), 1, "1/8/1"),
        (0, ScalableTarget(0, 0, ALL), 5, None),
        (0, ScalableTarget(0, 3, ALL), 3, None),
        (0, None, 5, None),
        (2, None, 2, "2/2/2"),
    ],
)
def test_the_size_to_start_with_and_the_one_to_remember(
    desired: int, target: ScalableTarget | None, started: int, remembered: str | None
) -> None:
    service = read(row(desired, **OFF_TAGS)).with_target(target)
    assert service.desired_to_start == started
    assert service.tags_to_stop().get(CAPACITY_TAG) == remembered


@pytest.mark.parametrize(
    ("suspended_before", "suspended", "written"),
    [
        (None, set(), "none"),
        (None, {"DynamicScalingIn"}, "DynamicScalingIn"),
        ("none", set(), None),
        ("none", ALL, None),
        ("none", {"DynamicScalingIn"}, "DynamicScalingIn"),
        (None, ALL, "DynamicScalingIn DynamicScalingOut ScheduledScaling"),
    ],
)
def test_the_scaling_to_remember(suspended_before: str | None, suspended: Any, written: str | None) -> None:
    tags: Any = {"resource_booking_suspended": suspended_before} if suspended_before else {}
    service = read(row(2, **tags)).with_target(ScalableTarget(1, 4, frozenset(suspended)))
    assert service.tags_to_stop().get("resource-booking-suspended") == written


def test_without_a_target_there_is_no_scaling_to_remember() -> None:
    assert "resource-booking-suspended" not in read(row(2)).tags_to_stop()


@pytest.mark.parametrize(
    ("found", "target", "state"),
    [
        (row(0, resource_booking_capacity="0/4/2"), ScalableTarget(0, 4), RUNNING),
        (
            row(0, resource_booking_capacity="0/4/2"),
            ScalableTarget(0, 4, frozenset({"DynamicScalingOut"})),
            STOPPED,
        ),
        (row(0, resource_booking_capacity="0/4/2"), ScalableTarget(0, 0), STOPPED),
        (row(0, resource_booking_capacity="0/4/2"), ScalableTarget(1, 4), STOPPED),
        (row(0, resource_booking_capacity="0/4/2"), None, STOPPED),
        (row(0, resource_booking_capacity="1/4/2"), ScalableTarget(0, 4), STOPPED),
        (row(0, **OFF_TAGS), ScalableTarget(0, 4, ALL), STOPPED),
        (row(0), ScalableTarget(0, 4), STOPPED),
    ],
)
def test_a_service_that_scaling_has_emptied_is_on(
    found: Any, target: ScalableTarget | None, state: InstanceState
) -> None:
    instance = read(found).with_target(target).record.instance
    assert (instance.state, instance.ready) == (state, state is RUNNING)
