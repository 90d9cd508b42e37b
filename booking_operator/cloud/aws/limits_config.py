"""The request limits in the operator's configuration, for accounts whose limits AWS has raised."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat

from booking_operator.cloud.batching.token_bucket import (
    BucketLimit,
    LimitsOf,
    RequestLimits,
    published_limits,
)
from booking_operator.domain.group import Scope
from booking_operator.domain.services import SERVICES

ACTIONS = frozenset().union(*(service.calls for service in SERVICES.values()))
"""The API actions whose limits the operator keeps."""


class BucketConfig(BaseModel):
    """One bucket: its size in tokens, and its refill rate in tokens per second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[float, Field(ge=1)]
    rate: PositiveFloat


class LimitsConfig(BaseModel):
    """The buckets of one action. A missing bucket has the limit that AWS publishes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: BucketConfig | None = None
    instances: BucketConfig | None = None


def _actions(value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if name not in ACTIONS:
            near = get_close_matches(str(name), ACTIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(ACTIONS))}"
            raise ValueError(f"{name!r} is not an action with request limits; {hint}")
    return value


LimitsByAction = Annotated[dict[str, LimitsConfig], BeforeValidator(_actions)]
"""Limits by the name of the action, such as StartInstances."""


def limits_of(all_: Mapping[str, LimitsConfig], named: Mapping[str, Mapping[str, LimitsConfig]]) -> LimitsOf:
    """Return a function that looks up the limits of an action.

    Args:
        all_: limits of all accounts that differ from those that AWS publishes.
        named: limits of single accounts, by account; they have precedence over `all_`.
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
