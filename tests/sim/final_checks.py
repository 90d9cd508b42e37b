"""The checks after the last failure: convergence, and that nothing leaks."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from traceback import format_exception

from booking_operator.api.kinds import KINDS
from booking_operator.domain.notification import NotificationTrigger
from booking_operator.domain.services import SERVICES
from booking_operator.engine.introspection import BOUNDED
from booking_operator.engine.store import Key
from tests.sim.aws import Machine
from tests.sim.kernel import EPOCH
from tests.sim.oracle import (
    LATEST,
    WATCH_DELAY_SECONDS,
    Oracle,
    booked,
    common,
    duration,
    instance_filter,
    is_exclusive,
    is_suspended,
    is_too_long,
    occurrences,
    parse_time,
    recorded_interval,
    wanted_interval,
)
from tests.sim.replica import Replica
from tests.sim.storage import Object
from tests.sim.violation import Invariant, ViolationError
from tests.sim.world import World
from tests.support.usage_integration import TracedMeter

WAIT_SECONDS = 100.0
"""The `requires_timeout` of all Resources. The timeouts of a chain are added."""
TRANSITION_SECONDS = 180.0
"""Seconds after a boundary in which instances may change their state. A DB instance takes up to 120 s."""
VIEW_SECONDS = 60
"""How old the view of a replica may be, in seconds, if it waits for nothing."""
OFF_SECONDS = 290.0
"""Seconds after which an off time has come and the stop was sent. There are no failures for 300 s."""
ACCEPTANCE = timedelta(seconds=60)
"""A booking that ends sooner than this need not be accepted any more."""
AHEAD_MARGIN = timedelta(seconds=60)
"""A booking that has become valid in this time by `max_ahead` need not be accepted yet."""
DELIVERY = timedelta(seconds=120), timedelta(minutes=50)
"""Since when a booking must have a state, at least and at most, so that its user was notified of it."""
CREATION_SECONDS = 10.0
"""Seconds after the start of an occurrence within which the next one must have its booking."""
MAX_EXTRA_TIMERS = 5
"""How many timers a process may have in addition to one for each task."""
SCOPES, ACTIONS = 2 * len(SERVICES), 5
"""All services in two accounts; five actions each."""
TASKS = {
    "event writer": 8,
    "inventory poll": len(SERVICES),
    "request queue": SCOPES * ACTIONS,
    "call": SCOPES * ACTIONS,
    "describe": SCOPES,
    "status check poll": len(SERVICES),
    "status checks": SCOPES,
    "reconcile": 12,
    "confirm": 12,
    "view of others": 12,
}
"""Maximum number of tasks at rest, by prefix of their name. One task of every other name is allowed.

