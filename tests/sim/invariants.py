"""The invariants that are checked at each call, write and log event. `final_checks` has those at the end."""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from booking_operator.api.kinds import KINDS, USAGE
from booking_operator.api.usage import to_sums
from booking_operator.cloud.aws.scalable_targets import SUSPENDED_TAG, parse_suspended
from booking_operator.domain.capacity import CAPACITY_TAG
from booking_operator.domain.parsing import parse_rfc3339
from booking_operator.domain.usage import UsageSums, to_second
from booking_operator.engine.store import Key
from tests.sim.aws import DESCRIBED, OFF, READS, Call, Machine
from tests.sim.kernel import EPOCH
from tests.sim.kube import Request
from tests.sim.oracle import (
    Oracle,
    clock_readings,
    common,
    duration,
    instance_filter,
    is_suspended,
    is_too_long,
    known_until,
    recorded_interval,
    wanted_interval,
)
from tests.sim.replica import Replica
from tests.sim.storage import Object
from tests.sim.violation import Invariant, ViolationError
from tests.sim.world import Slot, World
from tests.support.aws_limits import PUBLISHED, Limits
from tests.support.usage_integration import Integral, TracedMeter, integrate

MINUTE = 60.0
MAX_FAILURES = 60
"""How many failures of one class are allowed in a minute, in addition to `MAX_FAILURES_PER_OBJECT`."""
MAX_FAILURES_PER_OBJECT = 15
"""How many more failures of one class are allowed in a minute for each object."""
WAIT_SECONDS = 80.0
"""A start or stop that has waited for less than this has not reached `workload.TIMEOUT`."""
CLOCK_MARGIN = timedelta(seconds=1)
"""Time between a decision about a booking and its write, in which the clock goes on."""
STATUS_DELAY = 70.0
"""Seconds from the decision of a status to its write, at most. The back-off of writes is 60 s at most."""
RESIZE_SECONDS = 100.0
"""A size that a user has changed in this time before a call may be lost: between the two calls of a stop."""
LOST_RESIZE_SECONDS = 5.0
"""A size that a user has changed in this time before a call may stay lost."""
OBSERVATION_LAG = 6.0
"""Maximum age of the states in a Describe, in seconds: the largest `CloudFaults.lag`, and a margin."""


@dataclass(slots=True)
class ReplicaState:
    """What the checks know of one process.

    Attributes:
        slot: the slot of the replica.
        leads_since: when the process acquired the Lease, as the API server stores it (true time); -1 if
            never.
        lease_acquisitions: how often it has acquired the Lease.
    """

    replica: Replica
    slot: Slot
    leads_since: float = -1.0
    lease_acquisitions: int = 0


