"""Mails through a real SMTP server on loopback, with and without TLS."""

import asyncio
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.notification import DeliveryError, Notification
from booking_operator.engine.clock import SystemClock
from booking_operator.notify import email as channel
from booking_operator.notify.email import (
    EmailChannel,
    SmtpConfig,
    SmtpConfigError,
    parse_address,
    smtp_config,
)

END = datetime.fromisoformat("2026-01-31T21:00:00+01:00")
NOTICE = Notification("0123abcd", "team", "night", "analytics", "ada", END)
SENDER = "bookings@example.com"
CLOCK = SystemClock()


class Mailbox:
    """Accepts and keeps mails, or refuses them."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.recipients: list[str] = []
        self.refusal = ""

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refusal:
            return self.refusal
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))
        self.recipients += envelope.rcpt_tos
        return "250 OK"


class Session(SMTP):
    """A session whose end can be awaited. Otherwise its socket may outlive the test."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.over = asyncio.Event()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        asyncio.get_running_loop().call_later(0.01, self.over.set)


@asynccontextmanager
async def server(
    mailbox: Mailbox, ssl_context: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[int]:
    sessions: list[Session] = []

    def protocol() -> SMTP:
        sessions.append(Session(mailbox, hostname="localhost", **options))
        return sessions[-1]

    loop = asyncio.get_running_loop()
    async with await loop.create_server(protocol, "localhost", 0, ssl=ssl_context) as running:
        yield running.sockets[0].getsockname()[1]
    async with asyncio.timeout(10):
        await asyncio.gather(*(session.over.wait() for session in sessions))


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for localhost from an authority that this process trusts."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return context


def mailer(port: int, **options: Any) -> EmailChannel:
    return EmailChannel(SmtpConfig("localhost", SENDER, port, **options), CLOCK)


async def refused(sender: EmailChannel, recipient: str = "ada@example.com") -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await sender.deliver(NOTICE, recipient)
    return caught.value


async def test_a_mail_arrives_with_headers_and_text() -> None:
    mailbox = Mailbox()
    async with server(mailbox) as port:
        await mailer(port).deliver(NOTICE, "ada@example.com")
        await mailer(port).deliver(NOTICE, "ada@example.com")
    mail, again = mailbox.mails
    assert (mail["To"], mail["From"], mail["Subject"]) == ("ada@example.com", SENDER, NOTICE.subject)
    assert mail["Message-ID"] == again["Message-ID"] == "<0123abcd@example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"]
    assert "kubectl patch booking night --namespace team" in mail.get_payload()


@pytest.mark.parametrize("security", ["auto", "starttls"])
async def test_starttls(tls: ssl.SSLContext, security: Any) -> None:
    mailbox = Mailbox()
    async with server(mailbox, tls_context=tls, require_starttls=True) as port:
        await mailer(port, security=security).deliver(NOTICE, "ada@example.com")
    assert mailbox.recipients == ["ada@example.com"]


async def test_tls_from_the_first_byte(tls: ssl.SSLContext) -> None:
    mailbox = Mailbox()
    async with server(mailbox, ssl_context=tls) as port:
        await mailer(port, security="tls").deliver(NOTICE, "ada@example.com")
    assert mailbox.recipients == ["ada@example.com"]


async def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    mailbox = Mailbox()
    async with server(mailbox, tls_context=context) as port:
        error = await refused(mailer(port, security="starttls"))
    assert error.reason == "SmtpFailed"
    assert not mailbox.mails


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_a_password_is_sent_over_tls_only(tls: ssl.SSLContext) -> None:
    attempts: list[Any] = []

    def authenticate(*arguments: Any) -> AuthResult:
        attempts.append(arguments[-1])
        right = arguments[-1].password == b"right"
        return AuthResult(success=right, handled=right)

    options: dict[str, Any] = {"auth_required": True, "authenticator": authenticate}
    mailbox = Mailbox()
    async with server(mailbox, tls_context=tls, **options) as port:
        found = smtp_config(
            {"SMTP_HOST": "localhost", "SMTP_PORT": str(port), "SMTP_SENDER": SENDER, "SMTP_USER": "u"}
        )
        assert found is not None
        await EmailChannel(replace(found, password="right"), CLOCK).deliver(NOTICE, "ada@example.com")
        wrong = await refused(EmailChannel(replace(found, password="wrong"), CLOCK))
    assert "wrong" not in str(wrong)
    assert len(mailbox.mails) == 1
    count = len(attempts)
    async with server(mailbox, auth_require_tls=False, **options) as port:
        await refused(EmailChannel(replace(found, port=port, password="right"), CLOCK))
    assert len(attempts) == count, "without STARTTLS no password is sent"


