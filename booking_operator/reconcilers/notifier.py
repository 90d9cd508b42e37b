"""Tells of the coming end of bookings: at least once each recipient, for each end."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from booking_operator.api.booking import Booking, BookingSpec, BookingStatus, Notification
from booking_operator.api.kinds import BOOKING
from booking_operator.domain.booking import Booking as Claim
from booking_operator.domain.notice import Notice, notice_id, notify_at, one_line
from booking_operator.domain.report import Failure
from booking_operator.engine.clock import Clock
from booking_operator.engine.queue import Result
from booking_operator.engine.store import Key, key_of
from booking_operator.kube.status import WriteResult
from booking_operator.reconcilers.caches import Caches
from booking_operator.reconcilers.failures import Failures
from booking_operator.reconcilers.ports import Channel, DeliveryError, Events, Status

_TRIES = 3


class Notifier:
    """Delivers what is due, remembers it in the booking's status, and tries on what failed."""

    def __init__(
        self,
        caches: Caches,
        channels: Mapping[str, Channel],
        status: Status[Booking],
        events: Events,
        clock: Clock,
        *,
        before: timedelta,
        changed: Callable[[Key], None],
        delivered: Callable[[str, bool], None] = lambda _, __: None,
    ) -> None:
        self._caches = caches
        self._channels = channels
        self._status = status
        self._events = events
        self._clock = clock
        self._before = before
        self.failures = Failures(changed)
        self._delivered = delivered
        self._log = structlog.get_logger()

    async def reconcile(self, key: Key) -> Result:
        """Tell the recipients of one booking who are to be told now, or wake when they are."""
        booking = self._caches.bookings.get(key)
        claim = booking.claim() if booking else None
        if booking is None or claim is None or not isinstance(booking.spec, BookingSpec):
            self.failures.set(key, None)
            return Result()
        now, due_at = self._clock.now(), notify_at(claim, self._before)
        if now >= claim.end_at:
            self.failures.set(key, None)
            return Result()
        due = due_at <= now
        told, errors = await self._deliver_all(booking, booking.spec, claim, due=due)
        await self._remember(key, booking, told, errors)
        if not booking.spec.notifications:
            return Result()
        return Result(claim.end_at if due else due_at, failed=any(error.retryable for error in errors))

    async def _deliver_all(
        self, booking: Booking, spec: BookingSpec, claim: Claim, *, due: bool
    ) -> tuple[Mapping[str, bool], Sequence[DeliveryError]]:
        """Whether each message of this end has been delivered, by its id; where `due`, after a try.

        Nobody is told twice because somebody else could not be: each is remembered by himself.
        """
        items = {
            notice_id(booking.metadata.uid, claim.end_at, item.type, item.recipient): item
            for item in spec.notifications
        }
        before: BookingStatus = self._status.current(booking)
        # The Go operator remembers no more than that all were told.
        all_told = before.notification_sent and not before.notified
        told = {id_: all_told or id_ in before.notified for id_ in items}
        if not due:
            return told, ()
        tries: dict[str, asyncio.Task[DeliveryError | None]] = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                for id_ in (id_ for id_, done in told.items() if not done):
                    delivery = self._deliver(booking, spec, id_, items[id_])
                    tries[id_] = tasks.create_task(delivery, name=f"notification: {items[id_].type}")
        except asyncio.CancelledError:
            self._cut_short(booking, tries)
            raise
        outcomes = {id_: task.result() for id_, task in tries.items()}
        told |= {id_: error is None for id_, error in outcomes.items()}
        return told, [error for error in outcomes.values() if error is not None]

    def _cut_short(self, booking: Booking, tries: Mapping[str, asyncio.Task[DeliveryError | None]]) -> None:
        """Remember who was told by then: whoever leads next must not tell them again."""
        done = [id_ for id_, task in tries.items() if not task.cancelled() and task.result() is None]
        found = self._caches.bookings.get(key_of(booking))
        if done and found is not None:
            current: BookingStatus = self._status.current(found)
            self._status.set(found, replace(current, notified=(*current.notified, *done)))

    async def _remember(
        self, key: Key, booking: Booking, told: Mapping[str, bool], errors: Sequence[DeliveryError]
    ) -> None:
        """Write who was told, at once: a crash before would tell them again."""
        done = tuple(id_ for id_, was_told in told.items() if was_told)
        sent = bool(told) and all(told.values())
        for _ in range(_TRIES):  # others write the same status, and may be faster
            found = self._caches.bookings.get(key) or booking
            current: BookingStatus = self._status.current(found)
            wanted = replace(current, notified=done, notification_sent=sent)
            if wanted == current:
                break  # it is there, or on its way, whatever the API server says
            self.failures.changed(key)
            if await self._status.write(found, wanted) is not WriteResult.OVERTAKEN:
                break  # it is stored, or the writer retries it, or it never can be
        self.failures.set(key, Failure(errors[0].reason, str(errors[0])) if errors else None)

    async def _deliver(
        self, booking: Booking, spec: BookingSpec, id_: str, item: Notification
    ) -> DeliveryError | None:
        meta = booking.metadata
        notice = Notice(
            id=id_,
            namespace=meta.namespace,
            booking=meta.name,
            resource=spec.resource_name,
            user=spec.user_id,
            end_at=datetime.fromisoformat(spec.end_at),
        )
        facts = {"booking": str(key_of(booking)), "type": item.type, "recipient": item.recipient}
        try:
            await self._channel(item.type).deliver(notice, item.recipient)
        except DeliveryError as error:
            self._delivered(self._known(item.type), False)
            self._log.warning("notification_failed", **facts, reason=error.reason, message=str(error))
            return error
        except Exception as error:  # noqa: BLE001
            # A bug that one recipient triggers must not keep the others from being told.
            self._delivered(self._known(item.type), False)
            failure = _unexpected(error, item.recipient)
            self._log.exception("notification_crashed", **facts, exc_info=failure)
            return failure
        self._delivered(self._known(item.type), True)
        self._log.info("notification_sent", **facts, id=id_)
        note = f"Told {item.recipient} by {item.type} that it ends at {spec.end_at}."
        self._events.normal(BOOKING, booking, "Notified", "Notify", note)
        return None

    def _known(self, type_: str) -> str:
        """A type that users made up must not become the name of anything."""
        return type_ if type_ in self._channels else "unknown"

    def _channel(self, type_: str) -> Channel:
        channel = self._channels.get(type_)
        if channel is None:
            text = f"this operator cannot notify by {type_!r}; it can by {', '.join(sorted(self._channels))}"
            raise DeliveryError("ChannelNotConfigured", text, retryable=False)
        return channel


def _unexpected(error: Exception, recipient: str) -> DeliveryError:
    """What an error that no channel promised is told as, with its traceback.

    Its own text, and those of its causes, may hold the URL of a target or a password, which are secrets.
    """
    text = f"{one_line(recipient)}: {type(error).__name__}; it is a bug, and the operator's log says where"
    return DeliveryError("DeliveryFailed", text).with_traceback(error.__traceback__)
