"""Conditions: reasons, messages with the fix, and stable texts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from booking_operator.domain import conditions
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import TimelineState
from booking_operator.domain.conditions import ConditionUpdate, Failure, ResourceReport
from booking_operator.domain.formatting import summarize
from booking_operator.domain.instance import Instance, InstanceState, Observation
from booking_operator.domain.power import Grace, GraceReason, Plan, PowerPolicy, UnbookedPolicy

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)
CLAIM = BookingInterval("b", "ada", NOW, NOW + timedelta(hours=1), NOW)
BOOKED, FREE = (
    TimelineState(NOW, CLAIM, None, CLAIM.end_at, CLAIM.end_at),
    TimelineState(NOW, None, None, None, None),
)


def view(*states: InstanceState) -> Observation:
    return Observation(tuple(Instance(f"i-{n}", state) for n, state in enumerate(states)), NOW)


def ready(
    seen: TimelineState,
    observation: Observation | None,
    plan: Plan | None = None,
    policy: PowerPolicy | None = None,
) -> ConditionUpdate:
    outcome = ResourceReport(seen, observation, plan or Plan())
    found = conditions.resource_conditions("t", "eu", policy or PowerPolicy(), outcome)
    return next(condition for condition in found if condition.type == "Ready")


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ((), "STOPPED"),
        ((InstanceState.STOPPED, InstanceState.STOPPED), "STOPPED"),
        ((InstanceState.RUNNING, InstanceState.RUNNING), "RUNNING"),
        ((InstanceState.RUNNING, InstanceState.STOPPED), "PENDING"),
        ((InstanceState.STOPPING,), "PENDING"),
        ((InstanceState.PENDING, InstanceState.RUNNING), "PENDING"),
    ],
)
def test_the_status_column(states: tuple[InstanceState, ...], text: str) -> None:
    assert conditions.power_status(view(*states)) == text


@pytest.mark.parametrize(
    ("seen", "states", "reason", "status"),
    [
        (BOOKED, (InstanceState.RUNNING, InstanceState.RUNNING), "Running", True),
        (BOOKED, (InstanceState.RUNNING, InstanceState.STOPPED), "Starting", False),
        (FREE, (InstanceState.STOPPED,), "Stopped", True),
        (FREE, (InstanceState.RUNNING,), "Stopping", False),
        (BOOKED, (), "NoInstances", False),
    ],
)
def test_ready_of_a_resource(
    seen: TimelineState, states: tuple[InstanceState, ...], reason: str, status: bool
) -> None:
    condition = ready(seen, view(*states))
    assert (condition.reason, condition.status) == (reason, status)


def test_suspend_and_dry_run_report_the_action_that_they_prevent() -> None:
    plan = Plan(start=("i-0",))
    suspended = ready(BOOKED, view(InstanceState.STOPPED), plan, PowerPolicy(suspend=True))
    assert (suspended.reason, suspended.message) == (
        "Suspended",
        "Would start i-0, but spec.suspend is true.",
    )
    dry = ready(BOOKED, view(InstanceState.STOPPED), plan, PowerPolicy(dry_run=True))
    assert (dry.reason, dry.message) == (
        "DryRun",
        "Would start i-0, but the operator runs with --dry-run.",
    )


def test_a_withheld_stop_has_its_reason() -> None:
    condition = ready(
        FREE, view(InstanceState.RUNNING), Plan(withheld=("i-0",), stale_reason="the list failed")
    )
    assert condition.reason == "StopWithheld"
    assert "i-0 would be stopped, but the list failed" in condition.message


def test_an_instance_that_cannot_be_stopped_is_named() -> None:
    held = Instance("db:copy", InstanceState.RUNNING, "cannot be stopped: it is a read replica")
    condition = ready(FREE, Observation((held,), NOW), Plan(blocked=(held,)))
    assert (condition.status, condition.reason) == (False, "Blocked")
    assert condition.message == "db:copy cannot be stopped: it is a read replica."
    assert [item.reason for item in conditions.condition_events({}, [condition])] == ["Blocked"]


def test_leave_is_ready_while_others_run() -> None:
    condition = ready(FREE, view(InstanceState.RUNNING), policy=PowerPolicy(unbooked=UnbookedPolicy.LEAVE))
    assert (condition.reason, condition.status) == ("Left", True)


def test_long_lists_of_ids_are_cut() -> None:
    assert summarize([f"i-{n}" for n in range(7)]) == "i-0, i-1, i-2, i-3, i-4 and 2 more"


def of(conditions: tuple[ConditionUpdate, ...]) -> dict[str, tuple[bool | None, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in conditions}


def test_a_change_is_reported_once() -> None:
    failed = ConditionUpdate("Synced", False, "RequestLimitExceeded", "throttled")
    assert [item.reason for item in conditions.condition_events({}, [failed])] == ["RequestLimitExceeded"]
    assert conditions.condition_events({"Synced": ("RequestLimitExceeded", "throttled")}, [failed]) == []
    fine = ConditionUpdate("Synced", True, "Synced", "")
    assert conditions.condition_events({"Synced": ("RequestLimitExceeded", "throttled")}, [fine]) == []


def test_refused_objects_are_stalled_for_kstatus() -> None:
    assert of(conditions.invalid_conditions("InvalidSpec", "why")) == {
        "Valid": (False, "InvalidSpec"),
        "Ready": (False, "InvalidSpec"),
        "Stalled": (True, "InvalidSpec"),
    }


def test_a_stop_in_a_grace_period_says_when_it_comes() -> None:
    running, end = view(InstanceState.RUNNING), NOW + timedelta(seconds=4.2)
    deleted = ready(FREE, running, Plan(graces=(Grace(GraceReason.DELETION, ("i-0",), end),)))
    assert (deleted.status, deleted.reason) == (False, "DeletionGrace")
    assert deleted.message == (
        "A booking was deleted; unless another one begins, i-0 will be stopped at 2026-01-01T09:00:05Z."
    )
    policy = PowerPolicy(launch_grace=timedelta(minutes=10))
    young = ready(FREE, running, Plan(graces=(Grace(GraceReason.LAUNCH, ("i-0",), end),)), policy)
    assert (young.status, young.reason) == (False, "LaunchGrace")
    assert young.message == (
        "Not booked, but launched less than spec.launch_grace (10m) ago: i-0. "
        "The first stop is at 2026-01-01T09:00:05Z."
    )


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ((InstanceState.RUNNING,), "Instances of the group were found in eu."),
        ((), "No other instance in eu has the tag resource-booking-application=t."),
    ],
)
def test_ignored_instances_are_named(states: tuple[InstanceState, ...], message: str) -> None:
    observation = replace(
        view(*states),
        left_out=tuple(Instance(id_, InstanceState.RUNNING, "has a tag") for id_ in ("i-8", "i-9")),
    )
    found = conditions.resource_conditions(
        "t", "eu", PowerPolicy(), ResourceReport(FREE, observation, Plan())
    )
    condition = next(condition for condition in found if condition.type == "Found")
    left_alone = "The operator leaves some instances alone: i-8 has a tag, i-9 has a tag."
    assert (condition.status, condition.message) == (bool(states), f"{message} {left_alone}")


def test_a_tag_that_differs_only_by_case_or_blanks_is_suggested() -> None:
    for states in ((InstanceState.RUNNING,), ()):
        observation = replace(view(*states), similar=("T ",))
        outcome = ResourceReport(FREE, observation, Plan())
        found = conditions.resource_conditions("t", "eu", PowerPolicy(), outcome)
        condition = next(condition for condition in found if condition.type == "Found")
        assert condition.message.endswith("There are instances with the tag 'T '; did you mean 't'?")


def test_a_start_that_is_not_complete_says_when_the_rest_is_tried() -> None:
    retry_at = NOW + timedelta(minutes=1)
    failure = Failure("InsufficientInstanceCapacity", "no room", retry_at)
    observation = view(InstanceState.RUNNING, InstanceState.STOPPED)
    outcome = ResourceReport(BOOKED, observation, Plan(), failure)
    found = conditions.resource_conditions("t", "eu", PowerPolicy(), outcome)
    condition = next(condition for condition in found if condition.type == "Ready")
    assert condition.message == (
        "1 of 2 instances are running; all are booked. The next attempt is at 2026-01-01T09:01:00Z."
    )
