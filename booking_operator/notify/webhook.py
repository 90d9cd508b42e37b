"""The channels `webhook` and `slack`: post notifications to the targets in the configuration."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp

from booking_operator.config import Target
from booking_operator.domain.formatting import single_line
from booking_operator.domain.notification import BusyError, DeliveryError, Notification, NotificationTrigger
from booking_operator.engine.clock import Clock
from booking_operator.engine.fence import FencedBody, MayWrite
from booking_operator.engine.http_proxy import proxy_for
from booking_operator.notify.turns import turn

TIMEOUT = aiohttp.ClientTimeout(total=10)
"""Timeout of one request.

aiohttp includes the wait for a connection of the pool in it, so the pool must be unlimited.
"""
CONNECTIONS = 16
"""The maximum number of requests in flight to one target."""
MAX_RETRY_AFTER = timedelta(minutes=5)
"""The longest pause that a target can request. A message is useless after the end of its booking."""
_OK = range(200, 300)
_RETRY_AFTER_STATUSES = {429, 503}
_PERMANENT_FAILURES = {
    404: "its URL does not exist; correct the target in the operator's configuration",
    410: "its URL is permanently gone; remove or replace the target in the operator's configuration",
}


@dataclass(slots=True)
class _Place:
    """One target.

    Attributes:
        url: the URL, which is a secret.
        proxy: the URL of the HTTP proxy; None for no proxy.
        free: a semaphore with one permit for each request in flight.
        held_until: the end of the pause that the target has requested, in seconds on the monotonic clock.
    """

    url: str
    proxy: str | None
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))
    held_until: float = float("-inf")


class WebhookChannel:
    """The `domain.notification.Channel` for `type: webhook` or `type: slack`. The recipient names a target.

    Tenants write the recipient, so it is never a URL. Otherwise a tenant could make the operator send
    requests to every host in its network (server-side request forgery). For the same reason the channel does
    not follow redirects.
    """

    def __init__(
        self,
        kind: Literal["webhook", "slack"],
        targets: Mapping[str, Target],
        http: aiohttp.ClientSession,
        clock: Clock,
        may_write: MayWrite = lambda: True,
    ) -> None:
        self._kind = kind
        self._may_write = may_write
        self._clock = clock
        urls = {name: item.url.get_secret_value() for name, item in targets.items() if item.type == kind}
        self._places = {name: _Place(url, proxy_for(url)) for name, url in urls.items()}
        self._http = http

    async def deliver(self, notification: Notification, recipient: str) -> None:
        """Post one message.

        Raises:
            BusyError: the message was not sent, because too many messages wait or the target has requested a
                pause.
            DeliveryError: the target does not exist, cannot be reached, or did not answer with 2xx.
        """
        place = self._places.get(recipient)
        if place is None:
            text = f"{single_line(recipient)!r} is not a {self._kind} target in the operator's configuration"
            raise DeliveryError("UnknownTarget", text, retryable=False)
        self._require_no_pause(place)
        async with turn(place.free):
            self._require_no_pause(place)
            await self._post(place, notification, recipient)

    async def _post(self, place: _Place, notification: Notification, recipient: str) -> None:
        body = slack_body(notification) if self._kind == "slack" else webhook_body(notification)
        data = FencedBody(json.dumps(body).encode(), self._may_write)
        headers = {"Content-Type": "application/json", "Idempotency-Key": notification.id}
        send = self._http.post(
            place.url, data=data, headers=headers, timeout=TIMEOUT, allow_redirects=False, proxy=place.proxy
        )
        try:
            async with send as reply:
                status, pause = reply.status, reply.headers.get("Retry-After")
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            # A timeout is an OSError. An invalid host raises ValueError. The message of the error may contain
            # the URL, which is a secret.
            raise DeliveryError(
                "TargetUnreachable", f"{recipient}: the request failed: {type(error).__name__}"
            ) from error
        if status in _OK:
            return
        text = f"{recipient}: the target responded with HTTP {status}"
        if status in _PERMANENT_FAILURES:
            raise DeliveryError("TargetRefused", f"{text}: {_PERMANENT_FAILURES[status]}", retryable=False)
        retry_at = self._hold(place, pause) if status in _RETRY_AFTER_STATUSES else None
        raise DeliveryError("TargetRefused", text, retry_at=retry_at)

    def _hold(self, place: _Place, retry_after: str | None) -> datetime | None:
        """Start the pause that a target requests by Retry-After.

        Returns:
            The end of the pause (aware UTC); None if the header requests none.
        """
        now = self._clock.now()
        pause = _pause(retry_after or "", now)
        if pause <= timedelta(0):
            return None
        place.held_until = max(place.held_until, self._clock.monotonic() + pause.total_seconds())
        return now + pause

    def _require_no_pause(self, place: _Place) -> None:
        left = place.held_until - self._clock.monotonic()
        if left > 0:
            retry_at = self._clock.now() + timedelta(seconds=left)
            raise BusyError("the target requested a pause", retry_at=retry_at)


def _pause(retry_after: str, now: datetime) -> timedelta:
    """Return the pause that a Retry-After header requests, at most `MAX_RETRY_AFTER`.

    The header has a number of seconds or a date (RFC 9110, section 10.2.3). The result is zero or negative if
    the header is invalid or its date has passed.
    """
    if retry_after.isascii() and retry_after.isdigit():
        return timedelta(seconds=min(float(retry_after), MAX_RETRY_AFTER.total_seconds()))
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return timedelta(0)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(at - now, MAX_RETRY_AFTER)


EVENTS = {
    NotificationTrigger.ENDING: "booking_ending",
    NotificationTrigger.READY: "booking_ready",
    NotificationTrigger.NOT_READY: "booking_not_ready",
    NotificationTrigger.ENDED: "booking_ended",
    NotificationTrigger.CONFLICT: "booking_conflict",
}
"""The field `event` of a webhook, by what the message is about."""


def webhook_body(notification: Notification) -> dict[str, Any]:
    """Return the JSON body for a webhook."""
    return {
        "event": EVENTS[notification.trigger],
        "id": notification.id,
        "namespace": notification.namespace,
        "booking": notification.booking,
        "resource": notification.resource,
        "user": notification.user,
        "end_at": notification.end_at.isoformat(),
        "text": notification.text,
    }


def slack_body(notification: Notification) -> dict[str, Any]:
    """Return the JSON body for Slack, with the three special characters of Slack escaped.

    See https://docs.slack.dev/messaging/formatting-message-text#escaping.
    """
    text = f"{notification.subject}\n{notification.text}"
    for char, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, escaped)
    return {"text": text}
