"""The conditions of all kinds: their reasons and messages, and which changes become Events.

Reasons are CamelCase and messages are sentences, as the Kubernetes API conventions require
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
A message changes only when the facts change, so that the status is not written unnecessarily. The time of the
next attempt is such a fact.

`Ready` of a Resource is the result of a chain of checks, `_READY_CHECKS`. The first check that applies
decides. `Ready` of a Booking works in the same way.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.domain.acceptance import RequestedBooking
from booking_operator.domain.booking import BookingInterval, Phase
from booking_operator.domain.booking_timeline import TimelineState
from booking_operator.domain.delay import Delay
from booking_operator.domain.formatting import format_duration, format_utc, summarize
from booking_operator.domain.instance import CHECK_TIMEOUT, Instance, InstanceState, Observation
from booking_operator.domain.parsing import parse_rfc3339
from booking_operator.domain.power import Grace, GraceReason, Plan, PowerPolicy, UnbookedPolicy


@dataclass(frozen=True, slots=True)
class ConditionUpdate:
    """The present value of a condition, without its transition time.

    Attributes:
        type: the condition type.
        status: True, False, or None for Unknown.
        reason: a CamelCase word.
        message: one or more sentences.
    """

    type: str
    status: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something was not done or observed.

    Attributes:
        reason: a CamelCase word for a condition.
        message: one or more sentences.
        retry_at: when the operator tries again (aware UTC); None when the back-off of the queue decides.
        in_request_queue: whether a request queue repeats the call, so that no reconcile has to.
    """

    reason: str
    message: str
    retry_at: datetime | None = None
    in_request_queue: bool = False


IN_SEQUENCE = frozenset({GraceReason.REQUIRED.value, GraceReason.DEPENDENTS.value})
"""The reasons of `Ready` while a start or stop waits for other Resources that change as they should."""
ON_THEIR_WAY = frozenset({"Starting", "StatusChecksPending", "Stopping"}) | IN_SEQUENCE
"""The reasons of `Ready` of a Resource while its instances change as they should."""
VALID = ConditionUpdate("Valid", True, "Accepted", "The spec is valid.")


def with_retry_time(reason: str, message: str, retry_at: datetime | None) -> Failure:
    """Return a failure whose message includes the time of the next attempt, if it is known."""
    if retry_at is None:
        return Failure(reason, message)
    return Failure(reason, f"{message.rstrip(' .')}. {_next_attempt(retry_at)}", retry_at)


def _next_attempt(instant: datetime) -> str:
    return f"The next attempt is at {_next_second(instant)}."


_NEXT_ATTEMPT = re.compile(r"The next attempt is at (\S+)\.")
_SUGGESTED_WARM_UP = re.compile(r"set spec\.warm_up: (\S+) on the Resource")


def next_attempt_in(message: str) -> datetime | None:
    """Return the time of the next attempt (aware UTC) in the message of a condition; None if it has none."""
    found = _NEXT_ATTEMPT.search(message)
    return parse_rfc3339(found[1]) if found else None


def suggested_warm_up_in(message: str) -> str:
    """Return the warm-up that the message of a condition suggests; empty if it suggests none."""
    found = _SUGGESTED_WARM_UP.search(message)
    return found[1] if found else ""


def _next_second(instant: datetime) -> str:
    """Format an instant, rounded up to a second, so that nothing happens later than the message says."""
    return format_utc((instant + timedelta(microseconds=999_999)).replace(microsecond=0))


def invalid_conditions(reason: str, message: str) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of an invalid object. `Stalled` makes tools that use kstatus fail at once."""
    return (
        ConditionUpdate("Valid", False, reason, message),
        ConditionUpdate("Ready", False, reason, message),
        ConditionUpdate("Stalled", True, reason, message),
    )


def similar_tags_hint(groups: Collection[Sequence[str]]) -> str:
    """Return a sentence about tags that differ only by case or blanks, or an empty string.

    Args:
        groups: the tags that belong together, each group with two or more.
    """
    if not groups:
        return ""
    pairs = summarize([" and ".join(map(repr, tags)) for tags in groups])
    return f" These tags differ only by case or blanks: {pairs}; correct them if they are the same group."


def creator_conditions(failure: Failure | None, done: str) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of a valid ResourceMonitor or BookingScheduler.

    Args:
        failure: why its objects are not all up to date; None when they are.
        done: the message when they are.
    """
    if failure is None:
        synced, reason, message = True, "Synced", done
    else:
        synced, reason, message = False, failure.reason, failure.message
    return (
        VALID,
        ConditionUpdate("Synced", synced, reason, message),
        ConditionUpdate("Ready", synced, reason, message),
    )


