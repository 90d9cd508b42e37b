"""Decides which instances of one Resource to start and to stop.

`decide` is a pure function, and cheap: the reconciler calls it several times in one reconcile. Each decision
depends only on its inputs, not on earlier decisions. Invariants:
- A start needs only an active booking. It waits for required Resources, for a limited time.
- A stop needs that no booking is active, that the cached bookings are complete, and a fresh observation.
- A stop waits for the end of a grace period: that of a deletion, `launch_grace` of the instance, or its
  maintenance window. It also waits for the Resources that require this one, for a limited time.
- Without an active booking, `unbooked: Stop` stops all running instances, and `unbooked: Leave` only those
  that a booking or the cloud itself has started.
"""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from booking_operator.domain.booking_timeline import TimelineState
from booking_operator.domain.instance import Instance, InstanceState, Observation

VISIBILITY_DELAY = timedelta(seconds=40)
"""How long a start that was sent right before the end of a booking may stay invisible.

Usually a call has its answer within 25 s, a Describe may lag 10 s behind, and 5 s are a reserve.
"""

TAKE_OVER_TIMEOUT = timedelta(seconds=1)
"""How long after a take-over an overdue start waits for an observation that is newer than the take-over.

The view of a standby replica may be up to a minute old, so it may show instances as stopped that the previous
leader has started. Each instance that is started again draws one more token from the bucket of
StartInstances.
"""


RESTART_TOLERANCE = timedelta(minutes=5)
"""A start that is seen this long before the automatic restart of an instance counts as this restart.

The clock of AWS is another one, and AWS may be early."""


class UnbookedPolicy(StrEnum):
    """What the operator does with running instances that are not booked."""

    STOP = "Stop"
    LEAVE = "Leave"


class GraceReason(StrEnum):
    """Why starts or stops wait. The values are reasons of the condition `Ready`."""

    DELETION = "DeletionGrace"
    LAUNCH = "LaunchGrace"
    MAINTENANCE = "MaintenanceWindow"
    REQUIRED = "WaitingForRequired"
    """A start waits for a required Resource that is on its way."""
    UNAVAILABLE = "RequiredUnavailable"
    """A start waits for a required Resource that has a problem."""
    DEPENDENTS = "WaitingForDependents"
    """A stop waits for the Resources that require this one."""


_START_WAITS = frozenset({GraceReason.REQUIRED, GraceReason.UNAVAILABLE})
SEQUENCE = _START_WAITS | {GraceReason.DEPENDENTS}
"""The reasons of waits for other Resources."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why all starts, or all stops, of a Resource wait.

    Attributes:
        reason: the reason.
        until: when they wait no longer (aware UTC).
        others: the Resources that they wait for, as part of a sentence; empty if there are none.
    """

    reason: GraceReason
    until: datetime
    others: str = ""


@dataclass(frozen=True, slots=True)
class Grace:
    """Instances that are not started, or not stopped, yet.

    Attributes:
        reason: why they wait.
        ids: the ids of the instances.
        until: when the first of them waits no longer (aware UTC).
        others: the Resources that they wait for, as part of a sentence; empty for other reasons.
    """

    reason: GraceReason
    ids: tuple[str, ...]
    until: datetime
    others: str = ""


