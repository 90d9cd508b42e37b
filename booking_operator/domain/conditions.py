"""What users are told of a resource: counts, conditions and their reasons.

Reasons are CamelCase and messages are sentences, as the Kubernetes API conventions ask
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
Nothing here ticks: a text changes only when the fact does, and the instant of the next try is part of that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from booking_operator.domain.booking_timeline import TimelineState
from booking_operator.domain.delay import Delay, format_duration
from booking_operator.domain.instance import Instance, InstanceState, Observation
from booking_operator.domain.power import Plan, PowerPolicy, UnbookedPolicy

_MAX_LISTED = 5  # ids named in a message before it says how many more there are


@dataclass(frozen=True, slots=True)
class ConditionUpdate:
    """One condition without the fields that only its history gives; `status` None is Unknown."""

    type: str
    status: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the cloud did not do or tell what was asked.

    Attributes:
        reason: CamelCase, for a condition.
        message: a sentence or more.
        retry_at: when the operator tries again (aware UTC); None where that follows from back-off.
    """

    reason: str
    message: str
    retry_at: datetime | None = None


def with_retry_time(reason: str, message: str, retry_at: datetime | None) -> Failure:
    """A failure whose message says when the operator tries again, where that is known."""
    if retry_at is None:
        return Failure(reason, message)
    # To the second, and no sooner than it is.
    shown = format_utc((retry_at + timedelta(microseconds=999_999)).replace(microsecond=0))
    return Failure(reason, f"{message.rstrip(' .')}. The next try is at {shown}.", retry_at)


@dataclass(frozen=True, slots=True)
class ResourceReport:
    """What became of one reconcile of a resource: the last view, the plan, what is wrong, odd or late."""

    state: TimelineState
    observation: Observation | None
    plan: Plan
    failure: Failure | None = None
    warning: Failure | None = None
    delay: Delay | None = None


def format_utc(instant: datetime | None) -> str:
    """RFC 3339 in UTC with `Z`, as Kubernetes prints times; empty for None."""
    return "" if instant is None else format_rfc3339(instant.astimezone(UTC))


def format_rfc3339(instant: datetime) -> str:
    """RFC 3339 in the instant's own offset, with `Z` for UTC."""
    return instant.isoformat().replace("+00:00", "Z")


