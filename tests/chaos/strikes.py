"""The strikes: functions that cause a fault. The world is healthy again when a strike returns."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from booking_operator.api import crd
from booking_operator.api.kinds import BOOKING
from booking_operator.devcluster.kubectl import Kubectl
from tests.chaos.world import World, issue_token
from tests.support import etcd
from tests.support.kube_faults import KubeFault
from tests.support.replicas import comes_true

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

Strike = Callable[[World, float], Coroutine[Any, Any, None]]
"""Causes a fault in a world for the given number of seconds, and ends it before it returns."""


def proxied(fault: KubeFault) -> Strike:
    """A strike that sets a fault of the proxy, and checks that it affected requests."""

    async def strike(world: World, seconds: float) -> None:
        before = world.proxy.struck
        world.proxy.strike(fault)
        await asyncio.sleep(seconds)
        world.proxy.calm()
        assert world.proxy.struck > before

    return strike


async def cut_off(world: World, seconds: float) -> None:
    for one in world.replicas:
        one.kube.cut()
    await asyncio.sleep(seconds)
    for one in world.replicas:
        await one.kube.fix()


async def cut_off_and_compact(world: World, seconds: float) -> None:
    async def compact() -> None:
        await asyncio.sleep(seconds - 1)
        await etcd.compact(world.devcluster.control_plane)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(compact())
        tasks.create_task(cut_off(world, seconds))


async def compact(world: World, seconds: float) -> None:
    for _ in range(int(seconds)):
        await etcd.compact(world.devcluster.control_plane)
        await asyncio.sleep(1)


async def kill_apiserver(world: World, seconds: float) -> None:
    await asyncio.to_thread(world.devcluster.control_plane.stop_apiserver, kill=True)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.devcluster.control_plane.start_apiserver)


async def kill_etcd(world: World, seconds: float) -> None:
    await asyncio.to_thread(world.devcluster.control_plane.stop_etcd, kill=True)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.devcluster.control_plane.start_etcd)


async def kill_operator(world: World, seconds: float) -> None:
    await asyncio.to_thread(world.replica.process.stop, kill=True)
    await asyncio.sleep(seconds)
    await world.begin(world.replica)


async def pause_operator(world: World, seconds: float) -> None:
    world.replica.pause()
    await asyncio.sleep(seconds)
    world.replica.go_on()


async def take_snapshot(world: World) -> None:
    await asyncio.to_thread(etcd.snapshot, world.devcluster.control_plane, _snapshot(world))
    world.snapshots.append(datetime.now(UTC))


async def restore_snapshot(world: World, seconds: float) -> None:
    """Restore etcd immediately. The servers are down for as long as the restore takes."""
    restored = await asyncio.to_thread(etcd.restore, world.devcluster.control_plane, _snapshot(world, -1))
    world.ledger.rolled_back(world.snapshots[-1], restored)
    await asyncio.sleep(seconds / 2)


def _snapshot(world: World, later: int = 0) -> Path:
    return world.directory / f"snapshot-{len(world.snapshots) + later}"


async def delete_crd(world: World, seconds: float) -> None:
    """Delete the CRD and with it all bookings. Apply the CRD after a while, and later the bookings."""
    had = world.ledger.present()
    await _without_crd(world, asyncio.sleep(seconds / 4))
    await asyncio.sleep(seconds * 3 / 4)
    await world.book_again([item for item in had if item.end > datetime.now(UTC)])


async def replace_crd(world: World, seconds: float) -> None:
    """Delete the CRD and with it all bookings, and apply both again immediately."""
    had = world.ledger.present()

    async def gone() -> bool:
        found = await asyncio.to_thread(world.devcluster.kubectl.attempt, "get", "crd", BOOKING.crd_name)
        return found.returncode != 0

    await _without_crd(world, comes_true(gone, seconds))
    await world.book_again([item for item in had if item.end > datetime.now(UTC)])
    await asyncio.sleep(seconds / 2)


async def _without_crd(world: World, lasts: Awaitable[object]) -> None:
    """Delete the CRD of the bookings, and apply it again when `lasts` is done."""
    kubectl = world.devcluster.kubectl
    await world.client.request("DELETE", f"{_CRDS}/{BOOKING.crd_name}")
    vanished = datetime.now(UTC)
    await lasts
    world.ledger.doubted(vanished, datetime.now(UTC))
    await asyncio.to_thread(kubectl, "apply", "-f", "-", stdin=crd.render(BOOKING))
    established = ("wait", "--for=condition=Established", "crd", BOOKING.crd_name)
    await asyncio.to_thread(kubectl, *established)


async def revoke_token(world: World, seconds: float) -> None:
    """Revoke the operator's token, reset its watches, and later replace the token.

    The API server caches token reviews, so that it refuses the token only after about 10 s.
    """
    began, devcluster = asyncio.get_running_loop().time(), world.devcluster
    token = world.token_file.read_text().strip()
    await asyncio.to_thread(
        devcluster.kubectl, "delete", "secret", world.secret, "-n", "booking-operator-system"
    )

    async def refused() -> bool:
        return not await asyncio.to_thread(_admitted, devcluster.kubectl, token)

    await comes_true(refused, seconds)
    world.proxy.break_all()
    await asyncio.sleep(max(3.0, began + seconds - asyncio.get_running_loop().time()))
    world.secret = await asyncio.to_thread(issue_token, devcluster, world.token_file)


def _admitted(kubectl: Kubectl, token: str) -> bool:
    return kubectl.attempt("--token", token, "auth", "whoami").returncode == 0
