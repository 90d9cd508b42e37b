"""The CRDs of the Go operator that this one replaces: ours have each of its fields, and require no more.

The table was read from its CRDs (https://github.com/kotaicode/resource-booking-operator, `config/crd/bases`).
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

CRDS = Path(__file__).parents[2] / "manifests" / "crds"

FIELDS = """
Booking           spec.resource_name                        string   required
Booking           spec.user_id                              string   required
Booking           spec.start_at                             string   required
Booking           spec.end_at                               string   required
Booking           spec.notifications                        array
Booking           spec.notifications.type                   string   required
Booking           spec.notifications.recipient              string   required
Booking           status.status                             string
Booking           status.notification_sent                  boolean
Resource          spec.type                                 string   required
Resource          spec.tag                                  string   required
Resource          spec.booked_by                            string   required
Resource          spec.booked_until                         string   required
Resource          status.instances                          integer  required
Resource          status.running                            integer  required
Resource          status.status                             string   required
Resource          status.locked_by                          string   required
Resource          status.locked_until                       string   required
ResourceMonitor   spec.type                                 string   required
BookingScheduler  spec.schedule                             string
BookingScheduler  spec.duration                             integer
BookingScheduler  spec.bookingTemplate                      object
BookingScheduler  spec.bookingTemplate.resource_name        string   required
BookingScheduler  spec.bookingTemplate.user_id              string   required
BookingScheduler  spec.bookingTemplate.start_at             string   required
BookingScheduler  spec.bookingTemplate.end_at               string   required
BookingScheduler  spec.bookingTemplate.notifications        array
BookingScheduler  spec.bookingTemplate.notifications.type       string   required
BookingScheduler  spec.bookingTemplate.notifications.recipient  string   required
BookingScheduler  status.next                               string
"""

NEEDED = {
    ("BookingScheduler", "spec.schedule"),
    ("BookingScheduler", "spec.bookingTemplate"),
}
"""The fields that ours requires and the Go operator does not. Without them, a scheduler has nothing to do."""

ROWS = [(kind, path, *rest) for kind, path, *rest in map(str.split, FIELDS.strip().splitlines())]


def schema(kind: str) -> dict[str, Any]:
    (path,) = CRDS.glob(f"*_{kind.lower()}s.yaml")
    crd: dict[str, Any] = yaml.safe_load(path.read_text())
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def properties(kind: str) -> dict[str, tuple[str, bool]]:
    """The type of each field of spec and status, and whether it is required, by path."""
    found: dict[str, tuple[str, bool]] = {}

    def walk(node: dict[str, Any], path: str) -> None:
        inner = node.get("items", node)
        for name, child in inner.get("properties", {}).items():
            below = f"{path}.{name}".lstrip(".")
            found[below] = child.get("type", ""), name in inner.get("required", ())
            walk(child, below)

    whole = schema(kind)
    for part in ("spec", "status"):
        walk(whole["properties"][part], part)
    return found


@pytest.mark.parametrize(("kind", "path", "type_"), [row[:3] for row in ROWS])
def test_each_field_of_the_go_operator_has_its_type(kind: str, path: str, type_: str) -> None:
    assert properties(kind)[path][0] == type_


@pytest.mark.parametrize("kind", sorted({row[0] for row in ROWS}))
def test_no_field_is_required_that_a_manifest_of_the_go_operator_may_lack(kind: str) -> None:
    theirs = {row[1] for row in ROWS if row[0] == kind and "required" in row}
    ours = {path for path, (_, required) in properties(kind).items() if required and path.startswith("spec")}
    assert {path for path in ours - theirs if (kind, path) not in NEEDED} == set()
