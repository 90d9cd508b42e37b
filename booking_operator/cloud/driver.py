"""The interface between the reconcilers and the cloud: observe groups, and start and stop instances.

A reconciler creates an `Order`: instances, a deadline, and a future for each instance. So `cloud.batching`
can combine the orders of many groups into few calls, send them in a fair order, and let one bad instance fail
alone. `ServiceApi` is what a module in `cloud.aws` implements for each service.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Protocol, Self

from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import Instance, InstanceState, Lock
from booking_operator.domain.services import ServiceFacts


class FailureKind(Enum):
    """The kinds of failure, as `cloud.aws.errors` decides them.

    `cloud.batching.request_queue` handles a failed start, stop or tag change by its kind, and
    `cloud.inventory` a failed Describe.
    """

    THROTTLED = "throttled"
    """The request limit is exceeded; nothing was done. The operator retries when the model of the limits
    (`cloud.batching.token_bucket`) allows it."""
    TRANSIENT = "transient"
    """The service responded with a server error, or the connection failed. The operator assumes that nothing
    was done, and retries after a back-off."""
    LOST = "lost"
    """There was no usable response, so the action may have happened. The operator observes the instances
    before it retries."""
    REFUSED = "refused"
    """Some of the instances are the cause, and an immediate retry would fail too. The error names these
    instances, or bisection finds them."""
    CAPACITY = "capacity"
    """The cloud has no capacity for all instances of the call in one zone, or a limit of the account allows
    fewer. A part of them may fit."""
    DENIED = "denied"
    """A permission or a consent is missing, for some instances or for the whole action."""
    ACCOUNT = "account"
    """All calls in this account fail for now, for example because credentials expired or a clock is wrong."""
    UNSENT = "unsent"
    """The call was not sent, for example because the credentials or the account are missing."""


class OutdatedError(Exception):
    """The orders of a call became invalid before it changed the power state of an instance."""


class CloudError(Exception):
    """An action failed: the service refused it or did not respond, or the call was not sent.

    Attributes:
        reason: CamelCase, for a condition: the error code of the service, if there is one.
        retryable: whether a retry can succeed without human action.
        kind: the kind of failure, which determines the handling.
        ids: the instances that the service names as the cause; empty if it names none.
        pool: the type and zone that lack capacity; empty if the service names none.
        retry_at: when the operator retries (aware UTC); None if unknown.
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
        """Create an error with a message for users; the class describes the other arguments."""
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.kind = kind
        self.ids = frozenset(ids)
        self.pool = pool
        self.retry_at = retry_at

    def with_retry_at(self, instant: datetime | None) -> "CloudError":
        """Return a copy with another `retry_at` (aware UTC)."""
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
    """The actions on instances."""

    START = "start"
    STOP = "stop"
    HIBERNATE = "hibernate"
    TAG = "tag"
    UNTAG = "untag"


def api_action(service: ServiceFacts, action: Action) -> str:
    """Return the AWS API action whose limits count for `action`."""
    match action:
        case Action.START:
            return service.start_call
        case Action.STOP | Action.HIBERNATE:
            return service.stop_call
        case Action.TAG:
            return service.tag_call
        case Action.UNTAG:
            return service.untag_call


@dataclass(frozen=True, slots=True)
class Operation:
    """The operation that one call performs on all of its instances.

    Attributes:
        action: the action.
        lock: the content of the lock tags for TAG; None for other actions.
    """

    action: Action
    lock: Lock | None = None


def always() -> bool:
    """Return True: the order is always valid."""
    return True


def ignore_pending_error() -> None:
    """Ignore the new pending error."""


def ignore_accepted(_: int) -> None:
    """Ignore the number of accepted instances."""


@dataclass(slots=True, eq=False)
class Order:
    """An action that is requested for instances of one group.

    Attributes:
        group: the group of the instances.
        futures: the outcome by instance id: the state in the service's response (None for tags), or
            `CloudError`.
        deadline: when the action is due, not before (aware UTC). If two orders of a tenant compete, the
            earlier one goes first.
        tenant: the namespace of the Resource. Tenants share the calls fairly.
        still_valid: called right before a call is sent; an order that is no longer valid is cancelled.
        on_pending_error: called after an attempt has failed that will be repeated.
        on_accepted: called with the number of instances for which the service accepted the action.
        attempt_errors: the error of the last attempt for each instance whose attempt has failed and will be
            repeated.
    """

    group: Group
    futures: Mapping[str, "Future[InstanceState | None]"]
    deadline: datetime
    tenant: str = ""
    still_valid: Callable[[], bool] = always
    on_pending_error: Callable[[], None] = ignore_pending_error
    on_accepted: Callable[[int], None] = ignore_accepted
    attempt_errors: dict[str, CloudError] = field(default_factory=dict)

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
        """Create an order with a future of the running loop for each of `ids`."""
        loop = asyncio.get_running_loop()
        futures = {id_: loop.create_future() for id_ in ids}
        return cls(group, futures, deadline, tenant, still_valid, on_pending_error, on_accepted)

    @property
    def pending(self) -> list[str]:
        """The ids of the instances without an outcome whose futures are not cancelled."""
        return [id_ for id_, future in self.futures.items() if not future.done()]

    @property
    def pending_error(self) -> CloudError | None:
        """Why instances have no outcome; None if no attempt for one of them has failed."""
        errors = (self.attempt_errors.get(id_) for id_ in self.pending)
        return next((error for error in errors if error is not None), None)

    def accept(self, states: Mapping[str, InstanceState | None]) -> None:
        """Resolve the futures of accepted instances with the states in the response (None for tags)."""
        pending = [id_ for id_ in states if not self.futures[id_].done()]
        for id_ in pending:
            self.futures[id_].set_result(states[id_])
        if pending:
            self.on_accepted(len(pending))

    def fail(self, error: CloudError, ids: Iterable[str] | None = None) -> None:
        """Fail the futures of instances that have no outcome; without `ids`, all of them."""
        for id_ in self.futures if ids is None else ids:
            if not self.futures[id_].done():
                self.futures[id_].set_exception(error)

    def set_pending_error(self, error: CloudError, ids: Iterable[str]) -> None:
        """Record why the instances `ids` have no outcome, and call `on_pending_error`."""
        self.attempt_errors |= dict.fromkeys(ids, error)
        self.on_pending_error()

    def cancel(self) -> None:
        """Cancel all pending futures, so that no further call is sent. A call in flight continues."""
        for future in self.futures.values():
            # On a done future, `cancel` only suppresses the log record about an unretrieved exception.
            future.cancel()


