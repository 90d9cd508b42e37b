"""The store: indexes, changes, and own writes."""

from dataclasses import replace

from booking_operator.engine.store import Change, Key, Origin, Store
from tests.support.objects import Thing, thing


def recorded(store: Store[Thing]) -> list[Change[Thing]]:
    changes: list[Change[Thing]] = []
    store.subscribe(changes.append)
    return changes


def test_indexes_follow_changed_objects() -> None:
    store: Store[Thing] = Store({"status": lambda object_: (object_.status,)})
    store.apply(thing("a", 1, "x"))
    store.apply(thing("b", 2, "x"))
    store.apply(thing("a", 3, "y"))
    assert [found.metadata.name for found in store.by_index("status", "x")] == ["b"]
    assert [found.metadata.name for found in store.by_index("status", "y")] == ["a"]
    store.delete(Key("ns", "a"))
    assert store.by_index("status", "y") == []


def test_a_list_deletes_objects_that_it_lacks() -> None:
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


def test_a_list_may_have_older_versions() -> None:
    """For example, after etcd was restored from a snapshot."""
    store: Store[Thing] = Store()
    store.apply(thing("a", 10, "new"))
    store.replace([thing("a", 5, "restored")])
    found = store.get(Key("ns", "a"))
    assert found is not None
    assert found.status == "restored"


def test_a_list_does_not_overwrite_newer_own_writes() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 10, "old"))
    store.apply_own_write(thing("a", 12, "ours"))
    changes = recorded(store)
    store.replace([thing("a", 10, "old")], as_of="11")
    assert changes == []
    store.replace([thing("a", 13, "theirs")], as_of="13")
    assert [change.latest.status for change in changes] == ["theirs"]


def test_a_recreated_object_in_a_list_replaces_an_own_write() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 12, "ours"))
    store.replace([thing("a", 10, "another", uid="u2")], as_of="11")
    found = store.get(Key("ns", "a"))
    assert found is not None
    assert found.status == "another"


def test_a_new_resource_version_alone_is_no_change() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 1))
    changes = recorded(store)
    store.apply(thing("a", 2))
    assert changes == []


def test_the_watch_event_of_an_own_write_is_no_change() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 1))
    changes = recorded(store)
    store.apply_own_write(thing("a", 2, "ours"))
    store.apply(thing("a", 2, "ours"))
    assert [change.origin for change in changes] == [Origin.OWN]
    store.apply(thing("a", 3, "tampered"))
    assert [change.origin for change in changes] == [Origin.OWN, Origin.WATCH]


def test_an_own_write_does_not_restore_a_deleted_or_recreated_object() -> None:
    store: Store[Thing] = Store()
    store.apply_own_write(thing("a", 5))
    assert len(store) == 0
    store.apply(thing("a", 6, uid="u2"))
    store.apply_own_write(thing("a", 7, "ours", uid="u1"))
    found = store.get(Key("ns", "a"))
    assert found is not None
    assert found.metadata.uid == "u2"


def test_a_response_with_an_edit_of_another_user_has_origin_watch() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 1))
    changes = recorded(store)
    store.apply_own_write(thing("a", 3, "ours", generation=2))
    assert [change.origin for change in changes] == [Origin.WATCH]


def test_a_list_does_not_replace_unchanged_objects() -> None:
    store: Store[Thing] = Store()
    store.replace([thing("a"), thing("b")])
    before = store.get(Key("ns", "a"))
    store.replace([thing("a"), thing("b", 2)])
    assert store.get(Key("ns", "a")) is before
    found = store.get(Key("ns", "b"))
    assert found is not None
    assert found.metadata.resource_version == "2"


def test_index_values_are_those_of_existing_objects() -> None:
    store: Store[Thing] = Store({"status": lambda object_: (object_.status,)})
    for name, status in (("a", "x"), ("b", "x"), ("c", "y")):
        store.apply(thing(name, 1, status))
    store.delete(Key("ns", "c"))
    assert set(store.index_values("status")) == {"x"}


def test_a_changed_spec_with_the_same_generation_is_not_status_only() -> None:
    """A restored etcd can assign the same generation twice."""
    before = thing("a", 5)
    assert not Change(before, replace(before, spec="other"), Origin.WATCH).status_only
    assert Change(before, replace(before, status="other"), Origin.WATCH).status_only