def delayed_conditions(delay: Delay | None) -> tuple[ConditionUpdate, ...]:
    """Return the condition `Delayed`, which exists only while a start or stop is late or expected late."""
    if delay is None:
        return ()
    if delay.required:
        last = f"The required Resource {delay.required} is late because of the request limits of the cloud"
        late = f"{format_duration(delay.late_by)} after {format_utc(delay.due_at)}"
        message = f"{last}. The instances of this one are started at {format_utc(delay.complete_at)}, {late}."
        return (ConditionUpdate("Delayed", True, "RequiredDelayed", message),)
    verb = "started" if delay.is_start else "stopped"
    late = f"{format_duration(delay.late_by)} after {format_utc(delay.due_at)}"
    last = f"the last instance is {verb} at {format_utc(delay.complete_at)}, {late}"
    message = f"Because of the request limits of the cloud, {last}."
    if delay.is_start:
        warm_up = format_duration(delay.suggested_warm_up)
        message += f" To start all instances on time, set spec.warm_up: {warm_up} on the Resource."
    return (ConditionUpdate("Delayed", True, "RequestLimits", message),)


# Resource


@dataclass(frozen=True, slots=True)
class ResourceReport:
    """The result of one reconcile of a Resource.

    Attributes:
        state: the state of its bookings.
        observation: the newest observation of its instances; None before the first one.
        plan: the instances to start and to stop.
        failure: what went wrong; None when nothing did.
        warning: a harmless problem; None when there is none.
        delay: the delay of its current or next start or stop; None when it is on time.
        off_at: when instances that run without a booking are stopped (aware UTC); None for never.
    """

    state: TimelineState
    observation: Observation | None
    plan: Plan
    failure: Failure | None = None
    warning: Failure | None = None
    delay: Delay | None = None
    off_at: datetime | None = None


