"""The schemas of BookingScheduler and ResourceMonitor on a real API server."""

from typing import Any

import pytest

from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import Tenant, manifest
from tests.e2e.test_schema import attempt

TEMPLATE = {"resource_name": "analytics", "user_id": "ada"}
SCHEDULER = {"schedule": "0 * * * *", "duration": 20, "bookingTemplate": TEMPLATE}
MONITOR = {"type": "ec2"}


@pytest.mark.parametrize(
    ("kind", "base", "change"),
    [
        ("BookingScheduler", SCHEDULER, {}),
        ("BookingScheduler", SCHEDULER, {"schedule": "*/15 9-17 1,15 JAN-JUN MON-FRI"}),
        ("BookingScheduler", SCHEDULER, {"time_zone": "Europe/Berlin", "except_dates": ["2026-12-24"]}),
        ("BookingScheduler", SCHEDULER, {"except_dates": ["2026-12-24/2027-01-02"]}),
        ("BookingScheduler", SCHEDULER, {"except_holidays": ["DE-BE", "FR"]}),
        ("BookingScheduler", SCHEDULER, {"schedule": "@daily"}),
        ("BookingScheduler", SCHEDULER, {"duration": None, "end_schedule": "0 6 * * *"}),
        ("BookingScheduler", SCHEDULER, {"schedule": "@every 90m"}),
        ("BookingScheduler", SCHEDULER, {"schedule": "CRON_TZ=Asia/Tokyo 0 9 ? * FRI-MON"}),
        ("BookingScheduler", SCHEDULER, {"horizon": "168h", "keep_finished": 0, "suspend": True}),
        ("ResourceMonitor", MONITOR, {}),
        ("ResourceMonitor", MONITOR, {"type": "rds", "region": "eu-west-1", "account": "prod"}),
        ("ResourceMonitor", MONITOR, {"interval": "10s", "prune": True, "name_template": "{type}.{tag}"}),
    ],
)
def test_valid_specs_are_accepted(
    devcluster: Playground, kind: str, base: dict[str, Any], change: dict[str, Any]
) -> None:
    assert attempt(devcluster, kind, base | change) == ""


@pytest.mark.parametrize(
    ("kind", "base", "change", "field", "words"),
    [
        ("BookingScheduler", SCHEDULER, {"schedule": "hourly"}, "spec.schedule", "five fields"),
        ("BookingScheduler", SCHEDULER, {"schedule": "0 0 9 * * *"}, "spec.schedule", "five fields"),
        ("BookingScheduler", SCHEDULER, {"schedule": None}, "spec.schedule", "Required value"),
        ("BookingScheduler", SCHEDULER, {"duration": 0}, "spec.duration", "greater than or equal to 1"),
        ("BookingScheduler", SCHEDULER, {"duration": "20m"}, "spec.duration", "must be of type integer"),
        ("BookingScheduler", SCHEDULER, {"horizon": "3d"}, "spec.horizon", "like 90s, 10m or 1h30m"),
        (
            "BookingScheduler",
            SCHEDULER,
            {"except_holidays": ["Berlin"]},
            "spec.except_holidays[0]",
            "like DE or DE-BE",
        ),
        (
            "BookingScheduler",
            SCHEDULER,
            {"end_schedule": "0 18 * * *"},
            "spec",
            "set either duration or end_schedule, and not both",
        ),
        ("BookingScheduler", SCHEDULER, {"keep_finished": -1}, "spec.keep_finished", "greater than or equal"),
        (
            "BookingScheduler",
            SCHEDULER,
            {"except_dates": ["24.12."]},
            "spec.except_dates[0]",
            "like 2026-12-24",
        ),
        ("BookingScheduler", SCHEDULER, {"bookingTemplate": None}, "spec.bookingTemplate", "Required value"),
        (
            "BookingScheduler",
            SCHEDULER,
            {"bookingTemplate": {"user_id": "ada"}},
            "spec.bookingTemplate.resource_name",
            "Required value",
        ),
        ("ResourceMonitor", MONITOR, {"type": "gce"}, "spec.type", 'supported values: "ec2", "rds"'),
        ("ResourceMonitor", MONITOR, {"interval": "1s"}, "spec.interval", "between 10s and 24h"),
        ("ResourceMonitor", MONITOR, {"interval": "often"}, "spec.interval", "like 90s, 10m or 1h30m"),
        (
            "ResourceMonitor",
            MONITOR,
            {"name_template": "web"},
            "spec.name_template",
            "must be empty or contain {tag}",
        ),
        (
            "ResourceMonitor",
            MONITOR,
            {"name_template": "{tag}_x"},
            "spec.name_template",
            "must be empty or contain {tag}",
        ),
        ("ResourceMonitor", MONITOR, {"prune": "yes"}, "spec.prune", "must be of type boolean"),
    ],
)
def test_invalid_specs_are_refused(
    devcluster: Playground, kind: str, base: dict[str, Any], change: dict[str, Any], field: str, words: str
) -> None:
    spec = {name: value for name, value in (base | change).items() if value is not None}
    answer = attempt(devcluster, kind, spec)
    assert field in answer
    assert words in answer


@pytest.mark.parametrize("field", ["type", "region", "account"])
def test_service_and_scope_of_a_monitor_are_immutable(tenant: Tenant, field: str) -> None:
    tenant.apply("ResourceMonitor", "rm", **MONITOR, region="eu-west-1", account="prod")
    spec = MONITOR | {"region": "eu-west-1", "account": "prod"} | {field: "rds"}
    stdin = str(manifest("ResourceMonitor", "rm", spec)).replace("'", '"')
    answer = tenant.devcluster.kubectl.attempt("-n", tenant.namespace, "apply", "-f", "-", stdin=stdin)
    assert f"spec.{field}" in answer.stderr
    assert "immutable" in answer.stderr
