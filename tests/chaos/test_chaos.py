"""Each fault strikes real servers while bookings begin and end: `tox -e chaos`."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.trial import fault_id, try_out

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "2"))


@pytest.mark.chaos
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", FAULTS, ids=fault_id)
async def test_no_boundary_is_lost(
    fault: Fault, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    [result] = await try_out([fault], ROUNDS, tmp_path)
    print(result.as_json())  # noqa: T201 - the result
    record_property("chaos", result.as_json())
    assert result.wrong() == []
    assert result.score.boundaries >= 20
