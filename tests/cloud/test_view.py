"""What a view shows when Describe and accepted actions disagree."""

from datetime import timedelta

import pytest

from booking_operator.cloud.inventory.view import LAG, Answer, Record, View
from booking_operator.domain.instance import Instance, Lock, State
from tests.support.virtual import EPOCH

STOPPED, PENDING, RUNNING, STOPPING = State.STOPPED, State.PENDING, State.RUNNING, State.STOPPING


def second(number: float) -> timedelta:
    return timedelta(seconds=number)


def records(**states: State) -> list[Record]:
    return [Record("web", Instance(id_, state)) for id_, state in states.items()]


def seen(view: View, tag: str = "web") -> dict[str, State]:
    observation = view.observation(tag)
    assert observation is not None
    return {instance.id: instance.state for instance in observation.instances}


def take(view: View, sent: float, *, received: float | None = None, **states: State) -> set[str]:
    now = EPOCH + second(sent if received is None else received)
    return set(view.take(records(**states), EPOCH + second(sent), now))


def started(view: View, at: float, before: State | None = STOPPED, now: State = PENDING) -> None:
    view.note("web", {"a": Answer(before, now)}, EPOCH + second(at))


def test_nothing_is_known_before_the_first_describe() -> None:
    assert View().observation("web") is None


def test_a_group_without_instances_is_seen_to_be_empty() -> None:
    view = View()
    take(view, 0, a=STOPPED)
    assert seen(view, "other") == {}


def test_instances_come_in_the_order_of_their_ids() -> None:
    view = View()
    take(view, 0, c=STOPPED, a=RUNNING, b=STOPPED)
    assert list(seen(view)) == ["a", "b", "c"]


def test_groups_that_appear_change_or_vanish_are_told() -> None:
    view = View()
    instances = [Record(tag, Instance(tag, STOPPED)) for tag in ("same", "changes", "vanishes")]
    view.take(instances, EPOCH, EPOCH)
    later = [
        Record("same", Instance("same", STOPPED)),
        Record("changes", Instance("changes", PENDING)),
        Record("appears", Instance("appears", STOPPED)),
    ]
    assert set(view.take(later, EPOCH, EPOCH)) == {"changes", "vanishes", "appears"}


def test_an_accepted_start_shows_at_once() -> None:
    view = View()
    take(view, 0, a=STOPPED, b=STOPPED)
    started(view, 1)
    assert seen(view) == {"a": PENDING, "b": STOPPED}
    assert view.moving({"web"})


def test_an_action_accepted_before_the_first_describe_is_not_lost() -> None:
    view = View()
    started(view, 1)
    take(view, 0.5, received=2, a=STOPPED)
    assert seen(view) == {"a": PENDING}


@pytest.mark.parametrize("shown", list(State))
def test_a_describe_sent_before_the_answer_does_not_overwrite_it(shown: State) -> None:
    view = View()
    take(view, 0, a=STOPPED)
    started(view, 2)
    take(view, 1, received=3, a=shown)
    assert seen(view) == {"a": PENDING}
    take(view, 2, received=3, a=shown)
    assert seen(view) == {"a": PENDING}


def test_a_describe_sent_after_the_answer_is_believed_when_it_shows_news() -> None:
    view = View()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 2, a=RUNNING)
    assert seen(view) == {"a": RUNNING}


def test_a_lagging_describe_does_not_bring_the_old_state_back() -> None:
    view = View()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 2, a=STOPPED)
    assert seen(view) == {"a": PENDING}


def test_the_old_state_is_believed_once_the_lag_is_over() -> None:
    view = View()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 1 + LAG.total_seconds(), a=STOPPED)
    assert seen(view) == {"a": PENDING}
    take(view, 1.1 + LAG.total_seconds(), a=STOPPED)
    assert seen(view) == {"a": STOPPED}


@pytest.mark.parametrize(
    ("before", "answered", "aim"),
    [(RUNNING, PENDING, RUNNING), (STOPPED, STOPPING, STOPPED), (RUNNING, RUNNING, RUNNING)],
)
def test_the_state_that_an_action_aims_at_is_never_outdated(
    before: State, answered: State, aim: State
) -> None:
    """A replica that takes over may start what runs already: its view may be a minute old."""
    view = View()
    take(view, 0, a=before)
    started(view, 5, before=before, now=answered)
    take(view, 5.5, a=aim)
    assert seen(view) == {"a": aim}


