"""The memory of failed calls: back-offs, and the search for the instances that make a batch fail.

Throttled calls are not remembered here: `token_bucket` decides when they are repeated. These classes are
pure: they never wait or read a clock. `request_queue` calls them and acts on the results.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.engine.introspection import Contents
from booking_operator.engine.workqueue import Backoff

_MINUTE = timedelta(minutes=1)
_MAX_PAUSE = 10 * _MINUTE
_RETENTION = timedelta(hours=1)

RETRY = Backoff(initial=timedelta(seconds=0.5), maximum=timedelta(seconds=15))
"""Back-off of a call that failed without a response about its instances."""
UNKNOWN_INSTANCE = Backoff(initial=_MINUTE, maximum=_MAX_PAUSE)
"""The instance id does not exist. The next view does not contain it, unless EC2 does not show a new
instance."""
WRONG_STATE = Backoff(initial=timedelta(seconds=3), maximum=_MINUTE)
"""The state of the instance does not allow the action. The instance is in transition, and the view was
stale."""
NEEDS_CHANGE = Backoff(initial=5 * _MINUTE, maximum=_MAX_PAUSE)
"""An obstacle that only an administrator can remove: stop protection, a one-time Spot request, or an instance
store."""
SPOT = Backoff(initial=timedelta(seconds=3), maximum=_MAX_PAUSE)
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
# The botocore model contains no EC2 error codes. The first code is in AWS's list and in reports such as
# https://github.com/hashicorp/terraform-provider-aws/issues/33399. No source was found for the second code.
# It is included because its name has only one meaning.
_SPOT_CODES = frozenset({"IncorrectSpotRequestState", "IncorrectSpotInstanceRequestState"})


def instance_backoff(error: CloudError) -> Backoff:
    """Return the back-off of an instance that the service refused with `error`."""
    if error.kind is FailureKind.CAPACITY:
        return CAPACITY
    if error.kind is FailureKind.DENIED:
        return DENIED
    if error.reason in _NEEDS_CHANGE_CODES:
        return NEEDS_CHANGE
    if error.reason in _SPOT_CODES:
        return SPOT
    return WRONG_STATE if "State" in error.reason else UNKNOWN_INSTANCE


@dataclass(frozen=True, slots=True)
class _Failure:
    error: CloudError
    until: datetime
    count: int


class BackoffTable:
    """The failures in back-off, by key. The back-off grows with each failure of a key.

    A key is an instance and an action, a capacity pool, an action in a region, or an account. No call is made
    for a key before its back-off ends. All instants are aware UTC and come from the caller.
    """

    def __init__(self) -> None:
        self._failures: dict[Hashable, _Failure] = {}
        self._swept_at = datetime.min.replace(tzinfo=UTC)

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"backoffs": self._failures.keys()}

    def record_failure(self, key: Hashable, error: CloudError, backoff: Backoff, now: datetime) -> CloudError:
        """Start the back-off of a key. Return the error with the time of the next attempt."""
        if abs(now - self._swept_at) >= _MINUTE:
            self._forget_old(now)
        known = self._failures.get(key)
        count = known.count + 1 if known else 1
        until = now + backoff.after(count)
        timed = error.with_retry_at(until)
        self._failures[key] = _Failure(timed, until, count)
        return timed

    def record_success(self, keys: Iterable[Hashable]) -> None:
        """Remove the failures of keys for which a call was accepted."""
        for key in keys:
            self._failures.pop(key, None)

    def active_failure(self, key: Hashable, now: datetime) -> CloudError | None:
        """Return the failure that keeps `key` in back-off at `now`, or None if a call is allowed."""
        failure = self._failures.get(key)
        # A back-off that ends later than `_MAX_PAUSE` from now is from before the clock was set back.
        return failure.error if failure and now < failure.until <= now + _MAX_PAUSE else None

    def failed_before(self, key: Hashable) -> bool:
        """Whether the last call for `key` failed, even if its back-off is over."""
        return key in self._failures

    def _forget_old(self, now: datetime) -> None:
        self._swept_at = now
        self._failures = {
            key: failure for key, failure in self._failures.items() if abs(now - failure.until) < _RETENTION
        }


@dataclass(slots=True, eq=False)
class Bisection:
    """The search for the instances that make a batch fail.

    It sends halves of the batch, then halves of these.

    All parts of the batch share the search and its budget of failed calls. If the budget is used up and no
    part was accepted, the failure does not depend on single instances.

    Attributes:
        size: the number of instances in the batch.
        answered: whether the service refuses the instances, or fails without a response about them.
        named: the number of refused calls in a row whose error named instances.
        failures: the number of other failed calls for the batch and its parts.
        accepted: whether any part was accepted.
    """

    MAX_FAILURES = 31
    """The whole batch, two halves, four quarters, eight eighths, and sixteen sixteenths."""
    MAX_NAMED = 5
    """So many calls in a row may each drop the instances that the error names. After that, the search sends
    halves too."""

    size: int
    answered: bool
    named: int = 0
    failures: int = 0
    accepted: bool = False

    @property
    def exhausted(self) -> bool:
        """Whether all parts failed, down to sixteenths or single instances."""
        return self.failures >= min(self.MAX_FAILURES, 2 * self.size - 1) and not self.accepted