def resource_conditions(
    tag: str, place: str, policy: PowerPolicy, report: ResourceReport
) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of a valid Resource for the instances with `tag` in `place`."""
    return (
        VALID,
        _found(tag, place, report),
        _synced(report),
        _resource_ready(policy, report),
        *delayed_conditions(report.delay),
    )


def power_status(observation: Observation | None) -> str:
    """Return the STATUS of a Resource: RUNNING if all instances are ready, STOPPED, otherwise PENDING.

    It is empty before the first observation. A group without instances is STOPPED.
    """
    if observation is None:
        return ""
    if observation.all_ready:
        return "RUNNING"
    stopped = observation.count(InstanceState.STOPPED) == len(observation.instances)
    return "STOPPED" if stopped else "PENDING"


def _found(tag: str, place: str, report: ResourceReport) -> ConditionUpdate:
    if report.observation is None:
        return ConditionUpdate("Found", None, "NotObserved", "The instances have not been observed yet.")
    left_out, hints = report.observation.left_out, ""
    if left_out:
        hints = f" The operator leaves some instances alone: {describe_blocked(left_out)}."
    if report.observation.similar:
        similar = summarize([repr(tag) for tag in report.observation.similar])
        hints += f" There are instances with the tag {similar}; did you mean {tag!r}?"
    remarks = [f"{item.id} {text}" for item in report.observation.instances for text in item.remarks]
    if remarks:
        hints += f" {summarize(remarks, separator='; ')}."
    if not report.observation.instances:
        other = "other " if left_out else ""
        message = f"No {other}instance in {place} has the tag resource-booking-application={tag}.{hints}"
        return ConditionUpdate("Found", False, "NoInstances", message)
    message = f"Instances of the group were found in {place}.{hints}"
    return ConditionUpdate("Found", True, "InstancesFound", message)


def _synced(report: ResourceReport) -> ConditionUpdate:
    if report.failure is not None:
        return ConditionUpdate("Synced", False, report.failure.reason, report.failure.message)
    if report.observation is None:
        return ConditionUpdate("Synced", None, "NotObserved", "The instances have not been observed yet.")
    if report.warning is not None:
        return ConditionUpdate("Synced", True, report.warning.reason, report.warning.message)
    return ConditionUpdate("Synced", True, "Synced", "The cloud responds and accepted the last action.")


@dataclass(frozen=True, slots=True)
class _Readiness:
    """The input of the checks of `Ready`."""

    policy: PowerPolicy
    report: ResourceReport
    observation: Observation

    @property
    def running(self) -> str:
        seen = self.observation
        return f"{seen.machines_running} of {seen.machines} instances are running"


_Verdict = tuple[bool, str, str]
"""Status, reason and message of `Ready`."""


def _resource_ready(policy: PowerPolicy, report: ResourceReport) -> ConditionUpdate:
    if report.observation is None or not report.observation.instances:
        return ConditionUpdate("Ready", False, "NoInstances", "The group has no instances to start or stop.")
    readiness = _Readiness(policy, report, report.observation)
    verdicts = (check(readiness) for check in _READY_CHECKS)
    ready, reason, message = next(verdict for verdict in verdicts if verdict is not None)
    return ConditionUpdate("Ready", ready, reason, message)


def _suspended(it: _Readiness) -> _Verdict | None:
    if it.report.plan.has_actions and it.policy.suspend:
        until = it.policy.suspended_until
        why = f"spec.suspend_until is {format_utc(until)}" if until else "spec.suspend is true"
        return False, "Suspended", f"{describe_plan(it.report.plan)}, but {why}."
    return None


def _dry_run(it: _Readiness) -> _Verdict | None:
    if it.report.plan.has_actions and it.policy.dry_run:
        return False, "DryRun", f"{describe_plan(it.report.plan)}, but the operator runs with --dry-run."
    return None


def _stop_withheld(it: _Readiness) -> _Verdict | None:
    plan = it.report.plan
    if plan.withheld:
        message = f"{summarize(plan.withheld)} would be stopped, but {plan.stale_reason}."
        return False, "StopWithheld", message
    return None


def _in_grace(it: _Readiness) -> _Verdict | None:
    graces = it.report.plan.graces
    if not graces:
        return None
    return False, graces[0].reason.value, " ".join(_describe_grace(grace, it.policy) for grace in graces)


def _describe_grace(grace: Grace, policy: PowerPolicy) -> str:
    ids, end = summarize(grace.ids), _next_second(grace.until)
    if grace.reason is GraceReason.DELETION:
        return f"A booking was deleted; unless another one begins, {ids} will be stopped at {end}."
    if grace.reason in {GraceReason.REQUIRED, GraceReason.UNAVAILABLE}:
        return f"The start of {ids} waits for {grace.others}. It is sent at {end} at the latest."
    if grace.reason is GraceReason.DEPENDENTS:
        others = f"{grace.others}, which must stop first"
        return f"The stop of {ids} waits for {others}. It is sent at {end} at the latest."
    if grace.reason is GraceReason.MAINTENANCE:
        why = "AWS has maintenance to apply, and spec.maintenance is Allow"
        return f"{ids} will not be stopped before {end}, because {why}."
    why = f"launched less than spec.launch_grace ({format_duration(policy.launch_grace)}) ago"
    return f"Not booked, but {why}: {ids}. The first stop is at {end}."


def _blocked(it: _Readiness) -> _Verdict | None:
    if it.report.plan.blocked:
        return False, "Blocked", f"{describe_blocked(it.report.plan.blocked)}."
    return None


def _checked(it: _Readiness) -> _Verdict | None:
    """Return which instances run, but are not ready because of their status checks."""
    unready = [(item, item.check) for item in it.observation.instances if item.check and not item.ready]
    if not unready or not it.report.state.running_wanted:
        return None
    failed = [item for item, check in unready if check.fails_at and check.fails_at <= it.report.state.at]
    if failed:
        text, limit = _describe_checks(failed), format_duration(CHECK_TIMEOUT)
        return False, "StatusChecksFailed", f"{it.running}. After {limit} or longer, {text}."
    if not it.observation.all_in(InstanceState.RUNNING):
        return None
    return False, "StatusChecksPending", f"{it.running}. {_describe_checks([item for item, _ in unready])}."


def _describe_checks(instances: Sequence[Instance]) -> str:
    waiting = "is not ready: its status checks are not known yet"
    problems = [f"{item.id} {(item.check and item.check.problem) or waiting}" for item in instances]
    return summarize(problems, separator="; ")


def _booked(it: _Readiness) -> _Verdict | None:
    if it.report.state.running_wanted:
        if it.observation.all_ready:
            return True, "Running", f"{it.running}; all are booked."
        failure = it.report.failure
        retry = f" {_next_attempt(failure.retry_at)}" if failure and failure.retry_at else ""
        reasons = [
            f"{item.id} {item.unready_reason}" for item in it.observation.instances if item.unready_reason
        ]
        why = f" {summarize(reasons, separator='; ')}." if reasons else ""
        return False, "Starting", f"{it.running}; all are booked.{why}{retry}"
    return None


def _stopped(it: _Readiness) -> _Verdict | None:
    if it.observation.all_in(InstanceState.STOPPED):
        return True, "Stopped", f"{it.running}; none is booked."
    return None


def _left(it: _Readiness) -> _Verdict | None:
    if it.policy.unbooked is UnbookedPolicy.LEAVE and not (it.report.plan.started or it.report.plan.stop):
        off = f" The next off time is {_next_second(it.report.off_at)}." if it.report.off_at else ""
        return True, "Left", f"{it.running}; none is booked, and spec.unbooked is Leave.{off}"
    return None


def _stopping(it: _Readiness) -> _Verdict:
    return False, "Stopping", f"{it.running}; none is booked."


_READY_CHECKS: tuple[Callable[[_Readiness], _Verdict | None], ...] = (
    _suspended,
    _dry_run,
    _stop_withheld,
    _in_grace,
    _blocked,
    _checked,
    _booked,
    _stopped,
    _left,
    _stopping,
)
"""The first check that applies decides. The last check always applies."""


def describe_blocked(instances: Sequence[Instance]) -> str:
    """Describe the first few blocked instances, each with its reason."""
    return summarize([f"{instance.id} {instance.blocked_reason}" for instance in instances])


def describe_plan(plan: Plan) -> str:
    """Describe a plan as the beginning of a sentence."""
    verb, ids = ("start", plan.start) if plan.start else ("stop", plan.stop)
    return f"Would {verb} {summarize(ids)}"


# Booking


@dataclass(frozen=True, slots=True)
class BookedResource:
    """The facts about a Resource that the conditions of its Bookings depend on.

    Attributes:
        holder: the booking that holds the Resource now; None when there is none.
        instances: the number of instances in its status.
        running: the number of running instances in its status.
        ready: whether all of its instances are ready.
        failure: why the Resource cannot be as booked; None when there is no failure.
        warm_up: how long before `start_at` its instances start.
        invalid_reason: why the operator does nothing for the Resource; empty when it is valid.
        delay: the delay of its current or next start or stop; None when it is on time.
    """

    holder: BookingInterval | None
    instances: int
    running: int
    failure: Failure | None
    warm_up: timedelta
    invalid_reason: str = ""
    delay: Delay | None = None
    ready: bool = False


def booking_conditions(
    request: RequestedBooking, resource: BookedResource | None, now: datetime
) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of a valid Booking.

    `Ready` exists only while the booking is active. Otherwise a tool that uses kstatus would wait for a
    booking that starts next week, or that ended last week.
    """
    found = _resource_found(request.resource, resource)
    warm_up = resource.warm_up if resource else timedelta(0)
    booking, refused = request.counted, _refused(request)
    conditions = (refused or VALID, found, *_accepted(request))
    if booking is None or (booking.end_at <= now < request.interval.end_at):
        return (*conditions, *_not_accepted(request, refused or conditions[-1], now, warm_up))
    conditions = (*conditions, _holds_lock(booking, resource, now, warm_up))
    if booking.is_active(now, warm_up):
        conditions = (*conditions, _booking_ready(found, resource))
    delay = resource.delay if resource else None
    concerned = delay is not None and delay.is_start and delay.due_at == booking.power_on_at(warm_up)
    return (*conditions, *delayed_conditions(delay if concerned else None))


