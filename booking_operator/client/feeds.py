"""Makes calendar feeds: the object for the cluster, and the secret that only the caller learns."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from booking_operator.api.calendar_feed import Detail, token_hash
from booking_operator.api.kinds import CALENDAR_FEED
from booking_operator.client.cluster import UserInfo
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.naming import sanitize_name

FEED_PATH, FEED_SUFFIX = "/feeds/", ".ics"
"""The address of a feed is the address of the board, `FEED_PATH`, the secret and `FEED_SUFFIX`."""
_SUFFIX_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class WantedFeed:
    """The bookings that a calendar feed shows.

    Attributes:
        resource: the name of the Resource; empty for the bookings of the owner.
        detail: how much the calendar says of a booking.
        expires_at: when the address stops working (aware UTC); None for never.
    """

    resource: str
    detail: Detail
    expires_at: datetime | None

    def body(self, owner: UserInfo, secret: str) -> Mapping[str, Any]:
        """Return the CalendarFeed of an owner for a secret. Its name has the first characters of the hash."""
        hashed = token_hash(secret)
        shown = {"resource_name": self.resource} if self.resource else {"user_id": owner.name}
        name = sanitize_name(f"{self.resource or owner.name}-{hashed[:_SUFFIX_CHARACTERS]}")
        expiry = {"expires_at": format_utc(self.expires_at)} if self.expires_at else {}
        spec = {
            **shown,
            "detail": self.detail.value,
            "owner": owner.name,
            "owner_groups": list(owner.groups),
            "token_sha256": hashed,
            **expiry,
        }
        return {
            "apiVersion": CALENDAR_FEED.api_version,
            "kind": CALENDAR_FEED.name,
            "metadata": {"name": name},
            "spec": spec,
        }


def feed_path(secret: str) -> str:
    """Return the path of the address of a feed."""
    return f"{FEED_PATH}{secret}{FEED_SUFFIX}"
