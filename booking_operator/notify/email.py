"""The channel `email`: sends notifications through an SMTP relay."""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Literal

import aiosmtplib

from booking_operator.domain.formatting import single_line
from booking_operator.domain.notification import DeliveryError, Notification
from booking_operator.engine.clock import Clock
from booking_operator.engine.fence import FencedError, MayWrite
from booking_operator.errors import UserError
from booking_operator.notify.turns import turn

TIMEOUT_SECONDS = 20.0
"""Timeout of one mail, from the connection to the reply. The wait for a free connection does not count."""
QUIT_TIMEOUT_SECONDS = 1.0
CONNECTIONS = 4
"""The maximum number of connections at a time. Servers limit the connections of one client."""
_TLS_PORT = 465
_POLICY = SMTP.clone(max_line_length=400)  # longer than a subject: some clients show folded ones badly


class SmtpConfigError(UserError):
    """The environment variables SMTP_* are invalid."""


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    """The SMTP relay, from the environment.

    Attributes:
        host: SMTP_HOST.
        sender: SMTP_SENDER.
        port: SMTP_PORT.
        user: SMTP_USER; empty for no authentication.
        password: SMTP_PASSWORD.
        security: SMTP_SECURITY. `tls` uses TLS from the first byte, and `starttls` requires STARTTLS. `auto`
            uses STARTTLS if the server offers it. `none` sends plain text.
    """

    host: str
    sender: str
    port: int = 587
    user: str = ""
    password: str = field(default="", repr=False)
    security: Literal["auto", "starttls", "tls", "none"] = "auto"


def smtp_config(environ: Mapping[str, str]) -> SmtpConfig | None:
    """Read the environment variables SMTP_*. Returns None if SMTP_HOST is not set.

    Without SMTP_SECURITY, port 465 uses `tls`, a user name requires `starttls`, and all else uses `auto`. A
    password is then never sent as plain text.

    Raises:
        SmtpConfigError: a variable is missing or invalid.
    """
    host, user = environ.get("SMTP_HOST", ""), environ.get("SMTP_USER", "")
    if not host:
        return None
    sender, port = environ.get("SMTP_SENDER", ""), environ.get("SMTP_PORT", "") or "587"
    if parse_address(sender) is None:
        raise SmtpConfigError(
            f"SMTP_SENDER={sender!r} is not an email address; use a value like bookings@example.com"
        )
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise SmtpConfigError(f"SMTP_PORT={port!r} is not a port number; use a value like 587")
    default = "tls" if int(port) == _TLS_PORT else "starttls" if user else "auto"
    security = environ.get("SMTP_SECURITY", "") or default
    if security not in {"auto", "starttls", "tls", "none"}:
        raise SmtpConfigError(f"SMTP_SECURITY={security!r} must be auto, starttls, tls or none")
    password = environ.get("SMTP_PASSWORD", "")
    return SmtpConfig(host, sender, int(port), user, password, security)  # type: ignore[arg-type]


class EmailChannel:
    """The `domain.notification.Channel` for `type: email`. The recipient is a mail address."""

    def __init__(self, config: SmtpConfig, clock: Clock, may_write: MayWrite = lambda: True) -> None:
        self._config = config
        self._may_write = may_write
        self._clock = clock
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._tls = ssl.create_default_context()

    async def deliver(self, notification: Notification, recipient: str) -> None:
        """Send one mail.

        Raises:
            BusyError: no connection became free in time, so the mail was not sent.
            DeliveryError: the recipient is not a mail address, or the server did not accept the mail.
        """
        message = self.compose(notification, recipient)
        async with turn(self._free):
            await self._send_in_time(message.as_bytes(), recipient)

    async def _send_in_time(self, message: bytes, recipient: str) -> None:
        config = self._config
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._send(message, recipient)
        except (aiosmtplib.SMTPException, FencedError, OSError, ValueError) as error:
            # A timeout is an OSError. An invalid option raises ValueError.
            text = single_line(str(error)) or type(error).__name__
            raise DeliveryError(
                "SmtpFailed", f"sending the email through {config.host}:{config.port} failed: {text}"
            ) from error

    async def _send(self, message: bytes, recipient: str) -> None:
        smtp = self._client()
        try:
            await smtp.connect()
            if not self._may_write():
                raise FencedError("this replica is not the leader")
            await smtp.sendmail(self._config.sender, [recipient], message)
            with suppress(aiosmtplib.SMTPException, OSError):  # the server has already accepted the mail
                await smtp.quit(timeout=QUIT_TIMEOUT_SECONDS)
        finally:
            # Close without QUIT: a cancelled delivery must not wait for a server that does not answer.
            smtp.close()

    def _client(self) -> aiosmtplib.SMTP:
        config = self._config
        return aiosmtplib.SMTP(
            hostname=config.host,
            port=config.port,
            username=config.user or None,
            password=config.password or None,
            use_tls=config.security == "tls",
            start_tls={"auto": None, "starttls": True, "tls": False, "none": False}[config.security],
            tls_context=self._tls,
            timeout=TIMEOUT_SECONDS,
        )

    def compose(self, notification: Notification, recipient: str) -> EmailMessage:
        """Return the mail for a notification.

        Raises:
            DeliveryError: `recipient` is not a mail address.
        """
        to = parse_address(recipient)
        if to is None:
            text = f"{single_line(recipient)!r} is not an email address; use a value like ada@example.com"
            raise DeliveryError("InvalidRecipient", text, retryable=False)
        message = EmailMessage(policy=_POLICY)
        message["Subject"] = notification.subject
        message["From"] = parse_address(self._config.sender)
        message["To"] = to
        message["Date"] = format_datetime(self._clock.now())
        message["Message-ID"] = f"<{notification.id}@{self._config.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # prevents out-of-office replies (RFC 3834)
        message.set_content(notification.text)
        return message


def parse_address(text: str) -> Address | None:
    """Parse one mail address. Returns None if `text` is not exactly one address."""
    try:
        found = Address(addr_spec=text)
    except (HeaderParseError, ValueError, IndexError):
        return None
    plain = text.isascii() and text.isprintable() and " " not in text  # few servers support RFC 6531
    return found if plain and found.username and "." in found.domain.strip(".") else None