async def test_a_refusing_or_missing_server_is_reported() -> None:
    mailbox = Mailbox()
    mailbox.refusal = "451 try later\r\n"
    async with server(mailbox) as port:
        error = await refused(mailer(port))
    assert error.retryable
    assert "451" in str(error) or "try later" in str(error)
    assert "sending the email through" in str(await refused(mailer(port)))


async def test_a_cancelled_delivery_does_not_wait_for_a_silent_server() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        writer.write(b"220 mail.example.com\r\n")
        while await reader.read(1000):
            pass
        writer.close()
        await writer.wait_closed()
        gone.set()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, asyncio.timeout(channel.TIMEOUT_SECONDS / 2):
        task = asyncio.ensure_future(mailer(port).deliver(NOTICE, "ada@example.com"))
        await arrived.wait()
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        await gone.wait()
    assert task.cancelled()


async def test_a_replica_without_the_lease_sends_no_mail() -> None:
    mailbox = Mailbox()
    async with server(mailbox) as port:
        config = SmtpConfig("127.0.0.1", SENDER, port, security="none")
        error = await refused(EmailChannel(config, CLOCK, lambda: False))
    assert "is not the leader" in str(error)
    assert mailbox.mails == []


async def test_a_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "TIMEOUT_SECONDS", 0.2)
    left = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(say_nothing, "localhost", 0) as silent:
        error = await refused(mailer(silent.sockets[0].getsockname()[1]))
        await left.wait()
    assert error.reason == "SmtpFailed"


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "ada",
        "ada@localhost\r\nBcc: eve@example.com",
        "ada@example.com\nBcc: eve@example.com",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\0",
        "@example.com",
        "ada@",
    ],
)
async def test_an_invalid_address_gets_no_mail(recipient: str) -> None:
    error = await refused(mailer(1), recipient)
    assert (error.reason, error.retryable) == ("InvalidRecipient", False)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_no_field_adds_a_header(resource: str, user: str, recipient: str) -> None:
    notification = replace(NOTICE, resource=f"{resource}\r\nBcc: eve@example.com", user=user)
    sender = mailer(1)
    try:
        mail = sender.compose(notification, recipient)
    except DeliveryError:
        mail = sender.compose(notification, "ada@example.com")
    parsed = email.message_from_bytes(mail.as_bytes(), policy=default)
    assert set(parsed.keys()) == {
        "Subject",
        "From",
        "To",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    }
    assert parsed["Subject"] == notification.subject


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"SMTP_HOST": "mail"}, "SMTP_SENDER"),
        ({"SMTP_HOST": "mail", "SMTP_SENDER": "nobody"}, "SMTP_SENDER"),
        ({"SMTP_HOST": "mail", "SMTP_SENDER": SENDER, "SMTP_PORT": "smtp"}, "SMTP_PORT"),
        ({"SMTP_HOST": "mail", "SMTP_SENDER": SENDER, "SMTP_SECURITY": "ssl"}, "SMTP_SECURITY"),
    ],
)
def test_invalid_variables_are_reported(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SmtpConfigError, match=words):
        smtp_config(environ)


def test_variables_are_parsed() -> None:
    base = {"SMTP_HOST": "mail", "SMTP_SENDER": SENDER}
    assert smtp_config({}) is None
    assert smtp_config(base) == SmtpConfig("mail", SENDER, 587, security="auto")
    assert smtp_config(base | {"SMTP_PORT": "465"}) == SmtpConfig("mail", SENDER, 465, security="tls")
    found = smtp_config(base | {"SMTP_USER": "u", "SMTP_PASSWORD": "secret"})
    assert found == SmtpConfig("mail", SENDER, 587, "u", "secret", "starttls")
    assert "secret" not in repr(found)


def test_only_a_single_address_is_parsed() -> None:
    assert str(parse_address("ada@example.com")) == "ada@example.com"
    assert parse_address("ada@example.com,eve@example.com") is None
