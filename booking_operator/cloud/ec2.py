"""EC2 behind the port: instances are found by their tag, started and stopped by id."""

import asyncio
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from booking_operator.cloud.driver import APPLICATION_TAG, Accepted, CloudError, Group, Scope
from booking_operator.cloud.errors import translated
from booking_operator.cloud.inventory import Inventory
from booking_operator.cloud.sender import Action, Request, Sender, futures
from booking_operator.cloud.session import Sessions
from booking_operator.cloud.view import Answer, Record
from booking_operator.domain.instance import Instance, Observation, State
from booking_operator.engine.clock import Clock

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        DescribeInstancesRequestTypeDef,
        DescribeInstancesResultTypeDef,
        FilterTypeDef,
        InstanceStateChangeTypeDef,
        InstanceStateTypeDef,
    )

SERVICE = "ec2"
PAGE = 1000
"""Instances in one page, the most that EC2 gives."""
CALL_SECONDS = 60.0
"""For one call in all. The client's own time-outs are per read, so a reply that trickles would never end, and
all who wait for that view with it."""

_FILTERS: list["FilterTypeDef"] = [
    {"Name": "tag-key", "Values": [APPLICATION_TAG]},
    # Terminated instances are shown for an hour yet; all other states count.
    {"Name": "instance-state-name", "Values": list(State)},
]
_KNOWN = frozenset(State)


class Ec2Driver:
    """`cloud.driver.Driver` for EC2. Opened by `open_driver`."""

    def __init__(self, inventory: Inventory, sender: Sender) -> None:
        self._inventory = inventory
        self._sender = sender

    def last(self, group: Group) -> Observation | None:
        """The newest view of the group at hand, without asking EC2; None when it was never seen."""
        return self._inventory.last(group)

    def failure(self, group: Group) -> CloudError | None:
        """Why the newest view of the group is older than it should be; None when it is not."""
        return self._inventory.failure(group)

    async def observe(self, group: Group, since: datetime) -> Observation:
        """A view of the group that was asked for at `since` or later (aware UTC); shared with all who ask.

        Raises:
            CloudError: EC2 did not answer.
        """
        return await self._inventory.observe(group, since)

    def start(self, group: Group, ids: Collection[str], *, deadline: datetime) -> Accepted:
        """Start instances; the call leaves with the loop's next turn."""
        accepted = futures(list(ids))
        self._sender.submit(Request(group, Action.START, accepted, deadline))
        return accepted

    def stop(
        self, group: Group, ids: Collection[str], *, deadline: datetime, hibernate: bool = False
    ) -> Accepted:
        """Stop instances; with `hibernate` those that can are hibernated, and stopped if EC2 refuses."""
        accepted = futures(list(ids))
        stop = Request(group, Action.STOP, accepted, deadline)
        able = set(self._inventory.hibernating(group.scope, accepted)) if hibernate else set()
        self._sender.submit(stop.only([id_ for id_ in accepted if id_ not in able]))
        self._sender.submit(stop.only([id_ for id_ in accepted if id_ in able], Action.HIBERNATE))
        return accepted

    def track(self, groups: Callable[[], Collection[Group]], changed: Callable[[Group], None]) -> None:
        """Keep all `groups` of EC2 observed from now on, and call `changed` for each that looks different."""
        self._inventory.track(lambda: [group for group in groups() if group.service == SERVICE], changed)


@asynccontextmanager
async def open_driver(clock: Clock) -> AsyncIterator[Ec2Driver]:
    """Run the driver for the length of the context; then its calls are cancelled, and pending futures too.

    Credentials, region and endpoint come from the environment, as botocore finds them.
    """
    async with Sessions() as sessions:
        try:
            async with TaskGroup() as tasks:
                api = Ec2Api(sessions)
                inventory = Inventory(api.describe, clock, tasks)
                tasks.create_task(inventory.poll())
                yield Ec2Driver(inventory, Sender(api.perform, inventory.note, tasks))
                raise _Closed  # noqa: TRY301 - raised here to be caught here
        except* _Closed:
            pass


class _Closed(Exception):  # noqa: N818 - no error: the way out of a task group is to raise in it
    """Ends the tasks of a driver that is no longer needed."""


class Ec2Api:
    """The few calls of EC2 that are made, in the operator's own terms."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def describe(self, scope: Scope) -> list[Record]:
        """All instances of `scope` that carry the application tag, and exist.

        Raises:
            CloudError: EC2 did not answer.
        """
        records: list[Record] = []
        token = ""
        while True:
            page = await self._page(scope, token)
            records.extend(_records(page))
            token = page.get("NextToken", "")
            if not token:
                return records

    async def _page(self, scope: Scope, token: str) -> "DescribeInstancesResultTypeDef":
        client = await self._sessions.ec2(scope)
        query: DescribeInstancesRequestTypeDef = {"Filters": _FILTERS, "MaxResults": PAGE}
        if token:
            query["NextToken"] = token
        with translated("DescribeInstances"):
            async with asyncio.timeout(CALL_SECONDS):
                return await client.describe_instances(**query)

    async def perform(self, scope: Scope, action: Action, ids: Sequence[str]) -> Mapping[str, Answer]:
        """Start or stop instances; the answer has those for which EC2 accepted it.

        Raises:
            InstancesRefusedError: some of the instances are the reason why none was started or stopped.
            CloudError: EC2 refused, or its answer was lost.
        """
        client = await self._sessions.ec2(scope)
        name = "StartInstances" if action is Action.START else "StopInstances"
        with translated(name, ids):
            async with asyncio.timeout(CALL_SECONDS):
                if action is Action.START:
                    return _answers((await client.start_instances(InstanceIds=ids))["StartingInstances"])
                hibernate = action is Action.HIBERNATE
                stopped = await client.stop_instances(InstanceIds=ids, Hibernate=hibernate)
                return _answers(stopped["StoppingInstances"])


def _records(page: "DescribeInstancesResultTypeDef") -> Iterable[Record]:
    for reservation in page.get("Reservations", ()):
        for instance in reservation.get("Instances", ()):
            tags = {tag.get("Key"): tag.get("Value", "") for tag in instance.get("Tags", ())}
            state = _state(instance.get("State"))
            if state is not None and APPLICATION_TAG in tags:
                yield Record(
                    tag=tags[APPLICATION_TAG],
                    instance=Instance(instance["InstanceId"], state),
                    hibernates=instance.get("HibernationOptions", {}).get("Configured", False),
                )


def _answers(changes: Iterable["InstanceStateChangeTypeDef"]) -> dict[str, Answer]:
    """The answers of those instances that exist now: a terminated one was neither started nor stopped."""
    answers = {}
    for change in changes:
        now = _state(change.get("CurrentState"))
        if now is not None:
            answers[change["InstanceId"]] = Answer(before=_state(change.get("PreviousState")), now=now)
    return answers


def _state(shown: "InstanceStateTypeDef | None") -> State | None:
    """EC2's name for a state as ours; None for those of instances that are gone or going."""
    name = (shown or {}).get("Name")
    return State(name) if name in _KNOWN else None
