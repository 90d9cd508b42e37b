"""The caches of all kinds, with the indexes and the booking timelines that the reconcilers read.

A booking is on the timeline of its Resource and of all Resources that this one requires. If a change of a
Resource changes these places, the bookings of the Resource and of those that require it move.

Reflectors fill the stores. All methods are synchronous and read memory only.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from booking_operator.api.booking import Booking
from booking_operator.api.fields import STATUS_CHECKS
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, RESOURCE_MONITOR, Kind
from booking_operator.api.meta import TEMPLATE_ANNOTATION, InvalidSpec
from booking_operator.api.monitor import ResourceMonitor, monitored_scope
from booking_operator.api.resource import Resource, ResourceSpec, ad_hoc_interval, booking_rules
from booking_operator.api.scheduler import BookingScheduler
from booking_operator.domain.acceptance import KEPT, NO_RULES, BookingRules
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline
from booking_operator.domain.group import Group, Scope
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Change, Key, Store, key_of
from booking_operator.reconcilers.requirements import (
    NOTHING_REQUIRED,
    REQUIRED_INDEX,
    Closure,
    Required,
    Requirements,
    required_keys,
)

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _CachedHolder:
    """The holder of a Resource in the half-open interval `[begin, end)`.

    Attributes:
        basis: the uid, spec and warm-up of the Resource; the entry is invalid if one of them has changed.
        warm_up: the warm-up of the Resource.
        begin: when the holder was computed (aware UTC).
        end: the next instant at which a booking begins or ends, warm-up included (aware UTC).
        holder: the holder; None when there is none.
    """

    basis: tuple[object, ...]
    warm_up: timedelta
    begin: datetime
    end: datetime
    holder: BookingInterval | None

    def invalidated_by(self, interval: BookingInterval | None, *, gone: bool) -> bool:
        """Whether the holder may be another one after `interval` was added, or removed if `gone`."""
        if interval is None:
            return False
        if gone:
            return self.holder is not None and interval.name == self.holder.name
        if interval.end_at <= self.begin or interval.power_on_at(self.warm_up) >= self.end:
            return False
        return self.holder is None or interval.precedence < self.holder.precedence


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the bookings of a Resource are on timelines.

    Attributes:
        rules: the rules for the bookings: those of the Resource and of those that it requires.
        closure: all that it requires.
    """

    rules: BookingRules = NO_RULES
    closure: Closure = NOTHING_REQUIRED

    @property
    def required(self) -> tuple[Required, ...]:
        """The Resources that it requires, directly or not."""
        return self.closure.required


_PLAIN = Placement()
"""The placement of a Resource without rules and requirements. Most are like this."""


