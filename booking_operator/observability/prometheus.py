"""What is counted and timed as it happens. Lasts as long as the process, whatever becomes of a leadership."""

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
from booking_operator.metrics import ControllerMetrics, FailedPart, ReconcileOutcome
from booking_operator.observability import catalogue
from booking_operator.observability.catalogue import MetricFamily

_STATUSES = range(100, 600)


class _Controller:
    """`metrics.ControllerMetrics`, with the series looked up once."""

    def __init__(self, name: str, metrics: "Metrics") -> None:
        self.added: Callable[[], None] = metrics.adds.labels(name).inc
        self.waited: Callable[[float], None] = metrics.latency.labels(name).observe
        self.retried: Callable[[], None] = metrics.retries.labels(name).inc
        self._worked = metrics.work.labels(name).observe
        self._ended = {
            outcome: metrics.reconciles.labels(name, outcome.value) for outcome in ReconcileOutcome
        }

    def reconcile_started(self, _: Hashable, /) -> None:
        """Nothing: a label for each key would be a series for each object."""

    def reconcile_ended(self, _: Hashable, /) -> None:
        """The same."""

    def reconciled(self, outcome: ReconcileOutcome, seconds: float) -> None:
        """A reconcile has ended."""
        self._ended[outcome].inc()
        self._worked(seconds)


# One series more of each counter and histogram, which nobody looks at.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All instruments, in a registry of their own; each layer is handed the part that it knows of.

    Attributes:
        registry: where they are collected from.
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
        self._skew = self._gauge(catalogue.CLOCK_SKEW)
        self._lag = self._histogram(catalogue.LOOP_LAG)
        self._dropped = self._counter(catalogue.EVENTS_DROPPED)
        self._transitions = self._counter(catalogue.LEADER_TRANSITIONS)
        info = self._gauge(catalogue.BUILD_INFO)
        info.labels(version("booking-operator"), platform.python_version()).set(1)
        for service in ("ec2", "rds"):  # so that a rate is 0, and not absent, before the first
            self._start.labels(service)
            self._stop.labels(service)
        for part in FailedPart:  # the same
            self._unexpected.labels(part.value)

    def _counter(self, family: MetricFamily) -> Counter:
        return Counter(family.name, family.text, family.labels, registry=self.registry)

    def _gauge(self, family: MetricFamily) -> Gauge:
        return Gauge(family.name, family.text, family.labels, registry=self.registry)

    def _histogram(self, family: MetricFamily) -> Histogram:
        buckets = family.buckets
        return Histogram(family.name, family.text, family.labels, registry=self.registry, buckets=buckets)

    def late(self, action: Action, service: str, seconds: float, instances: int) -> None:
        """So many instances were accepted so late; `reconcilers.resource.lateness.Late`."""
        observe = (self._start if action is Action.START else self._stop).labels(service).observe
        for _ in range(instances):
            observe(seconds)

    def controller(self, name: str) -> ControllerMetrics:
        """What measures the controller of that name; `metrics.MetricsProvider`."""
        label = label_of(name)
        if label not in self._controllers:
            self._controllers[label] = _Controller(label, self)
        return self._controllers[label]

    def requested(self, verb: str, code: str, seconds: float) -> None:
        """One request to the API server; `metrics.KubeMetrics`."""
        known = not code.isdecimal() or int(code) in _STATUSES
        self._requests.labels(verb, code if known else "other").inc()
        self._request_times.labels(verb).observe(seconds)

    def api_skewed(self, ahead: timedelta) -> None:
        """How far our clock is ahead of the API server's; the same."""
        self._skew.labels("kubernetes").set(ahead.total_seconds())

    def called(
        self, service: str, action: str, account: str, region: str, result: str, seconds: float
    ) -> None:
        """One call of AWS; `metrics.CloudMetrics`."""
        # Accounts are bounded by the configuration; of regions tenants may write what they like.
        region = region if not region or region in regions() else "other"
        self._calls.labels(service, action, account, region, result).inc()
        self._call_times.labels(service, action).observe(seconds)

    def batched(self, action: str, instances: int) -> None:
        """A call for so many instances; the same."""
        self._batches.labels(action).observe(instances)

    def aws_skewed(self, ahead: timedelta) -> None:
        """How far our clock is ahead of AWS's; the same."""
        self._skew.labels("aws").set(ahead.total_seconds())

    def unexpected(self, part: FailedPart, times: int = 1) -> None:
        """An exception that no rule covers has failed a part of the cloud adapters; the same."""
        self._unexpected.labels(part.value).inc(times)

    def notified(self, type_: str, sent: bool) -> None:
        """A message was sent, or not, by a channel."""
        self._notifications.labels(type_, "sent" if sent else "failed").inc()

    def event_dropped(self) -> None:
        """An Event was given up."""
        self._dropped.inc()

    def began_to_lead(self) -> None:
        """This replica leads from now on."""
        self._transitions.inc()

    def lagged(self, seconds: float) -> None:
        """The event loop ran what was due so late."""
        self._lag.observe(seconds)


def label_of(name: str) -> str:
    """The name of a controller as a label has it: `lock-tags`, `booking-status`."""
    return name.lower().replace(" ", "-")
