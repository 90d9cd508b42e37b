"""Tells by HTTP: a webhook of one's own, or Slack's. Where to, the operator's configuration says."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Literal

import aiohttp

from booking_operator.config import Target
from booking_operator.domain.notice import Notice, one_line
from booking_operator.engine.fence import FencedBody, Live
from booking_operator.engine.proxies import proxy_of
from booking_operator.reconcilers.ports import DeliveryError

TIMEOUT = aiohttp.ClientTimeout(total=10)
_OK = range(200, 300)


class HttpChannel:
    """`reconcilers.ports.Channel` for `type: webhook` and `type: slack`; the recipient names a target.

    A tenant writes the recipient, so it is never an address: else anybody could make the operator call
    whatever can be reached from where it runs. For the same reason redirects are not followed.
    """

    def __init__(
        self,
        kind: Literal["webhook", "slack"],
        targets: Mapping[str, Target],
        http: aiohttp.ClientSession,
        live: Live = lambda: True,
    ) -> None:
        self._kind = kind
        self._live = live
        self._targets = {
            name: (target, proxy_of(target.url.get_secret_value()))
            for name, target in targets.items()
            if target.type == kind
        }
        self._http = http

    async def deliver(self, notice: Notice, recipient: str) -> None:
        """Post one message.

        Raises:
            DeliveryError: there is no such target, it cannot be reached, or it did not answer 2xx.
        """
        target, proxy = self._targets.get(recipient, (None, None))
        if target is None:
            text = f"{one_line(recipient)!r} is no {self._kind} target of the operator's configuration"
            raise DeliveryError("UnknownTarget", text, retryable=False)
        body = slack_body(notice) if self._kind == "slack" else webhook_body(notice)
        url, data = target.url.get_secret_value(), FencedBody(json.dumps(body).encode(), self._live)
        headers = {"Content-Type": "application/json", "Idempotency-Key": notice.id}
        send = self._http.post(
            url, data=data, headers=headers, timeout=TIMEOUT, allow_redirects=False, proxy=proxy
        )
        try:
            async with send as reply:
                status = reply.status
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            # A time-out is an OSError; a ValueError is what a host becomes that can be none.
            # The text of an error may hold the URL, which is a secret.
            raise DeliveryError("TargetUnreachable", f"{recipient}: {type(error).__name__}") from error
        if status not in _OK:
            raise DeliveryError("TargetRefused", f"{recipient}: the target answered HTTP {status}")


def webhook_body(notice: Notice) -> dict[str, Any]:
    """What a webhook gets."""
    return {
        "event": "booking_ending",
        "id": notice.id,
        "namespace": notice.namespace,
        "booking": notice.booking,
        "resource": notice.resource,
        "user": notice.user,
        "end_at": notice.end_at.isoformat(),
        "text": notice.text,
    }


def slack_body(notice: Notice) -> dict[str, Any]:
    """What Slack gets, with its three special characters escaped.

    See https://docs.slack.dev/messaging/formatting-message-text#escaping.
    """
    text = f"{notice.subject}\n{notice.text}"
    for char, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, escaped)
    return {"text": text}
