"""Which scopes a standby polls, and how often."""

from datetime import timedelta
from typing import Any

import pytest

from booking_operator.api.kinds import RESOURCE, RESOURCE_MONITOR
from booking_operator.cloud.inventory.polling import IDLE_INTERVAL
from booking_operator.domain.group import Scope
from booking_operator.reconcilers.informers import Informers
from booking_operator.reconcilers.standby_listener import TRANSITION_INTERVAL, StandbyListener
from tests.support.environment import REGION
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
    informers = Informers(REGION)
    for item in resources:
        informers.resources.apply(item)
    return dict(StandbyListener(service, informers).polling_periods())


@pytest.mark.parametrize(
    ("status", "ready", "period"),
    [
        ("", "", IDLE_INTERVAL),
        ("RUNNING", "Running", IDLE_INTERVAL),
        (
            "STOPPED",
            "Starting",
            IDLE_INTERVAL,
        ),  # no start was accepted, for example because there is no capacity
        ("PENDING", "Blocked", IDLE_INTERVAL),  # a state that can last
        ("PENDING", "Left", IDLE_INTERVAL),
        ("PENDING", "Starting", TRANSITION_INTERVAL),
        ("PENDING", "Stopping", TRANSITION_INTERVAL),
    ],
)
def test_a_scope_with_transitions_of_the_leader_is_polled_often(
    status: str, ready: str, period: timedelta
) -> None:
    still = resource("still", "RUNNING", "Running")
    far = resource("far", "STOPPED", "Stopped", region=THERE.region)
    assert periods(still, resource("web", status, ready), far) == {HERE: period, THERE: IDLE_INTERVAL}


def test_each_service_polls_its_own_scopes() -> None:
    moving = resource("orders", "PENDING", "Starting", type="rds")
    assert periods(moving, resource("web", "RUNNING", "Running")) == {HERE: IDLE_INTERVAL}
    assert periods(moving, service="rds") == {HERE: TRANSITION_INTERVAL}


def test_scopes_of_monitors_are_polled() -> None:
    informers = Informers(REGION)
    meta = {"name": "m", "namespace": "ns", "uid": "m", "resourceVersion": "1", "generation": 1}
    made = {"metadata": meta, "spec": {"type": "ec2", "region": THERE.region}}
    informers.monitors.apply(RESOURCE_MONITOR.adapter.validate_python(made))
    assert StandbyListener("ec2", informers).polling_periods() == {THERE: IDLE_INTERVAL}


def test_a_start_of_the_leader_is_seen_within_ten_seconds() -> None:
    async def scenario(stage: Stage) -> None:
        informers = Informers(REGION)
        informers.resources.apply(resource("web", "STOPPED", "Stopped"))
        stage.inventory.set_listener(StandbyListener("ec2", informers))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(65)
        calls = len(stage.cloud.calls)
        await stage.sleep_to(80)
        assert len(stage.cloud.calls) == calls == 2
        informers.resources.apply(resource("web", "PENDING", "Starting", version=2))
        await stage.sleep_to(80 + TRANSITION_INTERVAL.total_seconds() + 0.1)
        assert len(stage.cloud.calls) > calls
        assert stage.inventory.observation(WEB) is not None

    play(scenario)
