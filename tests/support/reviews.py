"""An API server that reviews tokens and permissions, in place of `Cluster`."""

import asyncio
from collections.abc import Sequence
from typing import Any

from booking_operator.client.cluster import Permission, UserInfo
from booking_operator.client.errors import CommandError

Grant = tuple[str, str, str]
"""A user or a group, the plural name of a kind, and a namespace; `*` stands for all."""


class ReviewingCluster:
    """Answers reviews from tables, and counts them.

    Attributes:
        tokens: the users by their tokens.
        grants: who may list what where.
        objects: the objects as parsed JSON, by the plural name of their kind.
        reviews: the number of reviews.
        at_once: the largest number of reviews at the same time.
        error: the error of all requests; None if they succeed.
        selectors: the queries of the lists.
    """

    def __init__(self, *grants: Grant, **tokens: UserInfo) -> None:
        self.tokens = tokens
        self.grants = set(grants)
        self.objects: dict[str, list[dict[str, Any]]] = {}
        self.reviews = self.at_once = self._running = 0
        self.error: CommandError | None = None
        self.selectors: list[Any] = []

    def _answer(self) -> None:
        self.reviews += 1
        if self.error is not None:
            raise self.error

    async def user_of(self, token: str) -> UserInfo | None:
        self._answer()
        return self.tokens.get(token)

    async def may(self, user: UserInfo, permission: Permission) -> bool:
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        await asyncio.sleep(0)  # others ask meanwhile
        self._running -= 1
        self._answer()
        assert permission.verb == "list"
        return any(
            (who, what, where) in self.grants
            for who in (user.name, *user.groups)
            for what in (permission.kind.plural, "*")
            for where in (permission.namespace, "*")
        )

    async def get(self, kind: Any, namespace: str, name: str) -> Any:
        self._answer()
        for body in self.objects.get(kind.plural, []):
            if (body["metadata"]["namespace"], body["metadata"]["name"]) == (namespace, name):
                return kind.adapter.validate_python(body)
        return None

    async def list_raw(self, kind: Any, namespace: str, selector: Any = ()) -> Sequence[dict[str, Any]]:
        self._answer()
        self.selectors.append(selector)
        found = self.objects.get(kind.plural, [])
        return [body for body in found if body["metadata"]["namespace"] == namespace]

    async def list_objects(self, kind: Any, namespace: str, _: Any = ()) -> Any:
        return [kind.adapter.validate_python(body) for body in await self.list_raw(kind, namespace)]
