"""A cloud service behind the port: its own few calls, joined with the shared inventory and the sender."""

from asyncio import TaskGroup
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.aws.rds import RdsApi
from booking_operator.cloud.batching.batch import Change, Item, Task
from booking_operator.cloud.batching.fair_queue import Parcel
from booking_operator.cloud.batching.lane import Lane
from booking_operator.cloud.batching.retry import Sight
from booking_operator.cloud.batching.sender import Sender
from booking_operator.cloud.batching.token_bucket import LimitsOf, published_limits
from booking_operator.cloud.driver import Action, CloudError, Demand, Group, InventoryListener, Order, Scope
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.cloud.inventory.polling import ScopeWatch
from booking_operator.cloud.inventory.view import ActionAnswer, Record
from booking_operator.cloud.metrics import UNMEASURED, CloudMetrics
from booking_operator.domain.instance import Lock, Observation
from booking_operator.engine.clock import Clock
from booking_operator.engine.fence import MayWrite
from booking_operator.engine.introspection import Contents


class Api(Protocol):
    """The calls of one service, in the operator's own terms.

    Attributes:
        most: for how many instances one call can be made.
        lanes: by which call of the service each action is done, as its limits are counted.
    """

    @property
    def most(self) -> int: ...  # noqa: D102
    @property
    def lanes(self) -> Mapping[Action, str]: ...  # noqa: D102

    async def describe(self, scope: Scope) -> list[Record]:
        """All instances of `scope` that carry the application tag, and exist; raises `CloudError`."""
        ...

    async def ready(self, scope: Scope) -> None:
        """Have client and credentials at hand, so that a call need not wait for them; raises `CloudError`."""
        ...

    async def perform(self, scope: Scope, change: Change, ids: Sequence[str]) -> Mapping[str, ActionAnswer]:
        """Make one call; the answer has those for which it was accepted; raises `CloudError`."""
        ...

    async def release(self, scope: Scope) -> None:
        """Let go of what is kept for a scope; a later call may still name it."""
        ...


class ServiceDriver:
    """`cloud.driver.Driver` for any service. Opened by `Service.driver`."""

    def __init__(self, inventory: Inventory, sender: Sender) -> None:
        self._inventory = inventory
        self._sender = sender

    def observation(self, group: Group) -> Observation | None:
        """The newest view of the group at hand, without asking the service; None when it was never seen."""
        return self._inventory.observation(group)

    def managed_tags(self, scope: Scope) -> frozenset[str]:
        """Tags of the groups that ask for a Resource; empty when the scope was never seen."""
        return self._inventory.managed_tags(scope)

    def failure(self, scope: Scope) -> CloudError | None:
        """Why the newest view of `scope` is older than it should be; None when it is not."""
        return self._inventory.failure(scope)

    async def refresh(self, scope: Scope, since: datetime) -> datetime:
        """Have a view of `scope` that was asked for at `since` or later (aware UTC); shared with all who ask.

        Returns:
            When it was asked for.

        Raises:
            CloudError: the service did not answer.
        """
        return await self._inventory.refresh(scope, since)

    def start(self, order: Order) -> None:
        """Have instances started, with those of other orders that are due by then."""
        self._sender.submit(order, Change(Action.START), list(order.futures))

    def stop(self, order: Order, *, hibernate: bool = False) -> None:
        """Have instances stopped; with `hibernate` those that can are hibernated, if EC2 does not refuse."""
        scope = order.group.scope
        able = set(self._inventory.hibernating(scope, order.futures)) if hibernate else set()
        self._sender.submit(order, Change(Action.STOP), [id_ for id_ in order.futures if id_ not in able])
        self._sender.submit(order, Change(Action.HIBERNATE), [id_ for id_ in order.futures if id_ in able])

    def set_lock_tags(self, order: Order, lock: Lock | None) -> None:
        """Have `lock` written into the lock tags of instances, or with None the tags removed."""
        change = Change(Action.TAG, lock) if lock else Change(Action.UNTAG)
        self._sender.submit(order, change, list(order.futures))

    async def expected(self, orders: Collection[Order]) -> Mapping[Order, datetime]:
        """When the last of what waits of starts and stops will leave, by the model; of those that wait."""
        leaves: dict[Order, datetime] = {}
        for scope in dict.fromkeys(order.group.scope for order in orders):
            for action in (Action.START, Action.STOP):
                leaves |= await self._sender.lane(scope, action).forecast()
        return {order: leaves[order] for order in orders if order in leaves}

    async def forecast(self, demands: Sequence[Demand]) -> Sequence[datetime]:
        """When the last instance of each demand would leave, after all that waits already."""
        items = [_item(demand) for demand in demands]
        leaves: dict[Order, datetime] = {}
        for scope, action in dict.fromkeys((demand.group.scope, demand.action) for demand in demands):
            mine = [
                item
                for item, demand in zip(items, demands, strict=True)
                if (demand.group.scope, demand.action) == (scope, action)
            ]
            leaves |= await self._sender.lane(scope, action).forecast(mine)
        return [
            leaves.get(item.payload.order, demand.at) for item, demand in zip(items, demands, strict=True)
        ]

    @property
    def lanes(self) -> Collection[Lane]:
        """Where calls wait for their turn, those that there has been something to do in."""
        return self._sender.lanes

    def set_listener(self, listener: InventoryListener) -> None:
        """Keep what `audience` names observed from now on, and tell it of what changes."""
        self._inventory.set_listener(listener)

    def introspect(self) -> Contents:
        """The keys of what the sender keeps."""
        return self._sender.introspect()


