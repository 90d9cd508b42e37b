"""What users are told of a resource: counts, conditions and their reasons.

Reasons are CamelCase and messages are sentences, as the Kubernetes API conventions ask
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
Nothing here ticks: a text changes only when the fact does, and the instant of the next try is part of that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from booking_operator.domain.booking_timeline import Moment
from booking_operator.domain.delay import Delay, shown
from booking_operator.domain.instance import Instance, Observation, State
from booking_operator.domain.power import Plan, Policy, Unbooked

_LISTED = 5  # ids named in a message before it says how many more there are


@dataclass(frozen=True, slots=True)
class Condition:
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


def retried(reason: str, message: str, retry_at: datetime | None) -> Failure:
    """A failure whose message says when the operator tries again, where that is known."""
    if retry_at is None:
        return Failure(reason, message)
    # To the second, and no sooner than it is.
    shown = utc((retry_at + timedelta(microseconds=999_999)).replace(microsecond=0))
    return Failure(reason, f"{message.rstrip(' .')}. The next try is at {shown}.", retry_at)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one reconcile of a resource: the last view, the plan, what is wrong, odd or late."""

    seen: Moment
    observation: Observation | None
    plan: Plan
    failure: Failure | None = None
    remark: Failure | None = None
    delay: Delay | None = None


def utc(instant: datetime | None) -> str:
    """RFC 3339 in UTC with `Z`, as Kubernetes prints times; empty for None."""
    return "" if instant is None else rfc3339(instant.astimezone(UTC))


def rfc3339(instant: datetime) -> str:
    """RFC 3339 in the instant's own offset, with `Z` for UTC."""
    return instant.isoformat().replace("+00:00", "Z")


