"""Instances and observations: states, and the machines of scaled groups."""

from datetime import UTC, datetime

import pytest

from booking_operator.domain.instance import Instance, InstanceState, MachineCounts, Observation

RUNNING, STOPPED, STOPPING = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.STOPPING
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "scale", "ready", "can_start"),
    [
        (RUNNING, None, True, False),
        (STOPPED, None, False, True),
        (STOPPING, None, False, False),
        (RUNNING, MachineCounts(3, 3), True, False),
        (RUNNING, MachineCounts(3, 4), True, False),
        (RUNNING, MachineCounts(3, 2), False, False),
        (STOPPED, MachineCounts(3, 0), False, True),
        (STOPPING, MachineCounts(3, 1), False, True),
    ],
)
def test_an_instance_is_ready_and_can_start(
    state: InstanceState, scale: MachineCounts | None, ready: bool, can_start: bool
) -> None:
    instance = Instance("a", state, scale=scale)
    assert (instance.ready, instance.can_start) == (ready, can_start)


def test_an_observation_counts_the_machines_of_scaled_groups() -> None:
    groups = (
        Instance("on", RUNNING, scale=MachineCounts(3, 2)),
        Instance("off", STOPPED, scale=MachineCounts(4, 0)),
        Instance("shrinking", RUNNING, scale=MachineCounts(1, 2)),
        Instance("i-1", RUNNING),
        Instance("i-2", STOPPED),
    )
    seen = Observation(groups, NOW)
    assert (seen.machines, seen.machines_running, seen.machines_ready) == (10, 5, 4)
    assert seen.startable() == ("off", "i-2")
    assert seen.stoppable() == ("on", "shrinking", "i-1")
