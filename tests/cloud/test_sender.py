"""What becomes of each instance of a request, whatever the service answers."""

import asyncio
import gc
from asyncio import Future, TaskGroup
from collections.abc import Callable, Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from booking_operator.cloud.driver import CloudError, Group, Scope
from booking_operator.cloud.errors import InstancesRefusedError
from booking_operator.cloud.sender import Action, Request, Sender, futures
from booking_operator.cloud.view import Answer
from booking_operator.domain.instance import State
from tests.support.virtual import EPOCH

WEB = Group("ec2", "", "eu-west-1", "web")
AFTER = {Action.START: State.PENDING, Action.STOP: State.STOPPING, Action.HIBERNATE: State.STOPPING}

Reply = Callable[[Action, Sequence[str]], CloudError | None]


class Service:
    """Accepts everything but what `reply` has an error for."""

    def __init__(self, reply: Reply = lambda *_: None) -> None:
        self.calls: list[tuple[Action, tuple[str, ...]]] = []
        self.accepted: dict[str, Answer] = {}
        self.reply = reply
        self.silent_on: frozenset[str] = frozenset()

    async def perform(self, scope: Scope, action: Action, ids: Sequence[str]) -> Mapping[str, Answer]:
        assert scope == WEB.scope
        self.calls.append((action, tuple(ids)))
        await asyncio.sleep(0)
        error = self.reply(action, ids)
        if error is not None:
            raise error
        return {id_: Answer(None, AFTER[action]) for id_ in ids if id_ not in self.silent_on}

    def accept(self, group: Group, answers: Mapping[str, Answer]) -> None:
        assert group == WEB
        self.accepted.update(answers)


async def send(service: Service, *ids: str, action: Action = Action.START) -> dict[str, State | str]:
    """Outcome of each instance: its state, or the reason of the error."""
    async with TaskGroup() as tasks:
        accepted = futures(ids)
        Sender(service.perform, service.accept, tasks, batch=1000).submit(
            Request(WEB, action, accepted, EPOCH)
        )
        assert service.calls == []  # nothing is sent before the caller gives way
    return {id_: outcome(future) for id_, future in accepted.items()}


def outcome(future: Future[State]) -> State | str:
    error = future.exception()
    if error is None:
        return future.result()
    assert isinstance(error, CloudError)
    return error.reason


def refuse(reason: str, *bad: str) -> Reply:
    def reply(_: Action, ids: Sequence[str]) -> CloudError | None:
        named = [id_ for id_ in ids if id_ in bad]
        return InstancesRefusedError(reason, ", ".join(named), named) if named else None

    return reply


async def test_all_instances_go_out_in_one_call() -> None:
    service = Service()
    assert await send(service, "a", "b") == {"a": State.PENDING, "b": State.PENDING}
    assert service.calls == [(Action.START, ("a", "b"))]
    assert set(service.accepted) == {"a", "b"}


async def test_no_instance_no_call() -> None:
    service = Service()
    assert await send(service) == {}
    assert service.calls == []


async def test_more_than_the_most_are_split() -> None:
    service = Service()
    outcomes = await send(service, *(f"i-{number}" for number in range(2 * 1000 + 1)))
    assert [len(ids) for _, ids in service.calls] == [1000, 1000, 1]
    assert set(outcomes.values()) == {State.PENDING}


async def test_bad_instances_fail_alone_and_the_others_go_out_again() -> None:
    service = Service(refuse("InvalidInstanceIDNotFound", "bad", "worse"))
    outcomes = await send(service, "a", "bad", "b", "worse")
    assert outcomes == {
        "a": State.PENDING,
        "bad": "InvalidInstanceIDNotFound",
        "b": State.PENDING,
        "worse": "InvalidInstanceIDNotFound",
    }
    assert service.calls[1:] == [(Action.START, ("a", "b"))]


async def test_bad_instances_named_one_by_one_still_end() -> None:
    def reply(_: Action, ids: Sequence[str]) -> CloudError:
        return InstancesRefusedError("IncorrectInstanceState", ids[0], ids[:1])

    service = Service(reply)
    assert set((await send(service, *"abcd")).values()) == {"IncorrectInstanceState"}
    assert len(service.calls) == 4


async def test_any_other_error_fails_the_whole_call_once() -> None:
    service = Service(lambda *_: CloudError("RequestLimitExceeded", "too many"))
    assert set((await send(service, *"abc")).values()) == {"RequestLimitExceeded"}
    assert len(service.calls) == 1
    assert service.accepted == {}


