"""The port between the reconcilers and the cloud: groups are observed, instances started and stopped.

A request is a set of ids with a deadline, and it answers with one future per instance: that is what lets an
adapter gather the requests of many groups into few calls, and lets one bad instance fail alone.
"""

from asyncio import Future
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from booking_operator.domain.instance import Lock, Observation, State


@dataclass(frozen=True, slots=True)
class Scope:
    """One region of one account: as far as one call reaches, and what AWS counts its limits for."""

    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Group:
    """One group of instances: those whose application tag is `tag`, in one region of one account."""

    service: str
    account: str
    region: str
    tag: str

    @property
    def scope(self) -> Scope:
        """The region and account it lies in."""
        return Scope(self.account, self.region)

    @property
    def place(self) -> str:
        """Where it is, as a user would say it."""
        return f"{self.region} of account {self.account}" if self.account else self.region


class CloudError(Exception):
    """The cloud did not do or tell what was asked.

    Attributes:
        reason: CamelCase, for a condition; the service's own error code where it gave one.
        retryable: whether trying again can help without anybody's doing.
    """

    def __init__(self, reason: str, message: str, *, retryable: bool = True) -> None:
        """Build it from the service's answer."""
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


Accepted = Mapping[str, Future[State]]
"""One future per instance: the state that the service answered, or `CloudError`."""


class Audience(Protocol):
    """Who watches a service: asked at each poll what for, and told what looks different."""

    def groups(self) -> Collection[Group]:
        """The groups of the service to be kept observed."""
        ...

    def periods(self) -> Mapping[Scope, timedelta]:
        """Scopes to be listed for their groups, and at least how often."""
        ...

    def changed(self, group: Group) -> None:
        """The instances of a group look different, or it can be seen no more, or again."""
        ...

    def listed(self, scope: Scope, /) -> None:
        """Other groups of `scope` ask for a Resource, or it can be seen no more, or again."""
        ...


class Driver(Protocol):
    """One cloud service."""

    def last(self, group: Group) -> Observation | None:
        """The newest view of the group at hand, without asking the cloud; None when it was never seen."""
        ...

    def managed(self, scope: Scope) -> frozenset[str]:
        """Tags of the groups in `scope` that ask for a Resource; empty when never seen."""
        ...

    def failure(self, scope: Scope) -> CloudError | None:
        """Why the newest view of `scope` is older than it should be; None when it is not."""
        ...

    async def refresh(self, scope: Scope, since: datetime) -> datetime:
        """Have a view of `scope` that was asked for at `since` or later (aware UTC); shared with all who ask.

        Returns:
            When it was asked for.

        Raises:
            CloudError: the cloud did not answer.
        """
        ...

    def start(self, group: Group, ids: Collection[str], *, deadline: datetime) -> Accepted:
        """Start instances, the ones with the earliest `deadline` first."""
        ...

    def stop(
        self, group: Group, ids: Collection[str], *, deadline: datetime, hibernate: bool = False
    ) -> Accepted:
        """Stop instances, the ones with the earliest `deadline` first."""
        ...

    async def lock(self, group: Group, ids: Collection[str], lock: Lock | None) -> None:
        """Write `lock` into the lock tags of instances, or with None remove the tags.

        Raises:
            CloudError: the cloud refused, or did not answer; some may have been written.
        """
        ...

    def track(self, audience: Audience) -> None:
        """Keep what `audience` names observed from now on, and tell it of what changes."""
        ...
