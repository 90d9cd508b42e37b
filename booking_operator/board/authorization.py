"""What a user may see on a board in the cluster, by SubjectAccessReviews."""

import asyncio
from collections.abc import Collection
from typing import Any

from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.board.authentication import REVIEW_SECONDS
from booking_operator.board.expiring import ExpiringCache
from booking_operator.client.cluster import Cluster, Permission, UserInfo, forbidden
from booking_operator.client.live import together
from booking_operator.engine.clock import Clock

SHOWN: tuple[Kind[Any], ...] = (RESOURCE, BOOKING)
"""The kinds that a user must be allowed to list to see the bookings of a namespace."""


MAX_REVIEWS = 20
"""The maximum number of reviews at the same time. A user with a thousand namespaces needs two thousand."""


class AccessReviews:
    """Asks the API server what users may do, and remembers each answer for ten seconds."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._known: ExpiringCache[tuple[UserInfo, Permission], bool] = ExpiringCache(clock, REVIEW_SECONDS)
        self._limit = asyncio.Semaphore(MAX_REVIEWS)

    async def may(self, user: UserInfo, permission: Permission) -> bool:
        """Return whether a user has a permission, in its namespace or in all namespaces.

        Raises:
            CommandError: the API server does not answer.
        """
        return await self._known.get((user, permission), lambda: self._ask(user, permission))

    async def _ask(self, user: UserInfo, permission: Permission) -> bool:
        async with self._limit:
            return await self._cluster.may(user, permission)


class UserAccess:
    """What one user may do.

    Args:
        reviews: the access reviews of all users.
        user: the user.
    """

    def __init__(self, reviews: AccessReviews, user: UserInfo) -> None:
        self._reviews = reviews
        self._user = user

    async def allowed(self, permissions: Collection[Permission]) -> dict[Permission, bool]:
        """Return which permissions the user has.

        Raises:
            CommandError: the API server does not answer.
        """
        answers = await together(*(self._reviews.may(self._user, item) for item in permissions))
        return dict(zip(permissions, answers, strict=True))

    async def require(self, namespace: str, *kinds: Kind[Any]) -> None:
        """Check that the user may list some kinds in a namespace.

        Raises:
            CommandError: the user may not, or the API server does not answer.
        """
        for permission, allowed in (await self.allowed(_lists(namespace, kinds))).items():
            if not allowed:
                raise forbidden(permission)

    async def visible(self, namespaces: Collection[str]) -> list[str]:
        """Return the namespaces whose bookings the user may see.

        Raises:
            CommandError: the API server does not answer.
        """
        if all((await self.allowed(_lists("", SHOWN))).values()):
            return sorted(namespaces)
        reviews = await self.allowed([item for name in namespaces for item in _lists(name, SHOWN)])
        hidden = {permission.namespace for permission, allowed in reviews.items() if not allowed}
        return sorted(set(namespaces) - hidden)


def _lists(namespace: str, kinds: Collection[Kind[Any]]) -> list[Permission]:
    return [Permission("list", kind, namespace) for kind in kinds]
