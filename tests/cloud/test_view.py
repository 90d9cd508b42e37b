"""The state in a view when Describe and accepted actions disagree."""

from datetime import timedelta

import pytest

from booking_operator.cloud.driver import ActionAnswer, Record
from booking_operator.cloud.inventory.view import CONSISTENCY_LAG, InstanceView
from booking_operator.domain.instance import Instance, InstanceState, Lock
from tests.support.virtual import EPOCH

STOPPED, PENDING, RUNNING, STOPPING = (
    InstanceState.STOPPED,
    InstanceState.PENDING,
    InstanceState.RUNNING,
    InstanceState.STOPPING,
)


def second(number: float) -> timedelta:
    return timedelta(seconds=number)


def records(**states: InstanceState) -> list[Record]:
    return [Record("web", Instance(id_, state)) for id_, state in states.items()]


def seen(view: InstanceView, tag: str = "web") -> dict[str, InstanceState]:
    observation = view.observation(tag)
    assert observation is not None
    return {instance.id: instance.state for instance in observation.instances}


def take(
    view: InstanceView, sent: float, *, received: float | None = None, **states: InstanceState
) -> set[str]:
    now = EPOCH + second(sent if received is None else received)
    return set(view.update(records(**states), EPOCH + second(sent), now))


def started(
    view: InstanceView, at: float, before: InstanceState | None = STOPPED, now: InstanceState = PENDING
) -> None:
    view.record_answers("web", {"a": ActionAnswer(before, now)}, EPOCH + second(at))


def test_nothing_is_known_before_the_first_describe() -> None:
    assert InstanceView().observation("web") is None


def test_a_group_without_instances_is_empty() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED)
    assert seen(view, "other") == {}


def test_instances_are_sorted_by_id() -> None:
    view = InstanceView()
    take(view, 0, c=STOPPED, a=RUNNING, b=STOPPED)
    assert list(seen(view)) == ["a", "b", "c"]


def test_groups_that_appear_change_or_vanish_are_reported() -> None:
    view = InstanceView()
    instances = [Record(tag, Instance(tag, STOPPED)) for tag in ("same", "changes", "vanishes")]
    view.update(instances, EPOCH, EPOCH)
    later = [
        Record("same", Instance("same", STOPPED)),
        Record("changes", Instance("changes", PENDING)),
        Record("appears", Instance("appears", STOPPED)),
    ]
    assert set(view.update(later, EPOCH, EPOCH)) == {"changes", "vanishes", "appears"}


def test_an_accepted_start_is_visible_immediately() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED, b=STOPPED)
    started(view, 1)
    assert seen(view) == {"a": PENDING, "b": STOPPED}
    assert view.has_transitions({"web"})


def test_an_action_accepted_before_the_first_describe_is_not_lost() -> None:
    view = InstanceView()
    started(view, 1)
    take(view, 0.5, received=2, a=STOPPED)
    assert seen(view) == {"a": PENDING}


@pytest.mark.parametrize("shown", list(InstanceState))
def test_a_describe_sent_before_the_answer_does_not_overwrite_it(shown: InstanceState) -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED)
    started(view, 2)
    take(view, 1, received=3, a=shown)
    assert seen(view) == {"a": PENDING}
    take(view, 2, received=3, a=shown)
    assert seen(view) == {"a": PENDING}


def test_a_describe_sent_after_the_answer_wins_if_it_shows_a_new_state() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 2, a=RUNNING)
    assert seen(view) == {"a": RUNNING}


def test_a_lagging_describe_does_not_bring_the_old_state_back() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 2, a=STOPPED)
    assert seen(view) == {"a": PENDING}


def test_the_old_state_wins_after_the_consistency_lag() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 1 + CONSISTENCY_LAG.total_seconds(), a=STOPPED)
    assert seen(view) == {"a": PENDING}
    take(view, 1.1 + CONSISTENCY_LAG.total_seconds(), a=STOPPED)
    assert seen(view) == {"a": STOPPED}


@pytest.mark.parametrize(
    ("before", "answered", "aim"),
    [(RUNNING, PENDING, RUNNING), (STOPPED, STOPPING, STOPPED), (RUNNING, RUNNING, RUNNING)],
)
def test_the_state_that_an_action_aims_at_is_never_outdated(
    before: InstanceState, answered: InstanceState, aim: InstanceState
) -> None:
    """A new leader may start a running instance, because its view may be a minute old."""
    view = InstanceView()
    take(view, 0, a=before)
    started(view, 5, before=before, now=answered)
    take(view, 5.5, a=aim)
    assert seen(view) == {"a": aim}


@pytest.mark.parametrize("answered", [PENDING, STOPPING])
def test_the_state_that_an_action_ends_is_outdated_during_the_lag(answered: InstanceState) -> None:
    view, ended = InstanceView(), {PENDING: STOPPED, STOPPING: RUNNING}[answered]
    take(view, 0, a=ended)
    started(view, 5, before=ended, now=answered)
    take(view, 5.5, a=ended)
    assert seen(view) == {"a": answered}


def test_after_a_new_state_was_seen_the_old_state_is_accepted() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 2, a=RUNNING)
    take(view, 3, a=STOPPED)
    assert seen(view) == {"a": STOPPED}


def test_a_second_start_after_a_lost_reply_keeps_the_state_before_the_first() -> None:
    """The first start was carried out, and its reply was lost. The second one finds a pending instance."""
    view = InstanceView()
    take(view, 0, a=STOPPED)
    started(view, 2, before=PENDING, now=PENDING)
    take(view, 3, a=STOPPED)
    assert seen(view) == {"a": PENDING}


