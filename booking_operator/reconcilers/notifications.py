"""Reconciles notifications: notifies each recipient of what the spec of a Booking asks for.

Delivery is at least once for each recipient and each thing to report, such as an end time. The status of the
Booking lists the delivered messages, so that a later leader does not repeat them.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from booking_operator.api.booking import Booking, BookingSpec, BookingStatus, NotificationSpec
from booking_operator.api.kinds import BOOKING
from booking_operator.api.meta import find_condition
from booking_operator.domain.conditions import Failure
from booking_operator.domain.formatting import single_line
from booking_operator.domain.notification import (
    BookingFacts,
    BusyError,
    Channel,
    DeliveryError,
    Notification,
    NotificationTrigger,
    Window,
    due_within,
    notification_id,
)
from booking_operator.domain.parsing import parse_rfc3339
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Backoff, Result
from booking_operator.kube.status import StatusWriter, WriteResult
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.failure_tracker import FailureTracker

_MAX_WRITE_ATTEMPTS = 3
_MAX_EARLIER = 100
"""How many delivered messages the status lists that are no longer due, such as those about an earlier end."""
WRITE_TIMEOUT_SECONDS = 30.0
"""Timeout in seconds for storing the delivered messages. The status writer continues after it.

Together with a delivery, which takes up to a minute, the timeout stays below the timeout of a reconcile.
"""
_BACKOFF = Backoff()
_CONDITIONS = {NotificationTrigger.NOT_READY: "Ready", NotificationTrigger.CONFLICT: "Accepted"}


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
class _Item:
    """One message to one recipient.

    Attributes:
        spec: the recipient.
        trigger: what the message is about.
        window: the time in which it is due (aware UTC); None if there is nothing to report.
    """

    spec: NotificationSpec
    trigger: NotificationTrigger
    window: Window | None

    def is_due(self, now: datetime) -> bool:
        """Whether the message is due at `now` (aware UTC)."""
        return self.window is not None and self.window[0] <= now < self.window[1]


@dataclass(frozen=True, slots=True)
class _Due:
    """A Booking whose notifications are due.

    Attributes:
        booking: the Booking.
        spec: its valid spec.
        items: its messages, by id.
        messages: the delivery state of each message, by id.
        now: the instant for which it was computed (aware UTC).
    """

    booking: Booking
    spec: BookingSpec
    items: Mapping[str, _Item]
    messages: Mapping[str, _Message]
    now: datetime


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
        booking, now = self._informers.bookings.get(key), self._clock.now()
        facts = self._facts(booking) if booking else None
        if booking is None or facts is None or not isinstance(booking.spec, BookingSpec):
            return self._forget(key)
        items = {
            notification_id(booking.metadata.uid, facts, item.type, item.recipient, trigger): _Item(
                item, trigger, due_within(trigger, facts, self._before)
            )
            for item in booking.spec.notifications
            for trigger in map(NotificationTrigger, item.when)
        }
        ends = [facts.wanted.end_at, *(item.window[1] for item in items.values() if item.window)]
        if now >= max(ends):
            return self._forget(key)
        messages = self._known(key, booking, items)
        if any(item.is_due(now) for item in items.values()):
            # Store no state before notifications are due: there may be tens of thousands of Bookings.
            self._messages[key] = messages
            await self._deliver_all(_Due(booking, booking.spec, items, messages, now))
        await self._remember(key, booking, items, messages)
        if not items:
            return self._forget(key)
        return Result(self._next_at(items, messages))

    def _facts(self, booking: Booking) -> BookingFacts | None:
        """Return what the notifications depend on; None if the spec is invalid."""
        interval = booking.interval()
        if interval is None:
            return None
        status: BookingStatus = self._status.current(booking)
        # A status of an earlier spec says nothing about the present one.
        conditions = status.conditions if status.observed_generation == booking.metadata.generation else ()
        ready, accepted = (find_condition(conditions, type_) for type_ in ("Ready", "Accepted"))
        return BookingFacts(
            wanted=interval,
            counted=self._informers.counted(booking),
            ready=ready.status == "True" if ready else None,
            ready_since=parse_rfc3339(ready.last_transition_time) if ready else None,
            conflict=accepted is not None and accepted.reason == "Conflict",
        )

    def _forget(self, key: Key) -> Result:
        self.failures.set(key, None)
        self._messages.pop(key, None)
        return Result()

    def _known(self, key: Key, booking: Booking, items: Mapping[str, _Item]) -> dict[str, _Message]:
        """Return the delivery state of each message, from the status of the Booking and from this process."""
        before: BookingStatus = self._status.current(booking)
        # The Go operator stores only `notification_sent`: all recipients know that the booking ends.
        all_reported = before.notification_sent and not before.notified
        known = self._messages.pop(key, {})
        found = {id_: known.get(id_) or _Message() for id_ in items}
        for id_, message in found.items():
            reported = all_reported and items[id_].trigger is NotificationTrigger.ENDING
            message.delivered = message.delivered or reported or id_ in before.notified
        return found

    def _next_at(self, items: Mapping[str, _Item], messages: Mapping[str, _Message]) -> datetime | None:
        """Return when a message becomes due, is tried again or is too late (aware UTC); None for never."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        instants = []
        for id_, item in items.items():
            message = messages[id_]
            if item.window is None or now >= item.window[1]:
                continue
            instants.append(item.window[1])
            if now < item.window[0]:
                instants.append(item.window[0])
            elif not (message.delivered or message.given_up):
                instants.append(now + timedelta(seconds=max(0.0, message.wait_until - monotonic)))
        return min(instants, default=None)

    async def _deliver_all(self, due: _Due) -> None:
        """Deliver concurrently all messages that are not delivered and not in back-off."""
        monotonic = self._clock.monotonic()
        tried = {
            id_
            for id_, message in due.messages.items()
            if due.items[id_].is_due(due.now)
            and not (message.delivered or message.given_up)
            and message.wait_until <= monotonic
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
                        tasks.create_task(deliver(id_), name=f"notification: {due.items[id_].spec.type}")
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

    async def _remember(
        self, key: Key, booking: Booking, items: Mapping[str, _Item], messages: Mapping[str, _Message]
    ) -> None:
        """Write the delivered messages into the status, and wait until the status is stored.

        The status also keeps earlier messages: what a message is about may return, for example when the
        Resource is deleted and created again. A crash before this write repeats the messages.
        """
        done = [id_ for id_, message in messages.items() if message.delivered]
        ending = [id_ for id_, item in items.items() if item.trigger is NotificationTrigger.ENDING]
        sent = bool(ending) and set(ending) <= set(done)
        with suppress(TimeoutError):
            async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                for _ in range(
                    _MAX_WRITE_ATTEMPTS
                ):  # another client may change the status between read and write
                    found = self._informers.bookings.get(key) or booking
                    current: BookingStatus = self._status.current(found)
                    earlier = [id_ for id_ in current.notified if id_ not in items][-_MAX_EARLIER:]
                    wanted = replace(current, notified=(*earlier, *done), notification_sent=sent)
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
        self, booking: Booking, spec: BookingSpec, id_: str, about: _Item
    ) -> DeliveryError | None:
        """Deliver one message, and record the result as an Event, a log line and a metric.

        Returns:
            Why the message was not delivered; None when it was delivered.

        Raises:
            BusyError: the channel did not try to deliver the message.
        """
        meta, item, part = booking.metadata, about.spec, self._informers.counted(booking)
        end_at = datetime.fromisoformat(spec.end_at)
        if part is not None and part.end_at < end_at:  # a conflict keeps the end earlier than the spec
            end_at = part.end_at.astimezone(end_at.tzinfo)
        notification = Notification(
            id=id_,
            namespace=meta.namespace,
            booking=meta.name,
            resource=spec.resource_name,
            user=spec.user_id,
            end_at=end_at,
            trigger=about.trigger,
            reason=self._reason(booking, about.trigger),
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
        news = f"ends at {spec.end_at}" if about.trigger is NotificationTrigger.ENDING else notification.news
        note = f"Notified {item.recipient} by {item.type} that the booking {news}."
        self._events.normal(BOOKING, booking, "Notified", "Notify", note)
        return None

    def _reason(self, booking: Booking, trigger: NotificationTrigger) -> str:
        """Return the message of the condition that a message is about; empty if there is none."""
        condition = find_condition(self._status.current(booking).conditions, _CONDITIONS.get(trigger, ""))
        return condition.message if condition is not None else ""

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
