"""When a scope is described: how often by itself, and how soon again after a failure.

Nothing here waits or reads a clock; `inventory` does.
"""

from asyncio import Event
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.cloud.inventory.view import InstanceView
from booking_operator.domain.group import Scope
from booking_operator.engine.workqueue import Backoff

IDLE_INTERVAL = timedelta(seconds=60)
"""Between two polls of a scope where nothing moves: 60 calls an hour, however many groups."""
TRANSITION_INTERVAL = timedelta(seconds=1.5)
"""Between two polls while instances are on their way."""
STUCK_INTERVAL = timedelta(seconds=15)
"""Between two polls once nothing has changed for `PATIENCE`, though instances are on their way."""
MAX_TRANSITION_TIME = timedelta(minutes=10)
"""A start takes a minute, hibernation several. One that hangs for hours must not cost 2,400 calls an hour."""
KEPT = timedelta(hours=1)
"""How long a scope is kept that no Resource and no monitor names any more, counted from the last call. A
failed start is remembered as long, so a Resource that is deleted and created again shortens no pause."""
TRANSIENT_KINDS = frozenset({FailureKind.THROTTLED, FailureKind.TRANSIENT, FailureKind.LOST})
"""Failures that usually pass by themselves: reported from the second in a row on."""
_FEW = 2
"""After so many such failures in a row, callers get the last one for some time, without a call."""
BACKOFF = Backoff(initial=timedelta(seconds=2), maximum=IDLE_INTERVAL)
"""Between two polls after a failure."""

_CLOSED = CloudError("Closed", "The operator is shutting down.")


@dataclass(slots=True, eq=False)
class DescribeCall:
    """One Describe that any number of askers wait for.

    Attributes:
        sent_at: when it was sent; None while it waits for its turn.
        done: set when there is an outcome.
        error: the outcome, None for success; a call that never got one was cut off by the shutdown.
    """

    sent_at: datetime | None = None
    done: Event = field(default_factory=Event)
    error: CloudError | None = _CLOSED

    async def outcome(self) -> None:
        """Wait for it.

        Raises:
            CloudError: the call failed.
        """
        await self.done.wait()
        if self.error is not None:
            # One exception raised in many tasks would gather all of their tracebacks.
            error = self.error
            raise error.with_retry_at(error.retry_at) from error


@dataclass(slots=True, eq=False)
class ScopeWatch:
    """One scope: its view, its calls, and how its last call went.

    Attributes:
        scope: the region and account.
        view: what was seen there.
        under_way: the call that was sent, and has no outcome yet.
        next_call: the call after it.
        sent_at: when the last one was sent.
        moved_at: when instances last changed.
        failures: how many calls in a row have failed.
        failure: why the view is older than it should be, for all to know; None where it is not.
        last_error: what the last call failed with; None where it did not.
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
        """Whether a call is under way or wanted."""
        return self.under_way is not None or self.next_call is not None

    def unused(self, now: datetime) -> bool:
        """Whether it can be forgotten without a loss: no call is under way, and none was made for `KEPT`."""
        # An instant in the future dates from before the clock was set back.
        return not self.busy and (self.sent_at is None or abs(now - self.sent_at) >= KEPT)

    def backoff_error(self, now: datetime) -> CloudError | None:
        """The last error, where its class does not allow to ask again yet; None where it does."""
        error = self.last_error
        if error is None or self.busy or self.sent_at is None or error.kind is FailureKind.UNSENT:
            return None
        many = self.failures - (_FEW if error.kind in TRANSIENT_KINDS else 0)
        again_at = self.sent_at + BACKOFF.after(many) if many > 0 else now
        return error.with_retry_at(again_at) if self.sent_at <= now < again_at else None

    def due_at(self, interest: "Interest", now: datetime) -> datetime:
        """When to call again by itself, counted from the last call, whichever caller asked for it."""
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
    """What one scope is polled for: groups by their tags, and a list of all at least every `period`."""

    period: timedelta
    tags: set[str] = field(default_factory=set)
