"""An SMTP server on loopback that stores the mails it receives."""

import email
from email.message import EmailMessage
from email.policy import default
from typing import Any, Self

from aiosmtpd.controller import Controller

from booking_operator.devcluster.process import free_port

_POLICY = default.clone(max_line_length=400)


class Mailbox:
    """An SMTP server in a separate thread, as a synchronous context manager."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self._port = free_port()
        self._server = Controller(self, hostname="127.0.0.1", port=self._port)

    def __enter__(self) -> Self:
        """Start the server."""
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self._server.stop()

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables with which the operator sends mails to this server."""
        sender = "bookings@example.com"
        return {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(self._port), "SMTP_SENDER": sender}

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Store one mail."""
        self.mails.append(email.message_from_bytes(envelope.content, policy=_POLICY))
        return "250 OK"
