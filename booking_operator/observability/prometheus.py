"""The Prometheus metrics that are updated as things happen. They exist for the whole process."""

import platform
from collections.abc import Callable, Hashable
from datetime import timedelta
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from booking_operator.cloud.aws.regions import regions
from booking_operator.cloud.driver import Action
from booking_operator.domain.services import SERVICES
from booking_operator.domain.usage import AMOUNTS, UsageAmounts
from booking_operator.metrics import ControllerMetrics, FailedPart, ReconcileOutcome
from booking_operator.observability import catalogue
from booking_operator.observability.catalogue import MetricFamily

_STATUSES = range(100, 600)


class _Controller:
    """Implements `metrics.ControllerMetrics`. It looks up its time series once."""

    def __init__(self, name: str, metrics: "Metrics") -> None:
        self.added: Callable[[], None] = metrics.adds.labels(name).inc
        self.waited: Callable[[float], None] = metrics.latency.labels(name).observe
        self.retried: Callable[[], None] = metrics.retries.labels(name).inc
        self._worked = metrics.work.labels(name).observe
        self._ended = {
            outcome: metrics.reconciles.labels(name, outcome.value) for outcome in ReconcileOutcome
        }

    def reconcile_started(self, _: Hashable, /) -> None:
        """Do nothing: a label for each key would create a time series for each object."""

    def reconcile_ended(self, _: Hashable, /) -> None:
        """Do nothing, for the same reason."""

    def reconciled(self, outcome: ReconcileOutcome, seconds: float) -> None:
        """Record the outcome and the duration of a reconcile."""
        self._ended[outcome].inc()
        self._worked(seconds)


# The series `*_created` would add one unused time series to each counter and histogram.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All updated metrics. It implements the protocols of the module `metrics`.

    Attributes:
        registry: the registry of these metrics and of `collector.StateCollector`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._start = self._histogram(catalogue.START_LATENESS)
        self._stop = self._histogram(catalogue.STOP_LATENESS)
        self.adds = self._counter(catalogue.QUEUE_ADDS)
        self.latency = self._histogram(catalogue.QUEUE_LATENCY)
        self.retries = self._counter(catalogue.QUEUE_RETRIES)
        self.work = self._histogram(catalogue.WORK_DURATION)
        self.reconciles = self._counter(catalogue.RECONCILES)
        self._controllers: dict[str, _Controller] = {}
        self._requests = self._counter(catalogue.KUBE_REQUESTS)
        self._request_times = self._histogram(catalogue.KUBE_DURATION)
        self._calls = self._counter(catalogue.AWS_CALLS)
        self._call_times = self._histogram(catalogue.AWS_DURATION)
        self._batches = self._histogram(catalogue.AWS_BATCH)
        self._unexpected = self._counter(catalogue.UNEXPECTED)
        self._notifications = self._counter(catalogue.NOTIFICATIONS)
        self._usage = self._counter(catalogue.USAGE)
        self._skew = self._gauge(catalogue.CLOCK_SKEW)
        self._lag = self._histogram(catalogue.LOOP_LAG)
        self._dropped = self._counter(catalogue.EVENTS_DROPPED)
        self._transitions = self._counter(catalogue.LEADER_TRANSITIONS)
        info = self._gauge(catalogue.BUILD_INFO)
        info.labels(version("booking-operator"), platform.python_version()).set(1)
        # Create the time series now, so that a rate is 0, and not absent, before the first event.
        for service in SERVICES:
            self._start.labels(service)
            self._stop.labels(service)
        for part in FailedPart:
            self._unexpected.labels(part.value)
        for amount in AMOUNTS:
            self._usage.labels(amount)

    def _counter(self, family: MetricFamily) -> Counter:
        return Counter(family.name, family.text, family.labels, registry=self.registry)

    def _gauge(self, family: MetricFamily) -> Gauge:
        return Gauge(family.name, family.text, family.labels, registry=self.registry)

    def _histogram(self, family: MetricFamily) -> Histogram:
        buckets = family.buckets
        return Histogram(family.name, family.text, family.labels, registry=self.registry, buckets=buckets)

    def late(self, action: Action, service: str, seconds: float, instances: int) -> None:
        """Record the lateness of accepted instances; see `reconcilers.resource.orders.Late`."""
        observe = (self._start if action is Action.START else self._stop).labels(service).observe
        for _ in range(instances):
            observe(seconds)

    def controller(self, name: str) -> ControllerMetrics:
        """Return the metrics of a controller; see `metrics.MetricsProvider`."""
        label = label_of(name)
        if label not in self._controllers:
            self._controllers[label] = _Controller(label, self)
        return self._controllers[label]

    def requested(self, verb: str, code: str, seconds: float) -> None:
        """Record a request to the API server; see `metrics.KubeMetrics`."""
        known = not code.isdecimal() or int(code) in _STATUSES
        self._requests.labels(verb, code if known else "other").inc()
        self._request_times.labels(verb).observe(seconds)

    def api_skewed(self, ahead: timedelta) -> None:
        """Record the clock skew against the API server; see `metrics.KubeMetrics`."""
        self._skew.labels("kubernetes").set(ahead.total_seconds())

    def called(
        self, service: str, action: str, account: str, region: str, result: str, seconds: float
    ) -> None:
        """Record a call of an AWS API; see `metrics.CloudMetrics`."""
        # The configuration bounds the accounts, but tenants can write any region into a spec.
        region = region if not region or region in regions() else "other"
        self._calls.labels(service, action, account, region, result).inc()
        self._call_times.labels(service, action).observe(seconds)

    def batched(self, action: str, instances: int) -> None:
        """Record the number of instances of a call; see `metrics.CloudMetrics`."""
        self._batches.labels(action).observe(instances)

    def aws_skewed(self, ahead: timedelta) -> None:
        """Record the clock skew against AWS; see `metrics.CloudMetrics`."""
        self._skew.labels("aws").set(ahead.total_seconds())

    def unexpected(self, part: FailedPart, times: int = 1) -> None:
        """Count unexpected exceptions of a part; see `metrics.CloudMetrics`."""
        self._unexpected.labels(part.value).inc(times)

    def notified(self, type_: str, sent: bool) -> None:
        """Count an attempt of a channel to deliver a message."""
        self._notifications.labels(type_, "sent" if sent else "failed").inc()

    def used(self, amounts: UsageAmounts) -> None:
        """Count usage that was written; see `reconcilers.usage.Recorded`."""
        for amount in AMOUNTS:
            self._usage.labels(amount).inc(getattr(amounts, amount))

    def event_dropped(self) -> None:
        """Count an Event that was dropped."""
        self._dropped.inc()

    def began_to_lead(self) -> None:
        """Count the start of a leadership of this replica."""
        self._transitions.inc()

    def lagged(self, seconds: float) -> None:
        """Record a lag of the event loop in seconds."""
        self._lag.observe(seconds)


def label_of(name: str) -> str:
    """Return the label value for the name of a controller, such as `lock-tags` or `booking-status`."""
    return name.lower().replace(" ", "-")
