"""Instances as the rules use them, independent of the cloud service."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

CHECK_TIMEOUT = timedelta(minutes=10)
"""How long after an instance runs its status checks may take. Then they count as failed."""


class InstanceState(StrEnum):
    """The power state of an existing instance. `ServiceApi.describe` leaves terminated instances out.

    `UNAVAILABLE` is a state that is neither on nor off, and that the operator cannot change.
    """

    STOPPED = "stopped"
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Lock:
    """The values of the lock tags of an instance, unparsed.

    Attributes:
        by: the tag `resource-booking-locked-by`: the user.
        until: the tag `resource-booking-locked-until`: the end, usually in RFC 3339.
    """

    by: str
    until: str


@dataclass(frozen=True, slots=True)
class StatusCheck:
    """The status checks of a running instance.

    Attributes:
        since: since when the instance is known to run (aware UTC).
        passed_at: when a call that showed passed checks was sent (aware UTC); None before that.
        problem: why the instance is not ready, as the end of the sentence "it …"; empty if it is ready, and
            before the first call.
    """

    since: datetime
    passed_at: datetime | None = None
    problem: str = ""

    @property
    def fails_at(self) -> datetime | None:
        """When the checks count as failed (aware UTC); None if they have passed."""
        return self.since + CHECK_TIMEOUT if self.passed_at is None else None


@dataclass(frozen=True, slots=True)
class MachineCounts:
    """The numbers of machines of a scaled group, such as an Auto Scaling group.

    Attributes:
        desired: how many it should have while it is on. While it is off, this is the remembered number.
        in_service: how many of them serve now.
    """

    desired: int
    in_service: int


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance and its power state. A scaled group, which has a size, counts as one instance.

    Attributes:
        id: its id in the service.
        state: its power state.
        blocked_reason: why it cannot be started or stopped now, as the end of the sentence "it …"; empty when
            nothing blocks it.
        lock: its lock tags; None when it has none.
        busy: whether `blocked_reason` passes without an action of a user.
        launched_at: when it was created (aware UTC), not when it was last started; None if unknown.
        restarts_at: when the cloud starts it again by itself (aware UTC); None if it does not.
        maintenance_until: the end of its present maintenance window, in which the cloud applies pending
            maintenance (aware UTC); None outside such a window.
        off_at: when it is stopped because it runs without a booking (aware UTC); None if it is not.
        check: its status checks, if it is ready only when they pass; None otherwise.
        sizes: the sizes of its machines, such as `t3.large`: one for an instance, two for a
            database in two zones, one for each member of a cluster. A scaled group has only those that exist.
        scale: the numbers of machines of a scaled group; None for all others.
        start_incomplete: whether it runs, but a part of its start is missing. It can be started again.
        unready_reason: why it is not ready although it runs, as the service says, and as the end of the
            sentence "it …"; empty if the service does not say it.
        remarks: what users should know about it, each as the end of the sentence "it …".
    """

    id: str
    state: InstanceState
    blocked_reason: str = ""
    lock: Lock | None = None
    busy: bool = False
    launched_at: datetime | None = None
    restarts_at: datetime | None = None
    maintenance_until: datetime | None = None
    off_at: datetime | None = None
    check: StatusCheck | None = None
    sizes: tuple[str, ...] = ("",)
    scale: MachineCounts | None = None
    start_incomplete: bool = False
    unready_reason: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether it runs, its status checks have passed if they matter, and no machine is missing."""
        whole = self.scale is None or self.scale.in_service >= self.scale.desired
        checked = self.check is None or self.check.passed_at is not None
        return self.state is InstanceState.RUNNING and checked and whole

    @property
    def can_start(self) -> bool:
        """Whether it is off. A scaled group may launch machines while the ones from before still end."""
        ending = self.scale is not None and self.state is InstanceState.STOPPING
        return ending or self.start_incomplete or self.state is InstanceState.STOPPED

    @property
    def machines(self) -> int:
        """How many machines users count: one, or the desired size of a scaled group."""
        return 1 if self.scale is None else self.scale.desired

    @property
    def machines_running(self) -> int:
        """How many of its machines run."""
        if self.scale is not None:
            return self.scale.in_service
        return 1 if self.state is InstanceState.RUNNING else 0

    @property
    def machines_ready(self) -> int:
        """How many of its machines are ready."""
        if self.scale is not None:
            return min(self.scale.in_service, self.scale.desired)
        return 1 if self.ready else 0


@dataclass(frozen=True, slots=True)
class Observation:
    """The instances of one group at one instant.

    Attributes:
        instances: the instances that the operator starts and stops.
        at: when the Describe was sent (aware UTC).
        left_out: the instances with the tag of the group that the operator leaves alone, for example because
            they are ignored by their tag. Their `blocked_reason` says why. They are not in `instances`.
        similar: the tags of other groups that differ from the tag of the group only by case or blanks.
    """

    instances: tuple[Instance, ...]
    at: datetime
    left_out: tuple[Instance, ...] = ()
    similar: tuple[str, ...] = ()

    def ids(self, *states: InstanceState) -> tuple[str, ...]:
        """Return the ids of the instances in one of `states`, in order."""
        return tuple(instance.id for instance in self.instances if instance.state in states)

    def startable(self) -> tuple[str, ...]:
        """Return the ids of the instances that can be started and are not blocked, in order."""
        return tuple(item.id for item in self.instances if item.can_start and not item.blocked_reason)

    def stoppable(self) -> tuple[str, ...]:
        """Return the ids of the running instances that are not blocked, in order."""
        running = InstanceState.RUNNING
        return tuple(item.id for item in self.instances if item.state is running and not item.blocked_reason)

    @property
    def machines(self) -> int:
        """The number of machines that users count."""
        return sum(instance.machines for instance in self.instances)

    @property
    def machines_running(self) -> int:
        """The number of machines that run."""
        return sum(instance.machines_running for instance in self.instances)

    @property
    def machines_ready(self) -> int:
        """The number of machines that are ready."""
        return sum(instance.machines_ready for instance in self.instances)

    def count(self, state: InstanceState) -> int:
        """Count the instances in `state`."""
        return sum(instance.state is state for instance in self.instances)

    def all_in(self, state: InstanceState) -> bool:
        """Whether there is an instance, and all instances are in `state`."""
        return bool(self.instances) and self.count(state) == len(self.instances)

    @property
    def all_ready(self) -> bool:
        """Whether there is an instance, and all instances are ready."""
        return bool(self.instances) and all(instance.ready for instance in self.instances)

    def with_checks(self, checks: Mapping[str, StatusCheck]) -> "Observation":
        """Return the observation with the status checks of the running instances, given by id.

        An instance without an entry runs since the observation.
        """
        return replace(
            self,
            instances=tuple(
                replace(item, check=checks.get(item.id) or StatusCheck(self.at))
                if item.state is InstanceState.RUNNING
                else item
                for item in self.instances
            ),
        )

    def with_states(self, states: Mapping[str, InstanceState]) -> "Observation":
        """Return the observation with the given states, by instance id, in place of the observed ones."""
        return replace(self, instances=_corrected(self.instances, states))


def _corrected(instances: Iterable[Instance], states: Mapping[str, InstanceState]) -> tuple[Instance, ...]:
    return tuple(
        replace(instance, state=states[instance.id], start_incomplete=False)
        if instance.id in states
        else instance
        for instance in instances
    )
