"""Event handlers: enqueue the keys that a change of an object or of the instances concerns.

The handlers run synchronously in the informers and in the inventory. They own the work queues of all kinds,
and the controllers of `Manager` process these queues.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from booking_operator.api.booking import Booking, BookingSpec
from booking_operator.api.meta import find_condition
from booking_operator.api.monitor import ResourceMonitor, ResourceMonitorSpec, monitored_scope, sync_interval
from booking_operator.api.resource import Resource
from booking_operator.api.scheduler import BookingScheduler
from booking_operator.cloud.driver import CheckedGroup
from booking_operator.domain.group import Group, Scope
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Change, Key, Origin, Store, key_of
from booking_operator.engine.workqueue import Priority, WorkQueue
from booking_operator.reconcilers.delays import HORIZON
from booking_operator.reconcilers.informers import Informers, acceptance_changed


class EventHandlers:
    """The work queues of all kinds, and the handlers that fill them between `subscribe` and `unsubscribe`."""

    def __init__(self, informers: Informers, clock: Clock, queue: type[WorkQueue[Key]] = WorkQueue) -> None:
        self._informers = informers
        self._clock = clock
        # The status of Bookings only informs users. A thousand that begin at one instant must not delay the
        # starts of Resources, so their timers get the priority of a change.
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
        """Enqueue every cached object, and handle every change from now on."""
        for store, handler in self._handlers:
            for object_ in store.objects():
                handler(Change(None, object_, Origin.INITIAL))
            store.subscribe(handler)
        for resource in self._informers.resources.objects():
            # After a take-over all Resources are in the queue. The timer gives the overdue ones priority.
            if (at := resource.status.next_change) is not None:
                self.resources.add_at(key_of(resource), at)

    def unsubscribe(self) -> None:
        """Stop handling changes."""
        for store, handler in self._handlers:
            store.unsubscribe(handler)

    def enqueue_all(self) -> None:
        """Enqueue all Resources and monitors after a relist, which may allow a withheld stop or pruning."""
        for resource in self._informers.resources.objects():
            self.resources.add(key_of(resource))
        for monitor in self._informers.monitors.objects():
            self.monitors.add(key_of(monitor))

    def _on_booking(self, change: Change[Booking]) -> None:
        priority = _priority(change)
        if acceptance_changed(change):
            self._enqueue_accepting(change, priority)
        if change.origin is Origin.OWN:
            if _notifies(change.latest) and _situation(change.old) != _situation(change.new):
                self.notifications.add(change.key, priority)
            return
        self.bookings.add(change.key, priority)
        if any(booking is not None and _notifies(booking) for booking in (change.old, change.new)):
            self.notifications.add(change.key, priority)
        if change.status_only:
            # No other object depends on the status of a Booking. The status may also be the operator's own
            # write, if the watch event came before the response.
            return
        for booking in (change.old, change.new):
            for resource, _ in self._informers.booked_resources(booking) if booking is not None else ():
                self.resources.add(resource, priority)
        if (scheduler := self._informers.scheduler_of(change.latest)) is not None:
            self.schedulers.add(key_of(scheduler), priority)
        if change.origin is not Origin.INITIAL:
            self._enqueue_peers(change, priority)
            self._enqueue_waiting(change, priority)

    def _enqueue_peers(self, change: Change[Booking], priority: Priority) -> None:
        """Enqueue all active Bookings of the Resource if the holder may have changed.

        Every active Booking shows the holder in its status. If the changed Booking is not active and was not
        active before, or if the holder is still known, the other Bookings are not enqueued. Otherwise each of
        many new Bookings of one Resource would enqueue all others.
        """
        now = self._clock.now()
        for booking in (change.old, change.new):
            for resource, interval in self._informers.booked_resources(booking) if booking else ():
                active = interval is not None and interval.is_active(now, self._informers.warm_up(resource))
                if active and not self._informers.holder_is_known(resource, now):
                    self._enqueue_active(resource, priority)

    def _enqueue_accepting(self, change: Change[Booking], priority: Priority) -> None:
        """Enqueue the Resources whose accepted bookings have changed, and the Bookings that wait for them."""
        for booking in (change.old, change.new):
            if booking is not None and (accepted := booking.status.accepted_resource):
                self._enqueue_with_required(Key(change.key.namespace, accepted), priority)
        self._enqueue_waiting(change, priority)
        if change.origin is Origin.OWN:
            self._enqueue_peers(change, priority)

    def _enqueue_waiting(self, change: Change[Booking], priority: Priority) -> None:
        """Enqueue the Bookings that wait for a time that the changed Booking may have left free."""
        names = dict.fromkeys(
            name
            for booking in (change.old, change.new)
            if booking is not None
            for name in (booking.resource_name, *booking.status.accepted_exclusive)
        )
        now = self._clock.now()
        for name in names:
            for booking in self._informers.rivals(Key(change.key.namespace, name), now):
                if _waits(booking, now):
                    self.bookings.add(key_of(booking), priority)

    def _enqueue_active(self, resource: Key, priority: Priority) -> None:
        for key in self._informers.active(resource, self._clock.now()):
            self.bookings.add(key, priority)

    def _enqueue_with_required(self, resource: Key, priority: Priority) -> None:
        """Enqueue a Resource, and all that it requires."""
        for key in (resource, *self._informers.required(resource)):
            self.resources.add(key, priority)

    def _enqueue_neighbours(self, resource: Key, priority: Priority) -> None:
        """Enqueue the Resources that one requires, which may stop, and those that require it, which start.

        A Resource without instances passes the sequence on to those that require it.
        """
        for key in self._informers.required(resource):
            self.resources.add(key, priority)
        waiting, seen = [resource], {resource}
        while waiting:
            for dependent in self._informers.requirements.dependents(waiting.pop()):
                if (key := key_of(dependent)) not in seen:
                    seen.add(key)
                    self.resources.add(key, priority)
                    if not dependent.status.instances:
                        waiting.append(key)

    def _on_resource(self, change: Change[Resource]) -> None:
        priority = _priority(change)
        if change.origin is not Origin.OWN:
            self.resources.add(change.key, priority)
        if change.origin is Origin.INITIAL:
            return
        self._enqueue_related(change, priority)
        if change.old is None or change.new is None:
            for peer in self._informers.duplicates(change.latest):
                self.resources.add(key_of(peer), priority)
            group = change.latest.group(self._informers.default_region)
            if group is not None:
                self.scope_listed(group.service, group.scope)
        if change.status_only:
            # The active Bookings show how many instances run, and why the instances are not ready.
            self._enqueue_active(change.key, priority)
            if _power(change.old) != _power(change.new):
                self._enqueue_neighbours(change.key, priority)
            return
        for key in self._informers.unfinished(change.key, self._clock.now()):
            self.bookings.add(key, priority)
        for booking in self._informers.requests(change.key, self._clock.now()):
            self.bookings.add(key_of(booking), priority)

    def _enqueue_related(self, change: Change[Resource], priority: Priority) -> None:
        """Enqueue the other Resources that a change concerns, and the bookings with other rules."""
        for key in self._informers.affected_by(change):
            self.resources.add(key, priority)
        if not change.status_only:
            for key in self._informers.requirements.all_dependents(change.key):
                for booking in self._informers.unfinished(key, self._clock.now()):
                    self.bookings.add(booking, priority)

    def delay_changed(self, resource: Key) -> None:
        """Enqueue a Resource whose delay has changed, and the Bookings that may show the delay."""
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
        """Enqueue the Resources of a group after a change of its instances, and those in their order."""
        for resource in self._informers.resources_for(group):
            self.resources.add(key_of(resource))
            self._enqueue_neighbours(key_of(resource), Priority.CHANGE)

    def scope_listed(self, service: str, place: Scope) -> None:
        """Enqueue the monitors of a scope.

        Callers use this when the set of groups that ask for a Resource has changed, or when a Resource of the
        scope was created or deleted.
        """
        for monitor in self._informers.monitors.by_index("scope", (service, place)):
            self.monitors.add(key_of(monitor))

    def inventory_listener(self, service: str) -> "ReconcilerListener":
        """Return the `cloud.driver.InventoryListener` for all Resources and monitors of one type."""
        return ReconcilerListener(service, self._informers, self, self._clock)


class ReconcilerListener:
    """The inventory listener of a leader: names what to poll, and enqueues what a change concerns."""

    def __init__(self, service: str, informers: Informers, handlers: EventHandlers, clock: Clock) -> None:
        self._service = service
        self._informers = informers
        self._handlers = handlers
        self._clock = clock

    def groups(self) -> list[Group]:
        """The groups of all Resources of this type."""
        return [group for group in self._informers.groups() if group.service == self._service]

    def checked_groups(self) -> list[CheckedGroup]:
        """The groups of this type that are ready when their status checks pass."""
        now = self._clock.now()
        return [
            _checked(group, self._informers.resources_for(group), self._informers, now)
            for group in self._informers.checked_groups()
            if group.service == self._service
        ]

    def polling_periods(self) -> dict[Scope, timedelta]:
        """The scopes of all monitors of this type, each with the shortest `sync_interval` of its monitors."""
        found: dict[Scope, timedelta] = {}
        for monitor in self._informers.monitors.objects():
            spec = monitor.spec
            if isinstance(spec, ResourceMonitorSpec) and spec.type == self._service:
                place = monitored_scope(spec, self._informers.default_region)
                found[place] = min(sync_interval(spec), found.get(place, timedelta.max))
        return found

    def group_changed(self, group: Group) -> None:
        """Enqueue the Resources of the group."""
        self._handlers.group_changed(group)

    def scope_changed(self, place: Scope) -> None:
        """Enqueue the monitors of the scope."""
        self._handlers.scope_listed(self._service, place)


def _checked(
    group: Group, resources: Sequence[Resource], informers: Informers, now: datetime
) -> CheckedGroup:
    """Return when a group is wanted running next, and whether it was ready for a booking."""
    starts = []
    for resource in resources:
        state = informers.timeline(resource).state_at(now, resource.warm_up)
        starts.append(now if state.running_wanted else state.next_change_at)
    statuses = [resource.status for resource in resources]
    ready = any(status.status == "RUNNING" and status.locked_until for status in statuses)
    return CheckedGroup(group, min((at for at in starts if at is not None), default=None), ready)


def _waits(booking: Booking, now: datetime) -> bool:
    """Whether a Booking has no record of its whole interval. The status may not be written yet."""
    interval = booking.interval()
    if interval is None or interval.end_at <= now:
        return False
    record = booking.status.accepted_for(booking.resource_name)
    return record != interval.span


def _notifies(booking: Booking) -> bool:
    """Whether a Booking has recipients in its spec, or delivered notifications in its status."""
    asked = isinstance(booking.spec, BookingSpec) and booking.spec.notifications
    return bool(asked or booking.status.notified or booking.status.notification_sent)


def _situation(booking: Booking | None) -> tuple[object, ...]:
    """Return the parts of a status that notifications depend on."""
    if booking is None:
        return ()
    conditions = (find_condition(booking.status.conditions, type_) for type_ in ("Ready", "Accepted"))
    reported = [(item.status, item.reason == "Conflict") if item else None for item in conditions]
    return (*booking.status.acceptance, *reported)


def _power(resource: Resource | None) -> tuple[object, ...]:
    """Return the part of a status that says how far a start or a stop is."""
    return (resource.status.status, resource.status.running) if resource is not None else ()


def _priority(change: Change[Any]) -> Priority:
    return Priority.INITIAL if change.origin is Origin.INITIAL else Priority.CHANGE
