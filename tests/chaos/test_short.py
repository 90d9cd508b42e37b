"""A short form of `tox -e chaos`, which holds that its world and its score work."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.faults import Fault
from tests.chaos.strikes import kill_apiserver, proxied
from tests.chaos.trial import try_out
from tests.chaos.world import World
from tests.support.kube_faults import KubeFault


async def reset_and_kill(world: World, seconds: float) -> None:
    await proxied(KubeFault("reset"))(world, seconds / 2)
    await kill_apiserver(world, 0)
    await asyncio.sleep(seconds / 4)


@pytest.mark.tooling
async def test_connection_resets_and_a_killed_api_server_lose_no_boundary(
    tmp_path: Path,
) -> None:
    fault = Fault("short", "both", reset_and_kill, seconds=3, settle=9, felt=["watch_failed"])
    [result] = await try_out([fault], 1, tmp_path)
    assert result.wrong() == []
    assert result.score.boundaries >= 20
