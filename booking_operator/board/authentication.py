"""The user of a request to a board in the cluster: named by an authenticating proxy, or by a bearer token."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from booking_operator.board.expiring import ExpiringCache
from booking_operator.client.cluster import Cluster, UserInfo
from booking_operator.engine.clock import Clock

ALL_AUTHENTICATED = "system:authenticated"
"""The group of all users that the API server has authenticated."""
_RESERVED = "system:"
"""The prefix of names that belong to Kubernetes. No identity provider may give one of them."""
REVIEW_SECONDS = 10.0
"""For how long the result of a review is used again."""


def bearer_token(headers: Mapping[str, str]) -> str:
    """Return the bearer token of a request; empty if there is none."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.isascii() else ""


@dataclass(frozen=True, slots=True)
class ProxyHeaders:
    """The headers in which an authenticating proxy names the user, such as oauth2-proxy.

    Attributes:
        user: the header with the name of the user.
        groups: the header with the groups, separated by commas.
        user_prefix: what the API server puts before the name, as with its flag `--oidc-username-prefix`.
        groups_prefix: what the API server puts before a group, as with its flag `--oidc-groups-prefix`.
    """

    user: str = "X-Forwarded-Email"
    groups: str = "X-Forwarded-Groups"
    user_prefix: str = ""
    groups_prefix: str = ""

    def user_of(self, headers: Mapping[str, str]) -> UserInfo | None:
        """Return the user of a request; None if the proxy has not named one.

        Names that begin with `system:` are reserved for Kubernetes, so a user or a group with such a name is
        ignored.
        """
        name = f"{self.user_prefix}{found}" if (found := headers.get(self.user, "").strip()) else ""
        if not name or name.startswith(_RESERVED):
            return None
        listed = (group.strip() for group in headers.get(self.groups, "").split(","))
        groups = [f"{self.groups_prefix}{group}" for group in listed if group]
        kept = (group for group in groups if not group.startswith(_RESERVED))
        return UserInfo(name, (*kept, ALL_AUTHENTICATED))


class TokenReviewer:
    """Finds the users of bearer tokens by TokenReviews, and remembers each result for ten seconds."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._known: ExpiringCache[bytes, UserInfo | None] = ExpiringCache(clock, REVIEW_SECONDS)

    async def user_of(self, token: str) -> UserInfo | None:
        """Return the user of a token; None if the token is not valid.

        Raises:
            CommandError: the API server does not answer.
        """
        # The cache has no token, so that none can leave the process by it.
        return await self._known.get(sha256(token.encode()).digest(), lambda: self._cluster.user_of(token))
