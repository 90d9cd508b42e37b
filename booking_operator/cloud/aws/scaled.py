"""What the services have in common that are switched off by size 0, and on by the size in a tag.

`domain.capacity` describes the tag.
"""

from abc import abstractmethod
from asyncio import Lock as Mutex
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from booking_operator.cloud.aws.base import BaseApi
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.tags import APPLICATION_TAG
from booking_operator.cloud.driver import (
    TAGGED,
    Action,
    ActionAnswer,
    CloudError,
    FailureKind,
    Operation,
    OutdatedError,
    always,
)
from booking_operator.domain.capacity import off_reason
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import InstanceState, Lock
from booking_operator.metrics import NO_METRICS, CloudMetrics

T = TypeVar("T")


class ScaledApi(BaseApi, Generic[T]):
    """The part of `ServiceApi` that is the same for services with a size.

    A start or a stop takes several calls. It reads the instance first, because the last view may be a minute
    old, and no change must be lost. A cancelled start may still be in flight when a stop begins, so the
    starts and stops of one instance wait for each other.

    `T` is an instance as the service describes it.
    """

    def __init__(
        self, clients: AwsClients, describes: DescribeLimiter, *, metrics: CloudMetrics = NO_METRICS
    ) -> None:
        super().__init__(clients, describes, metrics=metrics)
        self._changing: WeakValueDictionary[tuple[Scope, str], Mutex] = WeakValueDictionary()

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str], still_valid: Callable[[], bool] = always
    ) -> Mapping[str, ActionAnswer]:
        """Start, stop or tag the single instance in `ids`. Hibernation is a stop.

        Raises:
            CloudError: AWS refused a call, or a response was lost.
            OutdatedError: the orders are not valid any more, and the instance is as it was.
        """
        (id_,) = ids
        match operation.action:
            case Action.TAG if operation.lock:
                await self._lock(scope, id_, operation.lock)
                return {id_: TAGGED}
            case Action.TAG | Action.UNTAG:
                await self._unlock(scope, id_)
                return {id_: TAGGED}
        starts = operation.action is Action.START
        async with self._changing.setdefault((scope, id_), Mutex()):
            present = await self._present(scope, id_, operation.action)
            if not still_valid():
                raise OutdatedError
            if starts:
                await self._start(scope, id_, present)
            else:
                is_on = await self._prepare_stop(scope, id_, present)
                if not still_valid():
                    await self._start(scope, id_, await self._present(scope, id_, Action.START))
                    raise OutdatedError
                if is_on:
                    await self._scale_down(scope, id_)
        if starts:
            return {id_: ActionAnswer(before=InstanceState.STOPPED, now=InstanceState.RUNNING)}
        return {id_: ActionAnswer(before=InstanceState.RUNNING, now=InstanceState.STOPPING)}

    @abstractmethod
    async def _present(self, scope: Scope, id_: str, action: Action) -> T:
        """Read an instance as it is now, with what the action needs.

        Raises:
            CloudError: a call failed, or the instance does not exist.
        """

    @abstractmethod
    async def _start(self, scope: Scope, id_: str, present: T) -> None:
        """Restore the size in the tag, unless the instance is on already. Undo what `_prepare_stop` did."""

    @abstractmethod
    async def _prepare_stop(self, scope: Scope, id_: str, present: T) -> bool:
        """Write the present size into the tag, and return whether there is a size to set to 0."""

    @abstractmethod
    async def _scale_down(self, scope: Scope, id_: str) -> None:
        """Set the size to 0."""

    @abstractmethod
    async def _lock(self, scope: Scope, id_: str, lock: Lock) -> None:
        """Write the lock tags."""

    @abstractmethod
    async def _unlock(self, scope: Scope, id_: str) -> None:
        """Remove the lock tags."""


def size_unknown(id_: str) -> CloudError:
    """Return the failure of a start without a valid tag."""
    return CloudError("SizeUnknown", f"{id_} {off_reason(None)}.", kind=FailureKind.REFUSED, ids=[id_])


def not_found(id_: str) -> str:
    """Return why a start or stop fails after the instance was deleted, or its tag was removed."""
    return f"{id_} does not exist any more, or has no tag {APPLICATION_TAG}."
