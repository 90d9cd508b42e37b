"""The request limits of EC2 as AWS publishes them. The code is independent of the operator's own model.

The source of every rule is https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html. AWS
counts by account, region and action. One token bucket limits requests. For some actions, a second bucket
limits the instances that requests name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

_ROUNDING = 1e-6


@dataclass(slots=True)
class Bucket:
    """A token bucket. It starts full, and refills with `per_second` tokens a second up to `capacity`."""

    capacity: float
    per_second: float
    _level: float = field(init=False)
    _at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._level = self.capacity

    def level(self, now: float) -> float:
        """The tokens in the bucket at `now`, in monotonic seconds."""
        if now <= self._at:
            return self._level
        return min(self.capacity, self._level + (now - self._at) * self.per_second)

    def take(self, tokens: float, now: float) -> None:
        """Remove tokens. The caller has checked `level`."""
        self._level, self._at = self.level(now) - tokens, max(now, self._at)


@dataclass(frozen=True, slots=True)
class Limit:
    """The limits of one action. Each pair is the capacity of a bucket and its refill rate per second."""

    requests: tuple[float, float]
    instances: tuple[float, float] | None = None


UNFILTERED = "DescribeInstances, neither filtered nor paged"
PUBLISHED = {
    "StartInstances": Limit((5, 2), (1000, 2)),
    "StopInstances": Limit((50, 5), (1000, 20)),
    "CreateTags": Limit((100, 10)),
    "DeleteTags": Limit((100, 10)),
    "DescribeInstances": Limit((100, 20)),
    "DescribeInstanceStatus": Limit((50, 10)),
    UNFILTERED: Limit((50, 10)),
}


class Limits:
    """The buckets of all accounts, regions and actions. Actions without a published limit are unlimited."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str, str], list[Bucket]] = {}

    def admits(self, account: str, region: str, action: str, instances: int, now: float) -> bool:
        """Whether AWS accepts a call for `instances` instances at `now`, in monotonic seconds.

        An accepted call takes one token of the first bucket, and `instances` tokens of the second. A refused
        call takes none.
        """
        buckets = self._of(account, region, action)
        costs = (1, instances)
        if any(bucket.level(now) + _ROUNDING < cost for bucket, cost in zip(buckets, costs, strict=False)):
            return False
        for bucket, cost in zip(buckets, costs, strict=False):
            bucket.take(cost, now)
        return True

    def drain(self, account: str, region: str, action: str, now: float) -> None:
        """Take all tokens for requests, as other clients of the account may do."""
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
    """The action under which AWS counts a call, given the names of the call's parameters."""
    narrowed = any(name == "MaxResults" or name.startswith("Filter.") for name in parameters)
    return UNFILTERED if action == "DescribeInstances" and not narrowed else action
