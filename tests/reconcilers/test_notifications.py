"""Which recipients are notified of the end of a booking, when, and how often. On virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from traceback import format_exception
from typing import Any

from structlog.testing import capture_logs

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.resource import ResourceStatus
from booking_operator.domain.notification import DeliveryError, Notification
from booking_operator.engine.controller import Controller
from booking_operator.engine.store import Key
from booking_operator.notify.turns import turn
from booking_operator.reconcilers.booking import BookingReconciler
from booking_operator.reconcilers.event_handlers import EventHandlers
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.notifications import NotificationReconciler
from tests.support import virtual
from tests.support.environment import REGION, FakeEvents, FakeStatus, at_text, fake_environment
from tests.support.virtual import EPOCH, VirtualClock

BEFORE = timedelta(seconds=20)
KEY = Key("ns", "bk")
ADA = {"type": "email", "recipient": "ada@example.com"}
OPS = {"type": "slack", "recipient": "ops"}


class FakeChannel:
    """Accepts notifications, or fails as a test sets."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.error: Exception | None = None
        self.seconds = 0.0
        self.sent: list[tuple[str, str, float]] = []
        self.tries = 0
        self.hang = False
        self.free = asyncio.Semaphore(1000)
        self.pause = 0.0

    async def deliver(self, notification: Notification, recipient: str) -> None:
        async with turn(self.free):
            await self._send(notification, recipient)

    async def _send(self, notification: Notification, recipient: str) -> None:
        self.tries += 1
        if self.hang:
            await asyncio.sleep(3600)
        await asyncio.sleep(self.seconds)
        if self.pause:
            at = self._clock.now() + timedelta(seconds=self.pause)
            raise DeliveryError("TargetRefused", "slow down", retry_at=at)
        if self.error:
            raise self.error
        self.sent.append((recipient, notification.id, round((self._clock.now() - EPOCH).total_seconds(), 1)))


