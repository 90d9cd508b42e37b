"""What wakes what: which keys are to be reconciled when an object, or a group of instances, has changed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from booking_operator.api.booking import Booking, BookingSpec
from booking_operator.api.monitor import ResourceMonitor, ResourceMonitorSpec, interval, scope
from booking_operator.api.resource import Resource
from booking_operator.api.scheduler import BookingScheduler
from booking_operator.cloud.driver import Group, Scope
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Change, Key, Origin, Store, key_of
from booking_operator.engine.workqueue import Priority, WorkQueue
from booking_operator.reconcilers.delays import HORIZON
from booking_operator.reconcilers.informers import Caches


class Wakes:
    """The queues of all kinds, and what fills them between `subscribe` and `unsubscribe`."""

    def __init__(self, caches: Caches, clock: Clock, queue: type[WorkQueue[Key]] = WorkQueue) -> None:
        self._caches = caches
        self._clock = clock
        # Bookings only tell users: a thousand that begin at one instant must not delay the starts.
        self.bookings = queue(clock, due=Priority.CHANGE)
        self.resources = queue(clock)
        self.locks = queue(clock)
        self.notices = queue(clock)
        self.schedulers = queue(clock)
        self.monitors = queue(clock)
        self._handlers: tuple[tuple[Store[Any], Callable[[Change[Any]], None]], ...] = (
            (caches.bookings, self._on_booking),
            (caches.resources, self._on_resource),
            (caches.schedulers, self._on_scheduler),
            (caches.monitors, self._on_monitor),
        )

    def subscribe(self) -> None:
        """Be told of all that the caches hold, and of all their changes from now on."""
        for store, handler in self._handlers:
            for object_ in store.all():
                handler(Change(None, object_, Origin.INITIAL))
            store.subscribe(handler)
        for resource in self._caches.resources.all():
            # What is due first goes first: whoever takes over has all of them to look at.
            if (at := resource.status.next_change) is not None:
                self.resources.add_at(key_of(resource), at)

    def unsubscribe(self) -> None:
        """Be told no more."""
        for store, handler in self._handlers:
            store.unsubscribe(handler)

    def listed(self) -> None:
        """A kind was listed anew, which may have ended a doubt about what is to be stopped or pruned."""
        for resource in self._caches.resources.all():
            self.resources.add(key_of(resource))
        for monitor in self._caches.monitors.all():
            self.monitors.add(key_of(monitor))

    def _on_booking(self, change: Change[Booking]) -> None:
        if change.origin is Origin.OWN:
            return
        priority = _priority(change)
        self.bookings.add(change.key, priority)
        if any(booking is not None and _notifies(booking) for booking in (change.old, change.new)):
            self.notices.add(change.key, priority)
        if change.status_only:
            return  # nobody else reads it; and it may be our own, which the watch told first
        for booking in (change.old, change.new):
            if booking is not None and booking.resource_name:
                self.resources.add(Key(change.key.namespace, booking.resource_name), priority)
        if (scheduler := self._caches.maker(change.either)) is not None:
            self.schedulers.add(key_of(scheduler), priority)
        if change.origin is not Origin.INITIAL:
            self._wake_peers(change, priority)

    def _wake_peers(self, change: Change[Booking], priority: Priority) -> None:
        """Who holds the lock is told on all active bookings of the resource, not only on the changed one.

        One that is not active now, and was not before, changes nothing for the others, and neither does one
        that leaves the lock where it is: of many bookings made for one resource, each would wake all.
        """
        now = self._clock.now()
        for booking in (change.old, change.new):
            if booking is not None and booking.resource_name:
                resource = Key(change.key.namespace, booking.resource_name)
                if self._active(booking, resource) and not self._caches.holds_on(resource, now):
                    self._wake_active(resource, priority)

    def _wake_active(self, resource: Key, priority: Priority) -> None:
        for key in self._caches.active(resource, self._clock.now()):
            self.bookings.add(key, priority)

    def _active(self, booking: Booking, resource: Key) -> bool:
        claim, found = booking.claim(), self._caches.resources.get(resource)
        warm_up = found.warm_up if found is not None else timedelta(0)
        return claim is not None and claim.active(self._clock.now(), warm_up)

    def _on_resource(self, change: Change[Resource]) -> None:
        priority = _priority(change)
        if change.origin is not Origin.OWN:
            self.resources.add(change.key, priority)
        if change.origin is Origin.INITIAL:
            return
        if change.old is None or change.new is None:
            for peer in self._caches.peers(change.either):
                self.resources.add(key_of(peer), priority)
            group = change.either.group(self._caches.default_region)
            if group is not None:
                self.scope_listed(group.service, group.scope)
        if change.status_only:
            # How far the instances are, and what stands in their way, is told on those who want them now.
            self._wake_active(change.key, priority)
            return
        for key in self._caches.unfinished(change.key, self._clock.now()):
            self.bookings.add(key, priority)

    def delay_changed(self, resource: Key) -> None:
        """The start or stop of a Resource that is next, or under way, will be late, or on time again."""
        self.resources.add(resource)
        now = self._clock.now()
        for key in self._caches.unfinished(resource, now, now + 2 * HORIZON):
            self.bookings.add(key)

    def _on_scheduler(self, change: Change[BookingScheduler]) -> None:
        if change.origin is not Origin.OWN:
            self.schedulers.add(change.key, _priority(change))

    def _on_monitor(self, change: Change[ResourceMonitor]) -> None:
        if change.origin is not Origin.OWN:
            self.monitors.add(change.key, _priority(change))

    def group_changed(self, group: Group) -> None:
        """The instances of a group look different."""
        for resource in self._caches.standing_for(group):
            self.resources.add(key_of(resource))

    def scope_listed(self, service: str, place: Scope) -> None:
        """Other groups of a scope ask for a Resource, or one of them has lost its own."""
        for monitor in self._caches.monitors.by("scope", (service, place)):
            self.monitors.add(key_of(monitor))

    def audience(self, service: str) -> "ServiceAudience":
        """`cloud.driver.Audience` for all Resources and monitors of one type."""
        return ServiceAudience(service, self._caches, self)


class ServiceAudience:
    """What the Resources and monitors of one type want watched, and whom that wakes."""

    def __init__(self, service: str, caches: Caches, wakes: Wakes) -> None:
        self._service = service
        self._caches = caches
        self._wakes = wakes

    def groups(self) -> list[Group]:
        """The groups that a Resource stands for."""
        return [group for group in self._caches.groups() if group.service == self._service]

    def periods(self) -> dict[Scope, timedelta]:
        """The scopes that a monitor looks at, and how often at least."""
        found: dict[Scope, timedelta] = {}
        for monitor in self._caches.monitors.all():
            spec = monitor.spec
            if isinstance(spec, ResourceMonitorSpec) and spec.type == self._service:
                place = scope(spec, self._caches.default_region)
                found[place] = min(interval(spec), found.get(place, timedelta.max))
        return found

    def changed(self, group: Group) -> None:
        """The instances of a group look different."""
        self._wakes.group_changed(group)

    def listed(self, place: Scope) -> None:
        """Other groups of `place` ask for a Resource."""
        self._wakes.scope_listed(self._service, place)


def _notifies(booking: Booking) -> bool:
    """Whether somebody is to be told of its end, or a status of it remembers that somebody was."""
    asked = isinstance(booking.spec, BookingSpec) and booking.spec.notifications
    return bool(asked or booking.status.notified or booking.status.notification_sent)


def _priority(change: Change[Any]) -> Priority:
    return Priority.INITIAL if change.origin is Origin.INITIAL else Priority.CHANGE