class Invariants:
    """Checks the events of a world. All methods that check raise `ViolationError`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._oracle = Oracle(world.kube)
        self._replicas: dict[str, ReplicaState] = {}
        self._in_progress: set[tuple[str, str, Hashable]] = set()
        self._limits: dict[tuple[str, int], Limits] = defaultdict(Limits)
        self._failures: defaultdict[tuple[str, ...], deque[float]] = defaultdict(deque)
        self._observations: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
        self._tagged_at: dict[tuple[str, str], float] = {}
        self._holders = [(0.0, "")]

    def replica_started(self, replica: Replica, slot: Slot) -> None:
        """Register a new process."""
        self._replicas[replica.name] = ReplicaState(replica, slot)

    # Reconciles.

    def reconcile_started(self, replica: Replica, controller: str, key: Hashable) -> None:
        """Check that the controller does not already reconcile the key."""
        reconcile = (replica.name, controller, key)
        if reconcile in self._in_progress:
            raise ViolationError(
                Invariant.ONE_AT_A_TIME,
                f"{controller} {key} of {replica.name} is reconciled twice at the same time",
            )
        self._in_progress.add(reconcile)

    def reconcile_ended(self, replica: Replica, controller: str, key: Hashable) -> None:
        """Record that a reconcile has ended or was cancelled."""
        self._in_progress.discard((replica.name, controller, key))

    # Calls at AWS.

    def check_call(self, call: Call) -> None:
        """Check a call that has arrived at AWS."""
        state = self._replicas[call.client]
        self._check_limits(call, state)
        if call.error:
            self.count_failure("aws", call.client, call.action, call.error)
        if call.action.startswith(READS):
            self._note_observation(call)
            return
        self._check_leader(call, state)
        for id_ in call.ids:
            machine = self._world.aws.machines.get(id_)
            if machine is not None and machine.capacity and not call.error:
                self._check_size(machine, call)
                self._check_scaling(machine)
            if machine is not None and call.verb == "stop":
                self._check_stop(machine, call, state)
            elif machine is not None and call.verb == "start":
                self._check_start(machine, call, state)
            elif machine is not None and call.verb == "release":
                self._check_release(machine, call, state)

    def _note_observation(self, call: Call) -> None:
        """Record a view of all instances of a service. For ECS it begins with `GetResources`."""
        if call.error:
            return
        where = call.client, call.scope.account
        if call.action in DESCRIBED and not call.ids:
            self._observations[call.client, DESCRIBED[call.action], call.scope.account].append(call.sent_at)
        elif call.action == "GetResources":
            self._tagged_at[where] = call.sent_at
        elif call.action == "DescribeServices" and where in self._tagged_at:
            self._observations[call.client, "ecs", call.scope.account].append(self._tagged_at.pop(where))

    def _check_scaling(self, machine: Machine) -> None:
        """Check that what users have suspended is suspended, or that a tag remembers it."""
        tag = machine.tags.get(SUSPENDED_TAG)
        kept = machine.suspended if tag is None else parse_suspended(tag)
        if machine.suspended is not None and kept != machine.wanted_suspended:
            wanted = f"users want {machine.wanted_suspended}"
            raise ViolationError(
                Invariant.SIZE_KEPT, f"{machine.id} has or remembers {kept} as suspended, but {wanted}"
            )

    def _check_size(self, machine: Machine, call: Call) -> None:
        """Check that a group has its size, or remembers it. The operator may miss a change during a stop."""
        kept = machine.tags[CAPACITY_TAG] if machine.capacity == OFF else machine.capacity
        since = call.sent_at - machine.resized_at
        if since < LOST_RESIZE_SECONDS:
            machine.wanted_capacity = kept
        if since < RESIZE_SECONDS:
            return
        if kept != machine.wanted_capacity:
            raise ViolationError(
                Invariant.SIZE_KEPT,
                f"{machine.id} has or remembers {kept}, but users want {machine.wanted_capacity}",
            )

    def _check_limits(self, call: Call, state: ReplicaState) -> None:
        """Check the request limits of one process, unless its clock was ever set."""
        if len(state.slot.clock_offsets) > 1 or call.action not in PUBLISHED:
            return
        limits = self._limits[call.client, 0 if call.action.startswith(READS) else state.lease_acquisitions]
        scope = call.scope
        if not limits.admits(scope.account, scope.region, call.action, len(call.ids), call.sent_at):
            raise ViolationError(Invariant.BUDGETS, f"{call.client} makes too many calls of {call.action}")

    def _check_leader(self, call: Call, state: ReplicaState) -> None:
        """Check that the caller held the Lease when the call left. A call in flight cannot be cancelled."""
        holder = next(holder for at, holder in reversed(self._holders) if at <= call.sent_at)
        if state.replica.elector is not None and holder != call.client:
            leads = f"while {holder or 'no replica'} leads"
            raise ViolationError(Invariant.ONE_WRITER, f"{call.action} is sent by {call.client} {leads}")

    def _check_stop(self, machine: Machine, call: Call, state: ReplicaState) -> None:
        # A replica that starts or takes over lists everything before it stops an instance.
        since = max(known_until(state.slot, call.sent_at), state.replica.started_at, state.leads_since)
        reason = self._oracle.reason_not_to_stop(
            machine, since, call.sent_at, clock_readings(state.slot, call.sent_at)
        )
        if reason:
            known = f"{call.client} knew all writes up to {since:.3f}"
            raise ViolationError(Invariant.NO_STOP, f"{machine.id} is stopped although {reason}; {known}")
        self._check_order(machine, call, state, starts=False)

    def _check_release(self, machine: Machine, call: Call, state: ReplicaState) -> None:
        since = max(known_until(state.slot, call.sent_at), state.replica.started_at, state.leads_since)
        reason = self._oracle.reason_not_to_stop(
            machine, since, call.sent_at, clock_readings(state.slot, call.sent_at)
        )
        if "booked" in reason and machine.state_at(call.sent_at) == "running":
            known = f"{call.client} knew all writes up to {since:.3f}"
            raise ViolationError(
                Invariant.NO_RELEASE, f"{machine.id} loses its lock tags although {reason}; {known}"
            )

    def _check_start(self, machine: Machine, call: Call, state: ReplicaState) -> None:
        since = max(known_until(state.slot, call.sent_at), state.replica.started_at)
        if not self._oracle.may_start(machine, since, call.sent_at, clock_readings(state.slot, call.sent_at)):
            known = f"{call.client} knew all writes up to {since:.3f}"
            raise ViolationError(
                Invariant.NO_START, f"{machine.id} is started, and no booking allows it; {known}"
            )
        self._check_order(machine, call, state, starts=True)

    def _check_order(self, machine: Machine, call: Call, state: ReplicaState, *, starts: bool) -> None:
        """Check that nothing starts before what it requires is ready, or stops before what requires it.

        Only clear cases count: the states of the other instances have lasted for longer than any view is old,
        and the wait began so recently that its timeout cannot be over.
        """
        at = call.sent_at
        if len(state.slot.clock_offsets) > 1:
            return
        for resource in self._oracle.oldest_resources():
            if not instance_filter(resource)(machine):
                continue
            name = resource["metadata"]["name"]
            window = (at - STATUS_DELAY, at)
            lasts = self._oracle.wanted_for(resource, at, WAIT_SECONDS)
            settled = all(known is not None for known in self._oracle.resource_states(name, *window))
            if not settled or lasts >= WAIT_SECONDS or self._oracle.is_cyclic(name, *window):
                continue
            if self._oracle.wanted(resource, at) is not starts:
                continue
            for other in self._others_in_order(resource, *window, starts=starts):
                machines = [m for m in self._world.aws.machines.values() if instance_filter(other)(m)]
                viewed_at = self._viewed_at(call.client, other, at)
                states = {m.id: m.states(viewed_at - OBSERVATION_LAG, at) for m in machines}
                wrong = [
                    id_
                    for id_, seen in states.items()
                    if ("running" not in seen and "terminated" not in seen if starts else seen == {"running"})
                ]
                if wrong:
                    verb = "starts before" if starts else "stops before"
                    text = f"{machine.id} of {name} {verb} {wrong} of {other['metadata']['name']}"
                    raise ViolationError(Invariant.ORDER, f"{call.client}: {text}")

    def _viewed_at(self, client: str, resource: Object, at: float) -> float:
        """Return when a replica last asked for the instances of a Resource and got an answer."""
        spec = resource["spec"]
        observations = self._observations[client, spec.get("type", "ec2"), spec.get("account", "")]
        return max((sent_at for sent_at in observations if sent_at < at), default=-1e9)

    def _others_in_order(
        self, resource: Object, since: float, until: float, *, starts: bool
    ) -> Iterator[Object]:
        """Yield the Resources that surely must start before, or stop before, a Resource."""
        name, oracle = resource["metadata"]["name"], self._oracle
        for other in oracle.oldest_resources():
            another = other["metadata"]["name"]
            first, second = (name, another) if starts else (another, name)
            first_states = oracle.resource_states(first, since, until)
            requires = all(
                state is not None and second in state["spec"].get("requires", ()) for state in first_states
            )
            states = oracle.resource_states(another, since, until)
            plain = all(
                state is not None
                and not state["metadata"].get("deletionTimestamp")
                and not is_suspended(state, EPOCH + timedelta(seconds=since))
                and state["spec"].get("unbooked", "Stop") == "Stop"
                for state in states
            )
            idle = starts or not oracle.wanted(other, until)
            if requires and plain and idle and not oracle.is_cyclic(another, since, until):
                yield other

    # Requests at the API server.

    def check_response(self, request: Request, status: int) -> None:
        """Count a request that the API server refused."""
        if request.client and status != 200:
            plural = request.path.split("/")[-1] if request.method in {"GET", "WATCH"} else request.method
            self.count_failure("kube", request.client, plural, str(status))

    def check_write(self, client: str, plural: str, old: Object | None, new: Object | None) -> None:
        """Check a write to the API server."""
        if plural == "leases":
            self._record_holder(new)
        if (
            client
            and plural == "resources"
            and new is not None
            and _running_count(new) != _running_count(old)
        ):
            self._check_running_count(client, new)
        if client and plural == "resources" and new is not None and new.get("status"):
            self._check_ready(client, new)
        if plural == "bookings" and client and old is not None and new is not None:
            self._check_acceptance(client, old, new)
            self._check_booking_limits(client, old, new)
        if client and plural == "usages" and new is not None and new.get("status"):
            self._check_usage(client, (old or {}).get("status") or {}, new)

    def _check_acceptance(self, client: str, old: Object, new: Object) -> None:
        """Check that a status takes no time away, and accepts none that another booking has."""
        now, name, own = self._world.kernel.now, new["spec"]["resource_name"], new["metadata"]["name"]
        window = (now - STATUS_DELAY, now)
        exclusive = self._oracle.exclusives(name, *window, surely=True)
        if not exclusive:
            return
        perhaps = self._oracle.exclusives(name, *window, surely=False)
        record, before, contested = recorded_interval(new, name), recorded_interval(old, name), False
        for other in self._world.kube.all("bookings"):
            another = other["metadata"]["name"]
            theirs = other.get("status", {}).get("accepted_resource", "")
            interval = recorded_interval(other, theirs)
            if another == own:
                continue
            shared = perhaps & self._oracle.exclusives(theirs, *window, surely=False)
            contested |= bool(shared) and common(before, interval) is not None
            surely = self._oracle.exclusives(theirs, *window, surely=True) & exclusive
            # Before these rules, accepted intervals could overlap.
            if surely and common(record, interval) and record != before:
                raise ViolationError(Invariant.NO_OVERLAP, f"{client} accepts {own} although {another} is")
        if not contested:
            self._check_kept(client, old, new, name)

    def _check_booking_limits(self, client: str, old: Object, new: Object) -> None:
        """Check that no new booking is accepted that is longer or further ahead than allowed."""
        now, name, own = self._world.kernel.now, new["spec"]["resource_name"], new["metadata"]["name"]
        record = recorded_interval(new, name)
        fresh = recorded_interval(old, name) is None and old.get("status", {}).get("status") != "IN PROGRESS"
        states = self._oracle.resource_states(name, now - STATUS_DELAY, now)
        if record is None or not fresh or not all(states):
            return
        latest = max(clock_readings(self._replicas[client].slot, now)) + CLOCK_MARGIN
        ahead = [state["spec"].get("max_ahead") for state in states if state]
        too_far = all(limit and record[0] > latest + duration(limit) for limit in ahead)
        too_long = all(is_too_long(record[1] - record[0], state) for state in states if state)
        if too_far or too_long:
            what = "too long" if too_long else "too far ahead"
            raise ViolationError(Invariant.LIMITS, f"{client} accepts {own}, which is {what} for {name}")

    def _check_kept(self, client: str, old: Object, new: Object, resource: str) -> None:
        """Check that a booking keeps what was accepted of it, as far as its user has wanted it since."""
        now, meta = self._world.kernel.now, new["metadata"]
        versions = self._world.kube.storage.versions["bookings"][meta["namespace"], meta["name"]]
        states = [item.object for item in versions if item.since > now - STATUS_DELAY]
        kept = recorded_interval(old, resource)
        for state in (*states, new):
            same = state is not None and state["spec"]["resource_name"] == resource
            kept = common(kept, wanted_interval(state)) if state is not None and same else None
        latest = max(clock_readings(self._replicas[client].slot, now))
        if kept is None or kept[1] <= latest:
            return
        left = max(kept[0], latest), kept[1]
        if common(left, recorded_interval(new, resource)) != left:
            raise ViolationError(Invariant.KEPT, f"{client} takes time of {meta['name']} away")

    def _check_usage(self, client: str, old: Object, usage: Object) -> None:
        """Check that a write adds to a Usage exactly what its writer has observed since the last write."""
        namespace, name = usage["metadata"]["namespace"], usage["spec"]["resource_name"]
        operator = self._replicas[client].replica.operator
        meter = operator.usage.meter(Key(namespace, name)) if operator else None
        assert isinstance(meter, TracedMeter)
        before, sums = _sums(old), _sums(usage["status"])
        assert sums is not None
        added = Integral.of(sums) - (Integral.of(before) if before else Integral())
        begin = before.until if before else next(event.second for event in meter.trace)
        # The time before the Resource was created does not count. The replica may know an older one.
        versions = self._world.kube.storage.versions["resources"][namespace, name]
        created = [item.object["metadata"]["creationTimestamp"] for item in versions if item.object]
        since = sorted({0, *(to_second(parse_rfc3339(text)) for text in created)})
        expected = [integrate(meter.trace, begin, sums.until, exists_since) for exists_since in since]
        if added not in expected:
            raise ViolationError(
                Invariant.EXACT_USAGE, f"{client} adds {added} to the usage of {name}, not {expected[0]}"
            )

    def _record_holder(self, lease: Object | None) -> None:
        """Record a change of the Lease's holder.

        The deletion of the Lease does not count: other candidates still wait until it would expire.
        """
        if lease is None:
            return
        holder, (_, before) = lease["spec"].get("holderIdentity") or "", self._holders[-1]
        if holder != before:
            self._holders.append((self._world.kernel.now, holder))
            if holder in self._replicas:
                self._replicas[holder].leads_since = self._world.kernel.now
                self._replicas[holder].lease_acquisitions += 1

    def _check_running_count(self, client: str, resource: Object) -> None:
        """Check `status.running` against the states that its writer may have observed of each instance."""
        now, status, spec = self._world.kernel.now, resource["status"], resource["spec"]
        if resource["metadata"].get("deletionTimestamp"):
            return
        observations = self._observations[client, spec.get("type", "ec2"), spec.get("account", "")]
        old = [at for at in observations if at < now - STATUS_DELAY][-3:]
        since = (old[0] if old else self._replicas[client].replica.started_at) - OBSERVATION_LAG
        machines = [m for m in self._world.aws.machines.values() if instance_filter(resource)(m)]
        # A status without an observation says NotObserved and has no counts.
        reasons = {item["type"]: item["reason"] for item in status.get("conditions", ())}
        if (
            reasons.get("Found", "NotObserved") == "NotObserved"
            or not observations
            or status.get("running") is None
        ):
            return
        states = [machine.states(since, now) for machine in machines]
        least, most = (
            sum(each == {"running"} for each in states),
            sum("running" in each for each in states),
        )
        if not least <= status["running"] <= most:
            name, claimed = resource["metadata"]["name"], status["running"]
            raise ViolationError(
                Invariant.TRUE_STATUS, f"{name} claims {claimed} running; {least} to {most} were"
            )

    def _check_ready(self, client: str, resource: Object) -> None:
        """Check that a Resource with status checks is RUNNING only if they have passed."""
        status, now = resource["status"], self._world.kernel.now
        if resource["spec"].get("ready_when") != "StatusChecks" or not status.get("locked_by"):
            return
        machines = [m for m in self._world.aws.machines.values() if instance_filter(resource)(m)]
        waiting = [
            machine.id
            for machine in machines
            if machine.states(now - STATUS_DELAY, now) == {"running"} and machine.checked_at > now
        ]
        if waiting and status.get("status") == "RUNNING":
            name = resource["metadata"]["name"]
            text = f"{client} writes that {name} is RUNNING, but the checks of {waiting} have not passed"
            raise ViolationError(Invariant.TRUE_STATUS, text)

    # Failures and log events.

    def count_failure(self, *kind: str) -> None:
        """Check that failures of one class are not too frequent."""
        now, recent = self._world.kernel.now, self._failures[kind]
        recent.append(now)
        while recent[0] < now - MINUTE:
            recent.popleft()
        objects = sum(len(self._world.kube.all(of.plural)) for of in KINDS)
        if len(recent) > MAX_FAILURES + MAX_FAILURES_PER_OBJECT * objects:
            raise ViolationError(
                Invariant.BOUNDED_ERRORS, f"{' '.join(kind)} failed {len(recent)} times in a minute"
            )

    def check_log(self, process: str, level: str, event: str, kind: str) -> None:
        """Check a log event; `kind` is the kind of the object that the event concerns, if any."""
        if level in {"error", "critical", "exception"} and event != "leader_shutdown_timed_out":
            raise ViolationError(Invariant.NO_SURPRISE, f"{process} logs {event}")
        if level == "warning":
            self.count_failure("log", process, event, kind)

    def check_unhandled_error(self, process: str, message: str) -> None:
        """Fail: an error of a process was never retrieved, so asyncio would only log it."""
        raise ViolationError(Invariant.NO_SURPRISE, f"{process}: {message}")


def _sums(status: Object) -> UsageSums | None:
    return to_sums(USAGE.status_adapter.validate_python(status))


def _running_count(resource: Object | None) -> int | None:
    """The number of running instances in the status of a Resource."""
    found: int | None = (resource or {}).get("status", {}).get("running")
    return found
