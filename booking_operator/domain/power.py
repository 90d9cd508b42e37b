"""Decides which instances of one Resource to start and to stop, from scratch each time."""

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from booking_operator.domain.booking_timeline import TimelineState
from booking_operator.domain.instance import Instance, InstanceState, Observation

SETTLE_TIME = timedelta(seconds=40)
"""How long a start may go unnoticed that was sent right before nobody wanted it any more.

A call waits 25 s for its answer, a view may not show for 10 s what was done, and some is to spare.
"""

TAKE_OVER_TIMEOUT = timedelta(seconds=1)
"""How long after a take-over a start waits at most for a view that was asked for since the take-over.

The view of a replica that does not lead may be up to a minute old. So when it takes over it may take for
stopped what the leader before it has started, and each instance that is started again draws one more token
from the bucket of StartInstances.
"""


class UnbookedPolicy(StrEnum):
    """What becomes of running instances that nobody has booked."""

    STOP = "Stop"
    LEAVE = "Leave"


@dataclass(frozen=True, slots=True)
class PowerPolicy:
    """How one Resource wants its instances treated.

    `dry_run` is the operator's, not the Resource's: plan and report, write nothing to the cloud.
    """

    unbooked: UnbookedPolicy = UnbookedPolicy.STOP
    warm_up: timedelta = timedelta(0)
    hibernate: bool = False
    suspend: bool = False
    dry_run: bool = False

    @property
    def may_act(self) -> bool:
        """Whether power may be changed at all."""
        return not (self.suspend or self.dry_run)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the bookings ask of the instances, given what was seen of them.

    Attributes:
        start: ids to start now.
        stop: ids to stop now.
        withheld: ids that would be stopped if no data were stale.
        stale_reason: why they are not stopped; empty where nothing is stale.
        blocked: instances that are not as booked and cannot be made so, each with its obstacle.
        started: ids that a booking has started, to be remembered; under `unbooked: Leave` also those
            that it is about to start.
        in_transition: instances are on their way; their arrival will be seen by the inventory.
    """

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    stale_reason: str = ""
    blocked: tuple[Instance, ...] = ()
    started: frozenset[str] = frozenset()
    in_transition: bool = False

    @property
    def has_actions(self) -> bool:
        """Whether anything is to be sent to the cloud."""
        return bool(self.start or self.stop)


def decide(
    policy: PowerPolicy,
    state: TimelineState,
    observation: Observation | None,
    *,
    started: AbstractSet[str] = frozenset(),
    observed_since: datetime,
    stale_reason: str = "",
) -> Plan:
    """Decide what to start and what to stop.

    A start needs the booking alone. A stop needs more: no `stale_reason` about the bookings, and an
    observation that is not older than `since`, the cause of the decision.

    Args:
        policy: how the Resource wants to be treated.
        state: what the bookings say now.
        observation: the instances, or None when they were never seen.
        started: ids that a booking has started, as remembered.
        observed_since: a view from before this instant proves nothing (aware UTC).
        stale_reason: why the bookings may be incomplete; empty when they are complete.
    """
    if observation is None:
        return Plan(started=frozenset(started), stale_reason=stale_reason)
    moving = bool(observation.ids(InstanceState.PENDING, InstanceState.STOPPING))
    if state.running_wanted:
        start, blocked = (
            observation.unblocked(InstanceState.STOPPED),
            _blocked(observation, InstanceState.RUNNING),
        )
        coming = start if policy.may_act and policy.unbooked is UnbookedPolicy.LEAVE else ()
        remembered = _still_started(observation, started, observed_since) | set(coming)
        return Plan(start=start, blocked=blocked, started=remembered, in_transition=moving)
    stop, blocked = observation.unblocked(InstanceState.RUNNING), _blocked(observation, InstanceState.STOPPED)
    over = observation.ids(InstanceState.STOPPED)
    if policy.unbooked is UnbookedPolicy.LEAVE and observation.at < observed_since + SETTLE_TIME:
        over = ()
    remembered = _still_started(observation, started, observed_since, over)
    if policy.unbooked is UnbookedPolicy.LEAVE:
        stop = tuple(id_ for id_ in stop if id_ in remembered)
        blocked = tuple(instance for instance in blocked if instance.id in remembered)
    if stop and not stale_reason and observation.at < observed_since:
        stale_reason = "the last view of the instances is older than the change of the bookings"
    if stop and stale_reason:
        return Plan(
            withheld=stop,
            stale_reason=stale_reason,
            blocked=blocked,
            started=remembered,
            in_transition=moving,
        )
    return Plan(stop=stop, blocked=blocked, started=remembered, in_transition=moving)


def start_waits_until(
    due_at: datetime, *, viewed_at: datetime, took_over_at: datetime, now: datetime
) -> datetime | None:
    """Until when a start waits for a view that shows what the leader before this one has started.

    Only an overdue start waits, because the leader before may have sent it. A start that is due after the
    take-over leaves at its time. A start that is decided on a view since the take-over leaves at once.

    Args:
        due_at: when the start is due.
        viewed_at: when the view at hand was asked for.
        took_over_at: when this replica began to lead.
        now: the instant. All four are aware UTC.

    Returns:
        The latest instant at which it leaves, on the view at hand if there is no younger one; None where it
        does not wait.
    """
    until = took_over_at + TAKE_OVER_TIMEOUT
    # The clock may be set back to before the take-over; then nothing waits.
    if not took_over_at <= now < until:
        return None
    return until if due_at < took_over_at and viewed_at < took_over_at else None


def settled_after(
    started: Collection[str], policy: PowerPolicy, state: TimelineState, observed_since: datetime
) -> datetime | None:
    """From when on a view may show that what is `started` is over; None where nothing depends on it."""
    matters = started and not state.running_wanted and policy.unbooked is UnbookedPolicy.LEAVE
    return observed_since + SETTLE_TIME if matters else None


def _blocked(observation: Observation, goal: InstanceState) -> tuple[Instance, ...]:
    return tuple(item for item in observation.instances if item.blocked_reason and item.state is not goal)


def _still_started(
    observation: Observation, started: AbstractSet[str], since: datetime, over: Iterable[str] = ()
) -> frozenset[str]:
    """What is `started`, but for what is gone, or `over`: an older view may be from before the start."""
    if observation.at < since:
        return frozenset(started)
    return frozenset(instance.id for instance in observation.instances if instance.id in started) - set(over)
