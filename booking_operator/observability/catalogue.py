"""The catalogue of all metrics. Tests compare documentation, alerts and dashboard with it.

Names and units follow https://prometheus.io/docs/practices/naming/. The cardinality of labels is bounded:
users cannot choose label values, so no label has namespaces, names, tags or ids. The configuration bounds the
accounts, and AWS bounds the regions.
"""

from dataclasses import dataclass
from typing import Literal

LATENESS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Buckets in seconds. The usual lateness is a few milliseconds. Request limits of AWS, an outage or a restart
cause longer ones."""
DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0)
"""Buckets in seconds, up to the timeout of a reconcile."""
LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
"""Buckets in seconds."""
INSTANCES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """One metric.

    Attributes:
        kind: the metric type of Prometheus.
        name: the name with its unit; with `_total` for a counter.
        text: the HELP text.
        labels: the names of the labels.
        buckets: the upper bounds of a histogram.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def samples(self) -> frozenset[str]:
        """The names of the time series."""
        if self.kind == "histogram":
            return frozenset({f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count")})
        return frozenset({self.name})


def _counter(name: str, text: str, *labels: str) -> MetricFamily:
    return MetricFamily("counter", f"booking_operator_{name}", text, labels)


def _gauge(name: str, text: str, *labels: str) -> MetricFamily:
    return MetricFamily("gauge", f"booking_operator_{name}", text, labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> MetricFamily:
    return MetricFamily("histogram", f"booking_operator_{name}", text, labels, buckets)


START_LATENESS = _histogram(
    "start_lateness_seconds",
    "From a start that was known ahead to its acceptance by AWS, for each instance.",
    LATENESS,
    "service",
)
STOP_LATENESS = _histogram(
    "stop_lateness_seconds",
    "From a stop that was known ahead to its acceptance by AWS, for each instance.",
    LATENESS,
    "service",
)
LEADER = _gauge("leader", "1 where this replica leads, or there is no election; 0 where it stands by.")
LEADER_TRANSITIONS = _counter("leader_transitions_total", "How often this replica has begun to lead.")

QUEUE_DEPTH = _gauge(
    "workqueue_depth", "Keys that are ready and wait to be reconciled, on the leader.", "controller"
)
QUEUE_KEYS = _gauge(
    "workqueue_keys",
    "Keys that are ready, under way, or wait for their time or the end of a back-off, on the leader.",
    "controller",
)
QUEUE_ADDS = _counter("workqueue_adds_total", "Keys that were added, or came due.", "controller")
QUEUE_LATENCY = _histogram(
    "workqueue_queue_duration_seconds",
    "How long a key waited after it was added, or was due by the clock.",
    DURATION,
    "controller",
)
QUEUE_RETRIES = _counter(
    "workqueue_retries_total", "Keys that are to be reconciled again after a back-off.", "controller"
)
QUEUE_LONGEST = _gauge(
    "workqueue_longest_running_processor_seconds",
    "For how long the oldest reconcile that is under way has run, on the leader.",
    "controller",
)
WORK_DURATION = _histogram(
    "workqueue_work_duration_seconds", "How long a reconcile took.", DURATION, "controller"
)
RECONCILES = _counter(
    "reconciles_total",
    "Reconciles by their result: success, requeue, timeout, error.",
    "controller",
    "result",
)

WATCH_HEARD = _gauge(
    "watch_last_heard_timestamp_seconds",
    "When the API server last sent anything of the kind: a list, an event or a bookmark.",
    "kind",
)
WATCH_RESTARTS = _counter(
    "watch_restarts_total",
    "Lists and watches that had to begin again: ended, which is normal, expired, refused, failed.",
    "kind",
    "reason",
)
CACHE_SYNCED = _gauge("cache_synced", "1 once all objects of the kind have been listed.", "kind")
CACHE_OBJECTS = _gauge("cache_objects", "Objects of the kind that are known.", "kind")
LIST_DURATION = _gauge("cache_list_duration_seconds", "How long the last list took.", "kind")
BOOKINGS = _gauge(
    "bookings", "Bookings by status; none where there is none yet, or the spec makes no sense.", "status"
)
RESOURCES = _gauge(
    "resource_conditions",
    "Resources by condition (Valid, Found, Synced, Ready, Delayed) and its status.",
    "condition",
    "status",
)
UNREADY = _gauge(
    "resource_unready_since_timestamp_seconds",
    "Since when the Resource has not been Ready that has been so for the longest, by the reason it has.",
    "reason",
)
KUBE_REQUESTS = _counter(
    "kubernetes_requests_total",
    "Requests to the API server, by HTTP status, or error where there was no answer, or other where the "
    "status is unknown.",
    "verb",
    "code",
)
KUBE_DURATION = _histogram(
    "kubernetes_request_duration_seconds",
    "From a request to the API server to the head of its answer.",
    DURATION,
    "verb",
)
EVENTS_DROPPED = _counter("events_dropped_total", "Events that could not be written.")

AWS_CALLS = _counter(
    "aws_calls_total",
    "Calls by result: ok, throttled, transient, lost, refused, capacity, denied, account, unsent.",
    "service",
    "action",
    "account",
    "region",
    "result",
)
AWS_DURATION = _histogram("aws_call_duration_seconds", "How long a call took.", DURATION, "service", "action")
AWS_BATCH = _histogram("aws_call_instances", "For how many instances a call was made.", INSTANCES, "action")
THROTTLE_TOKENS = _gauge(
    "aws_throttle_tokens",
    "What the request limits leave, by the operator's model, in the buckets of calls and of instances.",
    "account",
    "region",
    "action",
    "bucket",
)
THROTTLE_WAITING = _gauge(
    "aws_throttle_waiting_instances",
    "Instances that are due and wait for their turn.",
    "account",
    "region",
    "action",
)
VIEW_SEEN = _gauge(
    "aws_last_seen_timestamp_seconds",
    "When the newest view of the instances was asked for.",
    "service",
    "account",
    "region",
)
VIEW_FAILURES = _gauge(
    "aws_view_failures",
    "How many times in a row the instances could not be looked at.",
    "service",
    "account",
    "region",
)
STATES = _gauge(
    "instances", "Instances with the application tag, by state.", "service", "account", "region", "state"
)
UNEXPECTED = _counter(
    "unexpected_errors_total",
    "Exceptions that no rule covers, by the part that failed: call, view, listener, poll, batch, queue, "
    "credentials, delays, record.",
    "part",
)
NOTIFICATIONS = _counter(
    "notifications_total", "Messages to users by channel and result: sent or failed.", "type", "result"
)
CLOCK_SKEW = _gauge(
    "clock_skew_seconds", "How far the operator's clock is ahead at least; behind: negative.", "server"
)
LOOP_LAG = _histogram(
    "event_loop_lag_seconds", "How late the event loop runs what is due; sampled four times a second.", LAG
)
TASKS = _gauge("asyncio_tasks", "Tasks of the event loop that are not done.")
BUILD_INFO = _gauge("build_info", "Always 1.", "version", "python_version")

CATALOGUE: tuple[MetricFamily, ...] = tuple(
    found for found in list(globals().values()) if isinstance(found, MetricFamily)
)
"""All metrics in the order of the documentation. The registry also has the standard `process_*` metrics."""
