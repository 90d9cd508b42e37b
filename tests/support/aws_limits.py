"""EC2's request limits as AWS publishes them: the referee, written apart from the operator's own model.

Every rule is from https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html. AWS counts for
each account, region and action; a token bucket limits requests, and for some actions a second one the
instances that they name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

_ROUNDING = 1e-6


@dataclass(slots=True)
class Bucket:
    """A token bucket that is full at first; `per_second` tokens come back, up to `capacity`."""

    capacity: float
    per_second: float
    _level: float = field(init=False)
    _at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._level = self.capacity

    def level(self, now: float) -> float:
        """Tokens that it holds at `now`, in monotonic seconds."""
        if now <= self._at:
            return self._level
        return min(self.capacity, self._level + (now - self._at) * self.per_second)

    def take(self, tokens: float, now: float) -> None:
        """Take tokens that are there, as `level` has shown."""
        self._level, self._at = self.level(now) - tokens, max(now, self._at)


@dataclass(frozen=True, slots=True)
class Limit:
    """Limits of one action: capacity, and tokens that come back in a second."""

    requests: tuple[float, float]
    instances: tuple[float, float] | None = None


UNFILTERED = "DescribeInstances, neither filtered nor paged"
PUBLISHED = {
    "StartInstances": Limit((5, 2), (1000, 2)),
    "StopInstances": Limit((50, 5), (1000, 20)),
    "CreateTags": Limit((100, 10)),
    "DeleteTags": Limit((100, 10)),
    "DescribeInstances": Limit((100, 20)),
    UNFILTERED: Limit((50, 10)),
}


class Limits:
    """The buckets of all accounts, regions and actions. Actions that it does not know are not limited."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str, str], list[Bucket]] = {}

    def admits(self, account: str, region: str, action: str, instances: int, now: float) -> bool:
        """Whether AWS takes a call for so many instances at `now`, in monotonic seconds.

        A call that is taken costs a token of the one bucket and `instances` of the other. One that is refused
        costs nothing.
        """
        buckets = self._of(account, region, action)
        costs = (1, instances)
        if any(bucket.level(now) + _ROUNDING < cost for bucket, cost in zip(buckets, costs, strict=False)):
            return False
        for bucket, cost in zip(buckets, costs, strict=False):
            bucket.take(cost, now)
        return True

    def drain(self, account: str, region: str, action: str, now: float) -> None:
        """Take all requests that there are, as others in the account may."""
        for requests in self._of(account, region, action)[:1]:
            requests.take(requests.level(now), now)

    def _of(self, account: str, region: str, action: str) -> list[Bucket]:
        key = (account, region, action)
        if key not in self._buckets:
            limit = PUBLISHED.get(action)
            rates = [] if limit is None else [limit.requests, limit.instances]
            self._buckets[key] = [Bucket(*rate) for rate in rates if rate is not None]
        return self._buckets[key]


def counted_as(action: str, parameters: Iterable[str]) -> str:
    """The action that AWS counts a call as, given the names of its parameters."""
    narrowed = any(name == "MaxResults" or name.startswith("Filter.") for name in parameters)
    return UNFILTERED if action == "DescribeInstances" and not narrowed else action
