"""What a start and a stop wait for, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline, TimelineState
from booking_operator.domain.delay import Delay, with_required
from booking_operator.domain.instance import Instance, InstanceState, Observation, StatusCheck
from booking_operator.domain.power import Grace, GraceReason, PowerPolicy, UnbookedPolicy, Wait, decide
from booking_operator.domain.sequence import (
    DependentState,
    RequiredState,
    instances_to_stop,
    required_state,
    start_wait,
    stop_wait,
)

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RUNNING, STOPPED, PENDING = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.PENDING
FREE = BookingTimeline().state_at(NOW)
BOOKED = BookingTimeline([BookingInterval("b", "ada", NOW, NOW + MINUTE, NOW)]).state_at(NOW)


def seen(*states: InstanceState) -> Observation:
    return Observation(tuple(Instance(f"i-{number}", state) for number, state in enumerate(states)), NOW)


@pytest.mark.parametrize(
    ("observation", "policy", "problem", "lasts"),
    [
        (seen(RUNNING, RUNNING), PowerPolicy(), "", False),
        (seen(RUNNING), PowerPolicy(suspend=True), "", False),
        (seen(RUNNING, PENDING), PowerPolicy(), "of which 1 of 2 instances are ready", False),
        (seen(), PowerPolicy(), "which has no instances", True),
        (None, PowerPolicy(), "whose instances have not been observed yet", False),
        (
            seen(STOPPED),
            PowerPolicy(suspend=True),
            "of which 0 of 1 instances are ready and which is suspended",
            True,
        ),
        (
            Observation((Instance("i-0", RUNNING, check=StatusCheck(NOW)),), NOW),
            PowerPolicy(),
            "of which 0 of 1 instances are ready",
            False,
        ),
    ],
)
def test_when_a_required_resource_is_ready(
    observation: Observation | None, policy: PowerPolicy, problem: str, lasts: bool
) -> None:
    assert required_state("db", policy, observation) == RequiredState("db", problem, lasts)


def test_a_start_waits_for_all_that_is_not_ready_until_the_timeout() -> None:
    ready, coming = RequiredState("cache"), RequiredState("db", "of which 0 of 1 instances are ready")
    assert start_wait([ready], NOW + MINUTE) is None
    assert start_wait([], NOW + MINUTE) is None
    assert start_wait([ready, coming], NOW + MINUTE) == Wait(
        GraceReason.REQUIRED, NOW + MINUTE, "db, of which 0 of 1 instances are ready"
    )
    missing = RequiredState("mail", "which does not exist", lasts=True)
    wait = start_wait([coming, missing], NOW + MINUTE)
    assert wait is not None
    assert wait.reason is GraceReason.UNAVAILABLE
    assert wait.others == "db, of which 0 of 1 instances are ready; mail, which does not exist"


def test_a_required_resource_that_reports_a_failure_does_not_start_by_itself() -> None:
    found = required_state("db", PowerPolicy(), seen(STOPPED), "UnauthorizedOperation")
    assert found == RequiredState(
        "db", "of which 0 of 1 instances are ready and which reports UnauthorizedOperation", lasts=True
    )
    assert required_state("db", PowerPolicy(), seen(RUNNING), "UnauthorizedOperation") == RequiredState("db")


def test_a_stop_waits_for_all_dependents() -> None:
    done, left = DependentState("web", ()), DependentState("app", ("i-1", "i-2"))
    slow = DependentState("api", ("i-3",))
    assert stop_wait([done], NOW + MINUTE) is None
    assert stop_wait([done, left, slow], NOW + MINUTE) == Wait(
        GraceReason.DEPENDENTS, NOW + MINUTE, "app (i-1, i-2), api (i-3)"
    )


def test_only_what_the_operator_will_stop_is_waited_for() -> None:
    instances = (
        Instance("on", RUNNING),
        Instance("coming", PENDING),
        Instance("going", InstanceState.STOPPING),
        Instance("off", STOPPED),
        Instance("stuck", RUNNING, "is locked"),
        Instance("overdue", RUNNING, off_at=NOW),
        Instance("later", RUNNING, off_at=NOW + MINUTE),
    )
    observation, leave = Observation(instances, NOW), PowerPolicy(UnbookedPolicy.LEAVE)
    all_on = ("on", "coming", "going", "overdue", "later")
    assert instances_to_stop(PowerPolicy(), observation, frozenset(), NOW) == all_on
    assert instances_to_stop(leave, observation, frozenset({"going"}), NOW) == ("going", "overdue")
    assert instances_to_stop(PowerPolicy(dry_run=True), observation, frozenset(), NOW) == ()
    assert instances_to_stop(PowerPolicy(), None, frozenset(), NOW) == ()


@pytest.mark.parametrize(
    ("state", "instance", "reason"),
    [(BOOKED, STOPPED, GraceReason.REQUIRED), (FREE, RUNNING, GraceReason.DEPENDENTS)],
)
def test_a_wait_holds_back_all_instances_until_it_ends(
    state: TimelineState, instance: InstanceState, reason: GraceReason
) -> None:
    wait = Wait(reason, NOW + MINUTE, "db, which is suspended")
    plan = decide(PowerPolicy(), state, seen(instance), observed_since=NOW, waits=[wait])
    assert (plan.start, plan.stop) == ((), ())
    assert plan.graces == (Grace(reason, ("i-0",), NOW + MINUTE, "db, which is suspended"),)
    assert plan.waits_for_others
    over = Wait(reason, NOW, "db")
    plan = decide(PowerPolicy(), state, seen(instance), observed_since=NOW, waits=[over])
    assert (*plan.start, *plan.stop) == ("i-0",)


def test_a_start_wait_holds_no_stop_back_and_the_other_way_round() -> None:
    for state, instance, reason in (
        (BOOKED, STOPPED, GraceReason.DEPENDENTS),
        (FREE, RUNNING, GraceReason.REQUIRED),
    ):
        wait = Wait(reason, NOW + MINUTE, "db")
        plan = decide(PowerPolicy(), state, seen(instance), observed_since=NOW, waits=[wait])
        assert plan.graces == ()


def test_under_leave_what_waits_is_not_yet_remembered_as_started() -> None:
    wait = Wait(GraceReason.REQUIRED, NOW + MINUTE, "db")
    policy = PowerPolicy(UnbookedPolicy.LEAVE)
    assert decide(policy, BOOKED, seen(STOPPED), observed_since=NOW, waits=[wait]).started == frozenset()
    assert decide(policy, BOOKED, seen(STOPPED), observed_since=NOW).started == {"i-0"}


def test_a_dependent_is_as_late_as_the_latest_required_resource() -> None:
    due = NOW + 10 * MINUTE
    before = due - 5 * MINUTE
    db = Delay(True, before, before + 3 * MINUTE, warm_up=5 * MINUTE)
    cache = Delay(True, due, due + MINUTE)
    found = with_required(None, due, MINUTE, {"db": db, "cache": cache})
    assert found == Delay(True, due, due + 3 * MINUTE, MINUTE, "db")
    later = due + 5 * MINUTE
    assert with_required(None, later, MINUTE, {"db": db, "cache": cache}) is None
    own = Delay(True, due, due + 4 * MINUTE, MINUTE)
    assert with_required(own, due, MINUTE, {"db": db}) == own
