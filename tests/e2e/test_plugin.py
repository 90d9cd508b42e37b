"""The installed script `kubectl-booking` against a real API server, as a user with the tenant roles.

The time is frozen at Tuesday 24 November 2026, 14:03 in Berlin. The statuses are written by the test, as the
operator would write them.
"""

import asyncio
import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from icalendar import Calendar

from booking_operator.api.booking import BookingSpec
from booking_operator.api.kinds import BOOKING
from booking_operator.client.cluster import Cluster, Impersonation
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.devcluster.playground import Playground
from booking_operator.engine.clock import SystemClock
from booking_operator.kube.kubeconfig import ClusterConfig
from tests.e2e.conftest import Operator, Tenant, until
from tests.support.people import accepted, booking_body, condition, resource_body, usage_body
from tests.support.plugin import SCRIPT, Person

pytestmark = pytest.mark.plugin

ADA = hashlib.sha256(b"ada").hexdigest()[:4]
CAPACITY = (
    "i-8d6f: StartInstances: We currently do not have sufficient capacity. "
    "The next attempt is at 2026-11-24T13:05:00Z."
)


@pytest.fixture
def ada(devcluster: Playground, tenant: Tenant, tmp_path: Path) -> Person:
    return Person(devcluster, tenant.namespace, "ada", tmp_path)


@pytest.fixture
def person(devcluster: Playground, tenant: Tenant, tmp_path: Path) -> Callable[..., Person]:
    def new(name: str, *roles: str) -> Person:
        return Person(devcluster, tenant.namespace, name, tmp_path, roles)

    return new


def office(start: str = "25 09:00", end: str = "25 18:00") -> dict[str, Any]:
    return booking_body("office-202611250800", "analytics", "grace", start, end)


def afternoon(resource: str = "analytics", *, user: str = "ada", end: str = "17:00") -> dict[str, Any]:
    return booking_body("my-afternoon", resource, user, "13:00", end)


def footer(person: Person) -> str:
    return f"Times in Europe/Berlin (CET, +01:00); namespace {person.namespace}, context prod-eu"


