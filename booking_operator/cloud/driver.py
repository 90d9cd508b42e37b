"""The port between the reconcilers and the cloud: groups are observed, instances started and stopped.

A request is a set of ids with a deadline, and it answers with one future per instance: that is what lets an
adapter gather the requests of many groups into few calls, and lets one bad instance fail alone.
"""

from asyncio import Future
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from booking_operator.domain.instance import Observation, State

APPLICATION_TAG = "resource-booking-application"
"""Its value is the group of the instance. No tag, no action."""
MANAGED_TAG = "resource-booking-managed"
"""`true` asks a ResourceMonitor to make a Resource for the group."""


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


class Driver(Protocol):
    """One cloud service."""

    def last(self, group: Group) -> Observation | None:
        """The newest view of the group at hand, without asking the cloud; None when it was never seen."""
        ...

    def failure(self, group: Group) -> CloudError | None:
        """Why the newest view of the group is older than it should be; None when it is not."""
        ...

    async def observe(self, group: Group, since: datetime) -> Observation:
        """A view of the group that was asked for at `since` or later (aware UTC); shared with all who ask.

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

    def track(self, groups: Callable[[], Collection[Group]], changed: Callable[[Group], None]) -> None:
        """Keep all `groups` observed from now on, and call `changed` for each that looks different."""
        ...
