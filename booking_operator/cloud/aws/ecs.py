"""The ECS calls: it finds services by tag, and switches each off and on by its number of tasks.

For the operator, an ECS service is one instance, and its id is `cluster/service`. `domain.capacity` describes
the tag with the size to restore. If a service has a scalable target, a stop suspends its scaling before it
sets the size, and a start resumes it after that. So a change that ends in between is visible: the service
runs, and its scaling is suspended. The next start or stop completes it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.ecs_parser import EcsService, cluster_of, read_service
from booking_operator.cloud.aws.records import Reading
from booking_operator.cloud.aws.scalable_targets import ALL, SUSPENDED_TAG, ScalableTargets
from booking_operator.cloud.aws.scaled import ScaledApi, not_found, size_unknown
from booking_operator.cloud.aws.tags import APPLICATION_TAG, LOCK_TAGS, write_lock
from booking_operator.cloud.driver import Action, CloudError, FailureKind, Record
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Lock
from booking_operator.domain.services import SERVICES
from booking_operator.metrics import NO_METRICS, CloudMetrics

if TYPE_CHECKING:
    from types_aiobotocore_ecs.type_defs import TagTypeDef
    from types_aiobotocore_resourcegroupstaggingapi.type_defs import ResourceTagMappingTypeDef

ARN_PAGE = 100
"""ARNs per page of GetResources: its maximum."""
SERVICE_PAGE = 10
"""Services per call of DescribeServices: its maximum."""

_GONE = frozenset({"ClusterNotFoundException"})
"""Errors of DescribeServices for a deleted cluster. GetResources still shows its services for a while."""


class EcsApi(ScaledApi[EcsService]):
    """The `ServiceApi` of `cloud.driver` for ECS."""

    facts = SERVICES["ecs"]
    client_names = ("ecs", "resourcegroupstaggingapi", "application-autoscaling")

    def __init__(
        self, clients: AwsClients, describes: DescribeLimiter, *, metrics: CloudMetrics = NO_METRICS
    ) -> None:
        super().__init__(clients, describes, metrics=metrics)
        self._targets = ScalableTargets(clients, describes)
        self._arns: dict[Scope, dict[str, str]] = {}

    async def describe(self, scope: Scope) -> list[Record]:
        """Return all ECS services of `scope` that have the application tag.

        The scalable targets are read only for services that have no tasks, although the operator has not
        suspended their scaling.

        Raises:
            CloudError: a call failed.
        """
        reading, clusters = Reading(), defaultdict[str, list[str]](list)
        for row in await self._tagged(scope):
            cluster = reading.read(row, lambda row: cluster_of(row["ResourceARN"]), "ResourceARN")
            if cluster is not None:
                clusters[cluster].append(row["ResourceARN"])
        services = {
            service.record.instance.id: service
            for cluster, arns in clusters.items()
            for first in range(0, len(arns), SERVICE_PAGE)
            for service in await self._read(scope, cluster, arns[first : first + SERVICE_PAGE], reading)
        }
        if emptied := [id_ for id_, service in services.items() if service.depends_on_scaling]:
            targets = await self._targets.read(scope, emptied)
            services |= {id_: services[id_].with_target(targets.get(id_)) for id_ in emptied}
        self._skipped.note(scope, reading)
        self._arns[scope] = {id_: service.arn for id_, service in services.items()}
        return [service.record for service in services.values()]

    def _forget(self, scope: Scope) -> None:
        self._arns.pop(scope, None)

    async def _lock(self, scope: Scope, id_: str, lock: Lock) -> None:
        await self._write_tags(scope, id_, {tag["Key"]: tag["Value"] for tag in write_lock(lock)})

    async def _unlock(self, scope: Scope, id_: str) -> None:
        await self._remove_tags(scope, id_, LOCK_TAGS)

    async def _start(self, scope: Scope, id_: str, service: EcsService) -> None:
        """Restore the size, and resume the scaling after that: it must not act on a service without tasks."""
        before = service.suspended_before
        desired = service.desired_to_start
        if not desired:
            raise size_unknown(id_)
        if service.desired != desired:
            await self._resize(scope, id_, desired)
        if before is not None:
            if service.target is not None:
                limits = service.remembered if service.target.maximum == 0 else None
                await self._targets.suspend(scope, id_, before, limits)
            await self._remove_tags(scope, id_, [SUSPENDED_TAG])

    async def _prepare_stop(self, scope: Scope, id_: str, service: EcsService) -> bool:
        """Write the present size into the tag, and suspend the scaling.

        A service that has no tasks already is not changed, unless its scaling may start some.
        """
        if not service.desired and not service.is_idle:
            return False
        if new := service.tags_to_stop():
            await self._write_tags(scope, id_, new)
        if service.target is not None and service.target.suspended != ALL:
            await self._targets.suspend(scope, id_, ALL)
        return service.desired > 0

    async def _scale_down(self, scope: Scope, id_: str) -> None:
        await self._resize(scope, id_, 0)

    async def _present(self, scope: Scope, id_: str, action: Action) -> EcsService:
        """Read a service, and its scalable target if the action may change it."""
        arn = self._arn(scope, id_)
        found = await self._read(scope, cluster_of(arn), [arn], Reading())
        if not found:
            raise CloudError("ServiceNotFound", not_found(id_), kind=FailureKind.REFUSED, ids=[id_])
        (service,) = found
        if action is Action.START and service.suspended_before is None:
            return service
        return service.with_target((await self._targets.read(scope, [id_])).get(id_))

    def _arn(self, scope: Scope, id_: str) -> str:
        """Return the ARN of a service, which only Describe returns.

        Raises:
            CloudError: no Describe has returned the service yet.
        """
        arn = self._arns.get(scope, {}).get(id_)
        if arn is None:
            raise CloudError("NotObserved", f"{id_} has not been observed yet.")
        return arn

    async def _resize(self, scope: Scope, id_: str, desired: int) -> None:
        client, arn = await self._clients.ecs(scope), self._arn(scope, id_)
        async with self._clients.call("ecs:UpdateService", scope, [id_]):
            await client.update_service(cluster=cluster_of(arn), service=arn, desiredCount=desired)

    async def _write_tags(self, scope: Scope, id_: str, tags: Mapping[str, str]) -> None:
        client, arn = await self._clients.ecs(scope), self._arn(scope, id_)
        whole: list[TagTypeDef] = [{"key": key, "value": value} for key, value in tags.items()]
        async with self._clients.call("ecs:TagResource", scope, [id_]):
            await client.tag_resource(resourceArn=arn, tags=whole)

    async def _remove_tags(self, scope: Scope, id_: str, keys: Sequence[str]) -> None:
        client, arn = await self._clients.ecs(scope), self._arn(scope, id_)
        async with self._clients.call("ecs:UntagResource", scope, [id_]):
            await client.untag_resource(resourceArn=arn, tagKeys=list(keys))

    async def _read(
        self, scope: Scope, cluster: str, arns: Sequence[str], reading: Reading
    ) -> list[EcsService]:
        """Return at most `SERVICE_PAGE` services of one cluster. Those that do not exist are left out."""
        client = await self._clients.ecs(scope)
        slot = self._describes.slot(scope, "DescribeServices")
        try:
            async with slot, self._clients.call("ecs:DescribeServices", scope):
                page = await client.describe_services(cluster=cluster, services=arns, include=["TAGS"])
        except CloudError as error:
            if error.reason in _GONE:
                return []
            raise
        read = (reading.read(row, read_service, "serviceArn") for row in page["services"])
        return [service for service in read if service is not None]

    async def _tagged(self, scope: Scope) -> list["ResourceTagMappingTypeDef"]:
        """Return the ARNs of all services with the application tag."""
        pages = self._pages(
            scope,
            "tag:GetResources",
            (await self._clients.tagging(scope)).get_resources,
            next_field="PaginationToken",
            TagFilters=[{"Key": APPLICATION_TAG}],
            ResourceTypeFilters=["ecs:service"],
            ResourcesPerPage=ARN_PAGE,
        )
        return [row async for page in pages for row in page["ResourceTagMappingList"]]
