"""Derive the script of a seed: a world, the actions of its users, and the failures."""

from tests.sim.failures import Failures
from tests.sim.script import Script
from tests.sim.workload import Workload

CALM_SECONDS = 300.0
"""Seconds without failures and user actions after which the world must have converged."""


def script(seed: int) -> Script:
    """Return the script of a seed."""
    workload = Workload(seed)
    initial = list(workload.world())
    # Races are more likely if users, boundaries and failures coincide.
    workload.hot_spots = [workload.rng.choice(workload.boundaries) for _ in range(workload.rng.randint(1, 4))]
    acts = [*initial, *workload.user_actions(), *Failures(workload).generate()]
    acts.sort(key=lambda act: act.at)
    ends_at = max(act.at + act.lasts for act in acts)
    # The default would hide faults that a stop shows, so every second script has none.
    grace = 5.0 if seed % 2 else 0.0
    return Script(seed, workload.replicas, workload.lease, tuple(acts), ends_at, grace)
