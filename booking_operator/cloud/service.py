"""The cloud services: the API calls of one AWS service each, and its inventory.

During a leadership, `Service.driver` adds a batcher, which starts and stops instances.
"""

from asyncio import TaskGroup
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.aws.auto_scaling import AutoScalingApi
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.aws.ecs import EcsApi
from booking_operator.cloud.aws.rds import RdsApi
from booking_operator.cloud.batching.batcher import Batcher
from booking_operator.cloud.batching.token_bucket import LimitsOf, published_limits
from booking_operator.cloud.driver import ServiceApi, ServiceListener
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.cloud.inventory.polling import ScopeWatch
from booking_operator.cloud.inventory.status_checks import StatusChecks
from booking_operator.domain.group import Scope
from booking_operator.engine.clock import Clock
from booking_operator.engine.fence import MayWrite
from booking_operator.engine.introspection import Contents
from booking_operator.metrics import NO_METRICS, CloudMetrics


@dataclass(frozen=True, slots=True)
class Driver:
    """One service as the reconcilers use it, during one leadership.

    Attributes:
        inventory: the last observation of the instances.
        checks: the status checks of running instances.
        batcher: starts, stops and tags instances.
    """

    inventory: Inventory
    checks: StatusChecks
    batcher: Batcher

    def set_listener(self, listener: ServiceListener) -> None:
        """Poll what `listener` selects from now on, and notify it of changes."""
        _listen(self.inventory, self.checks, listener)

    def introspect(self) -> Contents:
        """The keys in the collections of the batcher."""
        return self.batcher.introspect()


def _listen(inventory: Inventory, checks: StatusChecks, listener: ServiceListener) -> None:
    inventory.set_listener(listener)
    checks.set_listener(listener)


class Service:
    """One service: a permanent inventory, and drivers that change instances.

    The inventory exists on every replica. A driver exists only during a leadership.
    """

    def __init__(
        self,
        api: ServiceApi,
        clock: Clock,
        tasks: TaskGroup,
        limits: LimitsOf = published_limits,
        *,
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._inventory = Inventory(api.describe, clock, tasks, release=api.release, metrics=metrics)
        self._checks = StatusChecks(api.check, self._inventory, clock, tasks, metrics=metrics)
        tasks.create_task(self._inventory.poll(), name="inventory poll")
        tasks.create_task(self._checks.poll(), name="status check poll")

    @property
    def inventory(self) -> Inventory:
        """The views of the instances."""
        return self._inventory

    @property
    def watched(self) -> Mapping[Scope, ScopeWatch]:
        """The scopes that are polled."""
        return self._inventory.watched

    def set_listener(self, listener: ServiceListener) -> None:
        """Poll the scopes that `listener` selects from now on, and notify it of changes."""
        _listen(self._inventory, self._checks, listener)

    def introspect(self) -> Contents:
        """The scopes of the inventory."""
        return self._inventory.introspect()

    def driver(self, tasks: TaskGroup) -> Driver:
        """Create a driver whose calls are tasks of `tasks`.

        When they end, the driver cancels its waiting orders.
        """
        batcher = Batcher(self._api, self._inventory, self._clock, tasks, self._limits, self._metrics)
        return Driver(self._inventory, self._checks, batcher)


@asynccontextmanager
async def open_services(
    clock: Clock,
    accounts: Accounts,
    limits: LimitsOf = published_limits,
    may_write: MayWrite = lambda: True,
    *,
    metrics: CloudMetrics = NO_METRICS,
) -> AsyncIterator[dict[str, Service]]:
    """Open all services for the duration of the context; the keys are the values of `spec.type`.

    botocore finds the operator's own credentials and endpoints in the environment. A service without groups
    makes no call.

    Args:
        clock: the clock.
        accounts: the operator's own account, and those in its configuration.
        limits: the request limits of an action in a region of an account.
        may_write: whether this replica may write now; called right before a call is sent.
        metrics: measures the calls.
    """
    async with (
        AwsClients(clock, accounts, may_write, metrics=metrics) as clients,
        serving(clients, clock, limits, metrics=metrics) as services,
    ):
        yield services


@asynccontextmanager
async def serving(
    clients: AwsClients,
    clock: Clock,
    limits: LimitsOf = published_limits,
    *,
    metrics: CloudMetrics = NO_METRICS,
) -> AsyncIterator[dict[str, Service]]:
    """Create all services with the clients of `clients`, for the duration of the context."""
    describes = DescribeLimiter(limits, clock)
    apis: dict[str, ServiceApi] = {
        "ec2": Ec2Api(clients, describes, metrics=metrics),
        "rds": RdsApi(clients, describes, clock, metrics=metrics),
        "asg": AutoScalingApi(clients, describes, metrics=metrics),
        "ecs": EcsApi(clients, describes, metrics=metrics),
    }
    try:
        async with TaskGroup() as tasks:
            yield {name: Service(api, clock, tasks, limits, metrics=metrics) for name, api in apis.items()}
            raise _Closed  # noqa: TRY301 - caught by the except* below
    except* _Closed:
        pass


class _Closed(Exception):  # noqa: N818 - not an error: it ends the task group
    """Cancels the tasks of the services at the end of the context."""