def listed(ids: Sequence[str]) -> str:
    """Name the first few ids and count the rest."""
    more = len(ids) - _LISTED
    return ", ".join(ids[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def power_status(observation: Observation | None) -> str:
    """The STATUS column of a Resource: all run, all stand, or somewhere between."""
    if observation is None:
        return ""
    if observation.all_in(State.RUNNING):
        return "RUNNING"
    return "STOPPED" if observation.count(State.STOPPED) == len(observation.instances) else "PENDING"


def refused(reason: str, message: str) -> tuple[Condition, ...]:
    """Conditions of an object that cannot be acted on. `Stalled` makes kstatus tools fail at once."""
    return (
        Condition("Valid", False, reason, message),
        Condition("Ready", False, reason, message),
        Condition("Stalled", True, reason, message),
    )


def maker_conditions(failure: Failure | None, done: str) -> tuple[Condition, ...]:
    """Conditions of a valid object that makes others: whether all of them are there, as `done` says."""
    valid = Condition("Valid", True, "Accepted", "The spec is valid.")
    if failure is None:
        return (valid, Condition("Synced", True, "Synced", done), Condition("Ready", True, "Synced", done))
    why = (failure.reason, failure.message)
    return (valid, Condition("Synced", False, *why), Condition("Ready", False, *why))


def resource_conditions(tag: str, place: str, policy: Policy, outcome: Outcome) -> tuple[Condition, ...]:
    """Conditions of a valid Resource that stands for the group `tag` in `place`."""
    return (
        Condition("Valid", True, "Accepted", "The spec is valid."),
        _found(tag, place, outcome),
        _synced(outcome),
        _resource_ready(policy, outcome),
        *delayed(outcome.delay),
    )


def delayed(delay: Delay | None) -> tuple[Condition, ...]:
    """The condition that is there only while a start or stop is late, or is going to be."""
    if delay is None:
        return ()
    verb = "started" if delay.starting else "stopped"
    late = f"{shown(delay.late_by)} after {utc(delay.at)}"
    limits = "The request limits of the cloud"
    message = f"{limits} let the last instance be {verb} at {utc(delay.until)}, {late}."
    if delay.starting:
        message += f" With spec.warm_up: {shown(delay.remedy)} on the Resource all would be in time."
    return (Condition("Delayed", True, "RequestLimits", message),)


def _found(tag: str, place: str, outcome: Outcome) -> Condition:
    if outcome.observation is None:
        return Condition("Found", None, "NotObserved", "The instances have not been seen yet.")
    if not outcome.observation.instances:
        tagged = f"resource-booking-application={tag}"
        return Condition("Found", False, "NoInstances", f"No instance in {place} carries the tag {tagged}.")
    return Condition("Found", True, "InstancesFound", f"Instances of the group were found in {place}.")


def _synced(outcome: Outcome) -> Condition:
    if outcome.failure is not None:
        return Condition("Synced", False, outcome.failure.reason, outcome.failure.message)
    if outcome.observation is None:
        return Condition("Synced", None, "NotObserved", "The instances have not been seen yet.")
    if outcome.remark is not None:
        return Condition("Synced", True, outcome.remark.reason, outcome.remark.message)
    return Condition("Synced", True, "Synced", "The cloud answers and took the last action.")


def _resource_ready(policy: Policy, outcome: Outcome) -> Condition:
    plan, observation = outcome.plan, outcome.observation
    if observation is None or not observation.instances:
        return Condition("Ready", False, "NoInstances", "There is no instance to start or stop.")
    running = f"{observation.count(State.RUNNING)} of {len(observation.instances)} instances run"
    if plan.acts and policy.suspend:
        return Condition("Ready", False, "Suspended", f"{intent(plan)}, but spec.suspend is true.")
    if plan.acts and policy.dry_run:
        return Condition("Ready", False, "DryRun", f"{intent(plan)}, but the operator runs with --dry-run.")
    if plan.withheld:
        what = f"{listed(plan.withheld)} would be stopped, but {plan.doubt}"
        return Condition("Ready", False, "StopWithheld", f"{what}.")
    if plan.blocked:
        return Condition("Ready", False, "Blocked", f"{blocked(plan.blocked)}.")
    if outcome.seen.wanted:
        ready = observation.all_in(State.RUNNING)
        return Condition("Ready", ready, "Running" if ready else "Starting", f"{running}, all are booked.")
    if observation.all_in(State.STOPPED):
        return Condition("Ready", True, "Stopped", f"{running}, none is booked.")
    if policy.unbooked is Unbooked.LEAVE and not plan.started:
        return Condition("Ready", True, "Left", f"{running}, none is booked, and spec.unbooked is Leave.")
    return Condition("Ready", False, "Stopping", f"{running}, none is booked.")


def blocked(instances: Sequence[Instance]) -> str:
    """Name the first few instances that cannot be started or stopped, and why."""
    return listed([f"{instance.id} {instance.obstacle}" for instance in instances])


def intent(plan: Plan) -> str:
    """What a plan would do, as the beginning of a sentence."""
    verb, ids = ("start", plan.start) if plan.start else ("stop", plan.stop)
    return f"Would {verb} {listed(ids)}"


_TOLD = {"Delayed", "Valid", "Found", "Synced", "ResourceFound", "Notified"}
_NO_NEWS = {"Pending"}
_TOLD_REASONS = {"Blocked", "DryRun", "LockGarbled", "StopWithheld"}


@dataclass(frozen=True, slots=True)
class News:
    """Something that became so, to be told once by an Event and a log line."""

    warning: bool
    reason: str
    message: str


def news(previous: Mapping[str, tuple[str, str]], conditions: Iterable[Condition]) -> list[News]:
    """What in `conditions` a user should be told, given the reason and message each type had before."""
    told = []
    for condition in conditions:
        reason, message = previous.get(condition.type, ("", ""))
        told_of = condition.type in _TOLD and condition.reason not in _NO_NEWS
        bad = condition.status is False or condition.type == "Delayed"
        if told_of and bad and condition.reason != reason:
            told.append(News(warning=True, reason=condition.reason, message=condition.message))
        elif condition.reason in _TOLD_REASONS and (condition.reason, condition.message) != (reason, message):
            warning = condition.reason != "DryRun"
            told.append(News(warning=warning, reason=condition.reason, message=condition.message))
    return told
