"""The classes and functions that an operator in the simulation is built with.

A mutation replaces one of them. The simulation supplies most of them: the clients of the API server and AWS,
the timing of the election, and the request limits. For mistakes inside the operator,
`booking_operator.parts.Parts` has the parts that may be replaced.
"""

from dataclasses import dataclass
from datetime import timedelta

from booking_operator.cloud.batching.token_bucket import LimitsOf, published_limits
from booking_operator.engine.leader_election import LeaseTiming
from booking_operator.parts import REAL, Parts
from tests.sim.client import SimKubeClient
from tests.sim.mailbox import SimChannel
from tests.sim.sessions import SimSessions
from tests.support.usage_integration import TracedMeter


@dataclass(frozen=True)
class Build:
    """What each process of the operator is built with.

    Attributes:
        parts: the replaceable parts of the operator.
        client: the class of the API server's client. The election has its own client, which no mutation
            replaces.
        sessions: the class of the AWS clients.
        timing: the class of the election's timing, created from LeaseDuration.
        limits: returns the request limits of AWS that the operator respects.
        deletion_grace: how long a stop waits after a deletion.
        meter: the class of the meters of usage.
        channel: the class of the notification channels.
    """

    parts: Parts = REAL
    client: type[SimKubeClient] = SimKubeClient
    sessions: type[SimSessions] = SimSessions
    timing: type[LeaseTiming] = LeaseTiming
    limits: LimitsOf = published_limits
    deletion_grace: timedelta = timedelta(0)
    meter: type[TracedMeter] = TracedMeter
    channel: type[SimChannel] = SimChannel


CORRECT = Build()
"""The operator without a mutation."""