@pytest.mark.parametrize("answered", [PENDING, STOPPING])
def test_the_state_that_an_action_ends_is_outdated_for_a_while(answered: State) -> None:
    view, ended = View(), {PENDING: STOPPED, STOPPING: RUNNING}[answered]
    take(view, 0, a=ended)
    started(view, 5, before=ended, now=answered)
    take(view, 5.5, a=ended)
    assert seen(view) == {"a": answered}


def test_once_news_was_seen_the_old_state_is_news_too() -> None:
    view = View()
    take(view, 0, a=STOPPED)
    started(view, 1)
    take(view, 2, a=RUNNING)
    take(view, 3, a=STOPPED)
    assert seen(view) == {"a": STOPPED}


def test_a_second_start_after_a_lost_reply_still_knows_the_state_of_before() -> None:
    """The first start was carried out, its reply lost; the second finds the instance pending already."""
    view = View()
    take(view, 0, a=STOPPED)
    started(view, 2, before=PENDING, now=PENDING)
    take(view, 3, a=STOPPED)
    assert seen(view) == {"a": PENDING}


def test_the_state_before_is_also_what_the_answer_says_it_was() -> None:
    view = View()
    started(view, 1, before=STOPPED)
    take(view, 2, a=STOPPED)
    assert seen(view) == {"a": PENDING}


def test_a_describe_that_shows_what_was_answered_has_caught_up() -> None:
    view = View()
    take(view, 0, a=STOPPED)
    started(view, 1, before=PENDING, now=PENDING)
    take(view, 2, a=PENDING)
    take(view, 3, a=STOPPED)
    assert seen(view) == {"a": STOPPED}


def test_a_note_from_before_the_clock_was_set_back_does_not_last() -> None:
    view = View()
    take(view, 3600, a=STOPPED)
    started(view, 3601)
    take(view, 10, a=STOPPED)
    assert seen(view) == {"a": STOPPED}


def test_an_instance_that_is_gone_takes_its_note_along() -> None:
    view = View()
    take(view, 0, a=STOPPED, b=STOPPED)
    started(view, 1)
    take(view, 2, b=STOPPED)
    assert seen(view) == {"b": STOPPED}
    assert not view._notes


def test_only_instances_launched_for_it_hibernate() -> None:
    view = View()
    able = Record("web", Instance("a", RUNNING), hibernates=True)
    view.take([able, *records(b=RUNNING)], EPOCH, EPOCH)
    assert view.hibernating(["a", "b", "unknown"]) == ("a",)


def test_written_lock_tags_are_believed_over_a_describe_that_is_behind() -> None:
    view, lock = View(), Lock("ada", "2026-01-01T10:00:00Z")
    view.take(records(a=RUNNING), EPOCH, EPOCH)
    view.note_lock("web", ["a"], lock, EPOCH)
    later = EPOCH + timedelta(seconds=5)
    assert view.take(records(a=RUNNING), later, later) == []
    assert locks(view) == {"a": lock}
    much_later = EPOCH + LAG + timedelta(seconds=1)
    assert view.take(records(a=RUNNING), much_later, much_later) == ["web"]
    assert locks(view) == {"a": None}


def test_removed_lock_tags_do_not_come_back_with_a_describe_that_is_behind() -> None:
    view, lock = View(), Lock("ada", "2026-01-01T10:00:00Z")
    tagged = [Record("web", Instance("a", RUNNING, lock=lock))]
    view.take(tagged, EPOCH, EPOCH)
    view.note_lock("web", ["a"], None, EPOCH)
    assert view.take(tagged, EPOCH, EPOCH) == []
    assert locks(view) == {"a": None}


def locks(view: View) -> dict[str, Lock | None]:
    observation = view.observation("web")
    assert observation is not None
    return {instance.id: instance.lock for instance in observation.instances}


def test_groups_that_ask_for_a_resource_are_told_apart() -> None:
    view = View()
    asking = Record("web", Instance("a", RUNNING), managed=True)
    view.take([asking, Record("db", Instance("b", RUNNING))], EPOCH, EPOCH)
    assert view.managed == {"web"}
