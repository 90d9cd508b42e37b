"""What an operator of the simulated world is built with: whatever the simulation hands to it.

This is where a mutation puts its mistake. Many mistakes are made in what the simulation supplies itself:
the client of the API server, the clients of AWS, the timing of the election, the request limits. The others
are in the operator, which takes the parts that may be replaced as `booking_operator.parts.Parts`.
"""

from dataclasses import dataclass

from booking_operator.cloud.batching.token_bucket import LimitsOf, published_limits
from booking_operator.engine.leader_election import LeaseTiming
from booking_operator.parts import REAL, Parts
from tests.sim.client import SimKubeClient
from tests.sim.sessions import SimSessions


@dataclass(frozen=True)
class Build:
    """What each process of the operator is made with.

    Attributes:
        parts: parts of the operator itself.
        client: the client of the API server; the election has one of its own, which is always right.
        sessions: the clients of AWS.
        timing: how long a leadership lasts, made from the LeaseDuration.
        limits: the request limits of AWS that the operator keeps to.
    """

    parts: Parts = REAL
    client: type[SimKubeClient] = SimKubeClient
    sessions: type[SimSessions] = SimSessions
    timing: type[LeaseTiming] = LeaseTiming
    limits: LimitsOf = published_limits


CORRECT = Build()
"""An operator without a mistake."""
