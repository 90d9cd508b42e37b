"""Lock tags: which are own and which foreign, what a foreign one prevents, and which are written."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain import locks
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline
from booking_operator.domain.instance import Instance, InstanceState, Lock, Observation

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
ADA = BookingInterval("b", "ada", NOW, NOW + timedelta(hours=1), NOW)
OURS = Lock("ada", "2026-01-05T10:00:00Z")
BOB = Lock("bob", "2026-01-05T12:00:00Z")
EXPIRED = Lock("bob", "2026-01-05T09:00:00Z")
RUNNING = InstanceState.RUNNING


def view(*locks: Lock | None, state: InstanceState = RUNNING) -> Observation:
    return Observation(tuple(Instance(f"i-{n}", state, lock=item) for n, item in enumerate(locks)), NOW)


def marks(observation: Observation, holder: BookingInterval | None, *memory: Lock) -> locks.LockTagChanges:
    ours = locks.OwnLocks(memory, BookingTimeline([holder] if holder else []))
    return locks.lock_tag_changes(
        observation, holder, ours, locks.classify_locks(observation, ours, NOW), NOW
    )


def test_the_lock_of_the_holder_is_written_to_all_but_stopped_instances() -> None:
    observation = view(None, OURS, EXPIRED, None)
    stopped = replace(observation.instances[3], state=InstanceState.STOPPED)
    plan = marks(replace(observation, instances=(*observation.instances[:3], stopped)), ADA)
    assert (plan.lock, plan.write, plan.remove, plan.remembered) == (OURS, ("i-0", "i-2"), (), (OURS,))


def test_another_holder_replaces_the_tags() -> None:
    old = Lock("eve", "2026-01-05T11:00:00Z")
    plan = marks(view(old), ADA, old)
    assert (plan.write, plan.remove) == (("i-0",), ())
    assert set(plan.remembered) == {old, OURS}


def test_a_lock_in_flight_is_remembered_until_it_expires() -> None:
    """A booking was shortened right after its lock tags were sent."""
    under_way, over = Lock("ada", "2026-01-05T11:00:00Z"), Lock("ada", "2026-01-05T09:00:00Z")
    assert set(marks(view(None), ADA, under_way, over).remembered) == {OURS, under_way}
    assert marks(view(OURS), ADA, under_way).remembered == (OURS,)


def test_the_number_of_remembered_locks_is_bounded() -> None:
    many = [Lock("ada", f"2026-01-05T11:{minute:02}:00Z") for minute in range(60)]
    assert set(marks(view(None), ADA, *many).remembered) == {OURS, *many[-locks.MAX_REMEMBERED :]}


def test_without_a_holder_only_own_tags_are_removed() -> None:
    plan = marks(view(OURS, BOB, EXPIRED, None), None, OURS)
    assert (plan.lock, plan.write, plan.remove, plan.remembered) == (None, (), ("i-0",), ())


def test_without_a_holder_and_tags_nothing_is_remembered() -> None:
    assert marks(view(None, state=InstanceState.STOPPED), None, OURS).remembered == ()
    assert marks(view(None, state=InstanceState.STOPPED), ADA).remembered == ()


def test_an_own_lock_in_another_notation_is_own() -> None:
    go = Lock("ada", "2026-01-05T11:00:00+01:00")
    assert locks.classify_locks(view(go), locks.OwnLocks({OURS}, BookingTimeline()), NOW).foreign == ()
    assert marks(view(go), ADA).write == ("i-0",)
    assert marks(view(go), None, OURS).remove == ("i-0",)


def test_a_foreign_lock_blocks_until_it_expires() -> None:
    found = locks.classify_locks(view(BOB, OURS, EXPIRED), locks.OwnLocks({OURS}, BookingTimeline()), NOW)
    assert [instance.id for instance in found.foreign] == ["i-0"]
    assert found.expires_at == NOW + timedelta(hours=3)
    blocked = locks.block_foreign(view(BOB, None), found)
    assert blocked.instances[0].blocked_reason == "is locked by bob until 2026-01-05T12:00:00Z"
    assert blocked.stoppable() == ("i-1",)
    assert marks(view(BOB), ADA).write == ()


@pytest.mark.parametrize(
    "garbled",
    [
        Lock("", "2026-01-05T12:00:00Z"),
        Lock("bob", ""),
        Lock("bob", "soon"),
        Lock("bob", "2026-01-05T12:00:00"),
    ],
)
def test_an_invalid_lock_blocks_nothing(garbled: Lock) -> None:
    found = locks.classify_locks(view(garbled), locks.OwnLocks((), BookingTimeline()), NOW)
    assert [instance.id for instance in found.malformed] == ["i-0"]
    assert (found.foreign, found.expires_at) == ((), None)
    assert marks(view(garbled), ADA).write == ("i-0",)
    assert marks(view(garbled), None).remove == ()


@given(st.text(max_size=300))
def test_any_user_fits_into_a_tag(user: str) -> None:
    written = locks.lock_for(replace(ADA, user_id=user)).by
    assert 1 <= len(written) <= 256
    assert not set(written) & set("<>\"'{}[];!?%&$#*~|\\")
