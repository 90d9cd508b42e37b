"""Reads the rows of DescribeServices.

See https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Service.html.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from booking_operator.cloud.aws import tags as tagging
from booking_operator.cloud.aws.errors import clean_message
from booking_operator.cloud.aws.scalable_targets import (
    ALL,
    SUSPENDED_TAG,
    ScalableTarget,
    format_suspended,
    parse_suspended,
)
from booking_operator.cloud.aws.tags import APPLICATION_TAG, read_lock
from booking_operator.cloud.driver import Record
from booking_operator.domain.capacity import CAPACITY_TAG, Capacity, off_reason, remembered_capacity
from booking_operator.domain.instance import Instance, InstanceState, MachineCounts

if TYPE_CHECKING:
    from types_aiobotocore_ecs.type_defs import DeploymentTypeDef, ServiceTypeDef

_ACTIVE = "ACTIVE"
_DAEMON = "DAEMON"


@dataclass(frozen=True, slots=True)
class EcsService:
    """One ECS service.

    Attributes:
        record: the service, as the inventory shows it.
        arn: its ARN.
        desired: its present number of tasks.
        remembered: the size in its tag; None without a valid tag.
        suspended_before: the scaling activities that were suspended before the operator suspended all of
            them; None if the operator has not.
        target: its scalable target; None without one, or if it was not read.
    """

    record: Record
    arn: str
    desired: int
    remembered: Capacity | None
    suspended_before: frozenset[str] | None
    target: ScalableTarget | None = None

    @property
    def depends_on_scaling(self) -> bool:
        """Whether its state depends on its scalable target."""
        return self.desired == 0 and self.suspended_before is None and self.remembered is not None

    @property
    def is_idle(self) -> bool:
        """Whether scaling has removed all tasks of a service that is on, and may start some again.

        The operator suspends the scaling of a service that is off.
        """
        allowed = self.remembered is not None and self.remembered.minimum == 0
        scales = self.target is not None and self.target.minimum == 0 and self.target.scales_out
        return self.depends_on_scaling and allowed and scales

    def with_target(self, target: ScalableTarget | None) -> "EcsService":
        """Return the service with its scalable target."""
        service = replace(self, target=target)
        if not service.is_idle:
            return service
        counts = MachineCounts(0, self.record.instance.machines_running)
        instance = replace(self.record.instance, state=InstanceState.RUNNING, scale=counts)
        return replace(service, record=replace(self.record, instance=instance))

    def tags_to_stop(self) -> dict[str, str]:
        """Return the tags to write before a stop, so that the next start restores what is present."""
        tags: dict[str, str] = {}
        if (capacity := self._capacity_to_remember()) != self.remembered:
            tags[CAPACITY_TAG] = str(capacity)
        suspended = self.target.suspended if self.target is not None else self.suspended_before
        if suspended is not None and suspended != self.suspended_before and not self._suspended_by_operator:
            tags[SUSPENDED_TAG] = format_suspended(suspended)
        return tags

    @property
    def desired_to_start(self) -> int:
        """The number of tasks after a start: the present one if there are tasks; 0 if it is not known."""
        if self.remembered is None or (self.desired and not self._is_raised):
            return self.desired
        return self.target.within(self.remembered) if self.target else self.remembered.desired

    @property
    def _is_raised(self) -> bool:
        """Whether Application Auto Scaling, and no user, has started the tasks of a service that is off.

        Each change of a scalable target raises the size of its service to the minimum.
        """
        raised = self.target is not None and self.desired <= self.target.minimum
        return raised and self._suspended_by_operator

    @property
    def _suspended_by_operator(self) -> bool:
        """Whether all scaling is suspended, and a tag says what was suspended before."""
        return self.suspended_before is not None and self.target is not None and self.target.suspended == ALL

    def _capacity_to_remember(self) -> Capacity | None:
        """Return the present size. Without a scalable target, the three numbers are equal."""
        if self.remembered is not None and (not self.desired or self._is_raised):
            return self.remembered
        if self.target is None:
            return Capacity(self.desired, self.desired, self.desired)
        return self.target.capacity(self.desired)


def cluster_of(arn: str) -> str:
    """Return the name of the cluster of a service.

    Raises:
        ValueError: the ARN does not name the cluster.
    """
    return id_of(arn).partition("/")[0]


def id_of(arn: str) -> str:
    """Return the id of a service: `cluster/service`.

    Raises:
        ValueError: the ARN does not name the cluster.
    """
    kind, _, id_ = arn.rpartition(":")[2].partition("/")
    if kind != "service" or id_.count("/") != 1:
        raise ValueError(f"{arn!r} does not have the form …:service/CLUSTER/NAME")
    return id_


def read_service(row: "ServiceTypeDef") -> EcsService | None:
    """Parse one service; return None if it has no application tag or is being deleted.

    Raises:
        Exception: the service is invalid.
    """
    tags = {tag.get("key", ""): tag.get("value", "") for tag in row.get("tags", ())}
    if not tags.get(APPLICATION_TAG) or row["status"] != _ACTIVE:
        return None
    desired, running = row["desiredCount"], row.get("runningCount", 0)
    remembered = remembered_capacity(tags.get(CAPACITY_TAG))
    state = _state(desired, running + row.get("pendingCount", 0))
    ignored = tagging.ignored_reason(tags)
    held = parse_suspended(tags[SUSPENDED_TAG]) if SUSPENDED_TAG in tags else None
    instance = Instance(
        id_of(row["serviceArn"]),
        state,
        blocked_reason=ignored or _obstacle(row, state, tags),
        lock=read_lock(tags),
        launched_at=row.get("createdAt"),
        sizes=(_platform(row),) * running,
        scale=MachineCounts(desired or (remembered.desired if remembered else 0), running),
        start_incomplete=state is InstanceState.RUNNING and held is not None,
        unready_reason=_shortfall(row) if running < desired else "",
    )
    record = Record(
        tag=tags[APPLICATION_TAG],
        instance=instance,
        managed=tagging.asks_for_resource(tags),
        left_out=bool(ignored),
    )
    return EcsService(record, row["serviceArn"], desired, remembered, held)


def _state(desired: int, tasks: int) -> InstanceState:
    """Return the power state. A service that is on counts as running before its tasks run."""
    if desired:
        return InstanceState.RUNNING
    return InstanceState.STOPPING if tasks else InstanceState.STOPPED


def _obstacle(row: "ServiceTypeDef", state: InstanceState, tags: Mapping[str, str]) -> str:
    """Return why the service cannot be switched on or off now; empty if it can."""
    if row.get("schedulingStrategy") == _DAEMON:
        return (
            "is a daemon service, which runs one task on each instance of its cluster and has no size; "
            f"remove the tag {APPLICATION_TAG}, and book the instances of the cluster instead"
        )
    return off_reason(tags.get(CAPACITY_TAG)) if state is not InstanceState.RUNNING else ""


def _platform(row: "ServiceTypeDef") -> str:
    """Return where the tasks run: the capacity provider with the highest weight, or the launch type."""
    providers = row.get("capacityProviderStrategy") or ()
    heaviest = max(providers, key=lambda item: (item.get("weight", 0), item.get("base", 0)), default=None)
    return heaviest["capacityProvider"] if heaviest else row.get("launchType", "")


def _shortfall(row: "ServiceTypeDef") -> str:
    """Return why tasks are missing, as the end of the sentence "it …"; empty if ECS does not say it."""
    newest = [event.get("message", "") for event in row.get("events", ())[:1]]
    # The next sentence names a container instance, and another one each time.
    refused = [f"reports: {message.partition('. ')[0]}" for message in newest if "unable to" in message]
    return clean_message(" and ".join([*_deployments(row.get("deployments", ())), *refused]))


def _deployments(rows: Iterable["DeploymentTypeDef"]) -> Iterable[str]:
    for row in rows:
        failed, why = row.get("failedTasks", 0), row.get("rolloutStateReason", "")
        match row.get("status"), row.get("rolloutState"):
            case "PRIMARY", "FAILED":
                yield f"has a deployment that failed: {why}"
            case "PRIMARY", "IN_PROGRESS" if failed:
                yield f"has a deployment in progress, of which {failed} tasks have failed"
            case "PRIMARY", "IN_PROGRESS":
                yield "has a deployment in progress"
