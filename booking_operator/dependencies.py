"""What the operator of one process depends on, from its start to its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from booking_operator.domain.notification import Channel
from booking_operator.engine.clock import Clock
from booking_operator.gc_tuning import GcTuning, ProcessGcTuning
from booking_operator.kube.client import KubeClient
from booking_operator.observability.prometheus import Metrics
from booking_operator.settings import Settings


@dataclass(frozen=True)
class Dependencies:
    """The collaborators that outlast a leadership.

    Attributes:
        settings: the flags of the command line.
        client: the API server.
        channels: how notifications are delivered, by `type`.
        clock: the time.
        metrics: the metrics.
        gc_tuning: when the garbage collector runs.
    """

    settings: Settings
    client: KubeClient
    channels: Mapping[str, Channel]
    clock: Clock
    metrics: Metrics
    gc_tuning: GcTuning = field(default_factory=ProcessGcTuning)
