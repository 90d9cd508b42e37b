"""The cached objects as the reconcilers ask for them."""

from booking_operator.api.booking import Booking
from booking_operator.api.resource import Resource, ResourceSpec, ad_hoc_claim
from booking_operator.cloud.driver import Group
from booking_operator.domain.booking import Booking as Claim
from booking_operator.engine.store import Key, Store, key_of


class Caches:
    """Resources by the group they stand for, and bookings by the resource they name."""

    def __init__(self, default_region: str) -> None:
        self.default_region = default_region
        self.resources: Store[Resource] = Store({"group": self._groups})
        self.bookings: Store[Booking] = Store({"resource": _named_resource})

    def _groups(self, resource: Resource) -> tuple[Group, ...]:
        group = resource.group(self.default_region)
        return (group,) if group else ()

    def groups(self) -> set[Group]:
        """All groups that a Resource stands for."""
        return {group for resource in self.resources.all() for group in self._groups(resource)}

    def peers(self, resource: Resource) -> list[Resource]:
        """All Resources that stand for the same instances, itself among them."""
        return [peer for group in self._groups(resource) for peer in self.resources.by("group", group)]

    def elder(self, resource: Resource) -> Resource | None:
        """An older Resource of the same group, which acts in its stead."""
        eldest = min(self.peers(resource), key=lambda peer: peer.seniority, default=resource)
        return None if key_of(eldest) == key_of(resource) else eldest

    def bookings_of(self, key: Key) -> list[Booking]:
        """All bookings that name the Resource `key`, whatever their state."""
        return self.bookings.by("resource", key)

    def claims(self, resource: Resource) -> list[Claim]:
        """All valid bookings of a Resource, the ad-hoc one in its spec included."""
        claims = [booking.claim() for booking in self.bookings_of(key_of(resource))]
        if isinstance(resource.spec, ResourceSpec):
            claims.append(ad_hoc_claim(resource, resource.spec))
        return [claim for claim in claims if claim is not None]


def _named_resource(booking: Booking) -> tuple[Key, ...]:
    return (Key(booking.metadata.namespace, booking.resource_name),) if booking.resource_name else ()
