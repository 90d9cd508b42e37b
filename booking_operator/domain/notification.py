"""The notification that a booking ends: its text and its time."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.formatting import single_line

_EXTENSION = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one recipient.

    Attributes:
        id: the same for each try to deliver it; another one for another end, recipient or booking.
        namespace: of the booking.
        booking: its name.
        resource: what it is for.
        user: who made it.
        end_at: when it ends, aware, in the offset that the user wrote.
    """

    id: str
    namespace: str
    booking: str
    resource: str
    user: str
    end_at: datetime

    @property
    def subject(self) -> str:
        """One line, whatever is in the fields."""
        return single_line(f"Booking {self.booking} of {self.resource} ends at {self._end}")

    @property
    def text(self) -> str:
        """The whole message, with the line that extends the booking."""
        patch = json.dumps({"spec": {"end_at": (self.end_at + _EXTENSION).isoformat()}})
        booking, namespace = single_line(self.booking), single_line(self.namespace)
        resource, user = single_line(self.resource), single_line(self.user)
        return (
            f"The booking {booking} of {resource} for {user}, in the namespace "
            f"{namespace}, ends at {self._end}.\n"
            "Then the instances are stopped, unless somebody else has booked them too.\n\n"
            "To keep them an hour longer:\n\n"
            f"kubectl patch booking {booking} --namespace {namespace} --type merge --patch '{patch}'\n"
        )

    @property
    def _end(self) -> str:
        offset = self.end_at.strftime("%z")
        return f"{self.end_at:%Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:5]}"


def notify_at(booking: BookingInterval, before: timedelta) -> datetime:
    """When the notification of the end of a booking is due: `before` it, or when a shorter one begins."""
    return max(booking.start_at, booking.end_at - before)


def notification_id(uid: str, end_at: datetime, channel: str, recipient: str) -> str:
    """Identifies one message for ever; see `Notification.id`."""
    parts = json.dumps([uid, end_at.timestamp(), channel, recipient])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


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