class Informers:
    """The stores of all kinds, the booking timeline of each Resource, and cached holders.

    Attributes:
        default_region: the AWS region of Resources and monitors that name none.
        stores: the store of each kind.
        requirements: which Resources require which.
    """

    def __init__(self, default_region: str, store: type[Store[Any]] = Store) -> None:
        self.default_region = default_region
        self.resources: Store[Resource] = store(
            {
                "group": self._groups,
                "checked group": self._checked_groups,
                REQUIRED_INDEX: required_keys,
            }
        )
        self.requirements = Requirements(self.resources)
        self.bookings: Store[Booking] = store({"controller": _controller, "orphan": _orphan})
        self.schedulers: Store[BookingScheduler] = store({"identity": lambda item: (_identity(item),)})
        self.monitors: Store[ResourceMonitor] = store({"scope": self._scopes})
        self.stores: Mapping[Kind[Any], Store[Any]] = {
            BOOKING: self.bookings,
            RESOURCE: self.resources,
            BOOKING_SCHEDULER: self.schedulers,
            RESOURCE_MONITOR: self.monitors,
        }
        self._timelines: dict[Key, BookingTimeline] = {}
        self._placements: dict[Key, Placement] = {}  # of the Resources whose placement is not plain
        # The names of the Bookings that want a Resource with recorded rules, or have a record for it.
        self._requests: dict[Key, dict[str, None]] = {}  # in a stable order
        self._holders: dict[Key, _CachedHolder] = {}
        self._revisions: dict[Key, int] = {}
        self._deletions: dict[Key, int] = {}
        self._once_required: set[Key] = set()
        self._revision = 0
        self.bookings.subscribe(self._on_booking)
        self.resources.subscribe(self._on_resource)

    def introspect(self) -> Contents:
        """The keys of the Bookings on all timelines, and of the Resources with other entries."""
        booked = {
            Key(key.namespace, interval.name)
            for key, timeline in self._timelines.items()
            for interval in timeline
            if interval.name  # an ad-hoc booking has no name
        }
        return {
            "timelines": booked,
            "placements": self._placements.keys(),
            "requests": {Key(key.namespace, name) for key, names in self._requests.items() for name in names},
            "holders": self._holders.keys(),
            "revisions": self._revisions.keys(),
            "deletions": self._deletions.keys(),
            "once required": self._once_required.copy(),
        }

    def _groups(self, resource: Resource) -> tuple[Group, ...]:
        group = resource.group(self.default_region)
        return (group,) if group else ()

    def _checked_groups(self, resource: Resource) -> tuple[Group, ...]:
        spec = resource.spec
        checked = isinstance(spec, ResourceSpec) and spec.ready_when == STATUS_CHECKS
        return self._groups(resource) if checked else ()

    def _scopes(self, monitor: ResourceMonitor) -> tuple[tuple[str, Scope], ...]:
        spec = monitor.spec
        return (
            ()
            if isinstance(spec, InvalidSpec)
            else ((spec.type, monitored_scope(spec, self.default_region)),)
        )

    def checked_groups(self) -> Collection[Group]:
        """The groups of all Resources with `ready_when: StatusChecks`."""
        return self.resources.index_values("checked group")

    def groups(self) -> Collection[Group]:
        """The groups of all Resources."""
        return self.resources.index_values("group")

    def duplicates(self, resource: Resource) -> list[Resource]:
        """Return all Resources of the same group, including `resource`."""
        return [peer for group in self._groups(resource) for peer in self.resources_for(group)]

    def resources_for(self, group: Group) -> list[Resource]:
        """Return all Resources of a group."""
        return self.resources.by_index("group", group)

    def older_duplicate(self, resource: Resource) -> Resource | None:
        """Return the oldest Resource of the same group; None if `resource` is the oldest.

        Only the oldest Resource of a group acts.
        """
        eldest = min(self.duplicates(resource), key=lambda peer: peer.creation_order, default=resource)
        return None if key_of(eldest) == key_of(resource) else eldest

    def scheduler_of(self, booking: Booking) -> BookingScheduler | None:
        """Return the scheduler that created a Booking; None if there is none in the cache."""
        made_by = (self.schedulers.by_index("identity", identity) for identity in _controller(booking))
        return next(chain.from_iterable(made_by), None)

    def bookings_made_by(self, scheduler: BookingScheduler) -> list[Booking]:
        """Return all Bookings that a scheduler created."""
        return self.bookings.by_index("controller", _identity(scheduler))

    def orphaned_bookings(self, namespace: str) -> list[Booking]:
        """Return all Bookings that a scheduler created and that have no owner, as after a restore."""
        return self.bookings.by_index("orphan", namespace)

    def has_unfinished_booking(self, resource: Resource, now: datetime) -> bool:
        """Whether any valid booking of the Resource ends after `now` (aware UTC)."""
        return self.timeline(resource).has_unfinished(now)

    def timeline(self, resource: Resource) -> BookingTimeline:
        """Return all valid bookings of a Resource, including the ad-hoc booking in its spec."""
        return self._timelines.get(key_of(resource)) or BookingTimeline()

    def active(self, resource: Key, now: datetime) -> list[Key]:
        """Return the Bookings that are active at `now` (aware UTC), including the warm-up of the Resource."""
        return self.unfinished(resource, now, now + self.warm_up(resource))

    def warm_up(self, resource: Key) -> timedelta:
        """Return the warm-up of a Resource; zero if it does not exist or does not say it."""
        found = self.resources.get(resource)
        return found.warm_up if found is not None else timedelta(0)

    def unfinished(self, resource: Key, now: datetime, start: datetime | None = None) -> list[Key]:
        """Return the valid Bookings of a Resource that end after `now` (aware UTC), by precedence.

        With `start`, return only those that start at `start` or before. The cost does not depend on the
        number of finished Bookings, which may be large. Bookings that are not accepted are not included.
        """
        timeline = self._timelines.get(resource)
        intervals = timeline.unfinished_by(now, start) if timeline else []
        # An ad-hoc booking has no name and no object.
        return [Key(resource.namespace, interval.name) for interval in intervals if interval.name]

    def counted(self, booking: Booking) -> BookingInterval | None:
        """Return the part of a Booking for which instances run; None if they do not run for it."""
        return booking.counted(self.rules(Key(booking.metadata.namespace, booking.resource_name)))

    def rules(self, resource: Key) -> BookingRules:
        """Return the rules for bookings of a Resource; no rules if it does not exist.

        The rules of the Resources that it requires are included.
        """
        return self._placements.get(resource, _PLAIN).rules

    def required(self, resource: Key) -> list[Key]:
        """Return the Resources that a Resource requires, directly or not."""
        return [item.key for item in self.closure(resource).required]

    def closure(self, resource: Key) -> Closure:
        """Return all that a Resource requires."""
        return self._placements.get(resource, _PLAIN).closure

    def was_required(self, resource: Key) -> bool:
        """Whether another Resource requires a Resource, or has required it since it was created."""
        return self.requirements.is_required(resource) or resource in self._once_required

    def booked_resources(self, booking: Booking) -> Iterator[tuple[Key, BookingInterval | None]]:
        """Yield the Resource of a Booking, and all that this one requires, each with the interval there.

        The interval is what the Booking wants. It is None if the spec is invalid.
        """
        if booking.resource_name:
            key = Key(booking.metadata.namespace, booking.resource_name)
            placement = self._placements.get(key, _PLAIN)
            yield from _intervals(key, booking.interval(), placement, placement.rules.exclusive)

    def _places(self, booking: Booking) -> Iterator[tuple[Key, BookingInterval | None]]:
        """Yield the Resources of a Booking, each with the interval on its timeline; None if it has none."""
        if booking.resource_name:
            key = Key(booking.metadata.namespace, booking.resource_name)
            placement = self._placements.get(key, _PLAIN)
            yield from _intervals(key, self.counted(booking), placement, booking.accepted_exclusive)

    def rivals(self, resource: Key, now: datetime) -> list[Booking]:
        """Return the Bookings that are decided together with those of a Resource, in no order.

        They share an exclusive Resource, directly or through other Bookings. Without an exclusive Resource,
        they are the Bookings with recorded rules.
        """
        namespace, exclusive = resource.namespace, self.rules(resource).exclusive
        waiting, seen = sorted(exclusive or {resource.name}), set(exclusive)
        found: dict[str, Booking] = {}
        while waiting:
            for booking in self.requests(Key(namespace, waiting.pop()), now):
                found[booking.metadata.name] = booking
                if not exclusive:
                    continue
                wanted = self.rules(Key(namespace, booking.resource_name)).exclusive
                more = {*wanted, *booking.status.accepted_exclusive} - seen
                seen |= more
                waiting += sorted(more)
        return list(found.values())

    def requests(self, resource: Key, now: datetime) -> list[Booking]:
        """Return the Bookings that want a Resource and have recorded rules, and those with a record for it.

        Those of Resources that require it are included.

        They are in no order, and include invalid ones. Those that ended long before `now` (aware UTC) are
        left out, and forgotten until they change.
        """
        found, names = [], self._requests.get(resource, {})
        for name in list(names):
            booking = self.bookings.get(Key(resource.namespace, name))
            if booking is not None and booking.ends_at > now - KEPT:
                found.append(booking)
            else:
                del names[name]
        if not names:
            self._requests.pop(resource, None)
        return found

    def revision(self, resource: Key) -> tuple[int, int]:
        """Return a revision that changes whenever the input of a decision about a Resource changes.

        The passing of time does not change the revision. The first number counts created and deleted
        Resources, because they may be of the same group. The second number counts changes of the bookings, of
        the spec and of the warm-up of this Resource.
        """
        return self._revision, self._revisions.get(resource, 0)

    def deletions(self, resource: Key) -> int:
        """Return how often bookings of a Resource were deleted since the Resource was created.

        It also counts how often another Resource ceased to require this one.
        """
        return self._deletions.get(resource, 0)

    def _count_deletion(self, resource: Key) -> None:
        if self.resources.get(resource) is not None:
            self._deletions[resource] = self.deletions(resource) + 1

    def _revise(self, resource: Key) -> None:
        if self.resources.get(resource) is not None:
            self._revisions[resource] = self._revisions.get(resource, 0) + 1

    def _update_timeline(
        self, key: Key, *, gone: BookingInterval | None = None, come: BookingInterval | None = None
    ) -> None:
        """Update the timeline of a Resource. The Resource need not exist: Bookings may be cached first."""
        timeline = self._timelines.setdefault(key, BookingTimeline())
        if gone is not None:
            timeline.discard(gone)
        if come is not None:
            timeline.add(come)
        if not timeline:
            del self._timelines[key]

    def holder(self, resource: Resource, now: datetime) -> BookingInterval | None:
        """Return the holder of a Resource at `now` (aware UTC); None when there is none.

        Each active Booking reads the holder in each reconcile, and one Resource may have very many Bookings.
        The holder is therefore cached until a booking that matters changes, begins or ends.
        """
        key, warm_up = key_of(resource), resource.warm_up
        held = self._holders.get(key)
        basis = (resource.metadata.uid, resource.spec, warm_up)
        if held is None or held.basis != basis or not held.begin <= now < held.end:
            seen = self.timeline(resource).state_at(now, warm_up)
            held = self._holders[key] = _CachedHolder(
                basis, warm_up, now, seen.next_at or _NEVER, seen.holder
            )
        return held.holder

    def _on_resource(self, change: Change[Resource]) -> None:
        old, new = change.old, change.new
        same_warm_up = old is not None and new is not None and old.warm_up == new.warm_up
        if old is None or new is None:
            self._revision += 1
        elif not (change.status_only and same_warm_up):
            self._revise(change.key)
        if not change.status_only and _ad_hoc(old) != _ad_hoc(new):
            self._move_ad_hoc(change)
        if not (change.status_only and same_warm_up):
            self._place_again(change.key)
        if change.new is None:
            self._holders.pop(change.key, None)
            self._revisions.pop(change.key, None)
            self._deletions.pop(change.key, None)
            self._once_required.discard(change.key)

    def _move_ad_hoc(self, change: Change[Resource]) -> None:
        """Update the timelines after a change of the ad-hoc booking in the spec of a Resource."""
        placement = self._placements.get(change.key, _PLAIN)
        old, new = (filter(None, (_ad_hoc(resource),)) for resource in (change.old, change.new))
        gone, come = (_by_place(change.key, intervals, placement, {}) for intervals in (old, new))
        for place in gone:
            self._exchange(place, gone[place], come[place])
            if change.new is None:
                self._count_deletion(place)

    def _place_again(self, changed: Key) -> None:
        """Move the bookings of a changed Resource, and of those that require it, to their new places."""
        affected = (changed, *self.requirements.all_dependents(changed))
        closures = self.requirements.closures(affected, self.closure)
        for key in affected:
            before, after = self._placements.get(key, _PLAIN), self.placement_of(key, closures[key])
            if before != after:
                self._move(key, before, after)

    def placement_of(self, key: Key, closure: Closure) -> Placement:
        """Return where the bookings of a Resource belong, by the present Resources."""
        resource = self.resources.get(key)
        if resource is None:
            return _PLAIN
        rules = booking_rules(resource)
        for item in closure.required:
            found = self.resources.get(item.key)
            rules = rules.joined(booking_rules(found)) if found is not None else rules
        return Placement(rules, closure) if closure != NOTHING_REQUIRED or rules != NO_RULES else _PLAIN

    def _move(self, key: Key, before: Placement, after: Placement) -> None:
        """Move the bookings of a Resource from their places on timelines to others.

        For a required Resource whose bookings change, this is like a deletion of bookings: the change may be
        one step of a replacement, so its stop waits for the same grace period.
        """
        # Without recorded rules, all valid bookings are on the timeline.
        own = [interval for interval in self._timelines.get(key, ()) if not interval.booked_resource]
        names = {interval.name: None for interval in own if interval.name}
        names |= self._requests.get(key, {})
        found = [self.bookings.get(Key(key.namespace, name)) for name in names]
        bookings = [booking for booking in found if booking is not None]
        coming = [interval for interval in own if not interval.name]  # the ad-hoc booking
        for booking in bookings:
            self._update_requests(booking, gone=True)
        if after == _PLAIN:
            self._placements.pop(key, None)
        else:
            self._placements[key] = after
        for booking in bookings:
            self._update_requests(booking, gone=False)
            if booking.resource_name == key.name and (part := booking.counted(after.rules)) is not None:
                coming.append(part)
        accepted = {booking.metadata.name: booking.accepted_exclusive for booking in bookings}
        gone, come = _by_place(key, own, before, accepted), _by_place(key, coming, after, accepted)
        for place in gone | come:
            leaving, coming_here = gone.get(place, []), come.get(place, [])
            self._exchange(place, leaving, coming_here)
            if place != key and leaving != coming_here:
                self._count_deletion(place)
        ceased = (place for place in gone if place not in come and self.resources.get(place) is not None)
        self._once_required.update(ceased)

    def _exchange(self, place: Key, gone: Sequence[BookingInterval], come: Sequence[BookingInterval]) -> None:
        """Replace bookings on a timeline by others."""
        self._holders.pop(place, None)
        self._revise(place)
        if gone != come:
            timeline = self._timelines.setdefault(place, BookingTimeline())
            timeline.exchange(gone, come)
            if not timeline:
                del self._timelines[place]

    def affected_by(self, change: Change[Resource]) -> list[Key]:
        """Return the Resources whose bookings, or whose sequence of starts and stops, a change concerns.

        These are what the Resource requires or has required, and all that require it, with what they require.
        """
        old, new = change.old, change.new
        if change.status_only and (old is None or new is None or old.warm_up == new.warm_up):
            return []
        found: dict[Key, None] = {}
        names = [name for resource in (old, new) if resource is not None for name in resource.requires]
        heads = (Key(change.key.namespace, name) for name in names)
        for key in (*heads, *self.requirements.all_dependents(change.key)):
            found |= dict.fromkeys((key, *self.required(key)))
        found.pop(change.key, None)
        return list(found)

    def holder_is_known(self, resource: Key, now: datetime) -> bool:
        """Whether the cached holder is valid at `now`, which means that the last change kept the holder."""
        held = self._holders.get(resource)
        return held is not None and held.begin <= now < held.end

    def _on_booking(self, change: Change[Booking]) -> None:
        if change.status_only and not acceptance_changed(change):
            return
        for booking in (change.old, change.new):
            if booking is not None:
                gone = booking is change.old
                self._update_requests(booking, gone=gone)
                for key, interval in self._places(booking):
                    self._revise(key)
                    if change.new is None:
                        self._count_deletion(key)
                    self._update_timeline(
                        key, gone=interval if gone else None, come=None if gone else interval
                    )
                    held = self._holders.get(key)
                    if held is not None and held.invalidated_by(interval, gone=gone):
                        del self._holders[key]

    def _update_requests(self, booking: Booking, *, gone: bool) -> None:
        """Add or remove a Booking for the Resources that it wants, and for those in its record."""
        meta, recorded = booking.metadata, booking.status.accepted_resource
        key = Key(meta.namespace, booking.resource_name)
        if not (recorded or self._requests or self.rules(key).recorded):
            return  # there may be tens of thousands of Bookings, and most Resources have no rules
        places = dict[Key, None]()
        if gone or (key.name and self.rules(key).recorded):
            places = dict.fromkeys((key, *self.required(key)))
        if recorded:
            names = (recorded, *booking.status.accepted_exclusive)
            places |= dict.fromkeys(Key(meta.namespace, name) for name in names)
        for place in places:
            if not gone:
                self._requests.setdefault(place, {})[meta.name] = None
            elif (found := self._requests.get(place)) is not None:
                found.pop(meta.name, None)
                if not found:
                    del self._requests[place]


