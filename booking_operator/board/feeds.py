"""Calendar feeds: secret addresses at which calendar programs find the bookings of a Resource or a user."""

from booking_operator.api.calendar_feed import CalendarFeed, CalendarFeedSpec, Detail, token_hash
from booking_operator.api.kinds import BOOKING, CALENDAR_FEED
from booking_operator.board.authentication import ALL_AUTHENTICATED
from booking_operator.client.calendar import CalendarEntry, calendar
from booking_operator.client.cluster import Cluster, Permission, UserInfo
from booking_operator.client.feeds import feed_path
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Store


def feed_store() -> Store[CalendarFeed]:
    """Return an empty store of CalendarFeeds, with an index by the hash of their secret."""
    return Store({"token": lambda feed: _hashes(feed.spec)})


def _hashes(spec: object) -> tuple[str, ...]:
    return (spec.token_sha256,) if isinstance(spec, CalendarFeedSpec) else ()


class Feeds:
    """Answers calendar programs.

    Args:
        cluster: the API server.
        store: the CalendarFeeds.
        clock: the clock.
        external_url: the address at which people reach the board; empty if it is unknown.
    """

    def __init__(
        self, cluster: Cluster, store: Store[CalendarFeed], clock: Clock, external_url: str = ""
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock
        self._external_url = external_url

    async def calendar(self, token: str) -> bytes | None:
        """Return the calendar for a secret; None if there is none, or if it no longer works.

        Each call reads the CalendarFeed again, asks whether its owner may still list the bookings, and reads
        them from the API server, because a cache may be old.

        Raises:
            CommandError: the API server does not answer.
        """
        known = self._feed(token)
        if known is None:
            return None
        namespace = known.metadata.namespace
        feed = await self._cluster.get(CALENDAR_FEED, namespace, known.metadata.name)
        spec = self._working_spec(feed) if feed and feed.metadata.uid == known.metadata.uid else None
        if spec is None:
            return None
        owner = UserInfo(spec.owner, (*spec.owner_groups, ALL_AUTHENTICATED))
        if not await self._cluster.may(owner, Permission("list", BOOKING, namespace)):
            return None
        by_resource = bool(spec.resource_name)
        field = f"spec.{'resource_name' if by_resource else 'user_id'}"
        selector = (("fieldSelector", f"{field}={_escaped(spec.resource_name or spec.user_id)}"),)
        found = await self._cluster.list_raw(BOOKING, namespace, selector)
        name = spec.resource_name if by_resource else f"Bookings of {spec.user_id}"
        return calendar(
            f"{name} in {namespace}",
            map(CalendarEntry.of, found),
            self._clock.now(),
            source=f"{self._external_url}{feed_path(token)}" if self._external_url else "",
            busy_only=spec.detail is Detail.BUSY,
        )

    def _feed(self, token: str) -> CalendarFeed | None:
        """Return the CalendarFeed of a secret. If several have its hash, the oldest counts.

        Otherwise, everybody who reads a hash could put a CalendarFeed of their own in its place.
        """
        found = self._store.by_index("token", token_hash(token))
        by_age = sorted(found, key=lambda feed: (feed.metadata.creation_timestamp, feed.metadata.uid))
        return next(iter(by_age), None)

    def _working_spec(self, feed: CalendarFeed) -> CalendarFeedSpec | None:
        """Return the spec of a CalendarFeed; None if it is invalid, expired or being deleted."""
        if feed.metadata.deletion_timestamp is not None or not isinstance(feed.spec, CalendarFeedSpec):
            return None
        return None if feed.spec.expired(self._clock.now()) else feed.spec


def _escaped(value: str) -> str:
    """Escape the characters with a meaning in a field selector, as `fields.EscapeValue` of Kubernetes."""
    return "".join(f"\\{char}" if char in "\\,=" else char for char in value)
