"""Tags and names of AWS and of tenants in all places: object names, mails, Events, webhooks."""

import email
import email.policy
import json
import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st

from booking_operator.api.kinds import BOOKING
from booking_operator.cloud.aws.ec2 import _records
from booking_operator.cloud.aws.rds_parser import read_databases
from booking_operator.cloud.aws.records import Reading
from booking_operator.cloud.aws.tags import read_lock, write_lock
from booking_operator.domain import naming
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import BookingTimeline
from booking_operator.domain.instance import Instance, InstanceState, Lock, Observation
from booking_operator.domain.locks import OwnLocks, block_foreign, classify_locks, lock_for, lock_tag_changes
from booking_operator.domain.notification import DeliveryError, Notification
from booking_operator.kube.events import EventRecorder
from booking_operator.notify.email import EmailChannel, SmtpConfig
from booking_operator.notify.webhook import slack_body, webhook_body
from tests.support import invalid_input
from tests.support.virtual import EPOCH, VirtualClock

SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
SPELLINGS = [
    "web",
    "Web",
    "WEB",
    "web ",
    " web",
    "we\u200bb",
    "we\u0301b",
    "w\xe9b",
    "we-b",
    "we_b",
    "we.b",
    "we..b",
]
TAGS = st.text(min_size=1, max_size=256) | st.sampled_from(SPELLINGS) | invalid_input.TEXTS.filter(bool)
PLACES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ec2", "rds"]),
        "region": st.sampled_from(["eu-west-1", "us-east-1"]),
        "account": st.sampled_from(["", "acme", "acme-2"]),
    }
)
TEMPLATES = st.sampled_from(["{tag}", "{type}.{tag}", "{account}-{tag}", "x.{region}.{tag}-", "{tag}{tag}"])


@invalid_input.budget(100)
@given(TAGS, TEMPLATES, PLACES)
def test_any_tag_gives_valid_object_names(tag: str, template: str, place: dict[str, str]) -> None:
    group = place | {"tag": tag}
    found = list(naming.name_candidates(template, group))
    assert found == list(naming.name_candidates(template, group))
    for name in found:
        assert len(name) <= 253
        assert SUBDOMAIN.fullmatch(name), name


def as_key(group: tuple[str, dict[str, str]]) -> str:
    return json.dumps(group, sort_keys=True)


@invalid_input.budget(50)
@given(st.lists(st.tuples(TAGS, PLACES), min_size=2, max_size=6, unique_by=as_key), TEMPLATES)
def test_the_last_name_candidate_of_a_group_is_unique(
    groups: list[tuple[str, dict[str, str]]], template: str
) -> None:
    last = [list(naming.name_candidates(template, place | {"tag": tag}))[-1] for tag, place in groups]
    assert len(set(last)) == len(last)


BOOKED = BookingInterval("bk", "ada", EPOCH, EPOCH + timedelta(hours=1), EPOCH)
# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_Tag.html
LETTERS, MARKS = {"L", "N", "Z"}, "_.:/=+-@"


@invalid_input.budget(150)
@given(
    st.text(max_size=300)
    | invalid_input.TEXTS
    | st.sampled_from(["aws:ada", "AWS:x", "rds:x", "\t", "\x85", "\u2028"])
)
@example("a\nb")
def test_every_service_accepts_the_lock_tags(user: str) -> None:
    written = lock_for(replace(BOOKED, user_id=user))
    assert 1 <= len(written.by) <= 256
    assert all(unicodedata.category(char)[0] in LETTERS or char in MARKS for char in written.by)
    assert not written.by.lower().startswith(("aws:", "rds:"))
    assert written.by == written.by.strip()
    assert read_lock({tag["Key"]: tag["Value"] for tag in write_lock(written)}) == written


