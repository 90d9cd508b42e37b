"""What a replica that does not lead looks at, and how often."""

from datetime import timedelta
from typing import Any

import pytest

from booking_operator.api.kinds import RESOURCE, RESOURCE_MONITOR
from booking_operator.cloud.driver import Scope
from booking_operator.cloud.polling import IDLE
from booking_operator.reconcilers.caches import Caches
from booking_operator.reconcilers.standby import FOLLOWING, StandbyAudience
from tests.support.fakes import REGION
from tests.support.inventory import WEB, Stage, play

HERE, THERE = Scope("", REGION), Scope("", "us-east-1")


def resource(name: str, status: str = "", ready: str = "", version: int = 1, **spec: Any) -> Any:
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version), "generation": 1}
    conditions = [{"type": "Synced", "status": "True", "reason": "Synced"}]
    conditions += [{"type": "Ready", "status": "False", "reason": ready}] if ready else []
    whole = {
        "metadata": meta | {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"tag": name, **spec},
        "status": {"status": status, "conditions": conditions},
    }
    return RESOURCE.adapter.validate_python(whole)


def periods(*resources: Any, service: str = "ec2") -> dict[Scope, timedelta]:
    caches = Caches(REGION)
    for item in resources:
        caches.resources.apply(item)
    return dict(StandbyAudience(service, caches).periods())


@pytest.mark.parametrize(
    ("status", "ready", "period"),
    [
        ("", "", IDLE),
        ("RUNNING", "Running", IDLE),
        ("STOPPED", "Starting", IDLE),  # nothing was accepted, for want of capacity, say
        ("PENDING", "Blocked", IDLE),  # what stays between the two for long
        ("PENDING", "Left", IDLE),
        ("PENDING", "Starting", FOLLOWING),
        ("PENDING", "Stopping", FOLLOWING),
    ],
)
def test_a_scope_in_which_the_leader_starts_or_stops_instances_is_followed(
    status: str, ready: str, period: timedelta
) -> None:
    still = resource("still", "RUNNING", "Running")
    far = resource("far", "STOPPED", "Stopped", region=THERE.region)
    assert periods(still, resource("web", status, ready), far) == {HERE: period, THERE: IDLE}


def test_each_service_follows_its_own() -> None:
    moving = resource("orders", "PENDING", "Starting", type="rds")
    assert periods(moving, resource("web", "RUNNING", "Running")) == {HERE: IDLE}
    assert periods(moving, service="rds") == {HERE: FOLLOWING}


def test_what_a_monitor_looks_at_is_kept_in_view_too() -> None:
    caches = Caches(REGION)
    meta = {"name": "m", "namespace": "ns", "uid": "m", "resourceVersion": "1", "generation": 1}
    made = {"metadata": meta, "spec": {"type": "ec2", "region": THERE.region}}
    caches.monitors.apply(RESOURCE_MONITOR.adapter.validate_python(made))
    assert StandbyAudience("ec2", caches).periods() == {THERE: IDLE}


def test_a_start_of_the_leader_is_seen_within_ten_seconds() -> None:
    async def scenario(stage: Stage) -> None:
        caches = Caches(REGION)
        caches.resources.apply(resource("web", "STOPPED", "Stopped"))
        stage.inventory.track(StandbyAudience("ec2", caches))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(65)
        calls = len(stage.cloud.calls)
        await stage.sleep_to(80)
        assert len(stage.cloud.calls) == calls == 2
        caches.resources.apply(resource("web", "PENDING", "Starting", version=2))
        await stage.sleep_to(80 + FOLLOWING.total_seconds() + 0.1)
        assert len(stage.cloud.calls) > calls
        assert stage.inventory.last(WEB) is not None

    play(scenario)
