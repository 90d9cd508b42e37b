"""Sends starts and stops, and settles what becomes of each instance.

A request leaves as soon as it is made, by itself. This is the place where requests of several groups will be
gathered into one call: `submit` is all that the rest of the operator sees of it.
"""

import asyncio
from asyncio import Future, TaskGroup
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

import structlog

from booking_operator.cloud.driver import CloudError, Group, Scope
from booking_operator.cloud.errors import InstancesRefusedError
from booking_operator.cloud.view import Answer
from booking_operator.domain.instance import State

_LOGGED = 20  # ids named in one log line


class Action(StrEnum):
    """What can be done to instances."""

    START = "start"
    STOP = "stop"
    HIBERNATE = "hibernate"


Perform = Callable[[Scope, Action, Sequence[str]], Awaitable[Mapping[str, Answer]]]
"""Makes one call; the answer has the instances it was accepted for. Raises `CloudError`, or
`InstancesRefusedError` when it was refused for the sake of some instances, which it names."""
Accept = Callable[[Group, Mapping[str, Answer]], None]
"""Is told what was accepted, before anybody who waits for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One action wanted for instances of one group, with a future for each.

    Attributes:
        group: whose instances they are.
        action: what is to be done.
        futures: by id, what became of it.
        deadline: when it was to have been done (aware UTC); of two that cannot both leave, the earlier goes.
    """

    group: Group
    action: Action
    futures: Mapping[str, Future[State]]
    deadline: datetime

    def pending(self) -> list[str]:
        """Ids without an outcome that somebody still waits for."""
        return [id_ for id_, future in self.futures.items() if not future.done()]

    def chunks(self, size: int) -> Iterator["Request"]:
        """The same in requests of at most `size` instances."""
        ids = list(self.futures)
        for start in range(0, len(ids), size):
            yield self.only(ids[start : start + size])

    def only(self, ids: Sequence[str], action: Action | None = None) -> "Request":
        """The same for some of its instances."""
        futures = {id_: self.futures[id_] for id_ in ids}
        return replace(self, action=action or self.action, futures=futures)

    def fail(self, ids: Sequence[str], error: CloudError) -> None:
        """Settle instances that were refused."""
        for id_ in ids:
            if not self.futures[id_].done():
                self.futures[id_].set_exception(error)


class Sender:
    """Makes the calls for requests, each in a task of `tasks` and for at most `batch` instances."""

    def __init__(self, perform: Perform, accept: Accept, tasks: TaskGroup, *, batch: int) -> None:
        self._batch = batch
        self._perform = perform
        self._accept = accept
        self._tasks = tasks
        self._log = structlog.get_logger()

    def submit(self, request: Request) -> None:
        """Have the request carried out. Returns at once; the call leaves with the loop's next turn."""
        for chunk in request.chunks(self._batch):
            self._spawn(chunk)

    def _spawn(self, request: Request) -> None:
        task = self._tasks.create_task(self._carry_out(request))
        # Not in a `finally` of the task: one that is cancelled before its first step never gets there.
        task.add_done_callback(lambda _: _abandon(request))

    async def _carry_out(self, request: Request) -> None:
        """Call until each instance is settled. Every further call is for fewer instances than the last."""
        while ids := request.pending():
            try:
                answers = await self._perform(request.group.scope, request.action, ids)
            except InstancesRefusedError as error:
                await self._refused(request, sorted(error.ids), error)
            except CloudError as error:
                await self._refused(request, ids, error)
            else:
                self._settle(request, ids, answers)

    async def _refused(self, request: Request, ids: Sequence[str], error: CloudError) -> None:
        if request.action is Action.HIBERNATE and _hibernation_refused(error):
            self._log_refusal(request, ids, error)
            await self._carry_out(request.only(ids, Action.STOP))
            return
        request.fail(ids, error)
        self._log_refusal(request, ids, error)

    def _settle(self, request: Request, ids: Sequence[str], answers: Mapping[str, Answer]) -> None:
        self._accept(request.group, answers)
        for id_, answer in answers.items():
            future = request.futures.get(id_)
            if future is not None and not future.done():
                future.set_result(answer.now)
        if answers:
            self._log.info(f"instances_{request.action}_accepted", **_facts(request, list(answers)))
        left_out = [id_ for id_ in ids if id_ not in answers]
        if left_out:
            text = f"AWS took the {request.action}, but not for this instance; it may be gone."
            error = CloudError("NotAccepted", text)
            request.fail(left_out, error)
            self._log_refusal(request, left_out, error)

    def _log_refusal(self, request: Request, ids: Sequence[str], error: CloudError) -> None:
        facts = _facts(request, ids)
        event = f"instances_{request.action}_refused"
        self._log.warning(event, **facts, reason=error.reason, message=str(error))


def _facts(request: Request, ids: Sequence[str]) -> dict[str, object]:
    group = request.group
    where = {"tag": group.tag, "account": group.account, "region": group.region}
    return {**where, "count": len(ids), "ids": list(ids[:_LOGGED])}


def _hibernation_refused(error: CloudError) -> bool:
    """Whether an instance cannot be hibernated, or not yet, but may be stopped.

    `UnsupportedHibernationConfiguration` is said of those that are not set up for it, `UnsupportedOperation`
    of those not ready for it, as in the minutes after the launch; see
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshoot-instance-hibernate.html.
    """
    return "Hibernat" in error.reason or error.reason == "UnsupportedOperation"


def _abandon(request: Request) -> None:
    """Cancel what has no outcome. Of one that has, `cancel` only takes back that somebody must look at it."""
    for future in request.futures.values():
        future.cancel()


def futures(ids: Sequence[str]) -> dict[str, Future[State]]:
    """A future for each instance, of the running loop."""
    loop = asyncio.get_running_loop()
    return {id_: loop.create_future() for id_ in ids}