@dataclass(frozen=True, slots=True)
class PowerPolicy:
    """The rules of one Resource for starts and stops.

    Attributes:
        unbooked: what to do with running instances that are not booked.
        warm_up: how long before `start_at` the instances start.
        launch_grace: how long after its launch an instance is not stopped.
        allow_maintenance: whether an instance is not stopped while the cloud applies pending maintenance.
        hibernate: whether to hibernate instances instead of stopping them, if they can.
        ready_when_checked: whether a booked instance is ready only when its status checks have passed.
        stop_when_deleted: whether the deletion of the Resource stops its instances.
        suspend: whether the operator only plans and reports power changes of this Resource.
        suspended_until: when that ends by itself (aware UTC); None if it does not.
        dry_run: whether the operator only plans and reports for all Resources, by `--dry-run`.
    """

    unbooked: UnbookedPolicy = UnbookedPolicy.STOP
    warm_up: timedelta = timedelta(0)
    launch_grace: timedelta = timedelta(0)
    allow_maintenance: bool = False
    hibernate: bool = False
    ready_when_checked: bool = False
    stop_when_deleted: bool = False
    suspend: bool = False
    suspended_until: datetime | None = None
    dry_run: bool = False

    def at(self, instant: datetime) -> "PowerPolicy":
        """Return the policy at a later instant (aware UTC), at which a suspension may have ended."""
        until = self.suspended_until
        if until is None or instant < until:
            return self
        return replace(self, suspend=False, suspended_until=None)

    @property
    def rules(self) -> "PowerPolicy":
        """The policy without what ends by itself, to find out whether a user has changed it."""
        return replace(self, suspend=False, suspended_until=None) if self.suspended_until else self

    @property
    def may_act(self) -> bool:
        """Whether the operator may start and stop the instances."""
        return not (self.suspend or self.dry_run)


@dataclass(frozen=True, slots=True)
class Plan:
    """The result of a power decision.

    The plan shows what bookings want, also while `PowerPolicy.may_act` is false. The caller orders nothing
    then.

    Attributes:
        start: the ids of the instances to start.
        stop: the ids of the instances to stop.
        withheld: the ids of the instances that are not stopped because data is stale.
        stale_reason: why `withheld` is not stopped, or why stops would be withheld before the first
            observation; empty otherwise.
        graces: the instances that wait for the end of a grace period or for other Resources, by reason.
        blocked: the instances that are not as booked and have a `blocked_reason`.
        started: the ids of the instances that a booking or the cloud has started, for the status. Under
            `unbooked: Leave` it includes the instances that the operator is about to start.
        in_transition: whether an instance is pending or stopping. The inventory reports the end of that.
    """

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    stale_reason: str = ""
    graces: tuple[Grace, ...] = ()
    blocked: tuple[Instance, ...] = ()
    started: frozenset[str] = frozenset()
    in_transition: bool = False

    @property
    def has_actions(self) -> bool:
        """Whether the plan starts or stops an instance."""
        return bool(self.start or self.stop)

    @property
    def waits_for_others(self) -> bool:
        """Whether a start or a stop waits for other Resources."""
        return any(grace.reason in SEQUENCE for grace in self.graces)