def summarize(ids: Sequence[str]) -> str:
    """Name the first few ids and count the rest."""
    more = len(ids) - _MAX_LISTED
    return ", ".join(ids[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def power_status(observation: Observation | None) -> str:
    """The STATUS column of a Resource: all run, all stand, or somewhere between."""
    if observation is None:
        return ""
    if observation.all_in(InstanceState.RUNNING):
        return "RUNNING"
    return "STOPPED" if observation.count(InstanceState.STOPPED) == len(observation.instances) else "PENDING"


def invalid_conditions(reason: str, message: str) -> tuple[ConditionUpdate, ...]:
    """Conditions of an object that cannot be acted on. `Stalled` makes kstatus tools fail at once."""
    return (
        ConditionUpdate("Valid", False, reason, message),
        ConditionUpdate("Ready", False, reason, message),
        ConditionUpdate("Stalled", True, reason, message),
    )


def creator_conditions(failure: Failure | None, done: str) -> tuple[ConditionUpdate, ...]:
    """Conditions of a valid object that makes others: whether all of them are there, as `done` says."""
    valid = ConditionUpdate("Valid", True, "Accepted", "The spec is valid.")
    if failure is None:
        return (
            valid,
            ConditionUpdate("Synced", True, "Synced", done),
            ConditionUpdate("Ready", True, "Synced", done),
        )
    why = (failure.reason, failure.message)
    return (valid, ConditionUpdate("Synced", False, *why), ConditionUpdate("Ready", False, *why))


def resource_conditions(
    tag: str, place: str, policy: PowerPolicy, outcome: ResourceReport
) -> tuple[ConditionUpdate, ...]:
    """Conditions of a valid Resource that stands for the group `tag` in `place`."""
    return (
        ConditionUpdate("Valid", True, "Accepted", "The spec is valid."),
        _found(tag, place, outcome),
        _synced(outcome),
        _resource_ready(policy, outcome),
        *delayed_conditions(outcome.delay),
    )


def delayed_conditions(delay: Delay | None) -> tuple[ConditionUpdate, ...]:
    """The condition that is there only while a start or stop is late, or is going to be."""
    if delay is None:
        return ()
    verb = "started" if delay.is_start else "stopped"
    late = f"{format_duration(delay.late_by)} after {format_utc(delay.due_at)}"
    limits = "The request limits of the cloud"
    message = f"{limits} let the last instance be {verb} at {format_utc(delay.complete_at)}, {late}."
    if delay.is_start:
        warm_up = format_duration(delay.suggested_warm_up)
        message += f" With spec.warm_up: {warm_up} on the Resource all would be in time."
    return (ConditionUpdate("Delayed", True, "RequestLimits", message),)


def _found(tag: str, place: str, outcome: ResourceReport) -> ConditionUpdate:
    if outcome.observation is None:
        return ConditionUpdate("Found", None, "NotObserved", "The instances have not been seen yet.")
    if not outcome.observation.instances:
        tagged = f"resource-booking-application={tag}"
        return ConditionUpdate(
            "Found", False, "NoInstances", f"No instance in {place} carries the tag {tagged}."
        )
    return ConditionUpdate("Found", True, "InstancesFound", f"Instances of the group were found in {place}.")


def _synced(outcome: ResourceReport) -> ConditionUpdate:
    if outcome.failure is not None:
        return ConditionUpdate("Synced", False, outcome.failure.reason, outcome.failure.message)
    if outcome.observation is None:
        return ConditionUpdate("Synced", None, "NotObserved", "The instances have not been seen yet.")
    if outcome.warning is not None:
        return ConditionUpdate("Synced", True, outcome.warning.reason, outcome.warning.message)
    return ConditionUpdate("Synced", True, "Synced", "The cloud answers and took the last action.")


def _resource_ready(policy: PowerPolicy, outcome: ResourceReport) -> ConditionUpdate:
    plan, observation = outcome.plan, outcome.observation
    if observation is None or not observation.instances:
        return ConditionUpdate("Ready", False, "NoInstances", "There is no instance to start or stop.")
    running = f"{observation.count(InstanceState.RUNNING)} of {len(observation.instances)} instances run"
    if plan.has_actions and policy.suspend:
        return ConditionUpdate(
            "Ready", False, "Suspended", f"{describe_plan(plan)}, but spec.suspend is true."
        )
    if plan.has_actions and policy.dry_run:
        return ConditionUpdate(
            "Ready", False, "DryRun", f"{describe_plan(plan)}, but the operator runs with --dry-run."
        )
    if plan.withheld:
        what = f"{summarize(plan.withheld)} would be stopped, but {plan.stale_reason}"
        return ConditionUpdate("Ready", False, "StopWithheld", f"{what}.")
    if plan.blocked:
        return ConditionUpdate("Ready", False, "Blocked", f"{describe_blocked(plan.blocked)}.")
    if outcome.state.running_wanted:
        ready = observation.all_in(InstanceState.RUNNING)
        return ConditionUpdate(
            "Ready", ready, "Running" if ready else "Starting", f"{running}, all are booked."
        )
    if observation.all_in(InstanceState.STOPPED):
        return ConditionUpdate("Ready", True, "Stopped", f"{running}, none is booked.")
    if policy.unbooked is UnbookedPolicy.LEAVE and not plan.started:
        return ConditionUpdate(
            "Ready", True, "Left", f"{running}, none is booked, and spec.unbooked is Leave."
        )
    return ConditionUpdate("Ready", False, "Stopping", f"{running}, none is booked.")


def describe_blocked(instances: Sequence[Instance]) -> str:
    """Name the first few instances that cannot be started or stopped, and why."""
    return summarize([f"{instance.id} {instance.blocked_reason}" for instance in instances])


def describe_plan(plan: Plan) -> str:
    """What a plan would do, as the beginning of a sentence."""
    verb, ids = ("start", plan.start) if plan.start else ("stop", plan.stop)
    return f"Would {verb} {summarize(ids)}"


_REPORTED_TYPES = {"Delayed", "Valid", "Found", "Synced", "ResourceFound", "Notified"}
_UNREPORTED_REASONS = {"Pending"}
_REPORTED_REASONS = {"Blocked", "DryRun", "LockGarbled", "StopWithheld"}


@dataclass(frozen=True, slots=True)
class ConditionEvent:
    """Something that became so, to be told once by an Event and a log line."""

    warning: bool
    reason: str
    message: str


def condition_events(
    previous: Mapping[str, tuple[str, str]], conditions: Iterable[ConditionUpdate]
) -> list[ConditionEvent]:
    """What in `conditions` a user should be told, given the reason and message each type had before."""
    told = []
    for condition in conditions:
        reason, message = previous.get(condition.type, ("", ""))
        told_of = condition.type in _REPORTED_TYPES and condition.reason not in _UNREPORTED_REASONS
        bad = condition.status is False or condition.type == "Delayed"
        if told_of and bad and condition.reason != reason:
            told.append(ConditionEvent(warning=True, reason=condition.reason, message=condition.message))
        elif condition.reason in _REPORTED_REASONS and (condition.reason, condition.message) != (
            reason,
            message,
        ):
            warning = condition.reason != "DryRun"
            told.append(ConditionEvent(warning=warning, reason=condition.reason, message=condition.message))
    return told
