"""The faults: one row of the table each."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from booking_operator.api import crd
from booking_operator.api.kinds import BOOKING
from booking_operator.devcluster.kubectl import Kubectl
from tests.chaos.world import World, issue_token
from tests.support import etcd
from tests.support.kube_faults import KubeFault, broken, too_many
from tests.support.replicas import comes_true

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

Strike = Callable[[World, float], Coroutine[Any, Any, None]]
"""Does it to a world, for so many seconds; all is well again when it returns."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which the world fails. Times in seconds.

    Attributes:
        name: the row's.
        told: what is done, as the table says it.
        seconds: how long it lasts.
        settle: by when, after it, all edits made meanwhile must have been seen.
        late: how late a booked boundary may be acted upon that counts as kept.
        rounds: how often, where that is not for the run to say.
        dead: whether no operator runs meanwhile.
        quiet: how long it takes to have an effect; no boundary falls into that.
        edits: when users edit bookings: while it lasts, or right before it.
        felt: what the operator logs of it; nothing where it does not get to see it.
        prepare: what is done before, once the round's bookings are made.
    """

    name: str
    told: str
    strike: Strike
    seconds: float = 5
    settle: float = 8
    late: float = 1
    rounds: int | None = None
    dead: bool = False
    quiet: float = 0
    edits: Literal["during", "before"] = "during"
    felt: Sequence[str] = ()
    prepare: Callable[[World], Awaitable[None]] | None = None
    apiserver_flags: Sequence[str] = ()
    replicas: int = 1
    service_account: bool = False


def proxied(fault: KubeFault) -> Strike:
    """Let the proxy do it, and see that it has."""

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
        await one.kube.mend()


async def cut_off_and_compact(world: World, seconds: float) -> None:
    async def compact() -> None:
        await asyncio.sleep(seconds - 1)
        await etcd.compact(world.ground.control_plane)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(compact())
        tasks.create_task(cut_off(world, seconds))


async def compact(world: World, seconds: float) -> None:
    for _ in range(int(seconds)):
        await etcd.compact(world.ground.control_plane)
        await asyncio.sleep(1)


async def kill_apiserver(world: World, seconds: float) -> None:
    await asyncio.to_thread(world.ground.control_plane.stop_apiserver, kill=True)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.ground.control_plane.start_apiserver)


async def kill_etcd(world: World, seconds: float) -> None:
    await asyncio.to_thread(world.ground.control_plane.stop_etcd, kill=True)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.ground.control_plane.start_etcd)


async def kill_operator(world: World, seconds: float) -> None:
    await asyncio.to_thread(world.replica.process.stop, kill=True)
    await asyncio.sleep(seconds)
    await world.begin(world.replica)


async def pause_operator(world: World, seconds: float) -> None:
    world.replica.pause()
    await asyncio.sleep(seconds)
    world.replica.go_on()


async def take_snapshot(world: World) -> None:
    await asyncio.to_thread(etcd.snapshot, world.ground.control_plane, _snapshot(world))
    world.snapshots.append(datetime.now(UTC))


async def restore_snapshot(world: World, seconds: float) -> None:
    """Wiped and restored at once: the servers are away for as long as that takes."""
    await asyncio.to_thread(etcd.restore, world.ground.control_plane, _snapshot(world, -1))
    world.ledger.rolled_back(world.snapshots[-1], datetime.now(UTC))
    await asyncio.sleep(seconds / 2)


def _snapshot(world: World, later: int = 0) -> Path:
    return world.directory / f"snapshot-{len(world.snapshots) + later}"


async def delete_crd(world: World, seconds: float) -> None:
    """The CRD and with it all bookings. It is applied anew, and when that has been seen, so are they."""
    had = world.ledger.present()
    await _without_crd(world, asyncio.sleep(seconds / 4))
    await asyncio.sleep(seconds * 3 / 4)
    await world.book_again([item for item in had if item.end > datetime.now(UTC)])


async def replace_crd(world: World, seconds: float) -> None:
    """The CRD and with it all bookings, and all of it applied anew at once."""
    had = world.ledger.present()

    async def gone() -> bool:
        found = await asyncio.to_thread(world.ground.kubectl.attempt, "get", "crd", BOOKING.crd_name)
        return found.returncode != 0

    await _without_crd(world, comes_true(gone, seconds))
    await world.book_again([item for item in had if item.end > datetime.now(UTC)])
    await asyncio.sleep(seconds / 2)


async def _without_crd(world: World, lasts: Awaitable[object]) -> None:
    """Delete the CRD of the bookings, and when `lasts` is over, apply it anew."""
    kubectl = world.ground.kubectl
    await world.client.request("DELETE", f"{_CRDS}/{BOOKING.crd_name}")
    vanished = datetime.now(UTC)
    await lasts
    world.ledger.doubted(vanished, datetime.now(UTC))
    await asyncio.to_thread(kubectl, "apply", "-f", "-", stdin=crd.rendered(BOOKING))
    established = ("wait", "--for=condition=Established", "crd", BOOKING.crd_name)
    await asyncio.to_thread(kubectl, *established)


async def revoke_token(world: World, seconds: float) -> None:
    """Have it refused, which takes 10 s because good ones are remembered; break watches; replace it."""
    began, ground = asyncio.get_running_loop().time(), world.ground
    token = world.token_file.read_text().strip()
    await asyncio.to_thread(ground.kubectl, "delete", "secret", world.secret, "-n", "booking-operator-system")

    async def refused() -> bool:
        return not await asyncio.to_thread(_admitted, ground.kubectl, token)

    await comes_true(refused, seconds)
    world.proxy.break_all()
    await asyncio.sleep(max(3.0, began + seconds - asyncio.get_running_loop().time()))
    world.secret = await asyncio.to_thread(issue_token, ground, world.token_file)


def _admitted(kubectl: Kubectl, token: str) -> bool:
    return kubectl.attempt("--token", token, "auth", "whoami").returncode == 0


FAULTS = (
    Fault("cut off", "nothing passes between operator and API server, and nobody is told", cut_off),
    Fault("delay", "answers and events are 0.5 to 1.5 s late", proxied(KubeFault("delay", (0.5, 1.5)))),
    Fault(
        "reset",
        "connections are reset, half of them after the request was carried out",
        proxied(KubeFault("reset")),
        felt=["watch_failed"],
    ),
    Fault(
        "truncate",
        "answers and events break off in the middle",
        proxied(KubeFault("truncate")),
        felt=["watch_failed"],
    ),
    Fault(
        "garble",
        "the second half of each answer and event is garbage",
        proxied(KubeFault("garble")),
        felt=["watch_failed"],
    ),
    Fault("429", "429 to everything, watches broken before", proxied(too_many()), felt=["watch_failed"]),
    Fault(
        "429, Retry-After",
        "the same with `Retry-After: 2`",
        proxied(too_many(retry_after=2)),
        felt=["watch_failed"],
    ),
    Fault("500, 503", "500 and 503 in turns, as JSON and as HTML", proxied(broken()), felt=["watch_failed"]),
    Fault(
        "slow",
        "each answer takes 2 to 5 s, and each event",
        proxied(KubeFault("delay", (2, 5))),
        seconds=10,
        settle=14,
    ),
    Fault(
        "silent watches",
        "watches stay open and tell nothing, until the read timeout of 80 s ends them",
        proxied(KubeFault("silence")),
        seconds=84,
        rounds=1,
        felt=["watch_failed"],
    ),
    Fault(
        "compaction",
        "etcd forgets its history once a second, under running watches; no watch cache",
        compact,
        apiserver_flags=["--watch-cache=false"],
    ),
    Fault(
        "cut off, compaction",
        "the same once, while the operator is cut off: its watches come back to 410",
        cut_off_and_compact,
        felt=["watch_expired"],
        apiserver_flags=["--watch-cache=false"],
    ),
    Fault(
        "API server killed",
        "kill -9 of kube-apiserver, started again",
        kill_apiserver,
        settle=14,
        felt=["watch_failed"],
    ),
    Fault(
        "API server killed, two replicas",
        "the same with two replicas and a LeaseDuration of 30 s",
        kill_apiserver,
        settle=14,
        felt=["watch_failed"],
        replicas=2,
    ),
    Fault("etcd killed", "kill -9 of etcd, started again", kill_etcd, settle=14),
    Fault(
        "etcd restored",
        "etcd's disk wiped and an older one put in its place: resourceVersions go back",
        restore_snapshot,
        settle=14,
        edits="before",
        felt=["watch_failed"],
        prepare=take_snapshot,
    ),
    Fault(
        "CRD deleted",
        "the CRD of the bookings deleted with all of them for 3 s, and the bookings applied anew after 12",
        delete_crd,
        seconds=12,
        settle=10,
        quiet=1,
        edits="before",
        felt=["list_failed"],
    ),
    Fault(
        "CRD replaced",
        "the CRD deleted with all bookings, and all of it applied anew at once",
        replace_crd,
        settle=10,
        quiet=3,
        edits="before",
    ),
    Fault(
        "token revoked",
        "the operator's token refused, watches broken, another token in the file",
        revoke_token,
        seconds=15,
        settle=10,
        felt=["watch_failed", "credentials_reloaded"],
        service_account=True,
    ),
    Fault(
        "operator killed",
        "kill -9 of the operator, started again",
        kill_operator,
        seconds=3,
        late=8,
        dead=True,
    ),
    Fault(
        "operator paused",
        "SIGSTOP, then SIGCONT",
        pause_operator,
        late=6,
        dead=True,
    ),
)
