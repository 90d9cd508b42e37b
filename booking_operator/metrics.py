"""The metrics interfaces that the parts of the operator call.

They are protocols, so that only `observability` imports Prometheus. `NO_METRICS` implements all of them as
no-ops.
"""

from collections.abc import Callable, Hashable
from datetime import timedelta
from enum import StrEnum
from typing import Protocol


class ReconcileOutcome(StrEnum):
    """The outcome of a reconcile."""

    SUCCESS = "success"
    REQUEUE = "requeue"
    """The reconcile asks for a retry, for example because a request failed or data is stale."""
    TIMEOUT = "timeout"
    ERROR = "error"
    """The reconcile raised an unexpected exception, which is a bug."""


class FailedPart(StrEnum):
    """The part of the operator in which an unexpected exception was raised."""

    CALL = "call"
    """A call of an AWS API, including reading the response."""
    VIEW = "view"
    """Opening a client, reading the response of a Describe, or updating the view of the instances from it."""
    LISTENER = "listener"
    """A listener of inventory changes."""
    POLL = "poll"
    """The decision which scopes to poll, and the release of unused scopes."""
    BATCH = "batch"
    """The processing of a batch before or after its call."""
    QUEUE = "queue"
    """The selection of the entries for the next call."""
    CREDENTIALS = "credentials"
    """The renewal of credentials."""
    DELAYS = "delays"
    """The forecast of delays."""
    RECORD = "record"
    """Reading one record of a Describe response. The record is skipped."""


class ControllerMetrics(Protocol):
    """The metrics of one controller and its work queue."""

    def added(self) -> None:
        """Count a key that was added or has become due."""
        ...

    def waited(self, seconds: float) -> None:
        """Record the time from when a key was added, or due, until a worker got it."""
        ...

    def retried(self) -> None:
        """Count a key that is retried after a back-off."""
        ...

    def reconcile_started(self, key: Hashable, /) -> None:
        """Record the start of a reconcile of `key`."""
        ...

    def reconcile_ended(self, key: Hashable, /) -> None:
        """Record the end of the reconcile of `key`, also after a cancellation or an exception."""
        ...

    def reconciled(self, outcome: ReconcileOutcome, seconds: float) -> None:
        """Record the outcome and the duration of a reconcile. A cancelled reconcile is not recorded."""
        ...


MetricsProvider = Callable[[str], ControllerMetrics]
"""Returns the metrics of a controller by its name, like client-go's `MetricsProvider`.

Equal names get the same metrics.
"""


class KubeMetrics(Protocol):
    """The metrics of requests to the API server."""

    def requested(self, verb: str, code: str, seconds: float) -> None:
        """Record a request, and the time until its response headers arrived.

        `code` is the HTTP status, or "error" when there was no response.
        """
        ...

    def api_skewed(self, ahead: timedelta) -> None:
        """Record the minimum clock skew against the API server; negative when the local clock is behind."""
        ...


class CloudMetrics(Protocol):
    """The metrics of AWS API calls."""

    def called(
        self, service: str, action: str, account: str, region: str, result: str, seconds: float
    ) -> None:
        """Record a call and its duration. `result` is "ok" or the `FailureKind` of the error."""
        ...

    def batched(self, action: str, instances: int) -> None:
        """Record the number of instances of a call that is about to leave."""
        ...

    def aws_skewed(self, ahead: timedelta) -> None:
        """Record the minimum clock skew against AWS; negative when the local clock is behind."""
        ...

    def unexpected(self, part: FailedPart, times: int = 1) -> None:
        """Count unexpected exceptions of a part."""
        ...


class NoMetrics:
    """Implements all metrics interfaces as no-ops."""

    def controller(self, _: str) -> ControllerMetrics:
        """Return no-op metrics for a controller."""
        return self

    def _ignore(self, *_: object) -> None:
        """Do nothing."""

    added = waited = retried = reconcile_started = reconcile_ended = reconciled = _ignore
    requested = api_skewed = called = batched = aws_skewed = unexpected = _ignore


NO_METRICS = NoMetrics()
