"""The port between the reconcilers and the cloud: groups are observed, instances started and stopped.

What is wanted of a group is an order: instances, a deadline, and a future for each instance. That is what
lets an adapter gather the orders of many groups into few calls, send them in a fair order, and have one bad
instance fail alone.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Protocol, Self

from booking_operator.domain.instance import InstanceState, Lock, Observation


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


class FailureKind(Enum):
    """The classes of failure, each of which is treated in its own way."""

    THROTTLED = "throttled"
    """The rate of calls is limited; nothing was done. Sent again when the limits allow."""
    TRANSIENT = "transient"
    """The service or the way to it failed, and nothing was done. Sent again after a pause."""
    LOST = "lost"
    """There was no reply, so it may have been done or not. First of all the instances are looked at."""
    REFUSED = "refused"
    """Some of the instances are the reason, and asking again at once would not help. They are named, or
    found."""
    CAPACITY = "capacity"
    """The cloud has no room for instances of one type in one zone."""
    DENIED = "denied"
    """A permission or a consent is missing, for some instances or for the action as such."""
    ACCOUNT = "account"
    """Nothing goes in this account for now: credentials that have expired, a clock that is wrong."""
    UNSENT = "unsent"
    """Nothing was sent, because that could not succeed: no credentials, no such account."""


class CloudError(Exception):
    """The cloud did not do or tell what was asked.

    Attributes:
        reason: CamelCase, for a condition; the service's own error code where it gave one.
        retryable: whether trying again can help without anybody's doing.
        fault: how it is treated.
        ids: the instances that are named as the reason; empty where none is.
        pool: the type and zone that lack capacity; empty where none is named.
        retry_at: when the operator tries again (aware UTC); None where it does not know.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retryable: bool = True,
        kind: FailureKind = FailureKind.UNSENT,
        ids: Iterable[str] = (),
        pool: str = "",
        retry_at: datetime | None = None,
    ) -> None:
        """Build it from the service's answer."""
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.kind = kind
        self.ids = frozenset(ids)
        self.pool = pool
        self.retry_at = retry_at

    def with_retry_at(self, instant: datetime | None) -> "CloudError":
        """The same, to be tried again at `instant`."""
        return CloudError(
            self.reason,
            str(self),
            retryable=self.retryable,
            kind=self.kind,
            ids=self.ids,
            pool=self.pool,
            retry_at=instant,
        )


class Action(StrEnum):
    """What can be done to instances."""

    START = "start"
    STOP = "stop"
    HIBERNATE = "hibernate"
    TAG = "tag"
    UNTAG = "untag"


def always() -> bool:
    """Stands at any time."""
    return True


def unheard() -> None:
    """Tells nobody."""


def uncounted(_: int) -> None:
    """Tells nobody either."""


@dataclass(slots=True, eq=False)
class Order:
    """What is wanted of instances of one group.

    Attributes:
        group: whose instances they are.
        futures: by id what became of it: the state that the service answered (None for tags), or
            `CloudError`.
        deadline: when it is to be done, not before (aware UTC); of two that cannot both go, the earlier goes.
        tenant: who wants it, of those among whom calls are shared out fairly: a namespace.
        stands: asked right before a call leaves; an order that does not stand any more is withdrawn.
        news: called each time that there is a `trouble` to tell.
        accepted: called with the number of instances, as soon as the service has accepted it for them.
        trouble: why those without an outcome have none yet; None where nothing has failed.
    """

    group: Group
    futures: Mapping[str, "Future[InstanceState | None]"]
    deadline: datetime
    tenant: str = ""
    still_valid: Callable[[], bool] = always
    on_pending_error: Callable[[], None] = unheard
    on_accepted: Callable[[int], None] = uncounted
    pending_error: CloudError | None = None

    @classmethod
    def of(
        cls,
        group: Group,
        ids: Iterable[str],
        deadline: datetime,
        *,
        tenant: str = "",
        still_valid: Callable[[], bool] = always,
        on_pending_error: Callable[[], None] = unheard,
        on_accepted: Callable[[int], None] = uncounted,
    ) -> Self:
        """An order with a future of the running loop for each of `ids`."""
        loop = asyncio.get_running_loop()
        futures = {id_: loop.create_future() for id_ in ids}
        return cls(group, futures, deadline, tenant, still_valid, on_pending_error, on_accepted)

    @property
    def pending(self) -> list[str]:
        """Ids without an outcome that somebody still waits for."""
        return [id_ for id_, future in self.futures.items() if not future.done()]

    def accept(self, states: Mapping[str, InstanceState | None]) -> None:
        """Settle instances as accepted, with what the service answered (None for tags)."""
        self.pending_error = None
        pending = [id_ for id_ in states if not self.futures[id_].done()]
        for id_ in pending:
            self.futures[id_].set_result(states[id_])
        if pending:
            self.on_accepted(len(pending))

    def fail(self, error: CloudError, ids: Iterable[str] | None = None) -> None:
        """Settle instances that have no outcome as failed; without `ids` all of them."""
        for id_ in self.futures if ids is None else ids:
            if not self.futures[id_].done():
                self.futures[id_].set_exception(error)

    def set_pending_error(self, error: CloudError) -> None:
        """Say why what has no outcome has none yet."""
        self.pending_error = error
        self.on_pending_error()

    def cancel(self) -> None:
        """Have nothing more sent for it. What is under way already stays so."""
        for future in self.futures.values():
            # Of one that is done, `cancel` only takes back that somebody must look at it.
            future.cancel()


@dataclass(frozen=True, slots=True)
class Demand:
    """What will be wanted of a group, for a forecast.

    Attributes:
        group: whose instances they are.
        action: what is to be done.
        count: to how many of them.
        at: when (aware UTC).
        tenant: who wants it.
    """

    group: Group
    action: Action
    count: int
    at: datetime
    tenant: str


class InventoryListener(Protocol):
    """Who watches a service: asked at each poll what for, and told what looks different."""

    def groups(self) -> Collection[Group]:
        """The groups of the service to be kept observed."""
        ...

    def polling_periods(self) -> Mapping[Scope, timedelta]:
        """Scopes to be listed for their groups, and at least how often."""
        ...

    def group_changed(self, group: Group) -> None:
        """The instances of a group look different, or it can be seen no more, or again."""
        ...

    def scope_changed(self, scope: Scope, /) -> None:
        """Other groups of `scope` ask for a Resource, or it can be seen no more, or again."""
        ...


class Driver(Protocol):
    """One cloud service."""

    def observation(self, group: Group) -> Observation | None:
        """The newest view of the group at hand, without asking the cloud; None when it was never seen."""
        ...

    def managed_tags(self, scope: Scope) -> frozenset[str]:
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

    def start(self, order: Order) -> None:
        """Have instances started. Returns at once; the futures of `order` tell what becomes of each."""
        ...

    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        """Have instances stopped, by hibernation where that is wanted and possible."""
        ...

    def set_lock_tags(self, order: Order, lock: Lock | None) -> None:
        """Have `lock` written into the lock tags of instances, or with None the tags removed."""
        ...

    async def expected(self, orders: Collection[Order]) -> Mapping[Order, datetime]:
        """When the last of each order that waits will leave, as far as the cloud's limits are known."""
        ...

    async def forecast(self, demands: Sequence[Demand]) -> Sequence[datetime]:
        """When the last instance of each demand would leave, after all that waits already."""
        ...

    def set_listener(self, listener: InventoryListener) -> None:
        """Keep what `audience` names observed from now on, and tell it of what changes."""
        ...
