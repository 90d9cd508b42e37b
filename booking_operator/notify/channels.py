"""All channels that the operator's configuration makes possible."""

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
    """The channels by `type` of a notification, for the length of the context.

    Nothing is sent unless `live()`.
    """
    # The channels limit how many posts are under way. A limit of the pool as well would have posts wait while
    # their time-out runs.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        channels: dict[str, Channel] = {
            "webhook": WebhookChannel("webhook", targets, http, clock, may_write),
            "slack": WebhookChannel("slack", targets, http, clock, may_write),
        }
        if smtp is not None:
            channels["email"] = EmailChannel(smtp, clock, may_write)
        yield channels