async def test_an_instance_the_answer_leaves_out_was_not_accepted() -> None:
    service = Service()
    service.silent_on = frozenset("b")
    assert await send(service, "a", "b") == {"a": State.PENDING, "b": "NotAccepted"}


async def test_what_was_accepted_is_noted_before_anybody_acts_on_it() -> None:
    service = Service()
    noted: list[set[str]] = []
    async with TaskGroup() as tasks:
        accepted = futures(["a"])
        accepted["a"].add_done_callback(lambda _: noted.append(set(service.accepted)))
        Sender(service.perform, service.accept, tasks, batch=1000).submit(
            Request(WEB, Action.START, accepted, EPOCH)
        )
    assert noted == [{"a"}]


async def test_nobody_needs_to_look_at_a_failure() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    service = Service(lambda *_: CloudError("X", "y"))
    async with TaskGroup() as tasks:
        Sender(service.perform, service.accept, tasks, batch=1000).submit(
            Request(WEB, Action.START, futures("ab"), EPOCH)
        )
    gc.collect()
    assert complaints == []


async def test_an_instance_nobody_waits_for_is_not_sent_again() -> None:
    accepted = futures(["a", "b", "bad"])

    def reply(_: Action, ids: Sequence[str]) -> CloudError | None:
        accepted["b"].cancel()
        return InstancesRefusedError("X", "bad", ["bad"]) if "bad" in ids else None

    service = Service(reply)
    async with TaskGroup() as tasks:
        Sender(service.perform, service.accept, tasks, batch=1000).submit(
            Request(WEB, Action.START, accepted, EPOCH)
        )
    assert [ids for _, ids in service.calls] == [("a", "b", "bad"), ("a",)]


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_pending_futures_are_cancelled_with_the_task_group(turns: int) -> None:
    accepted = futures(["a"])

    async def stuck(*_: object) -> Mapping[str, Answer]:
        await asyncio.Event().wait()
        raise AssertionError

    async def shut_down() -> None:
        async with TaskGroup() as tasks:
            Sender(stuck, lambda *_: None, tasks, batch=1000).submit(
                Request(WEB, Action.STOP, accepted, EPOCH)
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            raise KeyError

    with pytest.raises(ExceptionGroup):
        await shut_down()
    await asyncio.sleep(0)
    assert accepted["a"].cancelled()


# --- hibernation


@pytest.mark.parametrize("reason", ["UnsupportedHibernationConfiguration", "UnsupportedOperation"])
async def test_hibernation_refused_is_a_plain_stop(reason: str) -> None:
    def reply(action: Action, _: Sequence[str]) -> CloudError | None:
        return CloudError(reason, "no") if action is Action.HIBERNATE else None

    service = Service(reply)
    assert await send(service, "a", "b", action=Action.HIBERNATE) == {
        "a": State.STOPPING,
        "b": State.STOPPING,
    }
    assert service.calls == [(Action.HIBERNATE, ("a", "b")), (Action.STOP, ("a", "b"))]


async def test_hibernation_refused_for_some_leaves_it_to_the_others() -> None:
    named = refuse("UnsupportedHibernationConfiguration", "old")
    service = Service(lambda action, ids: named(action, ids) if action is Action.HIBERNATE else None)
    outcomes = await send(service, "a", "old", action=Action.HIBERNATE)
    assert outcomes == {"a": State.STOPPING, "old": State.STOPPING}
    assert service.calls[1:] == [(Action.STOP, ("old",)), (Action.HIBERNATE, ("a",))]


async def test_hibernation_that_fails_for_another_cause_is_no_plain_stop() -> None:
    service = Service(lambda *_: CloudError("RequestLimitExceeded", "too many"))
    assert await send(service, "a", action=Action.HIBERNATE) == {"a": "RequestLimitExceeded"}
    assert len(service.calls) == 1


# --- logs


async def test_what_was_accepted_and_refused_is_logged_with_its_group() -> None:
    service = Service(refuse("InvalidInstanceIDNotFound", "bad"))
    with capture_logs() as logs:
        await send(service, "a", "bad")
    where = {"tag": "web", "account": "", "region": "eu-west-1", "count": 1}
    assert logs == [
        {
            "event": "instances_start_refused",
            "log_level": "warning",
            **where,
            "ids": ["bad"],
            "reason": "InvalidInstanceIDNotFound",
            "message": "bad",
        },
        {"event": "instances_start_accepted", "log_level": "info", **where, "ids": ["a"]},
    ]
