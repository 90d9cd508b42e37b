"""What is started and stopped, rule by rule, and what can never be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.booking import Booking
from booking_operator.domain.booking_timeline import Moment
from booking_operator.domain.instance import Instance, Observation, State
from booking_operator.domain.power import SETTLING, Plan, Policy, Unbooked, decide, settled_at

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)
BEFORE = NOW - timedelta(seconds=30)
CLAIM = Booking("b", "ada", BEFORE, NOW + timedelta(hours=1), BEFORE)
BOOKED = Moment(CLAIM, None, CLAIM.end_at, CLAIM.end_at)
FREE = Moment(None, None, None, None)
LEAVE = Policy(unbooked=Unbooked.LEAVE)


def view(*states: State, at: datetime = NOW) -> Observation:
    return Observation(tuple(Instance(f"i-{n}", state) for n, state in enumerate(states)), at)


observations = st.lists(st.sampled_from(State), max_size=6).map(lambda states: view(*states))
moments = st.sampled_from([BOOKED, FREE])
policies = st.builds(Policy, unbooked=st.sampled_from(Unbooked))
memories = st.sets(st.sampled_from([f"i-{n}" for n in range(8)])).map(frozenset)


@given(observations, moments, policies, memories, st.sampled_from(["", "a doubt"]))
def test_only_stopped_ones_start_only_running_ones_stop_and_never_both(
    observation: Observation, seen: Moment, policy: Policy, started: frozenset[str], doubt: str
) -> None:
    plan = decide(policy, seen, observation, started=started, since=NOW, doubt=doubt)
    assert set(plan.start) <= set(observation.ids(State.STOPPED))
    assert set(plan.stop) <= set(observation.ids(State.RUNNING))
    assert not (plan.start and plan.stop)
    if seen.wanted:
        assert not plan.stop
        assert set(plan.start) == set(observation.ids(State.STOPPED))
    else:
        assert not plan.start
    if doubt:
        assert not plan.stop


@given(observations, policies, memories)
def test_a_view_older_than_the_cause_stops_nothing(
    observation: Observation, policy: Policy, started: frozenset[str]
) -> None:
    plan = decide(policy, FREE, observation, started=started, since=NOW + timedelta(microseconds=1))
    assert not plan.stop
    assert bool(plan.doubt) == bool(plan.withheld)


@pytest.mark.parametrize(("seen", "state"), [(BOOKED, State.STOPPED), (FREE, State.RUNNING)])
def test_an_obstacle_keeps_one_instance_as_it_is_and_is_told(seen: Moment, state: State) -> None:
    held, free = Instance("i-0", state, "is a read replica"), Instance("i-1", state)
    plan = decide(Policy(), seen, Observation((held, free), NOW), since=NOW)
    assert (plan.start or plan.stop) == ("i-1",)
    assert plan.blocked == (held,)


@pytest.mark.parametrize(("seen", "state"), [(BOOKED, State.RUNNING), (FREE, State.STOPPED)])
def test_an_obstacle_does_not_matter_to_one_that_is_as_booked(seen: Moment, state: State) -> None:
    plan = decide(Policy(), seen, Observation((Instance("i-0", state, "is busy"),), NOW), since=NOW)
    assert plan == Plan()


def test_what_a_booking_did_not_start_is_no_obstacle_under_leave() -> None:
    held = Instance("i-0", State.RUNNING, "is a read replica")
    assert decide(LEAVE, FREE, Observation((held,), NOW), since=NOW).blocked == ()


def test_a_partly_running_group_is_completed() -> None:
    plan = decide(Policy(), BOOKED, view(State.RUNNING, State.STOPPED), since=NOW)
    assert plan.start == ("i-1",)


def test_stopping_ones_are_waited_for() -> None:
    plan = decide(Policy(), BOOKED, view(State.STOPPING), since=NOW)
    assert not plan.acts
    assert plan.moving


def test_pending_ones_are_stopped_once_they_run() -> None:
    assert not decide(Policy(), FREE, view(State.PENDING), since=NOW).acts
    assert decide(Policy(), FREE, view(State.RUNNING), since=NOW).stop == ("i-0",)


def test_a_start_needs_no_fresh_view_and_survives_a_doubt() -> None:
    stale = view(State.STOPPED, at=BEFORE)
    assert decide(Policy(), BOOKED, stale, since=NOW, doubt="not synced").start == ("i-0",)


def test_nothing_is_done_before_the_first_view() -> None:
    assert not decide(Policy(), BOOKED, None, since=NOW).acts
    assert not decide(Policy(), FREE, None, since=NOW).acts


def test_leave_stops_only_what_a_booking_started() -> None:
    begun = decide(LEAVE, BOOKED, view(State.RUNNING, State.STOPPED), since=NOW)
    assert begun.started == {"i-1"}
    ended = decide(LEAVE, FREE, view(State.RUNNING, State.RUNNING), started=begun.started, since=NOW)
    assert ended.stop == ("i-1",)


def test_leave_forgets_what_is_stopped_or_gone() -> None:
    plan = decide(LEAVE, FREE, view(State.STOPPED), started=frozenset({"i-0", "i-9"}), since=NOW - SETTLING)
    assert plan.started == frozenset()


@pytest.mark.parametrize("policy", [LEAVE, Policy()])
def test_leave_does_not_take_for_stopped_what_may_have_been_started_a_moment_ago(policy: Policy) -> None:
    """A start that was sent right before the end may be answered, and seen, only after it."""
    since = NOW - SETTLING + timedelta(seconds=1)
    plan = decide(policy, FREE, view(State.STOPPED), started=frozenset({"i-0", "i-9"}), since=since)
    assert plan.started == ({"i-0"} if policy is LEAVE else frozenset())
    assert settled_at(plan.started, policy, FREE, since) == (since + SETTLING if policy is LEAVE else None)


def test_what_is_booked_or_forgotten_need_not_settle() -> None:
    assert settled_at({"i-0"}, LEAVE, BOOKED, NOW) is None
    assert settled_at((), LEAVE, FREE, NOW) is None


def test_leave_remembers_through_the_stop() -> None:
    plan = decide(LEAVE, FREE, view(State.STOPPING), started=frozenset({"i-0"}), since=NOW)
    assert plan.started == {"i-0"}


@pytest.mark.parametrize("seen", [FREE, BOOKED], ids=["free", "booked"])
def test_a_view_from_before_has_nothing_forgotten(seen: Moment) -> None:
    """Whoever takes over may have looked last before the start, and be refused the next look."""
    memory, since = frozenset({"i-0", "i-9"}), NOW + timedelta(seconds=1)
    assert decide(LEAVE, seen, view(State.STOPPED), started=memory, since=since).started == memory


def test_stop_remembers_what_was_started_lest_it_becomes_leave_meanwhile() -> None:
    memory, running = frozenset({"i-1", "i-9"}), view(State.RUNNING, State.RUNNING)
    assert decide(Policy(), BOOKED, running, started=memory, since=NOW).started == {"i-1"}
    assert decide(Policy(), BOOKED, view(State.STOPPED), since=NOW).started == frozenset()


@pytest.mark.parametrize("how", [Policy(suspend=True), Policy(dry_run=True)])
def test_leave_remembers_no_start_that_is_not_going_to_be(how: Policy) -> None:
    policy, seen = replace(how, unbooked=Unbooked.LEAVE), view(State.STOPPED, State.RUNNING)
    plan = decide(policy, BOOKED, seen, started=frozenset({"i-1"}), since=NOW)
    assert (plan.start, plan.started) == (("i-0",), frozenset({"i-1"}))


@pytest.mark.parametrize("policy", [Policy(suspend=True), Policy(dry_run=True)])
def test_suspend_and_dry_run_plan_but_do_not_act(policy: Policy) -> None:
    assert not policy.acts
    assert decide(policy, BOOKED, view(State.STOPPED), since=NOW).start == ("i-0",)
