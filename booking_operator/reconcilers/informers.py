"""The cached objects as the reconcilers ask for them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE, RESOURCE_MONITOR, Kind
from booking_operator.api.meta import InvalidSpec
from booking_operator.api.monitor import ResourceMonitor, monitored_scope
from booking_operator.api.resource import Resource, ResourceSpec, ad_hoc_interval
from booking_operator.api.scheduler import BookingScheduler
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline
from booking_operator.domain.group import Group, Scope
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Change, Key, Store, key_of

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _CachedHolder:
    """The holder of a Resource from `begin` until before `end`, as long as its uid, spec and warm-up stay."""

    basis: tuple[object, ...]
    warm_up: timedelta
    begin: datetime
    end: datetime
    holder: BookingInterval | None

    def invalidated_by(self, interval: BookingInterval | None, *, gone: bool) -> bool:
        """Whether another booking may hold it, now that `interval` was added, or has gone."""
        if interval is None:
            return False
        if gone:
            return self.holder is not None and interval.name == self.holder.name
        if interval.end_at <= self.begin or interval.power_on_at(self.warm_up) >= self.end:
            return False
        return self.holder is None or interval.precedence < self.holder.precedence


class Informers:
    """The stores of all kinds, Resources by their group, and the bookings of each Resource in order."""

    def __init__(self, default_region: str, store: type[Store[Any]] = Store) -> None:
        self.default_region = default_region
        self.resources: Store[Resource] = store({"group": self._groups})
        self.bookings: Store[Booking] = store({"controller": _controller})
        self.schedulers: Store[BookingScheduler] = store({"identity": lambda item: (_identity(item),)})
        self.monitors: Store[ResourceMonitor] = store({"scope": self._scopes})
        self.stores: Mapping[Kind[Any], Store[Any]] = {
            BOOKING: self.bookings,
            RESOURCE: self.resources,
            BOOKING_SCHEDULER: self.schedulers,
            RESOURCE_MONITOR: self.monitors,
        }
        self._timelines: dict[Key, BookingTimeline] = {}
        self._holders: dict[Key, _CachedHolder] = {}
        self._revisions: dict[Key, int] = {}
        self._revision = 0
        self.bookings.subscribe(self._on_booking)
        self.resources.subscribe(self._on_resource)

    def introspect(self) -> Contents:
        """The keys of the bookings on all timelines, and of the Resources with a holder or revision."""
        booked = {
            Key(key.namespace, interval.name)
            for key, timeline in self._timelines.items()
            for interval in timeline
            if interval.name  # not so of an ad-hoc booking
        }
        return {
            "timelines": booked,
            "holders": self._holders.keys(),
            "revisions": self._revisions.keys(),
        }

    def _groups(self, resource: Resource) -> tuple[Group, ...]:
        group = resource.group(self.default_region)
        return (group,) if group else ()

    def _scopes(self, monitor: ResourceMonitor) -> tuple[tuple[str, Scope], ...]:
        spec = monitor.spec
        return (
            ()
            if isinstance(spec, InvalidSpec)
            else ((spec.type, monitored_scope(spec, self.default_region)),)
        )

    def groups(self) -> Collection[Group]:
        """All groups that a Resource stands for."""
        return self.resources.index_values("group")

    def duplicates(self, resource: Resource) -> list[Resource]:
        """All Resources that stand for the same instances, itself among them."""
        return [peer for group in self._groups(resource) for peer in self.resources_for(group)]

    def resources_for(self, group: Group) -> list[Resource]:
        """All Resources that stand for these instances."""
        return self.resources.by_index("group", group)

    def older_duplicate(self, resource: Resource) -> Resource | None:
        """An older Resource of the same group, which acts in its stead."""
        eldest = min(self.duplicates(resource), key=lambda peer: peer.creation_order, default=resource)
        return None if key_of(eldest) == key_of(resource) else eldest

    def scheduler_of(self, booking: Booking) -> BookingScheduler | None:
        """The scheduler that made a booking, if it is there."""
        made_by = (self.schedulers.by_index("identity", identity) for identity in _controller(booking))
        return next(chain.from_iterable(made_by), None)

    def bookings_made_by(self, scheduler: BookingScheduler) -> list[Booking]:
        """All bookings that the scheduler made."""
        return self.bookings.by_index("controller", _identity(scheduler))

    def has_unfinished_booking(self, resource: Resource, now: datetime) -> bool:
        """Whether any booking of the Resource is unfinished."""
        return self.timeline(resource).has_unfinished(now)

    def timeline(self, resource: Resource) -> BookingTimeline:
        """All valid bookings of a Resource, the ad-hoc one in its spec included."""
        return self._timelines.get(key_of(resource)) or BookingTimeline()

    def active(self, resource: Key, now: datetime) -> list[Key]:
        """The Bookings that are active at `now` (aware UTC), the warm-up of their Resource included."""
        found = self.resources.get(resource)
        warm_up = found.warm_up if found is not None else timedelta(0)
        return self.unfinished(resource, now, now + warm_up)

    def unfinished(self, resource: Key, now: datetime, start: datetime | None = None) -> list[Key]:
        """The valid Bookings of a Resource that end after `now`; with `start` those that start by then.

        It takes no walk over those that are over, of which there may be very many.
        """
        timeline = self._timelines.get(resource)
        intervals = timeline.unfinished_by(now, start) if timeline else []
        return [
            Key(resource.namespace, interval.name) for interval in intervals if interval.name
        ]  # an ad-hoc one has none

    def revision(self, resource: Key) -> tuple[int, int]:
        """Changes whenever a decision about a Resource may change without the passing of time.

        The first number counts Resources that came or went, since they may stand for the same instances. The
        second one counts changes of the bookings, of the spec and of the warm-up of this Resource.
        """
        return self._revision, self._revisions.get(resource, 0)

    def _revise(self, resource: Key) -> None:
        if self.resources.get(resource) is not None:
            self._revisions[resource] = self._revisions.get(resource, 0) + 1

    def _update_timeline(
        self, key: Key, *, gone: BookingInterval | None = None, come: BookingInterval | None = None
    ) -> None:
        """Put another booking on the timeline of a Resource, whether the Resource exists or not."""
        timeline = self._timelines.setdefault(key, BookingTimeline())
        if gone is not None:
            timeline.discard(gone)
        if come is not None:
            timeline.add(come)
        if not timeline:
            del self._timelines[key]

    def holder(self, resource: Resource, now: datetime) -> BookingInterval | None:
        """The booking that holds a Resource at `now` (aware UTC); None when nobody does.

        All active bookings ask for it, each time they are reconciled, and of one Resource there may be very
        many. So it is found once for all who ask until the bookings change, or one of them begins or ends.
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
        if change.old is None or change.new is None:
            self._revision += 1
        elif not change.status_only or change.old.warm_up != change.new.warm_up:
            self._revise(change.key)
        if not change.status_only:
            self._update_timeline(change.key, gone=_ad_hoc(change.old), come=_ad_hoc(change.new))
        if change.new is None:
            self._holders.pop(change.key, None)
            self._revisions.pop(change.key, None)

    def holder_is_known(self, resource: Key, now: datetime) -> bool:
        """Whether it is known that a change of a booking, just now, has not changed who holds a Resource."""
        held = self._holders.get(resource)
        return held is not None and held.begin <= now < held.end

    def _on_booking(self, change: Change[Booking]) -> None:
        if change.status_only:
            return
        for booking in (change.old, change.new):
            if booking is not None:
                key = Key(booking.metadata.namespace, booking.resource_name)
                interval, gone = booking.interval(), booking is change.old
                self._revise(key)
                self._update_timeline(key, gone=interval if gone else None, come=None if gone else interval)
                held = self._holders.get(key)
                if held is not None and held.invalidated_by(interval, gone=gone):
                    del self._holders[key]


def _ad_hoc(resource: Resource | None) -> BookingInterval | None:
    if resource is None or not isinstance(resource.spec, ResourceSpec):
        return None
    return ad_hoc_interval(resource, resource.spec)


def _identity(scheduler: BookingScheduler) -> tuple[str, str]:
    """Its uid, and its namespace: who may write in another one may put any uid into an ownerReference."""
    return scheduler.metadata.namespace, scheduler.metadata.uid


def _controller(booking: Booking) -> tuple[tuple[str, str], ...]:
    meta = booking.metadata
    return ((meta.namespace, meta.controller_uid),) if meta.controller_uid else ()
