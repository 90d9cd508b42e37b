"""The notification before the end of a booking: its text, its time and its delivery errors."""

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
        id: the message id. It is the same for each attempt to deliver the message, and different for another
            end, recipient, channel or Booking.
        namespace: the namespace of the Booking.
        booking: the name of the Booking.
        resource: the name of the Resource.
        user: the user of the Booking.
        end_at: when the Booking ends, aware, with the UTC offset that the user wrote.
    """

    id: str
    namespace: str
    booking: str
    resource: str
    user: str
    end_at: datetime

    @property
    def subject(self) -> str:
        """The subject, which is always one line."""
        return single_line(f"Booking {self.booking} of {self.resource} ends at {self._end}")

    @property
    def text(self) -> str:
        """The message text, with the commands that extend the booking by an hour, by the plugin first.

        A GitOps tool reverts a changed Booking, so the text also has a command that creates a second one.
        """
        patch = json.dumps({"spec": {"end_at": (self.end_at + _EXTENSION).isoformat()}})
        booking, namespace = single_line(self.booking), single_line(self.namespace)
        resource, user = single_line(self.resource), single_line(self.user)
        return (
            f"The booking {booking} of {resource} for {user}, in the namespace "
            f"{namespace}, ends at {self._end}.\n"
            "The operator then stops the instances, unless another booking needs them.\n\n"
            "To extend the booking by an hour, run:\n\n"
            f"kubectl booking extend {booking} 1h --namespace {namespace}\n\n"
            "Without the plugin, run:\n\n"
            f"kubectl patch booking {booking} --namespace {namespace} --type merge --patch '{patch}'\n\n"
            "If the booking is in Git, a GitOps tool reverts this. Create a second booking instead, without "
            "notifications:\n\n"
            f"kubectl create --namespace {namespace} --filename - <<'EOF'\n{self._second_booking}\nEOF\n"
        )

    @property
    def _second_booking(self) -> str:
        """A Booking for the hour after the end, as JSON in one line."""
        times = {"start_at": self.end_at.isoformat(), "end_at": (self.end_at + _EXTENSION).isoformat()}
        return json.dumps(
            {
                "apiVersion": "manager.kotaico.de/v1",
                "kind": "Booking",
                "metadata": {"generateName": f"{self.booking}-"},
                "spec": {"resource_name": self.resource, "user_id": self.user, **times},
            }
        )

    @property
    def _end(self) -> str:
        offset = self.end_at.strftime("%z")
        return f"{self.end_at:%Y-%m-%d %H:%M:%S} {offset[:3]}:{offset[3:5]}"


def notify_at(booking: BookingInterval, before: timedelta) -> datetime:
    """Return when the notification is due (aware UTC): `before` the end, but not before the start."""
    return max(booking.start_at, booking.end_at - before)


def notification_id(uid: str, end_at: datetime, channel: str, recipient: str) -> str:
    """Return the id of a message. Equal arguments give equal ids, also after a restart.

    Args:
        uid: the uid of the Booking.
        end_at: when the Booking ends (aware).
        channel: the type of the channel.
        recipient: the recipient.
    """
    parts = json.dumps([uid, end_at.timestamp(), channel, recipient])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


class DeliveryError(Exception):
    """A message was not delivered.

    Attributes:
        reason: a CamelCase word for a condition.
        retryable: whether a retry can succeed without a change by a user.
        retry_at: the earliest time of the next attempt (aware UTC); None when only the back-off applies.
    """

    def __init__(
        self, reason: str, message: str, *, retryable: bool = True, retry_at: datetime | None = None
    ) -> None:
        """Initialize the error with a message for users."""
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.retry_at = retry_at


class BusyError(DeliveryError):
    """The channel is busy and has not sent the message. This does not count as a failed attempt.

    The caller retries at once, or at `retry_at` if it is set.
    """

    def __init__(self, message: str, *, retry_at: datetime | None = None) -> None:
        """Initialize the error with what the message waits for."""
        super().__init__("Busy", message, retry_at=retry_at)


class Channel(Protocol):
    """One way to notify users."""

    async def deliver(self, notification: Notification, recipient: str) -> None:
        """Deliver one message within a minute.

        Raises:
            BusyError: the message was not sent, because too many messages wait.
            DeliveryError: the delivery failed.
        """
        ...
