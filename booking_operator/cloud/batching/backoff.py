"""What the cloud has refused lately, and when it may be asked again: nobody asks sooner, whatever wakes him.

Pure: whoever calls brings the time. What is held is told by a key: an instance and an action, a pool of
capacity, an action as such, an account.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.engine.introspection import Contents
from booking_operator.engine.workqueue import Backoff

_MINUTE = timedelta(minutes=1)
_REMEMBERED = timedelta(hours=1)
_LONGEST = 10 * _MINUTE

UNKNOWN_INSTANCE = Backoff(initial=_MINUTE, maximum=_LONGEST)
"""An id that does not exist: the next view will not show it, unless it is new and EC2 is behind."""
WRONG_STATE = Backoff(initial=timedelta(seconds=3), maximum=_MINUTE)
"""A state from which it cannot be done: it is on its way, and a view was behind."""
NEEDS_CHANGE = Backoff(initial=5 * _MINUTE, maximum=_LONGEST)
"""What only a change by somebody ends: stop protection, a one-time Spot request, a root device that would be
lost."""
SPOT = Backoff(initial=timedelta(seconds=3), maximum=_LONGEST)
"""A start that the state of a Spot request does not allow. After a stop that lasts for some seconds, because
the request is disabled later than its instance stops. After an interruption it lasts until EC2 itself starts
the instance: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/stop-spot-instances.html."""
CAPACITY = Backoff(initial=_MINUTE, maximum=5 * _MINUTE)
"""A type that a zone has no room for. AWS asks to wait "a few minutes":
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html."""
DENIED = Backoff(initial=timedelta(seconds=30), maximum=_MINUTE)
"""A missing permission. A changed policy takes effect within seconds, and somebody waits for it."""
ACCOUNT = Backoff(initial=timedelta(seconds=5), maximum=_MINUTE)
"""Credentials or a clock."""

# UnsupportedOperation is also what EC2 answers to the stop of an instance of a one-time Spot request:
# https://github.com/cattle-ops/terraform-aws-gitlab-runner/discussions/1049
_BARRING = frozenset({"OperationNotPermitted", "UnsupportedOperation"})
# botocore's model has no error codes of EC2. The first is in AWS's list of them, and in reports such as
# https://github.com/hashicorp/terraform-provider-aws/issues/33399. No report of the second was found. It is
# accepted because its name leaves no other meaning.
_SPOT = frozenset({"IncorrectSpotRequestState", "IncorrectSpotInstanceRequestState"})


def instance_backoff(error: CloudError) -> Backoff:
    """How long an instance that was refused by `error` is not asked for again."""
    if error.kind is FailureKind.CAPACITY:
        return CAPACITY
    if error.kind is FailureKind.DENIED:
        return DENIED
    if error.reason in _BARRING:
        return NEEDS_CHANGE
    if error.reason in _SPOT:
        return SPOT
    return WRONG_STATE if "State" in error.reason else UNKNOWN_INSTANCE


@dataclass(frozen=True, slots=True)
class _Hold:
    error: CloudError
    until: datetime
    times: int


class BackoffTable:
    """What was refused, each with its error and the end of its pause, which grows from time to time."""

    def __init__(self) -> None:
        self._holds: dict[Hashable, _Hold] = {}
        self._swept_at = datetime.min.replace(tzinfo=UTC)

    def introspect(self) -> Contents:
        """What is held, or was refused the last time."""
        return {"holds": self._holds.keys()}

    def record_failure(self, key: Hashable, error: CloudError, pause: Backoff, now: datetime) -> CloudError:
        """Hold what was refused at `now`. Returns the error with the instant at which it is tried again."""
        if abs(now - self._swept_at) >= _MINUTE:
            self._forget(now)
        known = self._holds.get(key)
        times = known.times + 1 if known else 1
        told = error.with_retry_at(now + pause.after(times))
        self._holds[key] = _Hold(told, told.retry_at or now, times)
        return told

    def active_failure(self, key: Hashable, now: datetime) -> CloudError | None:
        """Why it must not be asked for at `now`; None where it may."""
        hold = self._holds.get(key)
        # One that ends later than any pause lasts dates from before the clock was set back.
        return hold.error if hold and now < hold.until <= now + _LONGEST else None

    def failed_before(self, key: Hashable) -> bool:
        """Whether it was refused the last time, though its pause may be over."""
        return key in self._holds

    def record_success(self, keys: Iterable[Hashable]) -> None:
        """Forget what was accepted again."""
        for key in keys:
            self._holds.pop(key, None)

    def _forget(self, now: datetime) -> None:
        holds: Mapping[Hashable, _Hold] = self._holds
        self._swept_at = now
        # One that ends later than any can dates from before the clock was set back.
        self._holds = {key: hold for key, hold in holds.items() if abs(now - hold.until) < _REMEMBERED}
