"""Meters the usage of all Resources. Every replica does, whether it leads or not.

The recorder notes each view of the instances and each change of the bookings. It makes no AWS call.
`reconcilers.usage` writes what was metered.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

from booking_operator.api.booking import Booking
from booking_operator.api.resource import Resource
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.domain.group import Scope
from booking_operator.domain.usage import MAX_GAP, Booked, Fleet, Meter, to_second
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Change, Key, Origin, key_of
from booking_operator.reconcilers.informers import Informers, acceptance_changed

MEMORY = timedelta(hours=2)
"""How long a replica remembers what it has metered. The leader writes at least once an hour."""
SLICE = 20
"""The number of Resources that are metered between two turns of the event loop."""

_Signature = tuple[Mapping[str, int], frozenset[str]]
"""The running instances by size, and the names of the active bookings."""


class UsageRecorder:
    """The meters of all Resources.

    Args:
        informers: the caches of Resources and Bookings.
        inventories: the inventory of each service.
        clock: the clock.
        meter: the class of the meters.
    """

    def __init__(
        self,
        informers: Informers,
        inventories: Mapping[str, Inventory],
        clock: Clock,
        meter: type[Meter] = Meter,
    ) -> None:
        self._informers = informers
        self._inventories = inventories
        self._clock = clock
        self._meter = meter
        self._meters: dict[Key, Meter] = {}
        self._signatures: dict[Key, _Signature] = {}
        self._viewed: set[tuple[str, Scope]] = set()
        self._rebooked: dict[Key, datetime] = {}
        self._wake = asyncio.Event()
        self._changed: Callable[[Key], None] | None = None
        informers.bookings.subscribe(self._on_booking)
        informers.resources.subscribe(self._on_resource)
        for service, inventory in inventories.items():
            inventory.on_viewed(partial(self._on_viewed, service))

    def introspect(self) -> Contents:
        """The keys of the Resources that are metered."""
        return {
            "meters": self._meters.keys(),
            "signatures": self._signatures.keys(),
            "rebooked": self._rebooked.keys(),
        }

    def on_changed(self, call: Callable[[Key], None] | None) -> None:
        """Call `call` with the key of a Resource whose usage should be written; None while nobody writes.

        The power or the active bookings of the Resource have changed, or it was deleted.
        """
        self._changed = call
        if call is None:
            for key in [key for key in self._meters if self._informers.resources.get(key) is None]:
                self.forget(key)

    def meter(self, key: Key) -> Meter | None:
        """Return the meter of a Resource; None if it was never observed."""
        return self._meters.get(key)

    def metered(self) -> list[Key]:
        """Return the keys of all Resources that are metered."""
        return list(self._meters)

    def forget(self, key: Key) -> None:
        """Drop the meter of a Resource that was deleted."""
        self._meters.pop(key, None)
        self._signatures.pop(key, None)

    async def run(self) -> None:
        """Meter until cancelled. The work is done in slices, so that it delays no start."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            rebooked, self._rebooked = self._rebooked, {}
            viewed, self._viewed = self._viewed, set()
            for number, (key, at) in enumerate(rebooked.items(), 1):
                self._rebook(key, at)
                if number % SLICE == 0:
                    await asyncio.sleep(0)
            for service, scope in viewed:
                for number, resource in enumerate(self._resources_in(service, scope), 1):
                    self._observe(service, resource)
                    if number % SLICE == 0:
                        await asyncio.sleep(0)

    def _on_viewed(self, service: str, scope: Scope) -> None:
        self._viewed.add((service, scope))
        self._wake.set()

    def _on_booking(self, change: Change[Booking]) -> None:
        if change.origin is Origin.INITIAL or (change.status_only and not acceptance_changed(change)):
            return
        now = self._clock.now()
        for booking in (change.old, change.new):
            if booking is not None:
                self._rebooked |= {key: now for key, _ in self._informers.booked_resources(booking)}
        self._wake.set()

    def _on_resource(self, change: Change[Resource]) -> None:
        if change.origin is not Origin.INITIAL and (affected := self._informers.affected_by(change)):
            self._rebooked |= dict.fromkeys(affected, self._clock.now())
            self._wake.set()
        if change.new is not None:
            return
        if self._changed is None:
            self.forget(change.key)
        else:
            self._changed(change.key)  # it is forgotten after the last write

    def _resources_in(self, service: str, scope: Scope) -> list[Resource]:
        groups = [
            group for group in self._informers.groups() if (group.service, group.scope) == (service, scope)
        ]
        return [resource for group in groups for resource in self._informers.resources_for(group)]

    def _observe(self, service: str, resource: Resource) -> None:
        group, key = resource.group(self._informers.default_region), key_of(resource)
        if self._informers.resources.get(key) is None:
            return  # it was deleted since the slice before
        if group is None or self._informers.older_duplicate(resource) is not None:
            return  # the instances of a duplicate count for the older Resource
        observation = self._inventories[service].observation(group)
        if observation is None:
            return
        fleet, booked = Fleet.of(observation), self._booked(resource, observation.at)
        meter = self._meters.setdefault(key, self._meter())
        meter.observe(observation.at, fleet, booked)
        meter.forget_before(to_second(observation.at - MEMORY))
        active = (item.name for item in booked.bookings if item.is_active(observation.at, booked.warm_up))
        signature = (fleet.running, frozenset(active))
        if self._signatures.get(key) != signature:
            self._signatures[key] = signature
            if self._changed is not None:
                self._changed(key)

    def _rebook(self, key: Key, at: datetime) -> None:
        resource, meter = self._informers.resources.get(key), self._meters.get(key)
        if resource is not None and meter is not None:
            meter.rebook(at, self._booked(resource, at))

    def _booked(self, resource: Resource, now: datetime) -> Booked:
        """Return the bookings that are active now or begin before the next observation."""
        warm_up = resource.warm_up
        bookings = self._informers.timeline(resource).unfinished_by(now, now + warm_up + MAX_GAP)
        return Booked(tuple(bookings), warm_up)
