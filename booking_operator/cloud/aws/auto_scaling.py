"""The EC2 Auto Scaling calls: it finds groups by tag, and switches each off and on by its size.

For the operator, an Auto Scaling group is one instance, and its id is the name of the group. It is off while
its size is 0/0/0, so that no scaling policy launches a machine. `domain.capacity` describes the tag with the
size to restore.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from booking_operator.cloud.aws.auto_scaling_parser import ScaledGroup, read_group
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.records import Reading, SkippedRows
from booking_operator.cloud.aws.tags import APPLICATION_TAG, LOCK_TAGS, Tag, write_lock
from booking_operator.cloud.driver import (
    TAGGED,
    Action,
    ActionAnswer,
    CloudError,
    FailureKind,
    Operation,
    Record,
)
from booking_operator.domain.capacity import CAPACITY_TAG, OFF, Capacity, off_reason
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import InstanceState
from booking_operator.domain.services import SERVICES
from booking_operator.metrics import NO_METRICS, CloudMetrics

if TYPE_CHECKING:
    from types_aiobotocore_autoscaling import AutoScalingClient
    from types_aiobotocore_autoscaling.type_defs import (
        AutoScalingGroupNamesTypeTypeDef,
        AutoScalingGroupsTypeTypeDef,
        TagTypeDef,
    )

PAGE = 100
"""Groups per page: the maximum of Auto Scaling."""


class AutoScalingApi:
    """The `ServiceApi` of `cloud.driver` for EC2 Auto Scaling."""

    facts = SERVICES["asg"]

    def __init__(
        self, clients: AwsClients, describes: DescribeLimiter, *, metrics: CloudMetrics = NO_METRICS
    ) -> None:
        self._clients = clients
        self._describes = describes
        self._skipped = SkippedRows("asg", metrics)
        # The size to restore of each group, from its tag.
        self._remembered: dict[Scope, dict[str, Capacity]] = {}

    async def describe(self, scope: Scope) -> list[Record]:
        """Return all Auto Scaling groups of `scope` that have the application tag.

        Raises:
            CloudError: a call failed.
        """
        groups, reading, token = list[ScaledGroup](), Reading(), ""
        while True:
            page = await self._page(scope, token)
            for row in page["AutoScalingGroups"]:
                group = reading.read(row, read_group, "AutoScalingGroupName")
                if group is not None:
                    groups.append(group)
            token = page.get("NextToken", "")
            if not token:
                break
        self._skipped.note(scope, reading)
        self._remembered[scope] = {
            group.record.instance.id: group.remembered for group in groups if group.remembered is not None
        }
        return [group.record for group in groups]

    async def check(self, _: Scope, ids: Collection[str]) -> Mapping[str, str]:
        """Return an empty text for each id: a group is ready when its machines are in service."""
        return dict.fromkeys(ids, "")

    async def ready(self, scope: Scope) -> None:
        """Prepare the client and the credentials.

        Raises:
            CloudError: the account or the region does not exist, or there are no credentials.
        """
        await self._clients.ready("autoscaling", scope)

    async def release(self, scope: Scope) -> None:
        """Close the client of a scope that is no longer polled; the next call opens another."""
        self._describes.forget(scope, *self.facts.describe_calls)
        self._skipped.forget(scope)
        self._remembered.pop(scope, None)
        await self._clients.release("autoscaling", scope)

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str]
    ) -> Mapping[str, ActionAnswer]:
        """Start, stop or tag the single group in `ids`. Hibernation is a stop.

        Raises:
            CloudError: Auto Scaling refused a call, or a response was lost.
        """
        (name,) = ids
        client = await self._clients.autoscaling(scope)
        match operation.action:
            case Action.TAG if operation.lock:
                await self._write_tags(client, scope, name, write_lock(operation.lock))
            case Action.TAG | Action.UNTAG:
                tags: list[TagTypeDef] = [_of_group(name, key) for key in LOCK_TAGS]
                async with self._clients.call("autoscaling:DeleteTags", scope, ids):
                    await client.delete_tags(Tags=tags)
            case Action.START:
                await self._start(client, scope, name)
                return {name: ActionAnswer(before=InstanceState.STOPPED, now=InstanceState.RUNNING)}
            case Action.STOP | Action.HIBERNATE:
                await self._stop(client, scope, name)
                return {name: ActionAnswer(before=InstanceState.RUNNING, now=InstanceState.STOPPING)}
        return {name: TAGGED}

    async def _start(self, client: "AutoScalingClient", scope: Scope, name: str) -> None:
        capacity = self._remembered.get(scope, {}).get(name)
        if capacity is None:
            raise CloudError(
                "SizeUnknown", f"{name} {off_reason(None)}.", kind=FailureKind.REFUSED, ids=[name]
            )
        await self._resize(client, scope, name, capacity)

    async def _stop(self, client: "AutoScalingClient", scope: Scope, name: str) -> None:
        """Write the present size into the tag, and then scale the group down.

        The last view may be a minute old, so the size is read again: a change since then must not be lost.
        """
        slot = self._describes.slot(scope, "DescribeAutoScalingGroups")
        async with slot, self._clients.call("autoscaling:DescribeAutoScalingGroups", scope, [name]):
            page = await client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        group = next(filter(None, map(read_group, page["AutoScalingGroups"])), None)
        if group is None:
            text = f"{name} does not exist any more, or has no tag {APPLICATION_TAG}."
            raise CloudError("GroupNotFound", text, kind=FailureKind.REFUSED, ids=[name])
        capacity = group.capacity
        if capacity.is_off:
            # Without a machine there is no size to remember. It may still scale out by itself.
            if capacity != OFF and group.remembered is not None:
                await self._resize(client, scope, name, OFF)
            return
        if group.remembered != capacity:
            await self._write_tags(client, scope, name, [{"Key": CAPACITY_TAG, "Value": str(capacity)}])
        self._remembered.setdefault(scope, {})[name] = capacity
        await self._resize(client, scope, name, OFF)

    async def _resize(self, client: "AutoScalingClient", scope: Scope, name: str, to: Capacity) -> None:
        async with self._clients.call("autoscaling:UpdateAutoScalingGroup", scope, [name]):
            await client.update_auto_scaling_group(
                AutoScalingGroupName=name, MinSize=to.minimum, MaxSize=to.maximum, DesiredCapacity=to.desired
            )

    async def _write_tags(
        self, client: "AutoScalingClient", scope: Scope, name: str, tags: Sequence[Tag]
    ) -> None:
        whole: list[TagTypeDef] = [
            {**_of_group(name, tag["Key"]), "Value": tag["Value"], "PropagateAtLaunch": False} for tag in tags
        ]
        async with self._clients.call("autoscaling:CreateOrUpdateTags", scope, [name]):
            await client.create_or_update_tags(Tags=whole)

    async def _page(self, scope: Scope, token: str) -> "AutoScalingGroupsTypeTypeDef":
        client = await self._clients.autoscaling(scope)
        query: AutoScalingGroupNamesTypeTypeDef = {
            "Filters": [{"Name": "tag-key", "Values": [APPLICATION_TAG]}],
            "MaxRecords": PAGE,
        }
        if token:
            query["NextToken"] = token
        slot = self._describes.slot(scope, "DescribeAutoScalingGroups")
        async with slot, self._clients.call("autoscaling:DescribeAutoScalingGroups", scope):
            return await client.describe_auto_scaling_groups(**query)


def _of_group(name: str, key: str) -> "TagTypeDef":
    """Return the name of a tag of a group, in the form of the API."""
    return {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": key}
