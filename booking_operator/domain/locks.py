"""The lock tags of instances: which tags to write and remove, and which foreign locks to respect.

Lock tags show other tools, other operators and people which user an instance is booked for. The operator
does not start or stop an instance with an unexpired lock that it did not write.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.instance import Instance, InstanceState, Lock, Observation

MAX_REMEMBERED = 16
"""The maximum number of locks in the status that no instance shows.

A write of such a lock may still be in flight. With more locks than this, the earliest writes have ended.
"""
_MAX_LENGTH = 256
# Characters that every service allows in tag values: letters of any script, digits, spaces (the Unicode
# category, so no line breaks) and the characters of `_OTHERS`. A value must not begin with `_RESERVED`. See
# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_Tag.html.
_ALLOWED, _OTHERS = frozenset("LNZ"), frozenset("_.:/=+-@")
_RESERVED = ("aws:", "rds:")


@dataclass(frozen=True, slots=True)
class ClassifiedLocks:
    """The locks on the instances of one group that the operator did not write.

    Attributes:
        foreign: the instances with an unexpired foreign lock.
        malformed: the instances whose lock names no user, or no valid end with a UTC offset.
        expires_at: when the first foreign lock expires (aware UTC); None when there is none.
    """

    foreign: tuple[Instance, ...]
    malformed: tuple[Instance, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class LockTagChanges:
    """The changes that the lock tags of one group need.

    Attributes:
        lock: the lock of the holder; None when there is no holder.
        write: the ids of the instances that need the lock.
        remove: the ids of the instances whose lock tags must be removed.
        remembered: every lock of this operator that an instance may have after these changes.
    """

    lock: Lock | None
    write: tuple[str, ...]
    remove: tuple[str, ...]
    remembered: tuple[Lock, ...]


def lock_for(booking: BookingInterval) -> Lock:
    """Return the lock for the time in which `booking` is the holder.

    Characters that AWS does not allow in tag values become `_`.
    """
    by = "".join(char if _allowed(char) else "_" for char in booking.user_id).strip()
    if by.lower().startswith(_RESERVED):
        by = f"_{by}"
    return Lock(by[:_MAX_LENGTH].strip() or "_", format_utc(booking.end_at))


def _allowed(char: str) -> bool:
    return char in _OTHERS or unicodedata.category(char)[0] in _ALLOWED


class OwnLocks:
    """The locks of this operator: the locks in the status, and the lock of each booking.

    `lock in own_locks` compares the instant of `Lock.until`, not its text.

    Args:
        memory: the locks in the status.
        intervals: the bookings of the Resource.
    """

    def __init__(self, memory: Iterable[Lock], intervals: BookingTimeline) -> None:
        self._written = frozenset(memory)
        self._timeline = intervals
        self._known: dict[Lock, bool] = {}

    def unexpired(self, now: datetime) -> set[Lock]:
        """Return the unexpired locks in the status. A write of one of them may still be in flight."""
        return {lock for lock in self._written if now < (_expiry(lock) or now)}

    def __contains__(self, lock: object) -> bool:
        if not isinstance(lock, Lock):
            return False
        if lock not in self._known:
            self._known[lock] = lock in self._written or self._says_the_same(lock)
        return self._known[lock]

    def _says_the_same(self, lock: Lock) -> bool:
        until = _expiry(lock)
        if until is None:
            return False
        if any(lock.by == own.by and until == _expiry(own) for own in self._written):
            return True
        return any(lock_for(interval).by == lock.by for interval in self._timeline.ending_at(until))


def classify_locks(observation: Observation, ours: OwnLocks, now: datetime) -> ClassifiedLocks:
    """Find the foreign and the malformed locks. Locks in `ours` and expired locks are neither."""
    foreign, garbled, ends = [], [], []
    for instance in observation.instances:
        if instance.lock is None or instance.lock in ours:
            continue
        until = _expiry(instance.lock)
        if until is None:
            garbled.append(instance)
        elif now < until:
            foreign.append(instance)
            ends.append(until)
    return ClassifiedLocks(tuple(foreign), tuple(garbled), min(ends, default=None))


def block_foreign(observation: Observation, locks: ClassifiedLocks) -> Observation:
    """Return the observation with `blocked_reason` set on each instance that has a foreign lock."""
    if not locks.foreign:
        return observation
    barred = {instance.id: describe_lock(instance) for instance in locks.foreign}
    instances = tuple(
        replace(instance, blocked_reason=barred[instance.id], busy=False)
        if instance.id in barred
        else instance
        for instance in observation.instances
    )
    return replace(observation, instances=instances)


def describe_lock(instance: Instance) -> str:
    """Describe the lock of an instance, as the end of the sentence "it …"."""
    lock = instance.lock or Lock("", "")
    return f"is locked by {lock.by or '(no user)'} until {lock.until or '(no date)'}"


def lock_tag_changes(
    observation: Observation,
    holder: BookingInterval | None,
    ours: OwnLocks,
    locks: ClassifiedLocks,
    now: datetime,
) -> LockTagChanges:
    """Return the changes that the lock tags of a group need at `now` (aware UTC).

    Only pending and running instances get a lock. Instances with a foreign lock keep it.

    Args:
        observation: the newest observation of the group.
        holder: the booking that holds the group; None when there is none.
        ours: the locks of this operator.
        locks: the other locks on the instances.
        now: the instant.
    """
    lock = lock_for(holder) if holder else None
    foreign = {instance.id for instance in locks.foreign}
    free = [instance for instance in observation.instances if instance.id not in foreign]
    write = _ids(instance for instance in free if _needs_lock(instance, lock))
    remove = _ids(instance for instance in free if lock is None and instance.lock in ours)
    shown = {item.lock for item in free if item.lock and item.lock in ours and item.id not in remove}
    remembered = {*shown, *_in_flight(lock, shown, ours, now)} if write else shown
    return LockTagChanges(lock, write, remove, tuple(sorted(remembered, key=_expiry_order)))


def _needs_lock(instance: Instance, lock: Lock | None) -> bool:
    """Whether an instance without a foreign lock needs `lock`."""
    on = instance.state in {InstanceState.PENDING, InstanceState.RUNNING}
    return lock is not None and on and instance.lock != lock


def _in_flight(lock: Lock | None, shown: set[Lock], ours: OwnLocks, now: datetime) -> set[Lock]:
    """Return the locks that no instance shows, but whose write begins now or may still be in flight."""
    earlier = sorted(ours.unexpired(now) - shown, key=_expiry_order)[-MAX_REMEMBERED:]
    return {*earlier, *([lock] if lock else [])}


def _expiry_order(lock: Lock) -> tuple[str, str]:
    return lock.until, lock.by


def _ids(instances: Iterable[Instance]) -> tuple[str, ...]:
    return tuple(instance.id for instance in instances)


def _expiry(lock: Lock) -> datetime | None:
    """Return when a lock expires (aware UTC); None when it is malformed."""
    try:
        until = datetime.fromisoformat(lock.until)
        return until.astimezone(UTC) if lock.by and until.tzinfo else None
    except (ValueError, OverflowError):  # OverflowError: the year in UTC is not in the range 1 to 9999
        return None
