"""EC2, RDS, Auto Scaling and ECS in memory.

There are slow transitions, request limits, stale Describes, and missing capacity. Each instance keeps the
history of its states. The oracle compares statuses and calls with this history.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from booking_operator.cloud.aws.scalable_targets import parse_suspended
from booking_operator.cloud.aws.tags import APPLICATION_TAG, LOCK_TAGS
from booking_operator.domain.capacity import CAPACITY_TAG
from booking_operator.domain.group import Scope
from tests.sim.kernel import Kernel
from tests.support.aws_limits import Limits

TRANSITIONS = {"ec2": (4.0, 40.0), "rds": (20.0, 120.0), "asg": (10.0, 90.0), "ecs": (5.0, 60.0)}
"""Minimum and maximum duration of a start or stop, in seconds."""
CHECKS = (5.0, 120.0)
"""Minimum and maximum time until the status checks of a running instance pass, in seconds."""
DESCRIBED = {"DescribeInstances": "ec2", "DescribeDBInstances": "rds", "DescribeAutoScalingGroups": "asg"}
"""The calls that show all instances of a service. ECS needs two: `GetResources` and `DescribeServices`."""
SCALED = frozenset({"asg", "ecs"})
"""The services that are switched by a size."""
RESIZES = frozenset({"UpdateAutoScalingGroup", "UpdateService"})
"""The calls that set a size."""
READS = ("Describe", "Get")
"""The beginnings of the names of calls that change nothing."""
OFF = "0/0/0"
"""The size of a group that is off."""
_ID_PREFIXES = {"ec2": "i-", "rds": "db:d", "asg": "asg-", "ecs": "main/s"}
_RDS_STATES = {"running": "available", "pending": "starting", "stopped": "stopped", "stopping": "stopping"}


@dataclass
class Machine:
    """One EC2 instance, DB instance, Auto Scaling group, or ECS service.

    A group has one machine while it is on, and a service has one task.

    Attributes:
        id: the instance id; for a DB instance `db:` and its name; for a group its name; for a service
            `cluster/service`.
        pool: the instance type and the zone, such as `m5.large in eu-west-1a`.
        history: (instant, state): each state, with the instant at which it began (true time).
        terminated: the instant of the termination; None before it.
        last_action: the process that last started or stopped it (empty for a user), and the instant.
        checked_at: when its status checks pass after the last start (true time).
        capacity: the present size of a group or service, `min/max/desired`; empty for all others.
        wanted_capacity: the size that users want while it is on.
        resized_at: when a user changed it last (true time).
        suspended: the suspended scaling activities of a service; None without a scalable target.
        wanted_suspended: those that users want suspended while it is on.
    """

    id: str
    service: str
    scope: Scope
    pool: str
    tags: dict[str, str]
    history: list[tuple[float, str]] = field(default_factory=lambda: [(-1e9, "stopped")])
    terminated: float | None = None
    last_action: tuple[str, float] = ("", -1e9)
    checked_at: float = -1e9
    capacity: str = ""
    wanted_capacity: str = ""
    resized_at: float = -1e9
    suspended: frozenset[str] | None = None
    wanted_suspended: frozenset[str] | None = None

    def state_at(self, seconds: float) -> str:
        """Return the state at an instant (true time)."""
        if self.terminated is not None and self.terminated <= seconds:
            return "terminated"
        return next((state for since, state in reversed(self.history) if since <= seconds), "stopped")

    def states(self, since: float, until: float) -> set[str]:
        """Return all states between two instants, both included."""
        seen = {self.state_at(since), self.state_at(until)}
        return seen | {state for at, state in self.history if since < at <= until}


@dataclass
class CloudFaults:
    """The current faults of AWS.

    Attributes:
        throttled: the share of calls that AWS throttles because of other clients in the account.
        broken: the share of calls that fail with a server error.
        lag: the maximum age of the states that a Describe shows, in seconds.
        no_capacity: a pool with little capacity; empty for none.
        capacity: how many instances may run in this pool.
        failing_instance: the id of an instance. Each action that includes it fails, with an error that does
            not name it.
    """

    throttled: float = 0.0
    broken: float = 0.0
    lag: float = 0.5
    no_capacity: str = ""
    capacity: int = 0
    failing_instance: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has arrived at AWS.

    Attributes:
        client: the name of the calling process.
        sent_at: when the call left the process (true time).
        error: the error code of the response; empty for success.
        verb: `start` or `stop` for a call that switches instances, `release` for one that removes their lock
            tags; empty for all others.
    """

    client: str
    action: str
    scope: Scope
    ids: tuple[str, ...]
    sent_at: float
    error: str = ""
    verb: str = ""