def decide(
    policy: PowerPolicy,
    state: TimelineState,
    observation: Observation | None,
    *,
    started: AbstractSet[str] = frozenset(),
    observed_since: datetime,
    waits: Collection[Wait] = (),
    stale_reason: str = "",
) -> Plan:
    """Decide what to start and what to stop.

    A start needs an active booking, and that no wait for required Resources lasts. A stop needs that no
    booking is active, that the bookings are complete, that no grace period lasts, and an observation that is
    not older than `observed_since`. Under `unbooked: Leave` only the instances in `started` are stopped, and
    those whose off time has come.

    Args:
        policy: the rules of the Resource.
        state: the state of the bookings at the instant of the decision.
        observation: the newest observation; None before the first one.
        started: the ids of the instances that a booking has started, from the status, and those of
            `restarted_by_cloud`.
        observed_since: an observation from before this instant cannot back a stop (aware UTC).
        waits: why all starts, or all stops, of the Resource wait.
        stale_reason: why the bookings may be incomplete; empty when they are complete.
    """
    if observation is None:
        return Plan(started=frozenset(started), stale_reason=stale_reason)
    in_transition = bool(observation.ids(InstanceState.PENDING, InstanceState.STOPPING))
    if state.running_wanted:
        start, blocked = (
            observation.startable(),
            _blocked(observation, InstanceState.RUNNING),
        )
        graces = _waiting(waits, _START_WAITS, start, state.at)
        start = () if graces else start
        coming = start if policy.may_act and policy.unbooked is UnbookedPolicy.LEAVE else ()
        remembered = _still_started(observation, started, observed_since) | set(coming)
        return Plan(
            start=start, graces=graces, blocked=blocked, started=remembered, in_transition=in_transition
        )
    stop, blocked = observation.stoppable(), _blocked(observation, InstanceState.STOPPED)
    confirmed_stopped = observation.ids(InstanceState.STOPPED)
    if policy.unbooked is UnbookedPolicy.LEAVE and observation.at < observed_since + VISIBILITY_DELAY:
        confirmed_stopped = ()
    remembered = _still_started(observation, started, observed_since, confirmed_stopped)
    if policy.unbooked is UnbookedPolicy.LEAVE:
        wanted_off = remembered | _overdue(observation, state.at)
        stop = tuple(id_ for id_ in stop if id_ in wanted_off)
        blocked = tuple(instance for instance in blocked if instance.id in wanted_off)
    graces = _waiting(waits, {GraceReason.DELETION}, stop, state.at)
    graces = graces or _graces(policy, observation, stop, state.at)
    stop = tuple(id_ for id_ in stop if not any(id_ in grace.ids for grace in graces))
    if waiting := _waiting(waits, {GraceReason.DEPENDENTS}, stop, state.at):
        graces, stop = (*graces, *waiting), ()
    if stop and not stale_reason and observation.at < observed_since:
        stale_reason = "the last observation of the instances is older than the last change of the bookings"
    unsafe = bool(stop and stale_reason)
    return Plan(
        stop=() if unsafe else stop,
        withheld=stop if unsafe else (),
        stale_reason=stale_reason if unsafe else "",
        graces=graces,
        blocked=blocked,
        started=remembered,
        in_transition=in_transition,
    )


def _waiting(
    waits: Iterable[Wait], reasons: Collection[GraceReason], ids: tuple[str, ...], now: datetime
) -> tuple[Grace, ...]:
    """Return the instances of which all wait for one of `reasons`."""
    found = (wait for wait in waits if wait.reason in reasons and now < wait.until)
    return tuple(Grace(wait.reason, ids, wait.until, wait.others) for wait in found if ids)


def _overdue(observation: Observation, now: datetime) -> frozenset[str]:
    """Return the ids of the instances whose off time has come."""
    return frozenset(
        instance.id
        for instance in observation.instances
        if instance.off_at is not None and instance.off_at <= now
    )


def _graces(
    policy: PowerPolicy,
    observation: Observation,
    stop: Collection[str],
    now: datetime,
) -> tuple[Grace, ...]:
    """Return which of the instances in `stop` are not stopped yet, with the reason that lasts longest."""
    if not (stop and (policy.launch_grace or policy.allow_maintenance)):
        return ()
    waiting: dict[GraceReason, dict[str, datetime]] = {}
    for instance in observation.instances:
        ends = {reason: end for reason, end in _grace_ends(policy, instance).items() if now < end}
        if instance.id in stop and ends:
            last = max(ends, key=ends.__getitem__)
            waiting.setdefault(last, {})[instance.id] = ends[last]
    return tuple(Grace(reason, tuple(ends), min(ends.values())) for reason, ends in waiting.items())


def _grace_ends(policy: PowerPolicy, instance: Instance) -> dict[GraceReason, datetime]:
    """Return the end of each grace period of one instance (aware UTC)."""
    ends: dict[GraceReason, datetime] = {}
    if policy.launch_grace and instance.launched_at is not None:
        ends[GraceReason.LAUNCH] = instance.launched_at + policy.launch_grace
    if policy.allow_maintenance and instance.maintenance_until is not None:
        ends[GraceReason.MAINTENANCE] = instance.maintenance_until
    return ends