UNTIL = st.one_of(
    invalid_input.DATES,
    invalid_input.TEXTS,
    st.sampled_from(
        [
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+23:59",
            "2026-W01-1",
            "20260101T090000Z",
            "2026-01-01",
        ]
    ),
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
)
LOCKS = st.builds(Lock, invalid_input.TEXTS | st.just("ada"), UNTIL)


@invalid_input.budget(150)
@given(st.lists(st.none() | LOCKS, max_size=4), st.booleans(), st.lists(LOCKS, max_size=2))
def test_any_lock_tag_is_classified(found: list[Lock | None], held: bool, memory: list[Lock]) -> None:
    instances = tuple(Instance(f"i-{n}", InstanceState.RUNNING, lock=item) for n, item in enumerate(found))
    view, ours = Observation(instances, EPOCH), OwnLocks(memory, BookingTimeline([BOOKED]))
    locks = classify_locks(view, ours, EPOCH)
    assert not {item.id for item in locks.foreign} & {item.id for item in locks.malformed}
    assert (locks.expires_at is not None) == bool(locks.foreign)
    assert all(item.blocked_reason for item in block_foreign(view, locks).instances if item in locks.foreign)
    plan = lock_tag_changes(view, BOOKED if held else None, ours, locks, EPOCH)
    assert not {item.id for item in locks.foreign} & {*plan.write, *plan.remove}


KEYS = st.sampled_from(
    [
        "resource-booking-application",
        "resource-booking-managed",
        "resource-booking-locked-by",
        "Name",
        "",
        "aws:x",
    ]
)
TAG = st.fixed_dictionaries({}, optional={"Key": KEYS, "Value": invalid_input.TEXTS | st.just("true")})
STATES = st.sampled_from(["pending", "running", "stopping", "stopped", "terminated", "", "new-one"])
INSTANCE = st.fixed_dictionaries(
    {"InstanceId": st.sampled_from(["i-1", "i-2", "i-3"])},
    optional={
        "Tags": st.lists(TAG, max_size=4),
        "State": st.fixed_dictionaries({}, optional={"Name": STATES, "Code": st.integers()}),
        "Placement": st.fixed_dictionaries({}, optional={"AvailabilityZone": invalid_input.TEXTS}),
        "InstanceType": invalid_input.TEXTS,
        "RootDeviceType": invalid_input.TEXTS,
        "HibernationOptions": st.fixed_dictionaries({}, optional={"Configured": st.booleans()}),
    },
)
DATABASE = st.fixed_dictionaries(
    {},
    optional={
        "DBInstanceIdentifier": invalid_input.TEXTS,
        "DBClusterIdentifier": st.sampled_from(["c1", "c2", ""]),
        "TagList": st.lists(TAG, max_size=4),
        "DBInstanceStatus": invalid_input.TEXTS | st.sampled_from(["available", "stopped", "backing-up"]),
        "Status": invalid_input.TEXTS | st.sampled_from(["available", "stopped"]),
        "Engine": invalid_input.TEXTS,
        "EngineMode": invalid_input.TEXTS,
        "PreferredMaintenanceWindow": invalid_input.TEXTS | st.just("thu:23:00-fri:01:00"),
        "MultiAZ": st.booleans(),
    },
)


def valued(tags: list[dict[str, str]]) -> bool:
    last = {tag.get("Key", ""): tag.get("Value", "") for tag in tags}
    return bool(last.get("resource-booking-application"))


@invalid_input.budget(100)
@given(st.lists(st.lists(INSTANCE, max_size=3), max_size=3))
def test_ec2_instances_without_the_tag_are_ignored(reservations: list[list[dict[str, Any]]]) -> None:
    page: Any = {"Reservations": [{"Instances": items} for items in reservations]}
    shown = [item for items in reservations for item in items]
    found = list(_records(page, Reading()))
    assert all(record.tag for record in found)
    assert len(found) <= sum(valued(item.get("Tags", [])) for item in shown)