def acceptance_changed(change: Change[Booking]) -> bool:
    """Whether a change concerns what a Resource has accepted of a Booking."""
    old, new = change.old, change.new
    return old is not None and new is not None and old.status.acceptance != new.status.acceptance


def _intervals(
    key: Key, interval: BookingInterval | None, placement: Placement, accepted: AbstractSet[str]
) -> Iterator[tuple[Key, BookingInterval | None]]:
    """Yield a Resource and those that it requires, each with the place of a booking on its timeline.

    Args:
        key: the booked Resource.
        interval: the booking; None if nothing runs for it.
        placement: where the bookings of the Resource are.
        accepted: the names of the exclusive Resources that have accepted the booking. The others may have
            another booking at the same time.
    """
    yield key, interval
    refused = placement.rules.exclusive - accepted
    for item in placement.required:
        counts = interval is not None and item.key.name not in refused
        yield item.key, interval.of_required(key.name, item.lead) if interval and counts else None


def _by_place(
    key: Key,
    intervals: Iterable[BookingInterval],
    placement: Placement,
    accepted: Mapping[str, AbstractSet[str]],
) -> dict[Key, list[BookingInterval]]:
    """Return the bookings of a Resource on its timeline, and on those of all that it requires.

    `accepted` has the exclusive Resources that have accepted a booking, by its name. None can accept an
    ad-hoc booking, which has no name.
    """
    found: dict[Key, list[BookingInterval]] = {
        item.key: [] for item in (Required(key, timedelta(0)), *placement.required)
    }
    for interval in intervals:
        for place, item in _intervals(key, interval, placement, accepted.get(interval.name, frozenset())):
            if item is not None:
                found[place].append(item)
    return found


def _ad_hoc(resource: Resource | None) -> BookingInterval | None:
    if resource is None or not isinstance(resource.spec, ResourceSpec):
        return None
    return ad_hoc_interval(resource, resource.spec)


def _identity(scheduler: BookingScheduler) -> tuple[str, str]:
    """Return namespace and uid of a scheduler.

    The namespace is part of it because a user of another namespace can write any uid into an ownerReference.
    """
    return scheduler.metadata.namespace, scheduler.metadata.uid


def _controller(booking: Booking) -> tuple[tuple[str, str], ...]:
    meta = booking.metadata
    return ((meta.namespace, meta.controller_uid),) if meta.controller_uid else ()


def _orphan(booking: Booking) -> tuple[str, ...]:
    meta = booking.metadata
    orphaned = TEMPLATE_ANNOTATION in meta.annotations and not meta.controller_uid
    return (meta.namespace,) if orphaned else ()