def restarted_by_cloud(observation: Observation, restarts: Mapping[str, datetime]) -> frozenset[str]:
    """Return the ids of the instances that the cloud has started by itself, because they were stopped long.

    Args:
        observation: the newest observation.
        restarts: the automatic restarts of the instances that were stopped before (aware UTC), by id.
    """
    return frozenset(
        instance.id
        for instance in observation.instances
        if instance.state in {InstanceState.PENDING, InstanceState.RUNNING}
        and instance.id in restarts
        and restarts[instance.id] <= observation.at + RESTART_TOLERANCE
    )


def coming_restarts(observation: Observation, restarts: Mapping[str, datetime]) -> dict[str, datetime]:
    """Return the automatic restarts of the instances that do not run (aware UTC), by id.

    The cloud reports the time of a restart only while the instance is stopped. So the operator remembers it
    until the instance runs.

    Args:
        observation: the newest observation.
        restarts: the automatic restarts that were known before, by id.
    """
    known = {
        instance.id: instance.restarts_at or restarts.get(instance.id)
        for instance in observation.instances
        if instance.state not in {InstanceState.PENDING, InstanceState.RUNNING}
    }
    return {id_: at for id_, at in known.items() if at is not None}


def stop_when_deleted(
    policy: PowerPolicy, observation: Observation, started: AbstractSet[str]
) -> tuple[str, ...]:
    """Return the ids of the instances that the deletion of their Resource stops, booked or not.

    Args:
        policy: the rules of the Resource.
        observation: the newest observation.
        started: the ids of the instances that a booking has started, from the status. `unbooked: Leave` stops
            no others.
    """
    if not (policy.stop_when_deleted and policy.may_act):
        return ()
    running = observation.stoppable()
    return tuple(id_ for id_ in running if policy.unbooked is UnbookedPolicy.STOP or id_ in started)


def start_waits_until(
    due_at: datetime, *, viewed_at: datetime, took_over_at: datetime, now: datetime
) -> datetime | None:
    """Return until when a start waits for an observation that shows what the previous leader has started.

    Only an overdue start waits, because the previous leader may have sent it. A start that is due after the
    take-over leaves on time. A start on an observation from after the take-over leaves at once.

    Args:
        due_at: when the start is due (aware UTC).
        viewed_at: when the Describe of the present observation was sent (aware UTC).
        took_over_at: when this replica began to lead (aware UTC).
        now: the instant (aware UTC).

    Returns:
        The instant at which the start leaves on the present observation, if there is no newer one; None when
        the start does not wait.
    """
    until = took_over_at + TAKE_OVER_TIMEOUT
    # If the clock was set back to before the take-over, the start does not wait.
    if not took_over_at <= now < until:
        return None
    return until if due_at < took_over_at and viewed_at < took_over_at else None


def forget_stopped_from(
    started: Collection[str], policy: PowerPolicy, state: TimelineState, observed_since: datetime
) -> datetime | None:
    """Return from when on an observation may remove stopped instances from `started` (aware UTC).

    An instance may show as stopped although a start of it was sent right before the end of the booking. The
    result is None if no decision depends on it, which means: nothing is started, the instances are booked, or
    the policy is `unbooked: Stop`.
    """
    matters = started and not state.running_wanted and policy.unbooked is UnbookedPolicy.LEAVE
    return observed_since + VISIBILITY_DELAY if matters else None


def _blocked(observation: Observation, goal: InstanceState) -> tuple[Instance, ...]:
    return tuple(item for item in observation.instances if item.blocked_reason and item.state is not goal)


def _still_started(
    observation: Observation, started: AbstractSet[str], since: datetime, stopped: Iterable[str] = ()
) -> frozenset[str]:
    """Return `started` without the instances that no longer exist and those in `stopped`.

    An observation from before `since` (aware UTC) may be older than a start, so it removes nothing.
    """
    if observation.at < since:
        return frozenset(started)
    existing = frozenset(instance.id for instance in observation.instances)
    return (existing & started) - set(stopped)