@dataclass(frozen=True, slots=True)
class Record:
    """One instance as a Describe shows it.

    Attributes:
        tag: the group that it belongs to.
        instance: its id and state.
        hibernates: whether it was launched with hibernation enabled.
        managed: whether it asks a ResourceMonitor to create a Resource for its group.
        left_out: whether the operator leaves it alone. Then `blocked_reason` of the instance says why.
        pool: its type and zone, which share capacity, such as `m5.large in eu-west-1a`; empty if not
            applicable.
        failure_reason: why a stopped instance failed; empty if it did not, or if the service gives no reason.
    """

    tag: str
    instance: Instance
    hibernates: bool = False
    managed: bool = False
    left_out: bool = False
    pool: str = ""
    failure_reason: str = ""


@dataclass(frozen=True, slots=True)
class ActionAnswer:
    """The previous and the current state of one instance, as the response to an action reports or implies.

    `before` is None if `InstanceState` does not contain the reported state. Both are None for tags.
    """

    before: InstanceState | None
    now: InstanceState | None


TAGGED = ActionAnswer(before=None, now=None)
"""The response to a change of tags, which contains no states."""


class ServiceApi(Protocol):
    """The calls of one service. Each raises `CloudError`.

    The ids of instances are unique in a scope.

    Attributes:
        facts: the names and the size of the calls.
    """

    @property
    def facts(self) -> ServiceFacts: ...  # noqa: D102

    async def describe(self, scope: Scope) -> list[Record]:
        """Return all existing instances of `scope` that have the application tag and can be started alone.

        The operator starts only stopped instances, and stops only running ones. So a state is `PENDING` or
        `STOPPING` only if it ends without an action of the operator.
        """
        ...

    async def check(self, scope: Scope, ids: Collection[str]) -> Mapping[str, str]:
        """Return why running instances are not ready, by id, as the end of the sentence "it …".

        The text is empty for a ready instance.
        """
        ...

    async def ready(self, scope: Scope) -> None:
        """Prepare the client and the credentials, so that a call does not wait for them."""
        ...

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str], still_valid: Callable[[], bool] = always
    ) -> Mapping[str, ActionAnswer]:
        """Make one call. The result contains the instances for which the service accepted it.

        A start answers with `PENDING`, and a stop with `STOPPING`, unless the service is done already. An
        instance without an answer counts as refused.

        Args:
            scope: the account and the region.
            operation: what to do.
            ids: the instances.
            still_valid: whether an order for the operation is still valid. A service that reads before it
                writes checks this in between.

        Raises:
            OutdatedError: no order is valid any more, and the instances are as they were.
        """
        ...

    async def release(self, scope: Scope) -> None:
        """Release the resources of a scope. A later call may use the scope again."""
        ...


@dataclass(frozen=True, slots=True)
class Demand:
    """A future action on a group, as input of a forecast.

    Attributes:
        group: the group of the instances.
        action: the action.
        count: the number of instances.
        at: when the action is due (aware UTC).
        tenant: the namespace of the Resource.
    """

    group: Group
    action: Action
    count: int
    at: datetime
    tenant: str


class InventoryListener(Protocol):
    """Selects the scopes that an inventory polls, and receives the changes."""

    def groups(self) -> Collection[Group]:
        """The groups of the service to observe."""
        ...

    def polling_periods(self) -> Mapping[Scope, timedelta]:
        """The scopes to search for groups, each with its longest polling period."""
        ...

    def group_changed(self, group: Group) -> None:
        """Handle a group whose instances changed, or whose scope has failed or recovered."""
        ...

    def scope_changed(self, scope: Scope, /) -> None:
        """Handle a scope whose managed groups changed, or which has failed or recovered."""
        ...


@dataclass(frozen=True, slots=True)
class CheckedGroup:
    """A group that is ready when the status checks of its instances have passed.

    Attributes:
        group: the group.
        wanted_from: from when on its instances are wanted running (aware UTC); None if no booking is coming.
        was_ready: whether its status says that all its instances were ready for a booking.
    """

    group: Group
    wanted_from: datetime | None
    was_ready: bool = False


class CheckListener(Protocol):
    """Selects the groups whose status checks matter, and receives the changes."""

    def checked_groups(self) -> Collection[CheckedGroup]:
        """The groups that are ready when their status checks pass."""
        ...

    def group_changed(self, group: Group) -> None:
        """Handle a group whose status checks have changed."""
        ...


class ServiceListener(InventoryListener, CheckListener, Protocol):
    """Receives the changes of the instances and of their status checks."""
