"""The RDS calls: it finds DB instances and clusters by tag, and starts and stops each with one call.

An id is the last part of the ARN, `db:orders` or `cluster:orders`, because names are unique per kind only.
The members of a cluster start and stop with it; RDS refuses to start or stop a single member.
"""

import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from booking_operator.cloud.aws import tags as tagging
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.records import Reading, SkippedRows
from booking_operator.cloud.aws.tags import APPLICATION_TAG, LOCK_TAGS, read_lock, write_lock
from booking_operator.cloud.driver import TAGGED, Action, ActionAnswer, CloudError, Operation, Record
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Instance, InstanceState, Lock
from booking_operator.domain.services import SERVICES
from booking_operator.metrics import NO_METRICS, CloudMetrics

if TYPE_CHECKING:
    from types_aiobotocore_rds import RDSClient
    from types_aiobotocore_rds.type_defs import DBClusterTypeDef, DBInstanceTypeDef, TagTypeDef

PAGE = 100
"""Rows per page: the maximum of RDS."""

_STATE_BY_STATUS: Mapping[str, InstanceState | None] = {
    "available": InstanceState.RUNNING,
    "creating": InstanceState.PENDING,
    "deleted": None,
    "deleting": None,
    "migrating": InstanceState.PENDING,
    "preparing-data-migration": InstanceState.PENDING,
    "rebooting": InstanceState.PENDING,
    "starting": InstanceState.PENDING,
    "stopped": InstanceState.STOPPED,
    "stopping": InstanceState.STOPPING,
}
"""Statuses with a definite state: running, stopped, or in transition. None means deleted, or being
deleted."""
_BUSY = re.compile(
    "backing-up|backtracking|configuring-.+|converting-to-vpc|delete-precheck|failing-over|maintenance"
    "|modifying|moving-to-vpc|promoting|renaming|resetting-master-credentials|scaling-.+|storage-config-upgrade"
    "|storage-initialization|storage-optimization|update-iam-db-auth|upgrading"
)
"""Statuses of a running database that becomes `available` again without action. It can be stopped only then.

All other statuses, such as `storage-full`, need human action. The lists:
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.DBInstance.Status.html and
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Status.html."""


class RdsApi:
    """The `ServiceApi` of `cloud.driver` for RDS."""

    facts = SERVICES["rds"]

    def __init__(
        self, clients: AwsClients, describes: DescribeLimiter, *, metrics: CloudMetrics = NO_METRICS
    ) -> None:
        self._clients = clients
        self._describes = describes
        self._skipped = SkippedRows("rds", metrics)
        self._arns: dict[Scope, Mapping[str, str]] = {}

    async def describe(self, scope: Scope) -> list[Record]:
        """Return all existing DB instances and clusters of `scope` that have the application tag.

        RDS cannot filter by tag, so this reads all of them.

        Raises:
            CloudError: a call failed.
        """
        client = await self._clients.rds(scope)
        clusters: list[DBClusterTypeDef] = []
        async for page in self._pages(scope, "DescribeDBClusters", client.describe_db_clusters):
            clusters += page["DBClusters"]
        databases: list[DBInstanceTypeDef] = []
        async for page in self._pages(scope, "DescribeDBInstances", client.describe_db_instances):
            databases += page["DBInstances"]
        reading = Reading()
        found = [
            *_cluster_records(clusters, reading),
            *_database_records(databases, clusters, reading),
        ]
        self._skipped.note(scope, reading)
        # The tag calls require ARNs, which only Describe returns.
        self._arns[scope] = {record.instance.id: arn for record, arn in found}
        return [record for record, _ in found]

    async def release(self, scope: Scope) -> None:
        """Close the client of a scope that is no longer polled; the next call opens another."""
        self._describes.forget(scope, "DescribeDBClusters", "DescribeDBInstances")
        self._skipped.forget(scope)
        self._arns.pop(scope, None)
        await self._clients.release("rds", scope)

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


_Found = tuple[Record, str]
"""A record, and the ARN of its database."""


def _cluster_records(rows: "Iterable[DBClusterTypeDef]", reading: Reading) -> Iterator[_Found]:
    for row in rows:
        if found := reading.read(row, _cluster, "DBClusterIdentifier"):
            yield found