def _refused(request: RequestedBooking) -> ConditionUpdate | None:
    """Return that a booking breaks a limit of its Resource; None if it does not."""
    rules, interval, name = request.rules, request.interval, request.resource
    if request.too_long and rules.max_duration is not None:
        length, limit = format_duration(_length(interval)), format_duration(rules.max_duration)
        whose = _whose(name, rules.max_duration_of)
        message = f"The booking takes {length}; spec.max_duration of {whose} is {limit}."
        return ConditionUpdate("Valid", False, "TooLong", f"{message}{_kept(request)}")
    if request.allowed_from is not None and rules.max_ahead is not None:
        limit, begin = format_duration(rules.max_ahead), _next_second(request.allowed_from)
        message = (
            f"The booking starts later than spec.max_ahead of {_whose(name, rules.max_ahead_of)} allows, "
            f"which is {limit}; "
            f"it becomes valid at {begin}."
        )
        return ConditionUpdate("Valid", False, "TooFarAhead", f"{message}{_kept(request)}")
    return None


def _whose(booked: str, limited: str) -> str:
    """Return the Resource that limits a booking, which the booked one may require."""
    text = f"the Resource {limited}"
    return text if limited == booked else f"{text}, which {booked} requires,"


def _kept(request: RequestedBooking) -> str:
    """Return a sentence about the interval that stays accepted, or an empty string."""
    kept = request.decision.accepted if request.decision else None
    return f" The booking stays accepted until {format_utc(kept.end)}." if kept else ""


