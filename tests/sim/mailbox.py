"""The mailboxes of all users, and the notification channel of one replica that fills them."""

import asyncio
import random
from dataclasses import dataclass

from booking_operator.domain.notification import DeliveryError, Notification
from tests.sim.kernel import Kernel, Process

_SECONDS = (0.01, 2.0)
"""Minimum and maximum duration of a delivery."""
_FAILURES = 0.1
"""The share of deliveries that fail."""


@dataclass(frozen=True, slots=True)
class Message:
    """A delivered notification: by which process, and when (true time)."""

    process: str
    at: float
    notification: Notification


class Mailbox:
    """All delivered notifications, in order."""

    def __init__(self, kernel: Kernel, seed: str) -> None:
        self.messages: list[Message] = []
        self.kernel = kernel
        self.random = random.Random(f"{seed}/mail")

    def has(self, booking: str, trigger: str) -> bool:
        """Whether anybody was notified of something about a booking."""
        return any(
            item.notification.booking == booking and item.notification.trigger == trigger
            for item in self.messages
        )


class SimChannel:
    """`domain.notification.Channel` of one process. A tenth of the deliveries fail."""

    def __init__(self, mailbox: Mailbox, process: Process) -> None:
        self._mailbox = mailbox
        self._process = process

    async def deliver(self, notification: Notification, recipient: str) -> None:
        """Deliver one message."""
        del recipient
        chance, kernel = self._mailbox.random, self._mailbox.kernel
        await asyncio.sleep(chance.uniform(*_SECONDS))
        if chance.random() < _FAILURES:
            raise DeliveryError("SmtpFailed", "The mail server has responded with an error.")
        self._mailbox.messages.append(Message(self._process.name, kernel.now, notification))
