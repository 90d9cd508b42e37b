"""Operations on etcd that bypass the API server, through the JSON gateway."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import ClientSession

from booking_operator.devcluster.controlplane import ControlPlane


async def compact(plane: ControlPlane) -> int:
    """Discard the history of etcd up to now, as the API server does every 5 minutes; return the revision."""
    async with ClientSession(plane.etcd_url, raise_for_status=True) as http:
        async with http.post("/v3/kv/range", json={"key": "AA=="}) as answer:
            revision = int((await answer.json())["header"]["revision"])
        async with http.post("/v3/kv/compaction", json={"revision": revision, "physical": True}):
            return revision


def snapshot(plane: ControlPlane, target: Path) -> None:
    """Copy the data directory of etcd while etcd is paused by SIGSTOP."""
    plane.pause_etcd()
    try:
        shutil.copytree(plane.etcd_directory, target)
    finally:
        plane.resume_etcd()


def restore(plane: ControlPlane, source: Path) -> datetime:
    """Replace the data directory of etcd by an older copy. resourceVersions continue from the older revision.

    The API server is down during the restore, as the Kubernetes documentation requires, because its watch
    cache is invalid. Returns the time of the replacement (aware UTC). All later answers, of /readyz too, show
    the restored state.
    """
    plane.stop_apiserver(kill=True)
    plane.stop_etcd(kill=True)
    shutil.rmtree(plane.etcd_directory)
    shutil.copytree(source, plane.etcd_directory)
    restored = datetime.now(UTC)
    plane.start_etcd()
    plane.start_apiserver()
    return restored