The end of a script may be a boundary, at which several objects are reconciled.
"""
MAX_BOUNDED_ENTRIES = 100
"""How many entries of deleted objects a bounded collection may hold."""


class FinalChecks:
    """Checks a world in which all failures have ended."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._oracle = Oracle(world.kube)

    def check(self) -> None:
        """Check that instances, statuses, schedulers and caches are right, and that nothing leaks.

        Raises:
            ViolationError: a check fails.
        """
        for slot in self._world.slots:
            replica = slot.replica
            if replica is None or replica.process.failure is not None or replica.process.ended:
                error = (
                    format_exception(replica.process.failure) if replica and replica.process.failure else []
                )
                raise ViolationError(Invariant.NO_SURPRISE, f"a replica has ended: {''.join(error)}")
        for replica in self._world.all_replicas:
            if replica.process.ended and replica.process.tasks:
                raise ViolationError(
                    Invariant.NO_LEAK,
                    f"{replica.name} has ended, but has the tasks {list(replica.process.tasks)}",
                )
        self._check_leader()
        for resource in self._oracle.oldest_resources():
            self._check_group(resource)
            self._check_waiting(resource)
        self._check_messages()
        for scheduler in self._world.kube.all("bookingschedulers"):
            self._check_scheduler(scheduler)
        for _, replica in self._world.replicas():
            self._check_caches(replica)
            self._check_status_writes(replica)
            self._check_meters(replica)
            self._check_leaks(replica)

    def _check_leader(self) -> None:
        """Check that exactly one replica leads."""
        replicas = [replica for _, replica in self._world.replicas()]
        leaders = [each.name for each in replicas if each.elector is None or each.elector.is_leader]
        if len(leaders) != 1:
            raise ViolationError(Invariant.CONVERGENCE, f"leaders are {leaders}")

    def _check_group(self, resource: Object) -> None:
        """Check the instances of a Resource and its status."""
        now, spec, name = self._world.kernel.now, resource["spec"], resource["metadata"]["name"]
        since = now - self._settling_seconds(resource)
        if self._oracle.is_cyclic(name, LATEST, LATEST):
            return
        changed = self._oracle.changed_within(resource, since, now)
        if changed or is_suspended(resource, EPOCH + timedelta(seconds=since)):
            return
        wanted, status = self._oracle.wanted(resource, now), resource.get("status", {})
        machines = [m for m in self._world.aws.machines.values() if instance_filter(resource)(m)]
        existing = [m for m in machines if m.state_at(now) != "terminated"]
        running = [m for m in existing if m.state_at(now) == "running"]
        if wanted and len(running) != len(existing):
            states = {m.id: m.state_at(now) for m in existing}
            raise ViolationError(Invariant.CONVERGENCE, f"{name} is booked, but its instances are {states}")
        still_running = [
            m.id for m in running if spec.get("unbooked") != "Leave" or self._started_by_booking(resource, m)
        ]
        unresumed = [m.id for m in existing if wanted and m.suspended != m.wanted_suspended]
        if unresumed:
            raise ViolationError(
                Invariant.SIZE_KEPT, f"{name} is booked, but the scaling of {unresumed} is suspended"
            )
        if not wanted and still_running:
            raise ViolationError(Invariant.CONVERGENCE, f"{name} is not booked, but {still_running} run")
        self._check_off_times(resource, running)
        checked = wanted and spec.get("ready_when") == "StatusChecks"
        if checked and existing and status.get("status") != "RUNNING":
            raise ViolationError(Invariant.CONVERGENCE, f"{name} is {status.get('status')}, but it is ready")
        reported = (status.get("instances"), status.get("running"), bool(status.get("locked_by")))
        if reported != (len(existing), len(running), wanted):
            truth = (len(existing), len(running), wanted)
            raise ViolationError(
                Invariant.CONVERGENCE, f"the status of {name} is {reported}, but the truth is {truth}"
            )

    def _settling_seconds(self, resource: Object) -> float:
        """Return how long the instances may change after a boundary: longer if they may wait for others."""
        name = resource["metadata"]["name"]
        required = self._oracle.required(name, LATEST, LATEST, surely=True)
        dependents = self._oracle.sources(name, LATEST, LATEST)[1:]
        return TRANSITION_SECONDS + WAIT_SECONDS * max(len(required), len(dependents))

    def _check_off_times(self, resource: Object, running: list[Machine]) -> None:
        """Check that nothing runs unbooked for longer than the off times allow, which is two minutes here."""
        now, spec = self._world.kernel.now, resource["spec"]
        since = now - OFF_SECONDS
        if not (spec.get("stop_at") or spec.get("unbooked_for")) or spec.get("unbooked") != "Leave":
            return
        versions = self._world.kube.storage.versions["resources"][
            resource["metadata"]["namespace"], resource["metadata"]["name"]
        ]
        recent = (version.object for version in versions if version.since > since)
        edited = any(state is None or state["spec"] != spec for state in recent)
        wanted = self._oracle.wanted(resource, now) or self._oracle.changed_within(resource, since, now)
        if wanted or edited or is_suspended(resource, EPOCH + timedelta(seconds=since)):
            return
        kept = [machine.id for machine in running if machine.states(since, now) == {"running"}]
        if kept:
            raise ViolationError(Invariant.OFF_TIMES, f"{kept} run although nobody has booked them")

    def _check_waiting(self, resource: Object) -> None:
        """Check that each booking of an exclusive Resource is accepted, or another one has its time."""
        now = EPOCH + timedelta(seconds=self._world.kernel.now)
        name = resource["metadata"]["name"]
        if not is_exclusive(resource):
            return
        bookings = [item for item in self._world.kube.all("bookings") if wanted_interval(item)]
        for booking in bookings:
            wanted = wanted_interval(booking)
            assert wanted is not None
            limits = self._oracle.closure_states(name, LATEST, LATEST)
            too_long = any(is_too_long(wanted[1] - wanted[0], state) for state in limits)
            coming = common(wanted, (now + ACCEPTANCE, wanted[1]))
            ahead = [
                duration(state["spec"]["max_ahead"]) for state in limits if state["spec"].get("max_ahead")
            ]
            too_far = any(wanted[0] > now - AHEAD_MARGIN + limit for limit in ahead)
            if booking["spec"]["resource_name"] != name or coming is None or too_long or too_far:
                continue
            record = recorded_interval(booking, name)
            if common(coming, record) == coming:
                continue
            others = (
                recorded_interval(item, other)
                for other in self._oracle.sharing(name)
                for item in bookings
                if item is not booking
            )
            if not any(common((now, wanted[1]), other) for other in others):
                raise ViolationError(
                    Invariant.CONVERGENCE,
                    f"{booking['metadata']['name']} is not accepted although its time is free",
                )

    def _check_messages(self) -> None:
        """Check that users were notified of what the statuses of their bookings say.

        During one leadership, no message is delivered twice. Without an election, that is one process.
        """
        alone = {replica.name for replica in self._world.all_replicas if replica.elector is None}
        messages = self._world.mailbox.messages
        delivered = Counter(
            (item.process, item.notification.id) for item in messages if item.process in alone
        )
        if twice := [id_ for (_, id_), count in delivered.items() if count > 1]:
            raise ViolationError(Invariant.NOTIFIED, f"{len(twice)} messages were delivered twice")
        now = EPOCH + timedelta(seconds=self._world.kernel.now)
        for booking in self._world.kube.all("bookings"):
            name, status = booking["metadata"]["name"], booking.get("status", {})
            conditions = {item["type"]: item for item in status.get("conditions") or ()}
            counts = self._counted_until_end(booking)
            for trigger in _due_messages(booking, status.get("status"), conditions, now, ended=counts):
                if booking["spec"].get("notifications") and not self._world.mailbox.has(name, trigger):
                    raise ViolationError(
                        Invariant.NOTIFIED, f"nobody was notified that {name} is {trigger.value}"
                    )

    def _counted_until_end(self, booking: Object) -> bool:
        """Whether the instances ran for a booking until its end, by rules that have not changed since."""
        name, wanted = booking["spec"]["resource_name"], wanted_interval(booking)
        if wanted is None:
            return False
        since = (wanted[1] - EPOCH).total_seconds() - TRANSITION_SECONDS
        states = self._oracle.resource_states(name, since, LATEST)
        limits = self._oracle.closure_states(name, since, LATEST)
        last = wanted[1] - timedelta(seconds=1)
        return all(booked(booking, state, last, limits=limits) for state in states)

    def _check_scheduler(self, scheduler: Object) -> None:
        """Check that each occurrence in progress had a booking, and that each coming one has one."""
        now = self._world.kernel.now - CREATION_SECONDS
        meta, storage = scheduler["metadata"], self._world.kube.storage
        for at in occurrences(scheduler, now):
            name = f"{meta['name']}-{EPOCH + timedelta(seconds=at):%Y%m%d%H%M}"
            versions = storage.versions["bookings"][meta["namespace"], name]
            if not versions or (at > now and versions[-1].object is None):
                raise ViolationError(Invariant.CONVERGENCE, f"{name} was never created")

    def _started_by_booking(self, resource: Object, machine: Machine) -> bool:
        """Whether a replica started the instance and the status listed it in `started` since then.

        The result is False if the spec was ever edited, because the start may date from another policy. A
        Resource that was created again knows nothing of earlier starts.
        """
        client, at = machine.last_action
        meta = resource["metadata"]
        versions = self._world.kube.storage.versions["resources"][meta["namespace"], meta["name"]]
        since = next((version.since for version in reversed(versions) if version.since <= at), 0.0)
        known = [version.object for version in versions if version.since >= since and version.object]
        statuses = [item.get("status", {}) for item in known if item["metadata"]["uid"] == meta["uid"]]
        reported = any(machine.id in status.get("started", ()) for status in statuses)
        return bool(client) and meta["generation"] == 1 and reported

    def _check_caches(self, replica: Replica) -> None:
        """Check that the informer caches equal the API server, except for very recent writes."""
        known = self._world.kernel.now - WATCH_DELAY_SECONDS
        if replica.operator is None:
            raise ViolationError(Invariant.CONVERGENCE, f"{replica.name} has no operator")
        for kind, store in replica.operator.stores.items():
            cached = {item.metadata.name: item.metadata.resource_version for item in store.objects()}
            stored = {
                item["metadata"]["name"]: item["metadata"]["resourceVersion"]
                for item in self._world.kube.all(kind.plural)
            }
            differ = dict(set(cached.items()) ^ set(stored.items()))
            if any(self._world.kube.storage.changed_at(kind.plural, name) < known for name in differ):
                raise ViolationError(
                    Invariant.CONVERGENCE, f"{replica.name} has outdated {kind.plural}: {differ}"
                )

    def _check_status_writes(self, replica: Replica) -> None:
        """Check that each pending status is in the queue of its writer."""
        contents = replica.operator.introspect() if replica.operator else {}
        for kind in KINDS:
            waiting = contents.get(f"status of {kind.plural}.waiting", ())
            queue = contents.get(f"controller {kind.name} status.queue", ())
            if forgotten := [str(key) for key in waiting if key not in queue]:
                raise ViolationError(
                    Invariant.CONVERGENCE,
                    f"{replica.name} has no queue entry for the pending status of {forgotten}",
                )

    def _check_meters(self, replica: Replica) -> None:
        """Check that the last observation of each meter is true: the instances, and the users who pay."""
        now = self._world.kernel.now
        for resource in self._oracle.oldest_resources():
            key = Key(resource["metadata"]["namespace"], resource["metadata"]["name"])
            meter = replica.operator.usage.meter(key) if replica.operator else None
            if self._oracle.changed_within(resource, now - self._settling_seconds(resource), now):
                continue
            # A start that follows a stop takes longer than one transition. A view may be from before its end.
            fleet = meter.fleet if meter else None
            metered = (sum(fleet.existing.values()), sum(fleet.running.values())) if fleet else None
            if not any(metered == self._counts(resource, now - age) for age in range(VIEW_SECONDS)):
                truth = self._counts(resource, now)
                raise ViolationError(
                    Invariant.EXACT_USAGE,
                    f"{replica.name} meters (existing, running) {metered} of {key.name}; {truth} is true",
                )
            assert isinstance(meter, TracedMeter)
            instant, known = EPOCH + timedelta(seconds=now), meter.trace[-1].booked
            booked = any(item.is_active(instant, known.warm_up) for item in known.bookings)
            if booked != self._oracle.wanted(resource, now):
                raise ViolationError(
                    Invariant.EXACT_USAGE, f"{replica.name} meters the bookings of {key.name} wrongly"
                )

    def _counts(self, resource: Object, at: float) -> tuple[int, int]:
        """Return how many instances of a group exist, and how many of them run, at an instant."""
        machines = [m for m in self._world.aws.machines.values() if instance_filter(resource)(m)]
        states = Counter(machine.state_at(at) for machine in machines)
        if resource["spec"].get("type") == "asg":  # its machines exist only while they run
            exist = states["pending"] + states["running"] + states["stopping"]
            return exist, exist
        if resource["spec"].get("type") == "ecs":  # a task that is stopping does not count as running
            return states["running"], states["running"]
        return len(machines) - states["terminated"], states["running"]

    def _check_leaks(self, replica: Replica) -> None:
        """Check the numbers of tasks, timers and watches, and the collections."""
        process = replica.process
        names = [task.get_name() for task in process.tasks]
        kinds = Counter(kind if (kind := name.partition(":")[0]) in TASKS else name for name in names)
        excess = {kind: count for kind, count in kinds.items() if count > TASKS.get(kind, 1)}
        unnamed = [name for name in names if name.startswith("Task-")]
        if excess or unnamed:
            raise ViolationError(Invariant.NO_LEAK, f"{replica.name} has too many tasks: {excess} {unnamed}")
        timers = self._world.kernel.timers(process)
        if timers > len(process.tasks) + MAX_EXTRA_TIMERS:
            raise ViolationError(
                Invariant.NO_LEAK, f"{replica.name} has {timers} timers for {len(process.tasks)} tasks"
            )
        watches = self._world.kube.storage.open_watches(process)
        if watches > len(KINDS) + 1:
            raise ViolationError(Invariant.NO_LEAK, f"{replica.name} has {watches} watches open")
        self._check_collections(replica)

    def _check_collections(self, replica: Replica) -> None:
        """Check that no collection keeps entries of deleted objects."""
        known = {
            Key(item["metadata"]["namespace"], item["metadata"]["name"])
            for kind in KINDS
            for item in self._world.kube.all(kind.plural)
        }
        leaked: dict[str, list[str]] = {}
        for name, keys in (replica.operator.introspect() if replica.operator else {}).items():
            kept = sorted(str(key) for key in keys if isinstance(key, Key) and key not in known)
            if len(kept) > (MAX_BOUNDED_ENTRIES if BOUNDED in name else 0):
                leaked[name] = kept
        if leaked:
            raise ViolationError(
                Invariant.NO_LEAK, f"{replica.name} keeps entries of deleted objects: {leaked}"
            )


def _due_messages(
    booking: Object, phase: str | None, conditions: Mapping[str, Object], now: datetime, *, ended: bool
) -> Iterator[NotificationTrigger]:
    """Yield what the user of a booking was surely notified of, if the user wants that."""
    least, most = DELIVERY
    wanted = wanted_interval(booking)
    if wanted is None:
        return
    if phase == "FINISHED" and ended and least < now - wanted[1] < most:
        yield NotificationTrigger.ENDED
    for trigger, type_, status in (
        (NotificationTrigger.READY, "Ready", "True"),
        (NotificationTrigger.CONFLICT, "Accepted", "False"),
    ):
        found = conditions.get(type_)
        since = parse_time(found["lastTransitionTime"]) if found else None
        matches = found is not None and found["status"] == status and found["reason"] != "NotValid"
        if matches and since is not None and least < now - since and now < wanted[1] - least:
            yield trigger
