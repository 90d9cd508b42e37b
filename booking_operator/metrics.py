"""What the parts of the operator measure. Without metrics they measure nothing.

These are protocols, so that no part below `observability` imports Prometheus. `NO_METRICS` implements all of
them and does nothing.
"""

from collections.abc import Callable, Hashable
from datetime import timedelta
from enum import StrEnum
from typing import Protocol


class ReconcileOutcome(StrEnum):
    """How a reconcile has ended."""

    SUCCESS = "success"
    REQUEUE = "requeue"
    """It asks to be tried again: something that it needs is not there yet, or refuses."""
    TIMEOUT = "timeout"
    ERROR = "error"
    """An unexpected exception: a bug."""


class FailedPart(StrEnum):
    """What an unexpected exception has failed."""

    CALL = "call"
    """A call of AWS, reading the answer included."""
    VIEW = "view"
    """Opening a client, reading the answer to a Describe, or updating the view of the instances from it."""
    LISTENER = "listener"
    """A listener that is woken by a change of the instances."""
    POLL = "poll"
    """The decision which regions to look at."""
    BATCH = "batch"
    """The treatment of a batch, before or after its call."""
    QUEUE = "queue"
    """The decision what is sent by the next call."""
    CREDENTIALS = "credentials"
    """The renewal of credentials."""
    DELAYS = "delays"
    """The forecast of delays."""
    RECORD = "record"
    """Reading one record of a Describe, which is skipped."""


class ControllerMetrics(Protocol):
    """What is measured of one controller and its queue."""

    def added(self) -> None:
        """A key was made ready to be handed out."""
        ...

    def waited(self, seconds: float) -> None:
        """A key was handed out, so long after it was added, or after it was due by the clock."""
        ...

    def retried(self) -> None:
        """A key comes back after a back-off."""
        ...

    def reconcile_started(self, key: Hashable, /) -> None:
        """A reconcile of `key` begins."""
        ...

    def reconcile_ended(self, key: Hashable, /) -> None:
        """The reconcile of `key` is over, also when it was cancelled or has raised."""
        ...

    def reconciled(self, outcome: ReconcileOutcome, seconds: float) -> None:
        """A reconcile has ended after so long. Not called for one that was cancelled."""
        ...


MetricsProvider = Callable[[str], ControllerMetrics]
"""Returns the metrics of the controller of a name, like client-go's `MetricsProvider`. The same name gets the
same metrics again."""


class KubeMetrics(Protocol):
    """What is measured of the requests to the API server."""

    def requested(self, verb: str, code: str, seconds: float) -> None:
        """One request got the head of an answer of status `code`, or none ("error"), after so long."""
        ...

    def api_skewed(self, ahead: timedelta) -> None:
        """So far our clock is ahead of the API server's at least; behind: negative."""
        ...


class CloudMetrics(Protocol):
    """What is measured of the calls of AWS."""

    def called(
        self, service: str, action: str, account: str, region: str, result: str, seconds: float
    ) -> None:
        """A call has ended after so long; `result` is the class of its failure, or "ok"."""
        ...

    def batched(self, action: str, instances: int) -> None:
        """A call for so many instances is about to leave."""
        ...

    def aws_skewed(self, ahead: timedelta) -> None:
        """So far our clock is ahead of AWS's at least; behind: negative."""
        ...

    def unexpected(self, part: FailedPart, times: int = 1) -> None:
        """An exception that no rule covers has failed a part, so many times."""
        ...


class NoMetrics:
    """Measures nothing."""

    def controller(self, _: str) -> ControllerMetrics:
        """The metrics of a controller: these."""
        return self

    def _ignore(self, *_: object) -> None:
        """Do nothing."""

    added = waited = retried = reconcile_started = reconcile_ended = reconciled = _ignore
    requested = api_skewed = called = batched = aws_skewed = unexpected = _ignore


NO_METRICS = NoMetrics()
