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

from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import Instance, InstanceState, Lock


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
    """The cloud service refused a call or did not answer it.

    Attributes:
        reason: CamelCase, for a condition; the service's own error code where it gave one.
        retryable: whether trying again can help without anybody's doing.
        kind: how it is treated.
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


@dataclass(frozen=True, slots=True)
class Operation:
    """What one call does to all of its instances.

    Attributes:
        action: the action.
        lock: what TAG writes into the lock tags; None for other actions.
    """

    action: Action
    lock: Lock | None = None


def always() -> bool:
    """Valid at any time."""
    return True


def ignore_pending_error() -> None:
    """Do nothing."""


def ignore_accepted(_: int) -> None:
    """Do nothing."""


@dataclass(slots=True, eq=False)
class Order:
    """What is wanted of instances of one group.

    Attributes:
        group: whose instances they are.
        futures: by id what became of it: the state that the service answered (None for tags), or
            `CloudError`.
        deadline: when it is to be done, not before (aware UTC); of two that cannot both go, the earlier goes.
        tenant: who wants it, of those among whom calls are shared out fairly: a namespace.
        still_valid: asked right before a call leaves; an order that does not stand any more is withdrawn.
        on_pending_error: called each time that there is a new `pending_error`.
        on_accepted: called with the number of instances, as soon as the service has accepted it for them.
        pending_error: why those without an outcome have none yet; None where nothing has failed.
    """

    group: Group
    futures: Mapping[str, "Future[InstanceState | None]"]
    deadline: datetime
    tenant: str = ""
    still_valid: Callable[[], bool] = always
    on_pending_error: Callable[[], None] = ignore_pending_error
    on_accepted: Callable[[int], None] = ignore_accepted
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
        on_pending_error: Callable[[], None] = ignore_pending_error,
        on_accepted: Callable[[int], None] = ignore_accepted,
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
class Record:
    """One instance as a Describe shows it.

    Attributes:
        tag: the group it belongs to.
        instance: its id and state.
        hibernates: whether it was launched with hibernation enabled.
        managed: whether it asks a ResourceMonitor to make a Resource for its group.
        pool: its type and zone, which share capacity: `m5.large in eu-west-1a`; empty where there is no such.
        failure_reason: of one that is stopped, what failed; empty where nothing did, or the service does not
        say.
    """

    tag: str
    instance: Instance
    hibernates: bool = False
    managed: bool = False
    pool: str = ""
    failure_reason: str = ""


@dataclass(frozen=True, slots=True)
class ActionAnswer:
    """What the service answered to an action for one instance: its state before, and now.

    `before` is None where the service named a state that `State` does not know. Both are None for tags.
    """

    before: InstanceState | None
    now: InstanceState | None


TAGGED = ActionAnswer(before=None, now=None)
"""The answer to a change of tags, which says nothing of states."""


class ServiceApi(Protocol):
    """The calls of one service, in the operator's own terms. Each raises `CloudError`.

    Attributes:
        max_batch: for how many instances one call can be made.
        api_actions: the AWS API action of each of our actions; AWS counts its request limits by it.
    """

    @property
    def max_batch(self) -> int: ...  # noqa: D102
    @property
    def api_actions(self) -> Mapping[Action, str]: ...  # noqa: D102

    async def describe(self, scope: Scope) -> list[Record]:
        """All instances of `scope` that carry the application tag and exist."""
        ...

    async def ready(self, scope: Scope) -> None:
        """Prepare client and credentials, so that a call does not wait for them."""
        ...

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str]
    ) -> Mapping[str, ActionAnswer]:
        """Make one call. The answer has the instances for which the service accepted it."""
        ...

    async def release(self, scope: Scope) -> None:
        """Release what is kept for a scope. A later call may name the scope again."""
        ...


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
    """Watches a service: each poll asks it for its scopes, and reports which groups have changed."""

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
