"""Sends mail through an SMTP relay."""

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
from booking_operator.notify.turns import turn

TIMEOUT_SECONDS = 20.0
"""Of one mail, from the connection to the answer. The wait for a connection does not count."""
QUIT_SECONDS = 1.0
CONNECTIONS = 4
"""At a time. Mails are not urgent to the second, and servers limit how many connections one client has."""
_TLS_PORT = 465
_POLICY = SMTP.clone(max_line_length=400)  # a subject is shorter; folded ones look odd in some clients


class SmtpConfigError(Exception):
    """The variables SMTP_* say nothing usable.

    Attributes:
        fatal: for the command line: the message says it all, a traceback says no more.
    """

    fatal = True


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    """Where mails go, as the environment says it.

    Attributes:
        host: SMTP_HOST.
        sender: SMTP_SENDER.
        port: SMTP_PORT.
        user: SMTP_USER; empty for no authentication.
        password: SMTP_PASSWORD.
        security: SMTP_SECURITY: `tls` from the first byte, `starttls` before anything else, `auto` STARTTLS
            where the server offers it, or `none`.
    """

    host: str
    sender: str
    port: int = 587
    user: str = ""
    password: str = field(default="", repr=False)
    security: Literal["auto", "starttls", "tls", "none"] = "auto"


def smtp_config(environ: Mapping[str, str]) -> SmtpConfig | None:
    """Read the variables SMTP_*; None where there is no SMTP_HOST.

    Port 465 means TLS, and a password is never sent in the clear: both unless SMTP_SECURITY says otherwise.

    Raises:
        SmtpConfigError: a variable is missing or makes no sense.
    """
    host, user = environ.get("SMTP_HOST", ""), environ.get("SMTP_USER", "")
    if not host:
        return None
    sender, port = environ.get("SMTP_SENDER", ""), environ.get("SMTP_PORT", "") or "587"
    if parse_address(sender) is None:
        raise SmtpConfigError(f"SMTP_SENDER={sender!r} is no address; write it like bookings@example.com")
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise SmtpConfigError(f"SMTP_PORT={port!r} is no port; write it like 587")
    default = "tls" if int(port) == _TLS_PORT else "starttls" if user else "auto"
    security = environ.get("SMTP_SECURITY", "") or default
    if security not in {"auto", "starttls", "tls", "none"}:
        raise SmtpConfigError(f"SMTP_SECURITY={security!r} must be auto, starttls, tls or none")
    password = environ.get("SMTP_PASSWORD", "")
    return SmtpConfig(host, sender, int(port), user, password, security)  # type: ignore[arg-type]


class EmailChannel:
    """`domain.notification.Channel` for `type: email`; the recipient is an address."""

    def __init__(self, config: SmtpConfig, clock: Clock, may_write: MayWrite = lambda: True) -> None:
        self._config = config
        self._may_write = may_write
        self._clock = clock
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._tls = ssl.create_default_context()

    async def deliver(self, notification: Notification, recipient: str) -> None:
        """Send one mail.

        Raises:
            BusyError: no connection became free in time, and nothing was sent.
            DeliveryError: the address is none, or the server did not take the mail.
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
            # A time-out is an OSError; a ValueError is what an impossible option becomes.
            text = single_line(str(error)) or type(error).__name__
            raise DeliveryError(
                "SmtpFailed", f"{config.host}:{config.port} did not take the mail: {text}"
            ) from error

    async def _send(self, message: bytes, recipient: str) -> None:
        smtp = self._client()
        try:
            await smtp.connect()
            if not self._may_write():
                raise FencedError("this replica does not lead")
            await smtp.sendmail(self._config.sender, [recipient], message)
            with suppress(aiosmtplib.SMTPException, OSError):  # it has been taken already
                await smtp.quit(timeout=QUIT_SECONDS)
        finally:
            # Without QUIT: a cancelled delivery must not wait for a server that is silent.
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
        """The mail as it is sent.

        Raises:
            DeliveryError: `recipient` is no address.
        """
        to = parse_address(recipient)
        if to is None:
            text = f"{single_line(recipient)!r} is no mail address; write it like ada@example.com"
            raise DeliveryError("InvalidRecipient", text, retryable=False)
        message = EmailMessage(policy=_POLICY)
        message["Subject"] = notification.subject
        message["From"] = parse_address(self._config.sender)
        message["To"] = to
        message["Date"] = format_datetime(self._clock.now())
        message["Message-ID"] = f"<{notification.id}@{self._config.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        message.set_content(notification.text)
        return message


def parse_address(text: str) -> Address | None:
    """The one mail address that `text` is; None where it is none, or more than one."""
    try:
        found = Address(addr_spec=text)
    except (HeaderParseError, ValueError, IndexError):
        return None
    plain = text.isascii() and text.isprintable() and " " not in text  # RFC 6531 is for few servers
    return found if plain and found.username and "." in found.domain.strip(".") else None
