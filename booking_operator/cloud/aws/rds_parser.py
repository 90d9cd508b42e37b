"""Parses the rows of RDS: the databases with the application tag, their states, and which RDS never stops.

The module makes no call and reads no clock. RDS also lists the clusters of DocumentDB and Neptune.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from booking_operator.cloud.aws import tags as tagging
from booking_operator.cloud.aws.records import Reading
from booking_operator.cloud.aws.tags import APPLICATION_TAG, read_lock
from booking_operator.cloud.driver import Record
from booking_operator.domain.instance import Instance, InstanceState

if TYPE_CHECKING:
    from types_aiobotocore_rds.type_defs import (
        DBClusterTypeDef,
        DBInstanceTypeDef,
        GlobalClusterTypeDef,
        ResourcePendingMaintenanceActionsTypeDef,
    )

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
_MULTI_AZ_ENGINES = frozenset({"mysql", "postgres"})
"""The engines of Multi-AZ DB clusters. Aurora, DocumentDB and Neptune have engines of their own."""
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(\w{3}):(\d\d):(\d\d)-(\w{3}):(\d\d):(\d\d)")
_WEEK = timedelta(days=7)
_WINDOW_LEAD = timedelta(minutes=2)
"""A maintenance window counts this long before its start. A view may be a minute old when the operator
decides on it, and the maintenance must not find the database stopped."""


@dataclass(frozen=True, slots=True)
class Database:
    """One DB instance or cluster with the application tag.

    Attributes:
        record: what the operator knows of it.
        arn: its ARN, which the tag calls require.
        global_cluster: the global database that a cluster is part of; empty if there is none.
        windows: the end (aware UTC) of each present maintenance window, by ARN. A member of a cluster has a
            window of its own.
    """

    record: Record
    arn: str
    global_cluster: str = ""
    windows: Mapping[str, datetime] = field(default_factory=dict)


def read_databases(
    clusters: "Iterable[DBClusterTypeDef]",
    databases: "Iterable[DBInstanceTypeDef]",
    now: datetime,
    reading: Reading,
) -> list[Database]:
    """Parse the rows of DescribeDBClusters and DescribeDBInstances.

    Args:
        clusters: all clusters of a scope.
        databases: all DB instances of the scope, including the members of clusters.
        now: the instant for the maintenance windows (aware UTC).
        reading: records the invalid rows, which are skipped.
    """
    tags: dict[str, str] = {}
    windows: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    members: defaultdict[str, list[str]] = defaultdict(list)
    found: list[Database | None] = []

    def parse_cluster(row: "DBClusterTypeDef") -> Database | None:
        if name := row.get("DBClusterIdentifier"):
            tags[name] = _application(row)
        return _cluster(row, now)

    def parse_database(row: "DBInstanceTypeDef") -> Database | None:
        cluster = row.get("DBClusterIdentifier", "")
        if cluster:
            windows[cluster] |= _windows(row.get("DBInstanceArn", ""), row, now)
            members[cluster] += _sizes(row)
        return _database(row, tags.get(cluster, ""), now)

    found += [reading.read(row, parse_cluster, "DBClusterIdentifier") for row in clusters]
    found += [reading.read(row, parse_database, "DBInstanceIdentifier") for row in databases]
    return [
        replace(
            _with_sizes(item, members.get(_name_of_cluster(item), ())),
            windows=_present_windows(item, windows.get(_name_of_cluster(item), {})),
        )
        for item in found
        if item is not None
    ]


def block_global_clusters(
    databases: Iterable[Database], rows: "Iterable[GlobalClusterTypeDef] | None", reading: Reading
) -> list[Database]:
    """Block the clusters of global databases, except for a cluster that is the only one.

    Args:
        databases: the databases.
        rows: the rows of DescribeGlobalClusters; None if the call failed.
        reading: records the invalid rows, which are skipped.
    """
    sizes: dict[str, int] = {}

    def parse(row: "GlobalClusterTypeDef") -> None:
        members = row.get("GlobalClusterMembers", ())
        sizes.update({member.get("DBClusterArn", ""): len(members) for member in members})

    for row in rows or ():
        reading.read(row, parse, "GlobalClusterIdentifier")
    return [_blocked(item, _global_cluster_reason(item, sizes, rows is not None)) for item in databases]


def note_maintenance(
    databases: Iterable[Database],
    rows: "Iterable[ResourcePendingMaintenanceActionsTypeDef] | None",
    reading: Reading,
) -> list[Database]:
    """Set `maintenance_until` of the running databases to which RDS applies maintenance in this window.

    AWS gives the `CurrentApplyDate` of an action only if the action is due or if a user has asked for it:
    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_PendingMaintenanceAction.html.

    Args:
        databases: the databases.
        rows: the rows of DescribePendingMaintenanceActions; None if the call failed. Then each database
            counts as one with pending maintenance.
        reading: records the invalid rows, which are skipped.
    """
    applied: dict[str, datetime] = {}

    def parse(row: "ResourcePendingMaintenanceActionsTypeDef") -> None:
        details = row.get("PendingMaintenanceActionDetails", ())
        dates = [date for action in details if (date := action.get("CurrentApplyDate"))]
        if dates:
            applied[row.get("ResourceIdentifier", "")] = min(dates).astimezone(UTC)

    for row in rows or ():
        reading.read(row, parse, "ResourceIdentifier")
    return [
        _with_maintenance(
            item,
            [
                end
                for arn, end in item.windows.items()
                if rows is None or (arn in applied and applied[arn] < end)
            ],
        )
        for item in databases
    ]


def _sizes(row: "DBInstanceTypeDef") -> list[str]:
    """Return the size of each machine of a DB instance: one in each of its zones."""
    return [row.get("DBInstanceClass", "")] * (2 if row.get("MultiAZ") else 1)


def _with_sizes(database: Database, members: Collection[str]) -> Database:
    """Return a cluster with the sizes of its members. Other databases are returned unchanged."""
    if not members:
        return database
    return _with(database, replace(database.record.instance, sizes=tuple(sorted(members))))


def _present_windows(database: Database, members: Mapping[str, datetime]) -> Mapping[str, datetime]:
    """Return the windows of a database and of its members. RDS maintains only running databases."""
    running = database.record.instance.state is InstanceState.RUNNING
    return {**members, **database.windows} if running else {}


def _with_maintenance(database: Database, ends: Collection[datetime]) -> Database:
    return _with(database, replace(database.record.instance, maintenance_until=max(ends, default=None)))


def _blocked(database: Database, reason: str) -> Database:
    instance = database.record.instance
    return _with(database, replace(instance, blocked_reason=instance.blocked_reason or reason))


def _with(database: Database, instance: Instance) -> Database:
    return replace(database, record=replace(database.record, instance=instance))


def _global_cluster_reason(database: Database, sizes: Mapping[str, int], known: bool) -> str:
    """Return why a cluster of a global database cannot be stopped; empty if it can."""
    size, state = sizes.get(database.arn, 0), database.record.instance.state
    if not database.global_cluster or size == 1 or state is InstanceState.STOPPED:
        return ""
    text = f"cannot be stopped: it is part of the global database {database.global_cluster}"
    if size:
        return f"{text}, which has {size} clusters"
    unknown = "the operator cannot see with rds:DescribeGlobalClusters whether it is the only cluster"
    return text if known else f"{text}, and {unknown}"


def _cluster(row: "DBClusterTypeDef", now: datetime) -> Database | None:
    """Parse one cluster; return None if it has no application tag or no longer exists.

    Raises:
        Exception: the row is invalid.
    """
    name, status, arn = row.get("DBClusterIdentifier", ""), row.get("Status", ""), row.get("DBClusterArn", "")
    record = _record("cluster", name, status, row, cluster_blocked_reason(row))
    if record is None:
        return None
    return Database(record, arn, row.get("GlobalClusterIdentifier", ""), _windows(arn, row, now))


def _database(row: "DBInstanceTypeDef", tag_of_cluster: str, now: datetime) -> Database | None:
    """Parse one DB instance; return None if it has no application tag or no longer exists.

    A member of a cluster starts and stops with the cluster, so it is no instance of its own. If its tag
    differs from that of the cluster, the operator leaves it alone.

    Args:
        row: the row.
        tag_of_cluster: the application tag of its cluster; empty if there is none.
        now: the instant for the maintenance window (aware UTC).

    Raises:
        Exception: the row is invalid.
    """
    if tag_of_cluster and tag_of_cluster == _application(row):
        return None
    name, status, arn = (
        row.get("DBInstanceIdentifier", ""),
        row.get("DBInstanceStatus", ""),
        row.get("DBInstanceArn", ""),
    )
    record = _record("db", name, status, row, database_blocked_reason(row))
    if record is None:
        return None
    record = replace(record, instance=replace(record.instance, sizes=tuple(_sizes(row))))
    if tag_of_cluster:
        cluster = f"cluster:{row.get('DBClusterIdentifier')}, which has the tag {tag_of_cluster!r}"
        reason = f"is a member of {cluster} and starts and stops as a whole"
        record = replace(record, left_out=True, instance=replace(record.instance, blocked_reason=reason))
    return Database(record, arn, windows=_windows(arn, row, now))


def _record(
    kind: str, name: str, status: str, row: "DBClusterTypeDef | DBInstanceTypeDef", never: str
) -> Record | None:
    """Return what the operator knows of a database; None if it has no application tag or no longer exists.

    Args:
        kind: `cluster` or `db`.
        name: its identifier.
        status: its status.
        row: its row.
        never: why it can never be stopped; empty if it can.
    """
    tags, (state, obstacle) = tagging.to_dict(row.get("TagList", ())), state_of_status(status)
    if state is None or not tags.get(APPLICATION_TAG):
        return None
    if not name:
        raise ValueError("the identifier is missing")
    ignored = tagging.ignored_reason(tags)
    created, restarts_at = (
        row.get("ClusterCreateTime") or row.get("InstanceCreateTime"),
        row.get("AutomaticRestartTime"),
    )
    return Record(
        tag=tags[APPLICATION_TAG],
        instance=Instance(
            f"{kind}:{name}",
            state,
            ignored or never or obstacle,
            read_lock(tags),
            busy=bool(obstacle and state is InstanceState.RUNNING and not (ignored or never)),
            launched_at=_utc(created),
            restarts_at=_utc(restarts_at),
        ),
        managed=tagging.asks_for_resource(tags),
        left_out=bool(ignored),
    )


def _utc(instant: object) -> datetime | None:
    return instant.astimezone(UTC) if isinstance(instant, datetime) else None


def _application(row: "DBClusterTypeDef | DBInstanceTypeDef") -> str:
    return tagging.to_dict(row.get("TagList", ())).get(APPLICATION_TAG, "")


def _name_of_cluster(database: Database) -> str:
    """Return the identifier of a cluster; empty for a DB instance."""
    kind, _, name = database.record.instance.id.partition(":")
    return name if kind == "cluster" else ""


def _windows(arn: str, row: "DBClusterTypeDef | DBInstanceTypeDef", now: datetime) -> dict[str, datetime]:
    """Return the end of the maintenance window of a database by its ARN; empty outside the window."""
    end = window_end(row.get("PreferredMaintenanceWindow", ""), now)
    return {arn: end} if end else {}


def window_end(window: str, now: datetime) -> datetime | None:
    """Return when a maintenance window ends (aware UTC); None if `now` is outside it.

    The window counts from shortly before its start.

    Args:
        window: the window in the form of RDS, in UTC, such as `sun:23:45-mon:00:15`.
        now: the instant (aware UTC).
    """
    match = _WINDOW.fullmatch(window.lower())
    if match is None or not {match[1], match[4]} <= set(_DAYS):
        return None
    monday = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=now.weekday())
    start, end = (
        monday + timedelta(days=_DAYS.index(match[at]), hours=int(match[at + 1]), minutes=int(match[at + 2]))
        for at in (1, 4)
    )
    end = end if start < end else end + _WEEK
    start -= _WINDOW_LEAD
    if now < start:  # the window of the last week may reach into this one
        start, end = start - _WEEK, end - _WEEK
    elif now >= start + _WEEK:  # the window of the next week begins soon
        start, end = start + _WEEK, end + _WEEK
    return end if start <= now < end else None


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

    `block_global_clusters` decides about the clusters of global databases. See
    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-cluster-stop-start.html and
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/multi-az-db-clusters-concepts.Limitations.html.
    """
    mode = row.get("EngineMode", "provisioned")
    if mode in {"serverless", "multimaster", "global"}:
        return f"cannot be stopped: its engine mode is {mode}"
    if row.get("Engine") in _MULTI_AZ_ENGINES:
        return "cannot be stopped: it is a Multi-AZ DB cluster"
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
    standby = row.get("MultiAZ") or row.get("SecondaryAvailabilityZone")
    if standby and "sqlserver" in row.get("Engine", ""):
        return "cannot be stopped: it is a Multi-AZ SQL Server instance"
    return ""