class TestBook:
    """`kubectl booking book`."""

    def test_the_booking_is_created_and_described(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2, spec={"warm_up": "2m"}), office())
        created = ada.get("booking", "office-202611250800")["metadata"]["creationTimestamp"]
        while datetime.now(UTC) < datetime.fromisoformat(created) + timedelta(seconds=1):
            time.sleep(0.05)  # of two bookings that begin together, the older one holds the lock
        name = f"analytics-202611250800-{ADA}"
        assert ada.says("book", "analytics", "--from", "wed 9:00", "--duration", "4h") == [
            f"booking.manager.kotaico.de/{name} created",
            "  Wed 25 Nov 09:00–13:00 CET (Europe/Berlin), 4h, in 18h57m; instances start 08:58 (warm_up 2m)",
            (
                "  overlaps office-202611250800 (grace, 09:00–18:00): grace keeps the lock, "
                "the instances run for both"
            ),
        ]
        assert ada.get("booking", name)["spec"] == {
            "resource_name": "analytics",
            "user_id": "ada",
            "start_at": "2026-11-25T09:00:00+01:00",
            "end_at": "2026-11-25T13:00:00+01:00",
        }

    def test_a_repeated_submit_is_refused(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        command = ("book", "analytics", "--from", "wed 9:00", "--to", "13:00")
        ada.says(*command)
        name = f"analytics-202611250800-{ADA}"
        assert ada.says(*command, code=1) == [
            f"error: already booked: {name} Wed 25 Nov 09:00–13:00 CET for ada",
            f"hint: kubectl booking why {name}",
        ]
        assert ada.says("book", "analytics", "--from", "wed 9:00", "--to", "17:00", code=1) == [
            f"error: already booked: {name} Wed 25 Nov 09:00–13:00 CET for ada",
            f"hint: kubectl booking extend {name} --until 2026-11-25T17:00",
        ]

    def test_two_users_with_the_same_short_hash_get_two_bookings(self, ada: Person) -> None:
        taken = booking_body(f"analytics-202611250800-{ADA}", "analytics", "grace", "25 09:00", "25 18:00")
        ada.apply(resource_body("analytics", "STOPPED", 0, 2), taken)
        made = ada.says("book", "analytics", "--from", "wed 9:00", "--duration", "4h", "-o", "name")
        whole = hashlib.sha256(b"ada").hexdigest()[:8]
        assert made == [f"booking.manager.kotaico.de/analytics-202611250800-{whole}"]

    def test_a_dry_run_stores_nothing(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        said = ada.says("book", "analytics", "--duration", "1h", "--dry-run")
        assert said == [
            f"booking.manager.kotaico.de/analytics-202611241303-{ADA} created (server dry run)",
            "  Tue 24 Nov 14:03–15:03 CET (Europe/Berlin), 1h, from now on",
        ]
        assert ada.says("list") == [
            f"No bookings found in namespace {ada.namespace}. Use -A to see all namespaces."
        ]

    def test_recipients_and_users_are_passed_on(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        arguments = ("--who", "grace", "--notify", "g@example.com", "--notify", "slack:team", "-o", "yaml")
        made = ada.run("book", "analytics", "--duration", "1h", *arguments)
        spec = yaml.safe_load(made.stdout)["spec"]
        assert spec["user_id"] == "grace"
        assert spec["notifications"] == [
            {"type": "email", "recipient": "g@example.com", "when": ["Ending"]},  # the default
            {"type": "slack", "recipient": "team", "when": ["Ending"]},
        ]

    def test_recipients_choose_what_they_are_notified_of(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        command = ("book", "analytics", "--duration", "1h", "--notify-on", "ready", "--notify-on", "Ended")
        assert ada.says(*command, code=2) == [
            "error: --notify-on needs --notify",
            "hint: add --notify ada@example.com",
        ]
        made = ada.run(*command, "--notify", "g@example.com", "-o", "yaml")
        assert yaml.safe_load(made.stdout)["spec"]["notifications"] == [
            {"type": "email", "recipient": "g@example.com", "when": ["Ready", "Ended"]}
        ]

    def test_a_conflict_is_refused_with_the_next_free_time(self, ada: Person) -> None:
        times = accepted("analytics", "09:00", "18:00")
        taken = booking_body("office", "analytics", "grace", "09:00", "18:00", **times)
        ada.apply(resource_body("analytics", "RUNNING", 2, 2, spec={"sharing": "Exclusive"}), taken)
        conflict = "conflict: grace has analytics 09:00–18:00 (office); 4h are next free today 18:00"
        again = "kubectl booking book analytics --from 2026-11-24T18:00 --duration 4h"
        command = ("book", "analytics", "--from", "15:00", "--duration", "4h")
        assert ada.says(*command, code=1) == [
            f"error: {conflict}",
            f"hint: {again}, or add --queue to wait for your time",
        ]
        said = ada.says(*command, "--queue")
        assert said[0] == f"booking.manager.kotaico.de/analytics-202611241400-{ADA} created"
        assert said[2:] == [f"  {conflict}"]
        assert ada.says("extend", "office", "--until", "19:00", "--who", "grace")[0].startswith(
            "office extended"
        )

    def test_a_booking_that_is_too_long_is_refused(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2, spec={"max_duration": "8h"}))
        assert ada.says("book", "analytics", "--duration", "9h", code=7) == [
            "error: a booking of analytics takes at most 8h",
            "hint: use --duration 8h or less",
        ]
        ada.says("book", "analytics", "--duration", "8h")
        assert ada.says("extend", "analytics", "1h", code=7) == [
            "error: a booking of analytics takes at most 8h",
            "hint: choose an earlier end; the booking stays as it is",
        ]

    def test_a_suspended_resource_gets_a_note(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2, spec={"suspend": True}))
        assert ada.says("book", "analytics", "--duration", "1h")[-1] == (
            "  note: analytics is suspended, so nothing starts while spec.suspend is true"
        )

    @pytest.mark.parametrize(
        ("arguments", "lines"),
        [
            (
                ("--to", "17.00"),
                [
                    'error: --to "17.00" is not a time',
                    'hint: write 17:00, "fri 17:00", 2026-11-27T17:00 or +4h',
                ],
            ),
            ((), ["error: the end is missing", "hint: kubectl booking book analytics --duration 2h"]),
            (
                ("--to", "17:00", "--duration", "1h"),
                [
                    "error: --to and --duration exclude each other",
                    "hint: kubectl booking book analytics --duration 2h",
                ],
            ),
            (
                ("--from", "17:00", "--to", "2026-11-24 16:00"),
                ['error: --to "2026-11-24 16:00" is not after the start', "hint: write --duration 2h"],
            ),
            (
                ("--from", "today 9:00", "--to", "10:00"),
                ["error: the booking would end in the past", "hint: leave out --from to begin now"],
            ),
            (
                ("--duration", "4"),
                ['error: --duration "4" is not a duration', "hint: write 4h, 4m, 90m or 1h30m"],
            ),
            (
                ("--to", "+1h", "--tz", "Europe/Berln"),
                [
                    'error: --tz: "Europe/Berln" is not a time zone',
                    "hint: use an IANA name: --tz Europe/Berlin",
                ],
            ),
            (("--to", "+1h", "--colour"), ["error: No such option '--colour'. Did you mean '--color'?"]),
        ],
    )
    def test_wrong_usage_has_a_hint(self, ada: Person, arguments: tuple[str, ...], lines: list[str]) -> None:
        said = ada.says("book", "analytics", *arguments, code=2)
        assert said[: len(lines)] == lines

    def test_an_unknown_resource_has_the_closest_names(self, ada: Person) -> None:
        ada.apply(resource_body("analytics"), resource_body("reporting"))
        assert ada.says("book", "analytic", "--duration", "1h", code=3) == [
            f"error: there is no resource analytic in namespace {ada.namespace}",
            "hint: did you mean analytics?",
        ]


class TestExtendAndRelease:
    """`kubectl booking extend` and `release`."""

    def test_the_own_booking_is_extended(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon())
        assert ada.says("extend", "analytics", "1h") == [
            "my-afternoon extended: ends 18:00 instead of 17:00 CET (in 3h57m)"
        ]
        assert ada.get("booking", "my-afternoon")["spec"]["end_at"] == "2026-11-24T18:00:00+01:00"
        assert ada.says("extend", "my-afternoon", "--until", "tomorrow 9:00", "--dry-run") == [
            "my-afternoon extended: ends tomorrow 09:00 instead of 18:00 CET (in 18h57m) (server dry run)"
        ]

    def test_a_shorter_end_is_no_extension(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon())
        assert ada.says("extend", "analytics", "--until", "today 16:00", code=2) == [
            "error: the new end is not after the present end of my-afternoon, which is today 17:00",
            "hint: to end it now: kubectl booking release my-afternoon",
        ]

    def test_the_booking_of_another_user_is_named(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon(user="grace"))
        assert ada.says("extend", "analytics", "1h", code=3) == [
            "error: ada has no booking of analytics that has not ended",
            "hint: name the booking of grace: kubectl booking extend my-afternoon",
        ]

    def test_a_booking_that_has_ended_is_not_extended(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon(end="14:00"))
        assert ada.says("extend", "my-afternoon", "1h", code=7) == [
            "error: booking my-afternoon ended today 14:00",
            "hint: kubectl booking book analytics --duration 1h",
        ]

    def test_gitops_gets_a_second_booking_offered(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon())
        ada.label("booking", "my-afternoon", "argocd.argoproj.io/instance", "team-a")
        assert ada.says("extend", "analytics", "1h")[1] == (
            "warning: Argo CD applies this booking and may revert the change; to book the time separately: "
            "kubectl booking book analytics --from 2026-11-24T17:00 --to 2026-11-24T18:00"
        )

    def test_release_ends_it_now(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon(end="18:00"))
        assert ada.says("release", "analytics") == [
            "my-afternoon released at 14:03 instead of 18:00 CET; 2 instances stop now"
        ]
        assert ada.get("booking", "my-afternoon")["spec"]["end_at"] == "2026-11-24T14:03:00+01:00"

    def test_release_names_the_booking_for_which_the_instances_run_on(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon(), office("09:00", "18:00"))
        assert ada.says("release", "analytics") == [
            "my-afternoon released at 14:03 instead of 17:00 CET; the instances run for grace until 18:00"
        ]

    def test_a_booking_that_has_not_begun_is_deleted(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2), office())
        assert ada.says("release", "office-202611250800") == [
            "office-202611250800 deleted: it would have begun tomorrow 09:00"
        ]
        assert ada.says("release", "office-202611250800", code=3)[0] == (
            f"error: there is no resource and no booking office-202611250800 in namespace {ada.namespace}"
        )


class TestTargets:
    """The names that commands accept."""

    def test_the_name_that_book_prints_is_accepted(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        [name] = ada.says("book", "analytics", "--duration", "1h", "-o", "name")
        assert " released at 14:03 " in ada.says("release", name)[0]

    def test_a_second_booking_in_the_minute_of_a_release_gets_another_name(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        first = ada.says("book", "analytics", "--duration", "4h", "-o", "name")
        ada.says("release", "analytics")
        again = ada.says("book", "analytics", "--duration", "1h", "-o", "name", now="2026-11-24T13:03:40Z")
        assert first != again

    def test_a_name_of_both_kinds_is_refused(self, ada: Person) -> None:
        ada.apply(resource_body("analytics"), booking_body("analytics", "db", "ada", "13:00", "17:00"))
        for command in ("why", "release"):
            assert ada.says(command, "analytics", code=2) == [
                'error: "analytics" is a resource and a booking',
                "hint: write resource/analytics or booking/analytics",
            ]
        assert ada.says("why", "bk/analytics")[0].startswith("booking analytics: active since 13:00")

    @pytest.mark.parametrize("name", ["", "..", "booking/", "pod/web", "A B"])
    def test_a_wrong_name_is_refused_before_a_request(self, name: str, ada: Person) -> None:
        said = ada.says("release", name, code=2, KUBECONFIG="/nowhere")[0]
        assert said in {
            f'error: "{name}" is not the name of an object',
            'error: "pod" is not a type of this command',
        }

    def test_programs_get_the_changed_object(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon())
        extended = json.loads(ada.run("extend", "analytics", "1h", "-o", "json").stdout)
        assert extended["spec"]["end_at"] == "2026-11-24T18:00:00+01:00"
        assert ada.says("release", "analytics", "-o", "name") == ["booking.manager.kotaico.de/my-afternoon"]

    def test_a_booking_of_a_scheduler_is_left_to_skip(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2), TestSkip().scheduler(), office())
        ada.own("booking", "office-202611250800", ada.get("bookingscheduler", "office"))
        assert ada.says("release", "office-202611250800", code=7) == [
            "error: the scheduler office made office-202611250800, and would make it again",
            "hint: kubectl booking skip office 2026-11-25",
        ]

    def test_the_booking_of_another_user_is_not_yours(self, ada: Person) -> None:
        ada.apply(
            resource_body("analytics", "STOPPED", 0, 2),
            booking_body("early", "analytics", "grace", "25 08:00", "25 18:00"),
        )
        said = ada.says("book", "analytics", "--from", "wed 9:00", "--duration", "1h", "--who", "grace")
        assert said[-1] == (
            "  overlaps early (grace, 08:00–18:00): grace keeps the lock, the instances run for both"
        )

    def test_options_may_stand_before_the_command(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        elsewhere = ada.says("-n", "nowhere", "--as", "ada", "status", code=4)
        assert elsewhere[0] == "error: you may not list resources in namespace nowhere"
        assert ada.says("-n", "nowhere", "status", "-n", ada.namespace, "-o", "name") == [
            "resource.manager.kotaico.de/analytics"
        ]

    def test_the_namespace_of_the_context_counts_in_a_pod_too(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        assert ada.says("status", POD_NAMESPACE="workspace")[-1] == footer(ada)

    def test_hints_reach_the_same_cluster(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        said = ada.says("why", "analytics", "-n", ada.namespace, "--context", "prod-eu")
        assert said[-1] == "  do       kubectl booking book analytics --duration 2h --context prod-eu"
        command = json.loads(ada.run("why", "analytics", "-o", "json").stdout)["do"]
        assert command == ["kubectl booking book analytics --duration 2h --as ada"]


class TestSkip:
    """`kubectl booking skip`."""

    def scheduler(self) -> dict[str, Any]:
        template = {"resource_name": "analytics", "user_id": "grace"}
        spec = {"schedule": "0 9 * * MON-FRI", "time_zone": "Europe/Berlin", "duration": 540}
        return {
            "apiVersion": "manager.kotaico.de/v1",
            "kind": "BookingScheduler",
            "metadata": {"name": "office"},
            "spec": spec | {"bookingTemplate": template},
        }

    def test_the_day_is_left_out(self, ada: Person) -> None:
        ada.apply(self.scheduler())
        assert ada.says("skip", "office", "wed") == [
            "office skips Wed 25 Nov: no booking begins on that day in Europe/Berlin"
        ]
        assert ada.says("skip", "office", "2026-12-24")[0].startswith("office skips Thu 24 Dec")
        assert ada.get("bookingscheduler", "office")["spec"]["except_dates"] == ["2026-11-25", "2026-12-24"]
        assert ada.says("skip", "office", "tomorrow") == ["office already skips Wed 25 Nov"]

    def test_a_booking_that_has_begun_is_named(self, ada: Person) -> None:
        ada.apply(self.scheduler())
        assert ada.says("skip", "office", "today")[1] == (
            "hint: the booking of that day has begun; to end it: kubectl booking release office-202611240800"
        )

    def test_a_day_without_a_booking_is_refused(self, ada: Person) -> None:
        ada.apply(self.scheduler())
        assert ada.says("skip", "office", "sat", code=7) == [
            "error: office makes no booking on Sat 28 Nov in Europe/Berlin",
            "hint: the next one after that day begins Mon 30 Nov 09:00",
        ]

    def test_a_day_that_is_over_is_refused(self, ada: Person) -> None:
        ada.apply(self.scheduler())
        assert ada.says("skip", "office", "2026-11-23", code=2) == [
            "error: Mon 23 Nov is over in Europe/Berlin",
            "hint: name a later day",
        ]

    def test_a_wrong_day_is_refused(self, ada: Person) -> None:
        assert ada.says("skip", "office", "24.12.", code=2) == [
            'error: DAY "24.12." is not a day',
            "hint: write tomorrow, fri or 2026-12-01",
        ]


def three_resources() -> list[dict[str, Any]]:
    no_room = condition("Synced", "False", "InsufficientDBInstanceCapacity", "No room.")
    return [
        resource_body("analytics", "RUNNING", 2, 2),
        resource_body("reporting", "STOPPED", 0, 1, spec={"warm_up": "5m"}),
        resource_body("db", "STOPPED", 0, 1, [no_room], spec={"type": "rds"}),
        booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00"),
        booking_body("office", "analytics", "grace", "14:00", "18:00"),
        booking_body("report", "reporting", "grace", "25 09:00", "25 10:00"),
        booking_body("db-day", "db", "grace", "09:00", "16:00"),
    ]


class TestStatusAndList:
    """`kubectl booking status` and `list`."""

    def test_status_shows_who_has_what_until_when(self, ada: Person) -> None:
        ada.apply(*three_resources())
        assert ada.says("status") == [
            "RESOURCE    STATE         BOOKED BY   UNTIL         NEXT CHANGE             NOTE",
            "analytics   RUNNING 2/2   ada (+1)    today 17:00   stops today 18:00",
            (
                "db          STOPPED 0/1   grace       today 16:00   -                       "
                "InsufficientDBInstanceCapacity"
            ),
            "reporting   STOPPED 0/1   -           -             starts tomorrow 08:55",
            footer(ada),
        ]

    def test_status_has_formats_for_programs(self, ada: Person) -> None:
        ada.apply(*three_resources())
        records = json.loads(ada.run("status", "-o", "json").stdout)
        assert records[0] == {
            "namespace": ada.namespace,
            "name": "analytics",
            "type": "ec2",
            "tag": "analytics",
            "state": "RUNNING",
            "running": 2,
            "instances": 2,
            "booked_by": "ada",
            "booking": "my-afternoon",
            "other_bookings": 1,
            "booked_until": "2026-11-24T16:00:00Z",
            "next_change": "stop",
            "next_change_at": "2026-11-24T17:00:00Z",
            "as_booked": True,
            "note": None,
        }
        assert yaml.safe_load(ada.run("status", "-o", "yaml").stdout) == records
        assert ada.says("status", "-o", "name") == [
            f"resource.manager.kotaico.de/{name}" for name in ("analytics", "db", "reporting")
        ]
        table = ada.says("status", "-o", "csv")
        assert table[0].startswith("namespace,name,type,tag,state,running")
        assert len(table) == 4
        assert ada.says("status", "reporting", "-q", "-o", "wide")[0].endswith("TYPE   TAG")

    def test_colour_is_an_addition(self, ada: Person) -> None:
        ada.apply(*three_resources())
        plain = ada.run("status").stdout
        colored = ada.run("status", "--color", "always").stdout
        assert "\x1b[32mRUNNING 2/2\x1b[0m" in colored
        assert "\x1b[" not in ada.run("status", NO_COLOR="1").stdout
        for code in ("32", "31", "2", "0"):
            colored = colored.replace(f"\x1b[{code}m", "")
        assert colored == plain

    def test_list_shows_what_has_not_ended(self, ada: Person) -> None:
        ada.apply(*three_resources(), booking_body("over", "analytics", "ada", "09:00", "10:00"))
        assert ada.says("list") == [
            "BOOKING        RESOURCE    USER    FROM             TO               STATE         NOTE",
            "db-day         db          grace   today 09:00      today 16:00      IN PROGRESS",
            "my-afternoon   analytics   ada     today 13:00      today 17:00      IN PROGRESS",
            "office         analytics   grace   today 14:00      today 18:00      IN PROGRESS",
            "report         reporting   grace   tomorrow 09:00   tomorrow 10:00   SCHEDULED",
            footer(ada),
        ]

        def names(*options: str) -> list[str]:
            return [line.rpartition("/")[2] for line in ada.says("list", *options, "-o", "name")]

        assert names("--mine") == ["my-afternoon"]
        assert names("--mine", "--all") == ["over", "my-afternoon"]
        assert names("analytics") == ["my-afternoon", "office"]
        assert names("--from", "tomorrow 0:00") == ["report"]
        assert names("--from", "today 9:30", "--to", "13:30") == ["db-day", "over", "my-afternoon"]

    def test_control_characters_are_visible(self, ada: Person) -> None:
        ada.apply(
            resource_body("analytics", "RUNNING", 2, 2),
            booking_body("odd", "analytics", "\x1b[2Jada\u202e", "13:00", "17:00"),
        )
        assert "\\x1b[2Jada\\u202e" in "".join(ada.says("list"))

    def test_all_namespaces_are_searched_for_a_name(self, person: Callable[..., Person]) -> None:
        auditor = person("auditor", "view")
        auditor.apply(resource_body("analytics", "STOPPED", 0, 2), resource_body("db"))
        auditor.see_all_namespaces()
        rows = [line.split() for line in auditor.says("status", "-A", "analytics", "-q")]
        assert rows[0][:2] == ["NAMESPACE", "RESOURCE"]
        assert [auditor.namespace, "analytics"] in [row[:2] for row in rows]
        assert all(row[1] == "analytics" for row in rows[1:])

    def test_a_suspended_resource_is_not_announced_to_start(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2, spec={"suspend": True}), office())
        assert ada.says("status", "-q")[1].split()[-2:] == ["-", "Suspended"]
        assert "  next     nothing starts or stops while spec.suspend is true" in ada.says("why", "analytics")

    def test_an_unknown_resource_is_reported(self, ada: Person) -> None:
        ada.apply(resource_body("analytics"))
        for command in ("list", "ical", "status", "timeline"):
            assert ada.says(command, "analytcs", code=3)[1] == "hint: did you mean analytics?"

    def test_an_empty_namespace_says_so(self, ada: Person) -> None:
        assert ada.says("status") == [
            f"No resources found in namespace {ada.namespace}. Use -A to see all namespaces."
        ]


class TestWatch:
    """`kubectl booking list --watch`."""

    def test_each_change_is_a_row(self, ada: Person) -> None:
        ada.apply(afternoon())
        watching = ada.start("list", "--watch")
        assert watching.stdout is not None
        line = watching.stdout.readline
        assert line().startswith("BOOKING ")
        assert line().split()[-2:] == ["IN", "PROGRESS"]
        ada.apply(office())
        assert line().split()[0] == "office-202611250800"
        ada.apply(afternoon(end="14:00"))
        assert line().split() == [
            "my-afternoon",
            "analytics",
            "ada",
            "today",
            "13:00",
            "today",
            "14:00",
            "FINISHED",
        ]
        ada.delete("booking", "office-202611250800")
        assert line().split()[-1] == "DELETED"
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=10)
        assert watching.returncode == 130

    def test_a_format_of_whole_documents_is_refused(self, ada: Person) -> None:
        assert ada.says("list", "--watch", "-o", "json", code=2) == [
            "error: --watch and -o json exclude each other",
            "hint: use -o table or -o name",
        ]


class TestWhy:
    """`kubectl booking why`."""

    def test_two_bookings_run(self, ada: Person) -> None:
        ada.apply(
            resource_body("analytics", "RUNNING", 2, 2),
            afternoon(),
            booking_body("office", "analytics", "grace", "09:00", "18:00"),
        )
        assert ada.says("why", "analytics") == [
            "analytics: RUNNING 2 of 2, as booked",
            "  because  office (grace) 09:00–18:00 holds the lock; your my-afternoon 13:00–17:00 runs too",
            "  next     18:00 stops; 17:00 changes nothing",
        ]

    def test_nobody_has_booked_it(self, ada: Person) -> None:
        ada.apply(
            resource_body("analytics", "STOPPED", 0, 2, spec={"warm_up": "2m"}),
            booking_body("morning", "analytics", "bob", "09:00", "12:00"),
            booking_body("office", "analytics", "grace", "25 09:00", "25 18:00"),
        )
        assert ada.says("why", "analytics", "--exit-status") == [
            "analytics: STOPPED 0 of 2, as booked",
            "  because  nobody has booked it; the last booking (bob) ended 12:00",
            "  next     tomorrow 08:58 starts for office (grace, 09:00, warm_up 2m)",
            "  do       kubectl booking book analytics --duration 2h",
        ]

    def test_no_capacity(self, ada: Person) -> None:
        synced = condition("Synced", "False", "InsufficientInstanceCapacity", CAPACITY, "13:00:01")
        ready = condition("Ready", "False", "Starting", "0 of 1 instances are running; all are booked.")
        ada.apply(resource_body("web", "STOPPED", 0, 1, [synced, ready]), afternoon("web"))
        assert ada.says("why", "web", "--exit-status", code=1)[:4] == [
            "web: STOPPED 0 of 1, NOT as booked",
            "  because  my-afternoon (you) is active since 13:00",
            f'  but      Synced=False/InsufficientInstanceCapacity since 13:00:01: "{CAPACITY}"',
            "  next     14:05:00 next try; ends 17:00",
        ]

    def test_a_booking_of_no_resource(self, ada: Person) -> None:
        text = (
            "The Resource 'analytic' does not exist in this namespace; create it, or correct resource_name."
        )
        missing = [condition("ResourceFound", "False", "ResourceNotFound", text)]
        ada.apply(
            resource_body("analytics", "STOPPED", 0, 2),
            booking_body("my-afternoon", "analytic", "ada", "13:00", "17:00", missing),
        )
        assert ada.says("why", "my-afternoon") == [
            "booking my-afternoon: active since 13:00, nothing runs for it",
            f'  because  "{text}" Did you mean analytics?',
            (
                """  do       kubectl patch booking my-afternoon --type merge -p '{"spec":"""
                """{"resource_name":"analytics"}}'"""
            ),
        ]

    def test_the_operator_is_silent(self, ada: Person) -> None:
        ada.apply(
            resource_body("analytics", "STOPPED", 0, 2, next_change_at="2026-11-24T12:00:00Z"), afternoon()
        )
        assert ada.says("why", "analytics") == [
            "analytics: last reported STOPPED 0 of 2; the operator is silent",
            "  because  status.next_change_at was 13:00:00, 63m ago, and nothing was reported since",
            "  do       ask an administrator to run: kubectl -n booking-operator-system get lease,pods",
        ]
        assert json.loads(ada.administered("why", "analytics", "-o", "json").stdout)["do"] == [
            "kubectl -n booking-operator-system get lease,pods"
        ]

    def test_a_command_that_the_user_may_not_run_names_the_role(self, ada: Person) -> None:
        suspended = condition("Ready", "False", "Suspended", "Would start i-1, but spec.suspend is true.")
        ada.apply(
            resource_body("analytics", "STOPPED", 0, 1, [suspended], spec={"suspend": True}), afternoon()
        )
        assert ada.says("why", "analytics")[-1] == (
            "  do       ask somebody with the role booking-operator-admin to run: kubectl patch resource "
            """analytics --type merge -p '{"spec":{"suspend":false}}'"""
        )

    def test_programs_get_the_chain(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        assert json.loads(ada.run("why", "resource/analytics", "-o", "json").stdout) == {
            "subject": "analytics",
            "state": "STOPPED 0 of 2, as booked",
            "as_booked": True,
            "because": ["nobody has booked it"],
            "but": [],
            "next": "nothing; no booking is coming",
            "do": ["kubectl booking book analytics --duration 2h --as ada"],
        }

    def test_an_unknown_name(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        assert ada.says("why", "analytcs", code=3) == [
            f"error: there is no resource and no booking analytcs in namespace {ada.namespace}",
            "hint: did you mean analytics?",
        ]


class TestWait:
    """`kubectl booking wait`."""

    def test_it_ends_when_all_instances_run(self, ada: Person) -> None:
        starting = condition("Ready", "False", "Starting", "1 of 2 instances are running; all are booked.")
        body = resource_body("analytics", "PENDING", 1, 2, [starting], start_seconds=[37, 41])
        ada.apply(body, booking_body("now", "analytics", "ada", "14:02:19", "17:00"))
        waiting = ada.start("wait", "analytics", "--timeout", "5m")
        assert waiting.stderr is not None
        lines = [waiting.stderr.readline(), waiting.stderr.readline()]
        assert lines[1] == "analytics: 1 of 2 run, 41s (past starts: 37–41s)\n"
        ada.apply(resource_body("analytics", "RUNNING", 2, 2))
        out, _ = waiting.communicate(timeout=20)
        assert waiting.returncode == 0
        assert out.startswith("analytics: 2 of 2 run, after ")

    def test_it_says_why_when_the_time_is_up(self, ada: Person) -> None:
        synced = condition("Synced", "False", "InsufficientInstanceCapacity", CAPACITY, "13:00:01")
        ada.apply(resource_body("web", "STOPPED", 0, 1, [synced]), afternoon("web"))
        said = ada.says("wait", "web", "--timeout", "1s", code=6)
        assert said[0] == "web: STOPPED 0 of 1, NOT as booked"
        assert "error: timed out after 1s: web: 0 of 1 run, 1h3m; InsufficientInstanceCapacity" in said

    def test_what_nobody_has_booked_never_runs(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2))
        said = ada.says("wait", "analytics", code=7)
        assert "error: nobody has booked analytics before the end of the timeout" in said
        assert "  do       kubectl booking book analytics --duration 2h" in said

    def test_ctrl_c_ends_it_at_once(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2), afternoon())
        waiting = ada.start("wait", "analytics")
        assert waiting.stderr is not None
        assert "BOOKING_NOW" in waiting.stderr.readline()
        assert "0 of 2 run" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=10)
        assert (waiting.returncode, out, err) == (130, "", "\n")


class TestOtherViews:
    """`timeline`, `plan`, `ical`, and completion."""

    def test_the_timeline_fits_the_terminal(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon(), office("09:00", "18:00"))
        range_ = ("--from", "today 0:00", "--to", "tomorrow 0:00")
        said = ada.says("timeline", *range_, "--ascii", COLUMNS="58")
        assert said == [
            "          Tue 24 Nov",
            "          00:00       06:00       12:00       18:00",
            "analytics                   [grace====|======]",
            "                                    [ada---]",
            "= holds the lock  - runs too  : warm-up  | now",
            footer(ada),
        ]
        pretty = ada.says("timeline", *range_, COLUMNS="58", LC_ALL="C.UTF-8")
        assert "┣grace━━━━│━━━━━━┫" in pretty[2]
        assert all(len(line) <= 40 for line in ada.says("timeline", COLUMNS="40", LC_ALL="C")[:-2])

    def test_the_plan_is_that_of_the_operator(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "STOPPED", 0, 2), office())
        said = ada.says("plan", "--region", "eu-central-1", "--to", "+2d")
        assert said[0] == "From 2026-11-24T13:03:00Z to 2026-11-26T13:03:00Z:"
        assert any(line.startswith("StartInstances") and "eu-central-1" in line for line in said)
        assert said[-1] == "All bookings start on time."
        found = json.loads(ada.run("plan", "-o", "json", "--to", "+2d").stdout)
        assert [call["call"] for call in found["calls"]] == ["StartInstances", "StopInstances"]

    def test_calendars_are_stable(self, ada: Person, tmp_path: Path) -> None:
        ada.apply(resource_body("analytics"), office(), afternoon(), afternoon_of_web())
        first = ada.run("ical", "analytics").stdout
        assert ada.run("ical", "analytics").stdout == first
        events = {str(event["summary"]): event for event in Calendar.from_ical(first).walk("VEVENT")}
        assert sorted(events) == ["analytics: ada", "analytics: grace"]
        before = events["analytics: ada"]
        uid = ada.get("booking", "my-afternoon")["metadata"]["uid"]
        assert str(before["uid"]) == f"{uid}@manager.kotaico.de"
        assert before["dtend"].to_ical() == b"20261124T160000Z"
        ada.says("extend", "my-afternoon", "1h")
        after = next(
            event
            for event in Calendar.from_ical(ada.run("ical", "--mine").stdout).walk("VEVENT")
            if event["uid"] == before["uid"]
        )
        assert str(after["sequence"]) > str(before["sequence"])
        assert after["dtend"].to_ical() == b"20261124T170000Z"
        files = ada.says("ical", "--output-dir", str(tmp_path / "calendars"))
        assert [Path(file).name for file in files] == [
            f"{ada.namespace}_{name}.ics" for name in ("analytics", "web")
        ]

    def test_a_calendar_feed_shows_its_secret_once(self, ada: Person) -> None:
        ada.apply(resource_body("analytics"))
        said = ada.says("feed", "analytics", "--board-url", "https://bookings.example.com/")
        [address, created, *more] = said
        secret = address.removeprefix("https://bookings.example.com/feeds/").removesuffix(".ics")
        assert len(secret) == 43
        name = created.removeprefix("calendarfeed.manager.kotaico.de/").removesuffix(" created")
        assert more == [
            f"  the bookings of analytics in {ada.namespace}, with their users, until Wed 24 Nov 2027 14:03",
            "It is secret and not shown again: everybody who has it sees these bookings.",
            f"To revoke it: kubectl delete calendarfeed {name}",
        ]
        spec = ada.get("calendarfeed", name)["spec"]
        assert secret not in json.dumps(spec)
        assert (spec["owner"], spec["detail"], spec["resource_name"]) == ("ada", "Full", "analytics")
        assert spec["token_sha256"] == hashlib.sha256(secret.encode()).hexdigest()
        assert spec["expires_at"] == "2027-11-24T13:03:00Z"

    def test_a_feed_of_the_own_bookings_for_programs(self, ada: Person) -> None:
        made = json.loads(ada.run("feed", "--mine", "--busy", "--expires", "never", "-o", "json").stdout)
        assert made["address"].startswith("/feeds/")
        spec = ada.get("calendarfeed", made["name"])["spec"]
        assert (spec["user_id"], spec["detail"], spec["expires_at"]) == ("ada", "Busy", "")
        said = ada.says("feed", "--mine")
        assert "Put the address of the board before it, such as https://bookings.example.com" in said

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            ((), 2, ["error: name a resource, or --mine", "hint: kubectl booking feed --mine"]),
            (
                ("analytics", "--mine"),
                2,
                ["error: name a resource, or --mine", "hint: kubectl booking feed --mine"],
            ),
            (
                ("--mine", "--expires", "2026-11-01 09:00"),
                2,
                ['error: --expires "2026-11-01 09:00" is in the past', "hint: write --expires +365d"],
            ),
        ],
    )
    def test_a_wrong_feed(self, ada: Person, arguments: tuple[str, ...], code: int, said: list[str]) -> None:
        assert ada.says("feed", *arguments, code=code) == said

    def test_a_feed_of_an_unknown_resource(self, ada: Person) -> None:
        ada.apply(resource_body("analytics"))
        said = ada.says("feed", "analytisc", code=3)
        assert said[1] == "hint: did you mean analytics?"

    def test_a_directory_that_cannot_be_written(self, ada: Person, tmp_path: Path) -> None:
        ada.apply(office())
        (tmp_path / "file").touch()
        assert ada.says("ical", "--output-dir", str(tmp_path / "file" / "x"), code=1) == [
            f"error: cannot write to {tmp_path}/file/x: Not a directory",
            "hint: name another directory with --output-dir",
        ]

    def test_kubectl_completes_commands_and_names(self, ada: Person, devcluster: Playground) -> None:
        ada.apply(resource_body("analytics"), resource_body("reporting"))
        ada.apply(booking_body("afternoon", "analytics", "ada", "13:00", "17:00"))
        kubectl = str(devcluster.kubectl.program)
        environ = ada.environ() | {"PATH": f"{SCRIPT.parent}:{Path(kubectl).parent}:/usr/bin:/bin"}

        def completed(*words: str) -> list[str]:
            command = [kubectl, "__complete", "booking", *words]
            done = subprocess.run(
                command, env=environ, capture_output=True, text=True, timeout=60, check=True
            )
            return done.stdout.splitlines()

        assert completed("rel") == ["release\tEnd a booking now.", ":4"]
        assert completed("book", "") == ["analytics", "reporting", ":4"]
        assert completed("why", "a") == ["analytics", "afternoon", ":4"]

    def test_kubectl_runs_the_plugin(self, ada: Person, devcluster: Playground) -> None:
        kubectl = str(devcluster.kubectl.program)
        environ = ada.environ() | {"PATH": f"{SCRIPT.parent}:/usr/bin:/bin"}
        done = subprocess.run(
            [kubectl, "booking", "when", "fri 18:00"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout == "means Fri 27 Nov 2026 18:00 CET · utc 2026-11-27T17:00:00Z · in 3d3h57m\n"


class TestReport:
    """`kubectl booking report`."""

    ANALYTICS = usage_body(
        "analytics",
        {"t3.large": (1130, 319, 312, 4, 0, 2)},
        {("ada", "t3.large"): 200, ("grace", "t3.large"): 115},
    )
    DATABASE = usage_body("db", {"db.r6g.large": (565, 191, 180, 11, 3, 2)}, {("ada", "db.r6g.large"): 180})
    NOTE = "Hours, not money. Disks, snapshots and commitments cost the same whether an instance runs or not."

    def test_the_month_so_far(self, ada: Person) -> None:
        ada.apply(self.ANALYTICS, self.DATABASE)
        said = ada.says("report", "--month", "2026-11")
        assert said == [
            "November 2026 until 24 Nov 14:03 CET (months are UTC). Baseline: always on.",
            "RESOURCE    CAPACITY   BOOKED   RUNNING   UNBOOKED   MISSING   UNOBSERVED   SAVED",
            "analytics   1130h      312h     319h      4h         0h        2h           809h (72%)",
            "db          565h       180h     191h      11h        3h        2h           372h (66%)",
            "TOTAL       1695h      492h     510h      15h        3h        4h           1181h (70%)",
            self.NOTE,
        ]
        assert ada.says("report") == said

    def test_users_and_namespaces(self, ada: Person) -> None:
        ada.apply(self.ANALYTICS, self.DATABASE)
        assert ada.says("report", "--by", "who")[1:-1] == [
            "WHO          RUNNING",
            "(unbooked)   15h",
            "ada          380h",
            "grace        115h",
            "TOTAL        510h",
        ]
        assert ada.says("report", "--by", "namespace")[2].split()[:2] == [ada.namespace, "1695h"]

    def test_all_namespaces(self, ada: Person, person: Callable[..., Person]) -> None:
        ada.apply(self.ANALYTICS)
        root = person("root")
        root.see_all_namespaces()
        said = root.says("report", "-A")
        assert said[1].split()[:2] == ["NAMESPACE", "RESOURCE"]
        assert any(line.split()[:3] == [ada.namespace, "analytics", "1130h"] for line in said)

    def test_list_prices(self, ada: Person, tmp_path: Path) -> None:
        ada.apply(self.ANALYTICS, self.DATABASE)
        prices = tmp_path / "prices.yaml"
        prices.write_text("t3.large: 0.0832\n")
        said = ada.says("report", "--prices", str(prices))
        assert [line.split()[-1] for line in said[2:5]] == ["26.54", "0.00", "26.54"]
        assert said[1].endswith("LIST PRICE")
        assert said[5:] == [
            "List prices of the running time, without disks, snapshots, commitments and taxes.",
            "warning: no price for db.r6g.large; these count as zero",
        ]
        ada.says("report", "--by", "who", "--prices", str(prices))

    def test_programs_get_seconds(self, ada: Person, tmp_path: Path) -> None:
        ada.apply(self.ANALYTICS)
        assert json.loads(ada.run("report", "-o", "json").stdout) == [
            {
                "name": "analytics",
                "namespace": ada.namespace,
                "capacity_seconds": 1130 * 3600,
                "running_seconds": 319 * 3600,
                "booked_seconds": 312 * 3600,
                "unbooked_seconds": 4 * 3600,
                "missing_seconds": 0,
                "unobserved_seconds": 2 * 3600,
                "saved_seconds": 809 * 3600,
                "until": "2026-11-24T13:03:00Z",
            }
        ]
        prices = tmp_path / "prices.yaml"
        prices.write_text("t3.large: 0.0832\n")
        done = ada.run("report", "--by", "who", "-o", "csv", "--prices", str(prices))
        assert done.stdout.splitlines() == [
            "name,namespace,running_seconds,list_price,until",
            "(unbooked),,14400,0.33,2026-11-24T13:03:00Z",
            "ada,,720000,16.64,2026-11-24T13:03:00Z",
            "grace,,414000,9.57,2026-11-24T13:03:00Z",
        ]

    def test_a_user_cannot_put_a_formula_into_a_spreadsheet(self, ada: Person) -> None:
        ada.apply(usage_body("x", {"s": (1, 1, 1, 0, 0, 0)}, {("=cmd|' /C calc'!A0", "s"): 1}))
        assert "\n'=cmd|" in ada.run("report", "--by", "who", "-o", "csv").stdout

    def test_a_month_without_usage(self, ada: Person) -> None:
        assert ada.says("report", "--month", "2026-10") == [
            f"No usage is recorded for October 2026 in namespace {ada.namespace}."
        ]
        assert json.loads(ada.run("report", "-o", "json").stdout) == []

    @pytest.mark.parametrize(
        ("month", "error"),
        [("november", '--month "november" is not a month'), ("2026-12", '--month "2026-12" has not begun')],
    )
    def test_a_wrong_month(self, ada: Person, month: str, error: str) -> None:
        said = ada.says("report", "--month", month, code=2)
        assert said == [f"error: {error}", "hint: write 2026-11"]

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            (None, "No such file or directory"),
            ("- t3.large", "has no rates"),
            ("t3.large: cheap", 'the rate of t3.large, "cheap", is not a number'),
            ("t3.large: -1", 'the rate of t3.large, "-1", is not zero or more'),
            ("t3.large: .nan", 'the rate of t3.large, "nan", is not zero or more'),
            ("a: b: c", "mapping values are not allowed here"),
        ],
    )
    def test_wrong_prices(self, ada: Person, tmp_path: Path, text: str | None, error: str) -> None:
        prices = tmp_path / "prices.yaml"
        if text is not None:
            prices.write_text(text)
        said = ada.says("report", "--prices", str(prices), code=2)
        assert said[0].startswith(f"error: --prices {prices}")
        assert error in " ".join(said)
        assert said[-1] == "hint: write a YAML file like `t3.large: 0.0832`, one line for each size"

    def test_without_permission(self, person: Callable[..., Person]) -> None:
        said = person("eve").says("report", code=4)
        assert "usages" in said[0]
        assert "booking-operator-view" in said[1]


