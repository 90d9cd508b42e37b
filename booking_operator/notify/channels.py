"""Opens the notification channels that the configuration of the operator allows."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from booking_operator.config import Target
from booking_operator.domain.notification import Channel
from booking_operator.engine.clock import Clock
from booking_operator.engine.fence import MayWrite
from booking_operator.notify.email import EmailChannel, SmtpConfig
from booking_operator.notify.webhook import WebhookChannel


@asynccontextmanager
async def open_channels(
    smtp: SmtpConfig | None, targets: Mapping[str, Target], clock: Clock, may_write: MayWrite = lambda: True
) -> AsyncIterator[dict[str, Channel]]:
    """Open the channels, by the `type` of a notification, for the length of the context.

    Args:
        smtp: the mail relay; None for no channel `email`.
        targets: the targets of `webhook` and `slack`, by name.
        clock: the wall clock and the monotonic clock.
        may_write: whether this replica may write now. The channels check it right before they send.
    """
    # Each channel limits its requests in flight. A limit of the connection pool would let requests wait while
    # their timeout runs.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        channels: dict[str, Channel] = {
            "webhook": WebhookChannel("webhook", targets, http, clock, may_write),
            "slack": WebhookChannel("slack", targets, http, clock, may_write),
        }
        if smtp is not None:
            channels["email"] = EmailChannel(smtp, clock, may_write)
        yield channels
