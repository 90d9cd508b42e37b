"""What a seed stands for: a world, what its users do, and what fails when."""

from tests.sim.failures import Failures
from tests.sim.script import Script
from tests.sim.workload import Workload

CALM_SECONDS = 300.0
"""How long after the last fault, and the last thing that users did, all must be as booked."""


def script(seed: int) -> Script:
    """What `seed` stands for."""
    workload = Workload(seed)
    initial = list(workload.world())
    # Mistakes are made where things happen at once: users, boundaries and failures have their hot spots.
    workload.hot_spots = [workload.rng.choice(workload.boundaries) for _ in range(workload.rng.randint(1, 4))]
    acts = [*initial, *workload.user_actions(), *Failures(workload).generate()]
    acts.sort(key=lambda act: act.at)
    ends_at = max(act.at + act.lasts for act in acts)
    return Script(seed, workload.replicas, workload.lease, tuple(acts), ends_at)
