"""Collects the metrics that are read at scrape time: queues, watches, token buckets and views."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from booking_operator.cloud.batching.request_queue import RequestQueue
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.clock import Clock
from booking_operator.engine.reflector import RestartReason
from booking_operator.observability import catalogue
from booking_operator.observability.catalogue import MetricFamily
from booking_operator.observability.prometheus import label_of
from booking_operator.observability.sources import Sources

Found = CounterMetricFamily | GaugeMetricFamily
Row = tuple[Sequence[str], float]


class StateCollector(Collector):
    """Reads the state of the operator at scrape time.

    All values are in memory and already counted, so a scrape takes little time.
    """

    def __init__(self, sources: Sources, clock: Clock) -> None:
        self._sources = sources
        self._clock = clock

    def describe(self) -> Iterable[Found]:
        """Return the metrics without values, so that the registration collects no values."""
        return [_family(family, ()) for family in READ]

    def collect(self) -> Iterator[Found]:
        """Yield the metrics with their present values."""
        yield _family(catalogue.LEADER, [((), float(self._sources.is_leader()))])
        yield _family(catalogue.TASKS, [((), float(self._sources.tasks()))])
        yield from self._queues()
        yield from self._watches()
        yield from self._objects()
        yield from self._request_queues()
        yield from self._views()

    def _queues(self) -> Iterator[Found]:
        controllers = {label_of(item.name): item for item in self._sources.controllers}
        depths = [((name,), float(len(item.queue))) for name, item in controllers.items()]
        yield _family(catalogue.QUEUE_DEPTH, depths)
        keys = [((name,), float(item.queue.key_count)) for name, item in controllers.items()]
        yield _family(catalogue.QUEUE_KEYS, keys)
        longest = [((name,), item.longest_running_seconds) for name, item in controllers.items()]
        yield _family(catalogue.QUEUE_LONGEST, longest)

    def _watches(self) -> Iterator[Found]:
        reflectors = self._sources.reflectors
        heard = [
            ((item.kind,), item.last_activity_at.timestamp()) for item in reflectors if item.last_activity_at
        ]
        yield _family(catalogue.WATCH_HEARD, heard)
        restarts = [
            ((item.kind, why.value), float(item.restarts[why]))
            for item in reflectors
            for why in RestartReason
        ]
        yield _family(catalogue.WATCH_RESTARTS, restarts)
        yield _family(catalogue.CACHE_SYNCED, [((item.kind,), float(item.has_synced)) for item in reflectors])
        listed = [((item.kind,), item.list_seconds) for item in reflectors if item.has_synced]
        yield _family(catalogue.LIST_DURATION, listed)

    def _objects(self) -> Iterator[Found]:
        objects = self._sources.objects()
        yield _family(catalogue.CACHE_OBJECTS, [((kind,), float(count)) for kind, count in objects.items()])
        object_counts = self._sources.object_counts
        bookings = object_counts.bookings if object_counts else {}
        yield _family(catalogue.BOOKINGS, [((status,), count) for status, count in bookings.items()])
        yield _family(catalogue.RESOURCES, list(object_counts.conditions.items()) if object_counts else [])
        unready = object_counts.unready_since() if object_counts else {}
        yield _family(
            catalogue.UNREADY, [((reason,), since.timestamp()) for reason, since in unready.items()]
        )

    def _request_queues(self) -> Iterator[Found]:
        known, drivers = self._sources.is_known_scope, self._sources.drivers
        queues = [queue for driver in drivers for queue in driver.batcher.queues if known(queue.scope)]
        yield _family(catalogue.THROTTLE_TOKENS, [row for queue in queues for row in self._tokens(queue)])
        yield _family(catalogue.THROTTLE_WAITING, [(_where(queue), float(queue.waiting)) for queue in queues])

    def _tokens(self, queue: RequestQueue) -> Iterator[Row]:
        now, limiter = self._clock.now(), queue.limiter
        yield (*_where(queue), "requests"), limiter.requests.refilled(now).level
        if limiter.instances is not None:
            yield (*_where(queue), "instances"), limiter.instances.refilled(now).level

    def _views(self) -> Iterator[Found]:
        seen: list[Row] = []
        failures: list[Row] = []
        states: list[Row] = []
        for service, item in self._sources.services.items():
            for scope, watched in item.watched.items():
                if not self._sources.is_known_scope(scope):
                    continue
                where, view = (service, scope.account, scope.region), watched.view
                failures.append((where, float(watched.failures)))
                if view.at is not None:
                    counts = view.states()
                    seen.append((where, view.at.timestamp()))
                    states += [
                        ((*where, state.value), float(counts.get(state, 0))) for state in InstanceState
                    ]
        yield _family(catalogue.VIEW_SEEN, seen)
        yield _family(catalogue.VIEW_FAILURES, failures)
        yield _family(catalogue.STATES, states)


def _where(queue: RequestQueue) -> tuple[str, str, str]:
    return queue.scope.account, queue.scope.region, queue.call


def _family(family: MetricFamily, rows: Iterable[Row]) -> Found:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made = kind(family.name, family.text, labels=family.labels)
    for labels, value in rows:
        made.add_metric(labels, value)
    return made


READ = (
    catalogue.LEADER,
    catalogue.TASKS,
    catalogue.QUEUE_DEPTH,
    catalogue.QUEUE_KEYS,
    catalogue.QUEUE_LONGEST,
    catalogue.WATCH_HEARD,
    catalogue.WATCH_RESTARTS,
    catalogue.CACHE_SYNCED,
    catalogue.CACHE_OBJECTS,
    catalogue.LIST_DURATION,
    catalogue.BOOKINGS,
    catalogue.RESOURCES,
    catalogue.UNREADY,
    catalogue.THROTTLE_TOKENS,
    catalogue.THROTTLE_WAITING,
    catalogue.VIEW_SEEN,
    catalogue.VIEW_FAILURES,
    catalogue.STATES,
)
"""The metrics of this collector. `observability.prometheus` keeps the others."""
