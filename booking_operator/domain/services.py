"""The cloud services that `spec.type` can name, and the facts about each that code without I/O needs.

`cloud/aws` has one module per service. docs/maintaining.md lists the steps to add a service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

ServiceName = Literal["ec2", "rds", "asg", "ecs"]


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """The facts about one service. The calls are names of AWS API actions; AWS limits the rate of each.

    A call also stands for the calls of the same kind whose limits the operator counts together with it, such
    as `StartDBInstance` for `StartDBCluster`.

    Attributes:
        name: the value of `spec.type`.
        start_call: the call that starts instances.
        stop_call: the call that stops or hibernates instances.
        tag_call: the call that writes tags.
        untag_call: the call that removes tags.
        describe_calls: the calls that find instances and their state.
        max_batch: the maximum number of instances in one call.
        default_warm_up: the warm-up of `warm_up: auto` before the first measured start.
    """

    name: ServiceName
    start_call: str
    stop_call: str
    tag_call: str
    untag_call: str
    describe_calls: tuple[str, ...]
    max_batch: int
    default_warm_up: timedelta

    @property
    def calls(self) -> frozenset[str]:
        """All calls whose limits the operator keeps."""
        return frozenset(
            {self.start_call, self.stop_call, self.tag_call, self.untag_call, *self.describe_calls}
        )


_ALL = (
    ServiceFacts(
        name="ec2",
        start_call="StartInstances",
        stop_call="StopInstances",
        tag_call="CreateTags",
        untag_call="DeleteTags",
        describe_calls=("DescribeInstances", "DescribeInstanceStatus"),
        max_batch=1000,  # EC2 also limits the rate of instances, so larger calls gain nothing
        default_warm_up=timedelta(minutes=2),
    ),
    # Calls for DB clusters count as calls for DB instances.
    ServiceFacts(
        name="rds",
        start_call="StartDBInstance",
        stop_call="StopDBInstance",
        tag_call="AddTagsToResource",
        untag_call="RemoveTagsFromResource",
        describe_calls=(
            "DescribeDBClusters",
            "DescribeDBInstances",
            "DescribeGlobalClusters",
            "DescribePendingMaintenanceActions",
        ),
        max_batch=1,  # RDS has no call for several databases
        default_warm_up=timedelta(minutes=10),
    ),
    # Both switch by the same call, so a start and a stop share its limits.
    ServiceFacts(
        name="asg",
        start_call="UpdateAutoScalingGroup",
        stop_call="UpdateAutoScalingGroup",
        tag_call="CreateOrUpdateTags",
        untag_call="DeleteTags",
        describe_calls=("DescribeAutoScalingGroups", "DescribeInstanceRefreshes", "DescribeScheduledActions"),
        max_batch=1,  # Auto Scaling has no call for several groups
        default_warm_up=timedelta(minutes=5),
    ),
    ServiceFacts(
        name="ecs",
        start_call="UpdateService",
        stop_call="UpdateService",
        tag_call="TagResource",
        untag_call="UntagResource",
        describe_calls=("GetResources", "DescribeServices", "DescribeScalableTargets"),
        max_batch=1,  # ECS has no call for several services
        default_warm_up=timedelta(minutes=2),
    ),
)

SERVICES: Mapping[str, ServiceFacts] = {facts.name: facts for facts in _ALL}
"""The facts by `ServiceName`."""
