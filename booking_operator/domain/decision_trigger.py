"""The decision trigger of a Resource: the last change of what its bookings or its policy want.

The time of that change says how new an observation must be to back a decision. Whether the change was known
ahead says if a stop needs a confirmation of the caches. The reconciler of Resources computes the next
trigger in each reconcile from the trigger of the previous one.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.booking_timeline import TimelineState

LEAD_TIME = timedelta(seconds=1.5)
"""How long before a boundary the operator observes the instances, so that calls leave at the boundary."""


@dataclass(frozen=True, slots=True)
class DecisionTrigger:
    """The last change of what the bookings or the policy of a Resource want.

    Attributes:
        running_wanted: whether the instances are wanted running.
        policy: the policy of the Resource. A change of it is a new trigger.
        observed_since: a stop needs an observation that is not older than this instant (aware UTC).
        planned: whether the last change of power came at a boundary that was known ahead, and not by an edit
            or a deletion.
        expected_change_at: the next boundary, as known now (aware UTC); None for never. A change at this
            instant is planned.
        due_since: since when the present starts or stops are due (aware UTC): the last change of what the
            bookings want, the last off time, or the end of a suspension. Waits for other Resources count from
            it, so neither a handover between bookings nor another edit makes them longer.
        may_act: whether the operator may start and stop the instances.
        requires: the names of the Resources that this one requires. With another one, a new wait begins.
        ever_wanted: whether the instances were wanted running at any reconcile so far.
        brought_forward: whether an edit or a deletion has moved `expected_change_at` to an earlier instant
            while the instances were wanted running. The change at that instant is then not planned.
        deletions: the number of bookings of the Resource that were deleted so far.
        stop_from: no stop before this instant, because a deletion has brought it forward, and a new booking
            may replace the deleted one (aware UTC); None if no deletion has.
    """

    running_wanted: bool
    policy: Hashable
    observed_since: datetime
    planned: bool
    expected_change_at: datetime | None
    due_since: datetime
    may_act: bool = True
    requires: tuple[str, ...] = ()
    ever_wanted: bool = False
    brought_forward: bool = False
    deletions: int = 0
    stop_from: datetime | None = None

    def due_at(self, state: TimelineState, *, may_act: bool) -> datetime:
        """Return since when starts or stops are due (aware UTC) in a later state of the bookings."""
        expected = self.expected_change_at
        passed = expected if expected is not None and expected <= state.at else None
        changed = self.running_wanted != state.running_wanted or self.may_act != may_act
        if changed or (passed and not state.running_wanted):
            return passed or state.at
        return min(self.due_since, state.at)


@dataclass(frozen=True, slots=True)
class Reported:
    """What the status says at the first reconcile, from the reconciles of an earlier leadership.

    Attributes:
        booked_until: the end of the last holder (aware UTC); None if there was none. If it is in the future
            and no booking is active, this holder was deleted while no operator ran.
        due_since: since when the present starts or stops are due (aware UTC); None if unknown. A restart does
            not begin a new wait.
    """

    booked_until: datetime | None = None
    due_since: datetime | None = None


NOTHING_REPORTED = Reported()


def reported(
    booked_until: datetime | None,
    due_since: datetime | None,
    holder: BookingInterval | None,
    warm_up: timedelta,
) -> Reported:
    """Return what a status says of an earlier leadership, or of before an invalid spec.

    `due_since` counts only if the bookings have wanted the same all the time. They have not if the present
    holder was created, or its warm-up began, after the end of the reported one.

    Args:
        booked_until: the end of the holder in the status (aware UTC); None if it has none.
        due_since: since when the starts or stops of the status are due (aware UTC); None if unknown.
        holder: the holder now; None if there is none.
        warm_up: the warm-up of the Resource.
    """
    if holder is None or booked_until is None:
        same = holder is None and booked_until is None
    else:
        same = max(holder.power_on_at(warm_up), holder.created_at) <= booked_until
    return Reported(booked_until, due_since if same else None)


def next_trigger(
    before: DecisionTrigger | Reported,
    state: TimelineState,
    *,
    policy: Hashable = None,
    may_act: bool = True,
    requires: tuple[str, ...] = (),
    deletions: int = 0,
    deletion_grace: timedelta = timedelta(0),
) -> DecisionTrigger:
    """Return the decision trigger at the instant of `state`, given the trigger of the previous reconcile.

    For a change at a boundary that was known ahead, `observed_since` is `LEAD_TIME` before the boundary: an
    observation from then allows the call to leave at the boundary. For any other change it is the instant
    itself. When the next boundary is less than `LEAD_TIME` away, `observed_since` asks for that observation.

    Args:
        before: the trigger of the previous reconcile; for the first one, what the status says.
        state: the state of the bookings now.
        policy: the policy of the Resource.
        may_act: whether the operator may start and stop the instances.
        requires: the names of the Resources that this one requires.
        deletions: the number of bookings of the Resource that were deleted so far.
        deletion_grace: how long a stop waits after the deletion that has brought it forward.
    """
    now = state.at
    previous, reported = (before, NOTHING_REPORTED) if isinstance(before, DecisionTrigger) else (None, before)
    if previous is None or previous.policy != policy:
        since, planned = now, False
    elif previous.running_wanted == state.running_wanted:
        since, planned = previous.observed_since, previous.planned
        if previous.expected_change_at is not None and previous.expected_change_at <= now:
            # An off time or the end of a suspension changes what is stopped, but not what bookings want.
            since = max(since, previous.expected_change_at - LEAD_TIME)
    elif previous.expected_change_at is not None and previous.expected_change_at <= now:
        since, planned = previous.expected_change_at - LEAD_TIME, not previous.brought_forward
    else:
        since, planned = now, False
    coming, shortened = state.next_change_at, False
    if previous is not None and previous.running_wanted and state.running_wanted:
        sooner = (
            previous.expected_change_at is not None
            and coming is not None
            and coming < previous.expected_change_at
        )
        shortened = previous.brought_forward or sooner
    if coming is not None and coming - LEAD_TIME <= now:
        since = max(since, coming - LEAD_TIME)
    # An instant in the future is from before the clock was set back. No observation could be new enough.
    since = min(since, now)
    return DecisionTrigger(
        state.running_wanted,
        policy,
        since,
        planned,
        coming,
        _due_since(before, state, may_act=may_act, requires=requires),
        may_act,
        requires,
        state.running_wanted or (previous is not None and previous.ever_wanted),
        shortened,
        deletions,
        _stop_from(previous, state, deletions, deletion_grace)
        if previous is not None
        else _first_stop_from(state, deletion_grace, reported.booked_until),
    )


def _due_since(
    before: DecisionTrigger | Reported,
    state: TimelineState,
    *,
    may_act: bool,
    requires: tuple[str, ...],
) -> datetime:
    """Return since when the present starts or stops are due (aware UTC)."""
    if isinstance(before, Reported):
        return min(before.due_since or state.at, state.at)
    if set(requires) - set(before.requires):
        return state.at
    return before.due_at(state, may_act=may_act)


def _first_stop_from(
    state: TimelineState, grace: timedelta, booked_until: datetime | None
) -> datetime | None:
    """Return until when a stop waits because of a deletion before the first reconcile; None if not at all."""
    missing = not state.running_wanted and booked_until is not None and state.at < booked_until
    return state.at + grace if missing else None


def _stop_from(
    previous: DecisionTrigger, state: TimelineState, deletions: int, grace: timedelta
) -> datetime | None:
    """Return until when a stop waits because of a deletion; None if it does not wait.

    A booking that begins in the place of the deleted one ends the wait.
    """
    now, was, coming = state.at, previous.expected_change_at, state.next_change_at
    if previous.running_wanted and deletions != previous.deletions:
        ended = not state.running_wanted and (was is None or now < was)
        sooner = state.running_wanted and was is not None and coming is not None and coming < was
        if ended or sooner:
            return now + grace
    if previous.stop_from is None or (state.running_wanted and coming != was):
        return None
    # An instant in the distant future is from before the clock was set back.
    return min(previous.stop_from, now + grace)


def next_wake_up(state: TimelineState, now: datetime) -> datetime | None:
    """Return when to reconcile the Resource again (aware UTC); None for never.

    It is the next instant at which a booking begins or ends, or `LEAD_TIME` before the next boundary.
    """
    instants = [state.next_at]
    if state.next_change_at is not None:
        instants += [state.next_change_at - LEAD_TIME, state.next_change_at]
    return min((instant for instant in instants if instant is not None and instant > now), default=None)