def _accepted(request: RequestedBooking) -> tuple[ConditionUpdate, ...]:
    """Return the condition `Accepted`, which only the bookings of an exclusive Resource have."""
    decision, name = request.decision, request.resource
    if not request.rules.exclusive or decision is None:  # without a decision, the booking has ended
        return ()
    if decision.conflict is not None:
        rival, length = decision.conflict, format_duration(_length(request.interval))
        who = f"{rival.user_id} has" if rival.user_id else "Another booking has"
        times = f"from {format_utc(rival.span.start)} until {format_utc(rival.span.end)} ({rival.name})"
        slot = f"the next free slot of {length} begins at {format_utc(rival.free_at)}"
        required = "" if rival.resource == name else f", which {name} requires,"
        message = f"{who} {rival.resource}{required} {times}; {slot}.{_kept(request)}"
        return (ConditionUpdate("Accepted", False, "Conflict", message),)
    if decision.held_back:
        message = f"The operator does not yet know all bookings of {name}; it decides as soon as it does."
        return (ConditionUpdate("Accepted", False, "Pending", f"{message}{_kept(request)}"),)
    if decision.accepted is None:
        return (ConditionUpdate("Accepted", False, "NotValid", "The booking is not valid."),)
    span = decision.accepted
    message = f"The booking has {name} from {format_utc(span.start)} until {format_utc(span.end)}."
    return (ConditionUpdate("Accepted", True, "Accepted", message),)


def _length(interval: BookingInterval) -> timedelta:
    return interval.end_at - interval.start_at


