"""Reconciles notifications: notifies each recipient before a booking ends.

Delivery is at least once for each recipient and each end time. The status of the Booking lists the delivered
messages, so that a later leader does not repeat them.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from booking_operator.api.booking import Booking, BookingSpec, BookingStatus, NotificationSpec
from booking_operator.api.kinds import BOOKING
from booking_operator.domain.conditions import Failure
from booking_operator.domain.formatting import single_line
from booking_operator.domain.notification import (
    BusyError,
    Channel,
    DeliveryError,
    Notification,
    notification_id,
    notify_at,
)
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Backoff, Result
from booking_operator.kube.status import StatusWriter, WriteResult
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.failure_tracker import FailureTracker

_MAX_WRITE_ATTEMPTS = 3
WRITE_TIMEOUT_SECONDS = 30.0
"""Timeout in seconds for storing the delivered messages. The status writer continues after it.

Together with a delivery, which takes up to a minute, the timeout stays below the timeout of a reconcile.
"""
_BACKOFF = Backoff()


@dataclass(slots=True)
class _Message:
    """The delivery state of one message, as this process knows it.

    Attributes:
        delivered: whether the message was delivered.
        error: why the last attempt failed; None when it did not fail.
        failures: the number of failed attempts in a row.
        wait_until: the earliest time of the next attempt, in seconds on the monotonic clock.
    """

    delivered: bool = False
    error: DeliveryError | None = None
    failures: int = 0
    wait_until: float = float("-inf")

    @property
    def given_up(self) -> bool:
        """Whether the last error is permanent."""
        return self.error is not None and not self.error.retryable


@dataclass(frozen=True, slots=True)
class _Due:
    """A Booking whose notifications are due.

    Attributes:
        booking: the Booking.
        spec: its valid spec.
        items: its notifications, by message id.
        messages: the delivery state of each notification, by message id.
    """

    booking: Booking
    spec: BookingSpec
    items: Mapping[str, NotificationSpec]
    messages: Mapping[str, _Message]


class NotificationReconciler:
    """Delivers due notifications, stores the result in the status of the Booking, and retries failures.

    A channel limits how many messages are in flight. A message that waits too long for its turn ends with
    `BusyError`, and the next reconcile, which follows at once, tries it again. Each message has its own
    back-off, so that one failing recipient does not delay others.

    Args:
        environment: what all reconcilers share.
        channels: the notification channels, by type.
        before: how long before the end of a booking its notifications are due.
        changed: called with the key of a Booking when its status must be reconciled again.
        delivered: called after each attempt with the type, and with whether it succeeded.

    Attributes:
        failures: why the notifications of a Booking are not delivered.
    """

    def __init__(
        self,
        environment: Environment,
        channels: Mapping[str, Channel],
        *,
        before: timedelta,
        changed: Callable[[Key], None],
        delivered: Callable[[str, bool], None] = lambda _, __: None,
    ) -> None:
        self._informers = environment.informers
        self._channels = channels
        self._status: StatusWriter[Booking] = environment.statuses[BOOKING]
        self._events = environment.events
        self._clock = environment.clock
        self._before = before
        self.failures = FailureTracker(changed)
        self._messages: dict[Key, dict[str, _Message]] = {}
        self._delivered = delivered
        self._log = structlog.get_logger()

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"messages": self._messages.keys()}

    async def reconcile(self, key: Key) -> Result:
        """Deliver the due notifications of one Booking, and requeue it for the next attempt."""
        booking = self._informers.bookings.get(key)
        interval = self._informers.counted(booking) if booking else None
        if booking is None or interval is None or not isinstance(booking.spec, BookingSpec):
            return self._forget(key)
        now, due_at = self._clock.now(), notify_at(interval, self._before)
        if now >= interval.end_at:
            return self._forget(key)
        items = {
            notification_id(booking.metadata.uid, interval.end_at, item.type, item.recipient): item
            for item in booking.spec.notifications
        }
        messages = self._known(key, booking, items)
        if due_at <= now:
            # Store no state before notifications are due: there may be tens of thousands of Bookings.
            self._messages[key] = messages
            await self._deliver_all(_Due(booking, booking.spec, items, messages))
        await self._remember(key, booking, messages)
        if not items:
            return self._forget(key)
        return Result(due_at if now < due_at else self._next_at(interval.end_at, messages))

    def _forget(self, key: Key) -> Result:
        self.failures.set(key, None)
        self._messages.pop(key, None)
        return Result()

    def _known(
        self, key: Key, booking: Booking, items: Mapping[str, NotificationSpec]
    ) -> dict[str, _Message]:
        """Return the delivery state of each message, from the status of the Booking and from this process."""
        before: BookingStatus = self._status.current(booking)
        # The Go operator stores only `notification_sent`, which means that all recipients were notified.
        all_told = before.notification_sent and not before.notified
        known = self._messages.pop(key, {})
        found = {id_: known.get(id_) or _Message() for id_ in items}
        for id_, message in found.items():
            message.delivered = message.delivered or all_told or id_ in before.notified
        return found

    def _next_at(self, end_at: datetime, messages: Mapping[str, _Message]) -> datetime:
        """Return the time of the next attempt, or of the end of the booking if that is earlier (UTC)."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        waits = [
            message.wait_until - monotonic
            for message in messages.values()
            if not (message.delivered or message.given_up)
        ]
        soonest = max(0.0, min(waits, default=float("inf")))
        left = (end_at - now).total_seconds()
        return end_at if left <= soonest else now + timedelta(seconds=soonest)

    async def _deliver_all(self, due: _Due) -> None:
        """Deliver concurrently all messages that are not delivered and not in back-off."""
        monotonic = self._clock.monotonic()
        tried = {
            id_
            for id_, message in due.messages.items()
            if not (message.delivered or message.given_up) and message.wait_until <= monotonic
        }
        under_way = len(tried)

        async def deliver(id_: str) -> None:
            nonlocal under_way
            message = due.messages[id_]
            await self._try(due, id_, message)
            under_way -= 1
            if message.delivered and under_way:
                # The other messages may take long, and a crash before the end would repeat this one.
                self._note(due)

        try:
            async with asyncio.TaskGroup() as tasks:
                for id_ in due.items:
                    if id_ in tried:
                        tasks.create_task(deliver(id_), name=f"notification: {due.items[id_].type}")
        except asyncio.CancelledError:
            self._note(due)
            raise

    def _note(self, due: _Due) -> None:
        """Queue a status write with the delivered messages, so that a later leader does not repeat them."""
        found = self._informers.bookings.get(key_of(due.booking))
        if found is None:
            return
        current: BookingStatus = self._status.current(found)
        done = (id_ for id_, message in due.messages.items() if message.delivered)
        self._status.set(found, replace(current, notified=tuple(dict.fromkeys((*current.notified, *done)))))

    async def _remember(self, key: Key, booking: Booking, messages: Mapping[str, _Message]) -> None:
        """Write the delivered messages into the status, and wait until the status is stored.

        A crash before this write repeats the messages.
        """
        done = tuple(id_ for id_, message in messages.items() if message.delivered)
        sent = bool(messages) and len(done) == len(messages)
        with suppress(TimeoutError):
            async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                for _ in range(
                    _MAX_WRITE_ATTEMPTS
                ):  # another client may change the status between read and write
                    found = self._informers.bookings.get(key) or booking
                    current: BookingStatus = self._status.current(found)
                    wanted = replace(current, notified=done, notification_sent=sent)
                    if wanted == current:
                        break  # the status is stored, or the status writer already has it
                    self.failures.changed(key)
                    if await self._status.write(found, wanted) is not WriteResult.OVERTAKEN:
                        break  # the status is stored, the writer retries it, or the write can never succeed
        errors = [message.error for message in messages.values() if not message.delivered and message.error]
        self.failures.set(key, Failure(errors[0].reason, str(errors[0])) if errors else None)

    async def _try(self, due: _Due, id_: str, message: _Message) -> None:
        """Try to deliver one message, and record the result in `message`."""
        try:
            error = await self._deliver(due.booking, due.spec, id_, due.items[id_])
        except BusyError as busy:
            message.wait_until = self._monotonic(busy.retry_at)
            return
        message.error, message.delivered = error, error is None
        if error is None:
            return
        message.failures += 1
        pause = self._clock.monotonic() + _BACKOFF.after(message.failures).total_seconds()
        message.wait_until = max(pause, self._monotonic(error.retry_at))

    def _monotonic(self, instant: datetime | None) -> float:
        """Convert an instant to the monotonic clock; None becomes minus infinity."""
        if instant is None:
            return float("-inf")
        return self._clock.monotonic() + (instant - self._clock.now()).total_seconds()

    async def _deliver(
        self, booking: Booking, spec: BookingSpec, id_: str, item: NotificationSpec
    ) -> DeliveryError | None:
        """Deliver one message, and record the result as an Event, a log line and a metric.

        Returns:
            Why the message was not delivered; None when it was delivered.

        Raises:
            BusyError: the channel did not try to deliver the message.
        """
        meta = booking.metadata
        notification = Notification(
            id=id_,
            namespace=meta.namespace,
            booking=meta.name,
            resource=spec.resource_name,
            user=spec.user_id,
            end_at=datetime.fromisoformat(spec.end_at),
        )
        facts = {"booking": str(key_of(booking)), "type": item.type, "recipient": item.recipient}
        try:
            await self._channel(item.type).deliver(notification, item.recipient)
        except BusyError:
            raise
        except DeliveryError as error:
            self._delivered(self._type(item.type), False)
            self._log.warning("notification_failed", **facts, reason=error.reason, message=str(error))
            return error
        except Exception as error:  # noqa: BLE001
            # A bug that one recipient triggers must not affect other notifications.
            self._delivered(self._type(item.type), False)
            failure = _unexpected(error, item.recipient)
            self._log.exception("notification_failed_unexpectedly", **facts, exc_info=failure)
            return failure
        self._delivered(self._type(item.type), True)
        self._log.info("notification_sent", **facts, id=id_)
        note = f"Notified {item.recipient} by {item.type} that the booking ends at {spec.end_at}."
        self._events.normal(BOOKING, booking, "Notified", "Notify", note)
        return None

    def _type(self, type_: str) -> str:
        """Return the label of a channel type: a type from a spec must not become a metric label unchecked."""
        return type_ if type_ in self._channels else "unknown"

    def _channel(self, type_: str) -> Channel:
        channel = self._channels.get(type_)
        if channel is None:
            text = f"type {type_!r} is not configured; use one of {', '.join(sorted(self._channels))}"
            raise DeliveryError("ChannelNotConfigured", text, retryable=False)
        return channel


def _unexpected(error: Exception, recipient: str) -> DeliveryError:
    """Return the error that users see instead of an unexpected error of a channel.

    It has the traceback of `error` for the log. It leaves out the message of `error` and its causes, because
    they may contain secrets such as the URL of a target or a password.
    """
    log = "see the operator's log for the traceback"
    text = f"{single_line(recipient)}: unexpected {type(error).__name__}; {log}"
    return DeliveryError("DeliveryFailed", text).with_traceback(error.__traceback__)
