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

from booking_operator.cloud import tags as tagging
from booking_operator.cloud.batch import Change
from booking_operator.cloud.driver import Action, CloudError, Scope
from booking_operator.cloud.gate import Gate
from booking_operator.cloud.session import CALL_SECONDS, Sessions
from booking_operator.cloud.tags import APPLICATION_TAG, LOCK_TAGS, lock_in, lock_tags
from booking_operator.cloud.view import TAGGED, Answer, Record
from booking_operator.domain.instance import Instance, Lock, State

if TYPE_CHECKING:
    from types_aiobotocore_rds import RDSClient
    from types_aiobotocore_rds.type_defs import DBClusterTypeDef, DBInstanceTypeDef, TagTypeDef

PAGE = 100
"""Rows in one page, the most that RDS gives."""

_POWER: Mapping[str, State | None] = {
    "available": State.RUNNING,
    "creating": State.PENDING,
    "deleted": None,
    "deleting": None,
    "migrating": State.PENDING,
    "preparing-data-migration": State.PENDING,
    "rebooting": State.PENDING,
    "starting": State.PENDING,
    "stopped": State.STOPPED,
    "stopping": State.STOPPING,
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

    most = 1  # there is no call for several
    lanes: Mapping[Action, str] = {
        Action.START: "StartDBInstance",
        Action.STOP: "StopDBInstance",
        Action.HIBERNATE: "StopDBInstance",
        Action.TAG: "AddTagsToResource",
        Action.UNTAG: "RemoveTagsFromResource",
    }

    def __init__(self, sessions: Sessions, gate: Gate) -> None:
        self._sessions = sessions
        self._gate = gate
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
        records = [*_cluster_records(clusters), *_database_records(databases, clusters)]
        arns = {_cluster_id(row): row.get("DBClusterArn", "") for row in clusters}
        arns |= {_database_id(row): row.get("DBInstanceArn", "") for row in databases}
        # Tags are addressed by them, and no other call gives them.
        self._arns[scope] = {record.instance.id: arns[record.instance.id] for record in records}
        return records

    async def _pages(
        self, scope: Scope, action: str, call: Callable[..., Awaitable[Any]]
    ) -> AsyncIterator[Any]:
        """The pages of one list, each of which is a call."""
        marker = ""
        while True:
            async with self._gate.passed(scope, action):
                with self._sessions.call(f"rds:{action}", scope):
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

    async def perform(self, scope: Scope, change: Change, ids: Sequence[str]) -> Mapping[str, Answer]:
        """Start, stop or tag the one instance or cluster in `ids`. There is no hibernation; it is a stop.

        The status in the reply may be that of before, so it is not read: what RDS accepts is on its way.

        Raises:
            CloudError: RDS refused, or its answer was lost.
        """
        (id_,) = ids
        client = await self._sessions.rds(scope)
        match change.action:
            case Action.TAG | Action.UNTAG:
                await self._tag(client, scope, id_, change.lock)
                return {id_: TAGGED}
            case Action.START:
                await self._switch(client, scope, "Start", id_)
                return {id_: Answer(before=State.STOPPED, now=State.PENDING)}
            case Action.STOP | Action.HIBERNATE:
                await self._switch(client, scope, "Stop", id_)
                return {id_: Answer(before=State.RUNNING, now=State.STOPPING)}

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
                    await client.add_tags_to_resource(ResourceName=arn, Tags=lock_tags(lock))
                else:
                    await client.remove_tags_from_resource(ResourceName=arn, TagKeys=LOCK_TAGS)


def _cluster_id(row: "DBClusterTypeDef") -> str:
    return f"cluster:{row.get('DBClusterIdentifier', '')}"


def _database_id(row: "DBInstanceTypeDef") -> str:
    return f"db:{row.get('DBInstanceIdentifier', '')}"


def _cluster_records(rows: "Iterable[DBClusterTypeDef]") -> Iterator[Record]:
    for row in rows:
        yield from _record(_cluster_id(row), row.get("TagList", ()), row.get("Status", ""), cluster_bar(row))


def _database_records(
    rows: "Iterable[DBInstanceTypeDef]", clusters: "Iterable[DBClusterTypeDef]"
) -> Iterator[Record]:
    tagged = {
        row.get("DBClusterIdentifier", "")
        for row in clusters
        if tagging.read(row.get("TagList", ())).get(APPLICATION_TAG)
    }
    for row in rows:
        if row.get("DBClusterIdentifier") in tagged:
            continue  # it starts and stops with its cluster
        yield from _record(
            _database_id(row), row.get("TagList", ()), row.get("DBInstanceStatus", ""), database_bar(row)
        )


def _record(id_: str, tag_list: "Collection[TagTypeDef]", status: str, bar: str) -> Iterator[Record]:
    tags = tagging.read(tag_list)
    state, obstacle = power(status)
    if state is not None and tags.get(APPLICATION_TAG):
        yield Record(
            tag=tags[APPLICATION_TAG],
            instance=Instance(id_, state, bar or obstacle, lock_in(tags)),
            managed=tagging.managed(tags),
        )


def power(status: str) -> tuple[State | None, str]:
    """What RDS's `status` means for the rules, and what it bars; no state for what exists no longer."""
    if status in _POWER:
        return _POWER[status], ""
    if _BUSY.fullmatch(status):
        return State.RUNNING, f"cannot be stopped while it is {status}"
    return State.UNAVAILABLE, f"has the status {status or 'unknown'} and needs somebody's help"


def cluster_bar(row: "DBClusterTypeDef") -> str:
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


def database_bar(row: "DBInstanceTypeDef") -> str:
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
