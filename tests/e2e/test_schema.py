"""The CRDs on a real API server: accepted and refused values, error messages, and columns."""

import copy
import json
from typing import Any

import pytest

from booking_operator.api.kinds import KINDS
from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import Tenant, manifest

BOOKING = {
    "resource_name": "analytics",
    "start_at": "2023-01-01T20:00:00Z",
    "end_at": "2023-01-01T23:50:00Z",
    "user_id": "cd39ad8bc3",
}
RESOURCE = {"booked_by": "", "booked_until": "", "type": "ec2", "tag": "analytics"}
NIGHTLY = {
    "schedule": "0 22 * * *",
    "end_schedule": "0 6 * * *",
    "bookingTemplate": {"resource_name": "analytics", "user_id": "cd39ad8bc3"},
}
RFC3339 = "must be an RFC 3339 date with an offset, like 2026-01-31T20:00:00Z"


def attempt(devcluster: Playground, kind: str, spec: dict[str, Any], name: str = "probe") -> str:
    """The error of the API server for a manifest; empty if it accepts the manifest."""
    stdin = json.dumps(manifest(kind, name, spec))
    answer = devcluster.kubectl.attempt("apply", "--dry-run=server", "-f", "-", stdin=stdin)
    return "" if answer.returncode == 0 else answer.stderr


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"start_at": "2023-01-01T21:00:00+01:00"},
        {"start_at": "2024-02-29T00:00:00.123456Z", "end_at": "2024-03-01T00:00:00-23:59"},
        {"notifications": [{"type": "email", "recipient": "ada@example.com"}]},
        {"end_at": "2999-12-31T23:59:59Z"},
        {"notifications": [{"type": "email", "recipient": "a", "when": ["Ending", "NotReady", "Conflict"]}]},
    ],
)
def test_valid_bookings_are_accepted(devcluster: Playground, change: dict[str, Any]) -> None:
    assert attempt(devcluster, "Booking", BOOKING | change) == ""


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"start_at": "tomorrow"}, "spec.start_at", RFC3339),
        ({"start_at": "2023-01-01 20:00:00"}, "spec.start_at", RFC3339),
        ({"start_at": "2023-02-29T20:00:00Z"}, "spec.start_at", RFC3339),
        ({"end_at": "2023-13-01T20:00:00Z"}, "spec.end_at", RFC3339),
        ({"end_at": ""}, "spec.end_at", RFC3339),
        ({"end_at": "2023-01-01T20:00:00Z"}, "spec.end_at", "end_at must be later than start_at"),
        ({"end_at": "2023-01-01T20:30:00+01:00"}, "spec.end_at", "end_at must be later than start_at"),
        ({"resource_name": ""}, "spec.resource_name", "at least 1 char"),
        ({"user_id": ""}, "spec.user_id", "at least 1 char"),
        ({"user_id": None}, "spec.user_id", "Required value"),
        ({"start_at": None}, "spec.start_at", "Required value"),
        ({"notifications": [{"type": "email"}]}, "spec.notifications[0].recipient", "Required value"),
        ({"notifications": "ada"}, "spec.notifications", "must be of type array"),
        (
            {"notifications": [{"type": "email", "recipient": "a", "when": ["Soon"]}]},
            "spec.notifications[0].when[0]",
            'supported values: "Ending", "Ready", "NotReady", "Ended", "Conflict"',
        ),
        (
            {"notifications": [{"type": "email", "recipient": "a", "when": []}]},
            "spec.notifications[0].when",
            "should have at least 1 items",
        ),
    ],
)
def test_invalid_bookings_are_refused(
    devcluster: Playground, change: dict[str, Any], field: str, words: str
) -> None:
    spec = {name: value for name, value in (BOOKING | change).items() if value is not None}
    answer = attempt(devcluster, "Booking", spec)
    assert field in answer
    assert words in answer


