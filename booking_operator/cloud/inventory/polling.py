"""Decides when a scope is described: the polling interval, and the back-off after a failure.

It neither waits nor reads a clock; `inventory` does both.
"""

from asyncio import Event
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.cloud.inventory.view import InstanceView
from booking_operator.domain.group import Scope
from booking_operator.engine.workqueue import Backoff

IDLE_INTERVAL = timedelta(seconds=60)
"""Polling interval of a scope without transitions: 60 calls an hour for any number of groups."""
TRANSITION_INTERVAL = timedelta(seconds=1.5)
"""Polling interval while instances are in transition."""
STUCK_INTERVAL = timedelta(seconds=15)
"""Polling interval while instances are in transition, but nothing has changed for `MAX_TRANSITION_TIME`."""
MAX_TRANSITION_TIME = timedelta(minutes=10)
"""A start takes a minute, and hibernation takes several. An instance that hangs for hours must not cost 2,400
calls an hour."""
RETENTION = timedelta(hours=1)
"""How long a scope is kept after its last call when no Resource and no monitor names it. It equals the time
for which a failed start is remembered. So a Resource that is deleted and recreated does not shorten a
back-off."""
TRANSIENT_KINDS = frozenset({FailureKind.THROTTLED, FailureKind.TRANSIENT, FailureKind.LOST})
"""Failures that usually pass without action. They are reported from the second one in a row."""
_MAX_TRANSIENT_FAILURES = 2
"""After more transient failures in a row than this, callers get the last error during the back-off, without a
call."""
BACKOFF = Backoff(initial=timedelta(seconds=2), maximum=IDLE_INTERVAL)
"""Back-off between polls after failures."""

_CLOSED = CloudError("Closed", "The operator is shutting down.")


@dataclass(slots=True, eq=False)
class DescribeCall:
    """One Describe call that any number of callers share.

    Attributes:
        sent_at: when it was sent (aware UTC); None before that.
        done: set when the call has an outcome.
        error: the error; None for success. The initial value applies if the shutdown cancels the call.
    """

    sent_at: datetime | None = None
    done: Event = field(default_factory=Event)
    error: CloudError | None = _CLOSED

    async def outcome(self) -> None:
        """Wait for the outcome.

        Raises:
            CloudError: the call failed.
        """
        await self.done.wait()
        if self.error is not None:
            # Raise a copy: one exception raised in many tasks would accumulate all their tracebacks.
            error = self.error
            raise error.with_retry_at(error.retry_at) from error


@dataclass(slots=True, eq=False)
class ScopeWatch:
    """The state of one scope: its view, its calls, and the result of its last call.

    Attributes:
        scope: the region and the account.
        view: the last observation.
        under_way: the call in flight; None if there is none.
        next_call: the call after it.
        sent_at: when the last call was sent (aware UTC).
        moved_at: when instances last changed (aware UTC).
        failures: the number of failed calls in a row.
        failure: why the view is outdated, as reported to users; None if it is current.
        last_error: the error of the last call; None if it succeeded.
    """

    scope: Scope
    view: InstanceView = field(default_factory=InstanceView)
    under_way: DescribeCall | None = None
    next_call: DescribeCall | None = None
    sent_at: datetime | None = None
    moved_at: datetime | None = None
    failures: int = 0
    failure: CloudError | None = None
    last_error: CloudError | None = None

    @property
    def busy(self) -> bool:
        """Whether a call is in flight or requested."""
        return self.under_way is not None or self.next_call is not None

    def unused(self, now: datetime) -> bool:
        """Whether the scope can be dropped: no call is in flight, requested, or younger than `RETENTION`."""
        # An instant in the future is from before the clock was set back.
        return not self.busy and (self.sent_at is None or abs(now - self.sent_at) >= RETENTION)

    def backoff_error(self, now: datetime) -> CloudError | None:
        """Return the last error while the scope is in back-off; None if a call is allowed."""
        error = self.last_error
        if error is None or self.busy or self.sent_at is None or error.kind is FailureKind.UNSENT:
            return None
        many = self.failures - (_MAX_TRANSIENT_FAILURES if error.kind in TRANSIENT_KINDS else 0)
        again_at = self.sent_at + BACKOFF.after(many) if many > 0 else now
        return error.with_retry_at(again_at) if self.sent_at <= now < again_at else None

    def due_at(self, interest: "Interest", now: datetime) -> datetime:
        """Return when the next poll is due, counted from the last call by any caller."""
        if self.sent_at is None or self.sent_at > now:
            return now
        if self.failures:
            return self.sent_at + BACKOFF.after(self.failures)
        if not self.view.has_transitions(interest.tags):
            return self.sent_at + interest.period
        stuck = self.moved_at is not None and now - self.moved_at > MAX_TRANSITION_TIME
        return self.sent_at + (STUCK_INTERVAL if stuck else TRANSITION_INTERVAL)


@dataclass(slots=True)
class Interest:
    """What a scope is polled for: groups by tag, and all groups at least every `period`."""

    period: timedelta
    tags: set[str] = field(default_factory=set)
