"""What the reconcilers need of the world; the composition root provides it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from booking_operator.api.kinds import Kind
from booking_operator.cloud.service import Driver
from booking_operator.domain.notification import Notification
from booking_operator.engine.store import Object
from booking_operator.kube.status import WriteResult

T_contra = TypeVar("T_contra", bound=Object, contravariant=True)


class Status(Protocol[T_contra]):
    """Writes the status of one kind's objects."""

    def current(self, object_: T_contra) -> Any:
        """The newest status, written or about to be."""
        ...

    def set(self, object_: T_contra, status: Any) -> None:
        """Have `status` written soon, where it is news."""
        ...

    async def write(self, object_: T_contra, status: Any) -> WriteResult:
        """Write `status` and wait for the end of the first attempt that includes it."""
        ...


Drivers = Mapping[str, Driver]
"""The driver of each cloud service, by `spec.type`."""


class Objects(Protocol):
    """Writes objects; each method raises `kube.errors.ApiError` where the API server refuses."""

    async def create(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        spec: Mapping[str, Any],
        *,
        annotations: Mapping[str, str],
        owner: tuple[Kind[Any], Object] | None = None,
    ) -> None:
        """Create an object; with `owner` it is deleted together with that."""
        ...

    async def update(
        self, kind: Kind[Any], object_: Object, spec: Mapping[str, Any], annotations: Mapping[str, str]
    ) -> None:
        """Set fields of the spec and annotations of an object that is still as it was seen."""
        ...

    async def set_finalizers(self, kind: Kind[Any], object_: Object, finalizers: Sequence[str]) -> None:
        """Set what must be done before the object may go."""
        ...

    async def delete(self, kind: Kind[Any], object_: Object) -> None:
        """Delete an object that is still as it was seen."""
        ...


class DeliveryError(Exception):
    """A message was not delivered.

    Attributes:
        reason: CamelCase, for a condition.
        retryable: whether another try can help although nobody changes anything.
        retry_at: not to be tried before (aware UTC); None where a back-off decides.
    """

    def __init__(
        self, reason: str, message: str, *, retryable: bool = True, retry_at: datetime | None = None
    ) -> None:
        """Build it from what went wrong."""
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.retry_at = retry_at


class BusyError(DeliveryError):
    """Nothing was sent, because the channel has too much to do. This is no failure.

    The message is to be tried again at once, or at `retry_at` where that is given.
    """

    def __init__(self, message: str, *, retry_at: datetime | None = None) -> None:
        """Build it from what the message waits for."""
        super().__init__("Busy", message, retry_at=retry_at)


class Channel(Protocol):
    """One way to notify users."""

    async def deliver(self, notification: Notification, recipient: str) -> None:
        """Deliver one message, within a minute.

        Raises:
            BusyError: nothing was sent, because too many messages wait.
            DeliveryError: it failed.
        """
        ...


Channels = Mapping[str, Channel]
"""How users can be told, by the `type` of a notification."""

Tell = Callable[[Kind[Any], Object, str, str, str], None]
"""Records one Event: of which kind, on which object, reason, action and note."""


class Events(Protocol):
    """Records Events for users."""

    def normal(self, kind: Kind[Any], object_: Object, reason: str, action: str, note: str) -> None:
        """Tell of something that went as it should."""
        ...

    def warning(self, kind: Kind[Any], object_: Object, reason: str, action: str, note: str) -> None:
        """Tell of something that somebody should look at."""
        ...


class CacheConsistency(Protocol):
    """Whether the caches may be believed when they say that nobody has a resource booked."""

    def stale_reason(self) -> str:
        """Why they may miss bookings; empty when they are trusted."""
        ...

    async def confirm(self) -> str:
        """The same, asked of the API server; for what nobody could foresee."""
        ...
