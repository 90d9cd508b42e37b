"""The calls of EC2: instances are found by their tag, started and stopped by id."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from booking_operator.cloud import tags as tagging
from booking_operator.cloud.driver import Scope
from booking_operator.cloud.errors import translated
from booking_operator.cloud.sender import Action
from booking_operator.cloud.session import CALL_SECONDS, Sessions
from booking_operator.cloud.tags import APPLICATION_TAG, LOCK_TAGS, lock_in, lock_tags
from booking_operator.cloud.view import Answer, Record
from booking_operator.domain.instance import Instance, Lock, State

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        DescribeInstancesRequestTypeDef,
        DescribeInstancesResultTypeDef,
        FilterTypeDef,
        InstanceStateChangeTypeDef,
        InstanceStateTypeDef,
    )

PAGE = 1000
"""Instances in one page, the most that EC2 gives."""

_FILTERS: list["FilterTypeDef"] = [
    {"Name": "tag-key", "Values": [APPLICATION_TAG]},
    # Terminated instances are shown for an hour yet; all other states count.
    {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
]
_KNOWN = frozenset(State)


class Ec2Api:
    """`cloud.service.Api` for EC2."""

    batch = 1000  # its limits are per instance too, so larger calls gain nothing

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
        with translated("ec2:DescribeInstances"):
            async with asyncio.timeout(CALL_SECONDS):
                return await client.describe_instances(**query)

    async def perform(self, scope: Scope, action: Action, ids: Sequence[str]) -> Mapping[str, Answer]:
        """Start or stop instances; the answer has those for which EC2 accepted it.

        Raises:
            InstancesRefusedError: some of the instances are the reason why none was started or stopped.
            CloudError: EC2 refused, or its answer was lost.
        """
        client = await self._sessions.ec2(scope)
        name = "ec2:StartInstances" if action is Action.START else "ec2:StopInstances"
        with translated(name, ids):
            async with asyncio.timeout(CALL_SECONDS):
                if action is Action.START:
                    return _answers((await client.start_instances(InstanceIds=ids))["StartingInstances"])
                hibernate = action is Action.HIBERNATE
                stopped = await client.stop_instances(InstanceIds=ids, Hibernate=hibernate)
                return _answers(stopped["StoppingInstances"])

    async def lock(self, scope: Scope, ids: Sequence[str], lock: Lock | None) -> None:
        """Write the lock tags of instances, or with None remove them.

        Raises:
            InstancesRefusedError: some of the instances are the reason why none was tagged.
            CloudError: EC2 refused, or did not answer.
        """
        client = await self._sessions.ec2(scope)
        with translated("ec2:CreateTags" if lock else "ec2:DeleteTags", ids):
            async with asyncio.timeout(CALL_SECONDS):
                if lock:
                    await client.create_tags(Resources=ids, Tags=lock_tags(lock))
                else:
                    await client.delete_tags(Resources=ids, Tags=[{"Key": key} for key in LOCK_TAGS])


def _records(page: "DescribeInstancesResultTypeDef") -> Iterable[Record]:
    for reservation in page.get("Reservations", ()):
        for instance in reservation.get("Instances", ()):
            tags = tagging.read(instance.get("Tags", ()))
            state = _state(instance.get("State"))
            if state is not None and APPLICATION_TAG in tags:
                yield Record(
                    tag=tags[APPLICATION_TAG],
                    instance=Instance(instance["InstanceId"], state, lock=lock_in(tags)),
                    hibernates=instance.get("HibernationOptions", {}).get("Configured", False),
                    managed=tagging.managed(tags),
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
