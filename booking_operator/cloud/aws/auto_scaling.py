"""The EC2 Auto Scaling calls: it finds groups by tag, and switches each off and on by its size.

For the operator, an Auto Scaling group is one instance, and its id is the name of the group. It is off while
its size is 0/0/0, so that no scaling policy launches a machine. `domain.capacity` describes the tag with the
size to restore.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from booking_operator.cloud.aws.auto_scaling_parser import (
    ScaledGroup,
    read_group,
    with_refreshes,
    with_scheduled_actions,
)
from booking_operator.cloud.aws.records import Reading
from booking_operator.cloud.aws.scaled import ScaledApi, not_found, size_unknown
from booking_operator.cloud.aws.tags import APPLICATION_TAG, LOCK_TAGS, Tag, write_lock
from booking_operator.cloud.driver import Action, CloudError, FailureKind, Record
from booking_operator.domain.capacity import CAPACITY_TAG, OFF, Capacity
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Lock
from booking_operator.domain.services import SERVICES

if TYPE_CHECKING:
    from types_aiobotocore_autoscaling.type_defs import (
        ScheduledUpdateGroupActionTypeDef,
        TagTypeDef,
    )

NEWEST_REFRESHES = 1
"""An Auto Scaling group has one instance refresh in progress at most, and it is the newest."""
MAX_REFRESHES = 5
"""Groups whose instance refreshes are read in one Describe. More would delay the view of all groups."""
PAGE = 100
"""Groups per page: the maximum of Auto Scaling."""


class AutoScalingApi(ScaledApi[ScaledGroup]):
    """The `ServiceApi` of `cloud.driver` for EC2 Auto Scaling."""

    facts = SERVICES["asg"]
    client_names = ("autoscaling",)

    async def describe(self, scope: Scope) -> list[Record]:
        """Return all Auto Scaling groups of `scope` that have the application tag.

        Raises:
            CloudError: a call failed.
        """
        client, reading = await self._clients.autoscaling(scope), Reading()
        pages = self._pages(
            scope,
            "autoscaling:DescribeAutoScalingGroups",
            client.describe_auto_scaling_groups,
            Filters=[{"Name": "tag-key", "Values": [APPLICATION_TAG]}],
            MaxRecords=PAGE,
        )
        rows = [row async for page in pages for row in page["AutoScalingGroups"]]
        read = (reading.read(row, read_group, "AutoScalingGroupName") for row in rows)
        groups = [group for group in read if group is not None]
        self._skipped.note(scope, reading)
        groups = await self._explained(scope, groups)
        return [group.record for group in groups]

    async def _explained(self, scope: Scope, groups: list[ScaledGroup]) -> list[ScaledGroup]:
        """Return the groups with what else changes their size, and with why machines are missing.

        Without the permissions for these calls, the explanations are missing, and nothing else.
        """
        if groups:
            with suppress(CloudError):
                rows = await self._scheduled_actions(scope)
                groups = [with_scheduled_actions(group, rows) for group in groups]
        unready = [group for group in groups if group.is_unready][:MAX_REFRESHES]
        found = {group.record.instance.id: await self._with_refreshes(scope, group) for group in unready}
        return [found.get(group.record.instance.id, group) for group in groups]

    async def _scheduled_actions(self, scope: Scope) -> list["ScheduledUpdateGroupActionTypeDef"]:
        call = (await self._clients.autoscaling(scope)).describe_scheduled_actions
        permission = "autoscaling:DescribeScheduledActions"
        pages = self._pages(scope, permission, call, MaxRecords=PAGE)
        return [row async for page in pages for row in page["ScheduledUpdateGroupActions"]]

    async def _with_refreshes(self, scope: Scope, group: ScaledGroup) -> ScaledGroup:
        """Return a group of which machines are missing with its instance refresh."""
        instance = group.record.instance
        client = await self._clients.autoscaling(scope)
        slot = self._describes.slot(scope, "DescribeInstanceRefreshes")
        try:
            async with (
                slot,
                self._clients.call("autoscaling:DescribeInstanceRefreshes", scope, [instance.id]),
            ):
                page = await client.describe_instance_refreshes(
                    AutoScalingGroupName=instance.id, MaxRecords=NEWEST_REFRESHES
                )
        except CloudError:
            return group
        return with_refreshes(group, page["InstanceRefreshes"])

    async def _lock(self, scope: Scope, id_: str, lock: Lock) -> None:
        await self._write_tags(scope, id_, write_lock(lock))

    async def _unlock(self, scope: Scope, id_: str) -> None:
        client = await self._clients.autoscaling(scope)
        tags: list[TagTypeDef] = [_of_group(id_, key) for key in LOCK_TAGS]
        async with self._clients.call("autoscaling:DeleteTags", scope, [id_]):
            await client.delete_tags(Tags=tags)

    async def _start(self, scope: Scope, id_: str, group: ScaledGroup) -> None:
        if not group.capacity.is_off:
            return
        if group.remembered is None:
            raise size_unknown(id_)
        await self._resize(scope, id_, group.remembered)

    async def _prepare_stop(self, scope: Scope, id_: str, group: ScaledGroup) -> bool:
        capacity = group.capacity_to_remember
        if capacity is None or group.capacity == OFF:
            return False  # without a machine there is no size to remember
        if group.remembered != capacity:
            await self._write_tags(scope, id_, [{"Key": CAPACITY_TAG, "Value": str(capacity)}])
        return True

    async def _scale_down(self, scope: Scope, id_: str) -> None:
        await self._resize(scope, id_, OFF)

    async def _present(self, scope: Scope, id_: str, _: Action) -> ScaledGroup:
        client = await self._clients.autoscaling(scope)
        slot = self._describes.slot(scope, "DescribeAutoScalingGroups")
        async with slot, self._clients.call("autoscaling:DescribeAutoScalingGroups", scope, [id_]):
            page = await client.describe_auto_scaling_groups(AutoScalingGroupNames=[id_])
        group = next(filter(None, map(read_group, page["AutoScalingGroups"])), None)
        if group is None:
            raise CloudError("GroupNotFound", not_found(id_), kind=FailureKind.REFUSED, ids=[id_])
        return group

    async def _resize(self, scope: Scope, name: str, to: Capacity) -> None:
        client = await self._clients.autoscaling(scope)
        async with self._clients.call("autoscaling:UpdateAutoScalingGroup", scope, [name]):
            await client.update_auto_scaling_group(
                AutoScalingGroupName=name, MinSize=to.minimum, MaxSize=to.maximum, DesiredCapacity=to.desired
            )

    async def _write_tags(self, scope: Scope, name: str, tags: Sequence[Tag]) -> None:
        client = await self._clients.autoscaling(scope)
        whole: list[TagTypeDef] = [
            {**_of_group(name, tag["Key"]), "Value": tag["Value"], "PropagateAtLaunch": False} for tag in tags
        ]
        async with self._clients.call("autoscaling:CreateOrUpdateTags", scope, [name]):
            await client.create_or_update_tags(Tags=whole)


def _of_group(name: str, key: str) -> "TagTypeDef":
    """Return the name of a tag of a group, in the form of the API."""
    return {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": key}
