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
    "Time from a scheduled start until AWS accepts the call, per instance. "
    "Only starts that were known in advance count.",
    LATENESS,
    "service",
)
STOP_LATENESS = _histogram(
    "stop_lateness_seconds",
    "Time from a scheduled stop until AWS accepts the call, per instance. "
    "Only stops that were known in advance count.",
    LATENESS,
    "service",
)
LEADER = _gauge("leader", "1 if this replica is the leader or leader election is off, 0 if it is on standby.")
LEADER_TRANSITIONS = _counter("leader_transitions_total", "Number of times this replica became the leader.")

QUEUE_DEPTH = _gauge(
    "workqueue_depth", "Number of keys that are ready and wait for a reconcile, on the leader.", "controller"
)
QUEUE_KEYS = _gauge(
    "workqueue_keys",
    "Number of keys that are ready, in processing, or waiting for a timer or a back-off, on the leader.",
    "controller",
)
QUEUE_ADDS = _counter(
    "workqueue_adds_total",
    "Number of times a key was added or became due. Repeated adds of a waiting key count once.",
    "controller",
)
QUEUE_LATENCY = _histogram(
    "workqueue_queue_duration_seconds",
    "Time a key waits for its reconcile after it was added or became due.",
    DURATION,
    "controller",
)
QUEUE_RETRIES = _counter(
    "workqueue_retries_total", "Number of reconciles that are retried after a back-off.", "controller"
)
QUEUE_LONGEST = _gauge(
    "workqueue_longest_running_processor_seconds",
    "Time for which the oldest reconcile in flight has run, on the leader.",
    "controller",
)
WORK_DURATION = _histogram(
    "workqueue_work_duration_seconds", "Duration of a reconcile.", DURATION, "controller"
)
RECONCILES = _counter(
    "reconciles_total",
    "Number of reconciles by result: success, requeue, timeout, error.",
    "controller",
    "result",
)

WATCH_HEARD = _gauge(
    "watch_last_heard_timestamp_seconds",
    "Time at which the API server last sent a list, a watch event or a bookmark of the kind.",
    "kind",
)
WATCH_RESTARTS = _counter(
    "watch_restarts_total",
    "Number of restarts of lists and watches by reason: ended (normal), expired, refused, failed.",
    "kind",
    "reason",
)
CACHE_SYNCED = _gauge("cache_synced", "1 if all objects of the kind have been listed, otherwise 0.", "kind")
CACHE_OBJECTS = _gauge("cache_objects", "Number of cached objects of the kind.", "kind")
LIST_DURATION = _gauge("cache_list_duration_seconds", "Duration of the last list.", "kind")
BOOKINGS = _gauge(
    "bookings", "Number of Bookings by status; none if the status is empty or unknown.", "status"
)
RESOURCES = _gauge(
    "resource_conditions",
    "Number of Resources by condition (Valid, Found, Synced, Ready, Delayed) and its status.",
    "condition",
    "status",
)
UNREADY = _gauge(
    "resource_unready_since_timestamp_seconds",
    "Time since which the longest unready Resource has not been Ready, by the reason of the condition.",
    "reason",
)
KUBE_REQUESTS = _counter(
    "kubernetes_requests_total",
    "Number of requests to the API server by HTTP status; error if there was no response, "
    "other for an unknown status.",
    "verb",
    "code",
)
KUBE_DURATION = _histogram(
    "kubernetes_request_duration_seconds",
    "Time from a request to the API server until its response headers arrive.",
    DURATION,
    "verb",
)
EVENTS_DROPPED = _counter("events_dropped_total", "Number of Events that could not be written.")

AWS_CALLS = _counter(
    "aws_calls_total",
    "Number of calls by result: ok, throttled, transient, lost, refused, capacity, denied, account, unsent.",
    "service",
    "action",
    "account",
    "region",
    "result",
)
AWS_DURATION = _histogram("aws_call_duration_seconds", "Duration of a call.", DURATION, "service", "action")
AWS_BATCH = _histogram("aws_call_instances", "Number of instances in a call.", INSTANCES, "action")
THROTTLE_TOKENS = _gauge(
    "aws_throttle_tokens",
    "Number of tokens left in the operator's model of the request limits, by bucket: requests, instances.",
    "account",
    "region",
    "action",
    "bucket",
)
THROTTLE_WAITING = _gauge(
    "aws_throttle_waiting_instances",
    "Number of due instances that wait for a call.",
    "account",
    "region",
    "action",
)
VIEW_SEEN = _gauge(
    "aws_last_seen_timestamp_seconds",
    "Time at which the newest observation of the instances was requested.",
    "service",
    "account",
    "region",
)
VIEW_FAILURES = _gauge(
    "aws_view_failures",
    "Number of consecutive failed attempts to list the instances.",
    "service",
    "account",
    "region",
)
STATES = _gauge(
    "instances",
    "Number of instances with the application tag, by state.",
    "service",
    "account",
    "region",
    "state",
)
UNEXPECTED = _counter(
    "unexpected_errors_total",
    "Number of unexpected exceptions by the part that failed: call, view, listener, poll, batch, "
    "queue, credentials, delays, record.",
    "part",
)
NOTIFICATIONS = _counter(
    "notifications_total",
    "Number of attempts to deliver a notification, by channel and result: sent or failed.",
    "type",
    "result",
)
USAGE = _counter(
    "usage_instance_seconds_total",
    "Instance-seconds that this replica has written to Usage objects, by amount: "
    "capacity, running, booked, unbooked, missing, unobserved.",
    "amount",
)
CLOCK_SKEW = _gauge(
    "clock_skew_seconds",
    "Minimum clock skew: positive if the operator's clock is ahead of the server, negative if it is behind.",
    "server",
)
LOOP_LAG = _histogram(
    "event_loop_lag_seconds", "Delay of due callbacks in the event loop, sampled four times a second.", LAG
)
TASKS = _gauge("asyncio_tasks", "Number of unfinished asyncio tasks.")
BUILD_INFO = _gauge("build_info", "Always 1. The labels contain the versions.", "version", "python_version")

CATALOGUE: tuple[MetricFamily, ...] = tuple(
    found for found in list(globals().values()) if isinstance(found, MetricFamily)
)
"""All metrics in the order of the documentation. The registry also has the standard `process_*` metrics."""
