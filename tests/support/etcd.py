"""What is done to etcd behind the API server's back, through its JSON gateway."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import ClientSession

from booking_operator.devcluster.controlplane import ControlPlane


async def compact(plane: ControlPlane) -> int:
    """Have etcd forget all history up to now, as the API server asks it to every 5 min; the revision."""
    async with ClientSession(plane.etcd_url, raise_for_status=True) as http:
        async with http.post("/v3/kv/range", json={"key": "AA=="}) as answer:
            revision = int((await answer.json())["header"]["revision"])
        async with http.post("/v3/kv/compaction", json={"revision": revision, "physical": True}):
            return revision


def snapshot(plane: ControlPlane, target: Path) -> None:
    """Copy etcd's disk, while etcd stands still."""
    plane.pause_etcd()
    try:
        shutil.copytree(plane.etcd_directory, target)
    finally:
        plane.resume_etcd()


def restore(plane: ControlPlane, source: Path) -> datetime:
    """Wipe etcd's disk and put an older one in its place. resourceVersions go on from where they were then.

    The API server is down meanwhile, as Kubernetes asks for: what it remembers is not true any more.
    Returns when that was done (aware UTC): all that it answers after that, ready or not, is older.
    """
    plane.stop_apiserver(kill=True)
    plane.stop_etcd(kill=True)
    shutil.rmtree(plane.etcd_directory)
    shutil.copytree(source, plane.etcd_directory)
    restored = datetime.now(UTC)
    plane.start_etcd()
    plane.start_apiserver()
    return restored
