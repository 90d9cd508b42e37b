"""Two replicas against a real API server. Only the leader writes, and the standby takes over."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import Tenant, at, soon, until
from tests.support.aws import AwsProxy
from tests.support.moto_server import REGION
from tests.support.replicas import Field, Replica, comes_true, field_of

LEASE = 6.0  # a replica that gets no CPU time for 4 s loses the Lease
STOPPED, RUNNING = ["stopped", "stopped"], ["running", "running"]


@pytest.fixture
async def aws() -> AsyncIterator[AwsProxy]:
    async with AwsProxy() as proxy:
        yield proxy


@pytest.fixture
async def field(
    devcluster: Playground, tenant: Tenant, tmp_path: Path, aws: AwsProxy
) -> AsyncIterator[Field]:
    """Two replicas with warm caches. The first one leads."""
    await aws.create_instances(tenant.tag, 2)
    await asyncio.to_thread(tenant.resource, region=REGION)
    async with field_of(devcluster, aws, tenant.namespace, tmp_path, f"{LEASE:.0f}s") as field:
        first, second = field.replicas
        await first.ready()
        await field.led(by=first)
        await second.ready()
        yield field


async def states(field: Field) -> list[str]:
    return sorted((await field.aws.states()).values())


async def come(field: Field, wanted: list[str]) -> None:
    async def arrived() -> bool:
        return await states(field) == wanted

    await comes_true(arrived, 60)


async def booked(tenant: Tenant, start: datetime, end: datetime) -> None:
    await asyncio.to_thread(tenant.booking, "bk", start, end)
    await until(lambda: tenant.condition("booking", "bk", "Valid")[0] == "True")


async def test_sigterm_hands_over_and_the_next_boundary_is_kept(field: Field, tenant: Tenant) -> None:
    first, second = field.replicas
    start = soon(12)
    await booked(tenant, start, soon(600))
    await at(start - timedelta(seconds=1))
    await asyncio.to_thread(first.process.stop)
    await field.led(by=second)
    await come(field, RUNNING)
    await until(lambda: tenant.condition("booking", "bk", "Ready")[0] == "True")
    [released] = first.logged("lease_released")
    [call] = field.aws.calls_of("StartInstances")
    # The first replica still leads at the boundary if it gets no CPU time for a second.
    assert call.access_key == "REPLICA-B" or datetime.fromisoformat(released["timestamp"]) >= start
    assert field.strays() == []


async def test_a_killed_leader_is_replaced_and_restarts_as_standby(field: Field, tenant: Tenant) -> None:
    first, second = field.replicas
    start = soon(3)
    await booked(tenant, start, soon(600))
    first.process.stop(kill=True)
    await field.led(by=second)
    await come(field, RUNNING)
    await first.ready()
    await booked(tenant, start, soon(1))
    await come(field, STOPPED)
    assert {call.access_key for call in field.aws.calls_of("StopInstances")} == {"REPLICA-B"}
    assert len(first.logged("leading")) == 1
    assert field.strays() == []


@pytest.mark.slow
async def test_a_paused_leader_writes_nothing_when_it_resumes(field: Field, tenant: Tenant) -> None:
    """It has an order that is due when it resumes, and that the other replica has carried out."""
    first, second = field.replicas
    start = soon(12)
    await booked(tenant, start, soon(600))
    await at(start - timedelta(seconds=0.8))
    first.pause()
    assert field.aws.calls_of("StartInstances") == []
    await field.led(by=second)
    await come(field, RUNNING)
    first.go_on()
    await until(lambda: first.logged("leadership_lost"))
    await booked(tenant, start, soon(1))
    await come(field, STOPPED)
    assert [call.access_key for call in field.aws.calls_of("StartInstances")] == ["REPLICA-B"]
    assert field.strays() == []
    await _writes_as_standby(field, first)


async def test_a_leader_without_api_server_stops_writing_before_the_standby_starts(
    field: Field, tenant: Tenant
) -> None:
    """It still reaches AWS, and a boundary is due while no replica may write."""
    first, second = field.replicas
    first.kube.cut()
    await asyncio.sleep(LEASE * 2 / 3 + 0.2)
    await booked_by_admin(tenant)
    await field.led(by=second)
    await come(field, RUNNING)
    await until(lambda: first.logged("leadership_lost"))
    await first.kube.fix()
    await until(lambda: tenant.condition("booking", "bk", "Ready")[0] == "True")
    assert {call.access_key for call in field.aws.calls_of("StartInstances")} == {"REPLICA-B"}
    assert field.strays() == []
    await _writes_as_standby(field, first)


async def booked_by_admin(tenant: Tenant) -> None:
    await asyncio.to_thread(tenant.booking, "bk", soon(-1), soon(600))


async def _writes_as_standby(field: Field, replica: Replica) -> None:
    """Check that a replica is a standby with warm caches: it leads again without a restart."""
    await asyncio.to_thread(field.other(replica).process.stop)
    await field.led(by=replica)
    await until(lambda: len(replica.logged("resources_reconciled")) == 2)
    assert len(replica.logged("caches_synced")) == 1
    assert field.strays() == []