def afternoon_of_web() -> dict[str, Any]:
    return booking_body("web-afternoon", "web", "bob", "13:00", "17:00")


async def test_a_day_with_the_operator_and_without_yaml(
    ada: Person, tenant: Tenant, operator: Operator
) -> None:
    """The way of a new user: book, wait, find out why another group does not run, extend, release."""

    async def says(*arguments: str, code: int = 0) -> list[str]:
        return await asyncio.to_thread(partial(ada.says, *arguments, code=code, now=""))

    tenant.resource("analytics")
    tenant.resource("ghost", tag=f"{tenant.tag}-ghost")
    async with operator():
        await until(lambda: tenant.status("resource", "analytics").get("status") == "STOPPED")
        await until(lambda: tenant.condition("resource", "ghost", "Found") == ("False", "NoInstances"))
        booked = await says("book", "analytics", "--duration", "1h", "--wait", "--timeout", "30s")
        assert booked[0].endswith(" created")
        assert any(line.startswith("analytics: 2 of 2 run, after ") for line in booked)
        assert tenant.states() == ["running", "running"]
        assert (await says("why", "analytics", "--exit-status"))[0] == "analytics: RUNNING 2 of 2, as booked"
        ghost = await says("why", "ghost", "--exit-status", code=1)
        assert ghost[0] == "ghost: STOPPED 0 of 0, NOT as booked"
        assert ghost[2].startswith("  but      Found=False/NoInstances since ")
        assert "extended: ends " in (await says("extend", "analytics", "1h"))[0]
        assert (await says("release", "analytics"))[0].endswith("; 2 instances stop now")
        await until(lambda: tenant.states() == ["stopped", "stopped"])
        await until(lambda: tenant.status("resource", "analytics").get("status") == "STOPPED")
        assert (await says("why", "analytics"))[0] == "analytics: STOPPED 0 of 2, as booked"


