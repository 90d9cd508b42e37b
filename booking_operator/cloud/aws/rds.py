"""The RDS calls: it finds DB instances and clusters by tag, and starts and stops each with one call.

An id is the last part of the ARN, `db:orders` or `cluster:orders`, because names are unique per kind only.
The members of a cluster start and stop with it; RDS refuses to start or stop a single member.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from booking_operator.cloud.aws.base import BaseApi
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.rds_parser import block_global_clusters, note_maintenance, read_databases
from booking_operator.cloud.aws.records import Reading
from booking_operator.cloud.aws.tags import LOCK_TAGS, write_lock
from booking_operator.cloud.driver import (
    TAGGED,
    Action,
    ActionAnswer,
    CloudError,
    Operation,
    Record,
    always,
)
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import InstanceState, Lock
from booking_operator.domain.services import SERVICES
from booking_operator.engine.clock import Clock
from booking_operator.metrics import NO_METRICS, CloudMetrics

if TYPE_CHECKING:
    from types_aiobotocore_rds import RDSClient

PAGE = 100
"""Rows per page: the maximum of RDS."""


class RdsApi(BaseApi):
    """The `ServiceApi` of `cloud.driver` for RDS."""

    facts = SERVICES["rds"]
    client_names = ("rds",)

    def __init__(
        self,
        clients: AwsClients,
        describes: DescribeLimiter,
        clock: Clock,
        *,
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        super().__init__(clients, describes, metrics=metrics)
        self._clock = clock
        self._arns: dict[Scope, Mapping[str, str]] = {}

    async def describe(self, scope: Scope) -> list[Record]:
        """Return all existing DB instances and clusters of `scope` that have the application tag.

        RDS cannot filter by tag, so this reads all of them. Two other calls are made only while a tagged
        cluster is part of a global database, or a tagged database is in its maintenance window. If one of
        these fails, for example because its permission is missing, the operator leaves such databases
        running.

        Raises:
            CloudError: a call failed.
        """
        client = await self._clients.rds(scope)
        clusters = await self._rows(scope, "DBClusters", client.describe_db_clusters)
        databases = await self._rows(scope, "DBInstances", client.describe_db_instances)
        reading = Reading()
        found = read_databases(clusters, databases, self._clock.now(), reading)
        if any(database.global_cluster for database in found):
            rows = await self._optional_rows(scope, "GlobalClusters", client.describe_global_clusters)
            found = block_global_clusters(found, rows, reading)
        if any(database.windows for database in found):
            call = client.describe_pending_maintenance_actions
            rows = await self._optional_rows(scope, "PendingMaintenanceActions", call)
            found = note_maintenance(found, rows, reading)
        self._skipped.note(scope, reading)
        # The tag calls require ARNs, which only Describe returns.
        self._arns[scope] = {database.record.instance.id: database.arn for database in found}
        return [database.record for database in found]

    def _forget(self, scope: Scope) -> None:
        self._arns.pop(scope, None)

    async def _optional_rows(
        self, scope: Scope, list_: str, call: Callable[..., Awaitable[Any]]
    ) -> list[Any] | None:
        """Return the rows of one list; None if the call failed."""
        try:
            return await self._rows(scope, list_, call)
        except CloudError:
            return None

    async def _rows(self, scope: Scope, list_: str, call: Callable[..., Awaitable[Any]]) -> list[Any]:
        """Return the rows of all pages of one list."""
        pages = self._pages(scope, f"rds:Describe{list_}", call, next_field="Marker", MaxRecords=PAGE)
        return [row async for page in pages for row in page[list_]]

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str], _: Callable[[], bool] = always
    ) -> Mapping[str, ActionAnswer]:
        """Start, stop or tag the single DB instance or cluster in `ids`. Hibernation is a stop.

        The status in the response may be the previous one, so it is ignored: after RDS accepts an action, the
        database is in transition.

        Raises:
            CloudError: RDS refused the call, or the response was lost.
        """
        (id_,) = ids
        client = await self._clients.rds(scope)
        match operation.action:
            case Action.TAG | Action.UNTAG:
                await self._tag(client, scope, id_, operation.lock)
                return {id_: TAGGED}
            case Action.START:
                await self._switch(client, scope, "Start", id_)
                return {id_: ActionAnswer(before=InstanceState.STOPPED, now=InstanceState.PENDING)}
            case Action.STOP | Action.HIBERNATE:
                await self._switch(client, scope, "Stop", id_)
                return {id_: ActionAnswer(before=InstanceState.RUNNING, now=InstanceState.STOPPING)}

    async def _switch(
        self, client: "RDSClient", scope: Scope, verb: Literal["Start", "Stop"], id_: str
    ) -> None:
        kind, _, name = id_.partition(":")
        noun = "DBCluster" if kind == "cluster" else "DBInstance"
        async with self._clients.call(f"rds:{verb}{noun}", scope):
            match verb, noun:
                case "Start", "DBCluster":
                    await client.start_db_cluster(DBClusterIdentifier=name)
                case "Start", _:
                    await client.start_db_instance(DBInstanceIdentifier=name)
                case _, "DBCluster":
                    await client.stop_db_cluster(DBClusterIdentifier=name)
                case _:
                    await client.stop_db_instance(DBInstanceIdentifier=name)

    async def _tag(self, client: "RDSClient", scope: Scope, id_: str, lock: Lock | None) -> None:
        arn = self._arns.get(scope, {}).get(id_)
        if arn is None:
            raise CloudError("NotObserved", f"{id_} has not been observed yet.")
        action = "AddTagsToResource" if lock else "RemoveTagsFromResource"
        async with self._clients.call(f"rds:{action}", scope):
            if lock:
                await client.add_tags_to_resource(ResourceName=arn, Tags=write_lock(lock))
            else:
                await client.remove_tags_from_resource(ResourceName=arn, TagKeys=LOCK_TAGS)