def _not_accepted(
    request: RequestedBooking, reason: ConditionUpdate, now: datetime, warm_up: timedelta
) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of a booking for which no instances run, because it is not accepted."""
    found = [ConditionUpdate("HoldsLock", False, reason.reason, reason.message)]
    if request.too_long or request.interval.is_active(now, warm_up):
        found.append(ConditionUpdate("Ready", False, reason.reason, reason.message))
    if request.too_long:
        found.append(ConditionUpdate("Stalled", True, reason.reason, reason.message))
    return tuple(found)


def notified_condition(
    booking: BookingInterval, now: datetime, *, sent: bool, failure: Failure | None
) -> ConditionUpdate:
    """Return the condition `Notified`: whether all recipients of a valid Booking were notified of its end."""
    if failure is not None:
        return ConditionUpdate("Notified", False, failure.reason, failure.message)
    if sent:
        message = f"All recipients were notified that the booking ends at {format_utc(booking.end_at)}."
        return ConditionUpdate("Notified", True, "Sent", message)
    if now >= booking.end_at:
        return ConditionUpdate(
            "Notified", False, "Missed", "The booking ended before all recipients were notified."
        )
    return ConditionUpdate(
        "Notified", False, "Pending", "The recipients are notified shortly before the booking ends."
    )


def _resource_found(name: str, resource: BookedResource | None) -> ConditionUpdate:
    if resource is None:
        message = (
            f"The Resource {name!r} does not exist in this namespace; create it, or correct resource_name."
        )
        return ConditionUpdate("ResourceFound", False, "ResourceNotFound", message)
    return ConditionUpdate("ResourceFound", True, "ResourceFound", f"The Resource {name} exists.")


def _holds_lock(
    booking: BookingInterval, resource: BookedResource | None, now: datetime, warm_up: timedelta
) -> ConditionUpdate:
    end = format_utc(booking.end_at)
    if booking.phase_at(now) is Phase.FINISHED:
        return ConditionUpdate("HoldsLock", False, "Finished", f"The booking ended at {end}.")
    if not booking.is_active(now, warm_up):
        message = f"The booking holds the Resource from {format_utc(booking.power_on_at(warm_up))}."
        return ConditionUpdate("HoldsLock", False, "Scheduled", message)
    if resource is None or resource.holder is None:
        return ConditionUpdate("HoldsLock", False, "ResourceNotFound", "The Resource does not exist.")
    if resource.invalid_reason:
        return ConditionUpdate("HoldsLock", False, "ResourceInvalid", resource.invalid_reason)
    if resource.holder.name == booking.name:
        return ConditionUpdate("HoldsLock", True, "Holder", f"The booking holds the Resource until {end}.")
    other = f"{resource.holder.user_id} holds the Resource until {format_utc(resource.holder.end_at)}"
    message = f"{other}; the instances also run for this booking."
    return ConditionUpdate("HoldsLock", False, "HeldByOther", message)


def _booking_ready(found: ConditionUpdate, resource: BookedResource | None) -> ConditionUpdate:
    if resource is None:
        return ConditionUpdate("Ready", False, found.reason, found.message)
    if resource.invalid_reason:
        return ConditionUpdate("Ready", False, "ResourceInvalid", resource.invalid_reason)
    running = f"{resource.running} of {resource.instances} instances are running"
    if resource.ready:
        return ConditionUpdate("Ready", True, "Running", f"{running}.")
    if resource.failure is not None:
        message = f"{running}. {resource.failure.message}"
        return ConditionUpdate("Ready", False, resource.failure.reason, message)
    return ConditionUpdate("Ready", False, "Starting", f"{running}.")


# Events


_REPORTED_TYPES = {"Accepted", "Delayed", "Valid", "Found", "Synced", "ResourceFound", "Notified"}
_UNREPORTED_REASONS = {"NotValid", "Pending"}
_REPORTED_REASONS = {
    "Blocked",
    "DryRun",
    "LockTagsInvalid",
    "RequiredUnavailable",
    "StatusChecksFailed",
    "StopWithheld",
}


@dataclass(frozen=True, slots=True)
class ConditionEvent:
    """A change of a condition that is reported once, by an Event and a log line."""

    warning: bool
    reason: str
    message: str


def condition_events(
    previous: Mapping[str, tuple[str, str]], conditions: Iterable[ConditionUpdate]
) -> list[ConditionEvent]:
    """Return the changes of conditions to report.

    Args:
        previous: the previous reason and message of each condition type.
        conditions: the present conditions.
    """
    events = []
    for condition in conditions:
        reason, message = previous.get(condition.type, ("", ""))
        reported = condition.type in _REPORTED_TYPES and condition.reason not in _UNREPORTED_REASONS
        bad = condition.status is False or condition.type == "Delayed"
        if reported and bad and condition.reason != reason:
            events.append(ConditionEvent(warning=True, reason=condition.reason, message=condition.message))
        elif condition.reason in _REPORTED_REASONS and (condition.reason, condition.message) != (
            reason,
            message,
        ):
            warning = condition.reason != "DryRun"
            events.append(ConditionEvent(warning=warning, reason=condition.reason, message=condition.message))
    return events
