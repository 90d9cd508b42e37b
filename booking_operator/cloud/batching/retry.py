"""What to remember of failed calls: pauses, and the search for the instances that make a batch fail.

Nothing here waits or reads a clock. `request_queue` asks these classes and acts on their answers.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.engine.introspection import Contents
from booking_operator.engine.workqueue import Backoff

_MINUTE = timedelta(minutes=1)
_MAX_PAUSE = 10 * _MINUTE
_REMEMBERED = timedelta(hours=1)

RETRY = Backoff(initial=timedelta(seconds=0.5), maximum=timedelta(seconds=15))
"""Between two attempts of a call that failed without an answer about its instances."""
UNKNOWN_INSTANCE = Backoff(initial=_MINUTE, maximum=_MAX_PAUSE)
"""An id that does not exist. The next view does not show it, unless it is new and EC2 is behind."""
WRONG_STATE = Backoff(initial=timedelta(seconds=3), maximum=_MINUTE)
"""A state that does not allow the action. The instance is in transition, and the view was out of date."""
NEEDS_CHANGE = Backoff(initial=5 * _MINUTE, maximum=_MAX_PAUSE)
"""An obstacle that only an administrator can remove: stop protection, a one-time Spot request, an instance
store."""
SPOT = Backoff(initial=timedelta(seconds=3), maximum=_MAX_PAUSE)
"""A start that the state of a Spot request does not allow. After a stop this lasts for some seconds, because
EC2 disables the request later than the instance stops. After an interruption it lasts until EC2 itself starts
the instance: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/stop-spot-instances.html."""
CAPACITY = Backoff(initial=_MINUTE, maximum=5 * _MINUTE)
"""A zone without capacity for an instance type. AWS asks to wait "a few minutes":
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html."""
DENIED = Backoff(initial=timedelta(seconds=30), maximum=_MINUTE)
"""A missing permission. A changed policy takes effect within seconds, and somebody waits for it."""
ACCOUNT = Backoff(initial=timedelta(seconds=5), maximum=_MINUTE)
"""Credentials or a clock that AWS does not accept."""

# EC2 also answers UnsupportedOperation to the stop of an instance of a one-time Spot request:
# https://github.com/cattle-ops/terraform-aws-gitlab-runner/discussions/1049
_NEEDS_CHANGE_CODES = frozenset({"OperationNotPermitted", "UnsupportedOperation"})
# botocore's model has no error codes of EC2. The first code is in AWS's list of them, and in reports such as
# https://github.com/hashicorp/terraform-provider-aws/issues/33399. No report of the second one was found. It
# is accepted because its name has no other meaning.
_SPOT_CODES = frozenset({"IncorrectSpotRequestState", "IncorrectSpotInstanceRequestState"})


def instance_backoff(error: CloudError) -> Backoff:
    """The back-off of an instance that the service refused with `error`."""
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
    """The failures that are in back-off, by key. The pause grows with each failure of a key.

    Keys are an instance and an action, a capacity pool, an action in a region, or an account. No caller asks
    AWS again for a key before its pause is over. All instants are aware UTC and come from the caller.
    """

    def __init__(self) -> None:
        self._failures: dict[Hashable, _Failure] = {}
        self._swept_at = datetime.min.replace(tzinfo=UTC)

    def introspect(self) -> Contents:
        """The keys of its entries, by collection."""
        return {"backoffs": self._failures.keys()}

    def record_failure(self, key: Hashable, error: CloudError, backoff: Backoff, now: datetime) -> CloudError:
        """Start the pause of a key. Returns the error with the instant of the next attempt."""
        if abs(now - self._swept_at) >= _MINUTE:
            self._forget_old(now)
        known = self._failures.get(key)
        count = known.count + 1 if known else 1
        until = now + backoff.after(count)
        timed = error.with_retry_at(until)
        self._failures[key] = _Failure(timed, until, count)
        return timed

    def record_success(self, keys: Iterable[Hashable]) -> None:
        """Forget the failures of keys for which a call was accepted."""
        for key in keys:
            self._failures.pop(key, None)

    def active_failure(self, key: Hashable, now: datetime) -> CloudError | None:
        """The failure that keeps `key` in back-off at `now`; None where a call may be made."""
        failure = self._failures.get(key)
        # A pause that ends later than any pause can dates from before the clock was set back.
        return failure.error if failure and now < failure.until <= now + _MAX_PAUSE else None

    def failed_before(self, key: Hashable) -> bool:
        """Whether the last call for `key` failed, even if its pause is over."""
        return key in self._failures

    def _forget_old(self, now: datetime) -> None:
        self._swept_at = now
        self._failures = {
            key: failure for key, failure in self._failures.items() if abs(now - failure.until) < _REMEMBERED
        }


@dataclass(slots=True, eq=False)
class Bisection:
    """The search for the instances that make a batch fail, by calls for halves of it, and halves of these.

    All parts of the batch share the search and its budget of failed calls. A search whose budget is used up
    without an accepted part has shown that the failure does not depend on single instances.

    Attributes:
        size: the number of instances in the batch.
        answered: whether the service refuses the instances, or fails without an answer about them.
        named: how many calls in a row were refused because of instances that the error named.
        failures: how many calls for the batch and its parts failed so far, without those.
        accepted: whether any part was accepted.
    """

    MAX_FAILURES = 31
    """The whole, two halves, four quarters, and so on to sixteen sixteenths."""
    MAX_NAMED = 5
    """So many calls in a row may each name an instance to drop. After that halves are tried as well."""

    size: int
    answered: bool
    named: int = 0
    failures: int = 0
    accepted: bool = False

    @property
    def exhausted(self) -> bool:
        """Whether all parts failed, down to sixteenths or single instances."""
        return self.failures >= min(self.MAX_FAILURES, 2 * self.size - 1) and not self.accepted
