"""The back-offs after failed calls, for an instance, a capacity pool, an action, or an account.

A throttled call starts no back-off: `token_bucket` decides when it is repeated.

The module neither waits nor reads a clock. `request_queue` records the failures, and obeys the back-offs.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from booking_operator.cloud.driver import Action, CloudError, FailureKind
from booking_operator.engine.clock import in_flight_together
from booking_operator.engine.introspection import Contents
from booking_operator.engine.workqueue import Backoff

_MINUTE = timedelta(minutes=1)
_MAX_PAUSE = timedelta(hours=1)
_RETENTION = timedelta(hours=1)

RETRY = Backoff(initial=timedelta(seconds=0.5), maximum=timedelta(seconds=15))
"""Back-off of a call that failed without a response about its instances."""
UNKNOWN_INSTANCE = Backoff(initial=_MINUTE, maximum=10 * _MINUTE)
"""The instance id does not exist. The next view does not contain it, unless EC2 shows a new instance late."""
OTHER_REFUSAL = UNKNOWN_INSTANCE
"""Any other refusal of an instance."""
WRONG_STATE = Backoff(initial=timedelta(seconds=3), maximum=_MAX_PAUSE)
"""The state of the instance does not allow the action. Usually the instance is in transition, and the view
was stale. But RDS also refuses a database that it shows as `available` and never stops, for example a part of
a blue/green deployment. The back-off ends when the view shows another state of the instance."""
WRONG_STATE_FOR_START = Backoff(initial=timedelta(seconds=3), maximum=5 * _MINUTE)
"""The same for a start. A user waits for the instance, so it is tried again sooner."""
NEEDS_CHANGE = Backoff(initial=5 * _MINUTE, maximum=10 * _MINUTE)
"""An obstacle that only an administrator can remove: stop protection, a one-time Spot request, or an instance
store."""
SPOT = Backoff(initial=timedelta(seconds=3), maximum=10 * _MINUTE)
"""The state of a Spot request does not allow the start. After a stop this lasts for some seconds, because EC2
disables the request later than the instance stops. After an interruption it lasts until EC2 starts the
instance: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/stop-spot-instances.html."""
CAPACITY = Backoff(initial=_MINUTE, maximum=5 * _MINUTE)
"""A zone has no capacity for an instance type. AWS asks to wait "a few minutes":
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html."""
DENIED = Backoff(initial=timedelta(seconds=30), maximum=_MINUTE)
"""A permission is missing. A changed policy takes effect within seconds, and a user waits for it."""
ACCOUNT = Backoff(initial=timedelta(seconds=5), maximum=_MINUTE)
"""AWS does not accept the credentials or the clock."""

# EC2 also answers UnsupportedOperation to the stop of an instance of a one-time Spot request:
# https://github.com/cattle-ops/terraform-aws-gitlab-runner/discussions/1049
_NEEDS_CHANGE_CODES = frozenset({"OperationNotPermitted", "UnsupportedOperation"})
_SPOT_CODES = frozenset({"IncorrectSpotRequestState"})


def instance_backoff(error: CloudError, action: Action) -> Backoff:
    """Return the back-off of an instance for which the service refused `action` with `error`."""
    if error.kind is FailureKind.CAPACITY:
        return CAPACITY
    if error.kind is FailureKind.DENIED:
        return DENIED
    if error.reason in _NEEDS_CHANGE_CODES:
        return NEEDS_CHANGE
    if error.reason in _SPOT_CODES:
        return SPOT
    if "State" not in error.reason:
        return OTHER_REFUSAL
    return WRONG_STATE_FOR_START if action is Action.START else WRONG_STATE


@dataclass(frozen=True, slots=True)
class _Failure:
    """The last failure of a key.

    Attributes:
        error: the failure, with the time of the next attempt.
        at: when the call was answered (aware UTC).
        until: the end of the back-off (aware UTC).
        count: the number of failures in a row.
    """

    error: CloudError
    at: datetime
    until: datetime
    count: int


class BackoffTable:
    """The last failure of each key, and its back-off. The back-off grows with each failure of a key in a row.

    A key is an instance and an action, a capacity pool, an action in a region, or an account. A failure is
    kept until a call for its key is accepted, and for at least an hour after its back-off. All instants are
    aware UTC and come from the caller.
    """

    def __init__(self) -> None:
        self._failures: dict[Hashable, _Failure] = {}
        self._swept_at = datetime.min.replace(tzinfo=UTC)

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"backoffs": self._failures.keys()}

    def record_failure(
        self,
        key: Hashable,
        error: CloudError,
        backoff: Backoff,
        now: datetime,
        *,
        sent_at: datetime,
        changed_at: datetime | None = None,
    ) -> CloudError:
        """Start the back-off of a key.

        Calls in flight together often fail together. Only the first of their failures counts.

        Args:
            key: what the failure concerns.
            error: the failure.
            backoff: determines the length of the back-off.
            now: when the call was answered.
            sent_at: when the call was sent.
            changed_at: when the key last changed. Earlier failures do not count.

        Returns:
            The error with the time of the next attempt.
        """
        if abs(now - self._swept_at) >= _MINUTE:
            self._forget_old(now)
        known = self._failures.get(key)
        if known and changed_at is not None and known.at < changed_at:
            known = None
        if known and in_flight_together(sent_at, known.at, now):
            return known.error
        count = known.count + 1 if known else 1
        until = now + backoff.after(count)
        timed = error.with_retry_at(until)
        self._failures[key] = _Failure(timed, now, until, count)
        return timed

    def record_success(self, keys: Iterable[Hashable]) -> None:
        """Remove the failures of keys for which a call was accepted."""
        for key in keys:
            self._failures.pop(key, None)

    def active_failure(
        self, key: Hashable, now: datetime, *, changed_at: datetime | None = None
    ) -> CloudError | None:
        """Return the failure that keeps `key` in back-off at `now`, or None if a call is allowed.

        A failure from before `changed_at`, when the key last changed, allows a call.
        """
        failure = self._failures.get(key)
        if failure and changed_at is not None and failure.at < changed_at:
            return None
        # A back-off that ends later than `_MAX_PAUSE` from now is from before the clock was set back.
        return failure.error if failure and now < failure.until <= now + _MAX_PAUSE else None

    def failed_before(self, key: Hashable) -> bool:
        """Whether a failure of `key` is known, even if its back-off is over."""
        return key in self._failures

    def _forget_old(self, now: datetime) -> None:
        self._swept_at = now
        self._failures = {
            key: failure for key, failure in self._failures.items() if abs(now - failure.until) < _RETENTION
        }
