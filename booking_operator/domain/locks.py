"""The lock tags of instances: what they say of whose an instance is, and which are to be respected.

Tags live where the instances do, so that other tools, and other operators, see who has them.
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
"""How many locks are remembered that are not seen: of more than that many none is on its way any more."""
_MAX_LENGTH = 256
# What tags of every service may hold: letters of any script, digits, spaces (in Unicode's sense, so no line
# breaks) and these; and how they may not begin. See
# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_Tag.html.
_ALLOWED, _OTHERS = frozenset("LNZ"), frozenset("_.:/=+-@")
_RESERVED = ("aws:", "rds:")


@dataclass(frozen=True, slots=True)
class ClassifiedLocks:
    """The locks on the instances of one group, sorted out.

    Attributes:
        foreign: instances that somebody else has locked, until later than now.
        malformed: instances with a lock that says nothing.
        expires_at: when the first of the foreign locks does; None without any.
    """

    foreign: tuple[Instance, ...]
    malformed: tuple[Instance, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class LockTagChanges:
    """What is to be done about the lock tags of one group.

    Attributes:
        lock: what the tags are to say; None where nobody holds the group.
        write: ids of the instances that are to get it.
        remove: ids of the instances whose tags are to go.
        remembered: every lock that may be on an instance by our doing, once all of this is done.
    """

    lock: Lock | None
    write: tuple[str, ...]
    remove: tuple[str, ...]
    remembered: tuple[Lock, ...]


def lock_for(booking: BookingInterval) -> Lock:
    """What the tags say while `booking` holds the group."""
    by = "".join(char if _allowed(char) else "_" for char in booking.user_id).strip()
    if by.lower().startswith(_RESERVED):
        by = f"_{by}"
    return Lock(by[:_MAX_LENGTH].strip() or "_", format_utc(booking.end_at))


def _allowed(char: str) -> bool:
    return char in _OTHERS or unicodedata.category(char)[0] in _ALLOWED


class OwnLocks:
    """The locks that are our own: those we remember, and those that our bookings would write.

    A lock is `in` it if it says the same, in whatever notation of its date.
    """

    def __init__(self, memory: Iterable[Lock], intervals: BookingTimeline) -> None:
        self._written = frozenset(memory)
        self._timeline = intervals
        self._known: dict[Lock, bool] = {}

    def unexpired(self, now: datetime) -> set[Lock]:
        """Those we remember that have not expired: one may still be on its way to an instance."""
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
    """Distinguish foreign locks from `ours`, from expired ones, and from unreadable ones."""
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
    """The same view, with every foreign lock as an obstacle."""
    if not locks.foreign:
        return observation
    barred = {instance.id: describe_lock(instance) for instance in locks.foreign}
    instances = tuple(
        replace(instance, blocked_reason=barred.get(instance.id, instance.blocked_reason))
        for instance in observation.instances
    )
    return replace(observation, instances=instances)


def describe_lock(instance: Instance) -> str:
    """What the lock of an instance says, as the end of the sentence "it …"."""
    lock = instance.lock or Lock("", "")
    return f"is locked by {lock.by or 'nobody'} until {lock.until or 'no time'}"


def lock_tag_changes(
    observation: Observation,
    holder: BookingInterval | None,
    ours: OwnLocks,
    locks: ClassifiedLocks,
    now: datetime,
) -> LockTagChanges:
    """What the tags of a group are to say now. Nothing is written on an instance that does not run."""
    lock = lock_for(holder) if holder else None
    barred = {instance.id for instance in locks.foreign}
    free = [instance for instance in observation.instances if instance.id not in barred]
    on = {InstanceState.PENDING, InstanceState.RUNNING}
    write = _ids(item for item in free if lock and item.lock != lock and item.state in on)
    own = [instance for instance in free if instance.lock and instance.lock in ours]
    remove = _ids(own) if not lock else ()
    seen = {instance.lock for instance in own if instance.id not in remove}
    wanted = {lock} if lock and (write or lock in seen) else set()
    kept = set(sorted(ours.unexpired(now) - seen, key=_expiry_order)[-MAX_REMEMBERED:]) if write else set()
    memory = {item for item in seen | wanted | kept if item is not None}
    return LockTagChanges(lock, write, remove, tuple(sorted(memory, key=_expiry_order)))


def _expiry_order(lock: Lock) -> tuple[str, str]:
    return lock.until, lock.by


def _ids(instances: Iterable[Instance]) -> tuple[str, ...]:
    return tuple(instance.id for instance in instances)


def _expiry(lock: Lock) -> datetime | None:
    """When a lock expires; None where it does not say who has it, or until when."""
    try:
        until = datetime.fromisoformat(lock.until)
        return until.astimezone(UTC) if lock.by and until.tzinfo else None
    except (ValueError, OverflowError):  # the latter: in UTC it is before the first year, or after the last
        return None
