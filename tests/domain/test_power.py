"""The power decision, rule by rule, and its invariants."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import TimelineState
from booking_operator.domain.instance import Instance, InstanceState, Observation
from booking_operator.domain.power import (
    RESTART_TOLERANCE,
    VISIBILITY_DELAY,
    GraceReason,
    Plan,
    PowerPolicy,
    UnbookedPolicy,
    Wait,
    coming_restarts,
    decide,
    forget_stopped_from,
    restarted_by_cloud,
)

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)
BEFORE = NOW - timedelta(seconds=30)
CLAIM = BookingInterval("b", "ada", BEFORE, NOW + timedelta(hours=1), BEFORE)
BOOKED = TimelineState(NOW, CLAIM, None, CLAIM.end_at, CLAIM.end_at)
FREE = TimelineState(NOW, None, None, None, None)
LEAVE = PowerPolicy(unbooked=UnbookedPolicy.LEAVE)


def view(*states: InstanceState, at: datetime = NOW) -> Observation:
    return Observation(tuple(Instance(f"i-{n}", state) for n, state in enumerate(states)), at)


observations = st.lists(st.sampled_from(InstanceState), max_size=6).map(lambda states: view(*states))
moments = st.sampled_from([BOOKED, FREE])
policies = st.builds(PowerPolicy, unbooked=st.sampled_from(UnbookedPolicy))
memories = st.sets(st.sampled_from([f"i-{n}" for n in range(8)])).map(frozenset)


@given(observations, moments, policies, memories, st.sampled_from(["", "a list failed"]))
def test_only_stopped_instances_start_and_only_running_ones_stop_and_never_both(
    observation: Observation,
    seen: TimelineState,
    policy: PowerPolicy,
    started: frozenset[str],
    stale_reason: str,
) -> None:
    plan = decide(policy, seen, observation, started=started, observed_since=NOW, stale_reason=stale_reason)
    assert set(plan.start) <= set(observation.ids(InstanceState.STOPPED))
    assert set(plan.stop) <= set(observation.ids(InstanceState.RUNNING))
    assert not (plan.start and plan.stop)
    if seen.running_wanted:
        assert not plan.stop
        assert set(plan.start) == set(observation.ids(InstanceState.STOPPED))
    else:
        assert not plan.start
    if stale_reason:
        assert not plan.stop


@given(observations, policies, memories)
def test_a_view_older_than_the_trigger_stops_nothing(
    observation: Observation, policy: PowerPolicy, started: frozenset[str]
) -> None:
    plan = decide(policy, FREE, observation, started=started, observed_since=NOW + timedelta(microseconds=1))
    assert not plan.stop
    assert bool(plan.stale_reason) == bool(plan.withheld)


@pytest.mark.parametrize(("seen", "state"), [(BOOKED, InstanceState.STOPPED), (FREE, InstanceState.RUNNING)])
def test_a_blocked_instance_is_left_alone_and_reported(seen: TimelineState, state: InstanceState) -> None:
    held, free = Instance("i-0", state, "is a read replica"), Instance("i-1", state)
    plan = decide(PowerPolicy(), seen, Observation((held, free), NOW), observed_since=NOW)
    assert (plan.start or plan.stop) == ("i-1",)
    assert plan.blocked == (held,)


@pytest.mark.parametrize(("seen", "state"), [(BOOKED, InstanceState.RUNNING), (FREE, InstanceState.STOPPED)])
def test_a_blocked_instance_in_the_right_state_is_not_reported(
    seen: TimelineState, state: InstanceState
) -> None:
    plan = decide(
        PowerPolicy(), seen, Observation((Instance("i-0", state, "is busy"),), NOW), observed_since=NOW
    )
    assert plan == Plan()


def test_leave_does_not_report_blocked_instances_that_no_booking_started() -> None:
    held = Instance("i-0", InstanceState.RUNNING, "is a read replica")
    assert decide(LEAVE, FREE, Observation((held,), NOW), observed_since=NOW).blocked == ()


def test_the_stopped_instances_of_a_partly_running_group_are_started() -> None:
    plan = decide(
        PowerPolicy(), BOOKED, view(InstanceState.RUNNING, InstanceState.STOPPED), observed_since=NOW
    )
    assert plan.start == ("i-1",)


def test_stopping_instances_are_not_started() -> None:
    plan = decide(PowerPolicy(), BOOKED, view(InstanceState.STOPPING), observed_since=NOW)
    assert not plan.has_actions
    assert plan.in_transition


def test_pending_instances_are_stopped_when_they_run() -> None:
    assert not decide(PowerPolicy(), FREE, view(InstanceState.PENDING), observed_since=NOW).has_actions
    assert decide(PowerPolicy(), FREE, view(InstanceState.RUNNING), observed_since=NOW).stop == ("i-0",)


def test_a_start_needs_neither_a_fresh_view_nor_fresh_bookings() -> None:
    stale = view(InstanceState.STOPPED, at=BEFORE)
    assert decide(PowerPolicy(), BOOKED, stale, observed_since=NOW, stale_reason="not synced").start == (
        "i-0",
    )


def test_nothing_is_done_before_the_first_view() -> None:
    assert not decide(PowerPolicy(), BOOKED, None, observed_since=NOW).has_actions
    assert not decide(PowerPolicy(), FREE, None, observed_since=NOW).has_actions


def test_leave_stops_only_instances_that_a_booking_started() -> None:
    begun = decide(LEAVE, BOOKED, view(InstanceState.RUNNING, InstanceState.STOPPED), observed_since=NOW)
    assert begun.started == {"i-1"}
    ended = decide(
        LEAVE,
        FREE,
        view(InstanceState.RUNNING, InstanceState.RUNNING),
        started=begun.started,
        observed_since=NOW,
    )
    assert ended.stop == ("i-1",)


def test_leave_forgets_stopped_and_terminated_instances() -> None:
    plan = decide(
        LEAVE,
        FREE,
        view(InstanceState.STOPPED),
        started=frozenset({"i-0", "i-9"}),
        observed_since=NOW - VISIBILITY_DELAY,
    )
    assert plan.started == frozenset()


@pytest.mark.parametrize("policy", [LEAVE, PowerPolicy()])
def test_leave_remembers_an_instance_that_may_have_just_been_started(policy: PowerPolicy) -> None:
    """A start that was sent right before the end may be answered, and become visible, only after it."""
    since = NOW - VISIBILITY_DELAY + timedelta(seconds=1)
    plan = decide(
        policy, FREE, view(InstanceState.STOPPED), started=frozenset({"i-0", "i-9"}), observed_since=since
    )
    assert plan.started == ({"i-0"} if policy is LEAVE else frozenset())
    assert forget_stopped_from(plan.started, policy, FREE, since) == (
        since + VISIBILITY_DELAY if policy is LEAVE else None
    )


def test_there_is_no_settle_time_while_booked_or_without_started_instances() -> None:
    assert forget_stopped_from({"i-0"}, LEAVE, BOOKED, NOW) is None
    assert forget_stopped_from((), LEAVE, FREE, NOW) is None


def test_leave_remembers_stopping_instances() -> None:
    plan = decide(LEAVE, FREE, view(InstanceState.STOPPING), started=frozenset({"i-0"}), observed_since=NOW)
    assert plan.started == {"i-0"}


@pytest.mark.parametrize("seen", [FREE, BOOKED], ids=["free", "booked"])
def test_a_view_older_than_the_trigger_forgets_no_instance(seen: TimelineState) -> None:
    """The last view of a new leader may be from before the start, and its next refresh may fail."""
    memory, since = frozenset({"i-0", "i-9"}), NOW + timedelta(seconds=1)
    assert (
        decide(LEAVE, seen, view(InstanceState.STOPPED), started=memory, observed_since=since).started
        == memory
    )


def test_started_instances_are_remembered_in_case_the_policy_becomes_leave() -> None:
    memory, running = frozenset({"i-1", "i-9"}), view(InstanceState.RUNNING, InstanceState.RUNNING)
    assert decide(PowerPolicy(), BOOKED, running, started=memory, observed_since=NOW).started == {"i-1"}
    assert (
        decide(PowerPolicy(), BOOKED, view(InstanceState.STOPPED), observed_since=NOW).started == frozenset()
    )


@pytest.mark.parametrize("how", [PowerPolicy(suspend=True), PowerPolicy(dry_run=True)])
def test_leave_does_not_remember_starts_that_suspend_or_dry_run_prevent(how: PowerPolicy) -> None:
    policy, seen = (
        replace(how, unbooked=UnbookedPolicy.LEAVE),
        view(InstanceState.STOPPED, InstanceState.RUNNING),
    )
    plan = decide(policy, BOOKED, seen, started=frozenset({"i-1"}), observed_since=NOW)
    assert (plan.start, plan.started) == (("i-0",), frozenset({"i-1"}))


@pytest.mark.parametrize("policy", [PowerPolicy(suspend=True), PowerPolicy(dry_run=True)])
def test_suspend_and_dry_run_plan_but_do_not_act(policy: PowerPolicy) -> None:
    assert not policy.may_act
    assert decide(policy, BOOKED, view(InstanceState.STOPPED), observed_since=NOW).start == ("i-0",)


seconds = st.none() | st.integers(-60, 900)
instances_with_grace = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=5)


@given(
    instances_with_grace,
    st.integers(0, 600),
    st.booleans(),
    st.none() | st.integers(-10, 10),
    st.sampled_from(["", "a list failed"]),
)
def test_a_stop_waits_for_the_end_of_each_grace_period(
    drawn: list[tuple[int | None, int | None]],
    launch_grace: int,
    maintenance: bool,
    stop_in: int | None,
    stale_reason: str,
) -> None:
    """Each instance has an age, and a time until the end of its maintenance window."""
    instances = tuple(
        Instance(
            f"i-{number}",
            InstanceState.RUNNING,
            launched_at=None if age is None else NOW - timedelta(seconds=age),
            maintenance_until=None if left is None else NOW + timedelta(seconds=left),
        )
        for number, (age, left) in enumerate(drawn)
    )
    policy = PowerPolicy(launch_grace=timedelta(seconds=launch_grace), allow_maintenance=maintenance)
    stop_from = None if stop_in is None else NOW + timedelta(seconds=stop_in)
    plan = decide(
        policy,
        FREE,
        Observation(instances, NOW),
        observed_since=NOW,
        waits=() if stop_from is None else [Wait(GraceReason.DELETION, stop_from)],
        stale_reason=stale_reason,
    )
    held = stop_in is not None and stop_in > 0
    ends = {
        f"i-{number}": max(
            stop_in or 0 if held else 0,
            launch_grace - age if launch_grace and age is not None else 0,
            left or 0 if maintenance else 0,
        )
        for number, (age, left) in enumerate(drawn)
    }
    waiting = {id_ for id_, end in ends.items() if end > 0}
    free = ends.keys() - waiting
    assert set(plan.stop) == (set() if stale_reason else free)
    assert set(plan.withheld) == (free if stale_reason else set())
    assert sorted(id_ for grace in plan.graces for id_ in grace.ids) == sorted(waiting)
    if held:
        assert [(grace.reason, grace.until) for grace in plan.graces] == [(GraceReason.DELETION, stop_from)]
        return
    for grace in plan.graces:
        assert grace.until == NOW + timedelta(seconds=min(ends[id_] for id_ in grace.ids))
        later = decide(policy, replace(FREE, at=grace.until), Observation(instances, NOW), observed_since=NOW)
        assert len(later.stop) > len(free)


def test_a_start_waits_for_no_grace_period() -> None:
    launched = Instance("i-0", InstanceState.STOPPED, launched_at=NOW)
    policy = PowerPolicy(launch_grace=timedelta(minutes=10))
    later = NOW + timedelta(hours=1)
    plan = decide(
        policy,
        BOOKED,
        Observation((launched,), NOW),
        observed_since=NOW,
        waits=[Wait(GraceReason.DELETION, later)],
    )
    assert (plan.start, plan.graces) == (("i-0",), ())


RESTART = NOW + timedelta(hours=1)


def test_the_automatic_restart_of_a_stopped_instance_is_remembered_until_it_runs() -> None:
    stopped = Instance("db:a", InstanceState.STOPPED, restarts_at=RESTART)
    assert coming_restarts(Observation((stopped,), NOW), {}) == {"db:a": RESTART}
    for state in (InstanceState.STOPPED, InstanceState.STOPPING, InstanceState.UNAVAILABLE):
        unsaid = Observation((Instance("db:a", state),), NOW)
        assert coming_restarts(unsaid, {"db:a": RESTART, "db:gone": RESTART}) == {"db:a": RESTART}
    for state in (InstanceState.PENDING, InstanceState.RUNNING):
        assert coming_restarts(Observation((Instance("db:a", state),), NOW), {"db:a": RESTART}) == {}


@pytest.mark.parametrize(
    ("state", "seconds", "restarted"),
    [
        (InstanceState.PENDING, 1, True),
        (InstanceState.RUNNING, 1, True),
        (InstanceState.RUNNING, 86400, True),
        (InstanceState.STOPPED, 1, False),
        (InstanceState.RUNNING, -RESTART_TOLERANCE.total_seconds(), True),
        (InstanceState.RUNNING, -RESTART_TOLERANCE.total_seconds() - 1, False),
    ],
)
def test_only_a_start_at_the_automatic_restart_is_one_of_the_cloud(
    state: InstanceState, seconds: float, restarted: bool
) -> None:
    seen = Observation(
        (Instance("db:a", state), Instance("db:b", state)), RESTART + timedelta(seconds=seconds)
    )
    assert restarted_by_cloud(seen, {"db:a": RESTART}) == ({"db:a"} if restarted else set())