def _item(demand: Demand) -> Item:
    """A parcel for a forecast: its instances are numbers, and nobody waits for them."""
    order = Order(demand.group, {}, demand.at, demand.tenant)
    change = Change(demand.action)
    ids = [str(number) for number in range(demand.count)]
    return Parcel(Task(order, change), ids, demand.tenant, demand.at, demand.at, demand.at, (change,))


class Service:
    """One service: its instances as they were last seen, and drivers that change them.

    The view lasts, the drivers come and go: a replica that does not lead keeps the one and has none of the
    other.
    """

    def __init__(
        self,
        api: Api,
        clock: Clock,
        tasks: TaskGroup,
        limits: LimitsOf = published_limits,
        *,
        metrics: CloudMetrics = UNMEASURED,
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._inventory = Inventory(api.describe, clock, tasks, release=api.release, metrics=metrics)
        tasks.create_task(self._inventory.poll(), name="inventory poll")

    @property
    def watched(self) -> Mapping[Scope, ScopeWatch]:
        """The scopes that are polled."""
        return self._inventory.watched

    def set_listener(self, listener: InventoryListener) -> None:
        """Keep what `audience` names observed from now on, and tell it of what changes."""
        self._inventory.set_listener(listener)

    def introspect(self) -> Contents:
        """The scopes that are viewed, whether somebody asks for them still or not."""
        return self._inventory.introspect()

    def driver(self, tasks: TaskGroup) -> ServiceDriver:
        """A driver whose calls are tasks of `tasks`; when those end, what waits is withdrawn."""
        api, inventory = self._api, self._inventory
        sight = Sight(inventory.refresh, inventory.state_of, inventory.pool, inventory.failed_start_error)
        sender = Sender(
            api.ready,
            api.perform,
            self._accept,
            sight,
            self._clock,
            tasks,
            most=api.most,
            lanes=api.lanes,
            limits=self._limits,
            metrics=self._metrics,
        )
        return ServiceDriver(inventory, sender)

    def _accept(self, group: Group, change: Change, answers: Mapping[str, ActionAnswer]) -> None:
        if change.action in {Action.TAG, Action.UNTAG}:
            self._inventory.record_lock(group, list(answers), change.lock)
        else:
            self._inventory.record_answers(group, answers)


@asynccontextmanager
async def open_services(
    clock: Clock,
    accounts: Accounts,
    limits: LimitsOf = published_limits,
    may_write: MayWrite = lambda: True,
    *,
    metrics: CloudMetrics = UNMEASURED,
) -> AsyncIterator[dict[str, Service]]:
    """All services, by their `spec.type`, for the length of the context.

    The operator's own credentials and endpoints come from the environment, as botocore finds them. A service
    that nobody has a group in is never called.

    Args:
        clock: what tells the time.
        accounts: the operator's own account, and those that its configuration names.
        limits: the request limits of an action in a region of an account.
        may_write: whether anything may be changed at this instant; asked right before a call leaves.
        metrics: what measures the calls.
    """
    async with (
        AwsClients(clock, accounts, may_write, metrics=metrics) as sessions,
        serving(sessions, clock, limits, metrics=metrics) as services,
    ):
        yield services


@asynccontextmanager
async def serving(
    sessions: AwsClients,
    clock: Clock,
    limits: LimitsOf = published_limits,
    *,
    metrics: CloudMetrics = UNMEASURED,
) -> AsyncIterator[dict[str, Service]]:
    """All services with the clients of `sessions`, for the length of the context."""
    gate = DescribeLimiter(limits, clock)
    apis: dict[str, Api] = {
        "ec2": Ec2Api(sessions, gate, metrics=metrics),
        "rds": RdsApi(sessions, gate, metrics=metrics),
    }
    try:
        async with TaskGroup() as tasks:
            yield {name: Service(api, clock, tasks, limits, metrics=metrics) for name, api in apis.items()}
            raise _Closed  # noqa: TRY301 - raised here to be caught here
    except* _Closed:
        pass


class _Closed(Exception):  # noqa: N818 - no error: the way out of a task group is to raise in it
    """Ends the tasks of services that are no longer needed."""
