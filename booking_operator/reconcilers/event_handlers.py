"""What wakes what: which keys are to be reconciled when an object, or a group of instances, has changed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from booking_operator.api.booking import Booking, BookingSpec
from booking_operator.api.monitor import ResourceMonitor, ResourceMonitorSpec, monitored_scope, sync_interval
from booking_operator.api.resource import Resource
from booking_operator.api.scheduler import BookingScheduler
from booking_operator.domain.group import Group, Scope
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Change, Key, Origin, Store, key_of
from booking_operator.engine.workqueue import Priority, WorkQueue
from booking_operator.reconcilers.delays import HORIZON
from booking_operator.reconcilers.informers import Informers


class EventHandlers:
    """The queues of all kinds, and what fills them between `subscribe` and `unsubscribe`."""

    def __init__(self, informers: Informers, clock: Clock, queue: type[WorkQueue[Key]] = WorkQueue) -> None:
        self._informers = informers
        self._clock = clock
        # Bookings only inform users: a thousand that begin at one instant must not delay the starts.
        self.bookings = queue(clock, timer_priority=Priority.CHANGE)
        self.resources = queue(clock)
        self.lock_tags = queue(clock)
        self.notifications = queue(clock)
        self.schedulers = queue(clock)
        self.monitors = queue(clock)
        self._handlers: tuple[tuple[Store[Any], Callable[[Change[Any]], None]], ...] = (
            (informers.bookings, self._on_booking),
            (informers.resources, self._on_resource),
            (informers.schedulers, self._on_scheduler),
            (informers.monitors, self._on_monitor),
        )

    def subscribe(self) -> None:
        """Handle all that the informers hold, and all their changes from now on."""
        for store, handler in self._handlers:
            for object_ in store.objects():
                handler(Change(None, object_, Origin.INITIAL))
            store.subscribe(handler)
        for resource in self._informers.resources.objects():
            # What is due first goes first: after a take-over all of them are reconciled.
            if (at := resource.status.next_change) is not None:
                self.resources.add_at(key_of(resource), at)

    def unsubscribe(self) -> None:
        """Handle no more changes."""
        for store, handler in self._handlers:
            store.unsubscribe(handler)

    def enqueue_all(self) -> None:
        """A kind was listed again: a stop or a pruning that was withheld may now be allowed."""
        for resource in self._informers.resources.objects():
            self.resources.add(key_of(resource))
        for monitor in self._informers.monitors.objects():
            self.monitors.add(key_of(monitor))

    def _on_booking(self, change: Change[Booking]) -> None:
        if change.origin is Origin.OWN:
            return
        priority = _priority(change)
        self.bookings.add(change.key, priority)
        if any(booking is not None and _notifies(booking) for booking in (change.old, change.new)):
            self.notifications.add(change.key, priority)
        if change.status_only:
            return  # no other object reads it; and it may be our own, which the watch reported first
        for booking in (change.old, change.new):
            if booking is not None and booking.resource_name:
                self.resources.add(Key(change.key.namespace, booking.resource_name), priority)
        if (scheduler := self._informers.scheduler_of(change.latest)) is not None:
            self.schedulers.add(key_of(scheduler), priority)
        if change.origin is not Origin.INITIAL:
            self._enqueue_peers(change, priority)

    def _enqueue_peers(self, change: Change[Booking], priority: Priority) -> None:
        """All active bookings of the resource show who holds the lock, not only the changed one.

        One that is not active now, and was not before, changes nothing for the others, and neither does one
        that leaves the lock where it is: of many bookings made for one resource, each would wake all.
        """
        now = self._clock.now()
        for booking in (change.old, change.new):
            if booking is not None and booking.resource_name:
                resource = Key(change.key.namespace, booking.resource_name)
                if self._active(booking, resource) and not self._informers.holder_is_known(resource, now):
                    self._enqueue_active(resource, priority)

    def _enqueue_active(self, resource: Key, priority: Priority) -> None:
        for key in self._informers.active(resource, self._clock.now()):
            self.bookings.add(key, priority)

    def _active(self, booking: Booking, resource: Key) -> bool:
        interval, found = booking.interval(), self._informers.resources.get(resource)
        warm_up = found.warm_up if found is not None else timedelta(0)
        return interval is not None and interval.is_active(self._clock.now(), warm_up)

    def _on_resource(self, change: Change[Resource]) -> None:
        priority = _priority(change)
        if change.origin is not Origin.OWN:
            self.resources.add(change.key, priority)
        if change.origin is Origin.INITIAL:
            return
        if change.old is None or change.new is None:
            for peer in self._informers.duplicates(change.latest):
                self.resources.add(key_of(peer), priority)
            group = change.latest.group(self._informers.default_region)
            if group is not None:
                self.scope_listed(group.service, group.scope)
        if change.status_only:
            # The active bookings show how far the instances are, and why they are not ready.
            self._enqueue_active(change.key, priority)
            return
        for key in self._informers.unfinished(change.key, self._clock.now()):
            self.bookings.add(key, priority)

    def delay_changed(self, resource: Key) -> None:
        """The start or stop of a Resource that is next, or under way, will be late, or on time again."""
        self.resources.add(resource)
        now = self._clock.now()
        for key in self._informers.unfinished(resource, now, now + 2 * HORIZON):
            self.bookings.add(key)

    def _on_scheduler(self, change: Change[BookingScheduler]) -> None:
        if change.origin is not Origin.OWN:
            self.schedulers.add(change.key, _priority(change))

    def _on_monitor(self, change: Change[ResourceMonitor]) -> None:
        if change.origin is not Origin.OWN:
            self.monitors.add(change.key, _priority(change))

    def group_changed(self, group: Group) -> None:
        """The instances of a group look different."""
        for resource in self._informers.resources_for(group):
            self.resources.add(key_of(resource))

    def scope_listed(self, service: str, place: Scope) -> None:
        """Other groups of a scope ask for a Resource, or one of them has lost its own."""
        for monitor in self._informers.monitors.by_index("scope", (service, place)):
            self.monitors.add(key_of(monitor))

    def inventory_listener(self, service: str) -> "ReconcilerListener":
        """`cloud.driver.Audience` for all Resources and monitors of one type."""
        return ReconcilerListener(service, self._informers, self)


class ReconcilerListener:
    """What the Resources and monitors of one type want watched, and whom that wakes."""

    def __init__(self, service: str, informers: Informers, handlers: EventHandlers) -> None:
        self._service = service
        self._informers = informers
        self._handlers = handlers

    def groups(self) -> list[Group]:
        """The groups that a Resource stands for."""
        return [group for group in self._informers.groups() if group.service == self._service]

    def polling_periods(self) -> dict[Scope, timedelta]:
        """The scopes that a monitor looks at, and how often at least."""
        found: dict[Scope, timedelta] = {}
        for monitor in self._informers.monitors.objects():
            spec = monitor.spec
            if isinstance(spec, ResourceMonitorSpec) and spec.type == self._service:
                place = monitored_scope(spec, self._informers.default_region)
                found[place] = min(sync_interval(spec), found.get(place, timedelta.max))
        return found

    def group_changed(self, group: Group) -> None:
        """The instances of a group look different."""
        self._handlers.group_changed(group)

    def scope_changed(self, place: Scope) -> None:
        """Other groups of `place` ask for a Resource."""
        self._handlers.scope_listed(self._service, place)


def _notifies(booking: Booking) -> bool:
    """Whether a recipient is to be notified of its end, or its status remembers that one was."""
    asked = isinstance(booking.spec, BookingSpec) and booking.spec.notifications
    return bool(asked or booking.status.notified or booking.status.notification_sent)


def _priority(change: Change[Any]) -> Priority:
    return Priority.INITIAL if change.origin is Origin.INITIAL else Priority.CHANGE
