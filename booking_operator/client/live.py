"""Objects that are kept up to date by list and watch, for commands and pages that go on."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from booking_operator.api.kinds import Kind
from booking_operator.client.cluster import Cluster
from booking_operator.client.errors import CommandError
from booking_operator.engine.clock import SystemClock
from booking_operator.engine.reflector import Reflector
from booking_operator.reconcilers.informers import Informers


class Changes:
    """A counter of changes, for any number of waiting tasks.

    Attributes:
        number: how many changes there were.
    """

    def __init__(self) -> None:
        self.number = 0
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Count a change and wake all waiting tasks."""
        self.number += 1
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    async def wait(self, known: int, seconds: float) -> int:
        """Wait until there are more changes than `known`, for `seconds` at most. Returns their number."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.number <= known:
                    await self._next.wait()
        return self.number


@dataclass(frozen=True, slots=True)
class LiveObjects:
    """Objects that are kept up to date.

    Attributes:
        informers: the objects.
        reflectors: the tasks that keep them up to date.
        changes: counts the changes.
    """

    informers: Informers
    reflectors: Sequence[Reflector[Any]]
    changes: Changes = field(default_factory=Changes)

    @property
    def disconnected(self) -> bool:
        """Whether the API server does not answer now, so that the objects may be old."""
        return any(reflector.backing_off for reflector in self.reflectors)


@asynccontextmanager
async def live_objects(cluster: Cluster, namespace: str, *kinds: Kind[Any]) -> AsyncIterator[LiveObjects]:
    """Keep some kinds of a namespace up to date; of all namespaces if it is empty.

    The first lists are complete. If the API server goes away later, the reflectors try again.

    Raises:
        CommandError: the first list fails.
    """
    informers = Informers(default_region="")
    reflectors = [
        Reflector(kind.plural, cluster.list_watch(kind, namespace), informers.stores[kind], SystemClock())
        for kind in kinds
    ]
    live = LiveObjects(informers, reflectors)
    for kind in kinds:
        informers.stores[kind].replace(await cluster.list_objects(kind, namespace))
        informers.stores[kind].subscribe(lambda _: live.changes.notify())
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(reflector.run()) for reflector in reflectors]
            try:
                yield live
            finally:
                for task in running:
                    task.cancel()
    except BaseExceptionGroup as group:
        raise _first_error(group) from group


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run requests at the same time and return their results.

    If several fail, the error is that of the first one in the order of the arguments, so that the message of
    a command does not depend on which answer arrives first.
    """
    async with asyncio.TaskGroup() as tasks:
        outcomes = [tasks.create_task(_outcome(item)) for item in work]
    found = [task.result() for task in outcomes]
    for _, error in found:
        if error is not None:
            raise error
    return [result for result, _ in found]


async def _outcome(work: Coroutine[Any, Any, Any]) -> tuple[Any, CommandError | None]:
    try:
        return await work, None
    except CommandError as error:
        return None, error


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group that is not a group itself."""
    error = group.exceptions[0]
    return _first_error(error) if isinstance(error, BaseExceptionGroup) else error
