"""Notifications about a booking: when they are due, their texts, and their delivery errors."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.formatting import single_line

NOT_READY_AFTER = timedelta(minutes=5)
"""How long instances may take to run before the recipients of `NotReady` are notified."""
ENDED_FOR = timedelta(hours=1)
"""How long after the end of a booking the recipients of `Ended` are notified, at most."""
_EXTENSION = timedelta(hours=1)
_ALWAYS = datetime.min.replace(tzinfo=UTC)


class NotificationTrigger(StrEnum):
    """What recipients are notified of."""

    ENDING = "Ending"
    READY = "Ready"
    NOT_READY = "NotReady"
    ENDED = "Ended"
    CONFLICT = "Conflict"


@dataclass(frozen=True, slots=True)
class BookingFacts:
    """What the notifications about a booking depend on.

    Attributes:
        wanted: the booking, as its spec wants it.
        counted: the part of it for which instances run; None if they do not run for it.
        ready: whether its instances run; None if the booking is not active.
        ready_since: since when `ready` has its value (aware UTC).
        conflict: whether another booking has its time.
    """

    wanted: BookingInterval
    counted: BookingInterval | None
    ready: bool | None = None
    ready_since: datetime | None = None
    conflict: bool = False


Window = tuple[datetime, datetime]
"""A half-open time `[begin, end)` in aware UTC."""


def due_within(trigger: NotificationTrigger, facts: BookingFacts, before: timedelta) -> Window | None:
    """Return the time in which recipients are notified; None if there is nothing to notify them of.

    Args:
        trigger: what they are notified of.
        facts: the booking.
        before: how long before the end the recipients of `Ending` are notified.
    """
    if trigger is NotificationTrigger.CONFLICT:
        return (_ALWAYS, facts.wanted.end_at) if facts.conflict else None
    part = facts.counted
    if part is None:
        return None
    since = facts.ready_since or part.start_at
    match trigger:
        case NotificationTrigger.ENDING:
            return notify_at(part, before), part.end_at
        case NotificationTrigger.ENDED:
            return part.end_at, part.end_at + ENDED_FOR
        case NotificationTrigger.READY:
            return (_ALWAYS, part.end_at) if facts.ready else None
    not_ready_at = max(part.start_at, since) + NOT_READY_AFTER
    return (not_ready_at, part.end_at) if facts.ready is False else None


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
        trigger: what the message is about.
        reason: the message of the condition that has caused it; empty if there is none.
    """

    id: str
    namespace: str
    booking: str
    resource: str
    user: str
    end_at: datetime
    trigger: NotificationTrigger = NotificationTrigger.ENDING
    reason: str = ""

    @property
    def news(self) -> str:
        """What the message is about, as the rest of the sentence `the booking …`."""
        return _NEWS[self.trigger].format(end=self._end)

    @property
    def subject(self) -> str:
        """The subject, which is always one line."""
        return single_line(f"Booking {self.booking} of {self.resource} {self.news}")

    @property
    def text(self) -> str:
        """The message text, with the commands that the reader may need."""
        if self.trigger is NotificationTrigger.ENDING:
            return self._ending
        booking, resource = single_line(self.booking), single_line(self.resource)
        namespace, user = single_line(self.namespace), single_line(self.user)
        reason = f"{single_line(self.reason)}\n" if self.reason else ""
        intent, command = _COMMANDS[self.trigger]
        command = command.format(booking=booking, resource=resource)
        return (
            f"The booking {booking} of {resource} for {user}, in the namespace {namespace}, {self.news}.\n"
            f"{reason}\n{intent}, run:\n\nkubectl booking {command} --namespace {namespace}\n"
        )

    @property
    def _ending(self) -> str:
        """The text with the commands that extend the booking by an hour, by the plugin first.

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


_NEWS = {
    NotificationTrigger.ENDING: "ends at {end}",
    NotificationTrigger.READY: "is ready: all instances run, until {end}",
    NotificationTrigger.NOT_READY: "is not ready",
    NotificationTrigger.ENDED: "ended at {end}",
    NotificationTrigger.CONFLICT: "does not have all of its time, because another booking has it",
}
_COMMANDS = {
    NotificationTrigger.READY: ("To end it earlier", "release {booking}"),
    NotificationTrigger.NOT_READY: ("To see why", "why {booking}"),
    NotificationTrigger.ENDED: ("To book again", "book {resource} --duration 1h"),
    NotificationTrigger.CONFLICT: ("To see when it is free", "why {booking}"),
}


def notify_at(booking: BookingInterval, before: timedelta) -> datetime:
    """Return when the notification is due (aware UTC): `before` the end, but not before the start."""
    return max(booking.start_at, booking.end_at - before)


def notification_id(
    uid: str, facts: BookingFacts, channel: str, recipient: str, trigger: NotificationTrigger
) -> str:
    """Return the id of a message. Equal arguments give equal ids, also after a restart.

    After a change of what the message is about, such as the end for `Ending`, the id is another one.

    Args:
        uid: the uid of the Booking.
        facts: the booking.
        channel: the type of the channel.
        recipient: the recipient.
        trigger: what the message is about.
    """
    part = facts.counted or facts.wanted
    parts: list[object] = [uid, part.end_at.timestamp(), channel, recipient]
    match trigger:
        case NotificationTrigger.READY | NotificationTrigger.NOT_READY:
            parts[1] = part.start_at.timestamp()
        case NotificationTrigger.CONFLICT:
            parts[1] = facts.wanted.start_at.timestamp()
            parts.append(facts.wanted.end_at.timestamp())
    if trigger is not NotificationTrigger.ENDING:
        parts.append(trigger)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


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
