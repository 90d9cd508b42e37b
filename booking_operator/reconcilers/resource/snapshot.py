"""A snapshot: one valid Resource and the state of its bookings at one instant, and the way to its instances.

Every decision about a Resource uses a snapshot, so all parts of the decision see the bookings at the same
instant. The instances are not part of it: `observation` reads the newest one from the inventory, so that a
decision after a refresh uses the refreshed view.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.meta import InvalidSpec
from booking_operator.api.resource import LockTags, Resource, ResourceStatus, off_times, power_policy
from booking_operator.cloud.service import Driver
from booking_operator.domain import conditions, decision_trigger, locks
from booking_operator.domain.booking_timeline import BookingTimeline, TimelineState
from booking_operator.domain.conditions import Failure
from booking_operator.domain.formatting import summarize
from booking_operator.domain.group import Group
from booking_operator.domain.instance import Lock, Observation
from booking_operator.domain.locks import ClassifiedLocks, LockTagChanges, OwnLocks
from booking_operator.domain.off_times import unbooked_since, with_off_times
from booking_operator.domain.power import PowerPolicy
from booking_operator.engine.store import key_of
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.requirements import MAX_REQUIRED

_NO_LOCKS = ClassifiedLocks((), (), None)


@dataclass(frozen=True)
class ResourceSnapshot:
    """A Resource and the state of its bookings at one instant, with access to its instances.

    Attributes:
        resource: the Resource.
        group: its group of instances.
        driver: the cloud service of the instances.
        policy: the rules of the Resource for starts and stops.
        now: the instant (aware UTC).
        timeline: all valid bookings of the Resource. It is the live timeline of the informers.
        state: the state of the bookings at `now`.
        lock_tags: whether the operator writes lock tags.
        written_locks: the locks that the operator wrote, and that instances may still have.
        unbooked_since: since when instances run without a booking (aware UTC), by id, if there are off times.
        off_at: when each of these is stopped (aware UTC), by id.
        revision: the revision of the bookings and of the Resource, see `Informers.revision`.
    """

    resource: Resource
    group: Group
    driver: Driver
    policy: PowerPolicy
    now: datetime
    timeline: BookingTimeline
    state: TimelineState
    lock_tags: bool
    written_locks: Collection[Lock]
    revision: tuple[int, int]
    unbooked_since: Mapping[str, datetime] = field(default_factory=dict)
    off_at: Mapping[str, datetime] = field(default_factory=dict)

    def at(self, instant: datetime) -> "ResourceSnapshot":
        """Return the snapshot for a later instant, by the present bookings and the present view."""
        policy = self.policy.at(instant)
        state = _state(self.timeline, instant, policy, self.off_at.values())
        return replace(self, now=instant, policy=policy, state=state)

    @property
    def observation(self) -> Observation | None:
        """The newest observation, with off times; instances with a foreign lock are blocked.

        It is None before the first one.
        """
        observation = self.driver.inventory.observation(self.group)
        if observation is not None and self.off_at:
            observation = with_off_times(observation, self.off_at)
        if observation is not None and self._checked:
            observation = observation.with_checks(self.driver.checks.of(self.group.scope))
        return locks.block_foreign(observation, self.locks) if observation else None

    @property
    def name(self) -> str:
        """The name of the Resource."""
        return self.resource.metadata.name

    @property
    def has_no_instances(self) -> bool:
        """Whether the group is known to have no instances."""
        observation = self.driver.inventory.observation(self.group)
        return observation is not None and not observation.instances

    @property
    def _checked(self) -> bool:
        """Whether the status checks of the instances matter now."""
        return self.policy.ready_when_checked and self.state.running_wanted

    @cached_property
    def own_locks(self) -> OwnLocks:
        """The locks of this operator."""
        return OwnLocks(self.written_locks, self.timeline)

    @property
    def locks(self) -> ClassifiedLocks:
        """The foreign and the malformed locks on the instances."""
        observation = self.driver.inventory.observation(self.group)
        if observation is None or all(instance.lock is None for instance in observation.instances):
            # This shortcut saves a start the comparison with the locks of all bookings.
            return _NO_LOCKS
        return locks.classify_locks(observation, self.own_locks, self.now)

    @property
    def lock_tag_changes(self) -> LockTagChanges:
        """The changes that the lock tags of the group need."""
        observation = self.driver.inventory.observation(self.group) or Observation((), self.now)
        holder = self.state.holder if self.lock_tags else None
        return locks.lock_tag_changes(observation, holder, self.own_locks, self.locks, self.now)

    @property
    def failure(self) -> Failure | None:
        """A failure that does not come from an order: instances cannot be observed, or have foreign locks."""
        error = self.driver.inventory.failure(self.group.scope)
        if error is None and self._checked:
            error = self.driver.checks.failure(self.group.scope)
        if error is not None:
            return Failure(error.reason, str(error))
        if not self.locks.foreign:
            return None
        held = summarize(
            [f"{instance.id} {locks.describe_lock(instance)}" for instance in self.locks.foreign]
        )
        return Failure("LockedElsewhere", f"{held}; the operator does not change locked instances.")

    @property
    def warning(self) -> Failure | None:
        """A harmless problem for users to fix: malformed lock tags."""
        if not self.locks.malformed:
            return None
        odd = summarize(
            [f"{instance.id} {locks.describe_lock(instance)}" for instance in self.locks.malformed]
        )
        return Failure(
            "LockTagsInvalid", f"{odd}; these lock tags are not valid, and the operator ignores them."
        )

    def with_counts(self, status: ResourceStatus) -> ResourceStatus:
        """Return `status` with the present counts of instances; unchanged before the first observation.

        A status without an observation must not claim that the Resource has no instances.
        """
        seen = self.observation
        if seen is None:
            return status
        return replace(
            status,
            instances=seen.machines,
            running=seen.machines_running,
            status=conditions.power_status(seen),
        )

    def wake_at(self) -> datetime | None:
        """Return when to reconcile the Resource again (aware UTC); None for never."""
        instants = [decision_trigger.next_wake_up(self.state, self.now), self.locks.expires_at]
        if self._checked and (observation := self.observation) is not None:
            fails_at = [item.check.fails_at for item in observation.instances if item.check]
            instants += [instant for instant in fails_at if instant and instant > self.now]
        return min((instant for instant in instants if instant), default=None)


def _state(
    timeline: BookingTimeline, instant: datetime, policy: PowerPolicy, off_at: Collection[datetime]
) -> TimelineState:
    """Return the state of the bookings, with the boundaries that come from the Resource itself.

    Until a suspension ends by itself, its end is the next boundary. Without an active booking, the next off
    time is a boundary.
    """
    state, until = timeline.state_at(instant, policy.warm_up), policy.suspended_until
    if until is not None:
        return replace(state, next_at=min(until, state.next_at or until), next_change_at=until)
    coming = [at for at in off_at if at > instant]
    if state.running_wanted or not coming:
        return state
    off = min(coming)
    return replace(
        state, next_at=min(off, state.next_at or off), next_change_at=min(off, state.next_change_at or off)
    )


def take_snapshot(environment: Environment, resource: Resource, now: datetime) -> ResourceSnapshot | None:
    """Take a snapshot of a Resource at `now` (aware UTC); None if `invalid_reason` names a reason.

    The snapshot uses the newest status, even if it is not written yet.
    """
    informers, spec = environment.informers, resource.spec
    group = resource.group(informers.default_region)
    if isinstance(spec, InvalidSpec) or group is None or invalid_reason(informers, resource) is not None:
        return None
    status: ResourceStatus = environment.statuses[RESOURCE].current(resource)
    policy = power_policy(spec, status, now, dry_run=environment.dry_run)
    timeline, times = informers.timeline(resource), off_times(spec)
    driver, since = environment.drivers[spec.type], dict[str, datetime]()
    if times:
        bookings = timeline.state_at(now, policy.warm_up)
        since = unbooked_since(status.unbooked_since, driver.inventory.observation(group), bookings)
    off_at = times.due(since)
    return ResourceSnapshot(
        resource=resource,
        group=group,
        driver=driver,
        policy=policy,
        now=now,
        timeline=timeline,
        state=_state(timeline, now, policy, off_at.values()),
        lock_tags=environment.lock_tags,
        written_locks=tuple(Lock(tags.locked_by, tags.locked_until) for tags in status.locks),
        revision=informers.revision(key_of(resource)),
        unbooked_since=since,
        off_at=off_at,
    )


def invalid_reason(informers: Informers, resource: Resource) -> tuple[str, str] | None:
    """Return why the operator does nothing for a Resource, as reason and message; None if it is valid."""
    if isinstance(resource.spec, InvalidSpec):
        return "InvalidSpec", resource.spec.message
    if resource.requires and (problem := _invalid_requirements(informers, resource)):
        return problem
    elder = informers.older_duplicate(resource)
    if elder is not None:
        twin = f"The Resource {key_of(elder)} has the same group of instances and is older"
        return "Duplicate", f"{twin}; delete one of the two."
    return None


def _invalid_requirements(informers: Informers, resource: Resource) -> tuple[str, str] | None:
    closure, rules = informers.closure(key_of(resource)), informers.rules(key_of(resource))
    if closure.cyclic and (names := informers.requirements.cycle(resource)):
        way = ", which requires ".join(names[1:])
        text = f"spec.requires is a cycle: {names[0]} requires {way}; remove one name from one spec.requires."
        return "RequiresCycle", text
    if closure.too_many:
        text = f"spec.requires leads to more than {MAX_REQUIRED} Resources; remove some of them."
        return "TooManyRequired", text
    spec = resource.spec
    if rules.exclusive and not isinstance(spec, InvalidSpec) and spec.booked_by:
        text = (
            f"spec.booked_by is {spec.booked_by!r}, but the required Resource {min(rules.exclusive)} has "
            "sharing: Exclusive and accepts only Bookings; clear booked_by, and create a Booking."
        )
        return "AdHocOfExclusive", text
    return None


def to_lock_tags(locks: Collection[Lock]) -> tuple[LockTags, ...]:
    """Convert locks to the form of the status."""
    return tuple(LockTags(item.by, item.until) for item in locks)
