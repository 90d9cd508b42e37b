"""What is to be done to the instances of one resource, decided anew from scratch each time."""

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from booking_operator.domain.agenda import Moment
from booking_operator.domain.instance import Instance, Observation, State

SETTLING = timedelta(seconds=40)
"""How long a start may go unnoticed that was sent right before nobody wanted it any more.

A call waits 25 s for its answer, a view may not show for 10 s what was done, and some is to spare.
"""

TAKE_OVER_TIMEOUT = timedelta(seconds=1)
"""How long after a take-over a start waits at most for a view that was asked for since the take-over.

The view of a replica that does not lead may be up to a minute old. So when it takes over it may take for
stopped what the leader before it has started, and each instance that is started again draws one more token
from the bucket of StartInstances.
"""


class Unbooked(StrEnum):
    """What becomes of running instances that nobody has booked."""

    STOP = "Stop"
    LEAVE = "Leave"


@dataclass(frozen=True, slots=True)
class Policy:
    """How one Resource wants its instances treated.

    `dry_run` is the operator's, not the Resource's: plan and report, write nothing to the cloud.
    """

    unbooked: Unbooked = Unbooked.STOP
    warm_up: timedelta = timedelta(0)
    hibernate: bool = False
    suspend: bool = False
    dry_run: bool = False

    @property
    def acts(self) -> bool:
        """Whether power may be changed at all."""
        return not (self.suspend or self.dry_run)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the bookings ask of the instances, given what was seen of them.

    Attributes:
        start: ids to start now.
        stop: ids to stop now.
        withheld: ids that would be stopped, were there no doubt.
        doubt: why they are not stopped; empty where there is none.
        blocked: instances that are not as booked and cannot be made so, each with its obstacle.
        started: ids that a booking has started, to be remembered; under `unbooked: Leave` also those
            that it is about to start.
        moving: instances are on their way; their arrival will be seen by the inventory.
    """

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    doubt: str = ""
    blocked: tuple[Instance, ...] = ()
    started: frozenset[str] = frozenset()
    moving: bool = False

    @property
    def acts(self) -> bool:
        """Whether anything is to be sent to the cloud."""
        return bool(self.start or self.stop)


def decide(
    policy: Policy,
    seen: Moment,
    observation: Observation | None,
    *,
    started: AbstractSet[str] = frozenset(),
    since: datetime,
    doubt: str = "",
) -> Plan:
    """Decide what to start and what to stop.

    A start needs the booking alone. A stop needs more: no `doubt` about the bookings, and an observation
    that is not older than `since`, the cause of the decision.

    Args:
        policy: how the Resource wants to be treated.
        seen: what the bookings say now.
        observation: the instances, or None when they were never seen.
        started: ids that a booking has started, as remembered.
        since: the cause of the wanted power; aware UTC.
        doubt: why the bookings may be incomplete; empty when they are trusted.
    """
    if observation is None:
        return Plan(started=frozenset(started), doubt=doubt)
    moving = bool(observation.ids(State.PENDING, State.STOPPING))
    if seen.wanted:
        start, blocked = observation.free(State.STOPPED), _blocked(observation, State.RUNNING)
        coming = start if policy.acts and policy.unbooked is Unbooked.LEAVE else ()
        remembered = _remembered(observation, started, since) | set(coming)
        return Plan(start=start, blocked=blocked, started=remembered, moving=moving)
    stop, blocked = observation.free(State.RUNNING), _blocked(observation, State.STOPPED)
    over = observation.ids(State.STOPPED)
    if policy.unbooked is Unbooked.LEAVE and observation.at < since + SETTLING:
        over = ()
    remembered = _remembered(observation, started, since, over)
    if policy.unbooked is Unbooked.LEAVE:
        stop = tuple(id_ for id_ in stop if id_ in remembered)
        blocked = tuple(instance for instance in blocked if instance.id in remembered)
    if stop and not doubt and observation.at < since:
        doubt = "the last view of the instances is older than the change of the bookings"
    if stop and doubt:
        return Plan(withheld=stop, doubt=doubt, blocked=blocked, started=remembered, moving=moving)
    return Plan(stop=stop, blocked=blocked, started=remembered, moving=moving)


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


def settled_at(started: Collection[str], policy: Policy, seen: Moment, since: datetime) -> datetime | None:
    """From when on a view may tell that what is `started` is over; None where that matters to nobody."""
    matters = started and not seen.wanted and policy.unbooked is Unbooked.LEAVE
    return since + SETTLING if matters else None


def _blocked(observation: Observation, goal: State) -> tuple[Instance, ...]:
    return tuple(item for item in observation.instances if item.obstacle and item.state is not goal)


def _remembered(
    observation: Observation, started: AbstractSet[str], since: datetime, over: Iterable[str] = ()
) -> frozenset[str]:
    """What is `started`, but for what is gone, or `over`: an older view may be from before the start."""
    if observation.at < since:
        return frozenset(started)
    return frozenset(instance.id for instance in observation.instances if instance.id in started) - set(over)
