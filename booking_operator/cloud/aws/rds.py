"""The calls of RDS: DB instances and clusters are found by their tag, each started and stopped by itself.

An id here is the last part of the ARN, `db:orders` or `cluster:orders`: each kind has names of its
own. The members of a cluster start and stop with it; RDS refuses to do so one by one.
"""

import asyncio
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
from typing import TYPE_CHECKING, Any, Literal

from booking_operator.cloud.aws import tags as tagging
from booking_operator.cloud.aws.clients import CALL_SECONDS, AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.records import Reading, SkippedRows
from booking_operator.cloud.aws.tags import APPLICATION_TAG, LOCK_TAGS, read_lock, write_lock
from booking_operator.cloud.driver import TAGGED, Action, ActionAnswer, CloudError, Operation, Record
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Instance, InstanceState, Lock
from booking_operator.metrics import NO_METRICS, CloudMetrics

if TYPE_CHECKING:
    from types_aiobotocore_rds import RDSClient
    from types_aiobotocore_rds.type_defs import DBClusterTypeDef, DBInstanceTypeDef, TagTypeDef

PAGE = 100
"""Rows in one page, the most that RDS gives."""

_POWER: Mapping[str, InstanceState | None] = {
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
"""Statuses that say it all: on, off, or between the two; None for what exists no longer."""
_BUSY = re.compile(
    "backing-up|backtracking|configuring-.+|converting-to-vpc|delete-precheck|failing-over|maintenance"
    "|modifying|moving-to-vpc|promoting|renaming|resetting-master-credentials|scaling-.+|storage-config-upgrade"
    "|storage-initialization|storage-optimization|update-iam-db-auth|upgrading"
)
"""Statuses of one that is on, and becomes `available` again by itself; only then it can be stopped.

What is in neither table asks for somebody's help, such as `storage-full`. The lists:
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.DBInstance.Status.html and
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Status.html.
"""


class RdsApi:
    """`cloud.service.Api` for RDS."""

    max_batch = 1  # there is no call for several
    api_actions: Mapping[Action, str] = {
        Action.START: "StartDBInstance",
        Action.STOP: "StopDBInstance",
        Action.HIBERNATE: "StopDBInstance",
        Action.TAG: "AddTagsToResource",
        Action.UNTAG: "RemoveTagsFromResource",
    }

    def __init__(
        self, sessions: AwsClients, gate: DescribeLimiter, *, metrics: CloudMetrics = NO_METRICS
    ) -> None:
        self._sessions = sessions
        self._gate = gate
        self._skipped = SkippedRows("rds", metrics)
        self._arns: dict[Scope, Mapping[str, str]] = {}

    async def describe(self, scope: Scope) -> list[Record]:
        """All DB instances and clusters of `scope` that carry the application tag, and exist.

        RDS cannot filter by tag, so all are read.

        Raises:
            CloudError: RDS did not answer.
        """
        client = await self._sessions.rds(scope)
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
        # Tags are addressed by the ARNs, and no other call gives them.
        self._arns[scope] = {record.instance.id: arn for record, arn in found}
        return [record for record, _ in found]

    async def release(self, scope: Scope) -> None:
        """Close the client of a scope that nobody looks at any more; the next call opens another."""
        self._gate.forget(scope, "DescribeDBClusters", "DescribeDBInstances")
        self._skipped.forget(scope)
        self._arns.pop(scope, None)
        await self._sessions.release("rds", scope)

    async def _pages(
        self, scope: Scope, action: str, call: Callable[..., Awaitable[Any]]
    ) -> AsyncIterator[Any]:
        """The pages of one list, each of which is a call."""
        marker = ""
        while True:
            async with self._gate.slot(scope, action):
                with self._sessions.call(f"rds:{action}", scope):
                    await self._sessions.credentials(scope.account)
                    async with asyncio.timeout(CALL_SECONDS):
                        page = await call(MaxRecords=PAGE, **({"Marker": marker} if marker else {}))
            yield page
            marker = page.get("Marker", "")
            if not marker:
                return

    async def ready(self, scope: Scope) -> None:
        """Have client and credentials at hand.

        Raises:
            CloudError: there is no such account or region, or there are no credentials.
        """
        await self._sessions.rds(scope)
        await self._sessions.credentials(scope.account)

    async def perform(
        self, scope: Scope, operation: Operation, ids: Sequence[str]
    ) -> Mapping[str, ActionAnswer]:
        """Start, stop or tag the one instance or cluster in `ids`. There is no hibernation; it is a stop.

        The status in the reply may be that of before, so it is not read: what RDS accepts is on its way.

        Raises:
            CloudError: RDS refused, or its answer was lost.
        """
        (id_,) = ids
        client = await self._sessions.rds(scope)
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
        with self._sessions.call(f"rds:{verb}{noun}", scope):
            async with asyncio.timeout(CALL_SECONDS):
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
            raise CloudError("NotObserved", f"{id_} has not been seen yet.")
        action = "AddTagsToResource" if lock else "RemoveTagsFromResource"
        with self._sessions.call(f"rds:{action}", scope):
            async with asyncio.timeout(CALL_SECONDS):
                if lock:
                    await client.add_tags_to_resource(ResourceName=arn, Tags=write_lock(lock))
                else:
                    await client.remove_tags_from_resource(ResourceName=arn, TagKeys=LOCK_TAGS)


_Found = tuple[Record, str]
"""A record, and the ARN of what it shows."""


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
    """Identifier of a cluster that carries the application tag; empty of others."""
    tags = tagging.to_dict(row.get("TagList", ()))
    return row.get("DBClusterIdentifier", "") if tags.get(APPLICATION_TAG) else ""


def _cluster(row: "DBClusterTypeDef") -> _Found | None:
    """One cluster; None where it does not count.

    Raises:
        Exception: it is malformed.
    """
    name, tags, status = row.get("DBClusterIdentifier", ""), row.get("TagList", ()), row.get("Status", "")
    record = _record("cluster", name, tags, status, cluster_blocked_reason(row))
    return (record, row.get("DBClusterArn", "")) if record else None


def _database(row: "DBInstanceTypeDef") -> _Found | None:
    """One DB instance; None where it does not count.

    Raises:
        Exception: it is malformed.
    """
    name, status = row.get("DBInstanceIdentifier", ""), row.get("DBInstanceStatus", "")
    record = _record("db", name, row.get("TagList", ()), status, database_blocked_reason(row))
    return (record, row.get("DBInstanceArn", "")) if record else None


def _record(kind: str, name: str, tag_list: "Collection[TagTypeDef]", status: str, bar: str) -> Record | None:
    tags = tagging.to_dict(tag_list)
    state, obstacle = state_of_status(status)
    if state is None or not tags.get(APPLICATION_TAG):
        return None
    if not name:
        raise ValueError("it has no identifier")
    return Record(
        tag=tags[APPLICATION_TAG],
        instance=Instance(f"{kind}:{name}", state, bar or obstacle, read_lock(tags)),
        managed=tagging.asks_for_resource(tags),
    )


def state_of_status(status: str) -> tuple[InstanceState | None, str]:
    """What RDS's `status` means for the rules, and what it bars; no state for what exists no longer."""
    if status in _POWER:
        return _POWER[status], ""
    if _BUSY.fullmatch(status):
        return InstanceState.RUNNING, f"cannot be stopped while it is {status}"
    return InstanceState.UNAVAILABLE, f"has the status {status or 'unknown'} and needs somebody's help"


def cluster_blocked_reason(row: "DBClusterTypeDef") -> str:
    """Why a cluster can never be stopped, empty where it can.

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
    """Why a DB instance can never be stopped by itself, empty where it can.

    See https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html.
    """
    if cluster := row.get("DBClusterIdentifier"):
        return f"is a member of cluster:{cluster}; tag the cluster instead"
    if row.get("ReadReplicaSourceDBInstanceIdentifier") or row.get("ReadReplicaSourceDBClusterIdentifier"):
        return "cannot be stopped: it is a read replica"
    if row.get("ReadReplicaDBInstanceIdentifiers") or row.get("ReadReplicaDBClusterIdentifiers"):
        return "cannot be stopped: it has a read replica"
    if row.get("MultiAZ") and "sqlserver" in row.get("Engine", ""):
        return "cannot be stopped: it is an SQL Server in several availability zones"
    return ""