class TestTrouble:
    """Missing permissions, a missing cluster, and other trouble."""

    def test_a_missing_permission_names_the_role(self, person: Callable[..., Person]) -> None:
        guest = person("guest", "view")
        guest.apply(resource_body("analytics", "STOPPED", 0, 2))
        assert guest.says("book", "analytics", "--duration", "1h", code=4) == [
            f"error: you may not create bookings in namespace {guest.namespace}",
            "hint: ask an administrator for the role booking-operator-edit there",
        ]

    def test_a_forbidden_namespace_names_the_role(self, person: Callable[..., Person]) -> None:
        stranger = person("stranger")
        assert stranger.says("status", code=4) == [
            f"error: you may not list resources in namespace {stranger.namespace}",
            "hint: ask an administrator for the role booking-operator-view there",
        ]
        assert stranger.says("status", "-A", code=4) == [
            "error: you may not list resources in all namespaces",
            (
                "hint: ask an administrator for the role booking-operator-view there, "
                "or name a namespace with -n"
            ),
        ]

    def test_no_kubeconfig(self, ada: Person, tmp_path: Path) -> None:
        nowhere = str(tmp_path / "nowhere")
        said = ada.says("status", code=1, KUBECONFIG=nowhere)
        assert said == [f"error: kubeconfig {nowhere} does not exist; check --kubeconfig and KUBECONFIG"]

    def test_an_unknown_context(self, ada: Person) -> None:
        said = ada.says("status", "--context", "prod-us", code=1)
        assert "prod-us" in said[0]

    def test_no_api_server(self, ada: Person) -> None:
        config = yaml.safe_load(ada.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
        ada.kubeconfig.write_text(yaml.safe_dump(config))
        said = ada.says("status", code=1)
        assert said[0].startswith("error: the request to the API server failed: ")
        assert said[1] == "hint: check the address in the kubeconfig and the network: kubectl cluster-info"

    def test_expired_credentials(self, ada: Person) -> None:
        config = yaml.safe_load(ada.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": "expired"}
        ada.kubeconfig.write_text(yaml.safe_dump(config))
        said = ada.says("status", code=1)
        assert said[0].startswith("error: the API server does not accept the credentials of the kubeconfig")
        assert said[1] == "hint: log in to the cluster again, as for other kubectl commands"

    async def test_a_booking_that_has_changed_meanwhile(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon())
        async with Cluster.connect(
            ClusterConfig(str(ada.kubeconfig)), SystemClock(), Impersonation("ada")
        ) as cluster:
            read = await cluster.get(BOOKING, ada.namespace, "my-afternoon")
            assert read is not None
            assert isinstance(read.spec, BookingSpec)
            ada.apply(afternoon(end="16:30"))
            operations = [
                {"op": "test", "path": "/spec/end_at", "value": read.spec.end_at},
                {"op": "replace", "path": "/spec/end_at", "value": "2026-11-24T18:00:00+01:00"},
            ]
            with pytest.raises(CommandError, match="has changed since it was read") as changed:
                await cluster.patch(BOOKING, ada.namespace, "my-afternoon", operations)
            assert changed.value.code is ExitCode.CHANGED
            with pytest.raises(CommandError, match="has changed since it was read"):
                await cluster.delete(BOOKING, read)
        assert ada.get("booking", "my-afternoon")["spec"]["end_at"] == "2026-11-24T16:30:00+01:00"

    async def test_an_end_that_the_cluster_refuses_is_no_change_by_others(self, ada: Person) -> None:
        ada.apply(resource_body("analytics", "RUNNING", 2, 2), afternoon())
        async with Cluster.connect(
            ClusterConfig(str(ada.kubeconfig)), SystemClock(), Impersonation("ada")
        ) as cluster:
            operations = [
                {"op": "test", "path": "/spec/end_at", "value": "2026-11-24T17:00:00+01:00"},
                {"op": "replace", "path": "/spec/end_at", "value": "2026-11-24T09:00:00+01:00"},
            ]
            with pytest.raises(CommandError, match="end_at must be later than start_at"):
                await cluster.patch(BOOKING, ada.namespace, "my-afternoon", operations)

    def test_a_closed_output_is_no_error(self, ada: Person) -> None:
        for shell in (f"{SCRIPT} when now >&-", f"{SCRIPT} --help | true; exit ${{PIPESTATUS[0]}}"):
            done = subprocess.run(
                ["bash", "-c", shell],
                env=ada.environ(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode in {0, 141}
            assert "Traceback" not in done.stderr

    def test_a_closed_pipe_ends_it_quietly(self, ada: Person) -> None:
        ada.apply(*three_resources())
        piped = f"{' '.join(ada.command('list', '-o', 'name'))} | true; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", piped], env=ada.environ(), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout in {"141\n", "0\n"}
        assert "Broken" not in done.stderr
        assert "Exception" not in done.stderr