class SimAws:
    """All regions of all accounts.

    Attributes:
        machines: all instances by id, terminated ones included.
        faults: the current faults.
        on_call: called with each call.
    """

    def __init__(self, kernel: Kernel, seed: str) -> None:
        self.machines: dict[str, Machine] = {}
        self.faults = CloudFaults()
        self.on_call: Callable[[Call], None] = lambda _: None
        self._kernel = kernel
        self._random = random.Random(f"{seed}/aws")
        self._check_seconds = random.Random(f"{seed}/checks")
        self._limits = Limits()

    def add(
        self, service: str, scope: Scope, tag: str, pool: str = "m5.large in eu-west-1a", **tags: str
    ) -> Machine:
        """Create an instance in the state `stopped`."""
        id_ = f"{_ID_PREFIXES[service]}{len(self.machines):04}"
        machine = Machine(id_, service, scope, pool, {APPLICATION_TAG: tag} | tags)
        if service in SCALED:
            machine.pool, machine.capacity, machine.wanted_capacity = "none", OFF, "1/4/1"
        if service == "ecs":
            # Half of the services have a scalable target. For half of these, a user has suspended something.
            number = len(self.machines)
            if number % 2:
                machine.suspended = frozenset({"DynamicScalingIn"} if number % 4 == 1 else ())
                machine.wanted_suspended = machine.suspended
            else:
                machine.wanted_capacity = "1/1/1"
        if service in SCALED:
            machine.tags[CAPACITY_TAG] = machine.wanted_capacity
        self.machines[id_] = machine
        return machine

    # Actions of users in the console.

    def by_hand(self, id_: str, verb: str) -> None:
        """Start, stop or terminate an instance. A service that may scale to zero is not stopped by hand."""
        machine = self.machines[id_]
        if verb == "stop" and machine.suspended is not None and machine.wanted_capacity.startswith("0/"):
            return
        if verb == "terminate":
            machine.terminated = machine.terminated or self._kernel.now
        else:
            if machine.service in SCALED:
                if verb == "stop":
                    machine.wanted_capacity = machine.tags[CAPACITY_TAG]
                machine.capacity = machine.wanted_capacity if verb == "start" else OFF
                machine.resized_at = self._kernel.now
            self._change_state(machine, verb, "")

    def resize(self, id_: str, capacity: str) -> None:
        """Change the size of a group or service that is on; a no-op for all others."""
        machine = self.machines[id_]
        if machine.capacity not in {"", OFF}:
            if machine.service == "ecs" and machine.suspended is None:
                capacity = "1/1/1"  # without a scalable target there are no limits
            machine.capacity = machine.wanted_capacity = capacity
            machine.resized_at = self._kernel.now

    # Calls of clients. `serve` runs at the instant at which a call arrives.

    def serve(
        self, client: str, sent_at: float, action: str, scope: Scope, ids: Sequence[str], lock: Any
    ) -> Any:
        """Process one call and return the response.

        `lock` is the content of its tags, or the size that it gives to a group.

        Raises:
            ClientError: AWS refuses the call.
        """
        verb = _verb(action, lock)
        try:
            answer = self._serve(client, action, scope, ids, lock)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            self.on_call(Call(client, action, scope, tuple(ids), sent_at, code, verb))
            raise
        self.on_call(Call(client, action, scope, tuple(ids), sent_at, verb=verb))
        return answer

    def _serve(self, client: str, action: str, scope: Scope, ids: Sequence[str], lock: Any) -> Any:
        faults, draw = self.faults, self._random.random()
        if draw < faults.throttled:
            raise client_error(action, "RequestLimitExceeded", "Request limit exceeded.")
        if draw < faults.throttled + faults.broken:
            raise client_error(action, "InternalError", "An internal error has occurred.", 500)
        if not self._limits.admits(scope.account, scope.region, action, len(ids), self._kernel.now):
            raise client_error(
                action, "RequestLimitExceeded", "Request limit exceeded by calls of this client."
            )
        if action.startswith(READS):
            return self._describe(action, scope, ids)
        for id_ in ids:
            machine = self.machines.get(id_)
            if machine is None or machine.state_at(self._kernel.now) == "terminated":
                raise client_error(
                    action, "InvalidInstanceID.NotFound", f"The instance ID '{id_}' does not exist"
                )
        if faults.failing_instance in ids:
            raise client_error(action, "InvalidParameterCombination", "The parameter combination is invalid.")
        if "tag" in action.lower():
            return self._tag(ids, lock)
        if action == "RegisterScalableTarget":
            return self._suspend(self.machines[ids[0]], lock)
        return self._switch(client, action, ids, lock)

    def _suspend(self, machine: Machine, activities: str) -> None:
        """Suspend scaling activities. As in AWS, this moves the size between the limits of the target."""
        machine.suspended = parse_suspended(activities)
        low, high, _ = machine.wanted_capacity.split("/")
        if machine.capacity == OFF and low != "0":
            machine.capacity = f"{low}/{high}/{low}"
            self._change_state(machine, "start", "")

    def _switch(self, client: str, action: str, ids: Sequence[str], lock: Any) -> Any:
        """Start or stop instances, or set the size of a group or service."""
        verb = _verb(action, lock)
        self._check(action, verb, ids)
        if action in RESIZES:
            self._resize(self.machines[ids[0]], lock)
        return {id_: self._change_state(self.machines[id_], verb, client) for id_ in ids}

    def _resize(self, machine: Machine, size: str) -> None:
        """Apply the size of a call: `min/max/desired` for a group, the number of tasks for a service."""
        low, high, _ = machine.wanted_capacity.split("/")
        if machine.service == "ecs":
            size = f"{low}/{high}/{size}" if size != "0" else OFF
        machine.capacity = size

    def _check(self, action: str, verb: str, ids: Sequence[str]) -> None:
        for id_ in ids:
            machine = self.machines[id_]
            state = machine.state_at(self._kernel.now)
            bad = "stopping" if verb == "start" else "pending"
            if state == bad and machine.service == "ec2":
                text = f"The instance '{id_}' is not in a state from which it can be {verb}ed."
                raise client_error(action, "IncorrectInstanceState", text)
            if machine.service == "rds" and state != ("stopped" if verb == "start" else "running"):
                raise client_error(
                    action,
                    "InvalidDBInstanceState",
                    f"Instance {id_[3:]} is not in a valid state for this action.",
                )
        if verb == "start":
            self._check_capacity(action, ids)

    def _check_capacity(self, action: str, ids: Sequence[str]) -> None:
        pool, now = self.faults.no_capacity, self._kernel.now
        on = {
            id_
            for id_, machine in self.machines.items()
            if machine.pool == pool and machine.state_at(now) in {"running", "pending"}
        }
        asked = {id_ for id_ in ids if self.machines[id_].pool == pool}
        if asked - on and len(asked | on) > self.faults.capacity:
            type_, _, zone = pool.partition(" in ")
            text = (
                f"We currently do not have sufficient {type_} capacity in the Availability Zone you "
                f"requested ({zone})."
            )
            raise client_error(action, "InsufficientInstanceCapacity", text, 500)

    def _change_state(self, machine: Machine, verb: str, client: str) -> tuple[str, str]:
        now = self._kernel.now
        before = machine.state_at(now)
        target, transitional = ("running", "pending") if verb == "start" else ("stopped", "stopping")
        if before not in {target, transitional}:
            arrival = now + self._random.uniform(*TRANSITIONS[machine.service])
            machine.history = [item for item in machine.history if item[0] <= now]
            machine.history += [(now, transitional), (arrival, target)]
            machine.last_action = client, now
            machine.checked_at = arrival + self._check_seconds.uniform(*CHECKS)
        return before, machine.state_at(now)

    def _tag(self, ids: Sequence[str], change: dict[str, str] | tuple[str, ...] | None) -> None:
        """Write the tags of a dict, or remove those that a tuple names; None removes the lock tags."""
        for id_ in ids:
            tags = self.machines[id_].tags
            if isinstance(change, dict):
                tags |= change
            else:
                for key in LOCK_TAGS if change is None else change:
                    tags.pop(key, None)

    def _checks(self, ids: Sequence[str]) -> list[tuple[str, bool]]:
        """Return the running instances of `ids`, and whether their status checks have passed."""
        now = self._kernel.now
        running = (self.machines[id_] for id_ in ids if self.machines[id_].state_at(now) == "running")
        return [(machine.id, machine.checked_at <= now) for machine in running]

    def _describe(self, action: str, scope: Scope, ids: Sequence[str]) -> list[Any]:
        """Return the instances with their states. Those that a call names are not stale."""
        if action == "DescribeInstanceStatus":
            return self._checks(ids)
        instant = self._kernel.now - (0 if ids else self._random.uniform(0, self.faults.lag))
        if action == "DescribeDBClusters":
            return []
        if action in {"DescribeServices", "DescribeScalableTargets"}:
            found = (self.machines[id_] for id_ in ids)
            return [(machine, machine.state_at(instant)) for machine in found if machine.scope == scope]
        service = "ecs" if action == "GetResources" else DESCRIBED[action]
        return [
            (machine, machine.state_at(instant))
            for machine in self.machines.values()
            if machine.service == service
            and machine.scope == scope
            and (not ids or machine.id in ids)
            and machine.state_at(instant) != "terminated"
        ]


def _verb(action: str, size: Any) -> str:
    """Return `start` or `stop` for a call that switches instances, and `release` for one that unlocks them.

    For all others, the result is empty.
    """
    if action in RESIZES:
        return "stop" if size in {OFF, "0"} else "start"
    if action in {"DeleteTags", "RemoveTagsFromResource"} or (
        action == "UntagResource" and size == LOCK_TAGS
    ):
        return "release"
    return next((verb for verb in ("start", "stop") if action.startswith(verb.capitalize())), "")


def client_error(action: str, code: str, message: str, status: int = 400) -> ClientError:
    """Return an error in the form that botocore raises."""
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, action)


def rds_state(state: str) -> str:
    """Return the RDS name of a state."""
    return _RDS_STATES[state]
