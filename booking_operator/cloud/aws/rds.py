"""The RDS calls: it finds DB instances and clusters by tag, and starts and stops each with one call.

An id is the last part of the ARN, `db:orders` or `cluster:orders`, because names are unique per kind only.
The members of a cluster start and stop with it; RDS refuses to start or stop a single member.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.rds_parser import block_global_clusters, note_maintenance, read_databases
from booking_operator.cloud.aws.records import Reading, SkippedRows
from booking_operator.cloud.aws.tags import LOCK_TAGS, write_lock
from booking_operator.cloud.driver import (
    TAGGED,
    Action,
    ActionAnswer,
    CloudError,
    Operation,
    Record,
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


class RdsApi:
    """The `ServiceApi` of `cloud.driver` for RDS."""

    facts = SERVICES["rds"]

    def __init__(
        self,
        clients: AwsClients,
        describes: DescribeLimiter,
        clock: Clock,
        *,
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        self._clients = clients
        self._clock = clock
        self._describes = describes
        self._skipped = SkippedRows("rds", metrics)
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

    async def check(self, _: Scope, ids: Collection[str]) -> Mapping[str, str]:
        """Return an empty text for each id: a database that is available is ready."""
        return dict.fromkeys(ids, "")

    async def release(self, scope: Scope) -> None:
        """Close the client of a scope that is no longer polled; the next call opens another."""
        self._describes.forget(scope, *self.facts.describe_calls)
        self._skipped.forget(scope)
        self._arns.pop(scope, None)
        await self._clients.release("rds", scope)

    async def _optional_rows(
        self, scope: Scope, list_: str, call: Callable[..., Awaitable[Any]]
    ) -> list[Any] | None:
        """Return the rows of one list; None if the call failed."""
        try:
            return await self._rows(scope, list_, call)
        except CloudError:
            return None

    async def _rows(self, scope: Scope, list_: str, call: Callable[..., Awaitable[Any]]) -> list[Any]:
        """Return the rows of all pages of one list; each page is one call."""
        return [row async for page in self._pages(scope, f"Describe{list_}", call) for row in page[list_]]

    async def _pages(
        self, scope: Scope, action: str, call: Callable[..., Awaitable[Any]]
    ) -> AsyncIterator[Any]:
        """Yield the pages of one list; each is one call."""
        marker = ""
        while True:
            async with self._describes.slot(scope, action), self._clients.call(f"rds:{action}", scope):
                page = await call(MaxRecords=PAGE, **({"Marker": marker} if marker else {}))
            yield page
            marker = page.get("Marker", "")
            if not marker:
                return

    async def ready(self, scope: Scope) -> None:
        """Prepare the client and the credentials.

        Raises:
            CloudError: the account or the region does not exist, or there are no credentials.
        """
        await self._clients.ready("rds", scope)

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str]
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
