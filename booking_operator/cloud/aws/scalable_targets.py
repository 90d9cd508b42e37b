"""The scalable targets of Application Auto Scaling: what else changes the size of an ECS service.

While a service is off, its scaling is suspended. A tag on the service keeps what a user had suspended before,
so that the next start restores exactly that. The tag exists only while the service is off, or in between.
See https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-suspend-resume-scaling.html.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.domain.capacity import Capacity
from booking_operator.domain.group import Scope

if TYPE_CHECKING:
    from types_aiobotocore_application_autoscaling.type_defs import (
        ScalableTargetTypeDef,
        SuspendedStateTypeDef,
    )

SUSPENDED_TAG = "resource-booking-suspended"
"""The AWS tag with the scaling activities that were suspended before the operator suspended all of them."""
ACTIVITIES = ("DynamicScalingIn", "DynamicScalingOut", "ScheduledScaling")
"""The scaling activities that Application Auto Scaling can suspend."""
ALL = frozenset(ACTIVITIES)
PAGE = 50
"""Scalable targets per call: the maximum of Application Auto Scaling."""

_NONE = "none"
_SEPARATOR = " "
"""Tag values of ECS have no commas."""


@dataclass(frozen=True, slots=True)
class ScalableTarget:
    """The scalable target of one ECS service.

    Attributes:
        minimum: the lowest number of tasks that scaling may set.
        maximum: the highest one.
        suspended: the suspended scaling activities.
    """

    minimum: int
    maximum: int
    suspended: frozenset[str] = frozenset()

    def capacity(self, desired: int) -> Capacity:
        """Return the capacity of the service. A user may have set a size that scaling would not set."""
        return Capacity(min(self.minimum, desired), max(self.maximum, desired), desired)

    @property
    def scales_out(self) -> bool:
        """Whether scaling may start tasks."""
        return self.maximum > 0 and "DynamicScalingOut" not in self.suspended

    def within(self, remembered: Capacity) -> int:
        """Return the number of tasks to restore: the nearest one that scaling may set.

        A scheduled action may have set the maximum to 0 before the scaling was suspended. Then the limits are
        restored too.
        """
        if self.maximum == 0:
            return remembered.desired
        return min(max(remembered.desired, self.minimum), self.maximum)


def parse_suspended(text: str) -> frozenset[str]:
    """Parse the value of the tag. Words that are no scaling activities are ignored."""
    return ALL & set(text.split())


def format_suspended(activities: Iterable[str]) -> str:
    """Return the value of the tag."""
    return _SEPARATOR.join(sorted(activities)) or _NONE


class _Limits(TypedDict, total=False):
    MinCapacity: int
    MaxCapacity: int


class ScalableTargets:
    """Reads the scalable targets of ECS services, and suspends and resumes their scaling.

    A service is named by its id: `cluster/service`.
    """

    def __init__(self, clients: AwsClients, describes: DescribeLimiter) -> None:
        self._clients = clients
        self._describes = describes

    async def read(self, scope: Scope, services: Sequence[str]) -> Mapping[str, ScalableTarget]:
        """Return the targets of services, by id. A service without a target is left out.

        Raises:
            CloudError: a call failed.
        """
        found: dict[str, ScalableTarget] = {}
        for first in range(0, len(services), PAGE):
            found |= await self._page(scope, services[first : first + PAGE])
        return found

    async def suspend(
        self, scope: Scope, service: str, activities: Iterable[str], limits: Capacity | None = None
    ) -> None:
        """Suspend exactly these activities of an existing target, and resume all others.

        Application Auto Scaling then moves the size of the service between the limits of the target.

        Args:
            scope: the scope of the service.
            service: its id.
            activities: the activities to suspend.
            limits: the new limits of the target; None to keep them.

        Raises:
            CloudError: the call failed.
        """
        suspended = set(activities)
        sizes: _Limits = {}
        if limits is not None:
            sizes = {"MinCapacity": limits.minimum, "MaxCapacity": limits.maximum}
        state: SuspendedStateTypeDef = {
            "DynamicScalingInSuspended": "DynamicScalingIn" in suspended,
            "DynamicScalingOutSuspended": "DynamicScalingOut" in suspended,
            "ScheduledScalingSuspended": "ScheduledScaling" in suspended,
        }
        client = await self._clients.application_autoscaling(scope)
        async with self._clients.call("application-autoscaling:RegisterScalableTarget", scope, [service]):
            await client.register_scalable_target(
                ServiceNamespace="ecs",
                ResourceId=f"service/{service}",
                ScalableDimension="ecs:service:DesiredCount",
                SuspendedState=state,
                **sizes,
            )

    async def _page(self, scope: Scope, services: Sequence[str]) -> dict[str, ScalableTarget]:
        client = await self._clients.application_autoscaling(scope)
        slot = self._describes.slot(scope, "DescribeScalableTargets")
        async with slot, self._clients.call("application-autoscaling:DescribeScalableTargets", scope):
            page = await client.describe_scalable_targets(
                ServiceNamespace="ecs",
                ResourceIds=[f"service/{service}" for service in services],
                ScalableDimension="ecs:service:DesiredCount",
            )
        return {row["ResourceId"].removeprefix("service/"): _target(row) for row in page["ScalableTargets"]}


def _target(row: "ScalableTargetTypeDef") -> ScalableTarget:
    state = row.get("SuspendedState") or {}
    suspended = {name for name in ACTIVITIES if state.get(f"{name}Suspended")}
    return ScalableTarget(row["MinCapacity"], row["MaxCapacity"], frozenset(suspended))
