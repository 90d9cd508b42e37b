"""The collaborators of an operator that exist for the whole process."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from booking_operator.config import Settings
from booking_operator.domain.notification import Channel
from booking_operator.engine.clock import Clock
from booking_operator.gc_tuning import GcTuning, ProcessGcTuning
from booking_operator.kube.client import KubeClient
from booking_operator.observability.prometheus import Metrics


@dataclass(frozen=True)
class Dependencies:
    """The collaborators that exist for the whole process, also between leaderships.

    Attributes:
        settings: the settings from flags and environment.
        client: the client of the API server.
        channels: the notification channels, by `type`.
        clock: the wall clock and the monotonic clock.
        metrics: the metrics.
        gc_tuning: controls the garbage collector.
    """

    settings: Settings
    client: KubeClient
    channels: Mapping[str, Channel]
    clock: Clock
    metrics: Metrics
    gc_tuning: GcTuning = field(default_factory=ProcessGcTuning)
