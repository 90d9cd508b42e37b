"""What a seed stands for: a world, what its users do, and what fails when."""

from tests.sim.failures import Failures
from tests.sim.script import Script
from tests.sim.story import Story

CALM_SECONDS = 300.0
"""How long after the last fault, and the last thing that users did, all must be as booked."""


def script(seed: int) -> Script:
    """What `seed` stands for."""
    story = Story(seed)
    first = list(story.world())
    # Mistakes are made where things happen at once: users, boundaries and failures have their hot spots.
    story.hot = [story.chance.choice(story.boundaries) for _ in range(story.chance.randint(1, 4))]
    acts = [*first, *story.users(), *Failures(story).faults()]
    acts.sort(key=lambda act: act.at)
    ends_at = max(act.at + act.lasts for act in acts)
    return Script(seed, story.replicas, story.lease, tuple(acts), ends_at)