class World:
    """One booking `ns/bk`, two channels, and the controllers of its notifications."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.informers = Informers(REGION)
        self.status = FakeStatus(self.informers.bookings)
        self.events = FakeEvents()
        self.mail, self.slack = FakeChannel(self.clock), FakeChannel(self.clock)
        self.delivered: list[tuple[str, bool]] = []
        self.before = BEFORE
        self.handlers: EventHandlers | None = None
        self.start_again()

    def start_again(self) -> None:
        """Simulate a new process, which knows only the objects in the cluster."""
        if self.handlers is not None:
            self.handlers.unsubscribe()
        self.handlers = EventHandlers(self.informers, self.clock)
        self.notifications, self.bookings = self.handlers.notifications, self.handlers.bookings
        self.handlers.subscribe()
        environment = fake_environment(
            self.informers, self.clock, statuses={BOOKING: self.status}, events=self.events
        )
        self.notifier = NotificationReconciler(
            environment,
            {"email": self.mail, "slack": self.slack},
            before=self.before,
            changed=self.bookings.add,
            delivered=lambda type_, done: self.delivered.append((type_, done)),
        )
        self.reconciler = BookingReconciler(environment, undelivered=self.notifier.failures.get)

    def booking(self, start: float, end: float, *notifications: dict[str, str], name: str = "bk") -> None:
        """Create or update a booking."""
        key = Key("ns", name)
        known = self.informers.bookings.get(key)
        spec = {
            "resource_name": "res",
            "user_id": "ada",
            "start_at": at_text(start),
            "end_at": at_text(end),
            "notifications": list(notifications),
        }
        version = int(known.metadata.resource_version) + 1000 if known else 1
        metadata: dict[str, Any] = {"name": name, "namespace": "ns", "uid": f"u-{name}"}
        metadata |= {"resourceVersion": str(version), "generation": version}
        metadata["creationTimestamp"] = at_text(0)
        made: Booking = BOOKING.adapter.validate_python({"metadata": metadata, "spec": spec})
        self.informers.bookings.apply(replace(made, status=known.status) if known else made)
        self.notifications.add(key)
        self.bookings.add(key)

    async def run(self, seconds: float) -> None:
        tasks = [
            asyncio.ensure_future(Controller("notices", self.notifications, self.notifier.reconcile).run()),
            asyncio.ensure_future(Controller("bookings", self.bookings, self.reconciler.reconcile).run()),
        ]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def notified(self) -> tuple[str, str]:
        booking = self.informers.bookings.get(KEY)
        assert booking is not None
        found = [item for item in booking.status.conditions if item.type == "Notified"]
        return (found[0].status, found[0].reason) if found else ("", "")

    def sent(self) -> bool:
        booking = self.informers.bookings.get(KEY)
        assert booking is not None
        return booking.status.notification_sent


def play(scenario: Callable[[World], Awaitable[None]]) -> World:
    async def main() -> World:
        world = World()
        await scenario(world)
        return world

    return virtual.run(main())


def test_all_recipients_are_notified_once_and_in_time() -> None:
    async def scenario(world: World) -> None:
        world.booking(10, 100, ADA, OPS)
        await world.run(79)
        assert world.notified() == ("False", "Pending")
        await world.run(40)

    world = play(scenario)
    assert [(to, at) for to, _, at in world.mail.sent + world.slack.sent] == [
        ("ada@example.com", 80),
        ("ops", 80),
    ]
    assert world.sent()
    assert world.notified() == ("True", "Sent")
    assert ("Booking", "Notified") in world.events.recorded


def test_the_new_end_of_an_extended_booking_is_notified_too() -> None:
    async def scenario(world: World) -> None:
        world.booking(10, 100, ADA)
        await world.run(85)
        world.booking(10, 200, ADA)
        await world.run(5)
        assert not world.sent()
        assert world.notified() == ("False", "Pending")
        await world.run(150)

    world = play(scenario)
    (_, first, _), (_, second, at) = world.mail.sent
    assert first != second
    assert at == 180


def test_an_earlier_end_that_returns_is_not_notified_again() -> None:
    async def scenario(world: World) -> None:
        for end in (100, 200, 100):
            world.booking(10, end, ADA)
            await world.run(1 if end == 200 else 85)
            world.start_again()
        assert world.sent()

    assert [at for _, _, at in play(scenario).mail.sent] == [80]


def test_the_status_lists_a_limited_number_of_earlier_messages() -> None:
    async def scenario(world: World) -> None:
        for number in range(140):
            world.booking(0, 15 + number, ADA)
            await world.run(1)
        booking = world.informers.bookings.get(KEY)
        assert booking is not None
        assert len(set(booking.status.notified)) == 101

    assert len(play(scenario).mail.sent) == 140


def test_a_restart_causes_no_second_notification() -> None:
    async def scenario(world: World) -> None:
        world.booking(10, 100, ADA)
        await world.run(85)
        world.start_again()
        world.notifications.add(KEY)
        await world.run(10)

    assert len(play(scenario).mail.sent) == 1


def test_a_crash_before_the_status_write_repeats_the_notification_with_the_same_id() -> None:
    async def scenario(world: World) -> None:
        world.booking(10, 100, ADA)
        world.status.away = True
        await world.run(85)
        world.status.away = False
        world.start_again()
        world.notifications.add(KEY)
        await world.run(10)

    deliveries = play(scenario).mail.sent
    assert len(deliveries) == 2
    assert len({id_ for _, id_, _ in deliveries}) == 1


def test_a_failed_delivery_is_reported_and_retried_and_affects_no_other() -> None:
    async def scenario(world: World) -> None:
        world.mail.error = DeliveryError("SmtpFailed", "no")
        world.booking(10, 100, ADA, OPS)
        await world.run(90)
        assert world.notified() == ("False", "SmtpFailed")
        assert len(world.slack.sent) == 1
        assert 3 < world.mail.tries < 20
        world.mail.error = None
        await world.run(9)
        assert world.notified() == ("True", "Sent")

    world = play(scenario)
    assert (len(world.mail.sent), len(world.slack.sent)) == (1, 1)
    assert ("Booking", "SmtpFailed") in world.events.recorded


def test_a_bug_of_one_channel_affects_no_other_and_reveals_no_secret() -> None:
    async def scenario(world: World) -> None:
        world.slack.error = UnicodeError("https://hooks.example.com/T/secret")
        world.slack.error.__cause__ = KeyError("secret")
        world.mail.seconds = 0.1  # it is in flight when the other channel fails
        world.booking(10, 100, ADA, OPS)
        await world.run(90)
        assert len(world.mail.sent) == 1
        assert world.notified() == ("False", "DeliveryFailed")
        assert 3 < world.slack.tries < 20
        world.slack.error = None
        await world.run(9)
        assert world.notified() == ("True", "Sent")

    with capture_logs() as logs:
        world = play(scenario)
    assert (len(world.mail.sent), len(world.slack.sent)) == (1, 1)
    assert ("Booking", "DeliveryFailed") in world.events.recorded
    crash = next(entry for entry in logs if entry["event"] == "notification_failed_unexpectedly")
    assert (crash["log_level"], crash["recipient"]) == ("error", "ops")
    traceback = "".join(format_exception(crash["exc_info"]))
    assert "in deliver" in traceback
    assert "UnicodeError" in traceback
    assert "secret" not in traceback + str(logs)


def test_a_permanent_failure_is_reported_and_not_retried() -> None:
    async def scenario(world: World) -> None:
        world.mail.error = DeliveryError("InvalidRecipient", "no", retryable=False)
        world.booking(10, 100, ADA, {"type": "pigeon", "recipient": "coop"})
        await world.run(95)
        assert world.notified()[0] == "False"

    assert play(scenario).mail.tries == 1


def test_a_permanent_failure_is_not_retried_with_a_transient_one() -> None:
    async def scenario(world: World) -> None:
        world.mail.error = DeliveryError("InvalidRecipient", "no", retryable=False)
        world.slack.error = DeliveryError("TargetUnreachable", "no")
        world.booking(10, 100, ADA, OPS)
        await world.run(95)
        assert world.slack.tries > 3
        world.slack.error = None
        await world.run(4)
        assert world.notified() == ("False", "InvalidRecipient")

    world = play(scenario)
    assert (world.mail.tries, len(world.slack.sent)) == (1, 1)


def test_a_thousand_mails_over_four_connections_are_all_sent() -> None:
    async def scenario(world: World) -> None:
        world.before = timedelta(seconds=900)
        world.start_again()
        world.mail.free, world.mail.seconds = asyncio.Semaphore(4), 1.0
        for number in range(1000):
            recipient = {"type": "email", "recipient": f"u{number}@example.com"}
            world.booking(10, 1000, recipient, name=f"b{number}")
        await world.run(100 + 1000 / 4 + 5)

    with capture_logs() as logs:
        world = play(scenario)
    assert len({to for to, _, _ in world.mail.sent}) == len(world.mail.sent) == 1000
    assert all(booking.status.notification_sent for booking in world.informers.bookings.objects())
    assert {entry["event"] for entry in logs} == {"notification_sent", "booking_condition_changed"}
    assert world.delivered == [("email", True)] * 1000


def test_waiting_for_a_connection_is_no_failure_and_delays_no_other_channel() -> None:
    async def scenario(world: World) -> None:
        world.before = timedelta(seconds=900)
        world.start_again()
        world.mail.free = asyncio.Semaphore(0)
        world.booking(10, 1000, ADA, OPS)
        running = asyncio.ensure_future(world.run(450))
        await asyncio.sleep(400)
        assert (len(world.slack.sent), world.notified()) == (1, ("False", "Pending"))
        world.mail.free.release()
        await running
        assert world.notified() == ("True", "Sent")

    with capture_logs() as logs:
        world = play(scenario)
    assert (world.mail.tries, world.slack.tries) == (1, 1)
    assert {entry["event"] for entry in logs} == {"notification_sent", "booking_condition_changed"}
    assert world.delivered == [("slack", True), ("email", True)]


def test_a_delivery_is_stored_before_a_slower_one_ends() -> None:
    async def scenario(world: World) -> None:
        world.mail.seconds = 40
        world.booking(10, 100, ADA, OPS)
        await world.run(0)
        running = asyncio.ensure_future(world.run(90))
        await asyncio.sleep(81)
        booking = world.informers.bookings.get(KEY)
        assert booking is not None
        assert booking.status.notified == (world.slack.sent[0][1],)
        assert not booking.status.notification_sent
        await running

    play(scenario)


def test_an_unavailable_api_server_does_not_exceed_the_reconcile_timeout() -> None:
    async def scenario(world: World) -> None:
        world.before = timedelta(seconds=900)
        world.start_again()
        world.status.away = True
        world.booking(10, 1000, ADA)
        await world.run(990)

    with capture_logs() as logs:
        world = play(scenario)
    assert len(world.mail.sent) == 1
    assert {entry["event"] for entry in logs} == {"notification_sent", "booking_condition_changed"}


def test_the_retry_time_of_a_recipient_is_respected() -> None:
    async def scenario(world: World) -> None:
        world.slack.pause = 10
        world.booking(10, 100, ADA, OPS)
        await world.run(89)
        assert (world.slack.tries, world.notified()) == (1, ("False", "TargetRefused"))
        world.slack.pause = 0
        await world.run(2)
        assert world.notified() == ("True", "Sent")

    world = play(scenario)
    assert [at for _, _, at in world.slack.sent] == [90]
    assert [at for _, _, at in world.mail.sent] == [80]


def test_the_back_off_grows_although_a_recipient_asks_for_short_pauses() -> None:
    async def scenario(world: World) -> None:
        world.slack.pause = 0.001
        world.booking(10, 100, OPS)
        await world.run(99)

    assert 3 < play(scenario).slack.tries < 10


def test_no_recipient_is_notified_after_the_end() -> None:
    async def scenario(world: World) -> None:
        world.mail.error = DeliveryError("SmtpFailed", "no")
        world.booking(10, 100, ADA)
        await world.run(110)
        world.mail.error = None
        tries = world.mail.tries
        await world.run(100)
        assert world.mail.tries == tries

    world = play(scenario)
    assert not world.sent()
    assert world.notified() == ("False", "Missed")


def test_a_notification_of_the_go_operator_is_not_repeated_unless_the_end_changes() -> None:
    async def scenario(world: World) -> None:
        world.booking(10, 100, ADA)
        found: Any = world.informers.bookings.get(KEY)
        sent = replace(found.status, notification_sent=True)
        world.informers.bookings.replace(
            [replace(found, status=sent, metadata=replace(found.metadata, resource_version="2"))]
        )
        await world.run(95)
        assert world.mail.sent == []
        world.booking(10, 200, ADA)
        await world.run(100)

    assert len(play(scenario).mail.sent) == 1


def test_a_hanging_channel_does_not_delay_the_end_of_the_booking() -> None:
    async def scenario(world: World) -> None:
        world.mail.hang = True
        world.booking(10, 100, ADA)
        await world.run(110)

    world = play(scenario)
    booking: Any = world.informers.bookings.get(KEY)
    assert booking.status.status == "FINISHED"


def test_the_next_leader_does_not_repeat_a_notification() -> None:
    async def scenario(world: World) -> None:
        world.slack.hang = True
        world.booking(10, 100, ADA, OPS)
        await world.run(85)
        world.slack.hang = False
        world.start_again()
        world.notifications.add(KEY)
        await world.run(10)

    world = play(scenario)
    assert (len(world.mail.sent), len(world.slack.sent)) == (1, 1)
    assert world.sent()


def test_a_booking_without_notifications_has_no_condition() -> None:
    async def scenario(world: World) -> None:
        world.booking(10, 100)
        await world.run(110)

    world = play(scenario)
    assert world.notified() == ("", "")
    assert not world.sent()


def wanting(*when: str) -> dict[str, Any]:
    return ADA | {"when": list(when)}


def running(world: World, instances: int) -> None:
    """Report how many of two instances run."""
    known = world.informers.resources.get(Key("ns", "res"))
    version = str(int(known.metadata.resource_version) + 1) if known else "1"
    meta = {"name": "res", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": version}
    body = RESOURCE.adapter.validate_python({"metadata": meta, "spec": {"tag": "web"}})
    power = "RUNNING" if instances == 2 else "PENDING"
    world.informers.resources.apply(
        replace(body, status=ResourceStatus(instances=2, running=instances, status=power))
    )


def test_ready_is_reported_once_all_instances_run() -> None:
    async def scenario(world: World) -> None:
        running(world, 0)
        world.booking(10, 1000, wanting("Ready", "Ended"))
        await world.run(30)
        assert world.mail.sent == []
        running(world, 2)
        await world.run(1)
        running(world, 1)
        await world.run(1)
        running(world, 2)
        await world.run(2000)

    world = play(scenario)
    assert [at for _, _, at in world.mail.sent] == [30, 1000]
    assert len({id_ for _, id_, _ in world.mail.sent}) == 2
    assert world.notified() == ("", "")  # nobody asked for the coming end
    assert not world.sent()


def test_not_ready_is_reported_five_minutes_after_the_start() -> None:
    async def scenario(world: World) -> None:
        running(world, 0)
        world.booking(10, 1000, wanting("NotReady"))
        await world.run(309)
        assert world.mail.sent == []
        await world.run(20)

    assert [at for _, _, at in play(scenario).mail.sent] == [310]


def test_instances_that_run_in_time_are_not_reported_as_not_ready() -> None:
    async def scenario(world: World) -> None:
        running(world, 0)
        world.booking(10, 1000, wanting("NotReady"))
        await world.run(200)
        running(world, 2)
        await world.run(1500)

    assert play(scenario).mail.sent == []


def test_a_booking_that_is_moved_is_not_ready_by_its_earlier_status() -> None:
    async def scenario(world: World) -> None:
        running(world, 2)
        world.booking(10, 1000, wanting("Ready"))
        await world.run(20)
        assert len(world.mail.sent) == 1
        world.booking(5000, 6000, wanting("Ready"))
        await world.run(1000)
        assert len(world.mail.sent) == 1
        await world.run(5000)

    assert len(play(scenario).mail.sent) == 2


def test_the_end_is_reported_for_an_hour_only() -> None:
    async def scenario(world: World) -> None:
        world.mail.error = DeliveryError("SmtpFailed", "no")
        world.booking(10, 100, wanting("Ended"))
        await world.run(200)
        assert world.notified() == ("False", "SmtpFailed")
        await world.run(3600)
        world.mail.error = None
        tries = world.mail.tries
        await world.run(1000)
        assert (tries, world.mail.sent) == (world.mail.tries, [])

    world = play(scenario)
    assert world.notifier.introspect() == {"messages": set()}


def test_a_restart_repeats_no_notification_of_any_kind() -> None:
    async def scenario(world: World) -> None:
        running(world, 2)
        world.booking(10, 100, wanting("Ending", "Ready", "Ended"))
        await world.run(150)
        assert len(world.mail.sent) == 3
        world.start_again()
        world.notifications.add(KEY)
        await world.run(1000)

    world = play(scenario)
    assert len(world.mail.sent) == 3
    assert world.sent()
