"""The store: indexes, what counts as a change, and our own writes."""

from dataclasses import replace

from booking_operator.engine.store import Change, Key, Origin, Store
from tests.support.things import Thing, thing


def recorded(store: Store[Thing]) -> list[Change[Thing]]:
    changes: list[Change[Thing]] = []
    store.subscribe(changes.append)
    return changes


def test_indexes_follow_an_object_that_moves() -> None:
    store: Store[Thing] = Store({"status": lambda object_: (object_.status,)})
    store.apply(thing("a", 1, "x"))
    store.apply(thing("b", 2, "x"))
    store.apply(thing("a", 3, "y"))
    assert [found.metadata.name for found in store.by_index("status", "x")] == ["b"]
    assert [found.metadata.name for found in store.by_index("status", "y")] == ["a"]
    store.delete(Key("ns", "a"))
    assert store.by_index("status", "y") == []


def test_a_list_deletes_what_is_not_in_it() -> None:
    store: Store[Thing] = Store()
    store.replace([thing("a"), thing("b")], Origin.INITIAL)
    changes = recorded(store)
    store.replace([thing("b"), thing("c", 2)])
    assert [(change.key.name, change.new is None) for change in changes] == [("a", True), ("c", False)]


def test_an_older_event_never_replaces_a_newer_object() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 10, "new"))
    store.apply(thing("a", 9, "old"))
    found = store.get(Key("ns", "a"))
    assert found is not None
    assert found.status == "new"


def test_a_list_may_go_back_in_versions() -> None:
    """As after etcd was restored from a snapshot."""
    store: Store[Thing] = Store()
    store.apply(thing("a", 10, "new"))
    store.replace([thing("a", 5, "restored")])
    found = store.get(Key("ns", "a"))
    assert found is not None
    assert found.status == "restored"


def test_a_list_does_not_undo_what_was_written_since() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 10, "old"))
    store.apply_own_write(thing("a", 12, "ours"))
    changes = recorded(store)
    store.replace([thing("a", 10, "old")], as_of="11")
    assert changes == []
    store.replace([thing("a", 13, "theirs")], as_of="13")
    assert [change.latest.status for change in changes] == ["theirs"]


def test_what_was_created_again_before_a_list_takes_the_place_of_what_was_written() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 12, "ours"))
    store.replace([thing("a", 10, "another", uid="u2")], as_of="11")
    found = store.get(Key("ns", "a"))
    assert found is not None
    assert found.status == "another"


def test_a_mere_resource_version_wakes_nobody() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 1))
    changes = recorded(store)
    store.apply(thing("a", 2))
    assert changes == []


def test_the_echo_of_our_own_write_wakes_nobody() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 1))
    changes = recorded(store)
    store.apply_own_write(thing("a", 2, "ours"))
    store.apply(thing("a", 2, "ours"))
    assert [change.origin for change in changes] == [Origin.OWN]
    store.apply(thing("a", 3, "tampered"))
    assert [change.origin for change in changes] == [Origin.OWN, Origin.WATCH]


def test_a_write_does_not_bring_back_what_is_gone_or_created_again() -> None:
    store: Store[Thing] = Store()
    store.apply_own_write(thing("a", 5))
    assert len(store) == 0
    store.apply(thing("a", 6, uid="u2"))
    store.apply_own_write(thing("a", 7, "ours", uid="u1"))
    found = store.get(Key("ns", "a"))
    assert found is not None
    assert found.metadata.uid == "u2"


def test_an_answer_with_somebody_elses_edit_counts_as_theirs() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 1))
    changes = recorded(store)
    store.apply_own_write(thing("a", 3, "ours", generation=2))
    assert [change.origin for change in changes] == [Origin.WATCH]


def test_an_object_that_has_not_changed_is_not_replaced_by_a_list() -> None:
    store: Store[Thing] = Store()
    store.replace([thing("a"), thing("b")])
    before = store.get(Key("ns", "a"))
    store.replace([thing("a"), thing("b", 2)])
    assert store.get(Key("ns", "a")) is before
    found = store.get(Key("ns", "b"))
    assert found is not None
    assert found.metadata.resource_version == "2"


def test_the_values_of_an_index_are_those_of_the_objects_there_are() -> None:
    store: Store[Thing] = Store({"status": lambda object_: (object_.status,)})
    for name, status in (("a", "x"), ("b", "x"), ("c", "y")):
        store.apply(thing(name, 1, status))
    store.delete(Key("ns", "c"))
    assert set(store.index_values("status")) == {"x"}


def test_another_spec_of_the_same_generation_is_no_mere_status() -> None:
    """A restored etcd gives generations twice."""
    before = thing("a", 5)
    assert not Change(before, replace(before, spec="other"), Origin.WATCH).status_only
    assert Change(before, replace(before, status="other"), Origin.WATCH).status_only
