"""What users read: conditions with a reason and the mend, and nothing that ticks."""

from datetime import UTC, datetime, timedelta

import pytest

from booking_operator.domain import conditions
from booking_operator.domain.booking import Booking
from booking_operator.domain.booking_timeline import Moment
from booking_operator.domain.conditions import Condition, Outcome
from booking_operator.domain.instance import Instance, Observation, State
from booking_operator.domain.power import Plan, Policy, Unbooked

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)
CLAIM = Booking("b", "ada", NOW, NOW + timedelta(hours=1), NOW)
BOOKED, FREE = Moment(CLAIM, None, CLAIM.end_at, CLAIM.end_at), Moment(None, None, None, None)


def view(*states: State) -> Observation:
    return Observation(tuple(Instance(f"i-{n}", state) for n, state in enumerate(states)), NOW)


def ready(
    seen: Moment, observation: Observation | None, plan: Plan | None = None, policy: Policy | None = None
) -> Condition:
    outcome = Outcome(seen, observation, plan or Plan())
    conditions = conditions.resource_conditions("t", "eu", policy or Policy(), outcome)
    return next(condition for condition in conditions if condition.type == "Ready")


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ((), "STOPPED"),
        ((State.STOPPED, State.STOPPED), "STOPPED"),
        ((State.RUNNING, State.RUNNING), "RUNNING"),
        ((State.RUNNING, State.STOPPED), "PENDING"),
        ((State.STOPPING,), "PENDING"),
        ((State.PENDING, State.RUNNING), "PENDING"),
    ],
)
def test_status_column(states: tuple[State, ...], text: str) -> None:
    assert conditions.power_status(view(*states)) == text


@pytest.mark.parametrize(
    ("seen", "states", "reason", "status"),
    [
        (BOOKED, (State.RUNNING, State.RUNNING), "Running", True),
        (BOOKED, (State.RUNNING, State.STOPPED), "Starting", False),
        (FREE, (State.STOPPED,), "Stopped", True),
        (FREE, (State.RUNNING,), "Stopping", False),
        (BOOKED, (), "NoInstances", False),
    ],
)
def test_ready_of_a_resource(seen: Moment, states: tuple[State, ...], reason: str, status: bool) -> None:
    condition = ready(seen, view(*states))
    assert (condition.reason, condition.status) == (reason, status)


def test_what_suspend_and_dry_run_would_do_is_said() -> None:
    plan = Plan(start=("i-0",))
    suspended = ready(BOOKED, view(State.STOPPED), plan, Policy(suspend=True))
    assert (suspended.reason, suspended.message) == (
        "Suspended",
        "Would start i-0, but spec.suspend is true.",
    )
    dry = ready(BOOKED, view(State.STOPPED), plan, Policy(dry_run=True))
    assert (dry.reason, dry.message) == (
        "DryRun",
        "Would start i-0, but the operator runs with --dry-run.",
    )


def test_a_withheld_stop_says_why() -> None:
    condition = ready(FREE, view(State.RUNNING), Plan(withheld=("i-0",), doubt="the list failed"))
    assert condition.reason == "StopWithheld"
    assert "i-0 would be stopped, but the list failed" in condition.message


def test_an_instance_that_cannot_be_stopped_is_named() -> None:
    held = Instance("db:copy", State.RUNNING, "cannot be stopped: it is a read replica")
    condition = ready(FREE, Observation((held,), NOW), Plan(blocked=(held,)))
    assert (condition.status, condition.reason) == (False, "Blocked")
    assert condition.message == "db:copy cannot be stopped: it is a read replica."
    assert [item.reason for item in conditions.news({}, [condition])] == ["Blocked"]


def test_leave_is_ready_while_others_run() -> None:
    condition = ready(FREE, view(State.RUNNING), policy=Policy(unbooked=Unbooked.LEAVE))
    assert (condition.reason, condition.status) == ("Left", True)


def test_long_lists_of_ids_are_cut() -> None:
    assert conditions.listed([f"i-{n}" for n in range(7)]) == "i-0, i-1, i-2, i-3, i-4 and 2 more"


def of(conditions: tuple[Condition, ...]) -> dict[str, tuple[bool | None, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in conditions}


def test_news_are_told_once() -> None:
    failed = Condition("Synced", False, "RequestLimitExceeded", "throttled")
    assert [item.reason for item in conditions.news({}, [failed])] == ["RequestLimitExceeded"]
    assert conditions.news({"Synced": ("RequestLimitExceeded", "throttled")}, [failed]) == []
    fine = Condition("Synced", True, "Synced", "")
    assert conditions.news({"Synced": ("RequestLimitExceeded", "throttled")}, [fine]) == []


def test_refused_objects_are_stalled_for_kstatus() -> None:
    assert of(conditions.refused("InvalidSpec", "why")) == {
        "Valid": (False, "InvalidSpec"),
        "Ready": (False, "InvalidSpec"),
        "Stalled": (True, "InvalidSpec"),
    }