@pytest.mark.parametrize("name", ["analytics", "ec2.analytics"])
def test_a_resource_of_the_go_operator_is_accepted(devcluster: Playground, name: str) -> None:
    assert attempt(devcluster, "Resource", RESOURCE, name) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"type": "rds"},
        {"booked_by": "ada", "booked_until": "2026-01-31T20:00:00Z"},
        {"warm_up": "1h30m"},
        {"warm_up": "24h"},
        {"warm_up": "auto"},
        {"unbooked": "Leave", "hibernate": True, "suspend": True, "region": "eu-west-1", "account": "prod"},
        {"maintenance": "Allow", "deletion_policy": "Stop", "launch_grace": "10m"},
        {"sharing": "Exclusive", "max_duration": "12h", "max_ahead": "336h"},
        {"sharing": "Exclusive", "booked_by": "", "max_duration": ""},
        {"suspend_until": "2026-11-24T18:00:00+01:00"},
        {"unbooked": "Leave", "stop_at": ["0 20 * * *", "@daily"], "time_zone": "Europe/Berlin"},
        {"unbooked": "Leave", "unbooked_for": "4h"},
        {"stop_at": [], "unbooked_for": ""},
        {"ready_when": "StatusChecks", "type": "ec2"},
        {"ready_when": "Running", "type": "rds"},
        {"requires": ["db", "cache"], "requires_timeout": "90s"},
        {"requires": [], "requires_timeout": "0s"},
    ],
)
def test_valid_resources_are_accepted(devcluster: Playground, change: dict[str, Any]) -> None:
    assert attempt(devcluster, "Resource", RESOURCE | change) == ""


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"type": "gce"}, "spec.type", 'supported values: "ec2", "rds"'),
        ({"tag": ""}, "spec.tag", "at least 1 char"),
        ({"tag": None}, "spec.tag", "Required value"),
        ({"booked_until": "later"}, "spec.booked_until", RFC3339),
        ({"warm_up": "soon"}, "spec.warm_up", "like 90s, 10m or 1h30m"),
        ({"warm_up": "25h"}, "spec.warm_up", "between 0s and 24h"),
        ({"warm_up": "automatic"}, "spec.warm_up", "or auto"),
        ({"unbooked": "stop"}, "spec.unbooked", 'supported values: "Stop", "Leave"'),
        ({"suspend": "yes"}, "spec.suspend", "must be of type boolean"),
        ({"launch_grace": "soon"}, "spec.launch_grace", "like 90s, 10m or 1h30m"),
        ({"maintenance": "allow"}, "spec.maintenance", 'supported values: "Ignore", "Allow"'),
        ({"deletion_policy": "Delete"}, "spec.deletion_policy", 'supported values: "Leave", "Stop"'),
        ({"suspend_until": "18:00"}, "spec.suspend_until", RFC3339),
        ({"stop_at": ["0 20 * * *"]}, "spec.stop_at", "stop_at needs unbooked: Leave"),
        (
            {"ready_when": "StatusChecks", "type": "rds"},
            "spec.ready_when",
            "StatusChecks needs type: ec2; a database is ready when it is available",
        ),
        ({"requires": ["db", "db"]}, "spec.requires[1]", "Duplicate value"),
        ({"requires": [""]}, "spec.requires[0]", "at least 1 char"),
        ({"requires": "db"}, "spec.requires", "must be of type array"),
        ({"requires_timeout": "soon"}, "spec.requires_timeout", "like 90s, 10m or 1h30m"),
        (
            {"unbooked_for": "4h", "unbooked": "Stop"},
            "spec.unbooked_for",
            "unbooked_for needs unbooked: Leave",
        ),
        ({"unbooked_for": "soon", "unbooked": "Leave"}, "spec.unbooked_for", "like 90s, 10m or 1h30m"),
        ({"stop_at": ["20:00"], "unbooked": "Leave"}, "spec.stop_at[0]", "must have five fields"),
        ({"sharing": "exclusive"}, "spec.sharing", 'supported values: "Shared", "Exclusive"'),
        ({"max_duration": "30s"}, "spec.max_duration", "between 1m and 87600h"),
        ({"max_ahead": "two weeks"}, "spec.max_ahead", "like 90s, 10m or 1h30m, or empty"),
        (
            {"sharing": "Exclusive", "booked_by": "ada"},
            "spec.booked_by",
            "booked_by needs sharing: Shared; for an exclusive Resource, create a Booking",
        ),
    ],
)
def test_invalid_resources_are_refused(
    devcluster: Playground, change: dict[str, Any], field: str, words: str
) -> None:
    spec = {name: value for name, value in (RESOURCE | change).items() if value is not None}
    answer = attempt(devcluster, "Resource", spec)
    assert field in answer
    assert words in answer


@pytest.mark.parametrize("field", ["tag", "type", "region", "account"])
def test_fields_that_identify_the_group_are_immutable(tenant: Tenant, field: str) -> None:
    tenant.resource()
    changed = manifest("Resource", "res", {"type": "ec2", "tag": tenant.tag} | {field: "rds"})
    answer = tenant.devcluster.kubectl.attempt(
        "-n", tenant.namespace, "apply", "-f", "-", stdin=json.dumps(changed)
    )
    assert f"spec.{field}" in answer.stderr
    assert "field is immutable; to change it, delete the object and create it again" in answer.stderr