@invalid_input.budget(100)
@given(st.lists(DATABASE, max_size=3), st.lists(DATABASE, max_size=3))
def test_databases_without_the_tag_are_ignored(
    databases: list[dict[str, Any]], clusters: list[dict[str, Any]]
) -> None:
    rows, owners = cast("Any", databases), cast("Any", clusters)
    reading = Reading()
    found = [database.record for database in read_databases(owners, rows, EPOCH, reading)]
    assert all(record.tag for record in found)
    shown = len(read_databases(owners, [], EPOCH, reading))
    assert shown <= sum(valued(row.get("TagList", [])) for row in clusters)


NOTICES = st.builds(
    Notification,
    id=st.just("0123abcd"),
    namespace=invalid_input.TEXTS,
    booking=invalid_input.TEXTS,
    resource=st.text(max_size=253) | invalid_input.TEXTS,
    user=st.text(max_size=256) | invalid_input.TEXTS,
    end_at=st.datetimes(datetime(1970, 1, 2), datetime(2999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
)
RECIPIENTS = st.one_of(
    invalid_input.TEXTS,
    st.emails(),
    st.sampled_from(
        [
            "ada@example.com\r\nBcc: eve@example.com",
            "ada@example.com, eve@example.com",
            "<ada@example.com>",
            "ada@example.com\x00",
            "@example.com",
            '"a\r\nb"@example.com',
        ]
    ),
)
HEADERS = {
    "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "Content-Type", "MIME-Version",
    "Content-Transfer-Encoding",
}  # fmt: skip


@invalid_input.budget(100)
@given(NOTICES, RECIPIENTS)
def test_no_text_adds_a_header_or_a_recipient_to_a_mail(notification: Notification, recipient: str) -> None:
    channel = EmailChannel(SmtpConfig("smtp.example.com", "bookings@example.com"), cast("Any", FixedClock()))
    try:
        message = channel.compose(notification, recipient)
    except DeliveryError:
        return
    read = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert set(read.keys()) == HEADERS
    assert len(read.keys()) == len(HEADERS)
    assert [address.addr_spec for address in read["To"].addresses] == [recipient]
    assert "\n" not in read["Subject"]


class FixedClock:
    def now(self) -> datetime:
        return EPOCH


@invalid_input.budget(100)
@given(NOTICES)
def test_webhooks_get_json_and_slack_texts_have_no_mentions(
    notification: Notification,
) -> None:
    body = json.loads(json.dumps(webhook_body(notification)))
    assert (body["user"], body["booking"]) == (notification.user, notification.booking)
    assert not re.search(r"[<>]", slack_body(notification)["text"])


class Posted:
    """A client that records the posted bodies."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def request(self, *_: str, body: dict[str, Any]) -> bytes:
        self.bodies.append(body)
        return b""


NAMES = st.from_regex(SUBDOMAIN, fullmatch=True).filter(lambda name: len(name) <= 253)


@invalid_input.budget(60)
@given(NAMES, st.text(max_size=2000) | st.integers(0, 600).map(lambda n: "x" * n + "\U0001f4a5" * 600))
@example("a" * 219 + "-" + "b" * 33, "\xe9" * 1024)
def test_the_api_server_accepts_every_event(name: str, note: str) -> None:
    """The API server limits lengths in bytes.

    See https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/core/validation/events.go.
    """
    recorder = EventRecorder(cast("Any", Posted()), VirtualClock())
    recorder._clock = cast("Any", FixedClock())
    made = BOOKING.adapter.validate_python(
        {"metadata": invalid_input.meta(name), "spec": invalid_input.SPECS["Booking"]}
    )
    recorder.warning(BOOKING, made, "Reason", "Action", note)
    body = recorder._queue.get_nowait().body
    assert len(body["note"].encode()) <= 1024
    assert note.startswith(body["note"])
    assert SUBDOMAIN.fullmatch(body["metadata"]["name"])
    assert len(body["metadata"]["name"]) <= 253
    assert len(body["reportingInstance"]) <= 128
