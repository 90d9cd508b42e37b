"""Mails about bookings: through the operator on a real API server to an SMTP server."""

import json
from collections.abc import Iterator
from functools import partial

import pytest

from booking_operator.devcluster.mailbox import Mailbox
from tests.e2e.conftest import Operator, Tenant, soon, until


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with Mailbox() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running


def notified(tenant: Tenant) -> tuple[str, str]:
    return tenant.condition("booking", "bk", "Notified")


def is_decided(tenant: Tenant, name: str) -> bool:
    return tenant.condition("booking", name, "Accepted") != ("", "")


def patch_of(recipient: str, type_: str = "email") -> str:
    return json.dumps({"spec": {"notifications": [{"type": type_, "recipient": recipient}]}})


async def test_a_mail_before_the_end_and_another_one_after_an_extension(
    tenant: Tenant, operator: Operator, mailbox: Mailbox
) -> None:
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        tenant.kubectl("patch", "booking", "bk", "--type=merge", "-p", patch_of("ada@example.com"))
        await until(lambda: notified(tenant) == ("True", "Sent"))
        (first,) = mailbox.mails
        assert first["To"] == "ada@example.com"
        text = first.get_content()
        assert f"kubectl booking extend bk 1h --namespace {tenant.namespace}" in text
        assert f"kubectl patch booking bk --namespace {tenant.namespace}" in text
        second = text.rstrip().splitlines()[-2]
        assert "booking.manager.kotaico.de/bk-" in tenant.kubectl("create", "-f", "-", stdin=second)
        assert tenant.status("booking", "bk")["notification_sent"] is True
        await until(lambda: "Notified" in tenant.events("Booking", "bk"))
        later = json.dumps({"spec": {"end_at": soon(900).isoformat()}})
        tenant.kubectl("patch", "booking", "bk", "--type=merge", "-p", later)
        await until(lambda: len(mailbox.mails) == 2)
        assert mailbox.mails[1]["Message-ID"] != first["Message-ID"]
        await until(lambda: notified(tenant) == ("True", "Sent"))
    async with operator():  # after a restart, only the recipient of a new booking is notified
        tenant.booking("other", soon(-60), soon(600), user="grace")
        tenant.kubectl("patch", "booking", "other", "--type=merge", "-p", patch_of("grace@example.com"))
        await until(lambda: len(mailbox.mails) > 2)
        ada = "ada@example.com"
        assert [mail["To"] for mail in mailbox.mails] == [ada, ada, "grace@example.com"]


async def test_recipients_choose_what_they_are_notified_of(
    tenant: Tenant, operator: Operator, mailbox: Mailbox
) -> None:
    """The manifest is YAML, in which some words are no texts: `on` is one of them, `when` is not."""
    manifest = f"""
apiVersion: manager.kotaico.de/v1
kind: Booking
metadata: {{name: bk}}
spec:
  resource_name: res
  user_id: ada
  start_at: "{soon(-60).isoformat()}"
  end_at: "{soon(600).isoformat()}"
  notifications:
    - {{type: email, recipient: ada@example.com, when: [Ready, Ended]}}
"""
    async with operator():
        tenant.resource(sharing="Exclusive")
        tenant.kubectl("apply", "--validate=strict", "-f", "-", stdin=manifest)
        await until(lambda: len(mailbox.mails) == 1)
        assert "is ready: all instances run" in mailbox.mails[0]["Subject"]
        ended = json.dumps({"spec": {"end_at": soon(2).isoformat()}})
        tenant.kubectl("patch", "booking", "bk", "--type=merge", "-p", ended)
        assert notified(tenant) == ("", "")  # nobody asked for the coming end
        times = {"start_at": soon(600).isoformat(), "end_at": soon(900).isoformat()}
        for name in ("one", "two"):
            recipient = {"type": "email", "recipient": f"{name}@example.com", "when": ["Conflict"]}
            tenant.apply(
                "Booking", name, resource_name="res", user_id=name, notifications=[recipient], **times
            )
            await until(partial(is_decided, tenant, name))
        await until(lambda: len(mailbox.mails) == 3)
        subjects = {mail["To"]: mail["Subject"] for mail in mailbox.mails[1:]}
        assert subjects["two@example.com"] == (
            "Booking two of res does not have all of its time, because another booking has it"
        )
        assert subjects["ada@example.com"].startswith("Booking bk of res ended at ")


@pytest.mark.parametrize(
    ("recipient", "type_", "reason"),
    [
        ("http://169.254.169.254/latest", "webhook", "UnknownTarget"),
        ("nobody", "email", "InvalidRecipient"),
        ("coop", "pigeon", "ChannelNotConfigured"),
    ],
)
async def test_an_undeliverable_notification_is_reported_on_the_booking(
    tenant: Tenant, operator: Operator, mailbox: Mailbox, recipient: str, type_: str, reason: str
) -> None:
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        tenant.kubectl("patch", "booking", "bk", "--type=merge", "-p", patch_of(recipient, type_))
        await until(lambda: notified(tenant) == ("False", reason))
        await until(lambda: reason in tenant.events("Booking", "bk"))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
    assert not mailbox.mails