def test_the_previous_state_in_an_answer_is_outdated_too() -> None:
    view = InstanceView()
    started(view, 1, before=STOPPED)
    take(view, 2, a=STOPPED)
    assert seen(view) == {"a": PENDING}


def test_a_describe_that_shows_what_was_answered_has_caught_up() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED)
    started(view, 1, before=PENDING, now=PENDING)
    take(view, 2, a=PENDING)
    take(view, 3, a=STOPPED)
    assert seen(view) == {"a": STOPPED}


def test_an_answer_from_before_the_clock_was_set_back_expires() -> None:
    view = InstanceView()
    take(view, 3600, a=STOPPED)
    started(view, 3601)
    take(view, 10, a=STOPPED)
    assert seen(view) == {"a": STOPPED}


def test_the_answer_of_a_terminated_instance_is_dropped() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED, b=STOPPED)
    started(view, 1)
    take(view, 2, b=STOPPED)
    assert seen(view) == {"b": STOPPED}
    assert not view._accepted


def test_only_instances_configured_for_hibernation_hibernate() -> None:
    view = InstanceView()
    able = Record("web", Instance("a", RUNNING), hibernates=True)
    view.update([able, *records(b=RUNNING)], EPOCH, EPOCH)
    assert view.hibernating(["a", "b", "unknown"]) == ("a",)


def test_written_lock_tags_win_over_a_stale_describe() -> None:
    view, lock = InstanceView(), Lock("ada", "2026-01-01T10:00:00Z")
    view.update(records(a=RUNNING), EPOCH, EPOCH)
    view.record_lock("web", ["a"], lock, EPOCH)
    later = EPOCH + timedelta(seconds=5)
    assert view.update(records(a=RUNNING), later, later) == []
    assert locks(view) == {"a": lock}
    much_later = EPOCH + CONSISTENCY_LAG + timedelta(seconds=1)
    assert view.update(records(a=RUNNING), much_later, much_later) == ["web"]
    assert locks(view) == {"a": None}


def test_removed_lock_tags_do_not_return_with_a_stale_describe() -> None:
    view, lock = InstanceView(), Lock("ada", "2026-01-01T10:00:00Z")
    tagged = [Record("web", Instance("a", RUNNING, lock=lock))]
    view.update(tagged, EPOCH, EPOCH)
    view.record_lock("web", ["a"], None, EPOCH)
    assert view.update(tagged, EPOCH, EPOCH) == []
    assert locks(view) == {"a": None}


def locks(view: InstanceView) -> dict[str, Lock | None]:
    observation = view.observation("web")
    assert observation is not None
    return {instance.id: instance.lock for instance in observation.instances}


def test_groups_with_the_managed_tag_are_known() -> None:
    view = InstanceView()
    asking = Record("web", Instance("a", RUNNING), managed=True)
    view.update([asking, Record("db", Instance("b", RUNNING))], EPOCH, EPOCH)
    assert view.managed == {"web"}


def test_the_last_change_of_an_instance_in_a_describe_is_known_for_an_hour() -> None:
    view = InstanceView()
    take(view, 0, a=RUNNING, b=RUNNING)
    assert (view.changed_at("a"), view.changed_at("b")) == (None, None)
    take(view, 60, a=STOPPING, b=RUNNING)
    assert (view.changed_at("a"), view.changed_at("b")) == (EPOCH + second(60), None)
    take(view, 120, a=STOPPING, b=RUNNING)
    assert view.changed_at("a") == EPOCH + second(60)
    busy = Record("web", Instance("b", RUNNING, "cannot be stopped while it is modifying"))
    view.update([*records(a=STOPPING), busy], EPOCH + second(180), EPOCH + second(180))
    assert view.changed_at("b") == EPOCH + second(180)
    take(view, 60 + 3600, a=STOPPING, b=RUNNING)
    assert (view.changed_at("a"), view.changed_at("b")) == (None, EPOCH + second(60 + 3600))
    take(view, 0, a=STOPPING, b=RUNNING)  # the clock was set back
    assert view.changed_at("b") is None


def test_an_accepted_action_is_no_change_in_a_describe() -> None:
    view = InstanceView()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 2, a=STOPPED)
    assert view.changed_at("a") is None
    take(view, 3, a=RUNNING)
    assert view.changed_at("a") == EPOCH + second(3)


def test_ignored_instances_are_named_and_not_counted() -> None:
    view = InstanceView()
    ignored = Record("web", Instance("b", RUNNING, "has a tag"), left_out=True)
    assert set(view.update([*records(a=STOPPED), ignored], EPOCH, EPOCH)) == {"web"}
    observation = view.observation("web")
    assert observation is not None
    assert (list(seen(view)), observation.left_out) == (["a"], (ignored.instance,))
    assert dict(view.states()) == {STOPPED: 1}
    assert view.update([*records(a=STOPPED), ignored], EPOCH, EPOCH) == []
    assert set(view.update(records(a=STOPPED, b=RUNNING), EPOCH, EPOCH)) == {"web"}
    assert list(seen(view)) == ["a", "b"]


def test_tags_that_differ_only_by_case_or_blanks_are_known() -> None:
    view = InstanceView()
    tags = ["web", "Web ", "we b", "db"]
    view.update([Record(tag, Instance(tag, RUNNING)) for tag in tags], EPOCH, EPOCH)
    similar = {tag: observation.similar for tag in [*tags, "DB"] if (observation := view.observation(tag))}
    assert similar == {
        "web": ("Web ", "we b"),
        "Web ": ("we b", "web"),
        "we b": ("Web ", "web"),
        "db": (),
        "DB": ("db",),
    }
