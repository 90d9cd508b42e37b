"""The lock tags of instances: what they say of whose an instance is, and which are to be respected.

Tags live where the instances do, so that other tools, and other operators, see who has them.
"""

import re
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from booking_operator.domain.booking import Booking
from booking_operator.domain.instance import Instance, Lock, Observation, State
from booking_operator.domain.report import utc

_LONGEST = 256
# What tags of every service may hold: letters of any script, digits, spaces and these; see
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.html.
_NOT_ALLOWED = re.compile(r"[^\w\s.:/=+@-]")


@dataclass(frozen=True, slots=True)
class Locks:
    """The locks on the instances of one group, sorted out.

    Attributes:
        foreign: instances that somebody else has locked, until later than now.
        garbled: instances with a lock that says nothing.
        expires_at: when the first of the foreign locks does; None without any.
    """

    foreign: tuple[Instance, ...]
    garbled: tuple[Instance, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Marks:
    """What is to be done about the lock tags of one group.

    Attributes:
        lock: what the tags are to say; None where nobody holds the group.
        write: ids of the instances that are to get it.
        remove: ids of the instances whose tags are to go.
        memory: every lock that may be on an instance by our doing, once all of this is done.
    """

    lock: Lock | None
    write: tuple[str, ...]
    remove: tuple[str, ...]
    memory: tuple[Lock, ...]


@lru_cache(maxsize=10_000)
def lock_of(booking: Booking) -> Lock:
    """What the tags say while `booking` holds the group."""
    by = _NOT_ALLOWED.sub("_", booking.user_id)[:_LONGEST].strip()
    return Lock(by or "_", utc(booking.end_at))


def sort_out(observation: Observation, ours: AbstractSet[Lock], now: datetime) -> Locks:
    """Tell foreign locks from `ours`, from expired ones, and from those that say nothing."""
    foreign, garbled, ends = [], [], []
    for instance in observation.instances:
        if instance.lock is None or _is_one(instance.lock, ours):
            continue
        until = _end_of(instance.lock)
        if until is None:
            garbled.append(instance)
        elif now < until:
            foreign.append(instance)
            ends.append(until)
    return Locks(tuple(foreign), tuple(garbled), min(ends, default=None))


def respected(observation: Observation, locks: Locks) -> Observation:
    """The same view, with every foreign lock as an obstacle."""
    if not locks.foreign:
        return observation
    barred = {instance.id: told(instance) for instance in locks.foreign}
    instances = tuple(
        replace(instance, obstacle=barred.get(instance.id, instance.obstacle))
        for instance in observation.instances
    )
    return replace(observation, instances=instances)


def told(instance: Instance) -> str:
    """What the lock of an instance says, as the end of the sentence "it …"."""
    lock = instance.lock or Lock("", "")
    return f"is locked by {lock.by or 'nobody'} until {lock.until or 'no time'}"


def marks(observation: Observation, holder: Booking | None, ours: AbstractSet[Lock], locks: Locks) -> Marks:
    """What the tags of a group are to say now. Nothing is written on an instance that does not run."""
    lock = lock_of(holder) if holder else None
    barred = {instance.id for instance in locks.foreign}
    free = [instance for instance in observation.instances if instance.id not in barred]
    on = {State.PENDING, State.RUNNING}
    write = _ids(item for item in free if lock and item.lock != lock and item.state in on)
    own = [instance for instance in free if instance.lock and _is_one(instance.lock, ours)]
    remove = _ids(own) if not lock else ()
    seen = {instance.lock for instance in own if instance.id not in remove}
    wanted = {lock} if lock and (write or lock in seen) else set()
    memory = {item for item in seen | wanted if item is not None}
    return Marks(lock, write, remove, tuple(sorted(memory, key=lambda item: (item.until, item.by))))


def _ids(instances: Iterable[Instance]) -> tuple[str, ...]:
    return tuple(instance.id for instance in instances)


def ours(memory: Collection[Lock], claims: Iterable[Booking]) -> frozenset[Lock]:
    """The locks that are our own: those we remember, and those that our bookings would write."""
    return frozenset(memory) | {lock_of(claim) for claim in claims}


def _is_one(lock: Lock, ours: AbstractSet[Lock]) -> bool:
    """Whether a lock says the same as one of `ours`, in whatever notation of its date."""
    if lock in ours:
        return True
    until = _end_of(lock)
    return until is not None and any(lock.by == own.by and until == _end_of(own) for own in ours)


def _end_of(lock: Lock) -> datetime | None:
    """When a lock expires; None where it does not say who has it, or until when."""
    try:
        until = datetime.fromisoformat(lock.until)
    except ValueError:
        return None
    return until.astimezone(UTC) if lock.by and until.tzinfo else None