def _database_records(
    rows: "Iterable[DBInstanceTypeDef]", clusters: "Iterable[DBClusterTypeDef]", reading: Reading
) -> Iterator[_Found]:
    tagged = {reading.read(row, _tagged_cluster, "DBClusterIdentifier") for row in clusters} - {None, ""}

    def parse(row: "DBInstanceTypeDef") -> _Found | None:
        # A member starts and stops with its cluster.
        return None if row.get("DBClusterIdentifier") in tagged else _database(row)

    for row in rows:
        if found := reading.read(row, parse, "DBInstanceIdentifier"):
            yield found


def _tagged_cluster(row: "DBClusterTypeDef") -> str:
    """Return the identifier of a cluster that has the application tag, else an empty string."""
    tags = tagging.to_dict(row.get("TagList", ()))
    return row.get("DBClusterIdentifier", "") if tags.get(APPLICATION_TAG) else ""


def _cluster(row: "DBClusterTypeDef") -> _Found | None:
    """Parse one cluster; return None if it has no application tag or no longer exists.

    Raises:
        Exception: the row is invalid.
    """
    name, tags, status = row.get("DBClusterIdentifier", ""), row.get("TagList", ()), row.get("Status", "")
    created = row.get("ClusterCreateTime")
    record = _record("cluster", name, tags, status, cluster_blocked_reason(row), created)
    return (record, row.get("DBClusterArn", "")) if record else None


def _database(row: "DBInstanceTypeDef") -> _Found | None:
    """Parse one DB instance; return None if it has no application tag or no longer exists.

    Raises:
        Exception: the row is invalid.
    """
    name, status = row.get("DBInstanceIdentifier", ""), row.get("DBInstanceStatus", "")
    tags, created = row.get("TagList", ()), row.get("InstanceCreateTime")
    record = _record("db", name, tags, status, database_blocked_reason(row), created)
    return (record, row.get("DBInstanceArn", "")) if record else None


def _record(
    kind: str,
    name: str,
    tag_list: "Collection[TagTypeDef]",
    status: str,
    never: str,
    created: datetime | None,
) -> Record | None:
    tags = tagging.to_dict(tag_list)
    state, obstacle = state_of_status(status)
    if state is None or not tags.get(APPLICATION_TAG):
        return None
    if not name:
        raise ValueError("the identifier is missing")
    return Record(
        tag=tags[APPLICATION_TAG],
        instance=Instance(
            f"{kind}:{name}",
            state,
            never or obstacle,
            read_lock(tags),
            created.astimezone(UTC) if created else None,
        ),
        managed=tagging.asks_for_resource(tags),
        ignored=tagging.is_ignored(tags),
    )


def state_of_status(status: str) -> tuple[InstanceState | None, str]:
    """Return the state for an RDS `status`, and why it blocks an action, or an empty string.

    The state is None if the database is deleted, or being deleted.
    """
    if status in _STATE_BY_STATUS:
        return _STATE_BY_STATUS[status], ""
    if _BUSY.fullmatch(status):
        return InstanceState.RUNNING, f"cannot be stopped while it is {status}"
    return InstanceState.UNAVAILABLE, f"has the status {status or 'unknown'}, which needs manual intervention"


def cluster_blocked_reason(row: "DBClusterTypeDef") -> str:
    """Return why a cluster can never be stopped; empty if it can.

    See https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-cluster-stop-start.html.
    """
    mode = row.get("EngineMode", "provisioned")
    if mode in {"serverless", "multimaster", "global"}:
        return f"cannot be stopped: its engine mode is {mode}"
    if row.get("GlobalWriteForwardingStatus") or row.get("GlobalClusterIdentifier"):
        return "cannot be stopped: it is part of a global database"
    if row.get("ReplicationSourceIdentifier"):
        return "cannot be stopped: it is a replica of another cluster"
    if row.get("ReadReplicaIdentifiers"):
        return "cannot be stopped: it has a read replica"
    return ""


def database_blocked_reason(row: "DBInstanceTypeDef") -> str:
    """Return why a DB instance can never be stopped separately; empty if it can.

    See https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html.
    """
    if cluster := row.get("DBClusterIdentifier"):
        return f"is a member of cluster:{cluster}; tag the cluster instead"
    if row.get("ReadReplicaSourceDBInstanceIdentifier") or row.get("ReadReplicaSourceDBClusterIdentifier"):
        return "cannot be stopped: it is a read replica"
    if row.get("ReadReplicaDBInstanceIdentifiers") or row.get("ReadReplicaDBClusterIdentifiers"):
        return "cannot be stopped: it has a read replica"
    if row.get("MultiAZ") and "sqlserver" in row.get("Engine", ""):
        return "cannot be stopped: it is a Multi-AZ SQL Server instance"
    return ""