def test_columns(devcluster: Playground) -> None:
    devcluster.kubectl("create", "namespace", "columns")
    tenant = Tenant(devcluster, "columns")
    tenant.resource()
    tenant.apply("Booking", "bk", **BOOKING)
    tenant.apply("BookingScheduler", "nightly", **NIGHTLY)
    kinds = ("res", "bk", "bs")
    narrow = {kind: tenant.kubectl("get", kind).splitlines()[0] for kind in kinds}
    wide = {kind: tenant.kubectl("get", kind, "-o", "wide").splitlines()[0] for kind in kinds}
    assert squeezed(narrow["res"]) == "NAME LOCKED BY LOCKED UNTIL INSTANCES RUNNING STATUS"
    assert squeezed(narrow["bk"]) == "NAME START END STATUS"
    assert squeezed(wide["res"]) == f"{squeezed(narrow['res'])} TYPE TAG NEXT CHANGE READY AGE"
    assert squeezed(wide["bk"]) == f"{squeezed(narrow['bk'])} RESOURCE USER READY AGE"
    assert squeezed(narrow["bs"]) == "NAME SCHEDULE DURATION NEXT"
    more = "END SCHEDULE TIME ZONE RESOURCE USER SUSPEND READY AGE"
    assert squeezed(wide["bs"]) == f"{squeezed(narrow['bs'])} {more}"


def squeezed(line: str) -> str:
    return " ".join(line.split())


def test_selectable_fields_and_category(devcluster: Playground) -> None:
    devcluster.kubectl("create", "namespace", "selectable")
    tenant = Tenant(devcluster, "selectable")
    tenant.apply("Booking", "mine", **BOOKING)
    tenant.apply("Booking", "other", **(BOOKING | {"user_id": "x", "resource_name": "y"}))
    for selector in ("spec.user_id=cd39ad8bc3", "spec.resource_name=analytics"):
        listed = tenant.kubectl("get", "bookings", "--field-selector", selector, "-o", "name")
        assert listed.split() == ["booking.manager.kotaico.de/mine"]
    assert "mine" in tenant.kubectl("get", "booking-operator", "-o", "name")


@pytest.mark.parametrize(
    "path", ["resources.spec.unbooked", "resources.status.next_change_at", "bookings.spec.end_at"]
)
def test_kubectl_explain_has_descriptions(devcluster: Playground, path: str) -> None:
    explained = devcluster.kubectl("explain", path, "--api-version=manager.kotaico.de/v1")
    assert "DESCRIPTION:" in explained
    assert "<empty>" not in explained


def test_every_field_of_every_kind_has_a_description(devcluster: Playground) -> None:
    for kind in KINDS:
        crd = json.loads(devcluster.kubectl("get", "crd", kind.crd_name, "-o", "json"))
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        for part in ("spec", "status"):
            for name, property_ in schema[part]["properties"].items():
                assert property_.get("description"), f"{kind.name}.{part}.{name}"


def loosened(crd: dict[str, Any]) -> dict[str, Any]:
    """The CRD without a schema for the spec."""
    loose = copy.deepcopy(crd)
    schema = loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return loose


def store_against_the_rules(devcluster: Playground, namespace: str, kind: str, specs: dict[str, Any]) -> None:
    """Store objects that violate the schema, as users of an earlier version without a schema could."""
    plural = next(known for known in KINDS if known.name == kind)
    crd = json.loads(devcluster.kubectl("get", "crd", plural.crd_name, "-o", "json"))
    for field in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"):
        crd["metadata"].pop(field, None)
    crd.pop("status", None)
    # Selectable fields must be in the schema, so the loose CRD has none.
    loose = loosened(crd)
    loose["spec"]["versions"][0].pop("selectableFields", None)
    try:
        devcluster.kubectl("replace", "-f", "-", stdin=json.dumps(loose))
        for name, spec in specs.items():
            body = json.dumps(manifest(kind, name, spec))
            for _ in range(100):
                if (
                    devcluster.kubectl.attempt("-n", namespace, "apply", "-f", "-", stdin=body).returncode
                    == 0
                ):
                    break
            else:
                pytest.fail(f"{name} was never stored")
    finally:
        devcluster.kubectl("replace", "-f", "-", stdin=json.dumps(crd))
