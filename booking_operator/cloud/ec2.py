"""EC2: one shared inventory, and actions that answer for each instance on its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from booking_operator.cloud.driver import APPLICATION_TAG, Accepted, CloudError, Group
from booking_operator.cloud.errors import RAISED, named_ids, translated
from booking_operator.cloud.inventory import Fleet, Inventory, Spawn, scope_of
from booking_operator.cloud.session import Clients, Scope
from booking_operator.domain.instance import Instance, Observation, State
from booking_operator.engine.clock import Clock

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import InstanceTypeDef

PAGE_SIZE = 1000
MOST_IDS = 1000
"""Ids in one StartInstances or StopInstances."""


@dataclass(frozen=True, slots=True)
class _Action:
    """One request to change power. The ones with the earliest deadline leave first."""

    name: str
    group: Group
    futures: dict[str, "asyncio.Future[State]"]
    deadline: datetime
    hibernate: bool = False


class Ec2Driver:
    """Implements `cloud.driver.Driver`."""

    def __init__(self, clients: Clients, clock: Clock, spawn: Spawn) -> None:
        self._clients = clients
        self._spawn = spawn
        self._log = structlog.get_logger()
        self.inventory = Inventory(self._describe, clock, spawn)

    def track(self, groups: Callable[[], Collection[Group]], changed: Callable[[Group], None]) -> None:
        """Keep all `groups` observed from now on, and call `changed` for each that looks different."""
        self.inventory.track(groups, changed)

    def last(self, group: Group) -> Observation | None:
        """The newest view of the group at hand."""
        return self.inventory.last(group)

    async def observe(self, group: Group, since: datetime) -> Observation:
        """A view of the group that was asked for at `since` or later.

        Raises:
            CloudError: EC2 did not answer.
        """
        return await self.inventory.observe(group, since)

    def start(self, group: Group, ids: Collection[str], *, deadline: datetime) -> Accepted:
        """Start instances."""
        return self._enqueue("StartInstances", group, ids, deadline)

    def stop(
        self, group: Group, ids: Collection[str], *, deadline: datetime, hibernate: bool = False
    ) -> Accepted:
        """Stop instances; with `hibernate` by hibernation, those that were launched for it."""
        able = self.inventory.hibernating(group) if hibernate else frozenset()
        sleeping, plain = [id_ for id_ in ids if id_ in able], [id_ for id_ in ids if id_ not in able]
        accepted = self._enqueue("StopInstances", group, sleeping, deadline, hibernate=True)
        return {**accepted, **self._enqueue("StopInstances", group, plain, deadline)}

    def _enqueue(
        self, name: str, group: Group, ids: Collection[str], deadline: datetime, *, hibernate: bool = False
    ) -> dict[str, "asyncio.Future[State]"]:
        """Send at once, one call per request. This is where requests of many groups can be gathered."""
        loop = asyncio.get_running_loop()
        futures = {id_: loop.create_future() for id_ in ids}
        for some in _chunks(sorted(futures), MOST_IDS):
            part = {id_: futures[id_] for id_ in some}
            self._spawn(self._send(_Action(name, group, part, deadline, hibernate)))
        return futures

    async def _send(self, action: _Action) -> None:
        """One call; ids that EC2 refuses by name are dropped, and the others are sent again."""
        pending = dict(action.futures)
        log = self._log.bind(action=action.name, tag=action.group.tag, region=action.group.region)
        try:
            while pending:
                try:
                    states = await self._change_power(action, list(pending))
                except RAISED as error:
                    refused = named_ids(error) & pending.keys()
                    if action.hibernate and not refused:
                        log.warning("hibernation_refused", ids=list(pending), error=str(error))
                        action = _Action(action.name, action.group, action.futures, action.deadline)
                        continue
                    failure = translated(error, action.name)
                    log.warning("action_refused", ids=sorted(refused or pending), reason=failure.reason)
                    for id_ in refused or set(pending):
                        _fail(pending.pop(id_), failure)
                else:
                    log.info("action_accepted", ids=sorted(pending))
                    self.inventory.note(action.group, states)
                    for id_, future in pending.items():
                        if not future.done():
                            future.set_result(states.get(id_, State.PENDING))
                    pending = {}
        finally:
            for future in pending.values():
                future.cancel()

    async def _change_power(self, action: _Action, ids: list[str]) -> dict[str, State]:
        client = await self._clients.ec2(scope_of(action.group))
        changes: Any
        if action.name == "StartInstances":
            changes = (await client.start_instances(InstanceIds=ids))["StartingInstances"]
        elif action.hibernate:
            changes = (await client.stop_instances(InstanceIds=ids, Hibernate=True))["StoppingInstances"]
        else:
            changes = (await client.stop_instances(InstanceIds=ids))["StoppingInstances"]
        return {
            change["InstanceId"]: State(change["CurrentState"]["Name"])
            for change in changes
            if change["CurrentState"]["Name"] in set(State)
        }

    async def _describe(self, scope: Scope) -> Fleet:
        """All tagged instances of a scope.

        Raises:
            CloudError: EC2 did not answer.
        """
        groups: dict[str, list[Instance]] = {}
        hibernating = set()
        try:
            client = await self._clients.ec2(scope)
            pages = client.get_paginator("describe_instances").paginate(
                Filters=[
                    {"Name": "tag-key", "Values": [APPLICATION_TAG]},
                    {"Name": "instance-state-name", "Values": [state.value for state in State]},
                ],
                PaginationConfig={"PageSize": PAGE_SIZE},
            )
            async for page in pages:
                for reservation in page["Reservations"]:
                    for described in reservation.get("Instances", []):
                        groups.setdefault(_tag(described), []).append(_instance(described))
                        if described.get("HibernationOptions", {}).get("Configured"):
                            hibernating.add(described["InstanceId"])
        except RAISED as error:
            raise translated(error, "DescribeInstances") from error
        ordered = {
            tag: tuple(sorted(found, key=lambda instance: instance.id)) for tag, found in groups.items()
        }
        return Fleet(ordered, frozenset(hibernating))


@asynccontextmanager
async def open_driver(clock: Clock) -> AsyncIterator[Ec2Driver]:
    """An EC2 driver that polls and acts until the context ends; what is under way then is cancelled."""
    async with Clients() as clients, asyncio.TaskGroup() as tasks:
        running: set[asyncio.Task[None]] = set()

        def spawn(work: Coroutine[Any, Any, None]) -> None:
            task = tasks.create_task(work)
            running.add(task)
            task.add_done_callback(running.discard)

        driver = Ec2Driver(clients, clock, spawn)
        spawn(driver.inventory.run())
        try:
            yield driver
        finally:
            for task in running:
                task.cancel()


def _fail(future: "asyncio.Future[State]", error: CloudError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen, even where the asker is gone


def _chunks(ids: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    return (ids[first : first + most] for first in range(0, len(ids), most))


def _tag(described: "InstanceTypeDef") -> str:
    return next(
        (tag.get("Value", "") for tag in described.get("Tags", []) if tag.get("Key") == APPLICATION_TAG), ""
    )


def _instance(described: "InstanceTypeDef") -> Instance:
    return Instance(described["InstanceId"], State(described["State"]["Name"]))
