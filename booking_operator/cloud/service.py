"""A cloud service behind the port: its own few calls, joined with the shared inventory and the sender."""

from asyncio import TaskGroup
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from booking_operator.cloud.accounts import Accounts
from booking_operator.cloud.driver import Accepted, Audience, CloudError, Group, Scope
from booking_operator.cloud.ec2 import Ec2Api
from booking_operator.cloud.errors import InstancesRefusedError
from booking_operator.cloud.inventory import Inventory
from booking_operator.cloud.rds import RdsApi
from booking_operator.cloud.sender import Action, Request, Sender, futures
from booking_operator.cloud.session import Sessions
from booking_operator.cloud.view import Answer, Record
from booking_operator.domain.instance import Lock, Observation
from booking_operator.engine.clock import Clock


class Api(Protocol):
    """The calls of one service, in the operator's own terms.

    Attributes:
        batch: for how many instances one call can be made.
    """

    batch: int

    async def describe(self, scope: Scope) -> list[Record]:
        """All instances of `scope` that carry the application tag, and exist; raises `CloudError`."""
        ...

    async def perform(self, scope: Scope, action: Action, ids: Sequence[str]) -> Mapping[str, Answer]:
        """Make one call; the answer has those for which it was accepted; raises `CloudError`."""
        ...

    async def lock(self, scope: Scope, ids: Sequence[str], lock: Lock | None) -> None:
        """Write lock tags by one call, or with None remove them; raises `CloudError`."""
        ...


class ServiceDriver:
    """`cloud.driver.Driver` for any service. Opened by `open_drivers`."""

    def __init__(self, api: Api, inventory: Inventory, sender: Sender) -> None:
        self._api = api
        self._inventory = inventory
        self._sender = sender

    def last(self, group: Group) -> Observation | None:
        """The newest view of the group at hand, without asking the service; None when it was never seen."""
        return self._inventory.last(group)

    def managed(self, scope: Scope) -> frozenset[str]:
        """Tags of the groups that ask for a Resource; empty when the scope was never seen."""
        return self._inventory.managed(scope)

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

    def start(self, group: Group, ids: Collection[str], *, deadline: datetime) -> Accepted:
        """Start instances; the call leaves with the loop's next turn."""
        accepted = futures(list(ids))
        self._sender.submit(Request(group, Action.START, accepted, deadline))
        return accepted

    def stop(
        self, group: Group, ids: Collection[str], *, deadline: datetime, hibernate: bool = False
    ) -> Accepted:
        """Stop instances; with `hibernate` those that can are hibernated, and stopped if that is refused."""
        accepted = futures(list(ids))
        stop = Request(group, Action.STOP, accepted, deadline)
        able = set(self._inventory.hibernating(group.scope, accepted)) if hibernate else set()
        self._sender.submit(stop.only([id_ for id_ in accepted if id_ not in able]))
        self._sender.submit(stop.only([id_ for id_ in accepted if id_ in able], Action.HIBERNATE))
        return accepted

    async def lock(self, group: Group, ids: Collection[str], lock: Lock | None) -> None:
        """Write `lock` into the lock tags of instances, or with None remove the tags; of gone ones nothing.

        Raises:
            CloudError: the service refused, or did not answer; some may have been written.
        """
        waiting = list(ids)
        while waiting:
            batch = waiting[: self._api.batch]
            try:
                await self._api.lock(group.scope, batch, lock)
            except InstancesRefusedError as error:
                waiting = [id_ for id_ in waiting if id_ not in error.ids]
                continue
            self._inventory.note_lock(group, batch, lock)
            waiting = waiting[len(batch) :]

    def track(self, audience: Audience) -> None:
        """Keep what `audience` names observed from now on, and tell it of what changes."""
        self._inventory.track(audience)


@asynccontextmanager
async def open_drivers(clock: Clock, accounts: Accounts) -> AsyncIterator[dict[str, ServiceDriver]]:
    """Run a driver per service, by its `spec.type`, for the length of the context.

    Then their calls are cancelled, and pending futures too. The operator's own credentials and endpoints come
    from the environment, as botocore finds them. A service that nobody has a group in is never called.
    """
    async with Sessions(clock, accounts) as sessions:
        apis: dict[str, Api] = {"ec2": Ec2Api(sessions), "rds": RdsApi(sessions)}
        try:
            async with TaskGroup() as tasks:
                yield {name: _driver(api, clock, tasks) for name, api in apis.items()}
                raise _Closed  # noqa: TRY301 - raised here to be caught here
        except* _Closed:
            pass


def _driver(api: Api, clock: Clock, tasks: TaskGroup) -> ServiceDriver:
    inventory = Inventory(api.describe, clock, tasks)
    tasks.create_task(inventory.poll())
    return ServiceDriver(api, inventory, Sender(api.perform, inventory.note, tasks, batch=api.batch))


class _Closed(Exception):  # noqa: N818 - no error: the way out of a task group is to raise in it
    """Ends the tasks of drivers that are no longer needed."""
