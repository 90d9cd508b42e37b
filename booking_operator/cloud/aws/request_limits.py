"""The request limits of accounts for which AWS has raised them, as the operator's configuration has them."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat

from booking_operator.cloud.batching.request_queue import MAX_CALLS_IN_FLIGHT
from booking_operator.cloud.batching.token_bucket import (
    PUBLISHED_LIMITS,
    BucketLimit,
    LimitsOf,
    RequestLimits,
    published_limits,
)
from booking_operator.domain.group import Scope

ACTIONS = frozenset(PUBLISHED_LIMITS) | {
    "AddTagsToResource",
    "DescribeDBClusters",
    "DescribeDBInstances",
    "RemoveTagsFromResource",
    "StartDBInstance",
    "StopDBInstance",
}
"""The actions whose limits are kept to. Those of DB clusters are counted with those of DB instances."""
CONNECTIONS = 4 * MAX_CALLS_IN_FLIGHT + 2
"""Of one client: enough for its four request queues, so that none waits for another's, and for the one
Describe that is under way; one to spare while a call that was cancelled has not let go of its own."""


class BucketConfig(BaseModel):
    """One bucket: how many tokens it holds, and how many come back each second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[float, Field(ge=1)]
    rate: PositiveFloat


class LimitsConfig(BaseModel):
    """The buckets of one action; one that is left out is as AWS publishes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: BucketConfig | None = None
    instances: BucketConfig | None = None


def _actions(value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if name not in ACTIONS:
            near = get_close_matches(str(name), ACTIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(sorted(ACTIONS))}"
            raise ValueError(f"{name!r} is no action whose limits are kept to; {hint}")
    return value


LimitsByAction = Annotated[dict[str, LimitsConfig], BeforeValidator(_actions)]
"""Limits by the name of the action, like StartInstances."""


def limits_of(all_: Mapping[str, LimitsConfig], named: Mapping[str, Mapping[str, LimitsConfig]]) -> LimitsOf:
    """The limits to go by.

    Args:
        all_: those of every account, where they differ from what AWS publishes.
        named: those of single accounts, by account; they go before those of every account.
    """

    def look_up(scope: Scope, action: str) -> RequestLimits:
        limits = published_limits(scope, action)
        for given in (all_.get(action), named.get(scope.account, {}).get(action)):
            if given is not None:
                limits = RequestLimits(
                    _bucket(given.requests) or limits.requests, _bucket(given.instances) or limits.instances
                )
        return limits

    return look_up


def _bucket(given: BucketConfig | None) -> BucketLimit | None:
    return BucketLimit(given.size, given.rate) if given else None
